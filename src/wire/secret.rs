//! Text that nobody prints by accident.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A secret in a body. It is passed on as it is; printing it for debugging does not show it.
#[derive(Clone, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// Keeps a text from being printed.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text itself.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debugging_does_not_show_it() {
        let secret: Secret = serde_json::from_str(r#""sk-1""#).expect("reads");
        assert_eq!((format!("{secret:?}").as_str(), secret.reveal()), ("Secret(…)", "sk-1"));
    }
}
