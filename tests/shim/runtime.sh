#!/bin/bash
# A stand-in for the runtime: speaks enough of its language to test a shim without it.
#
# The text of a message says what to do:
#   run: COMMAND    runs it (output in /work/out), then answers "ran"
#   die: N          exits with status N, saying why on standard error
#   kill:           dies by SIGKILL in the middle of the turn
#   garbage:        writes a line that is not JSON
#   deaf:           begins a turn and ends it only when told, never by an interrupt
#   flood: N        answers with N lines of 64 KiB before the result
#   anything else   is answered as it came
set -u
session=$(printf '%s\n' "$@" | sed -n 's/^--\(session-id\|resume\)=//p')

say() { printf '%s\n' "$1"; }
init() { say "{\"type\":\"system\",\"subtype\":\"init\",\"session_id\":\"$session\",\"mcp_servers\":[]}"; }
lifecycle() { say "{\"type\":\"command_lifecycle\",\"command_uuid\":\"$1\",\"state\":\"$2\"}"; }
answer() {
    say "{\"type\":\"assistant\",\"message\":{\"role\":\"assistant\",\"content\":[{\"type\":\"text\",\"text\":\"$2\"}]}}"
    say "{\"type\":\"result\",\"subtype\":\"success\",\"is_error\":false,\"num_turns\":1,\"result\":\"$2\",\"user_message_uuids\":[\"$1\"]}"
    lifecycle "$1" completed
}

if [ -e /work/no-start ]; then
    echo "error: unknown option '--nonsense'" >&2
    exit 1
fi

while IFS= read -r line; do
    case $line in
    *'"initialize"'*)
        say '{"type":"control_response","response":{"subtype":"success","request_id":"initialize","response":{"claude_code_version":"0.0.0"}}}'
        continue
        ;;
    *control_request*) continue ;;
    esac
    [[ $line =~ \"uuid\":\"([0-9a-f-]+)\" ]] && uuid=${BASH_REMATCH[1]}
    [[ $line =~ \"content\":\"(.*)\"\}\}$ ]] && text=${BASH_REMATCH[1]}
    lifecycle "$uuid" queued
    lifecycle "$uuid" started
    init
    case $text in
    run:*)
        bash -c "${text#run:}" >/work/out 2>&1
        answer "$uuid" ran
        ;;
    die:*)
        echo "cannot go on" >&2
        exit "${text#die: }"
        ;;
    kill:*) kill -KILL $$ ;;
    garbage:*) say 'garbage' ;;
    deaf:*)
        echo deaf >/work/out
        while [ ! -e /work/hear ]; do read -r -t 0.05 _; done
        answer "$uuid" heard
        ;;
    flood:*)
        filler=$(head -c 65536 /dev/zero | tr '\0' x)
        for ((i = 0; i < ${text#flood: }; i++)); do say "{\"type\":\"filler\",\"i\":$i,\"x\":\"$filler\"}"; done
        answer "$uuid" flooded
        ;;
    *) answer "$uuid" "$text" ;;
    esac
done
