//! The environment of a runtime: an allow-list, and what the session adds.

use std::collections::BTreeMap;

use super::room::{EGRESS_PORT, GATEWAY_PORT};
use crate::link::control::is_controlled;
use crate::link::shim::{Binding, HOME_INSIDE};
use crate::wire::binding::URL_SUFFIX;

/// What the runtime gets as key of the model API. The gateway puts the real one in its place.
const PLACEHOLDER_KEY: &str = "placeholder-the-real-key-stays-outside";

/// What is the same in every sandbox and can be changed by the session.
const DEFAULTS: &[(&str, &str)] =
    &[("LANG", "C.UTF-8"), ("PATH", "/usr/local/bin:/usr/bin:/bin:/usr/local/sbin:/usr/sbin:/sbin"), ("TERM", "dumb")];

/// Names of the variable that leads to the egress proxy. That for everything is no `socks5h://`, which
/// some libraries refuse to start with where an optional part of theirs is missing.
const PROXIES: &[&str] = &["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"];
/// What is reached without it: the model gateway, and what listens inside.
const NO_PROXY: &str = "127.0.0.1,localhost,::1";

/// What leads to the egress proxy. Programs differ in whether they read upper or lower case.
fn proxies() -> impl Iterator<Item = (String, String)> {
    let proxy = format!("http://127.0.0.1:{EGRESS_PORT}");
    let values = PROXIES.iter().map(move |name| (*name, proxy.clone())).chain([("NO_PROXY", NO_PROXY.to_owned())]);
    values
        .flat_map(|(name, value)| [(name.to_owned(), value.clone()), (name.to_ascii_lowercase(), value)])
        // Node.js reads none of them without this one, nodejs.org/api/cli.html, v24.
        .chain([("NODE_USE_ENV_PROXY".to_owned(), "1".to_owned())])
}

/// What Ash controls.
fn fixed() -> Vec<(String, String)> {
    let fixed = [
        ("ANTHROPIC_API_KEY", PLACEHOLDER_KEY.to_owned()),
        ("ANTHROPIC_BASE_URL", format!("http://127.0.0.1:{GATEWAY_PORT}")),
        ("HOME", HOME_INSIDE.to_owned()),
        ("LOGNAME", "agent".to_owned()),
        ("SHELL", "/bin/bash".to_owned()),
        ("USER", "agent".to_owned()),
    ];
    fixed.map(|(name, value)| (name.to_owned(), value)).into_iter().chain(proxies()).collect()
}

/// What a session says, with what stands inside for the credentials that are bound to hosts.
pub fn with_bindings(session: &BTreeMap<String, String>, bindings: &[Binding]) -> BTreeMap<String, String> {
    let mut env = session.clone();
    for Binding { name, .. } in bindings {
        env.insert(name.clone(), PLACEHOLDER_KEY.to_owned());
        env.insert(format!("{name}{URL_SUFFIX}"), format!("http://127.0.0.1:{EGRESS_PORT}/{name}"));
    }
    env
}

/// The whole environment: defaults, then the runtime's own, then the session's, then what Ash
/// controls. What the session may not set is left out; its names come back for the log.
pub fn environment(runtime: Vec<(String, String)>, session: &BTreeMap<String, String>) -> (Vec<(String, String)>, Vec<String>) {
    let fixed = fixed();
    let mut env: BTreeMap<String, String> =
        DEFAULTS.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    let mut refused = Vec::new();
    let is_ours =
        |name: &str| is_controlled(name) || fixed.iter().any(|(of, _)| of == name) || runtime.iter().any(|(of, _)| of == name);
    for (name, value) in session {
        let is_name = !name.is_empty() && !name.contains(['=', '\0']) && !value.contains('\0');
        if is_name && !is_ours(name) {
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
    use crate::runtime::claude;

    /// Settings in the workspace set variables, too; over those of the policy they do not count.
    #[test]
    fn the_policy_of_the_runtime_holds_what_ash_sets() {
        let file = include_str!("../../packaging/sandbox-etc/managed-settings.json");
        let file: BTreeMap<String, BTreeMap<String, String>> = serde_json::from_str(file).expect("JSON");
        let gateway = fixed().into_iter().filter(|(name, _)| name == "ANTHROPIC_BASE_URL");
        let runtime = claude::ENV.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let wanted = runtime.chain(gateway).chain(proxies()).collect();
        assert_eq!(file, BTreeMap::from([("env".to_owned(), wanted)]));
        assert!(claude::ENV.iter().all(|(name, _)| is_controlled(name)));
        let others = ["ANTHROPIC_API_KEY", "ANTHROPIC_BASE_URL"];
        assert!(fixed().iter().all(|(name, _)| is_controlled(name) || others.contains(&name.as_str())));
    }

    /// Also where the session has the same credential as a variable.
    #[test]
    fn what_is_bound_to_a_host_is_a_placeholder_and_an_address() {
        let session = [("TOKEN", "real"), ("MINE", "1")].map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        let (host, header) = ("api.test:443".to_owned(), "authorization".to_owned());
        let binding = Binding { name: "TOKEN".to_owned(), host, header, value: Some("Bearer real".to_owned()) };
        let env = with_bindings(&session, &[binding]);
        let wanted = [("MINE", "1"), ("TOKEN", PLACEHOLDER_KEY), ("TOKEN_URL", "http://127.0.0.1:4001/TOKEN")];
        assert_eq!(env, wanted.map(|(name, value)| (name.to_owned(), value.to_owned())).into());
    }

    #[test]
    fn a_session_adds_what_it_likes_but_not_what_ash_controls() {
        let session = [
            ("MINE", "1"),
            ("TERM", "xterm"),
            ("ANTHROPIC_BASE_URL", "http://elsewhere"),
            ("ANTHROPIC_API_KEY", "real"),
            ("ANTHROPIC_AUTH_TOKEN", "real"),
            ("QUIET", "0"),
            ("https_proxy", "http://elsewhere"),
            ("NO_PROXY", "*"),
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
        for name in ["HTTP_PROXY", "https_proxy", "ALL_PROXY"] {
            assert_eq!(get(name), Some("http://127.0.0.1:4001"), "{name}");
        }
        assert_eq!((get("NO_PROXY"), get("no_proxy")), (Some(NO_PROXY), Some(NO_PROXY)));
        let controlled = ["ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN", "ANTHROPIC_BASE_URL", "NO_PROXY", "NUL", "QUIET"];
        assert_eq!(refused, [&["", "A=B"][..], &controlled, &["https_proxy"]].concat());
        assert!(!env.iter().any(|(_, value)| value == "real"));
    }
}
