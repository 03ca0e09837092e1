//! Hosts and ports, in one normal form.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::WEB;

/// Longest name, in its text form (RFC 1035 section 2.3.4, without the root).
const NAME_MAX: usize = 253;
/// Longest label.
const LABEL_MAX: usize = 63;

/// A host that can be asked for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Host {
    /// A name: lower case, without a dot at its end.
    Name(String),
    /// An address, written in its usual form.
    Ip(IpAddr),
}

/// A host and its port.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Target {
    /// The host.
    pub host: Host,
    /// The port, not 0.
    pub port: u16,
}

/// A text that is no host.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HostError {
    /// It is empty or too long.
    #[error("a name has 1 to {NAME_MAX} characters")]
    Length,
    /// A part between dots is empty or too long.
    #[error("each part between dots has 1 to {LABEL_MAX} characters")]
    Label,
    /// A character that no name has.
    #[error("{0:?} is in no host name")]
    Character(char),
    /// It is not ASCII.
    #[error("write it in its ASCII form (xn--…)")]
    NotAscii,
    /// A part begins or ends with a hyphen.
    #[error("no part begins or ends with \"-\"")]
    Hyphen,
    /// It would be read as an address by some, and as another one by others.
    #[error("it ends in a number, but is no address in its usual form")]
    Number,
    /// It is in brackets, or has colons, and is no address.
    #[error("it is no IPv6 address")]
    Ipv6,
}

/// A text that is no host with a port.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TargetError {
    /// The host is none.
    #[error(transparent)]
    Host(#[from] HostError),
    /// The port is none.
    #[error("{0:?} is no port: write a number from 1 to 65535")]
    Port(String),
    /// There is no port.
    #[error("it names no port")]
    NoPort,
    /// An IPv6 address without brackets.
    #[error("write an IPv6 address in brackets, such as \"[2001:db8::1]:443\"")]
    Brackets,
}

impl Host {
    /// Reads a name or an address; IPv6 with or without brackets.
    ///
    /// # Errors
    ///
    /// What is wrong with the text. It is never guessed what was meant.
    pub fn parse(text: &str) -> Result<Self, HostError> {
        let bracketed = text.strip_prefix('[').map(|rest| rest.strip_suffix(']').ok_or(HostError::Ipv6)).transpose()?;
        if bracketed.is_some() || text.contains(':') {
            let address = bracketed.unwrap_or(text).parse::<Ipv6Addr>();
            return address.map(|address| Self::Ip(address.into())).map_err(|_| HostError::Ipv6);
        }
        if let Ok(address) = text.parse::<Ipv4Addr>() {
            return Ok(Self::Ip(address.into()));
        }
        Self::name(text)
    }

    fn name(text: &str) -> Result<Self, HostError> {
        let name = text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase();
        if name.is_empty() || name.len() > NAME_MAX {
            return Err(HostError::Length);
        }
        if !name.is_ascii() {
            return Err(HostError::NotAscii);
        }
        if let Some(bad) = name.chars().find(|c| !matches!(c, 'a'..='z' | '0'..='9' | '-' | '_' | '.')) {
            return Err(HostError::Character(bad));
        }
        for label in name.split('.') {
            if label.is_empty() || label.len() > LABEL_MAX {
                return Err(HostError::Label);
            }
            if label.starts_with('-') || label.ends_with('-') {
                return Err(HostError::Hyphen);
            }
        }
        // inet_aton(3) takes one to four parts, decimal, octal or hexadecimal. No top-level domain
        // is a number, so what ends in one is no name (the URL standard, "ends in a number").
        let last = name.rsplit('.').next().unwrap_or_default();
        let is_hex = last.strip_prefix("0x").is_some_and(|digits| digits.bytes().all(|b| b.is_ascii_hexdigit()));
        if is_hex || last.bytes().all(|b| b.is_ascii_digit()) {
            return Err(HostError::Number);
        }
        Ok(Self::Name(name))
    }
}

impl Target {
    /// Reads a host with its port, as in the request line of `CONNECT`.
    ///
    /// # Errors
    ///
    /// As [`Host::parse`], or what is wrong with the port.
    pub fn parse(text: &str, default_port: Option<u16>) -> Result<Self, TargetError> {
        let (host, text_port) = split_port(text)?;
        let number = text_port.map(port).transpose()?.or(default_port).ok_or(TargetError::NoPort)?;
        Ok(Self { host: Host::parse(host)?, port: number })
    }

    /// Whom an address leads to. Only what every reader of addresses takes for the same host is read: nothing that one
    /// would leave out, unescape or take for a user.
    ///
    /// # Errors
    ///
    /// What is wrong with it, as a sentence.
    pub fn of_url(url: &str) -> Result<Self, String> {
        let (scheme, rest) = url.split_once("://").ok_or("it is no address such as https://example.com/")?;
        let port = match scheme.to_ascii_lowercase().as_str() {
            "https" => WEB[0],
            "http" => WEB[1],
            _ => return Err("only http and https are fetched".to_owned()),
        };
        if url.chars().any(|c| c.is_control() || c.is_whitespace() || c == '\\') {
            return Err("an address has no spaces and no \\".to_owned());
        }
        let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
        Self::parse(authority, Some(port)).map_err(|error| error.to_string())
    }
}

/// Parts a text at the colon before its port.
pub(super) fn split_port(text: &str) -> Result<(&str, Option<&str>), TargetError> {
    if text.starts_with('[') {
        let end = text.find(']').ok_or(HostError::Ipv6)?;
        let (host, rest) = text.split_at(end + 1);
        return match rest.strip_prefix(':') {
            Some(port) => Ok((host, Some(port))),
            None if rest.is_empty() => Ok((host, None)),
            None => Err(HostError::Ipv6.into()),
        };
    }
    match text.split_once(':') {
        Some((_, rest)) if rest.contains(':') => Err(TargetError::Brackets),
        Some((host, port)) => Ok((host, Some(port))),
        None => Ok((text, None)),
    }
}

pub(super) fn port(text: &str) -> Result<u16, TargetError> {
    let refuse = || TargetError::Port(text.chars().take(16).collect());
    if text.is_empty() || !text.bytes().all(|b| b.is_ascii_digit()) {
        return Err(refuse());
    }
    text.parse().ok().filter(|port| *port != 0).ok_or_else(refuse)
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name),
            Self::Ip(IpAddr::V4(address)) => address.fmt(f),
            Self::Ip(IpAddr::V6(address)) => write!(f, "[{address}]"),
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}
