//! Where spans are sent, and which: what the configuration says, and where it says nothing the environment, by the names of
//! the OpenTelemetry specification ("OpenTelemetry Environment Variable Specification" and "OTLP exporter", v1.50).

use std::time::Duration;

use hyper::Uri;
use hyper::header::{HeaderName, HeaderValue};

use super::sample::{Ratio, Sampler};
use crate::wire::VERSION;

/// The name of the service where nobody says another one.
pub const SERVICE: &str = "ash";
/// Path of the receiver below the endpoint of all signals.
const PATH: &str = "v1/traces";
/// How long the collector may take for one batch, as the specification has it, and what may be asked for.
const TIMEOUT: Duration = Duration::from_secs(10);
const TIMEOUT_MAX: Duration = Duration::from_secs(60);
/// Headers and attributes of the resource that are taken.
const PAIRS_MAX: usize = 64;

/// What the configuration says.
#[derive(Debug, Clone, Default)]
pub struct Configured {
    /// Address of the collector, to which `/v1/traces` is added; empty for none at all.
    pub endpoint: Option<String>,
    /// What is kept of traces whose caller has not decided.
    pub ratio: Option<Ratio>,
    /// Name of the service.
    pub service: Option<String>,
    /// The text of the credential with the headers.
    pub headers: Option<String>,
    /// Tells this daemon from others.
    pub instance: String,
    /// Name of the host.
    pub host: Option<String>,
}

/// Where spans are sent, and which.
#[derive(Debug, Clone)]
pub struct Rules {
    /// The receiver.
    pub url: Uri,
    /// What every request to it has, marked as secret.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// How long it may take.
    pub timeout: Duration,
    /// Which traces are kept.
    pub sampler: Sampler,
    /// What all spans are of.
    pub resource: Vec<(String, String)>,
}

impl Rules {
    /// The receiver as it may be shown: a query may hold a key.
    pub fn shown_url(&self) -> String {
        let (scheme, authority) = (self.url.scheme_str().unwrap_or_default(), self.url.authority().map_or("", |to| to.as_str()));
        format!("{scheme}://{authority}{}", self.url.path())
    }
}

/// Why the headers of the credential can not be used. What they say is not repeated.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("is not a list of headers such as \"api-key=KEY,x-team=a\": {0}")]
pub struct BadHeaders(String);

/// The rules, if traces are to be sent; and what of the environment is passed over, to be told. As the specification
/// wants it, what it can not read counts as not set.
///
/// # Errors
///
/// [`BadHeaders`] for those of the credential.
pub fn rules(
    configured: &Configured,
    variable: impl Fn(&str) -> Option<String>,
) -> Result<(Option<Rules>, Vec<String>), BadHeaders> {
    // One that is empty is not set.
    let variable = |name: &str| variable(name).map(|text| text.trim().to_owned()).filter(|text| !text.is_empty());
    let is_set = |name: &str, value: &str| variable(name).is_some_and(|text| text.eq_ignore_ascii_case(value));
    let mut ignored = Vec::new();
    let url = match &configured.endpoint {
        Some(endpoint) => (!endpoint.is_empty()).then(|| below(endpoint)).and_then(|url| address(&url).ok()),
        None if is_set("OTEL_SDK_DISABLED", "true") || is_set("OTEL_TRACES_EXPORTER", "none") => None,
        None => from_variables(&variable, &mut ignored),
    };
    let Some(url) = url else { return Ok((None, ignored)) };
    let headers = match &configured.headers {
        Some(text) => headers(text).map_err(BadHeaders)?,
        None => {
            let named = ["OTEL_EXPORTER_OTLP_TRACES_HEADERS", "OTEL_EXPORTER_OTLP_HEADERS"];
            first(&variable, &named).map_or_else(Vec::new, |(name, text)| {
                headers(&text).unwrap_or_else(|reason| {
                    ignored.push(format!("{name}: {reason}"));
                    Vec::new()
                })
            })
        }
    };
    let sampler = match configured.ratio {
        Some(ratio) => Sampler { parent_based: true, ratio },
        None => variable("OTEL_TRACES_SAMPLER").map_or_else(Sampler::default, |name| {
            let named = Sampler::named(&name, variable("OTEL_TRACES_SAMPLER_ARG").as_deref());
            let without = named.or_else(|reason| {
                ignored.push(reason);
                Sampler::named(&name, None)
            });
            without.unwrap_or_default()
        }),
    };
    let named = ["OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"];
    if let Some((name, protocol)) = first(&variable, &named).filter(|(_, protocol)| protocol != "http/protobuf") {
        ignored.push(format!("{name}={protocol:?}: Ash speaks http/protobuf"));
    }
    ignored.extend(unheeded(&variable));
    let timeout = first(&variable, &["OTEL_EXPORTER_OTLP_TRACES_TIMEOUT", "OTEL_EXPORTER_OTLP_TIMEOUT"]);
    let timeout = timeout.and_then(|(name, text)| match text.parse().map(Duration::from_millis) {
        Ok(timeout) if !timeout.is_zero() => Some(timeout.min(TIMEOUT_MAX)),
        _ => {
            ignored.push(format!("{name}={text:?} is not a number of milliseconds"));
            None
        }
    });
    let mut resource = Vec::new();
    if let Some(text) = variable("OTEL_RESOURCE_ATTRIBUTES") {
        match pairs(&text) {
            Ok(pairs) => resource = pairs,
            Err(reason) => ignored.push(format!("OTEL_RESOURCE_ATTRIBUTES: {reason}")),
        }
    }
    let service = configured.service.clone().or_else(|| variable("OTEL_SERVICE_NAME"));
    let named = |name: &str| resource.iter().any(|(key, _)| key == name);
    let own = [
        ("service.name", service.clone().or_else(|| (!named("service.name")).then(|| SERVICE.to_owned()))),
        ("service.version", Some(VERSION.to_owned())),
        ("service.instance.id", (!named("service.instance.id")).then(|| configured.instance.clone())),
        ("host.name", configured.host.clone().filter(|_| !named("host.name"))),
    ];
    for (name, value) in own {
        if let Some(value) = value {
            resource.retain(|(key, _)| key != name);
            resource.push((name.to_owned(), value));
        }
    }
    Ok((Some(Rules { url, headers, timeout: timeout.unwrap_or(TIMEOUT), sampler, resource }), ignored))
}

/// The receiver that the environment names.
fn from_variables(variable: &impl Fn(&str) -> Option<String>, ignored: &mut Vec<String>) -> Option<Uri> {
    // That of traces is taken as it is.
    let (name, url) = match variable("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT") {
        Some(url) => ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", address(&url)),
        None => {
            let endpoint = variable("OTEL_EXPORTER_OTLP_ENDPOINT")?;
            // A path can not be added behind a query.
            let url = if endpoint.contains(['?', '#']) {
                Err(format!("has more than scheme, host, port and path, so that /{PATH} can not be added"))
            } else {
                address(&below(&endpoint))
            };
            ("OTEL_EXPORTER_OTLP_ENDPOINT", url)
        }
    };
    url.map_err(|reason| ignored.push(format!("{name}: {reason}"))).ok()
}

/// What is said of variables that would change what is sent, or to whom, and that Ash has nothing for.
fn unheeded(variable: &impl Fn(&str) -> Option<String>) -> Vec<String> {
    const ROOTS: &str = "Ash trusts whom the host trusts (/etc/ssl/certs)";
    const CLIENT: &str = "Ash shows no certificate of its own";
    let all = [
        ("CERTIFICATE", ROOTS),
        ("CLIENT_CERTIFICATE", CLIENT),
        ("CLIENT_KEY", CLIENT),
        ("COMPRESSION", "Ash sends uncompressed"),
    ];
    let named = all.into_iter().flat_map(|(what, reason)| {
        ["OTEL_EXPORTER_OTLP_TRACES_", "OTEL_EXPORTER_OTLP_"].map(|before| (what, format!("{before}{what}"), reason))
    });
    let is_meant = |what: &str, value: &str| what != "COMPRESSION" || value != "none";
    let set = named.filter(|(what, name, _)| variable(name).is_some_and(|value| is_meant(what, &value)));
    set.map(|(_, name, reason)| format!("{name}: {reason}")).collect()
}

fn first(variable: &impl Fn(&str) -> Option<String>, names: &[&'static str]) -> Option<(&'static str, String)> {
    names.iter().find_map(|name| variable(name).map(|text| (*name, text)))
}

fn below(endpoint: &str) -> String {
    format!("{}/{PATH}", endpoint.trim_end_matches('/'))
}

/// An address to which spans can be sent. One that holds a password is not repeated.
fn address(text: &str) -> Result<Uri, String> {
    let url: Uri = text.parse().map_err(|_| "is not an address such as \"http://127.0.0.1:4318\"".to_owned())?;
    let is_http = matches!(url.scheme_str(), Some("http" | "https")) && url.host().is_some_and(|host| !host.is_empty());
    let is_plain = url.authority().is_none_or(|authority| !authority.as_str().contains('@'));
    if is_http && is_plain { Ok(url) } else { Err("is not an address such as \"http://127.0.0.1:4318\"".to_owned()) }
}

/// Headers as `OTEL_EXPORTER_OTLP_HEADERS` has them; in a file also one a line.
fn headers(text: &str) -> Result<Vec<(HeaderName, HeaderValue)>, String> {
    let one = |(name, value): (String, String)| {
        let header = HeaderName::from_bytes(name.as_bytes()).map_err(|_| "one has no good name".to_owned())?;
        let mut value = HeaderValue::from_str(&value).map_err(|_| format!("the value of {header} is no text for a header"))?;
        value.set_sensitive(true);
        Ok((header, value))
    };
    pairs(&text.replace(['\n', '\r'], ","))?.into_iter().map(one).collect()
}

/// `name=value` with commas between, values percent-encoded (W3C Baggage, without properties).
fn pairs(text: &str) -> Result<Vec<(String, String)>, String> {
    let mut pairs = Vec::new();
    for (number, pair) in text.split(',').map(str::trim).filter(|pair| !pair.is_empty()).enumerate() {
        let (name, value) = pair.split_once('=').ok_or_else(|| format!("number {} has no \"=\"", number + 1))?;
        let (name, value) = (decode(name.trim()), decode(value.trim()));
        let (Some(name), Some(value)) = (name, value) else {
            return Err(format!("number {} is not percent-encoded UTF-8", number + 1));
        };
        if name.is_empty() {
            return Err(format!("number {} has no name", number + 1));
        }
        pairs.push((name, value));
    }
    if pairs.len() > PAIRS_MAX { Err(format!("there are more than {PAIRS_MAX}")) } else { Ok(pairs) }
}

/// Takes percent encoding away.
fn decode(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, more @ ..] = rest {
        rest = more;
        if *first == b'%' {
            let digits = std::str::from_utf8(rest.get(..2)?).ok().filter(|digits| !digits.starts_with('+'))?;
            bytes.push(u8::from_str_radix(digits, 16).ok()?);
            rest = &rest[2..];
        } else {
            bytes.push(*first);
        }
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolve(configured: &Configured, variables: &[(&str, &str)]) -> (Option<Rules>, Vec<String>) {
        let get = |name: &str| variables.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned());
        rules(configured, get).expect("good headers")
    }

    fn url(configured: Option<&str>, variables: &[(&str, &str)]) -> Option<String> {
        let configured = Configured { endpoint: configured.map(str::to_owned), ..Configured::default() };
        resolve(&configured, variables).0.map(|rules| rules.url.to_string())
    }

    #[test]
    fn the_configuration_comes_before_the_environment() {
        const ALL: (&str, &str) = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://env:4318/");
        const TRACES: (&str, &str) = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "https://env/custom");
        for (configured, variables, wanted) in [
            (None, &[][..], None),
            (Some("http://here:4318"), &[][..], Some("http://here:4318/v1/traces")),
            (Some("https://here/otlp/"), &[ALL], Some("https://here/otlp/v1/traces")),
            (Some(""), &[ALL], None),
            (None, &[ALL], Some("http://env:4318/v1/traces")),
            (None, &[ALL, TRACES], Some("https://env/custom")),
            (None, &[("OTEL_EXPORTER_OTLP_ENDPOINT", " ")], None),
            (None, &[ALL, ("OTEL_SDK_DISABLED", "true")], None),
            (None, &[ALL, ("OTEL_SDK_DISABLED", "no")], Some("http://env:4318/v1/traces")),
            (None, &[ALL, ("OTEL_TRACES_EXPORTER", "none")], None),
            (Some("http://here"), &[("OTEL_SDK_DISABLED", "true")], Some("http://here/v1/traces")),
        ] {
            assert_eq!(url(configured, variables).as_deref(), wanted, "{configured:?} {variables:?}");
        }
    }

    #[test]
    fn what_the_environment_says_badly_is_told_and_passed_over() {
        let configured = Configured { endpoint: Some("http://here".to_owned()), ..Configured::default() };
        for (name, value) in [
            ("OTEL_TRACES_SAMPLER", "jaeger_remote"),
            ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"),
            ("OTEL_EXPORTER_OTLP_TIMEOUT", "10s"),
            ("OTEL_EXPORTER_OTLP_TIMEOUT", "0"),
            ("OTEL_EXPORTER_OTLP_HEADERS", "secret"),
            ("OTEL_EXPORTER_OTLP_HEADERS", "secret name=secret"),
            ("OTEL_EXPORTER_OTLP_HEADERS", "a=secret%0a"),
            ("OTEL_RESOURCE_ATTRIBUTES", "=x"),
            ("OTEL_RESOURCE_ATTRIBUTES", "a=%zz"),
            ("OTEL_EXPORTER_OTLP_CERTIFICATE", "/secret.pem"),
            ("OTEL_EXPORTER_OTLP_TRACES_CLIENT_CERTIFICATE", "/secret.pem"),
            ("OTEL_EXPORTER_OTLP_CLIENT_KEY", "/secret.pem"),
            ("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip"),
        ] {
            let (rules, ignored) = resolve(&configured, &[(name, value)]);
            let rules = rules.expect("it is on");
            assert_eq!((rules.sampler, rules.timeout, rules.headers.len()), (Sampler::default(), TIMEOUT, 0));
            assert!(matches!(&ignored[..], [one] if one.contains(name) && !one.contains("secret")), "{ignored:?}");
        }
        assert_eq!(resolve(&configured, &[("OTEL_EXPORTER_OTLP_COMPRESSION", "none")]).1, [""; 0]);
        for bad in ["env:4318", "ftp://env", "http://user:secret@env", "http://", "http://env/?key=secret", "http://env#secret"] {
            let (rules, ignored) = resolve(&Configured::default(), &[("OTEL_EXPORTER_OTLP_ENDPOINT", bad)]);
            assert!(rules.is_none() && ignored.len() == 1 && !ignored[0].contains("secret"), "{bad}: {ignored:?}");
        }
    }

    #[test]
    fn a_receiver_is_shown_without_its_query() {
        let variables = [("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "https://env:4318/custom?api-key=secret")];
        let rules = resolve(&Configured::default(), &variables).0.expect("it is on");
        assert_eq!(rules.url.query(), Some("api-key=secret"), "it is sent there");
        assert_eq!(rules.shown_url(), "https://env:4318/custom");
    }

    #[test]
    fn headers_and_attributes_are_read_as_the_specification_has_them() {
        let variables = [
            ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://env"),
            ("OTEL_EXPORTER_OTLP_HEADERS", "api-key=a%20b , X-Team = t"),
            ("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=prod,service.name=other,k=%C3%A4"),
            ("OTEL_TRACES_SAMPLER", "parentbased_traceidratio"),
            ("OTEL_TRACES_SAMPLER_ARG", "0.5"),
            ("OTEL_EXPORTER_OTLP_TIMEOUT", "2500"),
        ];
        let configured = Configured { instance: "h-1".to_owned(), ..Configured::default() };
        let (found, ignored) = resolve(&configured, &variables);
        let found = found.expect("it is on");
        assert_eq!(ignored, [""; 0]);
        let text: Vec<_> = found.headers.iter().map(|(name, value)| (name.as_str(), value.to_str().expect("text"))).collect();
        assert_eq!(text, [("api-key", "a b"), ("x-team", "t")]);
        assert!(!format!("{found:?}").contains("a b"), "secrets are not shown");
        assert_eq!(found.sampler, Sampler { parent_based: true, ratio: Ratio::new(0.5).expect("a share") });
        assert_eq!(found.timeout, Duration::from_millis(2500));
        let value = |rules: &Rules, name: &str| {
            rules.resource.iter().filter(|(key, _)| key == name).map(|(_, value)| value.clone()).collect::<Vec<_>>()
        };
        assert_eq!(value(&found, "service.name"), ["other"]);
        assert_eq!((value(&found, "k"), value(&found, "service.instance.id")), (vec!["ä".to_owned()], vec!["h-1".to_owned()]));

        // What is configured counts.
        let configured = Configured {
            service: Some("mine".to_owned()),
            ratio: Some(Ratio::NONE),
            headers: Some("api-key=other\nx-b=c".to_owned()),
            ..configured
        };
        let found = resolve(&configured, &variables).0.expect("it is on");
        assert_eq!((value(&found, "service.name"), found.headers.len()), (vec!["mine".to_owned()], 2));
        assert_eq!(found.sampler, Sampler { parent_based: true, ratio: Ratio::NONE });
        let bad =
            Configured { endpoint: Some("http://x".to_owned()), headers: Some("secret".to_owned()), ..Configured::default() };
        let error = rules(&bad, |_| None).expect_err("no header").to_string();
        assert!(!error.contains("secret") && error.contains("number 1"), "{error}");
    }
}
