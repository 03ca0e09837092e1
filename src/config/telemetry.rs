//! `[telemetry]`: where traces are sent.

use hyper::Uri;

/// Bytes of an address and of a name.
const TEXT_MAX: usize = 1024;
const NAME_MAX: usize = 255;

/// `[telemetry]`. Where it says nothing, the environment variables of OpenTelemetry do (`OTEL_…`).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Telemetry {
    /// Address of an OpenTelemetry collector that takes OTLP over HTTP, without `/v1/traces`. Empty: no traces are sent,
    /// whatever the environment says.
    pub endpoint: Option<String>,
    /// What is kept of the traces whose caller has not decided.
    pub sample_ratio: Option<Share>,
    /// Name of the service. Default: `ash`.
    pub service_name: Option<String>,
}

/// A share in billionths.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Share(u32);

impl Share {
    /// As a number from 0 to 1.
    pub fn as_number(self) -> f64 {
        f64::from(self.0) / 1e9
    }
}

/// An address, or an empty text.
pub(super) fn endpoint(text: &str) -> Result<String, String> {
    let refuse = || "is not an address such as \"http://127.0.0.1:4318\"".to_owned();
    if text.is_empty() {
        return Ok(String::new());
    }
    let url: Uri = text.parse().map_err(|_| refuse())?;
    let is_http = matches!(url.scheme_str(), Some("http" | "https")) && url.host().is_some_and(|host| !host.is_empty());
    if !is_http || text.len() > TEXT_MAX {
        return Err(refuse());
    }
    if url.authority().is_some_and(|authority| authority.as_str().contains('@')) || url.query().is_some() || text.contains('#') {
        return Err("has more than scheme, host, port and path; secrets go into the credential \"otlp_headers\"".to_owned());
    }
    let bare = text.trim_end_matches('/');
    if bare.ends_with("/v1/traces") {
        return Err("leave out \"/v1/traces\", it is added".to_owned());
    }
    Ok(bare.to_owned())
}

/// A share of the traces.
pub(super) fn share(number: f64) -> Result<Share, String> {
    let is_share = (0.0..=1.0).contains(&number);
    if is_share { Ok(Share((number * 1e9).round() as u32)) } else { Err(format!("{number} is not from 0 to 1")) }
}

/// The name of a service.
pub(super) fn service_name(text: &str) -> Result<String, String> {
    let is_name = (1..=NAME_MAX).contains(&text.len()) && !text.chars().any(char::is_control) && text.trim() == text;
    if is_name { Ok(text.to_owned()) } else { Err(format!("{text:?} is not a name of 1 to {NAME_MAX} bytes")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_shares_and_names_are_checked() {
        assert_eq!(endpoint(""), Ok(String::new()));
        assert_eq!(endpoint("http://127.0.0.1:4318/"), Ok("http://127.0.0.1:4318".to_owned()));
        assert_eq!(endpoint("https://otel.example/otlp"), Ok("https://otel.example/otlp".to_owned()));
        for bad in [
            "127.0.0.1:4318",
            "grpc://x:4317",
            "http://",
            "https://u:secret@x",
            "http://x/?key=secret",
            "http://x#secret",
            "http://x/v1/traces",
            "http://x/v1/traces/",
        ] {
            assert!(endpoint(bad).is_err_and(|reason| !reason.contains("secret@") && !reason.contains("key=")), "{bad}");
        }
        for (number, good) in [(0.0, true), (1.0, true), (0.05, true), (-0.1, false), (1.01, false), (f64::NAN, false)] {
            assert_eq!(share(number).ok().map(Share::as_number), good.then_some(number), "{number}");
        }
        assert!(service_name("ash-production").is_ok());
        for bad in ["", " x", "a\nb", &"x".repeat(300)] {
            assert!(service_name(bad).is_err(), "{bad:?}");
        }
    }
}
