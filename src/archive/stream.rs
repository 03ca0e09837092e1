//! Reads an archive entry by entry.
//!
//! What an archive says is held against limits before anything is kept of it. An archive that does
//! not come to its proper end was cut. What readers could understand in two ways is refused: two
//! sizes of one entry, names in a header for the whole archive, content of a link.

use std::ffi::OsString;
use std::io::{self, Read};
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

use tar::{EntryType, GnuExtSparseHeader, GnuSparseHeader, Header};

use super::{ATTRIBUTES_MAX, BLOCK, PATH_MAX, PIECES_MAX, shown};

/// Longest pax header: a path, a target, attributes with their names, and a time.
const PAX_MAX: u64 = 2 * PATH_MAX as u64 + 2 * ATTRIBUTES_MAX as u64 + 4096;
/// Headers before the one that they extend: two names of GNU's, one of pax.
const EXTENSIONS_MAX: u32 = 4;
/// Seconds from 1970 on in both directions that a time may be away: some 34 000 years.
const SECONDS_MAX: u64 = 1 << 40;

/// Whose archives are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    /// Only what [`entry`](super::entry) writes.
    Own,
    /// The old, the ustar, the GNU and the pax form (POSIX.1-2017, pax, "ustar Interchange Format"),
    /// of files with holes only GNU tar's old one. What is not known of an entry is left out, such as
    /// its owner.
    Any,
}

/// Why an archive can not be read on.
#[derive(Debug, thiserror::Error)]
pub enum StreamError {
    /// Its bytes do not come.
    #[error("read the archive")]
    Read(#[source] io::Error),
    /// It ends before its end.
    #[error("the archive is cut short")]
    Cut,
    /// It is no archive of this kind.
    #[error("the archive has a header that can not be read")]
    Malformed,
    /// An entry is refused.
    #[error("entry {path:?} {reason}")]
    Entry {
        /// Its path.
        path: PathBuf,
        /// Why, as the rest of a sentence.
        reason: &'static str,
    },
}

/// An archive.
#[derive(Debug)]
pub struct Stream<R> {
    from: R,
    dialect: Dialect,
    /// Bytes of the entry at hand that were not read.
    left: u64,
    /// Bytes after those, up to the next block.
    padding: u64,
}

/// What is said of a file, folder or link.
#[derive(Debug)]
pub struct Entry {
    /// What it is.
    pub kind: EntryType,
    /// Its path.
    pub path: OsString,
    /// Where a link points.
    pub target: Vec<u8>,
    /// The nine permission bits.
    pub mode: u32,
    /// Time of the last change in nanoseconds since 1970.
    pub mtime: i128,
    /// Extended attributes: names and values.
    pub attributes: Vec<(Vec<u8>, Vec<u8>)>,
    /// Of a file its size, with holes.
    pub size: u64,
    /// Where the bytes of a file are: offset and length, in order.
    pub pieces: Vec<(u64, u64)>,
}

/// What precedes the entry it belongs to.
#[derive(Debug, Default)]
struct Pax {
    path: Option<Vec<u8>>,
    target: Option<Vec<u8>>,
    mtime: Option<i128>,
    size: Option<u64>,
    attributes: Vec<(Vec<u8>, Vec<u8>)>,
}

impl<R: Read> Stream<R> {
    /// Reads from the beginning of an archive.
    pub const fn new(from: R, dialect: Dialect) -> Self {
        Self { from, dialect, left: 0, padding: 0 }
    }

    /// The next entry, whose bytes are then to be read; `None` at the end.
    #[expect(clippy::should_implement_trait, reason = "an iterator could be read on after an error")]
    pub fn next(&mut self) -> Result<Option<Entry>, StreamError> {
        let (mut pax, mut extensions) = (Pax::default(), 0);
        loop {
            self.skip()?;
            let Some(header) = self.header()? else {
                return if extensions == 0 { Ok(None) } else { Err(StreamError::Cut) };
            };
            let refused = |reason| StreamError::Entry { path: shown(&header.path_bytes()), reason };
            let size = header.entry_size().map_err(|_| refused("has a header that can not be read"))?;
            self.left = size;
            self.padding = size.checked_next_multiple_of(BLOCK).ok_or_else(|| refused("is too large"))? - size;
            let kind = header.entry_type();
            let (extends, most) = match self.dialect {
                Dialect::Own => (kind == EntryType::XHeader, 1),
                Dialect::Any => (is_extension(kind), EXTENSIONS_MAX),
            };
            if !extends {
                return self.entry(&header, pax, size).map(Some);
            }
            extensions += 1;
            if size > PAX_MAX || extensions > most {
                return Err(refused("is an extended header that is too long"));
            }
            let mut records = vec![0; usize::try_from(size).unwrap_or_default()];
            self.read(&mut records)?;
            let read = match kind {
                EntryType::XHeader => pax.read(&records, self.dialect),
                EntryType::XGlobalHeader => says_nothing_of_entries(&records),
                EntryType::GNULongName => long_name(records).map(|name| pax.path = Some(name)),
                _ => long_name(records).map(|name| pax.target = Some(name)),
            };
            read.ok_or_else(|| refused("is an extended header that can not be read"))?;
        }
    }

    /// After the end: whether nothing follows but zeros, of which at most so many.
    pub fn is_over(&mut self, zeros_max: u64) -> Result<bool, StreamError> {
        let (mut block, mut zeros) = ([0; BLOCK as usize], 0);
        loop {
            match self.from.read(&mut block) {
                Ok(0) => return Ok(true),
                Ok(count) => {
                    zeros += count as u64;
                    if zeros > zeros_max || block[..count].iter().any(|byte| *byte != 0) {
                        return Ok(false);
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(cut(error)),
            }
        }
    }

    fn entry(&mut self, header: &Header, pax: Pax, size: u64) -> Result<Entry, StreamError> {
        let path = pax.path.unwrap_or_else(|| header.path_bytes().into_owned());
        let kind = match header.entry_type() {
            // Before ustar, folders were files whose name ends with a slash.
            EntryType::Regular if self.dialect == Dialect::Any && size == 0 && path.ends_with(b"/") => EntryType::Directory,
            EntryType::Continuous if self.dialect == Dialect::Any => EntryType::Regular,
            kind => kind,
        };
        let refused = |reason| StreamError::Entry { path: shown(&path), reason };
        if path.len() > PATH_MAX {
            return Err(refused("has a name that is too long"));
        }
        if pax.size.is_some_and(|said| said != size) {
            return Err(refused("has two sizes"));
        }
        let number = |number: io::Result<u64>| number.map_err(|_| refused("has a header that can not be read"));
        let (size, pieces) = match (kind, header.as_gnu()) {
            (EntryType::GNUSparse, Some(gnu)) => {
                let whole = number(gnu.real_size())?;
                let pieces = self.pieces(&gnu.sparse, gnu.is_extended())?;
                let pieces = pieces.filter(|pieces| are_sound(pieces, whole, size));
                (whole, pieces.ok_or_else(|| refused("has holes that make no sense"))?)
            }
            (EntryType::GNUSparse, None) => return Err(refused("has holes that make no sense")),
            (EntryType::Regular, _) => (size, vec![(0, size)]),
            _ if size > 0 => return Err(refused("has contents, and is no file")),
            _ => (0, Vec::new()),
        };
        let mode = match header.mode() {
            Ok(mode) => mode & 0o777,
            // A link has none, and some archives then leave the field empty.
            Err(_) if kind == EntryType::Symlink => 0o777,
            Err(_) => return Err(refused("has a header that can not be read")),
        };
        let mtime = match pax.mtime {
            Some(mtime) => mtime,
            None => i128::from(number(header.mtime())?) * 1_000_000_000,
        };
        if self.dialect == Dialect::Any && mtime.unsigned_abs() > u128::from(SECONDS_MAX) * 1_000_000_000 {
            return Err(refused("has a time that no clock shows"));
        }
        let target = pax.target.unwrap_or_else(|| header.link_name_bytes().map(|name| name.into_owned()).unwrap_or_default());
        let path = OsString::from_vec(path);
        Ok(Entry { kind, path, target, mode, mtime, attributes: pax.attributes, size, pieces })
    }

    /// The map of a file with holes; `None` if it can not be read or is too long.
    fn pieces(&mut self, first: &[GnuSparseHeader], mut goes_on: bool) -> Result<Option<Vec<(u64, u64)>>, StreamError> {
        let mut pieces = Vec::new();
        if !add(&mut pieces, first) {
            return Ok(None);
        }
        while goes_on {
            let mut more = GnuExtSparseHeader::new();
            self.from.read_exact(more.as_mut_bytes()).map_err(cut)?;
            if !add(&mut pieces, more.sparse()) || pieces.len() > PIECES_MAX + 64 {
                return Ok(None);
            }
            goes_on = more.is_extended();
        }
        Ok(Some(pieces))
    }

    /// The next header; `None` at the end of the archive.
    fn header(&mut self) -> Result<Option<Header>, StreamError> {
        let mut header = Header::new_old();
        self.from.read_exact(header.as_mut_bytes()).map_err(cut)?;
        if header.as_bytes().iter().all(|byte| *byte == 0) {
            let mut second = [0; BLOCK as usize];
            self.from.read_exact(&mut second).map_err(cut)?;
            return if second.iter().all(|byte| *byte == 0) { Ok(None) } else { Err(StreamError::Malformed) };
        }
        // The sum takes its own field as spaces.
        let bytes = header.as_bytes();
        let sum = bytes[..148].iter().chain(&bytes[156..]).map(|byte| u32::from(*byte)).sum::<u32>() + 8 * u32::from(b' ');
        if header.cksum().is_ok_and(|said| said == sum) { Ok(Some(header)) } else { Err(StreamError::Malformed) }
    }

    /// Reads exactly so many bytes of the entry at hand.
    pub fn read(&mut self, into: &mut [u8]) -> Result<(), StreamError> {
        self.left = self.left.checked_sub(into.len() as u64).ok_or(StreamError::Malformed)?;
        self.from.read_exact(into).map_err(cut)
    }

    fn skip(&mut self) -> Result<(), StreamError> {
        let length = self.left + self.padding;
        (self.left, self.padding) = (0, 0);
        let skipped = io::copy(&mut self.from.by_ref().take(length), &mut io::sink()).map_err(StreamError::Read)?;
        if skipped == length { Ok(()) } else { Err(StreamError::Cut) }
    }
}

impl Pax {
    /// Reads records. `None` if they are malformed, or say what changes how the archive itself is to
    /// be read; of Ash's own also if they say something that is not known here.
    fn read(&mut self, mut rest: &[u8], dialect: Dialect) -> Option<()> {
        while !rest.is_empty() {
            let (key, value, after) = record(rest)?;
            rest = after;
            match (key, dialect) {
                (b"path", _) => self.path = Some(value.to_vec()),
                (b"linkpath", _) => self.target = Some(value.to_vec()),
                (b"mtime", _) => self.mtime = Some(time(value)?),
                (b"size", Dialect::Any) => self.size = Some(std::str::from_utf8(value).ok()?.parse().ok()?),
                (key, dialect) => match key.strip_prefix(b"SCHILY.xattr.") {
                    Some(name) if name.starts_with(b"user.") => self.attributes.push((name.to_vec(), value.to_vec())),
                    _ if dialect == Dialect::Own || key.starts_with(b"GNU.sparse.") => return None,
                    _ => {}
                },
            }
        }
        Some(())
    }
}

const fn is_extension(kind: EntryType) -> bool {
    matches!(kind, EntryType::XHeader | EntryType::XGlobalHeader | EntryType::GNULongName | EntryType::GNULongLink)
}

/// Whether a header for the whole archive leaves its entries as they are.
fn says_nothing_of_entries(mut rest: &[u8]) -> Option<()> {
    while !rest.is_empty() {
        let (key, _, after) = record(rest)?;
        let is_harmless = !matches!(key, b"path" | b"linkpath" | b"size") && !key.starts_with(b"GNU.sparse.");
        rest = is_harmless.then_some(after)?;
    }
    Some(())
}

/// The name in an extension of GNU's, which ends in NUL.
fn long_name(mut bytes: Vec<u8>) -> Option<Vec<u8>> {
    if bytes.last() == Some(&0) {
        bytes.pop();
    }
    (!bytes.is_empty() && bytes.len() <= PATH_MAX).then_some(bytes)
}

/// Key, value and what follows of the first record `<length> <key>=<value>\n`, whose length counts
/// all of it.
fn record(bytes: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let space = bytes.iter().take(8).position(|byte| *byte == b' ')?;
    let length: usize = std::str::from_utf8(&bytes[..space]).ok()?.parse().ok()?;
    let (record, after) = bytes.split_at_checked(length)?;
    let pair = record.get(space + 1..)?.strip_suffix(b"\n")?;
    let equals = pair.iter().position(|byte| *byte == b'=')?;
    Some((&pair[..equals], &pair[equals + 1..], after))
}

/// Seconds with up to nine decimals, as nanoseconds.
fn time(text: &[u8]) -> Option<i128> {
    let text = std::str::from_utf8(text).ok()?;
    let (is_negative, digits) = text.strip_prefix('-').map_or((false, text), |digits| (true, digits));
    let (seconds, nanos) = digits.split_once('.').unwrap_or((digits, ""));
    let is_number = |digits: &str| digits.bytes().all(|byte| byte.is_ascii_digit());
    if !is_number(seconds) || !is_number(nanos) || nanos.len() > 9 {
        return None;
    }
    let time = i128::from(seconds.parse::<u64>().ok()?) * 1_000_000_000 + format!("{nanos:0<9}").parse::<i128>().ok()?;
    Some(if is_negative { -time } else { time })
}

fn add(pieces: &mut Vec<(u64, u64)>, fields: &[GnuSparseHeader]) -> bool {
    for field in fields.iter().filter(|field| !field.is_empty()) {
        match (field.offset(), field.length()) {
            (Ok(offset), Ok(length)) => pieces.push((offset, length)),
            _ => return false,
        }
    }
    true
}

/// Whether pieces follow each other, lie inside, and make up the bytes that follow.
fn are_sound(pieces: &[(u64, u64)], whole: u64, size: u64) -> bool {
    let (mut end, mut sum) = (0_u64, 0_u64);
    pieces.iter().all(|(offset, length)| {
        let follows = *offset >= end;
        end = offset.saturating_add(*length);
        sum = sum.saturating_add(*length);
        follows && end <= whole
    }) && sum == size
}

fn cut(error: io::Error) -> StreamError {
    if error.kind() == io::ErrorKind::UnexpectedEof { StreamError::Cut } else { StreamError::Read(error) }
}

#[cfg(test)]
mod tests {
    use tar::{Builder, HeaderMode};

    use super::*;
    use crate::hostile::{Random, Target};

    /// Changes fields of a header, and makes its sum right, so that what it says is looked at.
    fn mend(bytes: &mut Vec<u8>, random: &mut Random) {
        let blocks = bytes.len() / BLOCK as usize;
        if blocks == 0 || random.below(8) == 0 {
            return;
        }
        let at = random.below(blocks) * BLOCK as usize;
        let Some(block) = bytes[at..].first_chunk_mut::<512>() else { return };
        // POSIX.1-2017, pax, "ustar Interchange Format".
        match random.below(8) {
            0 => block[156] = *random.choose(b"\x000123456789ABDKLMNSVXgx\xff"),
            1 => block[124..136].copy_from_slice(*random.choose::<&[u8; 12]>(&[
                b"00000000000\0",
                b"77777777777\0",
                b"00000001000\0",
                b"-0000000001\0",
                b"\x80\0\0\0\xff\xff\xff\xff\xff\xff\xff\xff",
                b"            ",
            ])),
            2 => {
                block[257..265].copy_from_slice(*random.choose::<&[u8; 8]>(&[b"ustar\x0000", b"ustar  \0", b"\0\0\0\0\0\0\0\0"]))
            }
            3 => {
                const NAMES: &[&[u8]] = &[b"../x\0", b"/x\0", b"work/../../x\0", b"work/\0", b"\0", b"work/a\0b", b"\xff\0"];
                let name = random.choose(NAMES);
                block[..name.len()].copy_from_slice(name);
            }
            4 => block[345 + random.below(155)] = random.below(256) as u8,
            5 => block[157 + random.below(100)] = random.below(256) as u8,
            _ => {}
        }
        let mut header = Header::new_old();
        header.as_mut_bytes().copy_from_slice(block);
        header.set_cksum();
        block.copy_from_slice(header.as_bytes());
        if random.below(2) == 0 {
            bytes.resize(bytes.len().next_multiple_of(BLOCK as usize), 0);
        }
    }

    /// Archives of others, in every form that is read, and one of our own.
    fn seeds() -> Vec<Vec<u8>> {
        let add = |builder: &mut Builder<Vec<u8>>, mut header: Header, kind: EntryType, path: &str, content: &[u8]| {
            header.set_mode(0o644);
            header.set_entry_type(kind);
            header.set_size(content.len() as u64);
            if kind == EntryType::Symlink || kind == EntryType::Link {
                header.set_size(0);
                builder.append_link(&mut header, path, String::from_utf8_lossy(content).as_ref()).expect("appended");
            } else {
                builder.append_data(&mut header, path, content).expect("appended");
            }
        };
        let mut seeds = Vec::new();
        for make in [Header::new_gnu as fn() -> Header, Header::new_ustar, Header::new_old] {
            let mut builder = Builder::new(Vec::new());
            builder.mode(HeaderMode::Deterministic);
            add(&mut builder, make(), EntryType::Directory, "work/", b"");
            add(&mut builder, make(), EntryType::Regular, "work/file", &[7; 700]);
            add(&mut builder, make(), EntryType::Symlink, "work/link", b"/etc/passwd");
            add(&mut builder, make(), EntryType::Link, "work/hard", b"work/file");
            seeds.push(builder.into_inner().expect("finished"));
        }
        // A name that needs a header of its own, and records of pax.
        let mut builder = Builder::new(Vec::new());
        add(&mut builder, Header::new_gnu(), EntryType::Regular, &format!("work/{}", "n".repeat(180)), b"long");
        let records = [("path", &b"work/pax"[..]), ("mtime", b"1.5"), ("SCHILY.xattr.user.a", b"value")];
        builder.append_pax_extensions(records).expect("appended");
        add(&mut builder, Header::new_ustar(), EntryType::Regular, "work/short", b"pax");
        seeds.push(builder.into_inner().expect("finished"));
        // With holes, in GNU tar's old form.
        let mut header = Header::new_gnu();
        header.set_entry_type(EntryType::GNUSparse);
        header.as_old_mut().name[..6].copy_from_slice(b"work/h");
        header.set_size(512);
        let gnu = header.as_gnu_mut().expect("GNU's");
        gnu.sparse[0].offset.copy_from_slice(b"00000010000\0");
        gnu.sparse[0].numbytes.copy_from_slice(b"00000001000\0");
        gnu.realsize.copy_from_slice(b"00000011000\0");
        header.set_cksum();
        seeds.push([&header.as_bytes()[..], &[1; 512], &[0; 1024]].concat());
        seeds
    }

    #[test]
    fn no_bytes_are_too_much_for_what_reads_archives() {
        let target = Target {
            name: "archives",
            seeds: seeds(),
            words: &[
                b"30 mtime=1.5\n",
                b"13 path=a/../b\n",
                b"12 size=9999\n",
                b"ustar  \0",
                b"GNU.sparse.map=",
                b"\0\0\0\0\0\0\0\0",
            ],
            mend,
            ..Target::default()
        };
        let mut read = 0;
        target.attack(|bytes| {
            for dialect in [Dialect::Own, Dialect::Any] {
                let mut stream = Stream::new(bytes, dialect);
                let mut entries = 0;
                while let Ok(Some(entry)) = stream.next() {
                    entries += 1;
                    assert!(entries * BLOCK as usize <= bytes.len(), "each has a header of its own");
                    assert!(entry.path.len() <= PATH_MAX && entry.target.len() <= PATH_MAX, "{entry:?}");
                    assert!(entry.pieces.len() <= PIECES_MAX && entry.mode <= 0o777, "{entry:?}");
                    assert!(entry.attributes.iter().map(|(name, value)| name.len() + value.len()).sum::<usize>() <= bytes.len());
                    // Some of its bytes, which may not be there.
                    let _cut = stream.read(&mut [0; 100]);
                }
                read += entries;
            }
        });
        assert!(read > 100, "most changes leave something to read: {read}");
    }
}
