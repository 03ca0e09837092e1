//! What `ash-init files` does in a sandbox, seen from outside.

use std::pin::Pin;

use bytes::Bytes;
use tokio::sync::mpsc;

use super::{FileError, Listed, MakeRoom, PIECES, STALL_DEADLINE};
use crate::link::daemon::{Input, LinkError, Output, ShimHandle};
use crate::link::files::Refusal;
use crate::link::shim::{Job, Run, RunEnd, Stream};
use crate::report::chain;
use crate::session::SessionError;
use crate::session::driver::Visit;
use crate::wire::Timestamp;
use crate::wire::limits::Reached;

/// Bytes of the records of one list, whose paths may be long.
const LIST_BYTES_MAX: usize = 64 << 20;
/// Milliseconds that one file or list may take to come out of a sandbox or go into it.
const TIMEOUT_MS: u64 = 300_000;
/// Bytes of what goes before a file.
const HEAD_MAX: usize = 64;
/// Bytes of what is said on standard error that are kept.
const SAID_MAX: usize = 4096;

/// A program that works on a file. It is killed when this is dropped.
pub struct Tool {
    output: Output,
    end: Pin<Box<dyn Future<Output = Result<RunEnd, LinkError>> + Send>>,
    said: Vec<u8>,
    /// Makes an error of what is no [`FileError`].
    failed: fn(String) -> SessionError,
    /// Keeps its sandbox awake, where nothing else does.
    _visit: Option<Visit>,
}

impl Tool {
    /// Starts one.
    pub async fn start(
        visit: &Visit,
        job: Job,
        input: bool,
        failed: fn(String) -> SessionError,
    ) -> Result<(Self, Option<Input>), SessionError> {
        let (tool, input) = Self::start_in(&visit.shim, job, input, failed).await?;
        Ok((Self { _visit: Some(visit.clone()), ..tool }, input))
    }

    /// Starts one in a sandbox that is awake.
    async fn start_in(
        shim: &ShimHandle,
        job: Job,
        input: bool,
        failed: fn(String) -> SessionError,
    ) -> Result<(Self, Option<Input>), SessionError> {
        let run = Run { job, input, timeout_ms: Some(TIMEOUT_MS), output_max: None, starts: false, terminal: None };
        let running = shim.run(run).await.map_err(|error| failed(chain(&error)))?;
        let (output, end) = (running.output, Box::pin(running.end));
        Ok((Self { output, end, said: Vec::new(), failed, _visit: None }, running.input))
    }

    /// The next piece of its standard output.
    async fn next(&mut self) -> Option<Vec<u8>> {
        loop {
            match self.output.next().await? {
                (Stream::Output, bytes) => return Some(bytes),
                (Stream::Error, bytes) => {
                    let room = SAID_MAX - self.said.len();
                    self.said.extend_from_slice(&bytes[..bytes.len().min(room)]);
                }
            }
        }
    }

    /// Waits for its end, and whether it was a good one.
    pub async fn end(mut self) -> Result<(), SessionError> {
        while self.next().await.is_some() {}
        let end = self.end.await.map_err(|error| (self.failed)(chain(&error)))?;
        if end.code == Some(0) {
            return Ok(());
        }
        if let Some(refusal) = end.code.and_then(Refusal::of) {
            return Err(FileError::Refused(refusal).into());
        }
        let said = String::from_utf8_lossy(&self.said);
        let said = said.trim().trim_start_matches("ash-init: ");
        Err((self.failed)(match said {
            _ if end.timed_out => "it took too long".to_owned(),
            _ if end.limit == Some(Reached::Disk) => "the session has more on its disk than it may (diskMb)".to_owned(),
            "" => format!("it ended with {end:?}"),
            said => said.to_owned(),
        }))
    }

    /// Hands on what it reads, from `first` on.
    async fn carry(mut self, first: Bytes, to: mpsc::Sender<Result<Bytes, SessionError>>) {
        let mut piece = first;
        loop {
            let sent = tokio::time::timeout(STALL_DEADLINE, to.send(Ok(piece))).await;
            if !matches!(sent, Ok(Ok(()))) {
                return;
            }
            match self.next().await {
                Some(next) => piece = next.into(),
                None => break,
            }
        }
        if let Err(error) = self.end().await {
            // Whoever has all bytes does not listen any more.
            let _ = to.send(Err(error)).await;
        }
    }
}

/// The files of the workspace, at most `max` and one.
pub async fn list(visit: &Visit, excludes: Vec<String>, max: u64, room: MakeRoom<'_>) -> Result<Vec<Listed>, SessionError> {
    let (mut tool, _) = Tool::start(visit, Job::List { excludes, max }, false, SessionError::Download).await?;
    let mut records = Vec::new();
    while let Some(bytes) = tool.next().await {
        add(&mut records, &bytes, room)?;
    }
    tool.end().await?;
    let listed = parse_all(&records, usize::try_from(max).unwrap_or(usize::MAX));
    listed.ok_or_else(|| SessionError::Download("the sandbox sends a list that can not be read".to_owned()))
}

/// Adds to the records of a list, within its bound and where there is room.
fn add(records: &mut Vec<u8>, bytes: &[u8], room: MakeRoom<'_>) -> Result<(), SessionError> {
    let length = records.len() + bytes.len();
    if length > LIST_BYTES_MAX {
        return Err(SessionError::Download(format!("the names of its files have more than {LIST_BYTES_MAX} bytes")));
    }
    // Once as they come, and once taken apart.
    if !room(2 * length) {
        return Err(FileError::NoRoom.into());
    }
    records.extend_from_slice(bytes);
    Ok(())
}

/// At most `max` and one, whatever a sandbox sends.
fn parse_all(records: &[u8], max: usize) -> Option<Vec<Listed>> {
    let records = records.split(|byte| *byte == 0).filter(|record| !record.is_empty());
    records.take(max.saturating_add(1)).map(parse).collect()
}

/// `SIZE MTIME PATH`.
fn parse(record: &[u8]) -> Option<Listed> {
    let mut parts = record.splitn(3, |byte| *byte == b' ');
    let mut number = || std::str::from_utf8(parts.next()?).ok()?.parse::<i128>().ok();
    let (size, nanos) = (number()?, number()?);
    let millis = i64::try_from(nanos.div_euclid(1_000_000)).ok()?;
    let path = parts.next().filter(|path| !path.is_empty())?.to_owned();
    Some(Listed { size: u64::try_from(size).ok()?, modified_at: Timestamp(millis), path })
}

/// The size of a file and its bytes, if those are no more than `max`.
pub async fn read(
    visit: &Visit,
    path: String,
    max: u64,
) -> Result<(u64, mpsc::Receiver<Result<Bytes, SessionError>>), SessionError> {
    let (mut tool, _) = Tool::start(visit, Job::Read { path, max }, false, SessionError::Download).await?;
    let mut head: Vec<u8> = Vec::new();
    let end = loop {
        let Some(bytes) = tool.next().await else { break None };
        let before = head.len();
        head.extend(bytes);
        let end = head[before..].iter().position(|byte| *byte == b'\n').map(|end| before + end);
        if end.is_some() || head.len() > HEAD_MAX {
            break end;
        }
    };
    let size = end.and_then(|end| std::str::from_utf8(head[..end].split(|byte| *byte == b' ').next()?).ok()?.parse::<u64>().ok());
    let (Some(end), Some(size)) = (end, size) else {
        tool.end().await?;
        return Err(SessionError::Download("the sandbox sends no file".to_owned()));
    };
    let (to, pieces) = mpsc::channel(PIECES);
    if size <= max {
        tokio::spawn(tool.carry(Bytes::from(head).slice(end + 1..), to));
    }
    Ok((size, pieces))
}

/// Writes a file.
pub async fn write(visit: &Visit, path: String, content: &[u8]) -> Result<(), SessionError> {
    write_in(&visit.shim, path, content).await
}

/// Writes a file in a sandbox that is awake.
pub async fn write_in(shim: &ShimHandle, path: String, content: &[u8]) -> Result<(), SessionError> {
    let (tool, input) = Tool::start_in(shim, Job::Write { path }, true, SessionError::Upload).await?;
    let feed = async {
        if let Some(input) = input
            && input.write(content).await
        {
            input.end().await;
        }
    };
    // It may end before it has read all.
    let ((), end) = tokio::join!(feed, tool.end());
    end
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_read_as_init_writes_them() {
        let read = parse(b"12 1700000000123456789 a b\n\xff").expect("reads");
        assert_eq!((read.size, read.modified_at.millis(), &read.path[..]), (12, 1_700_000_000_123, &b"a b\n\xff"[..]));
        assert_eq!(parse(b"0 -1 x").expect("reads").modified_at.millis(), -1);
        for record in [&b"12 1"[..], b"-1 0 x", b"x 1 y", b"1  y", b"1 2 "] {
            assert!(parse(record).is_none(), "{record:?}");
        }
    }

    #[test]
    fn a_list_is_taken_as_far_as_there_is_room_for_it() {
        let mut records = Vec::new();
        let room = |bytes| bytes <= 40;
        add(&mut records, &[0; 15], &room).expect("fits");
        add(&mut records, &[0; 5], &room).expect("fits, twice");
        let refused = add(&mut records, &[0], &room).expect_err("does not");
        assert!(matches!(refused, SessionError::File(FileError::NoRoom)), "{refused}");
        assert_eq!(records.len(), 20);
        let refused = add(&mut Vec::new(), &vec![0; LIST_BYTES_MAX + 1], &|_| true).expect_err("more than any list has");
        assert!(matches!(refused, SessionError::Download(_)), "{refused}");
    }

    #[test]
    fn a_sandbox_that_sends_more_records_than_asked_for_is_not_listened_to() {
        let paths = |max| {
            let listed = parse_all(b"1 2 a\x001 2 b\0\x001 2 c\x001 2 d\0", max).expect("reads");
            listed.into_iter().map(|one| String::from_utf8(one.path).expect("text")).collect::<Vec<_>>()
        };
        assert_eq!(paths(1), ["a", "b"]);
        assert_eq!(paths(usize::MAX), ["a", "b", "c", "d"]);
        assert_eq!(parse_all(b"1 2 a\x001 2 \0", 5), None);
    }
}
