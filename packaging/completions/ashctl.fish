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
complete -c ashctl -n "__fish_ashctl_needs_command" -f -a "exec" -d 'Run a command in the workspace of a session'
complete -c ashctl -n "__fish_ashctl_needs_command" -f -a "files" -d 'Files of the workspace of a session'
complete -c ashctl -n "__fish_ashctl_needs_command" -f -a "session" -d 'Sessions: conversations with an agent'
complete -c ashctl -n "__fish_ashctl_needs_command" -f -a "turn" -d 'Turns: messages and what became of them'
complete -c ashctl -n "__fish_ashctl_needs_command" -f -a "permission" -d 'Requests of agents for permission, and their questions'
complete -c ashctl -n "__fish_ashctl_needs_command" -f -a "agent" -d 'Agents: folders that were deployed'
complete -c ashctl -n "__fish_ashctl_needs_command" -f -a "status" -d 'Show how the daemon is doing, and its sessions'
complete -c ashctl -n "__fish_ashctl_needs_command" -f -a "top" -d 'Show what sessions take of the host, live'
complete -c ashctl -n "__fish_ashctl_needs_command" -f -a "logs" -d 'Show the journal of Ash, or of one session'
complete -c ashctl -n "__fish_ashctl_needs_command" -f -a "security" -d 'Show what confines a session, and what does not'
complete -c ashctl -n "__fish_ashctl_needs_command" -f -a "doctor" -d 'Check that this host has what Ash needs, and say what mends what is missing'
complete -c ashctl -n "__fish_ashctl_needs_command" -f -a "gc" -d 'Remove what is not needed any more'
complete -c ashctl -n "__fish_ashctl_needs_command" -f -a "credential" -d 'Credentials: secrets that are kept for sessions'
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
complete -c ashctl -n "__fish_ashctl_using_subcommand chat" -l permission-mode -d 'What the new session\'s agent may do without being allowed to' -r -f -a "bypassPermissions\t''
permissionsByAgent\t''
default\t''
ask\t''
acceptEdits\t''
plan\t''"
complete -c ashctl -n "__fish_ashctl_using_subcommand chat" -s o -l output -d 'How to print: for people, or the API\'s own objects' -r -f -a "table\t'Text and tables for people'
json\t'The API\'s own objects, as one JSON document; a stream as one JSON object a line'"
complete -c ashctl -n "__fish_ashctl_using_subcommand chat" -l server -d 'The daemon: http://HOST:PORT, https://HOST or unix:/PATH [default: unix:/run/ash/ash.sock]' -r -f
complete -c ashctl -n "__fish_ashctl_using_subcommand chat" -l api-key -d 'The API key for a daemon on the network; better in the environment, as others see arguments' -r
complete -c ashctl -n "__fish_ashctl_using_subcommand chat" -s l -l last -d 'Continue the session that was active last'
complete -c ashctl -n "__fish_ashctl_using_subcommand chat" -l end -d 'End the session afterwards'
complete -c ashctl -n "__fish_ashctl_using_subcommand chat" -l raw -d 'Print the stream of events as it comes'
complete -c ashctl -n "__fish_ashctl_using_subcommand chat" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c ashctl -n "__fish_ashctl_using_subcommand exec" -s t -l timeout -d 'Seconds after which it is killed' -r
complete -c ashctl -n "__fish_ashctl_using_subcommand exec" -s o -l output -d 'How to print: for people, or the API\'s own objects' -r -f -a "table\t'Text and tables for people'
json\t'The API\'s own objects, as one JSON document; a stream as one JSON object a line'"
complete -c ashctl -n "__fish_ashctl_using_subcommand exec" -l server -d 'The daemon: http://HOST:PORT, https://HOST or unix:/PATH [default: unix:/run/ash/ash.sock]' -r -f
complete -c ashctl -n "__fish_ashctl_using_subcommand exec" -l api-key -d 'The API key for a daemon on the network; better in the environment, as others see arguments' -r
complete -c ashctl -n "__fish_ashctl_using_subcommand exec" -s n -l no-stdin -d 'Pass no standard input on'
complete -c ashctl -n "__fish_ashctl_using_subcommand exec" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c ashctl -n "__fish_ashctl_using_subcommand files; and not __fish_seen_subcommand_from ls list get put rm" -s o -l output -d 'How to print: for people, or the API\'s own objects' -r -f -a "table\t'Text and tables for people'
json\t'The API\'s own objects, as one JSON document; a stream as one JSON object a line'"
complete -c ashctl -n "__fish_ashctl_using_subcommand files; and not __fish_seen_subcommand_from ls list get put rm" -l server -d 'The daemon: http://HOST:PORT, https://HOST or unix:/PATH [default: unix:/run/ash/ash.sock]' -r -f
complete -c ashctl -n "__fish_ashctl_using_subcommand files; and not __fish_seen_subcommand_from ls list get put rm" -l api-key -d 'The API key for a daemon on the network; better in the environment, as others see arguments' -r
complete -c ashctl -n "__fish_ashctl_using_subcommand files; and not __fish_seen_subcommand_from ls list get put rm" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c ashctl -n "__fish_ashctl_using_subcommand files; and not __fish_seen_subcommand_from ls list get put rm" -f -a "ls" -d 'List the files of a session'
complete -c ashctl -n "__fish_ashctl_using_subcommand files; and not __fish_seen_subcommand_from ls list get put rm" -f -a "list" -d 'List the files of a session'
complete -c ashctl -n "__fish_ashctl_using_subcommand files; and not __fish_seen_subcommand_from ls list get put rm" -f -a "get" -d 'Print a file of a session, or save it'
complete -c ashctl -n "__fish_ashctl_using_subcommand files; and not __fish_seen_subcommand_from ls list get put rm" -f -a "put" -d 'Put files into the workspace of a session'
complete -c ashctl -n "__fish_ashctl_using_subcommand files; and not __fish_seen_subcommand_from ls list get put rm" -f -a "rm" -d 'Delete files of a session'
complete -c ashctl -n "__fish_ashctl_using_subcommand files; and __fish_seen_subcommand_from ls" -s o -l output -d 'How to print: for people, or the API\'s own objects' -r -f -a "table\t'Text and tables for people'
json\t'The API\'s own objects, as one JSON document; a stream as one JSON object a line'"
complete -c ashctl -n "__fish_ashctl_using_subcommand files; and __fish_seen_subcommand_from ls" -l server -d 'The daemon: http://HOST:PORT, https://HOST or unix:/PATH [default: unix:/run/ash/ash.sock]' -r -f
complete -c ashctl -n "__fish_ashctl_using_subcommand files; and __fish_seen_subcommand_from ls" -l api-key -d 'The API key for a daemon on the network; better in the environment, as others see arguments' -r
complete -c ashctl -n "__fish_ashctl_using_subcommand files; and __fish_seen_subcommand_from ls" -l no-hidden -d 'Without caches, virtual environments and temporary files either'
complete -c ashctl -n "__fish_ashctl_using_subcommand files; and __fish_seen_subcommand_from ls" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c ashctl -n "__fish_ashctl_using_subcommand files; and __fish_seen_subcommand_from list" -s o -l output -d 'How to print: for people, or the API\'s own objects' -r -f -a "table\t'Text and tables for people'
json\t'The API\'s own objects, as one JSON document; a stream as one JSON object a line'"
complete -c ashctl -n "__fish_ashctl_using_subcommand files; and __fish_seen_subcommand_from list" -l server -d 'The daemon: http://HOST:PORT, https://HOST or unix:/PATH [default: unix:/run/ash/ash.sock]' -r -f
complete -c ashctl -n "__fish_ashctl_using_subcommand files; and __fish_seen_subcommand_from list" -l api-key -d 'The API key for a daemon on the network; better in the environment, as others see arguments' -r
complete -c ashctl -n "__fish_ashctl_using_subcommand files; and __fish_seen_subcommand_from list" -l no-hidden -d 'Without caches, virtual environments and temporary files either'
complete -c ashctl -n "__fish_ashctl_using_subcommand files; and __fish_seen_subcommand_from list" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c ashctl -n "__fish_ashctl_using_subcommand files; and __fish_seen_subcommand_from get" -s o -l output -d 'How to print: for people, or the API\'s own objects' -r -f -a "table\t'Text and tables for people'
json\t'The API\'s own objects, as one JSON document; a stream as one JSON object a line'"
complete -c ashctl -n "__fish_ashctl_using_subcommand files; and __fish_seen_subcommand_from get" -l server -d 'The daemon: http://HOST:PORT, https://HOST or unix:/PATH [default: unix:/run/ash/ash.sock]' -r -f
complete -c ashctl -n "__fish_ashctl_using_subcommand files; and __fish_seen_subcommand_from get" -l api-key -d 'The API key for a daemon on the network; better in the environment, as others see arguments' -r
complete -c ashctl -n "__fish_ashctl_using_subcommand files; and __fish_seen_subcommand_from get" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c ashctl -n "__fish_ashctl_using_subcommand files; and __fish_seen_subcommand_from put" -l to -d 'The folder of the workspace they are put into' -r
complete -c ashctl -n "__fish_ashctl_using_subcommand files; and __fish_seen_subcommand_from put" -l as -d 'The path in the workspace, of one file' -r
complete -c ashctl -n "__fish_ashctl_using_subcommand files; and __fish_seen_subcommand_from put" -s o -l output -d 'How to print: for people, or the API\'s own objects' -r -f -a "table\t'Text and tables for people'
json\t'The API\'s own objects, as one JSON document; a stream as one JSON object a line'"
complete -c ashctl -n "__fish_ashctl_using_subcommand files; and __fish_seen_subcommand_from put" -l server -d 'The daemon: http://HOST:PORT, https://HOST or unix:/PATH [default: unix:/run/ash/ash.sock]' -r -f
complete -c ashctl -n "__fish_ashctl_using_subcommand files; and __fish_seen_subcommand_from put" -l api-key -d 'The API key for a daemon on the network; better in the environment, as others see arguments' -r
complete -c ashctl -n "__fish_ashctl_using_subcommand files; and __fish_seen_subcommand_from put" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c ashctl -n "__fish_ashctl_using_subcommand files; and __fish_seen_subcommand_from rm" -s o -l output -d 'How to print: for people, or the API\'s own objects' -r -f -a "table\t'Text and tables for people'
json\t'The API\'s own objects, as one JSON document; a stream as one JSON object a line'"
complete -c ashctl -n "__fish_ashctl_using_subcommand files; and __fish_seen_subcommand_from rm" -l server -d 'The daemon: http://HOST:PORT, https://HOST or unix:/PATH [default: unix:/run/ash/ash.sock]' -r -f
complete -c ashctl -n "__fish_ashctl_using_subcommand files; and __fish_seen_subcommand_from rm" -l api-key -d 'The API key for a daemon on the network; better in the environment, as others see arguments' -r
complete -c ashctl -n "__fish_ashctl_using_subcommand files; and __fish_seen_subcommand_from rm" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c ashctl -n "__fish_ashctl_using_subcommand session; and not __fish_seen_subcommand_from create list ls show events send pause stop resume fork rewind download upload logs snapshots egress limits end" -s o -l output -d 'How to print: for people, or the API\'s own objects' -r -f -a "table\t'Text and tables for people'
json\t'The API\'s own objects, as one JSON document; a stream as one JSON object a line'"
complete -c ashctl -n "__fish_ashctl_using_subcommand session; and not __fish_seen_subcommand_from create list ls show events send pause stop resume fork rewind download upload logs snapshots egress limits end" -l server -d 'The daemon: http://HOST:PORT, https://HOST or unix:/PATH [default: unix:/run/ash/ash.sock]' -r -f
complete -c ashctl -n "__fish_ashctl_using_subcommand session; and not __fish_seen_subcommand_from create list ls show events send pause stop resume fork rewind download upload logs snapshots egress limits end" -l api-key -d 'The API key for a daemon on the network; better in the environment, as others see arguments' -r
complete -c ashctl -n "__fish_ashctl_using_subcommand session; and not __fish_seen_subcommand_from create list ls show events send pause stop resume fork rewind download upload logs snapshots egress limits end" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c ashctl -n "__fish_ashctl_using_subcommand session; and not __fish_seen_subcommand_from create list ls show events send pause stop resume fork rewind download upload logs snapshots egress limits end" -f -a "create" -d 'Start a session and print its id'
complete -c ashctl -n "__fish_ashctl_using_subcommand session; and not __fish_seen_subcommand_from create list ls show events send pause stop resume fork rewind download upload logs snapshots egress limits end" -f -a "list" -d 'List sessions, newest first'
complete -c ashctl -n "__fish_ashctl_using_subcommand session; and not __fish_seen_subcommand_from create list ls show events send pause stop resume fork rewind download upload logs snapshots egress limits end" -f -a "ls" -d 'List sessions, newest first'
complete -c ashctl -n "__fish_ashctl_using_subcommand session; and not __fish_seen_subcommand_from create list ls show events send pause stop resume fork rewind download upload logs snapshots egress limits end" -f -a "show" -d 'Show a session'
complete -c ashctl -n "__fish_ashctl_using_subcommand session; and not __fish_seen_subcommand_from create list ls show events send pause stop resume fork rewind download upload logs snapshots egress limits end" -f -a "events" -d 'Print the log of a session, an event a line'
complete -c ashctl -n "__fish_ashctl_using_subcommand session; and not __fish_seen_subcommand_from create list ls show events send pause stop resume fork rewind download upload logs snapshots egress limits end" -f -a "send" -d 'Send one message and print the answer'
complete -c ashctl -n "__fish_ashctl_using_subcommand session; and not __fish_seen_subcommand_from create list ls show events send pause stop resume fork rewind download upload logs snapshots egress limits end" -f -a "pause" -d 'Keep sessions as they are, in memory but without processor time'
complete -c ashctl -n "__fish_ashctl_using_subcommand session; and not __fish_seen_subcommand_from create list ls show events send pause stop resume fork rewind download upload logs snapshots egress limits end" -f -a "stop" -d 'Keep sessions without processes'
complete -c ashctl -n "__fish_ashctl_using_subcommand session; and not __fish_seen_subcommand_from create list ls show events send pause stop resume fork rewind download upload logs snapshots egress limits end" -f -a "resume" -d 'Make sessions that were paused or stopped take messages again'
complete -c ashctl -n "__fish_ashctl_using_subcommand session; and not __fish_seen_subcommand_from create list ls show events send pause stop resume fork rewind download upload logs snapshots egress limits end" -f -a "fork" -d 'Make another session that goes on from here, and print its id'
complete -c ashctl -n "__fish_ashctl_using_subcommand session; and not __fish_seen_subcommand_from create list ls show events send pause stop resume fork rewind download upload logs snapshots egress limits end" -f -a "rewind" -d 'Take a session back to one of its snapshots'
complete -c ashctl -n "__fish_ashctl_using_subcommand session; and not __fish_seen_subcommand_from create list ls show events send pause stop resume fork rewind download upload logs snapshots egress limits end" -f -a "download" -d 'Save the workspace of a session as a tar.gz'
complete -c ashctl -n "__fish_ashctl_using_subcommand session; and not __fish_seen_subcommand_from create list ls show events send pause stop resume fork rewind download upload logs snapshots egress limits end" -f -a "upload" -d 'Put files into the workspace of a session'
complete -c ashctl -n "__fish_ashctl_using_subcommand session; and not __fish_seen_subcommand_from create list ls show events send pause stop resume fork rewind download upload logs snapshots egress limits end" -f -a "logs" -d 'Show what the runtime of a session said, and what became of it'
complete -c ashctl -n "__fish_ashctl_using_subcommand session; and not __fish_seen_subcommand_from create list ls show events send pause stop resume fork rewind download upload logs snapshots egress limits end" -f -a "snapshots" -d 'List the snapshots of a session, or take one'
complete -c ashctl -n "__fish_ashctl_using_subcommand session; and not __fish_seen_subcommand_from create list ls show events send pause stop resume fork rewind download upload logs snapshots egress limits end" -f -a "egress" -d 'Show or change what of the network a session may reach'
complete -c ashctl -n "__fish_ashctl_using_subcommand session; and not __fish_seen_subcommand_from create list ls show events send pause stop resume fork rewind download upload logs snapshots egress limits end" -f -a "limits" -d 'Show or change what a session may use, and what it has spent'
complete -c ashctl -n "__fish_ashctl_using_subcommand session; and not __fish_seen_subcommand_from create list ls show events send pause stop resume fork rewind download upload logs snapshots egress limits end" -f -a "end" -d 'End sessions for good'
complete -c ashctl -n "__fish_ashctl_using_subcommand session; and __fish_seen_subcommand_from create" -s m -l model -d 'The model that answers [default: the agent\'s]' -r
complete -c ashctl -n "__fish_ashctl_using_subcommand session; and __fish_seen_subcommand_from create" -s e -l env -d 'A variable for this session, before those of the agent; without a value it is taken from here' -r
complete -c ashctl -n "__fish_ashctl_using_subcommand session; and __fish_seen_subcommand_from create" -l system-prompt -d 'Text that takes the place of the agent\'s CLAUDE.md' -r
complete -c ashctl -n "__fish_ashctl_using_subcommand session; and __fish_seen_subcommand_from create" -l permission-mode -d 'What the agent may do without being allowed to' -r -f -a "bypassPermissions\t''
permissionsByAgent\t''
default\t''
ask\t''
acceptEdits\t''
plan\t''"
complete -c ashctl -n "__fish_ashctl_using_subcommand session; and __fish_seen_subcommand_from create" -l allow -d 'A host that may be reached, beside the others and in the place of the agent\'s list' -r
complete -c ashctl -n "__fish_ashctl_using_subcommand session; and __fish_seen_subcommand_from create" -l credential -d 'A credential that its sandboxes are given, as "ashctl credential list" shows it' -r
complete -c ashctl -n "__fish_ashctl_using_subcommand session; and __fish_seen_subcommand_from create" -l bind -d 'A credential that one host gets, and that is a placeholder inside' -r
complete -c ashctl -n "__fish_ashctl_using_subcommand session; and __fish_seen_subcommand_from create" -l memory -d 'Memory of all processes, such as 2G' -r
complete -c ashctl -n "__fish_ashctl_using_subcommand session; and __fish_seen_subcommand_from create" -l memory-high -d 'Memory above which processes are slowed down' -r
complete -c ashctl -n "__fish_ashctl_using_subcommand session; and __fish_seen_subcommand_from create" -l swap -d 'Swap beside the memory' -r
complete -c ashctl -n "__fish_ashctl_using_subcommand session; and __fish_seen_subcommand_from create" -l cpu -d 'Processor time, such as 150%' -r
complete -c ashctl -n "__fish_ashctl_using_subcommand session; and __fish_seen_subcommand_from create" -l tasks -d 'Processes and threads' -r
complete -c ashctl -n "__fish_ashctl_using_subcommand session; and __fish_seen_subcommand_from create" -l disk -d 'Workspace and home together' -r
complete -c ashctl -n "__fish_ashctl_using_subcommand session; and __fish_seen_subcommand_from create" -l io-weight -d 'Share of the disk\'s time beside others, from 1 to 10000' -r
complete -c ashctl -n "__fish_ashctl_using_subcommand session; and __fish_seen_subcommand_from create" -l io-read -d 'Bytes read from the disk in a second' -r
complete -c ashctl -n "__fish_ashctl_using_subcommand session; and __fish_seen_subcommand_from create" -l io-write -d 'Bytes written to the disk in a second' -r
complete -c ashctl -n "__fish_ashctl_using_subcommand session; and __fish_seen_subcommand_from create" -l open-files -d 'Open files of one process' -r
complete -c ashctl -n "__fish_ashctl_using_subcommand session; and __fish_seen_subcommand_from create" -l file-size -d 'Size of one file' -r
complete -c ashctl -n "__fish_ashctl_using_subcommand session; and __fish_seen_subcommand_from create" -l output-rate -d 'Bytes that the runtime writes in a second' -r
complete -c ashctl -n "__fish_ashctl_using_subcommand session; and __fish_seen_subcommand_from create" -l lifetime -d 'How long a sandbox may live, such as 8h' -r
complete -c ashctl -n "__fish_ashctl_using_subcommand session; and __fish_seen_subcommand_from create" -l idle -d 'How long a sandbox is idle before its processes end' -r
complete -c ashctl -n "__fish_ashctl_using_subcommand session; and __fish_seen_subcommand_from create" -l turn -d 'How long a turn may take, such as 10m' -r
complete -c ashctl -n "__fish_ashctl_using_subcommand session; and __fish_seen_subcommand_from create" -l tokens -d 'Tokens of all turns together' -r
complete -c ashctl -n "__fish_ashctl_using_subcommand session; and __fish_seen_subcommand_from create" -l cost -d 'US dollars of all turns together, such as 2.5' -r
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
complete -c ashctl -n "__fish_ashctl_using_subcommand session; and __fish_seen_subcommand_from events" -s a -l after -d 'Only events after the one with this id' -r
complete -c ashctl -n "__fish_ashctl_using_subcommand session; and __fish_seen_subcommand_from events" -s t -l types -d 'Only these types, separated by commas: message,tool_use,done' -r
complete -c ashctl -n "__fish_ashctl_using_subcommand session; and __fish_seen_subcommand_from events" -s o -l output -d 'How to print: for people, or the API\'s own objects' -r -f -a "table\t'Text and tables for people'
json\t'The API\'s own objects, as one JSON document; a stream as one JSON object a line'"
complete -c ashctl -n "__fish_ashctl_using_subcommand session; and __fish_seen_subcommand_from events" -l server -d 'The daemon: http://HOST:PORT, https://HOST or unix:/PATH [default: unix:/run/ash/ash.sock]' -r -f
complete -c ashctl -n "__fish_ashctl_using_subcommand session; and __fish_seen_subcommand_from events" -l api-key -d 'The API key for a daemon on the network; better in the environment, as others see arguments' -r
complete -c ashctl -n "__fish_ashctl_using_subcommand session; and __fish_seen_subcommand_from events" -s f -l follow -d 'Go on printing what comes'
complete -c ashctl -n "__fish_ashctl_using_subcommand session; and __fish_seen_subcommand_from events" -l no-deltas -d 'Leave out what only previews a message that comes whole'
complete -c ashctl -n "__fish_ashctl_using_subcommand session; and __fish_seen_subcommand_from events" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c ashctl -n "__fish_ashctl_using_subcommand session; and __fish_seen_subcommand_from send" -s m -l model -d 'The model that answers this message [default: the session\'s]' -r
complete -c ashctl -n "__fish_ashctl_using_subcommand session; and __fish_seen_subcommand_from send" -s o -l output -d 'How to print: for people, or the API\'s own objects' -r -f -a "table\t'Text and tables for people'
json\t'The API\'s own objects, as one JSON document; a stream as one JSON object a line'"
complete -c ashctl -n "__fish_ashctl_using_subcommand session; and __fish_seen_subcommand_from send" -l server -d 'The daemon: http://HOST:PORT, https://HOST or unix:/PATH [default: unix:/run/ash/ash.sock]' -r -f
complete -c ashctl -n "__fish_ashctl_using_subcommand session; and __fish_seen_subcommand_from send" -l api-key -d 'The API key for a daemon on the network; better in the environment, as others see arguments' -r
complete -c ashctl -n "__fish_ashctl_using_subcommand session; and __fish_seen_subcommand_from send" -l raw -d 'Print the stream of events as it comes'
complete -c ashctl -n "__fish_ashctl_using_subcommand session; and __fish_seen_subcommand_from send" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c ashctl -n "__fish_ashctl_using_subcommand session; and __fish_seen_subcommand_from pause" -s o -l output -d 'How to print: for people, or the API\'s own objects' -r -f -a "table\t'Text and tables for people'
json\t'The API\'s own objects, as one JSON document; a stream as one JSON object a line'"
complete -c ashctl -n "__fish_ashctl_using_subcommand session; and __fish_seen_subcommand_from pause" -l server -d 'The daemon: http://HOST:PORT, https://HOST or unix:/PATH [default: unix:/run/ash/ash.sock]' -r -f
complete -c ashctl -n "__fish_ashctl_using_subcommand session; and __fish_seen_subcommand_from pause" -l api-key -d 'The API key for a daemon on the network; better in the environment, as others see arguments' -r
complete -c ashctl -n "__fish_ashctl_using_subcommand session; and __fish_seen_subcommand_from pause" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c ashctl -n "__fish_ashctl_using_subcommand session; and __fish_seen_subcommand_from stop" -s o -l output -d 'How to print: for people, or the API\'s own objects' -r -f -a "table\t'Text and tables for people'
json\t'The API\'s own objects, as one JSON document; a stream as one JSON object a line'"
complete -c ashctl -n "__fish_ashctl_using_subcommand session; and __fish_seen_subcommand_from stop" -l server -d 'The daemon: http://HOST:PORT, https://HOST or unix:/PATH [default: unix:/run/ash/ash.sock]' -r -f
complete -c ashctl -n "__fish_ashctl_using_subcommand session; and __fish_seen_subcommand_from stop" -l api-key -d 'The API key for a daemon on the network; better in the environment, as others see arguments' -r
complete -c ashctl -n "__fish_ashctl_using_subcommand session; and __fish_seen_subcommand_from stop" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c ashctl -n "__fish_ashctl_using_subcommand session; and __fish_seen_subcommand_from resume" -s o -l output -d 'How to print: for people, or the API\'s own objects' -r -f -a "table\t'Text and tables for people'
json\t'The API\'s own objects, as one JSON document; a stream as one JSON object a line'"
complete -c ashctl -n "__fish_ashctl_using_subcommand session; and __fish_seen_subcommand_from resume" -l server -d 'The daemon: http://HOST:PORT, https://HOST or unix:/PATH [default: unix:/run/ash/ash.sock]' -r -f
complete -c ashctl -n "__fish_ashctl_using_subcommand session; and __fish_seen_subcommand_from resume" -l api-key -d 'The API key for a daemon on the network; better in the environment, as others see arguments' -r
complete -c ashctl -n "__fish_ashctl_using_subcommand session; and __fish_seen_subcommand_from resume" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c ashctl -n "__fish_ashctl_using_subcommand session; and __fish_seen_subcommand_from fork" -l at -d 'The snapshot to go on from, as "ashctl session snapshots" lists it' -r
complete -c ashctl -n "__fish_ashctl_using_subcommand session; and __fish_seen_subcommand_from fork" -s o -l output -d 'How to print: for people, or the API\'s own objects' -r -f -a "table\t'Text and tables for people'
json\t'The API\'s own objects, as one JSON document; a stream as one JSON object a line'"
complete -c ashctl -n "__fish_ashctl_using_subcommand session; and __fish_seen_subcommand_from fork" -l server -d 'The daemon: http://HOST:PORT, https://HOST or unix:/PATH [default: unix:/run/ash/ash.sock]' -r -f
complete -c ashctl -n "__fish_ashctl_using_subcommand session; and __fish_seen_subcommand_from fork" -l api-key -d 'The API key for a daemon on the network; better in the environment, as others see arguments' -r
complete -c ashctl -n "__fish_ashctl_using_subcommand session; and __fish_seen_subcommand_from fork" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c ashctl -n "__fish_ashctl_using_subcommand session; and __fish_seen_subcommand_from rewind" -l to -d 'The snapshot to go back to, as "ashctl session snapshots" lists it' -r
complete -c ashctl -n "__fish_ashctl_using_subcommand session; and __fish_seen_subcommand_from rewind" -s o -l output -d 'How to print: for people, or the API\'s own objects' -r -f -a "table\t'Text and tables for people'
json\t'The API\'s own objects, as one JSON document; a stream as one JSON object a line'"
complete -c ashctl -n "__fish_ashctl_using_subcommand session; and __fish_seen_subcommand_from rewind" -l server -d 'The daemon: http://HOST:PORT, https://HOST or unix:/PATH [default: unix:/run/ash/ash.sock]' -r -f
complete -c ashctl -n "__fish_ashctl_using_subcommand session; and __fish_seen_subcommand_from rewind" -l api-key -d 'The API key for a daemon on the network; better in the environment, as others see arguments' -r
complete -c ashctl -n "__fish_ashctl_using_subcommand session; and __fish_seen_subcommand_from rewind" -l interrupt -d 'Interrupt a turn that runs'
complete -c ashctl -n "__fish_ashctl_using_subcommand session; and __fish_seen_subcommand_from rewind" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c ashctl -n "__fish_ashctl_using_subcommand session; and __fish_seen_subcommand_from download" -s o -l output -d 'How to print: for people, or the API\'s own objects' -r -f -a "table\t'Text and tables for people'
json\t'The API\'s own objects, as one JSON document; a stream as one JSON object a line'"
complete -c ashctl -n "__fish_ashctl_using_subcommand session; and __fish_seen_subcommand_from download" -l server -d 'The daemon: http://HOST:PORT, https://HOST or unix:/PATH [default: unix:/run/ash/ash.sock]' -r -f
complete -c ashctl -n "__fish_ashctl_using_subcommand session; and __fish_seen_subcommand_from download" -l api-key -d 'The API key for a daemon on the network; better in the environment, as others see arguments' -r
complete -c ashctl -n "__fish_ashctl_using_subcommand session; and __fish_seen_subcommand_from download" -l all -d 'Leave nothing out'
complete -c ashctl -n "__fish_ashctl_using_subcommand session; and __fish_seen_subcommand_from download" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c ashctl -n "__fish_ashctl_using_subcommand session; and __fish_seen_subcommand_from upload" -s o -l output -d 'How to print: for people, or the API\'s own objects' -r -f -a "table\t'Text and tables for people'
json\t'The API\'s own objects, as one JSON document; a stream as one JSON object a line'"
complete -c ashctl -n "__fish_ashctl_using_subcommand session; and __fish_seen_subcommand_from upload" -l server -d 'The daemon: http://HOST:PORT, https://HOST or unix:/PATH [default: unix:/run/ash/ash.sock]' -r -f
complete -c ashctl -n "__fish_ashctl_using_subcommand session; and __fish_seen_subcommand_from upload" -l api-key -d 'The API key for a daemon on the network; better in the environment, as others see arguments' -r
complete -c ashctl -n "__fish_ashctl_using_subcommand session; and __fish_seen_subcommand_from upload" -l replace -d 'Remove what is in the workspace'
complete -c ashctl -n "__fish_ashctl_using_subcommand session; and __fish_seen_subcommand_from upload" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c ashctl -n "__fish_ashctl_using_subcommand session; and __fish_seen_subcommand_from logs" -s o -l output -d 'How to print: for people, or the API\'s own objects' -r -f -a "table\t'Text and tables for people'
json\t'The API\'s own objects, as one JSON document; a stream as one JSON object a line'"
complete -c ashctl -n "__fish_ashctl_using_subcommand session; and __fish_seen_subcommand_from logs" -l server -d 'The daemon: http://HOST:PORT, https://HOST or unix:/PATH [default: unix:/run/ash/ash.sock]' -r -f
complete -c ashctl -n "__fish_ashctl_using_subcommand session; and __fish_seen_subcommand_from logs" -l api-key -d 'The API key for a daemon on the network; better in the environment, as others see arguments' -r
complete -c ashctl -n "__fish_ashctl_using_subcommand session; and __fish_seen_subcommand_from logs" -s f -l follow -d 'Go on printing what comes'
complete -c ashctl -n "__fish_ashctl_using_subcommand session; and __fish_seen_subcommand_from logs" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c ashctl -n "__fish_ashctl_using_subcommand session; and __fish_seen_subcommand_from snapshots" -s o -l output -d 'How to print: for people, or the API\'s own objects' -r -f -a "table\t'Text and tables for people'
json\t'The API\'s own objects, as one JSON document; a stream as one JSON object a line'"
complete -c ashctl -n "__fish_ashctl_using_subcommand session; and __fish_seen_subcommand_from snapshots" -l server -d 'The daemon: http://HOST:PORT, https://HOST or unix:/PATH [default: unix:/run/ash/ash.sock]' -r -f
complete -c ashctl -n "__fish_ashctl_using_subcommand session; and __fish_seen_subcommand_from snapshots" -l api-key -d 'The API key for a daemon on the network; better in the environment, as others see arguments' -r
complete -c ashctl -n "__fish_ashctl_using_subcommand session; and __fish_seen_subcommand_from snapshots" -l take -d 'Take one now, when no turn runs'
complete -c ashctl -n "__fish_ashctl_using_subcommand session; and __fish_seen_subcommand_from snapshots" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c ashctl -n "__fish_ashctl_using_subcommand session; and __fish_seen_subcommand_from egress" -l allow -d 'A host that may be reached, beside the others and in the place of the list so far' -r
complete -c ashctl -n "__fish_ashctl_using_subcommand session; and __fish_seen_subcommand_from egress" -s o -l output -d 'How to print: for people, or the API\'s own objects' -r -f -a "table\t'Text and tables for people'
json\t'The API\'s own objects, as one JSON document; a stream as one JSON object a line'"
complete -c ashctl -n "__fish_ashctl_using_subcommand session; and __fish_seen_subcommand_from egress" -l server -d 'The daemon: http://HOST:PORT, https://HOST or unix:/PATH [default: unix:/run/ash/ash.sock]' -r -f
complete -c ashctl -n "__fish_ashctl_using_subcommand session; and __fish_seen_subcommand_from egress" -l api-key -d 'The API key for a daemon on the network; better in the environment, as others see arguments' -r
complete -c ashctl -n "__fish_ashctl_using_subcommand session; and __fish_seen_subcommand_from egress" -l none -d 'Nothing but the model may be reached'
complete -c ashctl -n "__fish_ashctl_using_subcommand session; and __fish_seen_subcommand_from egress" -l show -d 'Show what may be reached, which is what happens without another option'
complete -c ashctl -n "__fish_ashctl_using_subcommand session; and __fish_seen_subcommand_from egress" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c ashctl -n "__fish_ashctl_using_subcommand session; and __fish_seen_subcommand_from limits" -l memory -d 'Memory of all processes, such as 2G' -r
complete -c ashctl -n "__fish_ashctl_using_subcommand session; and __fish_seen_subcommand_from limits" -l memory-high -d 'Memory above which processes are slowed down' -r
complete -c ashctl -n "__fish_ashctl_using_subcommand session; and __fish_seen_subcommand_from limits" -l swap -d 'Swap beside the memory' -r
complete -c ashctl -n "__fish_ashctl_using_subcommand session; and __fish_seen_subcommand_from limits" -l cpu -d 'Processor time, such as 150%' -r
complete -c ashctl -n "__fish_ashctl_using_subcommand session; and __fish_seen_subcommand_from limits" -l tasks -d 'Processes and threads' -r
complete -c ashctl -n "__fish_ashctl_using_subcommand session; and __fish_seen_subcommand_from limits" -l disk -d 'Workspace and home together' -r
complete -c ashctl -n "__fish_ashctl_using_subcommand session; and __fish_seen_subcommand_from limits" -l io-weight -d 'Share of the disk\'s time beside others, from 1 to 10000' -r
complete -c ashctl -n "__fish_ashctl_using_subcommand session; and __fish_seen_subcommand_from limits" -l io-read -d 'Bytes read from the disk in a second' -r
complete -c ashctl -n "__fish_ashctl_using_subcommand session; and __fish_seen_subcommand_from limits" -l io-write -d 'Bytes written to the disk in a second' -r
complete -c ashctl -n "__fish_ashctl_using_subcommand session; and __fish_seen_subcommand_from limits" -l open-files -d 'Open files of one process' -r
complete -c ashctl -n "__fish_ashctl_using_subcommand session; and __fish_seen_subcommand_from limits" -l file-size -d 'Size of one file' -r
complete -c ashctl -n "__fish_ashctl_using_subcommand session; and __fish_seen_subcommand_from limits" -l output-rate -d 'Bytes that the runtime writes in a second' -r
complete -c ashctl -n "__fish_ashctl_using_subcommand session; and __fish_seen_subcommand_from limits" -l lifetime -d 'How long a sandbox may live, such as 8h' -r
complete -c ashctl -n "__fish_ashctl_using_subcommand session; and __fish_seen_subcommand_from limits" -l idle -d 'How long a sandbox is idle before its processes end' -r
complete -c ashctl -n "__fish_ashctl_using_subcommand session; and __fish_seen_subcommand_from limits" -l turn -d 'How long a turn may take, such as 10m' -r
complete -c ashctl -n "__fish_ashctl_using_subcommand session; and __fish_seen_subcommand_from limits" -l tokens -d 'Tokens of all turns together' -r
complete -c ashctl -n "__fish_ashctl_using_subcommand session; and __fish_seen_subcommand_from limits" -l cost -d 'US dollars of all turns together, such as 2.5' -r
complete -c ashctl -n "__fish_ashctl_using_subcommand session; and __fish_seen_subcommand_from limits" -l reset -d 'Take back what the session says of a limit, by its name: memory, cpu, tokens and so on' -r
complete -c ashctl -n "__fish_ashctl_using_subcommand session; and __fish_seen_subcommand_from limits" -s o -l output -d 'How to print: for people, or the API\'s own objects' -r -f -a "table\t'Text and tables for people'
json\t'The API\'s own objects, as one JSON document; a stream as one JSON object a line'"
complete -c ashctl -n "__fish_ashctl_using_subcommand session; and __fish_seen_subcommand_from limits" -l server -d 'The daemon: http://HOST:PORT, https://HOST or unix:/PATH [default: unix:/run/ash/ash.sock]' -r -f
complete -c ashctl -n "__fish_ashctl_using_subcommand session; and __fish_seen_subcommand_from limits" -l api-key -d 'The API key for a daemon on the network; better in the environment, as others see arguments' -r
complete -c ashctl -n "__fish_ashctl_using_subcommand session; and __fish_seen_subcommand_from limits" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c ashctl -n "__fish_ashctl_using_subcommand session; and __fish_seen_subcommand_from end" -s o -l output -d 'How to print: for people, or the API\'s own objects' -r -f -a "table\t'Text and tables for people'
json\t'The API\'s own objects, as one JSON document; a stream as one JSON object a line'"
complete -c ashctl -n "__fish_ashctl_using_subcommand session; and __fish_seen_subcommand_from end" -l server -d 'The daemon: http://HOST:PORT, https://HOST or unix:/PATH [default: unix:/run/ash/ash.sock]' -r -f
complete -c ashctl -n "__fish_ashctl_using_subcommand session; and __fish_seen_subcommand_from end" -l api-key -d 'The API key for a daemon on the network; better in the environment, as others see arguments' -r
complete -c ashctl -n "__fish_ashctl_using_subcommand session; and __fish_seen_subcommand_from end" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c ashctl -n "__fish_ashctl_using_subcommand turn; and not __fish_seen_subcommand_from list ls show cancel interrupt" -s o -l output -d 'How to print: for people, or the API\'s own objects' -r -f -a "table\t'Text and tables for people'
json\t'The API\'s own objects, as one JSON document; a stream as one JSON object a line'"
complete -c ashctl -n "__fish_ashctl_using_subcommand turn; and not __fish_seen_subcommand_from list ls show cancel interrupt" -l server -d 'The daemon: http://HOST:PORT, https://HOST or unix:/PATH [default: unix:/run/ash/ash.sock]' -r -f
complete -c ashctl -n "__fish_ashctl_using_subcommand turn; and not __fish_seen_subcommand_from list ls show cancel interrupt" -l api-key -d 'The API key for a daemon on the network; better in the environment, as others see arguments' -r
complete -c ashctl -n "__fish_ashctl_using_subcommand turn; and not __fish_seen_subcommand_from list ls show cancel interrupt" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c ashctl -n "__fish_ashctl_using_subcommand turn; and not __fish_seen_subcommand_from list ls show cancel interrupt" -f -a "list" -d 'List the turns of a session, oldest first'
complete -c ashctl -n "__fish_ashctl_using_subcommand turn; and not __fish_seen_subcommand_from list ls show cancel interrupt" -f -a "ls" -d 'List the turns of a session, oldest first'
complete -c ashctl -n "__fish_ashctl_using_subcommand turn; and not __fish_seen_subcommand_from list ls show cancel interrupt" -f -a "show" -d 'Show a turn: its state, its times and what it took'
complete -c ashctl -n "__fish_ashctl_using_subcommand turn; and not __fish_seen_subcommand_from list ls show cancel interrupt" -f -a "cancel" -d 'Take a turn from the queue, or interrupt it'
complete -c ashctl -n "__fish_ashctl_using_subcommand turn; and not __fish_seen_subcommand_from list ls show cancel interrupt" -f -a "interrupt" -d 'Interrupt the turn that is running'
complete -c ashctl -n "__fish_ashctl_using_subcommand turn; and __fish_seen_subcommand_from list" -s s -l state -d 'In this state only' -r -f -a "queued\t''
running\t''
completed\t''
failed\t''
interrupted\t''
cancelled\t''"
complete -c ashctl -n "__fish_ashctl_using_subcommand turn; and __fish_seen_subcommand_from list" -s o -l output -d 'How to print: for people, or the API\'s own objects' -r -f -a "table\t'Text and tables for people'
json\t'The API\'s own objects, as one JSON document; a stream as one JSON object a line'"
complete -c ashctl -n "__fish_ashctl_using_subcommand turn; and __fish_seen_subcommand_from list" -l server -d 'The daemon: http://HOST:PORT, https://HOST or unix:/PATH [default: unix:/run/ash/ash.sock]' -r -f
complete -c ashctl -n "__fish_ashctl_using_subcommand turn; and __fish_seen_subcommand_from list" -l api-key -d 'The API key for a daemon on the network; better in the environment, as others see arguments' -r
complete -c ashctl -n "__fish_ashctl_using_subcommand turn; and __fish_seen_subcommand_from list" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c ashctl -n "__fish_ashctl_using_subcommand turn; and __fish_seen_subcommand_from ls" -s s -l state -d 'In this state only' -r -f -a "queued\t''
running\t''
completed\t''
failed\t''
interrupted\t''
cancelled\t''"
complete -c ashctl -n "__fish_ashctl_using_subcommand turn; and __fish_seen_subcommand_from ls" -s o -l output -d 'How to print: for people, or the API\'s own objects' -r -f -a "table\t'Text and tables for people'
json\t'The API\'s own objects, as one JSON document; a stream as one JSON object a line'"
complete -c ashctl -n "__fish_ashctl_using_subcommand turn; and __fish_seen_subcommand_from ls" -l server -d 'The daemon: http://HOST:PORT, https://HOST or unix:/PATH [default: unix:/run/ash/ash.sock]' -r -f
complete -c ashctl -n "__fish_ashctl_using_subcommand turn; and __fish_seen_subcommand_from ls" -l api-key -d 'The API key for a daemon on the network; better in the environment, as others see arguments' -r
complete -c ashctl -n "__fish_ashctl_using_subcommand turn; and __fish_seen_subcommand_from ls" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c ashctl -n "__fish_ashctl_using_subcommand turn; and __fish_seen_subcommand_from show" -s o -l output -d 'How to print: for people, or the API\'s own objects' -r -f -a "table\t'Text and tables for people'
json\t'The API\'s own objects, as one JSON document; a stream as one JSON object a line'"
complete -c ashctl -n "__fish_ashctl_using_subcommand turn; and __fish_seen_subcommand_from show" -l server -d 'The daemon: http://HOST:PORT, https://HOST or unix:/PATH [default: unix:/run/ash/ash.sock]' -r -f
complete -c ashctl -n "__fish_ashctl_using_subcommand turn; and __fish_seen_subcommand_from show" -l api-key -d 'The API key for a daemon on the network; better in the environment, as others see arguments' -r
complete -c ashctl -n "__fish_ashctl_using_subcommand turn; and __fish_seen_subcommand_from show" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c ashctl -n "__fish_ashctl_using_subcommand turn; and __fish_seen_subcommand_from cancel" -s o -l output -d 'How to print: for people, or the API\'s own objects' -r -f -a "table\t'Text and tables for people'
json\t'The API\'s own objects, as one JSON document; a stream as one JSON object a line'"
complete -c ashctl -n "__fish_ashctl_using_subcommand turn; and __fish_seen_subcommand_from cancel" -l server -d 'The daemon: http://HOST:PORT, https://HOST or unix:/PATH [default: unix:/run/ash/ash.sock]' -r -f
complete -c ashctl -n "__fish_ashctl_using_subcommand turn; and __fish_seen_subcommand_from cancel" -l api-key -d 'The API key for a daemon on the network; better in the environment, as others see arguments' -r
complete -c ashctl -n "__fish_ashctl_using_subcommand turn; and __fish_seen_subcommand_from cancel" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c ashctl -n "__fish_ashctl_using_subcommand turn; and __fish_seen_subcommand_from interrupt" -s o -l output -d 'How to print: for people, or the API\'s own objects' -r -f -a "table\t'Text and tables for people'
json\t'The API\'s own objects, as one JSON document; a stream as one JSON object a line'"
complete -c ashctl -n "__fish_ashctl_using_subcommand turn; and __fish_seen_subcommand_from interrupt" -l server -d 'The daemon: http://HOST:PORT, https://HOST or unix:/PATH [default: unix:/run/ash/ash.sock]' -r -f
complete -c ashctl -n "__fish_ashctl_using_subcommand turn; and __fish_seen_subcommand_from interrupt" -l api-key -d 'The API key for a daemon on the network; better in the environment, as others see arguments' -r
complete -c ashctl -n "__fish_ashctl_using_subcommand turn; and __fish_seen_subcommand_from interrupt" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c ashctl -n "__fish_ashctl_using_subcommand permission; and not __fish_seen_subcommand_from list ls show allow deny" -s o -l output -d 'How to print: for people, or the API\'s own objects' -r -f -a "table\t'Text and tables for people'
json\t'The API\'s own objects, as one JSON document; a stream as one JSON object a line'"
complete -c ashctl -n "__fish_ashctl_using_subcommand permission; and not __fish_seen_subcommand_from list ls show allow deny" -l server -d 'The daemon: http://HOST:PORT, https://HOST or unix:/PATH [default: unix:/run/ash/ash.sock]' -r -f
complete -c ashctl -n "__fish_ashctl_using_subcommand permission; and not __fish_seen_subcommand_from list ls show allow deny" -l api-key -d 'The API key for a daemon on the network; better in the environment, as others see arguments' -r
complete -c ashctl -n "__fish_ashctl_using_subcommand permission; and not __fish_seen_subcommand_from list ls show allow deny" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c ashctl -n "__fish_ashctl_using_subcommand permission; and not __fish_seen_subcommand_from list ls show allow deny" -f -a "list" -d 'List what waits for an answer, oldest first'
complete -c ashctl -n "__fish_ashctl_using_subcommand permission; and not __fish_seen_subcommand_from list ls show allow deny" -f -a "ls" -d 'List what waits for an answer, oldest first'
complete -c ashctl -n "__fish_ashctl_using_subcommand permission; and not __fish_seen_subcommand_from list ls show allow deny" -f -a "show" -d 'Show a request whole'
complete -c ashctl -n "__fish_ashctl_using_subcommand permission; and not __fish_seen_subcommand_from list ls show allow deny" -f -a "allow" -d 'Allow it, or answer a question'
complete -c ashctl -n "__fish_ashctl_using_subcommand permission; and not __fish_seen_subcommand_from list ls show allow deny" -f -a "deny" -d 'Deny it; the agent goes on without'
complete -c ashctl -n "__fish_ashctl_using_subcommand permission; and __fish_seen_subcommand_from list" -s o -l output -d 'How to print: for people, or the API\'s own objects' -r -f -a "table\t'Text and tables for people'
json\t'The API\'s own objects, as one JSON document; a stream as one JSON object a line'"
complete -c ashctl -n "__fish_ashctl_using_subcommand permission; and __fish_seen_subcommand_from list" -l server -d 'The daemon: http://HOST:PORT, https://HOST or unix:/PATH [default: unix:/run/ash/ash.sock]' -r -f
complete -c ashctl -n "__fish_ashctl_using_subcommand permission; and __fish_seen_subcommand_from list" -l api-key -d 'The API key for a daemon on the network; better in the environment, as others see arguments' -r
complete -c ashctl -n "__fish_ashctl_using_subcommand permission; and __fish_seen_subcommand_from list" -s a -l all -d 'What was answered too'
complete -c ashctl -n "__fish_ashctl_using_subcommand permission; and __fish_seen_subcommand_from list" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c ashctl -n "__fish_ashctl_using_subcommand permission; and __fish_seen_subcommand_from ls" -s o -l output -d 'How to print: for people, or the API\'s own objects' -r -f -a "table\t'Text and tables for people'
json\t'The API\'s own objects, as one JSON document; a stream as one JSON object a line'"
complete -c ashctl -n "__fish_ashctl_using_subcommand permission; and __fish_seen_subcommand_from ls" -l server -d 'The daemon: http://HOST:PORT, https://HOST or unix:/PATH [default: unix:/run/ash/ash.sock]' -r -f
complete -c ashctl -n "__fish_ashctl_using_subcommand permission; and __fish_seen_subcommand_from ls" -l api-key -d 'The API key for a daemon on the network; better in the environment, as others see arguments' -r
complete -c ashctl -n "__fish_ashctl_using_subcommand permission; and __fish_seen_subcommand_from ls" -s a -l all -d 'What was answered too'
complete -c ashctl -n "__fish_ashctl_using_subcommand permission; and __fish_seen_subcommand_from ls" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c ashctl -n "__fish_ashctl_using_subcommand permission; and __fish_seen_subcommand_from show" -s o -l output -d 'How to print: for people, or the API\'s own objects' -r -f -a "table\t'Text and tables for people'
json\t'The API\'s own objects, as one JSON document; a stream as one JSON object a line'"
complete -c ashctl -n "__fish_ashctl_using_subcommand permission; and __fish_seen_subcommand_from show" -l server -d 'The daemon: http://HOST:PORT, https://HOST or unix:/PATH [default: unix:/run/ash/ash.sock]' -r -f
complete -c ashctl -n "__fish_ashctl_using_subcommand permission; and __fish_seen_subcommand_from show" -l api-key -d 'The API key for a daemon on the network; better in the environment, as others see arguments' -r
complete -c ashctl -n "__fish_ashctl_using_subcommand permission; and __fish_seen_subcommand_from show" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c ashctl -n "__fish_ashctl_using_subcommand permission; and __fish_seen_subcommand_from allow" -s i -l input -d 'What the tool gets in place of what it asked with: JSON, or @FILE' -r
complete -c ashctl -n "__fish_ashctl_using_subcommand permission; and __fish_seen_subcommand_from allow" -s a -l answer -d 'The answer to a question' -r
complete -c ashctl -n "__fish_ashctl_using_subcommand permission; and __fish_seen_subcommand_from allow" -s o -l output -d 'How to print: for people, or the API\'s own objects' -r -f -a "table\t'Text and tables for people'
json\t'The API\'s own objects, as one JSON document; a stream as one JSON object a line'"
complete -c ashctl -n "__fish_ashctl_using_subcommand permission; and __fish_seen_subcommand_from allow" -l server -d 'The daemon: http://HOST:PORT, https://HOST or unix:/PATH [default: unix:/run/ash/ash.sock]' -r -f
complete -c ashctl -n "__fish_ashctl_using_subcommand permission; and __fish_seen_subcommand_from allow" -l api-key -d 'The API key for a daemon on the network; better in the environment, as others see arguments' -r
complete -c ashctl -n "__fish_ashctl_using_subcommand permission; and __fish_seen_subcommand_from allow" -s s -l session -d 'For the rest of the session: everything that the request\'s rules cover'
complete -c ashctl -n "__fish_ashctl_using_subcommand permission; and __fish_seen_subcommand_from allow" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c ashctl -n "__fish_ashctl_using_subcommand permission; and __fish_seen_subcommand_from deny" -s m -l message -d 'What the agent is told' -r
complete -c ashctl -n "__fish_ashctl_using_subcommand permission; and __fish_seen_subcommand_from deny" -s o -l output -d 'How to print: for people, or the API\'s own objects' -r -f -a "table\t'Text and tables for people'
json\t'The API\'s own objects, as one JSON document; a stream as one JSON object a line'"
complete -c ashctl -n "__fish_ashctl_using_subcommand permission; and __fish_seen_subcommand_from deny" -l server -d 'The daemon: http://HOST:PORT, https://HOST or unix:/PATH [default: unix:/run/ash/ash.sock]' -r -f
complete -c ashctl -n "__fish_ashctl_using_subcommand permission; and __fish_seen_subcommand_from deny" -l api-key -d 'The API key for a daemon on the network; better in the environment, as others see arguments' -r
complete -c ashctl -n "__fish_ashctl_using_subcommand permission; and __fish_seen_subcommand_from deny" -l interrupt -d 'End the turn too'
complete -c ashctl -n "__fish_ashctl_using_subcommand permission; and __fish_seen_subcommand_from deny" -s h -l help -d 'Print help (see more with \'--help\')'
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
complete -c ashctl -n "__fish_ashctl_using_subcommand top" -s s -l sort -d 'What the largest has most of' -r -f -a "cpu\t'Processor time between two looks'
memory\t'Memory'
tasks\t'Processes and threads'
tokens\t'Tokens'
cost\t'US dollars'"
complete -c ashctl -n "__fish_ashctl_using_subcommand top" -l interval -d 'Seconds between two looks' -r
complete -c ashctl -n "__fish_ashctl_using_subcommand top" -s o -l output -d 'How to print: for people, or the API\'s own objects' -r -f -a "table\t'Text and tables for people'
json\t'The API\'s own objects, as one JSON document; a stream as one JSON object a line'"
complete -c ashctl -n "__fish_ashctl_using_subcommand top" -l server -d 'The daemon: http://HOST:PORT, https://HOST or unix:/PATH [default: unix:/run/ash/ash.sock]' -r -f
complete -c ashctl -n "__fish_ashctl_using_subcommand top" -l api-key -d 'The API key for a daemon on the network; better in the environment, as others see arguments' -r
complete -c ashctl -n "__fish_ashctl_using_subcommand top" -l once -d 'Print it once'
complete -c ashctl -n "__fish_ashctl_using_subcommand top" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c ashctl -n "__fish_ashctl_using_subcommand logs" -s n -l lines -d 'Only the newest lines' -r
complete -c ashctl -n "__fish_ashctl_using_subcommand logs" -s o -l output -d 'How to print: for people, or the API\'s own objects' -r -f -a "table\t'Text and tables for people'
json\t'The API\'s own objects, as one JSON document; a stream as one JSON object a line'"
complete -c ashctl -n "__fish_ashctl_using_subcommand logs" -l server -d 'The daemon: http://HOST:PORT, https://HOST or unix:/PATH [default: unix:/run/ash/ash.sock]' -r -f
complete -c ashctl -n "__fish_ashctl_using_subcommand logs" -l api-key -d 'The API key for a daemon on the network; better in the environment, as others see arguments' -r
complete -c ashctl -n "__fish_ashctl_using_subcommand logs" -s f -l follow -d 'Go on printing what comes'
complete -c ashctl -n "__fish_ashctl_using_subcommand logs" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c ashctl -n "__fish_ashctl_using_subcommand security" -l require -d 'Fail unless it is confined so' -r -f -a "strict\t'By every wall'"
complete -c ashctl -n "__fish_ashctl_using_subcommand security" -s o -l output -d 'How to print: for people, or the API\'s own objects' -r -f -a "table\t'Text and tables for people'
json\t'The API\'s own objects, as one JSON document; a stream as one JSON object a line'"
complete -c ashctl -n "__fish_ashctl_using_subcommand security" -l server -d 'The daemon: http://HOST:PORT, https://HOST or unix:/PATH [default: unix:/run/ash/ash.sock]' -r -f
complete -c ashctl -n "__fish_ashctl_using_subcommand security" -l api-key -d 'The API key for a daemon on the network; better in the environment, as others see arguments' -r
complete -c ashctl -n "__fish_ashctl_using_subcommand security" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c ashctl -n "__fish_ashctl_using_subcommand doctor" -s o -l output -d 'How to print: for people, or the API\'s own objects' -r -f -a "table\t'Text and tables for people'
json\t'The API\'s own objects, as one JSON document; a stream as one JSON object a line'"
complete -c ashctl -n "__fish_ashctl_using_subcommand doctor" -l server -d 'The daemon: http://HOST:PORT, https://HOST or unix:/PATH [default: unix:/run/ash/ash.sock]' -r -f
complete -c ashctl -n "__fish_ashctl_using_subcommand doctor" -l api-key -d 'The API key for a daemon on the network; better in the environment, as others see arguments' -r
complete -c ashctl -n "__fish_ashctl_using_subcommand doctor" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c ashctl -n "__fish_ashctl_using_subcommand gc" -s o -l output -d 'How to print: for people, or the API\'s own objects' -r -f -a "table\t'Text and tables for people'
json\t'The API\'s own objects, as one JSON document; a stream as one JSON object a line'"
complete -c ashctl -n "__fish_ashctl_using_subcommand gc" -l server -d 'The daemon: http://HOST:PORT, https://HOST or unix:/PATH [default: unix:/run/ash/ash.sock]' -r -f
complete -c ashctl -n "__fish_ashctl_using_subcommand gc" -l api-key -d 'The API key for a daemon on the network; better in the environment, as others see arguments' -r
complete -c ashctl -n "__fish_ashctl_using_subcommand gc" -s n -l dry-run -d 'Only show what would be removed'
complete -c ashctl -n "__fish_ashctl_using_subcommand gc" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c ashctl -n "__fish_ashctl_using_subcommand credential; and not __fish_seen_subcommand_from create list ls update delete rotate-master" -s o -l output -d 'How to print: for people, or the API\'s own objects' -r -f -a "table\t'Text and tables for people'
json\t'The API\'s own objects, as one JSON document; a stream as one JSON object a line'"
complete -c ashctl -n "__fish_ashctl_using_subcommand credential; and not __fish_seen_subcommand_from create list ls update delete rotate-master" -l server -d 'The daemon: http://HOST:PORT, https://HOST or unix:/PATH [default: unix:/run/ash/ash.sock]' -r -f
complete -c ashctl -n "__fish_ashctl_using_subcommand credential; and not __fish_seen_subcommand_from create list ls update delete rotate-master" -l api-key -d 'The API key for a daemon on the network; better in the environment, as others see arguments' -r
complete -c ashctl -n "__fish_ashctl_using_subcommand credential; and not __fish_seen_subcommand_from create list ls update delete rotate-master" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c ashctl -n "__fish_ashctl_using_subcommand credential; and not __fish_seen_subcommand_from create list ls update delete rotate-master" -f -a "create" -d 'Keep a secret from standard input, and print the id under which sessions are given it'
complete -c ashctl -n "__fish_ashctl_using_subcommand credential; and not __fish_seen_subcommand_from create list ls update delete rotate-master" -f -a "list" -d 'List credentials, without their secrets'
complete -c ashctl -n "__fish_ashctl_using_subcommand credential; and not __fish_seen_subcommand_from create list ls update delete rotate-master" -f -a "ls" -d 'List credentials, without their secrets'
complete -c ashctl -n "__fish_ashctl_using_subcommand credential; and not __fish_seen_subcommand_from create list ls update delete rotate-master" -f -a "update" -d 'Change a credential'
complete -c ashctl -n "__fish_ashctl_using_subcommand credential; and not __fish_seen_subcommand_from create list ls update delete rotate-master" -f -a "delete" -d 'Forget credentials'
complete -c ashctl -n "__fish_ashctl_using_subcommand credential; and not __fish_seen_subcommand_from create list ls update delete rotate-master" -f -a "rotate-master" -d 'Make a new master key, and seal all credentials under it'
complete -c ashctl -n "__fish_ashctl_using_subcommand credential; and __fish_seen_subcommand_from create" -s l -l label -d 'What to call it' -r
complete -c ashctl -n "__fish_ashctl_using_subcommand credential; and __fish_seen_subcommand_from create" -s o -l output -d 'How to print: for people, or the API\'s own objects' -r -f -a "table\t'Text and tables for people'
json\t'The API\'s own objects, as one JSON document; a stream as one JSON object a line'"
complete -c ashctl -n "__fish_ashctl_using_subcommand credential; and __fish_seen_subcommand_from create" -l server -d 'The daemon: http://HOST:PORT, https://HOST or unix:/PATH [default: unix:/run/ash/ash.sock]' -r -f
complete -c ashctl -n "__fish_ashctl_using_subcommand credential; and __fish_seen_subcommand_from create" -l api-key -d 'The API key for a daemon on the network; better in the environment, as others see arguments' -r
complete -c ashctl -n "__fish_ashctl_using_subcommand credential; and __fish_seen_subcommand_from create" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c ashctl -n "__fish_ashctl_using_subcommand credential; and __fish_seen_subcommand_from list" -s o -l output -d 'How to print: for people, or the API\'s own objects' -r -f -a "table\t'Text and tables for people'
json\t'The API\'s own objects, as one JSON document; a stream as one JSON object a line'"
complete -c ashctl -n "__fish_ashctl_using_subcommand credential; and __fish_seen_subcommand_from list" -l server -d 'The daemon: http://HOST:PORT, https://HOST or unix:/PATH [default: unix:/run/ash/ash.sock]' -r -f
complete -c ashctl -n "__fish_ashctl_using_subcommand credential; and __fish_seen_subcommand_from list" -l api-key -d 'The API key for a daemon on the network; better in the environment, as others see arguments' -r
complete -c ashctl -n "__fish_ashctl_using_subcommand credential; and __fish_seen_subcommand_from list" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c ashctl -n "__fish_ashctl_using_subcommand credential; and __fish_seen_subcommand_from ls" -s o -l output -d 'How to print: for people, or the API\'s own objects' -r -f -a "table\t'Text and tables for people'
json\t'The API\'s own objects, as one JSON document; a stream as one JSON object a line'"
complete -c ashctl -n "__fish_ashctl_using_subcommand credential; and __fish_seen_subcommand_from ls" -l server -d 'The daemon: http://HOST:PORT, https://HOST or unix:/PATH [default: unix:/run/ash/ash.sock]' -r -f
complete -c ashctl -n "__fish_ashctl_using_subcommand credential; and __fish_seen_subcommand_from ls" -l api-key -d 'The API key for a daemon on the network; better in the environment, as others see arguments' -r
complete -c ashctl -n "__fish_ashctl_using_subcommand credential; and __fish_seen_subcommand_from ls" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c ashctl -n "__fish_ashctl_using_subcommand credential; and __fish_seen_subcommand_from update" -s l -l label -d 'What to call it' -r
complete -c ashctl -n "__fish_ashctl_using_subcommand credential; and __fish_seen_subcommand_from update" -s o -l output -d 'How to print: for people, or the API\'s own objects' -r -f -a "table\t'Text and tables for people'
json\t'The API\'s own objects, as one JSON document; a stream as one JSON object a line'"
complete -c ashctl -n "__fish_ashctl_using_subcommand credential; and __fish_seen_subcommand_from update" -l server -d 'The daemon: http://HOST:PORT, https://HOST or unix:/PATH [default: unix:/run/ash/ash.sock]' -r -f
complete -c ashctl -n "__fish_ashctl_using_subcommand credential; and __fish_seen_subcommand_from update" -l api-key -d 'The API key for a daemon on the network; better in the environment, as others see arguments' -r
complete -c ashctl -n "__fish_ashctl_using_subcommand credential; and __fish_seen_subcommand_from update" -l key -d 'Read another secret from standard input; sandboxes that start from then on are given it'
complete -c ashctl -n "__fish_ashctl_using_subcommand credential; and __fish_seen_subcommand_from update" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c ashctl -n "__fish_ashctl_using_subcommand credential; and __fish_seen_subcommand_from delete" -s o -l output -d 'How to print: for people, or the API\'s own objects' -r -f -a "table\t'Text and tables for people'
json\t'The API\'s own objects, as one JSON document; a stream as one JSON object a line'"
complete -c ashctl -n "__fish_ashctl_using_subcommand credential; and __fish_seen_subcommand_from delete" -l server -d 'The daemon: http://HOST:PORT, https://HOST or unix:/PATH [default: unix:/run/ash/ash.sock]' -r -f
complete -c ashctl -n "__fish_ashctl_using_subcommand credential; and __fish_seen_subcommand_from delete" -l api-key -d 'The API key for a daemon on the network; better in the environment, as others see arguments' -r
complete -c ashctl -n "__fish_ashctl_using_subcommand credential; and __fish_seen_subcommand_from delete" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c ashctl -n "__fish_ashctl_using_subcommand credential; and __fish_seen_subcommand_from rotate-master" -l file -d 'The file of the master key' -r -F
complete -c ashctl -n "__fish_ashctl_using_subcommand credential; and __fish_seen_subcommand_from rotate-master" -s o -l output -d 'How to print: for people, or the API\'s own objects' -r -f -a "table\t'Text and tables for people'
json\t'The API\'s own objects, as one JSON document; a stream as one JSON object a line'"
complete -c ashctl -n "__fish_ashctl_using_subcommand credential; and __fish_seen_subcommand_from rotate-master" -l server -d 'The daemon: http://HOST:PORT, https://HOST or unix:/PATH [default: unix:/run/ash/ash.sock]' -r -f
complete -c ashctl -n "__fish_ashctl_using_subcommand credential; and __fish_seen_subcommand_from rotate-master" -l api-key -d 'The API key for a daemon on the network; better in the environment, as others see arguments' -r
complete -c ashctl -n "__fish_ashctl_using_subcommand credential; and __fish_seen_subcommand_from rotate-master" -s h -l help -d 'Print help (see more with \'--help\')'
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
