//! What is inside a sandbox, and what is not.

use ash::link::shim::EndState;

use crate::support::{Host, KEY, KEY_PATTERN, Model, Shim, descendants, memory_has};

/// Runs a command inside and gives back its output.
async fn inside(host: &Host, shim: &Shim, model: &str, command: &str) -> String {
    let mut daemon = shim.ready(host, model).await;
    // As a file, so that nothing has to be escaped on its way.
    std::fs::write(host.path("state/workspace/commands"), command).expect("written");
    let (_, end) = daemon.turn("run: bash /work/commands").await;
    assert_eq!(end.state, EndState::Completed, "{command}: {end:?}");
    host.out()
}

#[tokio::test]
async fn a_sandbox_has_no_network_but_loopback_and_no_rights() {
    let host = Host::new();
    let shim = host.shim();
    let out = inside(
        &host,
        &shim,
        "http://127.0.0.1:1",
        "grep -c : /proc/net/dev; grep -o 'lo:' /proc/net/dev; cat /proc/net/route | wc -l; id -u; id -g; \
         grep -E '^(Cap|NoNewPrivs)' /proc/self/status; cat /proc/sys/kernel/hostname; pwd",
    )
    .await;
    let none = "0000000000000000";
    let wanted = format!(
        "1\nlo:\n1\n1000\n1000\nCapInh:\t{none}\nCapPrm:\t{none}\nCapEff:\t{none}\nCapBnd:\t{none}\nCapAmb:\t{none}\nNoNewPrivs:\t1\nagent\n/work\n"
    );
    assert_eq!(out, wanted);
}

#[tokio::test]
async fn a_sandbox_can_write_only_where_it_may() {
    let host = Host::new();
    let shim = host.shim();
    let try_each = "for p in / /usr /etc /opt/claude /opt/ash /run /home /work /home/agent /tmp; do \
                    touch $p/probe 2>/dev/null && echo $p; done";
    assert_eq!(inside(&host, &shim, "http://127.0.0.1:1", try_each).await, "/work\n/home/agent\n/tmp\n");
    assert!(host.path("state/workspace/probe").exists() && host.path("state/home/probe").exists());
    let size = inside(&host, &shim, "http://127.0.0.1:1", "df --output=size -B1 /tmp | tail -n 1").await;
    assert_eq!(size.trim(), (64 << 20).to_string());
}

#[tokio::test]
async fn a_sandbox_can_not_make_another_user_namespace() {
    let host = Host::new();
    let shim = host.shim();
    let out = inside(&host, &shim, "http://127.0.0.1:1", "unshare --user true; echo $?").await;
    assert!(out.ends_with("\n1\n"), "{out}");
}

#[tokio::test]
async fn init_and_its_memory_are_closed_to_what_runs_inside() {
    let host = Host::new();
    let shim = host.shim();
    let out = inside(
        &host,
        &shim,
        "http://127.0.0.1:1",
        "cat /proc/1/cmdline; echo; cat /proc/1/environ 2>&1; ls /proc/1/fd 2>&1; echo $(ls /proc/self/fd)",
    )
    .await;
    let lines: Vec<_> = out.lines().collect();
    assert_eq!(lines[0], "/opt/ash/ash-init\0serve\0");
    assert!(lines[1].ends_with("Permission denied") && lines[2].contains("Permission denied"), "{out}");
    assert_eq!(lines[3].trim(), "0 1 2 3", "nothing but standard streams (3 is the folder being listed)");
}

#[tokio::test]
async fn the_environment_is_the_allow_list_and_the_key_is_nowhere() {
    let host = Host::new();
    let model = Model::start(&["--require-key", KEY]);
    let shim = host.shim();
    let out = inside(&host, &shim, &model.url, "echo $(env | cut -d= -f1 | sort | grep -vE '^(_|PWD|OLDPWD|SHLVL)$')").await;
    let wanted = "ALL_PROXY ANTHROPIC_API_KEY ANTHROPIC_BASE_URL CLAUDE_CODE_DISABLE_AUTO_MEMORY CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC \
                  CLAUDE_CODE_EMIT_SESSION_STATE_EVENTS CLAUDE_CODE_MAX_RETRIES DISABLE_AUTOUPDATER DISABLE_ERROR_REPORTING \
                  DISABLE_TELEMETRY HOME HTTPS_PROXY HTTP_PROXY LANG LOGNAME MINE NODE_USE_ENV_PROXY NO_PROXY PATH SHELL TERM \
                  USER all_proxy http_proxy https_proxy no_proxy";
    assert_eq!(out.trim(), wanted);
    // The key works from inside, and yet is not there.
    let call = r#"exec 3<>/dev/tcp/127.0.0.1/4000
b='{"model":"m","messages":[{"role":"user","content":"auth?"}]}'
printf 'POST /v1/messages HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: %s\r\n\r\n%s' ${#b} "$b" >&3
head -n 1 <&3
"#;
    let search = format!(
        "echo $(grep -rl {KEY_PATTERN} /work /home /tmp /etc /run /dev/shm 2>/dev/null)
         echo $(cat /proc/[0-9]*/environ /proc/[0-9]*/cmdline 2>/dev/null | grep -ac {KEY_PATTERN})"
    );
    let out = inside(&host, &shim, &model.url, &format!("{call}{search}")).await;
    let lines: Vec<_> = out.lines().map(str::trim).collect();
    assert_eq!(lines, ["HTTP/1.1 200 OK", "", "0"], "{out}");
    for pid in descendants(i32::try_from(shim.child.0.id()).expect("a pid")) {
        assert!(!memory_has(pid, KEY), "{pid} has it in memory");
    }
    // Nor does the shim show it to the host.
    let pid = shim.child.0.id();
    for file in ["cmdline", "environ"] {
        let shown = std::fs::read(format!("/proc/{pid}/{file}")).unwrap_or_default();
        assert!(!String::from_utf8_lossy(&shown).contains(KEY));
    }
    assert!(!shim.log().contains(KEY));
}
