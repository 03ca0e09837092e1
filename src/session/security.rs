//! What confines a session, told wall by wall, and the gate for those that are not confined enough.
//!
//! Of a sandbox that has processes it is told what its shim says: what the kernel has on it, and what
//! bubblewrap was started without. Of the next one it is told what it would be made with.

use std::collections::{BTreeMap, BTreeSet};

use nix::unistd::Uid;

use super::driver::Request;
use super::limits::{of as limits_of, of_unit};
use super::open::{KEY_VARIABLE, version};
use super::{Context, SessionError, Sessions, egress};
use crate::agent::manifest::{INSTALL, STARTUP};
use crate::config::settings::Require;
use crate::crypt::env::KeptEnv;
use crate::link::shim::Confined;
use crate::sandbox::Limits;
use crate::store::{SessionRow, StoreError};
use crate::wire::SessionId;
use crate::wire::egress::{Entry, List};
use crate::wire::security::{Of, SecurityBody, Wall, WallState};
use crate::wire::weakness::Weakness;

/// Names of variables that are told; more are counted.
const NAMES_MAX: usize = 20;
/// The wall on which none of the others stands: its profile only gives what other hosts give anyway.
const OPTIONAL: &str = "apparmor";

/// A sandbox that has processes, and what its shim tells of it, if it does.
#[derive(Debug, Clone)]
pub struct Made(pub Option<Box<Confined>>);

/// All that is judged.
#[derive(Debug)]
struct Facts {
    without: Vec<Weakness>,
    /// `None`: not known, or not there yet.
    confined: Option<Box<Confined>>,
    daemon: u32,
    limits: Limits,
    /// Whether the file system holds it to its disk, too.
    quota: bool,
    tmp_bytes: u64,
    /// What the launcher does not enforce, and the host does not have.
    lacks: Vec<String>,
    allow: List,
    /// Scripts of the agent that may reach something else, and what.
    scripts: Vec<(&'static str, List)>,
    /// Names of the session's variables.
    variables: Vec<String>,
    /// Whether it has a credential of its tenant.
    has_credential: bool,
    /// Hosts that a credential is bound to.
    bound: Vec<String>,
}

impl Sessions {
    /// What confines a session.
    pub async fn security(&self, tenant: &str, id: SessionId) -> Result<SecurityBody, SessionError> {
        let row = self.get(tenant, id).await?;
        let made = self.ask(&row, |reply| Request::Made { reply }).await?;
        let walls = judge(&facts(&self.context, &row, made.clone()).await?);
        let of = if made.is_some() { Of::Running } else { Of::Next };
        Ok(SecurityBody { session_id: id, of, strict: is_strict(&walls), walls })
    }
}

/// Refuses a session whose next sandbox would lack a wall that is required.
pub async fn admit(context: &Context, session: &SessionRow) -> Result<(), SessionError> {
    if context.settings.require == Require::Accepted {
        return Ok(());
    }
    let walls = judge(&facts(context, session, None).await?);
    if is_strict(&walls) {
        return Ok(());
    }
    let lacking = walls.iter().filter(|wall| !stands(wall)).map(|wall| format!("{}: {}", wall.name, wall.detail));
    Err(SessionError::Weak(lacking.collect::<Vec<_>>().join("; ")))
}

fn is_strict(walls: &[Wall]) -> bool {
    walls.iter().all(stands)
}

fn stands(wall: &Wall) -> bool {
    wall.state == WallState::Ok || wall.name == OPTIONAL
}

async fn facts(context: &Context, session: &SessionRow, made: Option<Made>) -> Result<Facts, SessionError> {
    let settings = &context.settings;
    let confined = made.and_then(|Made(confined)| confined);
    let mut lacks = context.launcher.lacks();
    // A launcher that does not answer is told of elsewhere, and no sandbox is started without one.
    let quota = context.launcher.quota(Some(session.sandbox)).await.unwrap_or(false);
    let without = match confined.as_ref().and_then(|confined| confined.without.clone()) {
        Some(without) => without,
        None => settings.walls.weaknesses().await.unwrap_or_else(|error| {
            lacks.push(error.to_string());
            Vec::new()
        }),
    };
    // An agent whose files are missing narrows nothing, and starts nothing either.
    let version = version(context, &session.agent, &session.digest).ok();
    let definition = version.as_ref().and_then(|version| version.definition().ok()).unwrap_or_default();
    let has = |script| version.as_ref().is_some_and(|version| version.has_file(script));
    let scripts = [(INSTALL, definition.install.egress), (STARTUP, definition.startup.egress)];
    let scripts = scripts.into_iter().filter(|(script, _)| has(script));
    let scripts = scripts.filter_map(|(script, list)| Some((script, list?))).collect();
    Ok(Facts {
        without,
        confined,
        daemon: Uid::effective().as_raw(),
        limits: of_unit(&limits_of(context, session)),
        quota,
        tmp_bytes: settings.tmp_bytes,
        lacks,
        allow: egress::of(context, session).allow,
        scripts,
        variables: variables(context, session, definition.env).await?,
        has_credential: session.config.credential_id.is_some(),
        bound: session.config.bindings.iter().flatten().map(|(_, binding)| binding.host.clone()).collect(),
    })
}

/// The names of the variables that agent, deploy and session set. That of the model's key reaches no sandbox.
async fn variables(context: &Context, session: &SessionRow, file: BTreeMap<String, String>) -> Result<Vec<String>, StoreError> {
    let deploy = match context.store.get_agent(&session.tenant, &session.agent).await {
        Ok(agent) => agent.env,
        Err(StoreError::NotFound(_)) => KeptEnv::default(),
        Err(error) => return Err(error),
    };
    let kept = [deploy.names(), session.extra_env.names()].concat();
    let names: BTreeSet<_> = file.into_keys().chain(kept.into_iter().map(str::to_owned)).collect();
    Ok(names.into_iter().filter(|name| name != KEY_VARIABLE).collect())
}

/// How each wall stands. Pure.
fn judge(facts: &Facts) -> Vec<Wall> {
    let mut walls = vec![
        user(facts),
        namespaces(&facts.without),
        ok("network", "none but a loopback of its own; the proxy of its shim is the only way out"),
        calls(facts),
        proc(&facts.without),
        files(facts),
        apparmor(facts.confined.as_deref()),
        limits(facts),
        reach(facts),
        credentials(facts),
    ];
    if !facts.lacks.is_empty() {
        walls.push(wall("host", WallState::Weak, facts.lacks.join("; ")));
    }
    walls
}

fn user(facts: &Facts) -> Wall {
    const NAME: &str = "user";
    let Some(Confined { uid, capabilities, no_new_privileges, .. }) = facts.confined.as_deref() else {
        return ok(NAME, "a user of its own, without a capability, that can gain none");
    };
    let flaws = [
        (*uid == 0).then(|| "it runs as root".to_owned()),
        (*uid == facts.daemon && *uid != 0).then(|| "it runs as the user of the daemon".to_owned()),
        (*capabilities != 0).then(|| format!("it could have the capabilities {capabilities:#x}")),
        (!no_new_privileges).then(|| "programs that it starts may gain rights".to_owned()),
    ];
    let flaws: Vec<_> = flaws.into_iter().flatten().collect();
    if flaws.is_empty() {
        return ok(NAME, format!("uid {uid}, without a capability, and no program can gain one"));
    }
    wall(NAME, WallState::Weak, format!("uid {uid}: {}", flaws.join(", ")))
}

fn namespaces(without: &[Weakness]) -> Wall {
    const NAME: &str = "namespaces";
    let flaws = [
        (Weakness::NoCgroupNamespace, "it sees where it stands among the units of the host"),
        (Weakness::NoUsernsLimit, "only the filter of system calls keeps it from making further ones"),
    ];
    let flaws: Vec<_> = flaws.into_iter().filter(|(weakness, _)| without.contains(weakness)).map(|(_, said)| said).collect();
    if flaws.is_empty() {
        return ok(NAME, "user, mount, pid, ipc, uts, cgroup and network are its own, and it can make no further ones");
    }
    wall(NAME, WallState::Weak, flaws.join(", "))
}

fn calls(facts: &Facts) -> Wall {
    const NAME: &str = "system-calls";
    if facts.without.contains(&Weakness::NoSeccomp) {
        return wall(NAME, WallState::Off, "it may make every call of the kernel");
    }
    match &facts.confined {
        Some(confined) if !confined.seccomp => {
            wall(NAME, WallState::Weak, "what runs inside may make those of a list, but its shim may make all")
        }
        _ => ok(NAME, "only those of a list: no further namespaces, mounts, modules, keyrings, io_uring, bpf"),
    }
}

fn proc(without: &[Weakness]) -> Wall {
    const NAME: &str = "proc";
    if without.contains(&Weakness::Ptrace) {
        return wall(NAME, WallState::Weak, "debuggers work: a tool can change what the runtime says");
    }
    ok(NAME, "read-only, closed where it is about the host, and no process can trace another")
}

fn files(facts: &Facts) -> Wall {
    let tmp = crate::wire::quantity::ByteCount(facts.tmp_bytes);
    ok("files", format!("workspace, HOME and a /tmp of {tmp} can be written; /usr of the host can be read, and no more of it"))
}

fn apparmor(confined: Option<&Confined>) -> Wall {
    match confined.map(|confined| confined.apparmor.as_deref()) {
        None => ok(OPTIONAL, "the profile ash-shim, where this host has it"),
        Some(Some(profile)) => ok(OPTIONAL, format!("the profile {profile}")),
        Some(None) => wall(OPTIONAL, WallState::Off, "no profile; no other wall depends on it"),
    }
}

fn limits(facts: &Facts) -> Wall {
    const NAME: &str = "limits";
    let Limits { memory, cpu, tasks, disk, .. } = facts.limits;
    let kernel = format!("memory {memory}, processors {cpu}, {tasks} processes");
    if facts.confined.as_ref().is_some_and(|confined| !confined.counts_disk) {
        return wall(NAME, WallState::Weak, format!("{kernel}, but its shim is older and does not count what is on the disk"));
    }
    let quota = if facts.quota { ", and a project quota above" } else { "" };
    ok(NAME, format!("{kernel}, disk {disk} (accounted, hard stop{quota})"))
}

fn reach(facts: &Facts) -> Wall {
    const NAME: &str = "egress";
    let Facts { allow, scripts, bound, .. } = facts;
    let is_any = |entry: &Entry| entry.rules().iter().any(|rule| !rule.is_named());
    if allow.entries().iter().any(is_any) {
        return wall(NAME, WallState::Weak, format!("every name of the public network: {allow}"));
    }
    if let Some((script, list)) = scripts.iter().find(|(_, list)| list.entries().iter().any(is_any)) {
        return wall(NAME, WallState::Weak, format!("every name of the public network, for {script}: {list}"));
    }
    let said = |list: &List| if list.entries().is_empty() { "nothing else".to_owned() } else { list.to_string() };
    let while_run: String = scripts.iter().map(|(script, list)| format!("; while {script} runs, {}", said(list))).collect();
    let with = if bound.is_empty() { String::new() } else { format!("; with a credential, {}", bound.join(", ")) };
    match allow.entries().is_empty() {
        true => ok(NAME, format!("nothing but the model{with}{while_run}")),
        false => ok(NAME, format!("the model and {allow}{with}{while_run}")),
    }
}

fn credentials(facts: &Facts) -> Wall {
    let Facts { variables, has_credential, bound, .. } = facts;
    let mut key = if *has_credential {
        "a key of the model stays in its shim, and a credential of another kind is a variable inside"
    } else {
        "the model's key stays in its shim"
    }
    .to_owned();
    if !bound.is_empty() {
        key.push_str(&format!("; so do {} that are bound to a host: {}", bound.len(), bound.join(", ")));
    }
    if variables.is_empty() {
        return ok("credentials", format!("{key}; no variables were given to it"));
    }
    let more = variables.len().saturating_sub(NAMES_MAX);
    let mut named = variables.iter().take(NAMES_MAX).cloned().collect::<Vec<_>>().join(", ");
    if more > 0 {
        named.push_str(&format!(" and {more} more"));
    }
    ok("credentials", format!("{key}; every tool can read the variables {named}"))
}

fn ok(name: &str, detail: impl Into<String>) -> Wall {
    wall(name, WallState::Ok, detail)
}

fn wall(name: &str, state: WallState, detail: impl Into<String>) -> Wall {
    Wall { name: name.to_owned(), state, detail: detail.into() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Settings;

    fn facts() -> Facts {
        Facts {
            without: Vec::new(),
            confined: Some(Box::new(confined())),
            daemon: 998,
            limits: of_unit(&Settings::default().limits),
            quota: false,
            tmp_bytes: 512 << 20,
            lacks: Vec::new(),
            allow: List::default(),
            scripts: Vec::new(),
            variables: Vec::new(),
            has_credential: false,
            bound: Vec::new(),
        }
    }

    const fn confined() -> Confined {
        Confined {
            without: None,
            uid: 65_537,
            capabilities: 0,
            no_new_privileges: true,
            seccomp: true,
            apparmor: None,
            counts_disk: true,
        }
    }

    fn list(entry: &str) -> List {
        List::new(vec![entry.parse().expect(entry)]).expect("one")
    }

    #[test]
    fn a_sandbox_with_every_wall_is_strict_also_before_it_is_made() {
        for facts in [
            facts(),
            Facts { confined: None, ..facts() },
            Facts { allow: list("pypi"), ..facts() },
            Facts { scripts: vec![(STARTUP, list("pypi"))], ..facts() },
        ] {
            let walls = judge(&facts);
            assert!(is_strict(&walls), "{walls:?}");
        }
        let apparmor = judge(&facts()).into_iter().find(|wall| wall.name == OPTIONAL).expect("told");
        assert_eq!(apparmor.state, WallState::Off, "and nothing depends on it");
    }

    #[test]
    fn what_holds_the_disk_is_told() {
        let said = |quota| limits(&Facts { quota, ..facts() }).detail;
        assert!(said(false).ends_with("disk 5G (accounted, hard stop)"), "{}", said(false));
        assert!(said(true).ends_with("disk 5G (accounted, hard stop, and a project quota above)"), "{}", said(true));
    }

    #[test]
    fn each_flaw_is_told_at_its_wall_and_is_not_strict() {
        let with = |weakness| Facts { without: vec![weakness], ..facts() };
        let of = |confined| Facts { confined: Some(Box::new(confined)), ..facts() };
        for (facts, name, state, said) in [
            (with(Weakness::NoSeccomp), "system-calls", WallState::Off, "every call"),
            (with(Weakness::NoCgroupNamespace), "namespaces", WallState::Weak, "units of the host"),
            (with(Weakness::NoUsernsLimit), "namespaces", WallState::Weak, "further ones"),
            (with(Weakness::Ptrace), "proc", WallState::Weak, "debuggers"),
            (of(Confined { uid: 0, ..confined() }), "user", WallState::Weak, "root"),
            (of(Confined { uid: 998, ..confined() }), "user", WallState::Weak, "user of the daemon"),
            (of(Confined { capabilities: 0x20, ..confined() }), "user", WallState::Weak, "0x20"),
            (of(Confined { no_new_privileges: false, ..confined() }), "user", WallState::Weak, "gain rights"),
            (of(Confined { seccomp: false, ..confined() }), "system-calls", WallState::Weak, "shim may make all"),
            (of(Confined { counts_disk: false, ..confined() }), "limits", WallState::Weak, "does not count what is on the disk"),
            (Facts { lacks: vec!["the disk is open".to_owned()], ..facts() }, "host", WallState::Weak, "the disk is open"),
            (Facts { allow: list("*"), ..facts() }, "egress", WallState::Weak, "every name"),
            (Facts { scripts: vec![(INSTALL, list("*"))], ..facts() }, "egress", WallState::Weak, "for install.sh"),
        ] {
            let walls = judge(&facts);
            let flawed: Vec<_> = walls.iter().filter(|wall| !stands(wall)).collect();
            assert_eq!(flawed.len(), 1, "{flawed:?}");
            assert_eq!((flawed[0].name.as_str(), flawed[0].state), (name, state));
            assert!(flawed[0].detail.contains(said), "{flawed:?}");
        }
    }

    #[test]
    fn what_is_inside_is_told_by_name_and_never_by_value() {
        let said = credentials(&Facts { variables: (0..30).map(|n| format!("V{n}")).collect(), ..facts() }).detail;
        assert!(said.contains("V0, V1, ") && said.ends_with("V19 and 10 more"), "{said}");
        let facts = Facts { bound: vec!["a.test".to_owned(), "b.test".to_owned()], ..facts() };
        let (said, reached) = (credentials(&facts).detail, reach(&facts).detail);
        assert!(said.contains("so do 2 that are bound to a host: a.test, b.test;"), "{said}");
        assert_eq!(reached, "nothing but the model; with a credential, a.test, b.test");
    }
}
