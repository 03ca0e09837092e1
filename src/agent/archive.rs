//! Reads the entries of a tar archive.
//!
//! Headers are read one by one, without the `tar` crate's iterator: that one keeps a long name of
//! any length in memory and takes an archive which breaks off between two entries for complete.
//! Understood are the old, the ustar, the GNU and the pax form (POSIX.1-2017, pax, "ustar
//! Interchange Format"), except for sparse files. What readers could understand in two ways is
//! refused: two sizes of one entry, names in a header for the whole archive, content of a link.

use std::io::Read;

use tar::Header;

use super::entry::{EntryFault, PATH_MAX, clean_file_path, clean_path, show};
use super::error::{ArchiveFault, ContentError};
use super::staging::Staging;

const BLOCK: usize = 512;
/// Longest name in an extension of GNU's: what a path may have, with room for `./` and a slash.
const LONG_NAME_MAX: u64 = 2 * PATH_MAX as u64;
/// Longest pax extension. They hold two names, some numbers and perhaps extended attributes.
const PAX_MAX: u64 = 64 << 10;
/// Headers that an entry may have, extensions included: two names of GNU's, pax, its own.
const HEADERS_PER_ENTRY: u64 = 4;
/// Zeros after the end: archives are padded to a record, 10 KiB by default and 1 MiB at most.
const TRAILING_MAX: u64 = 1 << 20;

/// Puts all entries of an archive into a staging folder.
pub(super) fn unpack(reader: impl Read, staging: &mut Staging, max_entries: u32) -> Result<(), ContentError> {
    Archive {
        reader: std::io::BufReader::with_capacity(64 << 10, reader),
        headers: 0,
        headers_max: u64::from(max_entries) * HEADERS_PER_ENTRY + 1,
        max_entries,
    }
    .unpack(staging)
}

struct Archive<R> {
    reader: std::io::BufReader<R>,
    /// How many headers were read.
    headers: u64,
    headers_max: u64,
    max_entries: u32,
}

/// What extensions say about the entry that follows them.
#[derive(Default)]
struct Extensions {
    path: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    size: Option<u64>,
    sparse: bool,
}

impl<R: Read> Archive<R> {
    fn unpack(&mut self, staging: &mut Staging) -> Result<(), ContentError> {
        let mut extensions = Extensions::default();
        let mut block = [0; BLOCK];
        loop {
            let first = self.headers == 0;
            match self.fill(&mut block)? {
                0 if first => return Err(ContentError::Archive(ArchiveFault::Empty)),
                BLOCK => {}
                _ => return Err(self.truncated()),
            }
            if block.iter().all(|byte| *byte == 0) {
                return self.finish();
            }
            let size = self.check_header(&block)?;
            self.headers += 1;
            if self.headers > self.headers_max {
                return Err(ContentError::TooMany { max: self.max_entries });
            }
            let header = Header::from_byte_slice(&block);
            match block[156] {
                b'L' => extensions.path = Some(self.long_name(size)?),
                b'K' => extensions.link = Some(self.long_name(size)?),
                b'x' => self.pax(size, Some(&mut extensions))?,
                b'g' => self.pax(size, None)?,
                _ => self.entry(header, size, std::mem::take(&mut extensions), staging)?,
            }
        }
    }

    /// An entry of the version: header with its extensions, then content.
    fn entry(&mut self, header: &Header, size: u64, extensions: Extensions, staging: &mut Staging) -> Result<(), ContentError> {
        let raw = extensions.path.unwrap_or_else(|| header.path_bytes().into_owned());
        let link = extensions.link.or_else(|| header.link_name_bytes().map(|name| name.into_owned())).unwrap_or_default();
        let refuse = |fault| ContentError::entry(&raw, fault);
        if extensions.size.is_some_and(|other| other != size) {
            return Err(ContentError::Archive(ArchiveFault::TwoSizes { after: self.headers }));
        }
        if extensions.sparse {
            return Err(refuse(EntryFault::Sparse));
        }
        let kind = header.as_bytes()[156];
        // Before ustar, folders were files whose name ends with a slash.
        let old_folder = matches!(kind, 0 | b'0') && raw.ends_with(b"/") && size == 0;
        if kind == b'5' || old_folder {
            if size != 0 {
                return Err(refuse(EntryFault::Content));
            }
            return staging.folder(&clean_path(&raw).map_err(refuse)?);
        }
        let path = clean_file_path(&raw).map_err(refuse)?;
        match kind {
            0 | b'0' | b'7' => {
                let mode = header.mode().map_err(|_| self.broken_header())?;
                self.file(&path, mode & 0o100 != 0, size, staging)
            }
            b'1' | b'2' if size != 0 => Err(refuse(EntryFault::Content)),
            b'1' => {
                let from = clean_file_path(&link).map_err(|_| refuse(EntryFault::HardLink { target: show(&link) }))?;
                staging.copy(&path, &from)
            }
            b'2' => staging.link(&path, &link),
            b'3' | b'4' => Err(refuse(EntryFault::Device)),
            b'6' => Err(refuse(EntryFault::Pipe)),
            b'S' => Err(refuse(EntryFault::Sparse)),
            kind => Err(refuse(EntryFault::Kind { kind: char::from(kind) })),
        }
    }

    fn file(&mut self, path: &str, executable: bool, size: u64, staging: &mut Staging) -> Result<(), ContentError> {
        let mut left = size;
        staging.file(path, executable, size, &mut |chunk| {
            let want = chunk.len().min(usize::try_from(left).unwrap_or(usize::MAX));
            if want == 0 {
                return Ok(0);
            }
            let count = self.fill(&mut chunk[..want])?;
            if count < want {
                return Err(self.truncated());
            }
            left -= count as u64;
            Ok(count)
        })?;
        self.skip_padding(size)
    }

    /// The name in an extension of GNU's.
    fn long_name(&mut self, size: u64) -> Result<Vec<u8>, ContentError> {
        let mut name = self.content(size, LONG_NAME_MAX)?;
        if name.last() == Some(&0) {
            name.pop();
        }
        Ok(name)
    }

    /// An extension of pax: records of the form `<length> <key>=<value>\n`. One for the whole
    /// archive may say nothing that would change an entry's name or content.
    fn pax(&mut self, size: u64, mut to: Option<&mut Extensions>) -> Result<(), ContentError> {
        let content = self.content(size, PAX_MAX)?;
        let mut rest = content.as_slice();
        while !rest.is_empty() {
            let (key, value, after) = record(rest).ok_or_else(|| self.malformed())?;
            rest = after;
            let Some(extensions) = to.as_deref_mut() else {
                if matches!(key, b"path" | b"linkpath" | b"size") || key.starts_with(b"GNU.sparse.") {
                    return Err(self.malformed());
                }
                continue;
            };
            match key {
                b"path" => extensions.path = Some(value.to_vec()),
                b"linkpath" => extensions.link = Some(value.to_vec()),
                b"size" => {
                    let size = std::str::from_utf8(value).ok().and_then(|digits| digits.parse().ok());
                    extensions.size = Some(size.ok_or_else(|| self.malformed())?);
                }
                key if key.starts_with(b"GNU.sparse.") => extensions.sparse = true,
                _ => {}
            }
        }
        Ok(())
    }

    /// The content of an extension.
    fn content(&mut self, size: u64, max: u64) -> Result<Vec<u8>, ContentError> {
        let length = usize::try_from(size).ok().filter(|_| size <= max).ok_or_else(|| self.malformed())?;
        let mut content = vec![0; length];
        if self.fill(&mut content)? < length {
            return Err(self.truncated());
        }
        self.skip_padding(size)?;
        Ok(content)
    }

    /// Checks that a block is a header, and returns the size of what follows it.
    fn check_header(&self, block: &[u8; BLOCK]) -> Result<u64, ContentError> {
        let header = Header::from_byte_slice(block);
        // The checksum counts its own field as spaces.
        let sum: u32 =
            block.iter().enumerate().map(|(i, byte)| if (148..156).contains(&i) { 32 } else { u32::from(*byte) }).sum();
        if header.cksum().ok() != Some(sum) {
            return Err(match (self.headers, block) {
                (0, [0x1f, 0x8b, ..] | [0x28, 0xb5, 0x2f, 0xfd, ..] | [0xfd, b'7', b'z', ..] | [b'B', b'Z', b'h', ..]) => {
                    ContentError::Archive(ArchiveFault::Compressed)
                }
                (0, _) => ContentError::Archive(ArchiveFault::NotTar),
                _ => self.broken_header(),
            });
        }
        header.entry_size().map_err(|_| self.broken_header())
    }

    fn skip_padding(&mut self, size: u64) -> Result<(), ContentError> {
        let over = usize::try_from(size % BLOCK as u64).unwrap_or(0);
        let mut padding = [0; BLOCK];
        let padding = &mut padding[..(BLOCK - over) % BLOCK];
        if self.fill(padding)? < padding.len() {
            return Err(self.truncated());
        }
        Ok(())
    }

    /// After the first block of the end mark: reads on to the end of the stream, so that the sender
    /// can finish, and makes sure that nothing else comes.
    fn finish(&mut self) -> Result<(), ContentError> {
        let trailing = || ContentError::Archive(ArchiveFault::Trailing);
        let (mut block, mut read) = ([0; BLOCK], 0);
        loop {
            let count = self.fill(&mut block)?;
            if count == 0 {
                return Ok(());
            }
            read += count as u64;
            if read > TRAILING_MAX || block[..count].iter().any(|byte| *byte != 0) {
                return Err(trailing());
            }
        }
    }

    /// Fills the buffer, as far as the stream goes.
    fn fill(&mut self, buffer: &mut [u8]) -> Result<usize, ContentError> {
        let mut filled = 0;
        while filled < buffer.len() {
            match self.reader.read(&mut buffer[filled..]) {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) => return Err(ContentError::Upload(error)),
            }
        }
        Ok(filled)
    }

    fn truncated(&self) -> ContentError {
        ContentError::Archive(ArchiveFault::Truncated { after: self.headers })
    }

    fn broken_header(&self) -> ContentError {
        ContentError::Archive(ArchiveFault::Header { after: self.headers })
    }

    fn malformed(&self) -> ContentError {
        ContentError::Archive(ArchiveFault::Extension { after: self.headers })
    }
}

/// Key, value and what follows of the first record. Its length counts itself and the newline.
fn record(bytes: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let space = bytes.iter().take(8).position(|byte| *byte == b' ')?;
    let length: usize = std::str::from_utf8(&bytes[..space]).ok()?.parse().ok()?;
    let (record, after) = bytes.split_at_checked(length)?;
    let pair = record.get(space + 1..)?.strip_suffix(b"\n")?;
    let equals = pair.iter().position(|byte| *byte == b'=')?;
    Some((&pair[..equals], &pair[equals + 1..], after))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_taken_apart_by_their_length() {
        assert_eq!(record(b"9 path=a\n6 a=b\n"), Some((&b"path"[..], &b"a"[..], &b"6 a=b\n"[..])));
        assert_eq!(record(b"11 a=b=\nc\n\n"), Some((&b"a"[..], &b"b=\nc\n"[..], &b""[..])));
        for bad in [
            &b""[..],
            b" a=b\n",
            b"6 a=b",
            b"5 a=b\n",
            b"99 a=b\n",
            b"0 a=b\n",
            b"1 a=b\n",
            b"x a=b\n",
            b"5 ab\n",
            b"999999999999999999999 a=b\n",
        ] {
            assert_eq!(record(bad), None, "{bad:?}");
        }
    }
}
