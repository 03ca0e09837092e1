//! The environment of a runtime: an allow-list, and what the session adds.

use std::collections::BTreeMap;

use super::room::GATEWAY_PORT;
use crate::link::shim::HOME_INSIDE;

/// What the runtime gets as key of the model API. The gateway puts the real one in its place.
const PLACEHOLDER_KEY: &str = "placeholder-the-real-key-stays-outside";

/// Names that a session may not set, beside those in [`fixed`]: they would lead the runtime past
/// the gateway, or away from its HOME.
const REFUSED: &[&str] = &[
    "ANTHROPIC_AUTH_TOKEN",
    "ANTHROPIC_UNIX_SOCKET",
    "CLAUDE_CODE_API_KEY_FILE_DESCRIPTOR",
    "CLAUDE_CODE_OAUTH_TOKEN",
    "CLAUDE_CODE_RESUME_INTERRUPTED_TURN",
    "CLAUDE_CODE_USE_BEDROCK",
    "CLAUDE_CODE_USE_FOUNDRY",
    "CLAUDE_CODE_USE_VERTEX",
    "CLAUDE_CONFIG_DIR",
];

/// What is the same in every sandbox and can be changed by the session.
const DEFAULTS: &[(&str, &str)] =
    &[("LANG", "C.UTF-8"), ("PATH", "/usr/local/bin:/usr/bin:/bin:/usr/local/sbin:/usr/sbin:/sbin"), ("TERM", "dumb")];

/// What Ash controls.
fn fixed() -> Vec<(String, String)> {
    let fixed = [
        ("ANTHROPIC_API_KEY", PLACEHOLDER_KEY.to_owned()),
        ("ANTHROPIC_BASE_URL", format!("http://127.0.0.1:{GATEWAY_PORT}")),
        ("HOME", HOME_INSIDE.to_owned()),
        ("LOGNAME", "agent".to_owned()),
        ("NO_PROXY", "127.0.0.1,localhost".to_owned()),
        ("SHELL", "/bin/bash".to_owned()),
        ("USER", "agent".to_owned()),
    ];
    fixed.map(|(name, value)| (name.to_owned(), value)).into()
}

/// The whole environment: defaults, then the runtime's own, then the session's, then what Ash
/// controls. What the session may not set is left out; its names come back for the log.
pub fn environment(runtime: Vec<(String, String)>, session: &BTreeMap<String, String>) -> (Vec<(String, String)>, Vec<String>) {
    let fixed = fixed();
    let mut env: BTreeMap<String, String> =
        DEFAULTS.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    let mut refused = Vec::new();
    let is_controlled = |name: &str| {
        REFUSED.contains(&name) || fixed.iter().any(|(of, _)| of == name) || runtime.iter().any(|(of, _)| of == name)
    };
    for (name, value) in session {
        let is_name = !name.is_empty() && !name.contains(['=', '\0']) && !value.contains('\0');
        if is_name && !is_controlled(name) {
            env.insert(name.clone(), value.clone());
        } else {
            refused.push(name.escape_debug().take(64).collect());
        }
    }
    env.extend(runtime);
    env.extend(fixed);
    (env.into_iter().collect(), refused)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_adds_what_it_likes_but_not_what_ash_controls() {
        let session = [
            ("MINE", "1"),
            ("TERM", "xterm"),
            ("ANTHROPIC_BASE_URL", "http://elsewhere"),
            ("ANTHROPIC_API_KEY", "real"),
            ("ANTHROPIC_AUTH_TOKEN", "real"),
            ("QUIET", "0"),
            ("A=B", "x"),
            ("", "x"),
            ("NUL", "a\0b"),
        ];
        let session = session.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        let (env, refused) = environment(vec![("QUIET".to_owned(), "1".to_owned())], &session);
        let get = |name: &str| env.iter().find(|(of, _)| of == name).map(|(_, value)| value.as_str());
        assert_eq!((get("MINE"), get("TERM"), get("QUIET")), (Some("1"), Some("xterm"), Some("1")));
        assert_eq!(get("ANTHROPIC_BASE_URL"), Some("http://127.0.0.1:4000"));
        assert_eq!(get("ANTHROPIC_API_KEY"), Some(PLACEHOLDER_KEY));
        assert_eq!(get("HOME"), Some("/home/agent"));
        assert_eq!(refused, ["", "A=B", "ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN", "ANTHROPIC_BASE_URL", "NUL", "QUIET"]);
        assert!(!env.iter().any(|(_, value)| value == "real"));
    }
}
