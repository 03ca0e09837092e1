//! Credentials that are bound to hosts: inside there is a placeholder, and the value is put in outside.

use serde::{Deserialize, Serialize};

use super::egress::{Host, Target};

/// The port where none is named.
const HTTPS_PORT: u16 = 443;
/// Bindings of one session.
pub const BINDINGS_MAX: usize = 32;
const NAME_MAX: usize = 64;
const FORM_MAX: usize = 256;
/// What a binding's name gets at its end for the variable with its address.
pub const URL_SUFFIX: &str = "_URL";
/// Stands for the value in [`Binding::header`].
const VALUE: &str = "{}";
const DEFAULT_FORM: &str = "authorization: Bearer {}";
/// Headers that say where a request goes, where it ends, or what is between two hops.
const RESERVED: &[&str] = &[
    "connection",
    "content-length",
    "expect",
    "host",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// A credential that is sent to one host, and never enters the sandbox.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(feature = "daemon", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Binding {
    /// The credential of the tenant.
    pub credential_id: String,
    /// The only host that gets it: `api.example.com`, or with another port than 443.
    pub host: String,
    /// The header that it is sent in, with `{}` in its place. Default: `authorization: Bearer {}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub header: Option<String>,
}

impl Binding {
    /// The only host that gets it.
    ///
    /// # Errors
    ///
    /// What is wrong with it, as a fragment.
    pub fn target(&self) -> Result<Target, String> {
        match Target::parse(&self.host, Some(HTTPS_PORT)) {
            Ok(Target { host: Host::Ip(_), .. }) => Err("has to be a name, since certificates are for names".to_owned()),
            Ok(target) => Ok(target),
            Err(error) => Err(error.to_string()),
        }
    }

    /// Name of the header, in small letters, and what it says before and after the value.
    ///
    /// # Errors
    ///
    /// What is wrong with it, as a fragment.
    pub fn form(&self) -> Result<(String, &str, &str), String> {
        let form = self.header.as_deref().unwrap_or(DEFAULT_FORM);
        let refuse = || format!("has to be a header with one {VALUE} in it for the value, such as \"x-api-key: {VALUE}\"");
        let (name, text) = form.split_once(':').ok_or_else(refuse)?;
        let (before, after) = text.trim().split_once(VALUE).ok_or_else(refuse)?;
        let is_token = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'-' | b'_');
        let is_text = |text: &str| text.bytes().all(|c| c == b' ' || c.is_ascii_graphic()) && !text.contains(VALUE);
        if name.is_empty() || !name.bytes().all(is_token) || !is_text(before) || !is_text(after) || form.len() > FORM_MAX {
            return Err(refuse());
        }
        let name = name.to_ascii_lowercase();
        if RESERVED.contains(&name.as_str()) {
            return Err(format!("{name} is not for a credential"));
        }
        Ok((name, before, after))
    }
}

/// Whether a binding can have this name, which is that of the variable with the placeholder.
///
/// # Errors
///
/// What is wrong with it, as a fragment.
pub fn check_name(name: &str) -> Result<(), String> {
    let is_name =
        name.starts_with(|c: char| c.is_ascii_uppercase()) && name.bytes().all(|c| matches!(c, b'A'..=b'Z' | b'0'..=b'9' | b'_'));
    match () {
        () if !is_name || name.len() > NAME_MAX => {
            Err(format!("the name of a binding has 1 to {NAME_MAX} of A-Z, 0-9 and _, a letter first"))
        }
        () if name.ends_with(URL_SUFFIX) => Err(format!("{URL_SUFFIX} at the end is for the address of a binding")),
        () => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(host: &str, header: Option<&str>) -> Binding {
        Binding { credential_id: String::new(), host: host.to_owned(), header: header.map(str::to_owned) }
    }

    #[test]
    fn a_binding_is_to_a_name_and_its_header_has_one_place_for_the_value() {
        for (host, target) in [("API.example.com.", "api.example.com:443"), ("a.test:8443", "a.test:8443")] {
            assert_eq!(with(host, None).target().expect(host).to_string(), target);
        }
        for host in ["", "1.2.3.4", "[::1]", "*.example.com", "*", "https://a.test", "a.test/x", "a@b.test", "a.test:0", "0x7f.1"]
        {
            assert!(with(host, None).target().is_err(), "{host}");
        }
        let form = |header| with("a.test", header).form().map(|(name, before, after)| format!("{name}|{before}|{after}"));
        assert_eq!(form(None).as_deref(), Ok("authorization|Bearer |"));
        assert_eq!(form(Some("X-Api-Key:{}")).as_deref(), Ok("x-api-key||"));
        assert_eq!(form(Some("a: token=\"{}\", b")).as_deref(), Ok("a|token=\"|\", b"));
        for header in ["", "x", "x: y", ": {}", "x y: {}", "x: {}{}", "x: {}\r\ny: z", "x\u{e9}: {}", "x: \u{e9}{}"] {
            assert!(form(Some(header)).is_err(), "{header:?}");
        }
        for header in ["Host: {}", "content-length: {}", "Connection: {}", "te: {}"] {
            assert!(form(Some(header)).is_err_and(|why| why.ends_with("is not for a credential")), "{header}");
        }
    }

    #[test]
    fn a_name_is_that_of_a_variable() {
        for name in ["A", "GITHUB_TOKEN", "A1"] {
            assert_eq!(check_name(name), Ok(()));
        }
        for name in ["", "a", "1A", "_A", "A-B", "A/B", "A=B", "A_URL", "A\u{c4}", &"A".repeat(65)] {
            assert!(check_name(name).is_err(), "{name}");
        }
    }
}
