//! Names of agents, and of the environment variables they get.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use crate::link::control::is_controlled;

/// Longest name of an agent.
pub const NAME_MAX: usize = 255;
/// Longest name of an environment variable.
const VARIABLE_MAX: usize = 255;
/// Largest value of an environment variable: a process may be given 128 KiB in one (execve(2),
/// MAX_ARG_STRLEN), its name included.
const VALUE_MAX: usize = 64 << 10;
/// Variables of one agent.
const VARIABLES_MAX: usize = 256;

/// The name of an agent: 1 to 255 of `a-zA-Z0-9_-`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AgentName(String);

/// A field that is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field} {reason}")]
pub struct FieldError {
    /// The field, such as `name` or `env.PATH`.
    pub field: String,
    /// What is wrong with it; fits after the field's name.
    pub reason: String,
}

impl AgentName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for AgentName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for AgentName {
    type Err = FieldError;

    fn from_str(text: &str) -> Result<Self, FieldError> {
        let refuse = |reason: String| Err(FieldError { field: "name".to_owned(), reason });
        if text.is_empty() {
            return refuse("must not be empty".to_owned());
        }
        if text.len() > NAME_MAX {
            return refuse(format!("must have at most {NAME_MAX} characters"));
        }
        match text.chars().find(|c| !c.is_ascii_alphanumeric() && !matches!(c, '_' | '-')) {
            Some(bad) => refuse(format!("must consist of letters a-z, A-Z, digits, \"_\" and \"-\", not {bad:?}")),
            None => Ok(Self(text.to_owned())),
        }
    }
}

/// Checks that a process can be given these variables, and that none of them is Ash's own.
///
/// # Errors
///
/// The first that it can not be given, under `field` and its name, such as `env.NAME`.
pub fn check_env(field: &str, env: &BTreeMap<String, String>) -> Result<(), FieldError> {
    check_form(field, env)?;
    match env.keys().find(|name| is_controlled(name)) {
        Some(name) => {
            Err(FieldError { field: format!("{field}.{name}"), reason: "is set by Ash and can not be changed".to_owned() })
        }
        None => Ok(()),
    }
}

/// Checks only that a process can be given these variables. What an agent was deployed with stays
/// readable when a name becomes Ash's own; the shim leaves it out.
pub fn check_form(field: &str, env: &BTreeMap<String, String>) -> Result<(), FieldError> {
    if env.len() > VARIABLES_MAX {
        return Err(FieldError { field: field.to_owned(), reason: format!("must have at most {VARIABLES_MAX} variables") });
    }
    for (name, value) in env {
        if let Some(reason) = variable_fault(name, value) {
            let shown: String = name.chars().take(VARIABLE_MAX).collect();
            return Err(FieldError { field: format!("{field}.{}", shown.escape_debug()), reason });
        }
    }
    Ok(())
}

fn variable_fault(name: &str, value: &str) -> Option<String> {
    let letters = name.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'_');
    if !letters || name.is_empty() || name.starts_with(|c: char| c.is_ascii_digit()) || name.len() > VARIABLE_MAX {
        return Some(format!("must be named by at most {VARIABLE_MAX} letters, digits and \"_\", beginning with no digit"));
    }
    if value.contains('\0') {
        return Some("must not contain a NUL character".to_owned());
    }
    (value.len() > VALUE_MAX).then(|| format!("must have at most {VALUE_MAX} bytes"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_one_alphabet() {
        for good in ["a", "Agent_1-x", &"n".repeat(NAME_MAX)] {
            assert_eq!(good.parse::<AgentName>().map(|name| name.to_string()), Ok(good.to_owned()));
        }
        for (bad, said) in [
            ("", "name must not be empty"),
            (&*"n".repeat(300), "name must have at most 255 characters"),
            ("a/b", "name must consist of letters a-z, A-Z, digits, \"_\" and \"-\", not '/'"),
            ("..", "name must consist of letters a-z, A-Z, digits, \"_\" and \"-\", not '.'"),
            ("a\0", "name must consist of letters a-z, A-Z, digits, \"_\" and \"-\", not '\\0'"),
            ("ä", "name must consist of letters a-z, A-Z, digits, \"_\" and \"-\", not 'ä'"),
        ] {
            assert_eq!(bad.parse::<AgentName>().expect_err(bad).to_string(), said);
        }
    }

    #[test]
    fn variables_are_what_a_process_can_be_given() {
        let env = |name: &str, value: &str| BTreeMap::from([(name.to_owned(), value.to_owned())]);
        assert_eq!(check_env("env", &env("_A1", "any\nthing")), Ok(()));
        for (name, value, field) in [
            ("", "x", "env."),
            ("1A", "x", "env.1A"),
            ("A=B", "x", "env.A=B"),
            ("A\0", "x", "env.A\\0"),
            ("A", "\0", "env.A"),
            ("A", &*"x".repeat(VALUE_MAX + 1), "env.A"),
        ] {
            assert_eq!(check_env("env", &env(name, value)).expect_err(name).field, field);
        }
        assert_eq!(check_form("env", &env("LD_PRELOAD", "x")), Ok(()));
        let refused = check_env("extraEnv", &env("LD_PRELOAD", "x")).expect_err("Ash's own");
        assert_eq!(refused.to_string(), "extraEnv.LD_PRELOAD is set by Ash and can not be changed");
        let many = (0..=VARIABLES_MAX).map(|n| (format!("A{n}"), String::new())).collect();
        assert_eq!(check_env("env", &many).expect_err("many").field, "env");
    }
}
