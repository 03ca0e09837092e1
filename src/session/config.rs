//! How much a session's configuration may be.
//!
//! It is read with the session whenever something is done with it, kept by its driver, and shown in every list.

use super::SessionError;
use crate::wire::session::SessionConfig;

/// Bytes of JSON of a session's configuration: subagents, MCP servers, tools and the rest together.
/// As much as the system whose clients are served takes of any JSON.
pub const CONFIG_MAX: usize = 1 << 20;

/// Refuses what is too large, by the name of the field that has the most of it. What is no larger than what
/// the session had before is taken: it may be from before there was a bound, and parts of it can not be changed.
pub fn check(config: &SessionConfig, before: Option<&SessionConfig>) -> Result<(), SessionError> {
    let (new, old) = (size(config), before.map_or(0, size));
    if new <= CONFIG_MAX.max(old) {
        return Ok(());
    }
    let fields = serde_json::to_value(config).ok().and_then(|value| value.as_object().cloned()).unwrap_or_default();
    let largest = fields.iter().max_by_key(|(_, value)| size(value)).map_or("config", |(name, _)| name);
    let reason = format!(
        "is too large: the configuration of a session has to be at most {CONFIG_MAX} bytes of JSON in all, and would have {new}"
    );
    Err(SessionError::Invalid { field: largest.to_owned(), reason })
}

fn size(value: &impl serde::Serialize) -> usize {
    serde_json::to_vec(value).map_or(0, |json| json.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(tool: usize, agent: usize) -> SessionConfig {
        SessionConfig {
            allowed_tools: Some(vec!["x".repeat(tool)]),
            initial_agent: Some("x".repeat(agent)),
            ..SessionConfig::default()
        }
    }

    #[test]
    fn what_is_too_large_is_refused_by_the_name_of_its_largest_field() {
        let around = size(&of(0, 0));
        assert!(check(&of(10, CONFIG_MAX - around - 10), None).is_ok(), "as large as it may be");
        for (config, name) in [(of(10, CONFIG_MAX), "initialAgent"), (of(CONFIG_MAX, 10), "allowedTools")] {
            let error = check(&config, None).expect_err("too large").to_string();
            assert!(error.starts_with(&format!("{name}: is too large")) && error.contains("1048576"), "{error}");
        }
    }

    #[test]
    fn what_was_larger_before_may_stay_or_shrink() {
        let before = of(2 * CONFIG_MAX, 10);
        assert!(check(&before, Some(&before)).is_ok());
        assert!(check(&of(CONFIG_MAX, 10), Some(&before)).is_ok());
        assert!(check(&of(2 * CONFIG_MAX, 11), Some(&before)).is_err(), "not grow");
    }
}
