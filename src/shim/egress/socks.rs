//! The proxy in SOCKS5 (RFC 1928): `CONNECT` without authentication.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::stream::Guarded;
use super::{Egress, Failure, HEAD_DEADLINE, Way, tunnel};
use crate::wire::egress::{Host, Target};

/// First byte of each message.
pub const VERSION: u8 = 5;
const NO_AUTHENTICATION: u8 = 0;
const NONE_ACCEPTABLE: u8 = 0xff;
const CONNECT: u8 = 1;
const IPV4: u8 = 1;
const NAME: u8 = 3;
const IPV6: u8 = 4;

/// What a request is answered with.
#[derive(Debug, Clone, Copy)]
enum Reply {
    Succeeded = 0,
    NotAllowed = 2,
    Unreachable = 4,
    NoSuchCommand = 7,
    NoSuchAddress = 8,
}

/// What a client asks for.
enum Asked {
    Target(Target),
    /// No name, and why.
    NoName(String, String),
    Impossible(Reply),
}

/// Serves a client that spoke SOCKS.
pub async fn serve(egress: &Egress, mut stream: Guarded<TcpStream>) -> io::Result<()> {
    let Some(asked) = timeout(HEAD_DEADLINE, read(&mut stream)).await?? else { return Ok(()) };
    let connected = match asked {
        Asked::Target(target) => egress.connect(&target, Way::Listed).await,
        Asked::NoName(name, why) => Err(egress.deny_text(&name, why).await),
        Asked::Impossible(reply) => return answer(&mut stream, reply).await,
    };
    match connected {
        Ok(outside) => {
            answer(&mut stream, Reply::Succeeded).await?;
            tunnel::run(egress, stream, outside).await
        }
        Err(Failure::Denied(_)) => answer(&mut stream, Reply::NotAllowed).await,
        Err(Failure::Unreachable(why)) => {
            tracing::debug!(why, "egress target can not be reached");
            answer(&mut stream, Reply::Unreachable).await
        }
    }
}

/// Reads what is asked for; `None` if there is no method that both know.
async fn read(stream: &mut Guarded<TcpStream>) -> io::Result<Option<Asked>> {
    let [version, count] = read_array(stream).await?;
    check(version)?;
    let mut methods = vec![0; usize::from(count)];
    stream.read_exact(&mut methods).await?;
    if !methods.contains(&NO_AUTHENTICATION) {
        stream.write_all(&[VERSION, NONE_ACCEPTABLE]).await?;
        return Ok(None);
    }
    stream.write_all(&[VERSION, NO_AUTHENTICATION]).await?;
    let [version, command, _, kind] = read_array(stream).await?;
    check(version)?;
    let host = match kind {
        IPV4 => Ok(Host::Ip(Ipv4Addr::from(read_array::<4>(stream).await?).into())),
        IPV6 => Ok(Host::Ip(Ipv6Addr::from(read_array::<16>(stream).await?).into())),
        NAME => {
            let [length] = read_array(stream).await?;
            let mut name = vec![0; usize::from(length)];
            stream.read_exact(&mut name).await?;
            let name = String::from_utf8_lossy(&name).into_owned();
            Host::parse(&name).map_err(|error| Asked::NoName(name, error.to_string()))
        }
        _ => return Ok(Some(Asked::Impossible(Reply::NoSuchAddress))),
    };
    let port = u16::from_be_bytes(read_array(stream).await?);
    Ok(Some(match host {
        _ if command != CONNECT => Asked::Impossible(Reply::NoSuchCommand),
        Ok(_) if port == 0 => Asked::Impossible(Reply::Unreachable),
        Ok(host) => Asked::Target(Target { host, port }),
        Err(no_name) => no_name,
    }))
}

async fn read_array<const N: usize>(stream: &mut Guarded<TcpStream>) -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    stream.read_exact(&mut bytes).await?;
    Ok(bytes)
}

fn check(version: u8) -> io::Result<()> {
    if version == VERSION { Ok(()) } else { Err(io::Error::new(io::ErrorKind::InvalidData, "not SOCKS5")) }
}

/// The address that a reply has to name is of no use to anybody, so it is none.
async fn answer(stream: &mut Guarded<TcpStream>, reply: Reply) -> io::Result<()> {
    stream.write_all(&[VERSION, reply as u8, 0, IPV4, 0, 0, 0, 0, 0, 0]).await
}
