//! Environment variables by which Ash holds a runtime to its gateway, its proxy and its HOME. Nobody
//! who makes a session or deploys an agent can set them: the daemon refuses them by name, and a shim
//! leaves out what an older daemon let pass.

/// Those of the runtime and of Ash itself. `ANTHROPIC_API_KEY` is not one: it never enters a sandbox,
/// but tells the gateway which key to use.
const NAMES: &[&str] = &[
    "ANTHROPIC_AUTH_TOKEN",
    "ANTHROPIC_BASE_URL",
    "ANTHROPIC_UNIX_SOCKET",
    // Options of the program that the runtime is built with: it can be told to load other code.
    "BUN_OPTIONS",
    "CLAUDE_CODE_API_KEY_FILE_DESCRIPTOR",
    "CLAUDE_CODE_DISABLE_AUTO_MEMORY",
    "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC",
    "CLAUDE_CODE_EMIT_SESSION_STATE_EVENTS",
    "CLAUDE_CODE_MAX_RETRIES",
    "CLAUDE_CODE_OAUTH_TOKEN",
    "CLAUDE_CODE_RESUME_INTERRUPTED_TURN",
    "CLAUDE_CODE_USE_BEDROCK",
    "CLAUDE_CODE_USE_FOUNDRY",
    "CLAUDE_CODE_USE_VERTEX",
    "CLAUDE_CONFIG_DIR",
    "DISABLE_AUTOUPDATER",
    "DISABLE_ERROR_REPORTING",
    "DISABLE_TELEMETRY",
    "HOME",
    "LOGNAME",
    "NODE_USE_ENV_PROXY",
    "SHELL",
    "USER",
];
/// Programs read them in both cases.
const PROXIES: &[&str] = &["ALL_PROXY", "FTP_PROXY", "HTTPS_PROXY", "HTTP_PROXY", "NO_PROXY"];
/// All by which code is put into a program that starts (ld.so(8)).
const LOADER: &str = "LD_";

/// Whether Ash alone sets the variable.
pub fn is_controlled(name: &str) -> bool {
    NAMES.contains(&name) || name.starts_with(LOADER) || PROXIES.iter().any(|proxy| proxy.eq_ignore_ascii_case(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_leads_a_runtime_elsewhere_is_controlled_and_nothing_else() {
        for name in ["ANTHROPIC_BASE_URL", "LD_PRELOAD", "LD_AUDIT", "https_proxy", "No_Proxy", "CLAUDE_CONFIG_DIR", "HOME"] {
            assert!(is_controlled(name), "{name}");
        }
        for name in ["", "PATH", "LANG", "ANTHROPIC_API_KEY", "CLAUDE_CODE_MAX_OUTPUT_TOKENS", "MY_LD_X", "PROXY", "home"] {
            assert!(!is_controlled(name), "{name}");
        }
        assert!(NAMES.is_sorted());
    }
}
