//! The name in a TLS ClientHello. Pure: bytes in, verdict out.
//!
//! RFC 8446 sections 4.1.2 and 5.1, RFC 6066 section 3. A ClientHello may be spread over several
//! records and arrive in any pieces; more than [`HELLO_MAX`] bytes are not looked at.

/// Bytes of the records of a ClientHello. Those of today have 300 to 2000.
pub const HELLO_MAX: usize = 16 << 10;

const RECORD_HEADER: usize = 5;
/// Largest plaintext of a record (RFC 8446 section 5.1).
const RECORD_MAX: usize = 1 << 14;
const HANDSHAKE: u8 = 22;
const CLIENT_HELLO: u8 = 1;
const SERVER_NAME: u16 = 0;
const HOST_NAME: u8 = 0;

/// What the first bytes of a connection are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Hello {
    /// So far a ClientHello, whose rest has not come.
    Partial,
    /// No TLS.
    Other,
    /// TLS, but not as it should be.
    Bad(&'static str),
    /// A ClientHello, with the name that it asks for.
    Whole(Option<String>),
}

/// Looks at the first bytes of a connection.
pub fn read(bytes: &[u8]) -> Hello {
    parse(bytes).map_or_else(|other| other, Hello::Whole)
}

fn parse(bytes: &[u8]) -> Result<Option<String>, Hello> {
    let message = handshake(bytes)?;
    let mut hello = Reader(&message);
    let bad = Hello::Bad("its ClientHello is damaged");
    let mut read = || {
        // Legacy version and random.
        hello.take(34)?;
        // Session id, cipher suites, compression methods.
        hello.vector(1)?;
        hello.vector(2)?;
        hello.vector(1)?;
        hello.vector(2)
    };
    let mut extensions = Reader(read().ok_or_else(|| bad.clone())?);
    let mut name = None;
    while !extensions.0.is_empty() {
        let kind = extensions.number(2).ok_or_else(|| bad.clone())?;
        let body = extensions.vector(2).ok_or_else(|| bad.clone())?;
        if kind == usize::from(SERVER_NAME) {
            if name.is_some() {
                return Err(Hello::Bad("its ClientHello has two lists of names"));
            }
            name = Some(host_name(body).ok_or(Hello::Bad("its ClientHello has no single name"))?);
        }
    }
    Ok(name)
}

/// The body of the ClientHello, put together from its records.
fn handshake(bytes: &[u8]) -> Result<Vec<u8>, Hello> {
    let (mut rest, mut message) = (bytes, Vec::new());
    loop {
        // What has come of the header has to fit, so that other protocols are not waited for.
        let header = &rest[..rest.len().min(RECORD_HEADER)];
        let is_record = header.first().is_none_or(|kind| *kind == HANDSHAKE) && header.get(1).is_none_or(|major| *major == 3);
        if !is_record {
            return Err(if message.is_empty() { Hello::Other } else { Hello::Bad("its ClientHello is interrupted") });
        }
        let [_, _, _, high, low] = *header else { return Err(partial(bytes)) };
        let length = usize::from(u16::from_be_bytes([high, low]));
        if length == 0 || length > RECORD_MAX {
            return Err(Hello::Bad("its ClientHello is damaged"));
        }
        rest = &rest[RECORD_HEADER..];
        let fragment = &rest[..length.min(rest.len())];
        message.extend_from_slice(fragment);
        if let [kind, a, b, c, body @ ..] = &message[..] {
            if *kind != CLIENT_HELLO {
                return Err(Hello::Bad("it does not begin with a ClientHello"));
            }
            let wanted = usize::from(*a) << 16 | usize::from(*b) << 8 | usize::from(*c);
            if wanted > HELLO_MAX {
                return Err(Hello::Bad("its ClientHello is too long"));
            }
            if body.len() >= wanted {
                return Ok(body[..wanted].to_vec());
            }
        }
        if fragment.len() < length {
            return Err(partial(bytes));
        }
        rest = &rest[length..];
    }
}

fn partial(bytes: &[u8]) -> Hello {
    if bytes.len() >= HELLO_MAX { Hello::Bad("its ClientHello is too long") } else { Hello::Partial }
}

/// The one name of a server_name extension.
fn host_name(body: &[u8]) -> Option<String> {
    let mut body = Reader(body);
    let mut names = Reader(body.vector(2)?);
    let kind = names.number(1)?;
    let name = names.vector(2)?;
    let is_one = kind == usize::from(HOST_NAME) && names.0.is_empty() && body.0.is_empty() && !name.is_empty();
    if is_one { String::from_utf8(name.to_vec()).ok() } else { None }
}

/// Takes bytes from the front. `None` where there are too few.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (head, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(head)
    }

    fn number(&mut self, width: usize) -> Option<usize> {
        Some(self.take(width)?.iter().fold(0, |number, byte| number << 8 | usize::from(*byte)))
    }

    /// Bytes whose length stands before them, in `width` bytes.
    fn vector(&mut self, width: usize) -> Option<&'a [u8]> {
        let length = self.number(width)?;
        self.take(length)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;

    use super::*;

    /// What a real client says first.
    pub(crate) fn real(name: &str) -> Vec<u8> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let config = config.expect("versions").with_root_certificates(rustls::RootCertStore::empty()).with_no_client_auth();
        let name = rustls::pki_types::ServerName::try_from(name.to_owned()).expect("a name");
        let mut client = rustls::ClientConnection::new(Arc::new(config), name).expect("a client");
        let mut bytes = Vec::new();
        client.write_tls(&mut bytes).expect("written");
        bytes
    }

    /// A ClientHello with these extensions, in one record.
    pub(crate) fn hello(extensions: &[(u16, Vec<u8>)]) -> Vec<u8> {
        let mut list = Vec::new();
        for (kind, body) in extensions {
            list.extend(kind.to_be_bytes());
            list.extend((body.len() as u16).to_be_bytes());
            list.extend(body);
        }
        let mut body = vec![3, 3];
        body.extend([7; 32]);
        body.extend([0, 0, 2, 0x13, 0x01, 1, 0]);
        body.extend((list.len() as u16).to_be_bytes());
        body.extend(list);
        let mut message = vec![1];
        message.extend(&(body.len() as u32).to_be_bytes()[1..]);
        message.extend(body);
        record(&message)
    }

    fn record(fragment: &[u8]) -> Vec<u8> {
        let mut record = vec![22, 3, 1];
        record.extend((fragment.len() as u16).to_be_bytes());
        record.extend(fragment);
        record
    }

    fn names(names: &[(u8, &[u8])]) -> Vec<u8> {
        let mut list = Vec::new();
        for (kind, name) in names {
            list.push(*kind);
            list.extend((name.len() as u16).to_be_bytes());
            list.extend(*name);
        }
        let mut body = (list.len() as u16).to_be_bytes().to_vec();
        body.extend(list);
        body
    }

    fn whole(name: &str) -> Hello {
        Hello::Whole(Some(name.to_owned()))
    }

    #[test]
    fn the_name_of_a_real_client_is_found_however_it_comes() {
        let bytes = real("api.example.com");
        assert_eq!(read(&bytes), whole("api.example.com"));
        for end in 0..bytes.len() {
            assert_eq!(read(&bytes[..end]), Hello::Partial, "{end}");
        }
        for size in [1, 2, 3, 7, 100] {
            let pieces: Vec<u8> = bytes[RECORD_HEADER..].chunks(size).flat_map(record).collect();
            assert_eq!(read(&pieces), whole("api.example.com"), "records of {size}");
            assert_eq!(read(&pieces[..pieces.len() - 1]), Hello::Partial, "records of {size}");
        }
        let mut more = bytes.clone();
        more.extend(record(b"more"));
        assert_eq!(read(&more), whole("api.example.com"));
    }

    #[test]
    fn what_has_no_single_name_is_told_apart() {
        assert_eq!(read(&real("192.0.2.7")), Hello::Whole(None));
        assert_eq!(read(&hello(&[])), Hello::Whole(None));
        assert_eq!(read(&hello(&[(43, vec![2, 3, 4]), (0, names(&[(0, b"a.b")]))])), whole("a.b"));
        for (extensions, reason) in [
            (vec![(0, names(&[(0, b"a.b"), (0, b"c.d")]))], "no single name"),
            (vec![(0, names(&[(1, b"a.b")]))], "no single name"),
            (vec![(0, names(&[(0, b"")]))], "no single name"),
            (vec![(0, names(&[]))], "no single name"),
            (vec![(0, Vec::new())], "no single name"),
            (vec![(0, names(&[(0, b"\xff\xfe")]))], "no single name"),
            (vec![(0, names(&[(0, b"a.b")])), (0, names(&[(0, b"a.b")]))], "two lists"),
        ] {
            assert!(matches!(read(&hello(&extensions)), Hello::Bad(said) if said.contains(reason)), "{extensions:?}");
        }
    }

    #[test]
    fn other_protocols_are_known_by_their_first_byte() {
        for bytes in [&b"GET / HTTP/1.1\r\n"[..], b"SSH-2.0-x", b"\x05\x01\x00", b"\x16\x02", b"\x80\x2e\x01"] {
            assert_eq!(read(bytes), Hello::Other, "{bytes:?}");
        }
        assert_eq!(read(b""), Hello::Partial);
        for (bytes, reason) in [
            (record(&[2, 0, 0, 1, 0]), "does not begin"),
            (record(&[1, 0, 0, 1, 0]), "damaged"),
            (vec![22, 3, 1, 0, 0], "damaged"),
            (vec![22, 3, 1, 0xff, 0xff], "damaged"),
            (record(&[1, 1, 0, 0]), "too long"),
            ([record(&[1]), vec![23, 3, 3, 0, 1, 0]].concat(), "interrupted"),
        ] {
            assert!(matches!(read(&bytes), Hello::Bad(said) if said.contains(reason)), "{bytes:?}: {:?}", read(&bytes));
        }
        // Records of one byte, for ever.
        let drip: Vec<u8> = [1, 0, 0x3f, 0xff].iter().chain([0; HELLO_MAX].iter()).flat_map(|byte| record(&[*byte])).collect();
        assert!(matches!(read(&drip[..HELLO_MAX]), Hello::Bad(said) if said.contains("too long")));
    }

    proptest! {
        #[test]
        fn no_damage_makes_up_a_name(at in 0usize..200, value: u8, cut in 0usize..300) {
            let mut bytes = real("api.example.com");
            let at = at % bytes.len();
            bytes[at] = value;
            bytes.truncate(bytes.len().saturating_sub(cut));
            if let Hello::Whole(Some(name)) = read(&bytes) {
                // One byte was changed, so no more than one letter may be.
                let differs = name.bytes().zip("api.example.com".bytes()).filter(|(a, b)| a != b).count();
                prop_assert!(differs <= 1, "{}", name);
            }
        }

        #[test]
        fn what_is_partial_is_bounded(bytes in prop::collection::vec(any::<u8>(), HELLO_MAX..HELLO_MAX + 10)) {
            let mut record = vec![22, 3, 1, 0x40, 0];
            record.extend(bytes);
            prop_assert_ne!(read(&record), Hello::Partial);
        }
    }
}
