//! Credentials that are bound to hosts. Their values are here, and never inside.
//!
//! ```text
//! inside   GET http://127.0.0.1:4001/NAME/v1/things      NAME: a binding
//! outside  GET https://the-host-of-NAME/v1/things        with the header of NAME
//! ```
//!
//! The name says where a call goes, and nothing else in it does. TLS has to be for that host by a
//! certificate that the shim's host trusts, before the first byte of HTTP is sent. A redirect is an answer like any other.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use hyper::Uri;
use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use hyper::http::uri::PathAndQuery;
use hyper_rustls::{ConfigBuilderExt, HttpsConnectorBuilder};
use hyper_util::rt::TokioIo;
use tokio::time::timeout;
use tower::Service;

use super::http::{Upstream, open_on};
use super::{CONNECT_DEADLINE, Egress, Failure, Outside};
use crate::link::shim::Binding;
use crate::report;
use crate::wire::egress::{Host, Target, address};

/// What is bound, by name.
pub type Bindings = BTreeMap<String, Bound>;

/// A credential and its host.
#[derive(Debug, Clone)]
pub struct Bound {
    pub target: Target,
    header: HeaderName,
    /// Marked sensitive, so that it is never printed. `None`: it was deleted.
    value: Option<HeaderValue>,
}

/// A call to the host of a binding.
#[derive(Debug)]
pub struct Call {
    pub name: String,
    /// What is asked for there.
    pub path: PathAndQuery,
    pub target: Target,
    pub header: HeaderName,
    pub value: Option<HeaderValue>,
}

/// Reads bindings. Names of those that can not be read come back for the log.
pub fn read(settings: &[Binding]) -> (Bindings, Vec<String>) {
    let mut unread = Vec::new();
    let mut bindings = Bindings::new();
    for binding in settings {
        match read_one(binding) {
            Some(bound) => drop(bindings.insert(binding.name.clone(), bound)),
            None => unread.push(binding.name.clone()),
        }
    }
    (bindings, unread)
}

fn read_one(binding: &Binding) -> Option<Bound> {
    let target = Target::parse(&binding.host, None).ok().filter(|target| matches!(target.host, Host::Name(_)))?;
    let header = binding.header.parse().ok()?;
    let value = binding.value.as_deref().map(HeaderValue::from_str).transpose().ok()?;
    let value = value.map(|mut value| {
        value.set_sensitive(true);
        value
    });
    Some(Bound { target, header, value })
}

/// The call that an address in origin form is, if its first part names a binding. It is taken as it is
/// written: what a path may mean beyond that is for the bound host to say.
pub fn call(bindings: &Bindings, uri: &Uri) -> Option<Call> {
    let rest = uri.path_and_query()?.as_str().strip_prefix('/')?;
    let (name, rest) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
    let Bound { target, header, value } = bindings.get(name)?.clone();
    let path = if rest.starts_with('/') { rest.to_owned() } else { format!("/{rest}") };
    Some(Call { name: name.to_owned(), path: path.parse().ok()?, target, header, value })
}

/// Whether a call says that it is for the proxy itself, as a base URL on the loopback makes it. Others have to be for the
/// bound host.
pub fn is_for_loopback(headers: &HeaderMap) -> bool {
    let mut hosts = headers.get_all(header::HOST).iter();
    let (Some(host), None) = (hosts.next(), hosts.next()) else { return false };
    let target = host.to_str().ok().and_then(|host| Target::parse(host, Some(80)).ok());
    target.is_some_and(|target| match target.host {
        Host::Ip(ip) => address::is_loopback(ip),
        Host::Name(name) => name == "localhost",
    })
}

/// Speaks TLS, and HTTP in it, with the host that was connected to.
pub async fn open(egress: &Egress, outside: Outside) -> Result<Upstream, Failure> {
    let Outside { target, way, stream } = outside;
    let failed = |why: String| Failure::Unreachable(format!("{target} gets no credential: {why}"));
    let config = config(egress).map_err(|error| failed(error.to_string()))?;
    // Connected already, to an address that was checked.
    let mut stream = Some(TokioIo::new(stream));
    let connected = tower::service_fn(move |_: Uri| {
        std::future::ready(stream.take().ok_or_else(|| io::Error::from(io::ErrorKind::NotConnected)))
    });
    let mut secure = HttpsConnectorBuilder::new().with_tls_config(config).https_only().enable_http1().wrap_connector(connected);
    let address = Uri::builder().scheme("https").authority(target.to_string()).path_and_query("/").build();
    let address = address.map_err(|error| failed(error.to_string()))?;
    let stream = match timeout(CONNECT_DEADLINE, secure.call(address)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return Err(failed(report::chain(error.as_ref()))),
        Err(_) => return Err(failed("its TLS takes too long".to_owned())),
    };
    let opened = open_on(target.clone(), way, stream).await;
    opened.map_err(|error| failed(report::chain(&error)))
}

fn config(egress: &Egress) -> io::Result<rustls::ClientConfig> {
    if let Some(config) = egress.shared.tls.get() {
        return Ok(config.clone());
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(provider);
    let builder = builder.with_safe_default_protocol_versions().map_err(io::Error::other)?;
    let config = builder.with_native_roots()?.with_no_client_auth();
    Ok(egress.shared.tls.get_or_init(|| config).clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn binding(name: &str, host: &str, value: Option<&str>) -> Binding {
        Binding { name: name.to_owned(), host: host.to_owned(), header: "x-key".to_owned(), value: value.map(str::to_owned) }
    }

    #[test]
    fn only_the_first_part_of_a_path_says_where_a_call_goes() {
        let (bindings, unread) = read(&[
            binding("A", "a.test:443", Some("secret")),
            binding("B", "b.test:8443", None),
            binding("IP", "127.0.0.1:443", Some("secret")),
            binding("LINE", "a.test:443", Some("a\r\nb: c")),
        ]);
        assert_eq!(unread, ["IP", "LINE"]);
        assert!(!format!("{bindings:?}").contains("secret"));
        let called = |path: &str| {
            let call = call(&bindings, &path.parse().expect(path))?;
            Some(format!("{} {}", call.target, call.path))
        };
        for (path, wanted) in [
            ("/A", "a.test:443 /"),
            ("/A/", "a.test:443 /"),
            ("/A?q=/B/", "a.test:443 /?q=/B/"),
            ("/A/v1/x?y=1", "a.test:443 /v1/x?y=1"),
            ("/A/../B/x", "a.test:443 /../B/x"),
            ("/A//evil.test/x", "a.test:443 //evil.test/x"),
            ("/A/@evil.test", "a.test:443 /@evil.test"),
            ("/A/%2e%2e/%2fB", "a.test:443 /%2e%2e/%2fB"),
            ("/B/x", "b.test:8443 /x"),
        ] {
            assert_eq!(called(path).as_deref(), Some(wanted), "{path}");
        }
        for path in ["/", "//A/x", "/a/x", "/C/x", "/A%2f/x", "/%41/x", "/A@evil.test/x", "/AB", "/A.evil.test/", "/./A/x"] {
            assert_eq!(called(path), None, "{path}");
        }
    }

    #[test]
    fn a_call_is_for_the_loopback_by_one_host_that_says_so() {
        let is = |hosts: &[&str]| {
            let mut headers = HeaderMap::new();
            for host in hosts {
                headers.append(header::HOST, host.parse().expect("a value"));
            }
            is_for_loopback(&headers)
        };
        assert!(is(&["127.0.0.1:4001"]) && is(&["localhost:4001"]) && is(&["[::1]:4001"]));
        for hosts in
            [&["evil.test"][..], &["localhost.evil.test"], &["127.0.0.1.evil.test"], &["127.0.0.1", "127.0.0.1"], &[], &[""]]
        {
            assert!(!is(hosts), "{hosts:?}");
        }
    }
}
