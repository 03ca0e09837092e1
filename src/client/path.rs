//! Paths of requests, with their queries.

/// A path with its query.
pub(super) struct Path(pub(super) String);

impl Path {
    pub(super) fn new(path: impl Into<String>) -> Self {
        Self(path.into())
    }

    pub(super) fn with(mut self, name: &str, value: Option<impl ToString>) -> Self {
        if let Some(value) = value {
            self.0.push(if self.0.contains('?') { '&' } else { '?' });
            self.0.push_str(name);
            self.0.push('=');
            self.0.push_str(&segment(&value.to_string()));
        }
        self
    }
}

/// A text as one segment of a path, or as a value of a query (RFC 3986 §2.3: unreserved letters
/// stay, all else is written in percent).
pub(super) fn segment(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'~' => out.push(char::from(byte)),
            b'.' if text.bytes().any(|b| b != b'.') => out.push('.'),
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stay_one_segment() {
        for (text, path) in
            [("qa-bot_1", "qa-bot_1"), ("a/b", "a%2Fb"), ("..", "%2E%2E"), ("a.b", "a.b"), ("ä ?#%", "%C3%A4%20%3F%23%25")]
        {
            assert_eq!(segment(text), path);
        }
    }

    #[test]
    fn queries_hold_only_what_is_asked() {
        let path = Path::new("/x").with("a", None::<u32>).with("b", Some(1)).with("c", Some("d&e"));
        assert_eq!(path.0, "/x?b=1&c=d%26e");
    }
}
