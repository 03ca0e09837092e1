//! Where events are sent, taken apart.

use std::fmt;

use hyper::Uri;
use hyper::http::uri::PathAndQuery;

use crate::wire::egress::Target;

/// Longest address.
const URL_MAX: usize = 2048;

/// An address that was checked as far as its text tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Url {
    /// Whether it is spoken to with TLS.
    pub is_https: bool,
    /// Host and port.
    pub target: Target,
    /// Host and port as they were written, for the header `Host`.
    pub authority: String,
    /// Path and query.
    pub path: PathAndQuery,
}

impl Url {
    /// Reads an address.
    ///
    /// # Errors
    ///
    /// The reason why it is none.
    pub fn parse(text: &str, allow_http: bool) -> Result<Self, String> {
        if text.len() > URL_MAX {
            return Err(format!("is longer than {URL_MAX} characters"));
        }
        let uri: Uri = text.parse().map_err(|_| "is no URL, such as https://example.com/hook".to_owned())?;
        let is_https = match uri.scheme_str() {
            Some("https") => true,
            Some("http") if allow_http => false,
            Some("http") => return Err("has to begin with https://, as the operator does not allow http".to_owned()),
            _ => return Err("has to begin with https://".to_owned()),
        };
        let authority = uri.authority().ok_or_else(|| "names no host".to_owned())?.as_str();
        if authority.contains('@') {
            return Err("has a user or a password in it; the signature tells who sends".to_owned());
        }
        if text.contains('#') {
            return Err("has a fragment, which is not sent".to_owned());
        }
        let port = if is_https { 443 } else { 80 };
        let target = Target::parse(authority, Some(port)).map_err(|error| format!("names no host: {error}"))?;
        let path = uri.path_and_query().cloned().unwrap_or_else(|| PathAndQuery::from_static("/"));
        Ok(Self { is_https, target, authority: authority.to_owned(), path })
    }
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.is_https { "https" } else { "http" };
        write!(f, "{scheme}://{}{}", self.authority, self.path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_taken_apart_and_others_refused() {
        for (text, target, path) in [
            ("https://example.com", "example.com:443", "/"),
            ("https://Example.com:8443/a/b?c=d", "example.com:8443", "/a/b?c=d"),
            ("https://[2606:4700::1111]/x", "2606:4700::1111", "/x"),
            ("http://127.0.0.1:9/", "127.0.0.1:9", "/"),
        ] {
            let url = Url::parse(text, true).expect(text);
            assert!(url.target.to_string().contains(target), "{} {target}", url.target);
            assert_eq!(url.path.as_str(), path);
        }
        for bad in [
            "",
            "/x",
            "example.com",
            "ftp://example.com",
            "https://",
            "https://u:p@example.com",
            "https://example.com/#x",
            "https://0177.0.0.1/",
            "https://2130706433/",
            "https://exa mple.com",
            "https://example.com:0/",
            "https://bücher.example",
            &format!("https://example.com/{}", "x".repeat(URL_MAX)),
        ] {
            assert!(Url::parse(bad, true).is_err(), "{bad}");
        }
        assert!(Url::parse("http://example.com", false).is_err_and(|reason| reason.contains("https")));
    }
}
