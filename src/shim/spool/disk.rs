//! The files of the spool, in the order of their events.
//!
//! They lie in `events/` below the sandbox's `spool` folder, under growing numbers. A file that is
//! wholly acknowledged is removed, the last one begins anew, so that there is always one which
//! says incarnation and next number. What can not be read is moved to `damaged/` as one, and takes
//! the place of what was moved there before.

use std::collections::VecDeque;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use uuid::Uuid;

use super::segment::{HEADER, Header, Record, Segment, SegmentError};
use crate::report;

const EVENTS: &str = "events";
const DAMAGED: &str = "damaged";

/// The files. See the module's documentation.
#[derive(Debug)]
pub struct Disk {
    folder: PathBuf,
    boot: Uuid,
    incarnation: Uuid,
    /// Bytes after which a new file is begun.
    segment_bytes: u64,
    segments: VecDeque<Segment>,
    /// Number of the next file.
    next_file: u64,
    /// Whether files lie in the way that have to be moved first.
    is_blocked: bool,
    /// Where a record stands: its number, the number of its file's first record, its place.
    cursor: Option<(u64, u64, u64)>,
}

impl Disk {
    /// Goes on with what is in the folder, or with a new incarnation if that is nothing.
    pub fn open(spool: &Path, segment_bytes: u64, boot: Uuid) -> Self {
        let mut disk = Self {
            folder: spool.to_owned(),
            boot,
            incarnation: Uuid::now_v7(),
            segment_bytes,
            segments: VecDeque::new(),
            next_file: 1,
            is_blocked: false,
            cursor: None,
        };
        if let Err(error) = disk.find() {
            tracing::error!(error = report::chain(&error), "event spool can not be read, setting it aside and beginning anew");
            disk.begin_anew();
        }
        disk
    }

    fn find(&mut self) -> Result<(), SegmentError> {
        let mut files = match fs::read_dir(self.folder.join(EVENTS)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            entries => entries?
                // Smaller than what counts them, so that there is always a next one.
                .map(|entry| entry?.file_name().to_str().and_then(|name| name.parse().ok()).ok_or(SegmentError::Magic))
                .map(|file: Result<u32, _>| file.map(u64::from))
                .collect::<Result<Vec<u64>, _>>()?,
        };
        files.sort_unstable();
        self.next_file = files.last().map_or(1, |last| last + 1);
        for (i, file) in files.iter().enumerate() {
            let path = self.path(*file);
            let Some(segment) = Segment::open(&path, i + 1 == files.len())? else {
                fs::remove_file(&path)?;
                continue;
            };
            let goes_on = |before: &Segment| {
                before.next() == segment.header().first && before.header().incarnation == segment.header().incarnation
            };
            if !self.segments.back().is_none_or(goes_on) {
                return Err(SegmentError::Order);
            }
            self.segments.push_back(segment);
        }
        let Some(last) = self.segments.back() else { return Ok(()) };
        if last.header().boot != self.boot && self.segments.len() == 1 && last.is_empty() {
            // The host may have died and lost the newest of what was written: the next number is
            // not certain. As nothing waits, there is no need for it.
            last.remove()?;
            self.segments.clear();
            return Ok(());
        }
        self.incarnation = last.header().incarnation;
        Ok(())
    }

    /// Sets all files aside and begins a new incarnation.
    pub fn begin_anew(&mut self) {
        self.segments.clear();
        self.cursor = None;
        self.incarnation = Uuid::now_v7();
        self.is_blocked = true;
        if let Err(error) = self.unblock() {
            tracing::warn!(%error, "event spool can not be set aside, trying again later");
        }
    }

    fn unblock(&mut self) -> io::Result<()> {
        if !self.is_blocked {
            return Ok(());
        }
        let absent_is_fine = |result: io::Result<()>| match result {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other,
        };
        let damaged = self.folder.join(DAMAGED);
        let removed = fs::remove_dir_all(&damaged).or_else(|error| match error.kind() {
            // What was moved there may have been a file in the place of the folder.
            io::ErrorKind::NotADirectory => fs::remove_file(&damaged),
            _ => Err(error),
        });
        absent_is_fine(removed)?;
        // All at once: what is left of a spool must never look like a whole one.
        absent_is_fine(fs::rename(self.folder.join(EVENTS), damaged))?;
        self.is_blocked = false;
        Ok(())
    }

    fn path(&self, file: u64) -> PathBuf {
        self.folder.join(EVENTS).join(file.to_string())
    }

    const fn header(&self, first: u64) -> Header {
        Header { incarnation: self.incarnation, boot: self.boot, first }
    }

    /// Whose events these are.
    pub const fn incarnation(&self) -> Uuid {
        self.incarnation
    }

    /// Number of the oldest event, if there is one, and of the one after the newest.
    pub fn range(&self) -> (u64, u64) {
        let first = self.segments.front().map_or(1, |segment| segment.header().first);
        (first, self.segments.back().map_or(1, Segment::next))
    }

    /// Bytes of all files, of which the last one's header is not counted: it always stays.
    pub fn bytes(&self) -> u64 {
        self.segments.iter().map(Segment::len).sum::<u64>().saturating_sub(HEADER)
    }

    /// Writes records. Says how many are there now, and what kept the others out. What is missing
    /// between them and those before was acknowledged without having been written.
    pub fn append(&mut self, records: &[&Record]) -> (usize, io::Result<()>) {
        let mut done = 0;
        while done < records.len() {
            let (count, result) = self.append_some(&records[done..]);
            done += count;
            if result.is_err() {
                return (done, result);
            }
        }
        (done, Ok(()))
    }

    fn append_some(&mut self, records: &[&Record]) -> (usize, io::Result<()>) {
        let Some(first) = records.first().map(|record| record.n) else { return (0, Ok(())) };
        if self.segments.back().is_some_and(|last| last.next() != first)
            && let Err(error) = self.forget(first - 1)
        {
            return (0, Err(error));
        }
        let bound = self.segment_bytes;
        if self.segments.back().is_none_or(|last| last.len() >= bound)
            && let Err(error) = self.create(first)
        {
            return (0, Err(error));
        }
        let Some(last) = self.segments.back_mut() else { return (0, Err(io::Error::other("no file"))) };
        let mut end = last.len();
        let fits = |record: &&&Record| {
            let is_room = end < bound;
            end += record.size() as u64;
            is_room
        };
        let count = records.iter().take_while(fits).count();
        last.append(&records[..count])
    }

    fn create(&mut self, first: u64) -> io::Result<()> {
        self.unblock()?;
        let (path, header) = (self.path(self.next_file), self.header(first));
        match fs::create_dir(self.folder.join(EVENTS)) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
        let created = Segment::create(path.clone(), header).inspect_err(|_| {
            // A file that is not finished is found and taken as such, also if it stays.
            let _stays = fs::remove_file(&path);
        })?;
        self.next_file += 1;
        self.segments.push_back(created);
        Ok(())
    }

    /// Forgets the events up to this number: removes files, and begins the last one anew if all
    /// of it is forgotten.
    pub fn forget(&mut self, through: u64) -> io::Result<()> {
        while self.segments.len() > 1 {
            let Some(oldest) = self.segments.front().filter(|oldest| oldest.next() <= through + 1) else { return Ok(()) };
            oldest.remove()?;
            self.segments.pop_front();
        }
        let header = self.header(through + 1);
        match self.segments.back_mut().filter(|last| last.next() <= through + 1) {
            Some(last) => last.restart(header),
            None => Ok(()),
        }
    }

    /// Tries whether the disk takes something.
    pub fn probe(&mut self, next: u64) -> io::Result<()> {
        match self.segments.back_mut() {
            Some(last) => last.probe(),
            None => self.create(next),
        }
    }

    /// Reads the record of this number and some after it, of about `bytes` together.
    pub fn read(&mut self, n: u64, bytes: usize) -> Result<Vec<Record>, SegmentError> {
        let holds = |segment: &&Segment| segment.header().first <= n && n < segment.next();
        let segment = self.segments.iter().find(holds).ok_or(SegmentError::Order)?;
        let file = segment.header().first;
        let mut place = match self.cursor {
            Some((next, of, place)) if (next, of) == (n, file) => place,
            _ => HEADER,
        };
        loop {
            let (mut records, end) = segment.read(place, bytes)?;
            let Some(last) = records.last() else { return Err(SegmentError::Record(place)) };
            place = end;
            if last.n >= n {
                self.cursor = Some((last.n + 1, file, end));
                records.retain(|record| record.n >= n);
                return Ok(records);
            }
        }
    }
}
