//! Datagrams with descriptors, on the socket pair of a shim and its init.
#![expect(unsafe_code, reason = "received descriptors arrive as plain numbers, and to own a number is unsafe")]

use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use nix::cmsg_space;
use nix::sys::socket::{ControlMessage, ControlMessageOwned, MsgFlags, recvmsg, sendmsg};

use super::inner::DESCRIPTORS_MAX;

/// Sends one datagram with its descriptors; all of it or nothing.
pub fn send(socket: BorrowedFd<'_>, body: &[u8], descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
    let numbers: Vec<RawFd> = descriptors.iter().map(AsRawFd::as_raw_fd).collect();
    let rights = [ControlMessage::ScmRights(&numbers)];
    let control = if numbers.is_empty() { &[][..] } else { &rights[..] };
    sendmsg::<()>(socket.as_raw_fd(), &[IoSlice::new(body)], control, MsgFlags::MSG_NOSIGNAL, None)?;
    Ok(())
}

/// Receives one datagram into `buffer`: its length and its descriptors, which are closed on exec.
/// `None` when the other end is closed.
///
/// # Errors
///
/// `InvalidData` if the datagram or its descriptors did not fit.
pub fn receive(socket: BorrowedFd<'_>, buffer: &mut [u8]) -> io::Result<Option<(usize, Vec<OwnedFd>)>> {
    let mut control = cmsg_space!([RawFd; DESCRIPTORS_MAX]);
    let mut parts = [IoSliceMut::new(buffer)];
    let message = recvmsg::<()>(socket.as_raw_fd(), &mut parts, Some(&mut control), MsgFlags::MSG_CMSG_CLOEXEC)?;
    let mut descriptors = Vec::new();
    let cut = message.flags.intersects(MsgFlags::MSG_TRUNC | MsgFlags::MSG_CTRUNC);
    if let Ok(found) = message.cmsgs() {
        for part in found {
            if let ControlMessageOwned::ScmRights(numbers) = part {
                // SAFETY: the kernel has just made these descriptors for us, and nothing else in
                // this process knows their numbers.
                descriptors.extend(numbers.into_iter().map(|number| unsafe { OwnedFd::from_raw_fd(number) }));
            }
        }
    }
    let length = message.bytes;
    if cut {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "datagram is larger than allowed"));
    }
    Ok((length > 0).then_some((length, descriptors)))
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::Read;
    use std::os::fd::AsFd;

    use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};

    use super::*;

    fn pair() -> (OwnedFd, OwnedFd) {
        socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC).expect("socket pair")
    }

    #[test]
    fn descriptors_travel_with_their_datagram() {
        let (a, b) = pair();
        let (reader, writer) = io::pipe().expect("pipe");
        send(a.as_fd(), b"first", &[reader.as_fd()]).expect("sent");
        send(a.as_fd(), b"second", &[]).expect("sent");
        drop(reader);
        let mut buffer = [0; 16];
        let (length, mut descriptors) = receive(b.as_fd(), &mut buffer).expect("received").expect("open");
        assert_eq!((&buffer[..length], descriptors.len()), (&b"first"[..], 1));
        io::Write::write_all(&mut { writer }, b"through").expect("written");
        let mut text = String::new();
        File::from(descriptors.remove(0)).read_to_string(&mut text).expect("read");
        assert_eq!(text, "through");
        let (length, descriptors) = receive(b.as_fd(), &mut buffer).expect("received").expect("open");
        assert_eq!((&buffer[..length], descriptors.len()), (&b"second"[..], 0));
        drop(a);
        assert!(receive(b.as_fd(), &mut buffer).expect("closed").is_none());
    }

    #[test]
    fn what_does_not_fit_is_an_error() {
        let (a, b) = pair();
        send(a.as_fd(), b"too long", &[]).expect("sent");
        assert_eq!(receive(b.as_fd(), &mut [0; 4]).map_err(|e| e.kind()).err(), Some(io::ErrorKind::InvalidData));
    }
}
