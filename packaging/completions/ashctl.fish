# Print an optspec for argparse to handle cmd's options that are independent of any subcommand.
function __fish_ashctl_global_optspecs
    string join \n o/output= server= api-key= h/help V/version
end

function __fish_ashctl_needs_command
    # Figure out if the current invocation already has a command.
    set -l cmd (commandline -opc)
    set -e cmd[1]
    argparse -s (__fish_ashctl_global_optspecs) -- $cmd 2>/dev/null
    or return
    if set -q argv[1]
        # Also print the command, so this can be used to figure out what it is.
        echo $argv[1]
        return 1
    end
    return 0
end

function __fish_ashctl_using_subcommand
    set -l cmd (__fish_ashctl_needs_command)
    test -z "$cmd"
    and return 1
    contains -- $cmd[1] $argv
end

complete -c ashctl -n "__fish_ashctl_needs_command" -s o -l output -d 'How to print: for people, or the API\'s own objects' -r -f -a "table\t'Text and tables for people'
json\t'The API\'s own objects, as one JSON document; a stream as one JSON object a line'"
complete -c ashctl -n "__fish_ashctl_needs_command" -l server -d 'The daemon: http://HOST:PORT, https://HOST or unix:/PATH [default: unix:/run/ash/ash.sock]' -r -f
complete -c ashctl -n "__fish_ashctl_needs_command" -l api-key -d 'The API key for a daemon on the network; better in the environment, as others see arguments' -r
complete -c ashctl -n "__fish_ashctl_needs_command" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c ashctl -n "__fish_ashctl_needs_command" -s V -l version -d 'Print version'
complete -c ashctl -n "__fish_ashctl_needs_command" -f -a "deploy" -d 'Make a folder an agent, or a new version of one'
complete -c ashctl -n "__fish_ashctl_needs_command" -f -a "chat" -d 'Talk to an agent'
complete -c ashctl -n "__fish_ashctl_needs_command" -f -a "session" -d 'Sessions: conversations with an agent'
complete -c ashctl -n "__fish_ashctl_needs_command" -f -a "agent" -d 'Agents: folders that were deployed'
complete -c ashctl -n "__fish_ashctl_needs_command" -f -a "status" -d 'Show how the daemon is doing, and its sessions'
complete -c ashctl -n "__fish_ashctl_needs_command" -f -a "logs" -d 'Show the journal of Ash, or of one session'
complete -c ashctl -n "__fish_ashctl_needs_command" -f -a "doctor" -d 'Check that this host has what Ash needs, and say what mends what is missing'
complete -c ashctl -n "__fish_ashctl_needs_command" -f -a "key" -d 'API keys, with which programs call Ash over the network'
complete -c ashctl -n "__fish_ashctl_needs_command" -f -a "completion" -d 'Print the completions for a shell'
complete -c ashctl -n "__fish_ashctl_using_subcommand deploy" -s n -l name -d 'The agent\'s name: letters, digits, - and _ [default: the folder\'s name]' -r
complete -c ashctl -n "__fish_ashctl_using_subcommand deploy" -s e -l env -d 'A variable for the agent\'s sessions, before those of .env; without a value it is taken from here' -r
complete -c ashctl -n "__fish_ashctl_using_subcommand deploy" -s o -l output -d 'How to print: for people, or the API\'s own objects' -r -f -a "table\t'Text and tables for people'
json\t'The API\'s own objects, as one JSON document; a stream as one JSON object a line'"
complete -c ashctl -n "__fish_ashctl_using_subcommand deploy" -l server -d 'The daemon: http://HOST:PORT, https://HOST or unix:/PATH [default: unix:/run/ash/ash.sock]' -r -f
complete -c ashctl -n "__fish_ashctl_using_subcommand deploy" -l api-key -d 'The API key for a daemon on the network; better in the environment, as others see arguments' -r
complete -c ashctl -n "__fish_ashctl_using_subcommand deploy" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c ashctl -n "__fish_ashctl_using_subcommand chat" -s s -l session -d 'Continue this session' -r
complete -c ashctl -n "__fish_ashctl_using_subcommand chat" -s m -l model -d 'The model that answers [default: the agent\'s]' -r
complete -c ashctl -n "__fish_ashctl_using_subcommand chat" -s o -l output -d 'How to print: for people, or the API\'s own objects' -r -f -a "table\t'Text and tables for people'
json\t'The API\'s own objects, as one JSON document; a stream as one JSON object a line'"
complete -c ashctl -n "__fish_ashctl_using_subcommand chat" -l server -d 'The daemon: http://HOST:PORT, https://HOST or unix:/PATH [default: unix:/run/ash/ash.sock]' -r -f
complete -c ashctl -n "__fish_ashctl_using_subcommand chat" -l api-key -d 'The API key for a daemon on the network; better in the environment, as others see arguments' -r
complete -c ashctl -n "__fish_ashctl_using_subcommand chat" -s l -l last -d 'Continue the session that was active last'
complete -c ashctl -n "__fish_ashctl_using_subcommand chat" -l end -d 'End the session afterwards'
complete -c ashctl -n "__fish_ashctl_using_subcommand chat" -l raw -d 'Print the stream of events as it comes'
complete -c ashctl -n "__fish_ashctl_using_subcommand chat" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c ashctl -n "__fish_ashctl_using_subcommand session; and not __fish_seen_subcommand_from create list ls show send end" -s o -l output -d 'How to print: for people, or the API\'s own objects' -r -f -a "table\t'Text and tables for people'
json\t'The API\'s own objects, as one JSON document; a stream as one JSON object a line'"
complete -c ashctl -n "__fish_ashctl_using_subcommand session; and not __fish_seen_subcommand_from create list ls show send end" -l server -d 'The daemon: http://HOST:PORT, https://HOST or unix:/PATH [default: unix:/run/ash/ash.sock]' -r -f
complete -c ashctl -n "__fish_ashctl_using_subcommand session; and not __fish_seen_subcommand_from create list ls show send end" -l api-key -d 'The API key for a daemon on the network; better in the environment, as others see arguments' -r
complete -c ashctl -n "__fish_ashctl_using_subcommand session; and not __fish_seen_subcommand_from create list ls show send end" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c ashctl -n "__fish_ashctl_using_subcommand session; and not __fish_seen_subcommand_from create list ls show send end" -f -a "create" -d 'Start a session and print its id'
complete -c ashctl -n "__fish_ashctl_using_subcommand session; and not __fish_seen_subcommand_from create list ls show send end" -f -a "list" -d 'List sessions, newest first'
complete -c ashctl -n "__fish_ashctl_using_subcommand session; and not __fish_seen_subcommand_from create list ls show send end" -f -a "ls" -d 'List sessions, newest first'
complete -c ashctl -n "__fish_ashctl_using_subcommand session; and not __fish_seen_subcommand_from create list ls show send end" -f -a "show" -d 'Show a session'
complete -c ashctl -n "__fish_ashctl_using_subcommand session; and not __fish_seen_subcommand_from create list ls show send end" -f -a "send" -d 'Send one message and print the answer'
complete -c ashctl -n "__fish_ashctl_using_subcommand session; and not __fish_seen_subcommand_from create list ls show send end" -f -a "end" -d 'End sessions for good'
complete -c ashctl -n "__fish_ashctl_using_subcommand session; and __fish_seen_subcommand_from create" -s m -l model -d 'The model that answers [default: the agent\'s]' -r
complete -c ashctl -n "__fish_ashctl_using_subcommand session; and __fish_seen_subcommand_from create" -s e -l env -d 'A variable for this session, before those of the agent; without a value it is taken from here' -r
complete -c ashctl -n "__fish_ashctl_using_subcommand session; and __fish_seen_subcommand_from create" -l system-prompt -d 'Text that takes the place of the agent\'s CLAUDE.md' -r
complete -c ashctl -n "__fish_ashctl_using_subcommand session; and __fish_seen_subcommand_from create" -s o -l output -d 'How to print: for people, or the API\'s own objects' -r -f -a "table\t'Text and tables for people'
json\t'The API\'s own objects, as one JSON document; a stream as one JSON object a line'"
complete -c ashctl -n "__fish_ashctl_using_subcommand session; and __fish_seen_subcommand_from create" -l server -d 'The daemon: http://HOST:PORT, https://HOST or unix:/PATH [default: unix:/run/ash/ash.sock]' -r -f
complete -c ashctl -n "__fish_ashctl_using_subcommand session; and __fish_seen_subcommand_from create" -l api-key -d 'The API key for a daemon on the network; better in the environment, as others see arguments' -r
complete -c ashctl -n "__fish_ashctl_using_subcommand session; and __fish_seen_subcommand_from create" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c ashctl -n "__fish_ashctl_using_subcommand session; and __fish_seen_subcommand_from list" -s a -l agent -d 'Of this agent only' -r
complete -c ashctl -n "__fish_ashctl_using_subcommand session; and __fish_seen_subcommand_from list" -s s -l status -d 'With this status only' -r -f -a "starting\t''
active\t''
paused\t''
stopped\t''
ended\t''
error\t''"
complete -c ashctl -n "__fish_ashctl_using_subcommand session; and __fish_seen_subcommand_from list" -s n -l limit -d 'At most so many' -r
complete -c ashctl -n "__fish_ashctl_using_subcommand session; and __fish_seen_subcommand_from list" -l offset -d 'Without the first so many' -r
complete -c ashctl -n "__fish_ashctl_using_subcommand session; and __fish_seen_subcommand_from list" -s o -l output -d 'How to print: for people, or the API\'s own objects' -r -f -a "table\t'Text and tables for people'
json\t'The API\'s own objects, as one JSON document; a stream as one JSON object a line'"
complete -c ashctl -n "__fish_ashctl_using_subcommand session; and __fish_seen_subcommand_from list" -l server -d 'The daemon: http://HOST:PORT, https://HOST or unix:/PATH [default: unix:/run/ash/ash.sock]' -r -f
complete -c ashctl -n "__fish_ashctl_using_subcommand session; and __fish_seen_subcommand_from list" -l api-key -d 'The API key for a daemon on the network; better in the environment, as others see arguments' -r
complete -c ashctl -n "__fish_ashctl_using_subcommand session; and __fish_seen_subcommand_from list" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c ashctl -n "__fish_ashctl_using_subcommand session; and __fish_seen_subcommand_from ls" -s a -l agent -d 'Of this agent only' -r
complete -c ashctl -n "__fish_ashctl_using_subcommand session; and __fish_seen_subcommand_from ls" -s s -l status -d 'With this status only' -r -f -a "starting\t''
active\t''
paused\t''
stopped\t''
ended\t''
error\t''"
complete -c ashctl -n "__fish_ashctl_using_subcommand session; and __fish_seen_subcommand_from ls" -s n -l limit -d 'At most so many' -r
complete -c ashctl -n "__fish_ashctl_using_subcommand session; and __fish_seen_subcommand_from ls" -l offset -d 'Without the first so many' -r
complete -c ashctl -n "__fish_ashctl_using_subcommand session; and __fish_seen_subcommand_from ls" -s o -l output -d 'How to print: for people, or the API\'s own objects' -r -f -a "table\t'Text and tables for people'
json\t'The API\'s own objects, as one JSON document; a stream as one JSON object a line'"
complete -c ashctl -n "__fish_ashctl_using_subcommand session; and __fish_seen_subcommand_from ls" -l server -d 'The daemon: http://HOST:PORT, https://HOST or unix:/PATH [default: unix:/run/ash/ash.sock]' -r -f
complete -c ashctl -n "__fish_ashctl_using_subcommand session; and __fish_seen_subcommand_from ls" -l api-key -d 'The API key for a daemon on the network; better in the environment, as others see arguments' -r
complete -c ashctl -n "__fish_ashctl_using_subcommand session; and __fish_seen_subcommand_from ls" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c ashctl -n "__fish_ashctl_using_subcommand session; and __fish_seen_subcommand_from show" -s o -l output -d 'How to print: for people, or the API\'s own objects' -r -f -a "table\t'Text and tables for people'
json\t'The API\'s own objects, as one JSON document; a stream as one JSON object a line'"
complete -c ashctl -n "__fish_ashctl_using_subcommand session; and __fish_seen_subcommand_from show" -l server -d 'The daemon: http://HOST:PORT, https://HOST or unix:/PATH [default: unix:/run/ash/ash.sock]' -r -f
complete -c ashctl -n "__fish_ashctl_using_subcommand session; and __fish_seen_subcommand_from show" -l api-key -d 'The API key for a daemon on the network; better in the environment, as others see arguments' -r
complete -c ashctl -n "__fish_ashctl_using_subcommand session; and __fish_seen_subcommand_from show" -s m -l messages -d 'What was said, instead'
complete -c ashctl -n "__fish_ashctl_using_subcommand session; and __fish_seen_subcommand_from show" -s e -l events -d 'What happened, instead'
complete -c ashctl -n "__fish_ashctl_using_subcommand session; and __fish_seen_subcommand_from show" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c ashctl -n "__fish_ashctl_using_subcommand session; and __fish_seen_subcommand_from send" -s m -l model -d 'The model that answers this message [default: the session\'s]' -r
complete -c ashctl -n "__fish_ashctl_using_subcommand session; and __fish_seen_subcommand_from send" -s o -l output -d 'How to print: for people, or the API\'s own objects' -r -f -a "table\t'Text and tables for people'
json\t'The API\'s own objects, as one JSON document; a stream as one JSON object a line'"
complete -c ashctl -n "__fish_ashctl_using_subcommand session; and __fish_seen_subcommand_from send" -l server -d 'The daemon: http://HOST:PORT, https://HOST or unix:/PATH [default: unix:/run/ash/ash.sock]' -r -f
complete -c ashctl -n "__fish_ashctl_using_subcommand session; and __fish_seen_subcommand_from send" -l api-key -d 'The API key for a daemon on the network; better in the environment, as others see arguments' -r
complete -c ashctl -n "__fish_ashctl_using_subcommand session; and __fish_seen_subcommand_from send" -l raw -d 'Print the stream of events as it comes'
complete -c ashctl -n "__fish_ashctl_using_subcommand session; and __fish_seen_subcommand_from send" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c ashctl -n "__fish_ashctl_using_subcommand session; and __fish_seen_subcommand_from end" -s o -l output -d 'How to print: for people, or the API\'s own objects' -r -f -a "table\t'Text and tables for people'
json\t'The API\'s own objects, as one JSON document; a stream as one JSON object a line'"
complete -c ashctl -n "__fish_ashctl_using_subcommand session; and __fish_seen_subcommand_from end" -l server -d 'The daemon: http://HOST:PORT, https://HOST or unix:/PATH [default: unix:/run/ash/ash.sock]' -r -f
complete -c ashctl -n "__fish_ashctl_using_subcommand session; and __fish_seen_subcommand_from end" -l api-key -d 'The API key for a daemon on the network; better in the environment, as others see arguments' -r
complete -c ashctl -n "__fish_ashctl_using_subcommand session; and __fish_seen_subcommand_from end" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c ashctl -n "__fish_ashctl_using_subcommand agent; and not __fish_seen_subcommand_from list ls show delete" -s o -l output -d 'How to print: for people, or the API\'s own objects' -r -f -a "table\t'Text and tables for people'
json\t'The API\'s own objects, as one JSON document; a stream as one JSON object a line'"
complete -c ashctl -n "__fish_ashctl_using_subcommand agent; and not __fish_seen_subcommand_from list ls show delete" -l server -d 'The daemon: http://HOST:PORT, https://HOST or unix:/PATH [default: unix:/run/ash/ash.sock]' -r -f
complete -c ashctl -n "__fish_ashctl_using_subcommand agent; and not __fish_seen_subcommand_from list ls show delete" -l api-key -d 'The API key for a daemon on the network; better in the environment, as others see arguments' -r
complete -c ashctl -n "__fish_ashctl_using_subcommand agent; and not __fish_seen_subcommand_from list ls show delete" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c ashctl -n "__fish_ashctl_using_subcommand agent; and not __fish_seen_subcommand_from list ls show delete" -f -a "list" -d 'List agents'
complete -c ashctl -n "__fish_ashctl_using_subcommand agent; and not __fish_seen_subcommand_from list ls show delete" -f -a "ls" -d 'List agents'
complete -c ashctl -n "__fish_ashctl_using_subcommand agent; and not __fish_seen_subcommand_from list ls show delete" -f -a "show" -d 'Show an agent'
complete -c ashctl -n "__fish_ashctl_using_subcommand agent; and not __fish_seen_subcommand_from list ls show delete" -f -a "delete" -d 'Delete an agent with its sessions'
complete -c ashctl -n "__fish_ashctl_using_subcommand agent; and __fish_seen_subcommand_from list" -s o -l output -d 'How to print: for people, or the API\'s own objects' -r -f -a "table\t'Text and tables for people'
json\t'The API\'s own objects, as one JSON document; a stream as one JSON object a line'"
complete -c ashctl -n "__fish_ashctl_using_subcommand agent; and __fish_seen_subcommand_from list" -l server -d 'The daemon: http://HOST:PORT, https://HOST or unix:/PATH [default: unix:/run/ash/ash.sock]' -r -f
complete -c ashctl -n "__fish_ashctl_using_subcommand agent; and __fish_seen_subcommand_from list" -l api-key -d 'The API key for a daemon on the network; better in the environment, as others see arguments' -r
complete -c ashctl -n "__fish_ashctl_using_subcommand agent; and __fish_seen_subcommand_from list" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c ashctl -n "__fish_ashctl_using_subcommand agent; and __fish_seen_subcommand_from ls" -s o -l output -d 'How to print: for people, or the API\'s own objects' -r -f -a "table\t'Text and tables for people'
json\t'The API\'s own objects, as one JSON document; a stream as one JSON object a line'"
complete -c ashctl -n "__fish_ashctl_using_subcommand agent; and __fish_seen_subcommand_from ls" -l server -d 'The daemon: http://HOST:PORT, https://HOST or unix:/PATH [default: unix:/run/ash/ash.sock]' -r -f
complete -c ashctl -n "__fish_ashctl_using_subcommand agent; and __fish_seen_subcommand_from ls" -l api-key -d 'The API key for a daemon on the network; better in the environment, as others see arguments' -r
complete -c ashctl -n "__fish_ashctl_using_subcommand agent; and __fish_seen_subcommand_from ls" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c ashctl -n "__fish_ashctl_using_subcommand agent; and __fish_seen_subcommand_from show" -s o -l output -d 'How to print: for people, or the API\'s own objects' -r -f -a "table\t'Text and tables for people'
json\t'The API\'s own objects, as one JSON document; a stream as one JSON object a line'"
complete -c ashctl -n "__fish_ashctl_using_subcommand agent; and __fish_seen_subcommand_from show" -l server -d 'The daemon: http://HOST:PORT, https://HOST or unix:/PATH [default: unix:/run/ash/ash.sock]' -r -f
complete -c ashctl -n "__fish_ashctl_using_subcommand agent; and __fish_seen_subcommand_from show" -l api-key -d 'The API key for a daemon on the network; better in the environment, as others see arguments' -r
complete -c ashctl -n "__fish_ashctl_using_subcommand agent; and __fish_seen_subcommand_from show" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c ashctl -n "__fish_ashctl_using_subcommand agent; and __fish_seen_subcommand_from delete" -s o -l output -d 'How to print: for people, or the API\'s own objects' -r -f -a "table\t'Text and tables for people'
json\t'The API\'s own objects, as one JSON document; a stream as one JSON object a line'"
complete -c ashctl -n "__fish_ashctl_using_subcommand agent; and __fish_seen_subcommand_from delete" -l server -d 'The daemon: http://HOST:PORT, https://HOST or unix:/PATH [default: unix:/run/ash/ash.sock]' -r -f
complete -c ashctl -n "__fish_ashctl_using_subcommand agent; and __fish_seen_subcommand_from delete" -l api-key -d 'The API key for a daemon on the network; better in the environment, as others see arguments' -r
complete -c ashctl -n "__fish_ashctl_using_subcommand agent; and __fish_seen_subcommand_from delete" -s y -l yes -d 'Do not ask'
complete -c ashctl -n "__fish_ashctl_using_subcommand agent; and __fish_seen_subcommand_from delete" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c ashctl -n "__fish_ashctl_using_subcommand status" -s o -l output -d 'How to print: for people, or the API\'s own objects' -r -f -a "table\t'Text and tables for people'
json\t'The API\'s own objects, as one JSON document; a stream as one JSON object a line'"
complete -c ashctl -n "__fish_ashctl_using_subcommand status" -l server -d 'The daemon: http://HOST:PORT, https://HOST or unix:/PATH [default: unix:/run/ash/ash.sock]' -r -f
complete -c ashctl -n "__fish_ashctl_using_subcommand status" -l api-key -d 'The API key for a daemon on the network; better in the environment, as others see arguments' -r
complete -c ashctl -n "__fish_ashctl_using_subcommand status" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c ashctl -n "__fish_ashctl_using_subcommand logs" -s n -l lines -d 'Only the newest lines' -r
complete -c ashctl -n "__fish_ashctl_using_subcommand logs" -s o -l output -d 'How to print: for people, or the API\'s own objects' -r -f -a "table\t'Text and tables for people'
json\t'The API\'s own objects, as one JSON document; a stream as one JSON object a line'"
complete -c ashctl -n "__fish_ashctl_using_subcommand logs" -l server -d 'The daemon: http://HOST:PORT, https://HOST or unix:/PATH [default: unix:/run/ash/ash.sock]' -r -f
complete -c ashctl -n "__fish_ashctl_using_subcommand logs" -l api-key -d 'The API key for a daemon on the network; better in the environment, as others see arguments' -r
complete -c ashctl -n "__fish_ashctl_using_subcommand logs" -s f -l follow -d 'Go on printing what comes'
complete -c ashctl -n "__fish_ashctl_using_subcommand logs" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c ashctl -n "__fish_ashctl_using_subcommand doctor" -s o -l output -d 'How to print: for people, or the API\'s own objects' -r -f -a "table\t'Text and tables for people'
json\t'The API\'s own objects, as one JSON document; a stream as one JSON object a line'"
complete -c ashctl -n "__fish_ashctl_using_subcommand doctor" -l server -d 'The daemon: http://HOST:PORT, https://HOST or unix:/PATH [default: unix:/run/ash/ash.sock]' -r -f
complete -c ashctl -n "__fish_ashctl_using_subcommand doctor" -l api-key -d 'The API key for a daemon on the network; better in the environment, as others see arguments' -r
complete -c ashctl -n "__fish_ashctl_using_subcommand doctor" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c ashctl -n "__fish_ashctl_using_subcommand key; and not __fish_seen_subcommand_from create list ls revoke" -s o -l output -d 'How to print: for people, or the API\'s own objects' -r -f -a "table\t'Text and tables for people'
json\t'The API\'s own objects, as one JSON document; a stream as one JSON object a line'"
complete -c ashctl -n "__fish_ashctl_using_subcommand key; and not __fish_seen_subcommand_from create list ls revoke" -l server -d 'The daemon: http://HOST:PORT, https://HOST or unix:/PATH [default: unix:/run/ash/ash.sock]' -r -f
complete -c ashctl -n "__fish_ashctl_using_subcommand key; and not __fish_seen_subcommand_from create list ls revoke" -l api-key -d 'The API key for a daemon on the network; better in the environment, as others see arguments' -r
complete -c ashctl -n "__fish_ashctl_using_subcommand key; and not __fish_seen_subcommand_from create list ls revoke" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c ashctl -n "__fish_ashctl_using_subcommand key; and not __fish_seen_subcommand_from create list ls revoke" -f -a "create" -d 'Make an API key and print it; it is shown only this once'
complete -c ashctl -n "__fish_ashctl_using_subcommand key; and not __fish_seen_subcommand_from create list ls revoke" -f -a "list" -d 'List API keys, without their secrets'
complete -c ashctl -n "__fish_ashctl_using_subcommand key; and not __fish_seen_subcommand_from create list ls revoke" -f -a "ls" -d 'List API keys, without their secrets'
complete -c ashctl -n "__fish_ashctl_using_subcommand key; and not __fish_seen_subcommand_from create list ls revoke" -f -a "revoke" -d 'Make API keys useless at once'
complete -c ashctl -n "__fish_ashctl_using_subcommand key; and __fish_seen_subcommand_from create" -s l -l label -d 'What to call it' -r
complete -c ashctl -n "__fish_ashctl_using_subcommand key; and __fish_seen_subcommand_from create" -s o -l output -d 'How to print: for people, or the API\'s own objects' -r -f -a "table\t'Text and tables for people'
json\t'The API\'s own objects, as one JSON document; a stream as one JSON object a line'"
complete -c ashctl -n "__fish_ashctl_using_subcommand key; and __fish_seen_subcommand_from create" -l server -d 'The daemon: http://HOST:PORT, https://HOST or unix:/PATH [default: unix:/run/ash/ash.sock]' -r -f
complete -c ashctl -n "__fish_ashctl_using_subcommand key; and __fish_seen_subcommand_from create" -l api-key -d 'The API key for a daemon on the network; better in the environment, as others see arguments' -r
complete -c ashctl -n "__fish_ashctl_using_subcommand key; and __fish_seen_subcommand_from create" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c ashctl -n "__fish_ashctl_using_subcommand key; and __fish_seen_subcommand_from list" -s o -l output -d 'How to print: for people, or the API\'s own objects' -r -f -a "table\t'Text and tables for people'
json\t'The API\'s own objects, as one JSON document; a stream as one JSON object a line'"
complete -c ashctl -n "__fish_ashctl_using_subcommand key; and __fish_seen_subcommand_from list" -l server -d 'The daemon: http://HOST:PORT, https://HOST or unix:/PATH [default: unix:/run/ash/ash.sock]' -r -f
complete -c ashctl -n "__fish_ashctl_using_subcommand key; and __fish_seen_subcommand_from list" -l api-key -d 'The API key for a daemon on the network; better in the environment, as others see arguments' -r
complete -c ashctl -n "__fish_ashctl_using_subcommand key; and __fish_seen_subcommand_from list" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c ashctl -n "__fish_ashctl_using_subcommand key; and __fish_seen_subcommand_from ls" -s o -l output -d 'How to print: for people, or the API\'s own objects' -r -f -a "table\t'Text and tables for people'
json\t'The API\'s own objects, as one JSON document; a stream as one JSON object a line'"
complete -c ashctl -n "__fish_ashctl_using_subcommand key; and __fish_seen_subcommand_from ls" -l server -d 'The daemon: http://HOST:PORT, https://HOST or unix:/PATH [default: unix:/run/ash/ash.sock]' -r -f
complete -c ashctl -n "__fish_ashctl_using_subcommand key; and __fish_seen_subcommand_from ls" -l api-key -d 'The API key for a daemon on the network; better in the environment, as others see arguments' -r
complete -c ashctl -n "__fish_ashctl_using_subcommand key; and __fish_seen_subcommand_from ls" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c ashctl -n "__fish_ashctl_using_subcommand key; and __fish_seen_subcommand_from revoke" -s o -l output -d 'How to print: for people, or the API\'s own objects' -r -f -a "table\t'Text and tables for people'
json\t'The API\'s own objects, as one JSON document; a stream as one JSON object a line'"
complete -c ashctl -n "__fish_ashctl_using_subcommand key; and __fish_seen_subcommand_from revoke" -l server -d 'The daemon: http://HOST:PORT, https://HOST or unix:/PATH [default: unix:/run/ash/ash.sock]' -r -f
complete -c ashctl -n "__fish_ashctl_using_subcommand key; and __fish_seen_subcommand_from revoke" -l api-key -d 'The API key for a daemon on the network; better in the environment, as others see arguments' -r
complete -c ashctl -n "__fish_ashctl_using_subcommand key; and __fish_seen_subcommand_from revoke" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c ashctl -n "__fish_ashctl_using_subcommand completion" -s o -l output -d 'How to print: for people, or the API\'s own objects' -r -f -a "table\t'Text and tables for people'
json\t'The API\'s own objects, as one JSON document; a stream as one JSON object a line'"
complete -c ashctl -n "__fish_ashctl_using_subcommand completion" -l server -d 'The daemon: http://HOST:PORT, https://HOST or unix:/PATH [default: unix:/run/ash/ash.sock]' -r -f
complete -c ashctl -n "__fish_ashctl_using_subcommand completion" -l api-key -d 'The API key for a daemon on the network; better in the environment, as others see arguments' -r
complete -c ashctl -n "__fish_ashctl_using_subcommand completion" -s h -l help -d 'Print help (see more with \'--help\')'
