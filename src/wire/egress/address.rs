//! Which addresses are the public network, and which are somebody's own.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Addresses with a common beginning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Range {
    address: IpAddr,
    prefix: u8,
}

/// A text that is no [`Range`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RangeError {
    /// It has not the form.
    #[error("{0:?} is no range of addresses, such as \"10.1.0.0/16\" or \"fd00:1::/64\"")]
    Form(String),
    /// Bits are set behind the prefix.
    #[error("{0} has bits behind its prefix; write {1}")]
    Bits(String, Range),
}

const fn v4(a: u8, b: u8, c: u8, d: u8, prefix: u8) -> Range {
    Range { address: IpAddr::V4(Ipv4Addr::new(a, b, c, d)), prefix }
}

const fn v6(head: [u16; 4], prefix: u8) -> Range {
    let [a, b, c, d] = head;
    Range { address: IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0)), prefix }
}

/// Where clouds tell the machine about itself, with its credentials. Never reached, whatever is
/// allowed: AWS, GCP, Azure and others; the credentials of AWS's containers (ECS, EKS); IPv6 of AWS and
/// GCP; Azure's WireServer; Alibaba Cloud; Oracle Cloud.
const METADATA: &[IpAddr] = &[
    IpAddr::V4(Ipv4Addr::new(169, 254, 169, 254)),
    IpAddr::V4(Ipv4Addr::new(169, 254, 170, 2)),
    IpAddr::V4(Ipv4Addr::new(169, 254, 170, 23)),
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x23)),
    IpAddr::V4(Ipv4Addr::new(192, 0, 0, 192)),
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254)),
    IpAddr::V6(Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254)),
    IpAddr::V4(Ipv4Addr::new(168, 63, 129, 16)),
    IpAddr::V4(Ipv4Addr::new(100, 100, 100, 200)),
];

/// The IANA IPv4 and IPv6 special-purpose address registries (RFC 6890), and what of the space is
/// not for single hosts. The first that has an address names it.
const SPECIAL: &[(Range, &str)] = &[
    (v4(0, 0, 0, 0, 32), "the unspecified address"),
    (v4(0, 0, 0, 0, 8), "an address of this network"),
    (v4(10, 0, 0, 0, 8), "a private address"),
    (v4(100, 64, 0, 0, 10), "an address of a carrier's NAT"),
    (v4(127, 0, 0, 0, 8), "a loopback address"),
    (v4(169, 254, 0, 0, 16), "a link-local address"),
    (v4(172, 16, 0, 0, 12), "a private address"),
    (v4(192, 0, 0, 0, 24), "an address of IETF protocols"),
    (v4(192, 0, 2, 0, 24), "an address for documentation"),
    (v4(192, 88, 99, 0, 24), "an address of 6to4 relays"),
    (v4(192, 168, 0, 0, 16), "a private address"),
    (v4(198, 18, 0, 0, 15), "an address for benchmarks"),
    (v4(198, 51, 100, 0, 24), "an address for documentation"),
    (v4(203, 0, 113, 0, 24), "an address for documentation"),
    (v4(224, 0, 0, 0, 4), "a multicast address"),
    (v4(255, 255, 255, 255, 32), "the broadcast address"),
    (v4(240, 0, 0, 0, 4), "a reserved address"),
    (v6([0x64, 0xff9b, 1, 0], 48), "an address of a local NAT64"),
    (v6([0x100, 0, 0, 0], 64), "an address that leads nowhere"),
    // Teredo (2001::/32), benchmarks (2001:2::/48), ORCHID (2001:10::/28, 2001:20::/28).
    (v6([0x2001, 0, 0, 0], 23), "an address of IETF protocols"),
    (v6([0x2001, 0xdb8, 0, 0], 32), "an address for documentation"),
    (v6([0x2002, 0, 0, 0], 16), "an address of 6to4"),
    (v6([0x3fff, 0, 0, 0], 20), "an address for documentation"),
    (v6([0xfc00, 0, 0, 0], 7), "a private address"),
    (v6([0xfe80, 0, 0, 0], 10), "a link-local address"),
    (v6([0xfec0, 0, 0, 0], 10), "a site-local address"),
    (v6([0xff00, 0, 0, 0], 8), "a multicast address"),
];
/// All that is given to single hosts of the public network by now.
const GLOBAL: Range = v6([0x2000, 0, 0, 0], 3);
/// IPv4 behind a NAT64 (RFC 6052).
const NAT64: Range = v6([0x64, 0xff9b, 0, 0], 96);

/// What kind of address it is, if it is not one of the public network; a fragment that fits after
/// "is".
pub fn refusal(address: IpAddr) -> Option<&'static str> {
    if is_metadata(address) {
        return Some("an address of cloud metadata");
    }
    if let Some((_, kind)) = SPECIAL.iter().find(|(range, _)| range.has(address)) {
        return Some(kind);
    }
    let IpAddr::V6(address) = address else { return None };
    if address == Ipv6Addr::UNSPECIFIED {
        return Some("the unspecified address");
    }
    if address == Ipv6Addr::LOCALHOST {
        return Some("a loopback address");
    }
    // What a NAT64 of the host's network reaches with it.
    if NAT64.has(address.into()) {
        return refusal(last_32(address).into());
    }
    // Also IPv4-mapped and IPv4-compatible addresses, which the host's sockets would take for IPv4.
    (!GLOBAL.has(address.into())).then_some("no address of the public network")
}

/// Whether an operator who opened these ranges opened an address with them. One of the host itself,
/// where what listens expects callers of this host, is opened by its own entry alone (`/32` or
/// `/128`), never by a range that happens to have it. Metadata is never opened.
pub fn is_opened(ranges: &[Range], address: IpAddr, is_own: bool) -> bool {
    let opens = |range: &Range| if is_own { range.is(address) } else { range.has(address) };
    !is_metadata(address) && ranges.iter().any(opens)
}

/// Whether it leads back to the host on every host.
pub const fn is_loopback(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => address.is_loopback() || address.is_unspecified(),
        IpAddr::V6(address) => match address.to_ipv4_mapped() {
            Some(inner) => inner.is_loopback() || inner.is_unspecified(),
            None => address.is_loopback() || address.is_unspecified(),
        },
    }
}

/// Whether it is where a cloud tells the machine about itself, also behind a NAT64 or mapped.
pub fn is_metadata(address: IpAddr) -> bool {
    let inner = match address {
        IpAddr::V6(address) if NAT64.has(address.into()) || address.to_ipv4_mapped().is_some() => last_32(address).into(),
        address => address,
    };
    METADATA.contains(&inner)
}

fn last_32(address: Ipv6Addr) -> Ipv4Addr {
    let [.., a, b, c, d] = address.octets();
    Ipv4Addr::new(a, b, c, d)
}

impl Range {
    /// Whether the address is in it. None of IPv4 is in one of IPv6, also not in mapped form.
    pub fn has(&self, address: IpAddr) -> bool {
        let (mask, bits) = (self.mask(), |address: IpAddr| match address {
            IpAddr::V4(address) => u128::from(address.to_bits()),
            IpAddr::V6(address) => address.to_bits(),
        });
        self.address.is_ipv4() == address.is_ipv4() && bits(self.address) & mask == bits(address) & mask
    }

    /// Whether it has this address and no other.
    pub fn is(&self, address: IpAddr) -> bool {
        self.address == address && self.prefix == if address.is_ipv4() { 32 } else { 128 }
    }

    /// The bits of the prefix, counted from the end of the address.
    const fn mask(&self) -> u128 {
        let width = if self.address.is_ipv4() { 32 } else { 128 };
        match width - self.prefix as u32 {
            128 => 0,
            behind => u128::MAX << behind,
        }
    }

    fn without_host_bits(self) -> Self {
        let mask = self.mask();
        let address = match self.address {
            IpAddr::V4(address) => IpAddr::V4(Ipv4Addr::from_bits((u128::from(address.to_bits()) & mask) as u32)),
            IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & mask)),
        };
        Self { address, ..self }
    }
}

impl FromStr for Range {
    type Err = RangeError;

    fn from_str(text: &str) -> Result<Self, RangeError> {
        let refuse = || RangeError::Form(text.chars().take(64).collect());
        let (address, prefix) = text.split_once('/').ok_or_else(refuse)?;
        let address: IpAddr = address.parse().map_err(|_| refuse())?;
        if prefix.is_empty() || prefix.len() > 3 || !prefix.bytes().all(|b| b.is_ascii_digit()) {
            return Err(refuse());
        }
        let width = if address.is_ipv4() { 32 } else { 128 };
        let prefix = prefix.parse().ok().filter(|prefix| *prefix <= width).ok_or_else(refuse)?;
        let range = Self { address, prefix };
        let clean = range.without_host_bits();
        if clean == range { Ok(range) } else { Err(RangeError::Bits(range.to_string(), clean)) }
    }
}

impl fmt::Display for Range {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

impl Serialize for Range {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Range {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}
