//! Prints an error with its causes, once, where it is handled.

use std::error::Error;

/// Joins an error and its sources to `a: b: c`.
///
/// A source whose text the outer error already ends in is left out, as some
/// libraries print their source themselves.
pub fn chain(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(source) = next {
        let part = source.to_string();
        if !text.ends_with(&part) {
            text.push_str(": ");
            text.push_str(&part);
        }
        next = source.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("read {path}")]
    struct Outer {
        path: &'static str,
        source: std::io::Error,
    }

    #[test]
    fn causes_are_joined_once() {
        let error = Outer { path: "/x", source: std::io::Error::other("no room") };
        assert_eq!(chain(&error), "read /x: no room");
    }
}
