//! Lines that parse, and lines that do not.

use super::*;
use clap::CommandFactory as _;
use clap::error::ErrorKind;

#[test]
fn the_tree_is_sound() {
    Cli::command().debug_assert();
}

fn parse(line: &str) -> Result<Cli, ErrorKind> {
    Cli::try_parse_from(line.split_whitespace()).map_err(|error| error.kind())
}

#[test]
fn every_command_parses() {
    let id = crate::wire::SessionId::new();
    for line in [
        "ashctl deploy .".to_owned(),
        "ashctl deploy dir --name qa-bot -e A=1 -e B --output json".to_owned(),
        "ashctl chat hello".to_owned(),
        "ashctl chat hello what is this -m opus --end".to_owned(),
        format!("ashctl chat --session {id} go on"),
        "ashctl session show 0198c0de".to_owned(),
        "ashctl session end @last 0198C0DE00007".to_owned(),
        "ashctl chat --last --raw".to_owned(),
        "ashctl session create hello -e A=1".to_owned(),
        "ashctl session ls --status active -n 3".to_owned(),
        format!("ashctl session show {id} --messages"),
        format!("ashctl session send {id} hi"),
        format!("ashctl session end {id} {id}"),
        format!("ashctl session pause {id}"),
        format!("ashctl session stop {id} {id}"),
        format!("ashctl session resume {id}"),
        format!("ashctl session fork {id} --at 12"),
        format!("ashctl session rewind {id} --to 12 --interrupt"),
        format!("ashctl session snapshots {id} --take"),
        "ashctl agent list -o json".to_owned(),
        "ashctl schedule create hello report -c daily --catch-up all --overlap queue --jitter 60".to_owned(),
        "ashctl schedule edit @last --timezone Europe/Berlin".to_owned(),
        "ashctl schedule run 0198c0de --wait".to_owned(),
        "ashctl agent delete hello -y".to_owned(),
        "ashctl agent version ls hello -n 3".to_owned(),
        format!("ashctl attachment add {id} a.pdf b --type text/plain"),
        format!("ashctl attachment ls {id}"),
        format!("ashctl session send {id} -a a.pdf --attach b look"),
        "ashctl chat hello look --attach a.pdf".to_owned(),
        format!("ashctl attachment get {id} a.pdf"),
        format!("ashctl attachment add {id} --copy {id}"),
        "ashctl project-file add a.pdf b --ttl 7d".to_owned(),
        format!("ashctl project-file url {id} --expires 10m"),
        format!("ashctl attachment rm {id} {id}"),
        "ashctl agent version create hello --prompt @prompt.md --file a.md --file b.md --activate".to_owned(),
        format!("ashctl agent version create hello --from {id} --notes better"),
        "ashctl agent version show hello 2".to_owned(),
        "ashctl agent version edit hello 2 --name best".to_owned(),
        "ashctl agent version activate hello 2".to_owned(),
        "ashctl agent version deactivate hello 2".to_owned(),
        format!("ashctl agent version delete hello 2 {id}"),
        "ashctl --server http://host:1 --api-key k status".to_owned(),
        "ashctl logs -f -n 20".to_owned(),
        format!("ashctl logs {id}"),
        "ashctl usage --agent hello --since 7d --until 2026-01-31 --by session".to_owned(),
        format!("ashctl queue add hello do this -s {id} -p 3 --retries 0 --wait"),
        "ashctl queue ls --status failed -n 10".to_owned(),
        format!("ashctl queue show {id} -w"),
        format!("ashctl queue result {id} --wait"),
        format!("ashctl queue cancel {id} {id} --force"),
        "ashctl queue stats".to_owned(),
        "ashctl doctor".to_owned(),
        "ashctl gc".to_owned(),
        "ashctl gc --dry-run".to_owned(),
        "ashctl key create --label ci".to_owned(),
        "ashctl key create --scope read,run --scope deploy --expires 30d --agent qa --tenant shop".to_owned(),
        "ashctl key list --tenant shop".to_owned(),
        "ashctl audit --action key.create --since 2h -n 5 --by uid:0".to_owned(),
        format!("ashctl key revoke {id}"),
        "ashctl completion zsh".to_owned(),
        "ashctl chat hello --permission-mode acceptEdits".to_owned(),
        "ashctl session create hello --permission-mode accept-edits".to_owned(),
        format!("ashctl session events {id} -f --after 3 --types done,error --no-deltas"),
        format!("ashctl turn list {id} --state queued"),
        format!("ashctl turn show {id} {id}"),
        format!("ashctl turn cancel {id} {id}"),
        format!("ashctl turn interrupt {id}"),
        format!("ashctl permission ls {id} --all"),
        format!("ashctl permission show {id} {id}"),
        format!("ashctl permission allow {id} {id} --session"),
        format!("ashctl permission allow {id} {id} --answer Which?=blue --answer Where?=here"),
        format!("ashctl permission deny {id} {id} -m no --interrupt"),
    ] {
        assert!(parse(&line).is_ok(), "{line}");
    }
}

#[test]
fn mistakes_are_found_before_anything_is_sent() {
    for (line, kind) in [
        ("ashctl frobnicate", ErrorKind::InvalidSubcommand),
        ("ashctl chat --session x", ErrorKind::ValueValidation),
        ("ashctl session show", ErrorKind::MissingRequiredArgument),
        ("ashctl session end", ErrorKind::MissingRequiredArgument),
        ("ashctl agent version edit hello 2", ErrorKind::MissingRequiredArgument),
        ("ashctl agent version show hello two", ErrorKind::ValueValidation),
        ("ashctl session list --status sleepy", ErrorKind::InvalidValue),
        ("ashctl session list -n 0", ErrorKind::ValueValidation),
        ("ashctl --output xml status", ErrorKind::InvalidValue),
        ("ashctl logs _UID=0", ErrorKind::ValueValidation),
        ("ashctl session show 019", ErrorKind::ValueValidation),
        ("ashctl session show last", ErrorKind::ValueValidation),
        ("ashctl completion tcsh", ErrorKind::InvalidValue),
        ("ashctl key revoke ../..", ErrorKind::ValueValidation),
        ("ashctl key create --scope write", ErrorKind::ValueValidation),
        ("ashctl audit --action key.steal", ErrorKind::ValueValidation),
        ("ashctl chat hello --permission-mode maybe", ErrorKind::InvalidValue),
        ("ashctl chat --last --permission-mode ask", ErrorKind::ArgumentConflict),
        ("ashctl turn list 0198c0de-0000-7000-8000-000000000001 --state over", ErrorKind::InvalidValue),
        ("ashctl session events 0198c0de-0000-7000-8000-000000000001 --after=-1", ErrorKind::ValueValidation),
    ] {
        assert_eq!(parse(line).err(), Some(kind), "{line}");
    }
}
