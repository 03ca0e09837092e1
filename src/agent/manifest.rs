//! The files of an agent's folder that have a form: `ash.toml`, which is Ash's own, and
//! `.claude/settings.json` and `.mcp.json`, which the runtime reads.
//!
//! Of the runtime's files only what Ash knows is checked, and that lightly: the runtime ignores
//! what it does not understand, and the author would wonder why a setting has no effect. What is
//! unknown here passes, as the runtime may be newer.

use std::collections::BTreeMap;
use std::fs;
use std::marker::PhantomData;
use std::ops::RangeInclusive;
use std::path::Path;
use std::time::Duration;

use serde::de::{Deserialize, DeserializeOwned, Deserializer, IgnoredAny};
use toml::Spanned;

use super::digest::{Node, Tree};
use super::error::ContentError;
use super::name::{FieldError, check_env, check_form};
use crate::config::SnapshotPolicy;
use crate::config::limits::{Said, Written as WrittenLimits};
use crate::config::text::{self, Fault, MapOnly, Table, within};
use crate::wire::egress::{Entry, List};
use crate::wire::limits::Limits;
use crate::wire::quantity::{TimeSpan, bounds};

/// Ash's own file in an agent's folder.
pub const DEFINITION: &str = "ash.toml";
/// Servers of the Model Context Protocol that come with the agent.
pub const MCP_SERVERS: &str = ".mcp.json";
/// The script that fits out a version's workspace, once for all of its sessions.
pub const INSTALL: &str = "install.sh";
/// The script that is run in each new sandbox of a session, before its first turn there.
pub const STARTUP: &str = "startup.sh";
/// How long a script may take that says nothing itself.
pub const SCRIPT_TIMEOUT: TimeSpan = TimeSpan(10 * 60);
const SETTINGS: [&str; 2] = [".claude/settings.json", ".claude/settings.local.json"];
/// Largest of these files.
const FILE_MAX: u64 = 1 << 20;
/// Longest text in `[agent]`.
const TEXT_MAX: usize = 1000;
/// The one runtime there is.
const RUNTIME: &str = "claude";

/// Patterns in `snapshots.exclude`, and bytes of one: they are part of every snapshot's manifest.
const EXCLUDES_MAX: usize = 100;
const EXCLUDE_MAX: usize = 1000;

const KEYS: &[&str] = &[
    "agent.description",
    "agent.model",
    "agent.runtime",
    "egress.allow",
    "env",
    "install.allow",
    "install.timeout",
    "limits.cost",
    "limits.cpu",
    "limits.disk",
    "limits.file_size",
    "limits.io_read",
    "limits.io_weight",
    "limits.io_write",
    "limits.lifetime",
    "limits.memory",
    "limits.memory_high",
    "limits.open_files",
    "limits.output_rate",
    "limits.swap",
    "limits.tasks",
    "limits.tokens",
    "limits.turn",
    "sessions.freeze_after",
    "sessions.park_after",
    "snapshots.exclude",
    "snapshots.policy",
    "startup.allow",
    "startup.timeout",
];

/// What `ash.toml` says. `None` leaves a thing to the server's configuration.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Definition {
    /// For people.
    pub description: Option<String>,
    /// The runtime; only `claude` is there.
    pub runtime: Option<String>,
    /// Model of sessions that name none.
    pub model: Option<String>,
    /// Limits of its sessions that say nothing themselves. Whoever uses them takes the lesser of these and
    /// the most that the server's configuration allows.
    pub limits: Limits,
    /// Environment of its sessions; what is deployed with the agent's record comes over it.
    pub env: BTreeMap<String, String>,
    /// What of the network its sessions may reach beside the model, where they say nothing themselves,
    /// and as far as the server's configuration allows it. `None`: nothing.
    pub egress: Option<List>,
    /// What becomes of its sessions when nobody talks to them.
    pub sessions: IdleTimes,
    /// Snapshots of its sessions.
    pub snapshots: SnapshotRequest,
    /// How [`INSTALL`] is run.
    pub install: ScriptRules,
    /// How [`STARTUP`] is run.
    pub startup: ScriptRules,
}

/// How a script of an agent is run.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ScriptRules {
    /// After what time it is killed; `None`: after [`SCRIPT_TIMEOUT`].
    pub timeout: Option<TimeSpan>,
    /// What of the network it may reach, as far as the server's configuration allows it. `None`: what
    /// the sessions may.
    pub egress: Option<List>,
}

impl ScriptRules {
    /// After what time it is killed.
    pub fn timeout(&self) -> Duration {
        Duration::from_secs(self.timeout.unwrap_or(SCRIPT_TIMEOUT).0)
    }
}

/// When an agent's sessions are put away. Whoever uses them takes the lesser of these and the
/// server's.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct IdleTimes {
    /// How long an idle sandbox keeps running before it is frozen.
    pub freeze_after: Option<TimeSpan>,
    /// How long a sandbox is idle before its processes are ended.
    pub park_after: Option<TimeSpan>,
}

/// What an agent says of its sessions' snapshots.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SnapshotRequest {
    /// What they leave out, one pattern each, as it was written: whoever packs knows what it means.
    pub exclude: Vec<String>,
    /// When they are taken.
    pub policy: Option<SnapshotPolicy>,
}

/// How the variables under `[env]` are checked.
type CheckEnv = fn(&str, &BTreeMap<String, String>) -> Result<(), FieldError>;

impl Definition {
    /// Reads the text of an `ash.toml`.
    ///
    /// # Errors
    ///
    /// [`ContentError::File`] with the line and the key.
    pub fn parse(text: &str) -> Result<Self, ContentError> {
        Self::parse_with(text, check_env)
    }

    fn parse_with(text: &str, check_env: CheckEnv) -> Result<Self, ContentError> {
        let at = |line, fault: Fault| ContentError::File { file: DEFINITION, line, column: None, reason: fault.to_string() };
        let written: Written = text::parse(text, KEYS).map_err(|located| at(located.line, located.fault))?;
        let bad = |span: usize, key: &str, reason: String| {
            at(text::line_of(text, span), Fault::BadValue { key: key.to_owned(), reason })
        };

        let take = |key: &str, value: Option<Spanned<String>>| match value {
            Some(value) if value.get_ref().trim().is_empty() || value.get_ref().len() > TEXT_MAX => {
                Err(bad(value.span().start, key, format!("must have 1 to {TEXT_MAX} bytes")))
            }
            other => Ok(other.map(Spanned::into_inner)),
        };
        if let Some(runtime) = written.agent.0.runtime.as_ref().filter(|runtime| runtime.get_ref() != RUNTIME) {
            let reason = format!("there is no runtime {:?}, only {RUNTIME:?}", runtime.get_ref());
            return Err(bad(runtime.span().start, "agent.runtime", reason));
        }
        let (limits, said) = written.limits.0.read();
        if let Some(Said { name, at, fault: Some(reason) }) = said.into_iter().find(|said| said.fault.is_some()) {
            return Err(bad(at, &format!("limits.{name}"), reason));
        }
        let time = |key: &str, value: Option<Spanned<TimeSpan>>, range: RangeInclusive<TimeSpan>| match value {
            Some(value) => within(*value.get_ref(), range).map(Some).map_err(|reason| bad(value.span().start, key, reason)),
            None => Ok(None),
        };
        let sessions = IdleTimes {
            freeze_after: time("sessions.freeze_after", written.sessions.0.freeze_after, bounds::IDLE)?,
            park_after: time("sessions.park_after", written.sessions.0.park_after, bounds::IDLE)?,
        };
        if let Some(exclude) = &written.snapshots.0.exclude {
            let at = |key: &str, reason| bad(exclude.span().start, key, reason);
            if exclude.get_ref().len() > EXCLUDES_MAX {
                return Err(at("snapshots.exclude", format!("has more than {EXCLUDES_MAX} patterns")));
            }
            for (index, pattern) in exclude.get_ref().iter().enumerate() {
                let reason = check_exclude(pattern.get_ref());
                reason.map_err(|reason| bad(pattern.span().start, &format!("snapshots.exclude[{index}]"), reason))?;
            }
        }
        let list = |key: &str, allow: Option<Spanned<Vec<Spanned<String>>>>| match allow {
            Some(allow) => {
                let parse = |(index, text): (usize, Spanned<String>)| {
                    let entry = text.get_ref().parse::<Entry>();
                    entry.map_err(|error| bad(text.span().start, &format!("{key}[{index}]"), error.to_string()))
                };
                let start = allow.span().start;
                let entries = allow.into_inner().into_iter().enumerate().map(parse).collect::<Result<_, _>>()?;
                List::new(entries).map(Some).map_err(|error| bad(start, key, error.to_string()))
            }
            None => Ok(None),
        };
        let script = |name: &str, written: WrittenScript| -> Result<_, ContentError> {
            let timeout = time(&format!("{name}.timeout"), written.timeout, bounds::SCRIPT)?;
            Ok(ScriptRules { timeout, egress: list(&format!("{name}.allow"), written.allow)? })
        };
        if let Some(env) = &written.env {
            check_env("env", env.get_ref()).map_err(|error| bad(env.span().start, &error.field, error.reason))?;
        }
        Ok(Self {
            description: take("agent.description", written.agent.0.description)?,
            runtime: written.agent.0.runtime.map(Spanned::into_inner),
            model: take("agent.model", written.agent.0.model)?,
            limits,
            env: written.env.map(Spanned::into_inner).unwrap_or_default(),
            egress: list("egress.allow", written.egress.0.allow)?,
            install: script("install", written.install.0)?,
            startup: script("startup", written.startup.0)?,
            sessions,
            snapshots: SnapshotRequest {
                exclude: written
                    .snapshots
                    .0
                    .exclude
                    .map(|patterns| patterns.into_inner().into_iter().map(Spanned::into_inner).collect())
                    .unwrap_or_default(),
                policy: written.snapshots.0.policy,
            },
        })
    }

    /// Reads the `ash.toml` of a version that was checked before. Without one, nothing is asked for.
    pub(super) fn load(root: &Path) -> Result<Self, ContentError> {
        match read(root, DEFINITION)? {
            Some(text) => Self::parse_with(&String::from_utf8_lossy(&text), check_form),
            None => Ok(Self::default()),
        }
    }
}

/// What no pattern can be; the reason of the refusal.
fn check_exclude(pattern: &str) -> Result<(), String> {
    if pattern.is_empty() || pattern.len() > EXCLUDE_MAX {
        return Err(format!("must have 1 to {EXCLUDE_MAX} bytes"));
    }
    if pattern.chars().any(char::is_control) {
        return Err("must have no control characters".to_owned());
    }
    Ok(())
}

/// One of these files of a version that was checked before. It may be a link, as the check made
/// sure that it leads to a file of the version.
pub(super) fn read(root: &Path, file: &str) -> Result<Option<Vec<u8>>, ContentError> {
    let path = root.join(file);
    match fs::read(&path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(ContentError::host("read", path)(error)),
    }
}

#[derive(Default, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Written {
    agent: Table<WrittenAgent>,
    limits: Table<WrittenLimits>,
    egress: Table<WrittenEgress>,
    env: Option<Spanned<BTreeMap<String, String>>>,
    sessions: Table<WrittenSessions>,
    snapshots: Table<WrittenSnapshots>,
    install: Table<WrittenScript>,
    startup: Table<WrittenScript>,
}

#[derive(Default, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
struct WrittenScript {
    timeout: Option<Spanned<TimeSpan>>,
    allow: Option<Spanned<Vec<Spanned<String>>>>,
}

#[derive(Default, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
struct WrittenEgress {
    allow: Option<Spanned<Vec<Spanned<String>>>>,
}

#[derive(Default, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
struct WrittenSessions {
    freeze_after: Option<Spanned<TimeSpan>>,
    park_after: Option<Spanned<TimeSpan>>,
}

#[derive(Default, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
struct WrittenSnapshots {
    exclude: Option<Spanned<Vec<Spanned<String>>>>,
    policy: Option<SnapshotPolicy>,
}

#[derive(Default, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
struct WrittenAgent {
    description: Option<Spanned<String>>,
    runtime: Option<Spanned<String>>,
    model: Option<Spanned<String>>,
}

/// Checks all of these files in a version that is being written: `tree` describes it, and its
/// files, but no links yet, lie in `root`.
pub(super) fn check(tree: &Tree, root: &Path) -> Result<(), ContentError> {
    if let Some(text) = read_staged(tree, root, DEFINITION)? {
        Definition::parse(&text)?;
    }
    for file in SETTINGS {
        if let Some(text) = read_staged(tree, root, file)? {
            parse_json::<RuntimeSettings>(file, &text)?;
        }
    }
    if let Some(text) = read_staged(tree, root, MCP_SERVERS)? {
        parse_json::<McpServers>(MCP_SERVERS, &text)?;
    }
    Ok(())
}

fn read_staged(tree: &Tree, root: &Path, file: &'static str) -> Result<Option<String>, ContentError> {
    let unreadable = |reason| Err(ContentError::Unreadable { file, reason });
    let at = match tree.resolve(file) {
        Some((_, Node::File { size, .. })) if *size > FILE_MAX => return unreadable("has more than 1 MiB"),
        Some((at, Node::File { .. })) => root.join(at),
        Some(_) => return unreadable("is not a file"),
        None if tree.get(file).is_some() => return unreadable("is a link that leads to no file"),
        None => return Ok(None),
    };
    let bytes = fs::read(&at).map_err(ContentError::host("read", &at))?;
    String::from_utf8(bytes).map(Some).map_err(|error| {
        let good = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        let line = 1 + good.iter().filter(|byte| **byte == b'\n').count();
        ContentError::File { file, line, column: None, reason: "not UTF-8".to_owned() }
    })
}

fn parse_json<T: DeserializeOwned>(file: &'static str, text: &str) -> Result<T, ContentError> {
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let fault = |key: String, error: serde_json::Error| {
        let (line, column) = (error.line(), error.column());
        let whole = error.to_string();
        let reason = whole.strip_suffix(&format!(" at line {line} column {column}")).unwrap_or(&whole);
        let reason = if key == "." { reason.to_owned() } else { format!("\"{key}\": {reason}") };
        ContentError::File { file, line: line.max(1), column: Some(column.max(1)), reason }
    };
    let Object(value) = serde_path_to_error::deserialize(&mut deserializer)
        .map_err(|error| (error.path().to_string(), error.into_inner()))
        .map_err(|(key, error)| if error.is_data() { fault(key, error) } else { fault(".".to_owned(), error) })?;
    deserializer.end().map_err(|error| fault(".".to_owned(), error))?;
    Ok(value)
}

/// An object of JSON, which no list can stand for.
struct Object<T>(T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(MapOnly { what: "an object", target: PhantomData }).map(Self)
    }
}

type Map<T> = BTreeMap<String, T>;

#[derive(serde::Deserialize)]
#[expect(dead_code, reason = "its fields are read to be checked")]
struct RuntimeSettings {
    #[serde(default)]
    permissions: Option<Object<Permissions>>,
    #[serde(default)]
    hooks: Option<Map<Vec<Object<HookGroup>>>>,
    #[serde(default)]
    env: Option<Map<String>>,
}

#[derive(serde::Deserialize)]
#[expect(dead_code, reason = "its fields are read to be checked")]
struct Permissions {
    #[serde(default)]
    allow: Option<Vec<String>>,
    #[serde(default)]
    ask: Option<Vec<String>>,
    #[serde(default)]
    deny: Option<Vec<String>>,
}

#[derive(serde::Deserialize)]
#[expect(dead_code, reason = "its fields are read to be checked")]
struct HookGroup {
    #[serde(default)]
    matcher: Option<String>,
    hooks: Vec<Object<Map<IgnoredAny>>>,
}

#[derive(serde::Deserialize)]
#[expect(dead_code, reason = "its fields are read to be checked")]
struct McpServers {
    #[serde(rename = "mcpServers")]
    servers: Map<WrittenServer>,
}

struct WrittenServer;

impl<'de> Deserialize<'de> for WrittenServer {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(serde::Deserialize)]
        #[expect(dead_code, reason = "its fields are read to be checked")]
        struct Fields {
            #[serde(default)]
            command: Option<String>,
            #[serde(default)]
            url: Option<String>,
            #[serde(default)]
            args: Option<Vec<String>>,
            #[serde(default)]
            env: Option<Map<String>>,
            #[serde(default)]
            headers: Option<Map<String>>,
        }
        let Object(fields) = Object::<Fields>::deserialize(deserializer)?;
        if fields.command.is_none() && fields.url.is_none() {
            return Err(serde::de::Error::custom("a server needs a \"command\" or a \"url\""));
        }
        Ok(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::quantity::{ByteCount, Percent};

    #[test]
    fn the_manual_page_describes_every_key_and_no_other() {
        assert_eq!(text::documented(include_str!("../../man/ash-agent.5.scd")), KEYS);
    }

    #[test]
    fn a_definition_reads() {
        let text = r#"
            [agent]
            description = "Answers"
            runtime = "claude"
            model = "claude-sonnet-5"
            [limits]
            memory = "512M"
            cpu = "50%"
            tasks = 64
            disk = "1G"
            [egress]
            allow = ["pypi", "API.example.com:8443"]
            [env]
            GREETING = "hello"
            [sessions]
            freeze_after = "0s"
            park_after = "1h"
            [snapshots]
            exclude = ["node_modules", "*.o"]
            policy = "every-turn"
        "#;
        let definition = Definition::parse(text).expect("good");
        assert_eq!(definition.model.as_deref(), Some("claude-sonnet-5"));
        assert_eq!(definition.limits.memory, Some(ByteCount(512 << 20)));
        assert_eq!((definition.limits.tasks, definition.limits.cpu), (Some(64), Some(Percent(50))));
        assert_eq!(definition.env["GREETING"], "hello");
        assert_eq!(definition.egress.map(|list| list.to_string()).as_deref(), Some("pypi, api.example.com:8443"));
        let times = IdleTimes { freeze_after: Some(TimeSpan(0)), park_after: Some(TimeSpan(3600)) };
        assert_eq!(definition.sessions, times);
        assert_eq!(definition.snapshots.exclude, ["node_modules", "*.o"]);
        assert_eq!(definition.snapshots.policy, Some(SnapshotPolicy::EveryTurn));
        assert_eq!(Definition::parse("").expect("empty"), Definition::default());
    }

    #[test]
    fn a_faulty_definition_is_told_by_line_and_key() {
        for (text, said) in [
            ("[agent]\nmodle = \"x\"", "ash.toml:2: unknown key \"agent.modle\", did you mean \"model\"?"),
            ("model = \"x\"", "ash.toml:1: unknown key \"model\", did you mean \"agent.model\"?"),
            ("[agent]\nmodel = \" \"", "ash.toml:2: \"agent.model\": must have 1 to 1000 bytes"),
            ("[agent]\n\nruntime = \"codex\"", "ash.toml:3: \"agent.runtime\": there is no runtime \"codex\", only \"claude\""),
            ("[limits]\ntasks = 0", "ash.toml:2: \"limits.tasks\": 0 is not between 24 and 4000000"),
            ("[limits]\n\ncpu = \"0%\"", "ash.toml:3: \"limits.cpu\": 0% is not between 1% and 100000%"),
            ("[limits]\nmemory = \"1M\"", "ash.toml:2: \"limits.memory\": 1M is not between 128M and 1024T"),
            ("limits.disk = \"1\"", "ash.toml:1: \"limits.disk\": 1 is not between 16M and 32768T"),
            (
                "[limits]\ntasks = -1",
                "ash.toml:2: \"limits.tasks\": invalid value: integer `-1`, expected a whole number from 0 on",
            ),
            (
                "[limits]\nmemory = \"much\"",
                "ash.toml:2: \"limits.memory\": \"much\" is not a size: write digits with an optional K, M, G or T, such as \"512M\"",
            ),
            ("[sessions]\npark_after = \"9999d\"", "ash.toml:2: \"sessions.park_after\": 9999d is not between 0s and 3650d"),
            (
                "[snapshots]\npolicy = \"often\"",
                "ash.toml:2: \"snapshots.policy\": unknown variant `often`, expected one of `every-turn`, `idle`, `pause-only`",
            ),
            ("[snapshots]\nexclude = [\n\"a\",\n\"\"]", "ash.toml:4: \"snapshots.exclude[1]\": must have 1 to 1000 bytes"),
            ("[snapshots]\nexclude = [\"a\\tb\"]", "ash.toml:2: \"snapshots.exclude[0]\": must have no control characters"),
            (
                "[egress]\nallow = [\n\"pypi\",\n\"https://x\"]",
                "ash.toml:4: \"egress.allow[1]\": \"https://x\" can not be allowed: write the host alone, without scheme and path, \
                 such as \"api.example.com:8443\"",
            ),
            ("[egress]\ndeny = []", "ash.toml:2: unknown key \"egress.deny\""),
            ("[env]\nA = 1", "ash.toml:2: \"env.A\": invalid type: integer `1`, expected a string"),
            ("[env]\nhttps_proxy = \"x\"", "ash.toml:1: \"env.https_proxy\": is set by Ash and can not be changed"),
            (
                "[env]\n\"A B\" = \"1\"",
                "ash.toml:1: \"env.A B\": must be named by at most 255 letters, digits and \"_\", beginning with no digit",
            ),
        ] {
            assert_eq!(Definition::parse(text).expect_err(text).to_string(), said);
        }
    }

    fn settings(text: &str) -> Result<(), String> {
        parse_json::<RuntimeSettings>(SETTINGS[0], text).map(|_| ()).map_err(|error| error.to_string())
    }

    fn servers(text: &str) -> Result<(), String> {
        parse_json::<McpServers>(MCP_SERVERS, text).map(|_| ()).map_err(|error| error.to_string())
    }

    #[test]
    fn settings_of_the_runtime_pass_unless_known_ones_are_wrong() {
        for good in [
            "{}",
            r#"{"permissions": {"allow": ["Bash(ls:*)"], "defaultMode": "plan"}, "env": {"A": "1"}, "model": 5}"#,
            r#"{"hooks": {"PreToolUse": [{"matcher": "Bash", "hooks": [{"type": "command", "command": "true"}]}]}}"#,
        ] {
            assert_eq!(settings(good), Ok(()), "{good}");
        }
        for (bad, said) in [
            ("", ":1:1: EOF while parsing a value"),
            ("{\n  \"env\": {},\n}", ":3:1: trailing comma"),
            ("[]", ":1:1: invalid type: sequence, expected an object"),
            ("{} {}", ":1:4: trailing characters"),
            ("{\"permissions\": []}", ":1:16: \"permissions\": invalid type: sequence, expected an object"),
            (
                "{\"permissions\": {\"allow\":\n [\"a\", 3]}}",
                ":2:8: \"permissions.allow[1]\": invalid type: integer `3`, expected a string",
            ),
            ("{\"hooks\": {\"Stop\": {}}}", ":1:19: \"hooks.Stop\": invalid type: map, expected a sequence"),
            ("{\"hooks\": {\"Stop\": [{}]}}", ":1:22: \"hooks.Stop[0]\": missing field `hooks`"),
            ("{\"env\": {\"A\": 1}}", ":1:15: \"env.A\": invalid type: integer `1`, expected a string"),
        ] {
            assert_eq!(settings(bad), Err(format!("{}{said}", SETTINGS[0])), "{bad}");
        }
    }

    #[test]
    fn nesting_does_not_exhaust_the_stack() {
        let deep = format!("{{\"x\": {}1{}}}", "[".repeat(100_000), "]".repeat(100_000));
        assert_eq!(settings(&deep), Ok(()));
    }

    #[test]
    fn servers_have_a_command_or_an_address() {
        for good in [
            r#"{"mcpServers": {}}"#,
            r#"{"mcpServers": {"a": {"command": "x", "args": ["y"], "env": {"A": "b"}}, "b": {"type": "http", "url": "https://x"}}}"#,
        ] {
            assert_eq!(servers(good), Ok(()), "{good}");
        }
        for (bad, said) in [
            ("{}", ":1:2: missing field `mcpServers`"),
            ("{\"mcpServers\": []}", ":1:15: \"mcpServers\": invalid type: sequence, expected a map"),
            ("{\"mcpServers\": {\"a\": []}}", ":1:21: \"mcpServers.a\": invalid type: sequence, expected an object"),
            ("{\"mcpServers\": {\n\"a\": {}}}", ":2:8: \"mcpServers.a\": a server needs a \"command\" or a \"url\""),
            (
                "{\"mcpServers\": {\"a\": {\"command\": [\"x\"]}}}",
                ":1:33: \"mcpServers.a.command\": invalid type: sequence, expected a string",
            ),
        ] {
            assert_eq!(servers(bad), Err(format!(".mcp.json{said}")), "{bad}");
        }
    }
}
