//! Manual pages and completions are those of the tree of commands. `ASH_UPDATE=1` writes them.
#![cfg(feature = "cli")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use ash::cli::args::{Cli, Shell};
use ash::cli::cmd::completion::script;
use ash::cli::exit::Exit;
use clap::{Command, CommandFactory as _};
use clap_mangen::Man;
use clap_mangen::roff::{Roff, bold, italic, roman};

const UPDATE: &str = "ASH_UPDATE=1 cargo test --no-default-features --features cli --test cli_generated";

#[test]
fn manual_pages_are_current() {
    compare(Path::new("man"), ".1", pages());
}

#[test]
fn completions_are_current() {
    let files = [(Shell::Bash, "ashctl.bash"), (Shell::Zsh, "_ashctl"), (Shell::Fish, "ashctl.fish")];
    let made = files.map(|(shell, file)| (file.to_owned(), script(shell).into_bytes()));
    compare(Path::new("packaging/completions"), "", made.into());
}

/// Compares what was made with the files of `folder` that end in `suffix`, in both directions.
fn compare(folder: &Path, suffix: &str, made: BTreeMap<String, Vec<u8>>) {
    let update = std::env::var_os("ASH_UPDATE").is_some();
    let files = fs::read_dir(folder).into_iter().flatten().map(|entry| entry.expect("an entry").path());
    let mut files: BTreeMap<String, PathBuf> = files
        .map(|path| (path.file_name().expect("a name").to_string_lossy().into_owned(), path))
        .filter(|(name, _)| name.ends_with(suffix))
        .collect();
    for (name, text) in made {
        let path = files.remove(&name).unwrap_or_else(|| folder.join(&name));
        if update {
            fs::create_dir_all(folder).expect("made");
            fs::write(&path, text).expect("written");
        } else {
            let current = fs::read(&path).is_ok_and(|found| found == text);
            assert!(current, "{} is not what the tree of commands gives; run: {UPDATE}", path.display());
        }
    }
    for (name, path) in files {
        if update {
            fs::remove_file(path).expect("removed");
        } else {
            panic!("{name} belongs to no command; run: {UPDATE}");
        }
    }
}

/// A page for each command, as git has them.
fn pages() -> BTreeMap<String, Vec<u8>> {
    let mut root = Cli::command();
    root.build();
    let mut made = BTreeMap::new();
    add(&root, "ashctl", &mut made);
    made
}

fn add(command: &Command, name: &str, made: &mut BTreeMap<String, Vec<u8>>) {
    made.insert(format!("{name}.1"), page(command, name));
    for inner in command.get_subcommands() {
        add(inner, &format!("{name}-{}", inner.get_name()), made);
    }
}

fn page(command: &Command, name: &str) -> Vec<u8> {
    let root = name == "ashctl";
    let mut command = command.clone().display_name(name.to_owned());
    if !root {
        // They stand in ashctl(1).
        let global: Vec<_> = command
            .get_arguments()
            .filter(|argument| argument.is_global_set())
            .map(|argument| argument.get_id().clone())
            .collect();
        for id in global {
            command = command.mut_arg(id, |argument| argument.hide(true));
        }
    }
    let mut page = Vec::new();
    let man =
        Man::new(command.clone()).title(name.to_uppercase()).source(concat!("ash ", env!("CARGO_PKG_VERSION"))).manual("Ash");
    let write = |result: std::io::Result<()>| result.expect("written to memory");
    write(man.render_title(&mut page));
    write(man.render_name_section(&mut page));
    write(man.render_synopsis_section(&mut page));
    write(man.render_description_section(&mut page));
    write(man.render_options_section(&mut page));
    if command.has_subcommands() {
        write(man.render_subcommands_section(&mut page));
    }
    let mut more = Roff::new();
    if root {
        environment(&mut more);
        exit_status(&mut more);
        files(&mut more);
    }
    examples(&mut more, name);
    more.control("SH", ["SEE ALSO"]);
    more.text([roman(if root {
        "ash(7), ash-agent(5), ash.toml(5), ashd(8)"
    } else {
        "ashctl(1), which also has the global options, ash(7)"
    })]);
    write(more.to_writer(&mut page));
    page
}

fn environment(page: &mut Roff) {
    page.control("SH", ["ENVIRONMENT"]);
    for (name, text) in [
        ("ASH_SERVER_URL", "The daemon, as --server names it. An option beats it."),
        ("ASH_API_KEY", "The API key, for a daemon on the network. An option beats it. It is never sent over a control socket."),
        ("ASH_CONTEXT", "The context that names the daemon, as --context does. ASH_SERVER_URL beats it."),
        ("ASHCTL_CONFIG", "The file of contexts, in place of the usual one."),
        ("ASH_CA_FILE", "A file with the only certificates to trust, as --ca names it. An option beats it."),
        ("NO_COLOR", "If set, nothing is coloured. What is not printed on a terminal never is."),
        ("VISUAL, EDITOR", "What edits files of a workspace, and the input of a tool before it is allowed. Else \"editor\"."),
        ("SYSTEMD_PAGER, PAGER", "What shows \"ashctl logs\" on a terminal. Else pager(1), less(1) or more(1); if empty, none."),
        ("SSL_CERT_FILE", "A file with the certificates to trust instead of those of the system, for https."),
    ] {
        page.control("TP", []);
        page.text([bold(name)]);
        page.text([roman(text)]);
    }
}

fn exit_status(page: &mut Roff) {
    page.control("SH", ["EXIT STATUS"]);
    for (exit, text) in Exit::TABLE {
        page.control("TP", []);
        page.text([bold(exit.code().to_string())]);
        page.text([roman(*text)]);
    }
    page.control("PP", []);
    page.text([roman("\"ashctl logs --output json\" ends as journalctl(1) does.")]);
}

fn files(page: &mut Roff) {
    page.control("SH", ["FILES"]);
    page.control("TP", []);
    page.text([italic(ash::client::connect::CONTROL_SOCKET)]);
    page.text([roman("The control socket of a daemon on this host. Root and the members of group ash may use it.")]);
    page.control("TP", []);
    page.text([italic("~/.config/ash/contexts.toml")]);
    page.text([roman(
        "Contexts, as \"ashctl context\" keeps them: \"current\" names the one in use, and each table contexts.NAME has \
         \"server\", and at most one of \"key\", \"key_file\" and \"key_command\", a line for the shell that prints the key. \
         With a key in it, nobody else may be able to read it. XDG_CONFIG_HOME moves it.",
    )]);
    page.control("TP", []);
    page.text([italic("~/.local/state/ash/chat_history")]);
    page.text([roman(
        "The last 1000 lines that were typed in chats, but for those that begin with a space. XDG_STATE_HOME moves it.",
    )]);
}

fn examples(page: &mut Roff, name: &str) {
    let examples: &[(&str, &str)] = match name {
        "ashctl" => &[
            ("Deploy a folder and talk to it:", "ashctl deploy ./hello\nashctl chat hello"),
            (
                "From another host:",
                "export ASH_SERVER_URL=https://ash.example.com ASH_API_KEY=ash_...\nashctl session list --output json | jq -r '.[].id'",
            ),
        ],
        "ashctl-chat" => &[
            ("Ask once, and keep the answer:", "ashctl chat hello \"What is in your workspace?\" > answer.txt"),
            ("Ask about a file:", "ashctl chat hello - < report.md"),
            ("Go on with the conversation:", "ashctl chat --last"),
        ],
        "ashctl-session-events" => {
            &[("Wait for the end of the turn that is running:", "ashctl session events ID --follow --types done | head -1")]
        }
        "ashctl-api" => &[
            ("Follow a session:", "ashctl api GET /api/sessions/ID/stream"),
            (
                "Start one, and tell its status and headers:",
                "ashctl api POST /api/sessions -f agent=hello -f 'limits:={\"memoryMb\":512}' -i",
            ),
        ],
        "ashctl-context" => &[
            (
                "Another host, whose key is in a keyring:",
                "ashctl context add prod https://ash.example.com --key-command 'secret-tool lookup ash prod' --use",
            ),
            ("This host for once:", "ashctl --server unix:/run/ash/ash.sock status"),
        ],
        "ashctl-permission" => &[
            ("What waits for an answer:", "ashctl permission list SESSION"),
            ("Answer a question:", "ashctl permission allow SESSION ID --answer 'Which colour?=blue'"),
        ],
        "ashctl-deploy" => &[("With a secret that stands in the environment here:", "ashctl deploy ./hello --env GITHUB_TOKEN")],
        "ashctl-key-create" => &[("Keep a new key in a variable:", "ASH_API_KEY=$(ashctl key create --label laptop)")],
        "ashctl-logs" => &[
            ("Follow the daemon:", "ashctl logs --follow"),
            ("All that belongs to a session:", "ashctl logs 0198c0de-0000-7000-8000-000000000001"),
        ],
        _ => return,
    };
    page.control("SH", ["EXAMPLES"]);
    for (text, line) in examples {
        page.control("PP", []);
        page.text([roman(*text)]);
        page.control("PP", []);
        page.control("RS", ["4"]);
        page.control("nf", []);
        for line in line.lines() {
            page.text([roman(line)]);
        }
        page.control("fi", []);
        page.control("RE", []);
    }
}
