//! A tunnel to one target, whose first bytes have to be for that target.
//!
//! | port | what is let through |
//! | --- | --- |
//! | 443 | TLS whose ClientHello asks for the target's name |
//! | 80 | HTTP whose requests are for the target, see [`http`](super::http) |
//! | others | the same for what begins as TLS or as HTTP, anything else as it is |
//!
//! Where the server speaks first, as in SSH, what follows is let through as it is: no server of TLS
//! or HTTP does.

use std::io;

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, copy_bidirectional_with_sizes};
use tokio::time::timeout;

use super::hello::{self, HELLO_MAX, Hello};
use super::stream::Rewound;
use super::{Egress, HEAD_DEADLINE, Outside, http};
use crate::egress::policy::Refusal;
use crate::wire::egress::{Host, Target};

/// Bytes on their way, in each direction.
const BUFFER: usize = 16 << 10;
/// Bytes of a first line that may yet be HTTP.
const LINE_MAX: usize = 8 << 10;
/// Fatal, access_denied (RFC 8446 section 6): so that a client of TLS says more than that the
/// connection broke.
const ALERT: &[u8] = &[21, 3, 3, 0, 2, 2, 49];

/// What to do with the first bytes of a client.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum First {
    /// More are needed.
    More,
    /// They are let through.
    Raw,
    /// Each request is looked at.
    Http,
    /// They are for somebody else; whether the client speaks TLS.
    Refuse(String, bool),
}

/// Carries a connection from inside to a target.
pub async fn run<S>(egress: &Egress, mut client: S, mut outside: Outside) -> io::Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let mut head = BytesMut::with_capacity(2 << 10);
    let mut theirs = BytesMut::with_capacity(2 << 10);
    let is_open = ![443, 80].contains(&outside.target.port);
    let first = tokio::select! {
        first = first(&mut client, &mut head, &outside.target, is_open) => first?,
        read = outside.stream.read_buf(&mut theirs), if is_open => {
            // One that closes at once has nothing to say, and is not to be told anything.
            if read? == 0 { First::More } else { First::Raw }
        }
    };
    match first {
        First::More => return Ok(()),
        First::Raw => {}
        First::Http => return http::serve_tunnelled(egress, Rewound::new(head, client), outside).await,
        First::Refuse(why, is_tls) => {
            let refusal = Refusal::new(&outside.target, why);
            let _denied = egress.deny(&outside.target, refusal).await;
            if is_tls {
                client.write_all(ALERT).await?;
            }
            return client.shutdown().await;
        }
    }
    client.write_all(&theirs).await?;
    outside.stream.write_all(&head).await?;
    drop((head, theirs));
    copy_bidirectional_with_sizes(&mut client, &mut outside.stream, BUFFER, BUFFER).await.map(drop)
}

/// Reads until it is clear what the client speaks. `More` if one of both went away before.
async fn first(client: &mut (impl AsyncRead + Unpin), head: &mut BytesMut, target: &Target, is_open: bool) -> io::Result<First> {
    let read = async {
        loop {
            if client.read_buf(head).await? == 0 {
                return Ok(First::More);
            }
            match judge(head, target) {
                First::More if head.len() < HELLO_MAX => {}
                First::More => return Ok(First::Refuse("it does not say what it wants".to_owned(), false)),
                first => return Ok(first),
            }
        }
    };
    if is_open {
        // Who speaks first is not known; the stream's own time counts.
        return read.await;
    }
    timeout(HEAD_DEADLINE, read).await?
}

/// Judges the first bytes of a client; there is at least one.
pub(super) fn judge(head: &[u8], target: &Target) -> First {
    match hello::read(head) {
        Hello::Partial => First::More,
        Hello::Bad(why) => First::Refuse(why.to_owned(), true),
        Hello::Whole(name) => check_name(name.as_deref(), target),
        Hello::Other if target.port == 443 => First::Refuse("only TLS leaves by port 443".to_owned(), false),
        Hello::Other if target.port == 80 => First::Http,
        Hello::Other => other(head),
    }
}

fn check_name(name: Option<&str>, target: &Target) -> First {
    let refuse = |why: String| First::Refuse(why, true);
    match (name, &target.host) {
        // RFC 6066 section 3: an address is no name, and is not sent.
        (None, Host::Ip(_)) => First::Raw,
        (None, Host::Name(_)) => refuse("its TLS names no host".to_owned()),
        (Some(name), host) if Host::parse(name).as_ref() == Ok(host) => First::Raw,
        (Some(name), _) => refuse(format!("its TLS is for {:?}", name.chars().take(80).collect::<String>())),
    }
}

/// Whether bytes that are no TLS begin as HTTP: a method, which is any token, and later in the line a
/// version, or a target that names a host. What parts them is all that a lenient server takes for
/// it (RFC 9112 section 3).
fn other(head: &[u8]) -> First {
    const GAP: &[u8] = b"\r\t\x0b\x0c ";
    let start = head.iter().position(|byte| *byte != b'\n' && !GAP.contains(byte)).unwrap_or(head.len());
    let line = &head[start..];
    let end = line.iter().position(|byte| *byte == b'\n');
    let line = &line[..end.unwrap_or(line.len())];
    let method = line.iter().position(|byte| !is_token(*byte)).unwrap_or(line.len());
    let rest = &line[method..];
    let is_broken = |byte: &u8| byte.is_ascii_control() && !GAP.contains(byte);
    match rest.first() {
        Some(first) if method == 0 || !GAP.contains(first) || rest.iter().any(is_broken) => return First::Raw,
        _ => {}
    }
    match end {
        Some(_) if has(rest, b"http/") || has(rest, b"://") => First::Http,
        Some(_) => First::Raw,
        None if head.len() > LINE_MAX => First::Refuse("its first line is too long".to_owned(), false),
        None => First::More,
    }
}

/// `tchar` of RFC 9110 section 5.6.2.
const fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(byte, b'!' | b'#' | b'$' | b'%' | b'&' | b'\'' | b'*' | b'+' | b'-' | b'.' | b'^' | b'_' | b'`' | b'|' | b'~')
}

/// Whether the text has the word, whose letters are small, in either case.
fn has(text: &[u8], word: &[u8]) -> bool {
    text.windows(word.len()).any(|part| part.eq_ignore_ascii_case(word))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shim::egress::hello::tests::{hello, real};

    fn judged(head: &[u8], target: &str) -> First {
        judge(head, &Target::parse(target, None).expect(target))
    }

    fn is_refused(head: &[u8], target: &str, reason: &str) {
        let first = judged(head, target);
        assert!(matches!(&first, First::Refuse(why, _) if why.contains(reason)), "{target}: {first:?}");
    }

    #[test]
    fn tls_is_for_the_name_that_was_allowed_at_any_port() {
        for port in [443, 8443, 80] {
            assert_eq!(judged(&real("example.com"), &format!("example.com:{port}")), First::Raw);
            is_refused(&real("evil.example"), &format!("example.com:{port}"), "its TLS is for \"evil.example\"");
            is_refused(&real("example.com.evil.example"), &format!("example.com:{port}"), "its TLS is for");
            is_refused(&hello(&[]), &format!("example.com:{port}"), "names no host");
            assert_eq!(judged(&real("example.com")[..20], &format!("example.com:{port}")), First::More);
        }
        assert_eq!(judged(&real("192.0.2.7"), "192.0.2.7:443"), First::Raw);
        is_refused(&real("evil.example"), "192.0.2.7:443", "its TLS is for");
        let mut upper = vec![0, 14, 0, 0, 11];
        upper.extend(b"EXAMPLE.com");
        assert_eq!(judged(&hello(&[(0, upper)]), "example.com:443"), First::Raw);
    }

    /// The name that counts is the outer one, whatever is said in the encrypted part.
    #[test]
    fn an_encrypted_hello_is_for_its_outer_name() {
        let outer = |name: &[u8]| {
            let mut body = ((name.len() + 3) as u16).to_be_bytes().to_vec();
            body.extend([0, 0, name.len() as u8]);
            body.extend(name);
            hello(&[(0, body), (0xfe0d, vec![0; 200])])
        };
        assert_eq!(judged(&outer(b"example.com"), "example.com:443"), First::Raw);
        is_refused(&outer(b"public.example"), "example.com:443", "its TLS is for \"public.example\"");
    }

    #[test]
    fn what_is_no_tls_goes_by_the_port() {
        is_refused(b"GET / HTTP/1.1\r\n", "example.com:443", "only TLS");
        is_refused(b"SSH-2.0-x", "example.com:443", "only TLS");
        assert_eq!(judged(b"anything", "example.com:80"), First::Http);
        for (head, expected) in [
            (&b"G"[..], First::More),
            (b"GET /", First::More),
            (b"GET / HTTP/1.1\r\n", First::Http),
            (b"\r\nget / http\r\n", First::Raw),
            (b"\r\nPROPFIND / HTTP/1.1\r\nHost: x", First::Http),
            (b"PRI * HTTP/2.0\r\n", First::Http),
            (b"M-SEARCH * HTTP/1.1\r\n", First::Http),
            (b"BASELINE-CONTROL /", First::More),
            (b"!#$%&'*+-.^_`|~09 / HTTP/1.1\r\n", First::Http),
            (b"9 / HTTP/1.1\n", First::Http),
            (b"get / http/1.1\r\n", First::Http),
            (b" \t\r\nGET\t/\x0b\x0cHTTP/1.1\r\n", First::Http),
            (b"GET\r/\rHTTP/1.1\r\n", First::Http),
            (b"GET /\xff HTTP/1.1\r\n", First::Http),
            (b"GET http://other.example/\r\n", First::Http),
            (b"GET /\r\n", First::Raw),
            (b"GET /\x00 HTTP/1.1\r\n", First::Raw),
            (b"GE(T / HTTP/1.1\r\n", First::Raw),
            (b"SSH-2.0-OpenSSH_9.2\r\n", First::Raw),
            (b"PING\r\n", First::Raw),
            (b"*1\r\n$4\r\nPING\r\n", First::Raw),
            (b"EHLO example\r\n", First::Raw),
            (b"0032git-upload-pack /project.git\x00host=example.com\x00", First::Raw),
            (b"*\x00\x00\x00", First::Raw),
            (b"\x00\x01", First::Raw),
        ] {
            assert_eq!(judged(head, "example.com:8080"), expected, "{head:?}");
        }
        for byte in [b'a', b' ', b'\n'] {
            let long = [b"GET /".to_vec(), vec![byte; LINE_MAX]].concat();
            let first = judged(&long, "example.com:8080");
            assert_eq!(matches!(&first, First::Refuse(why, _) if why.contains("too long")), byte != b'\n', "{byte}: {first:?}");
        }
        assert!(matches!(judged(&[b'\n'; LINE_MAX + 1], "example.com:8080"), First::Refuse(..)));
    }
}
