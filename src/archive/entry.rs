//! The entries of an archive as `pack` writes them: headers of GNU tar, and before those of pax
//! where there is more to say.
//!
//! A pax header tells what does not fit: names of more than 100 bytes, the nanoseconds of the time
//! of the last change, extended attributes (`SCHILY.xattr.`, as star and GNU tar write them). A
//! file with holes is an entry of GNU tar's type `S`. All of it is read by GNU tar and bsdtar.
//! Owners are left out, and a folder's name ends in a slash.

use std::io::{self, Write};

use tar::{EntryType, GnuExtSparseHeader, GnuSparseHeader, Header};

use super::BLOCK;

/// Times that fit into a header: eleven octal digits.
const TIME_MAX: i128 = 0o77_777_777_777;

/// What is said of a file, folder or link.
#[derive(Debug)]
pub struct Entry<'a> {
    /// What it is.
    pub kind: EntryType,
    /// Its path in the archive.
    pub path: &'a [u8],
    /// Where a link points; otherwise empty.
    pub target: &'a [u8],
    /// The nine permission bits.
    pub mode: u32,
    /// Time of the last change in nanoseconds since 1970.
    pub mtime: i128,
    /// Extended attributes: names and values.
    pub attributes: &'a [(Vec<u8>, Vec<u8>)],
    /// Bytes that follow.
    pub size: u64,
}

impl Entry<'_> {
    /// Writes the headers.
    pub fn write(&self, to: &mut impl Write) -> io::Result<()> {
        self.write_pax(to)?;
        let mut header = self.header();
        header.set_cksum();
        to.write_all(header.as_bytes())
    }

    /// Writes the headers of a file that has holes: its whole size, and where its bytes are.
    pub fn write_sparse(&self, to: &mut impl Write, whole: u64, pieces: &[(u64, u64)]) -> io::Result<()> {
        self.write_pax(to)?;
        let mut header = self.header();
        let mut rest = pieces;
        if let Some(gnu) = header.as_gnu_mut() {
            fill(&mut gnu.sparse, &mut rest);
            gnu.isextended = [u8::from(!rest.is_empty())];
            number(&mut gnu.realsize, whole);
        }
        header.set_cksum();
        to.write_all(header.as_bytes())?;
        while !rest.is_empty() {
            let mut more = GnuExtSparseHeader::new();
            fill(more.sparse_mut(), &mut rest);
            more.set_is_extended(!rest.is_empty());
            to.write_all(more.as_bytes())?;
        }
        Ok(())
    }

    fn header(&self) -> Header {
        let mut header = Header::new_gnu();
        header.set_entry_type(self.kind);
        header.set_mode(self.mode);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(u64::try_from(self.mtime.clamp(0, TIME_MAX * 1_000_000_000) / 1_000_000_000).unwrap_or_default());
        header.set_size(self.size);
        let old = header.as_old_mut();
        start(&mut old.name, self.path);
        start(&mut old.linkname, self.target);
        header
    }

    fn write_pax(&self, to: &mut impl Write) -> io::Result<()> {
        let mut records = Vec::new();
        if self.path.len() > 100 {
            record(&mut records, b"path", self.path);
        }
        if self.target.len() > 100 {
            record(&mut records, b"linkpath", self.target);
        }
        if self.mtime % 1_000_000_000 != 0 || !(0..=TIME_MAX * 1_000_000_000).contains(&self.mtime) {
            let sign = if self.mtime < 0 { "-" } else { "" };
            let (seconds, nanos) = (self.mtime.abs() / 1_000_000_000, self.mtime.abs() % 1_000_000_000);
            record(&mut records, b"mtime", format!("{sign}{seconds}.{nanos:09}").as_bytes());
        }
        for (name, value) in self.attributes {
            record(&mut records, &[b"SCHILY.xattr.", name.as_slice()].concat(), value);
        }
        if records.is_empty() {
            return Ok(());
        }
        let mut header = Header::new_gnu();
        header.set_entry_type(EntryType::XHeader);
        header.set_mode(0o644);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        header.set_size(records.len() as u64);
        start(&mut header.as_old_mut().name, b"PaxHeader");
        header.set_cksum();
        to.write_all(header.as_bytes())?;
        to.write_all(&records)?;
        pad(to, records.len() as u64)
    }
}

/// Writes zeros up to the next block after so many bytes.
pub fn pad(to: &mut impl Write, length: u64) -> io::Result<()> {
    to.write_all(&[0; BLOCK as usize][..usize::try_from(length.next_multiple_of(BLOCK) - length).unwrap_or_default()])
}

/// Writes the end of an archive.
pub fn end(to: &mut impl Write) -> io::Result<()> {
    to.write_all(&[0; 2 * BLOCK as usize])
}

/// As much of a name as fits.
fn start(field: &mut [u8], name: &[u8]) {
    let length = name.len().min(field.len());
    field[..length].copy_from_slice(&name[..length]);
}

/// A record `<length> <key>=<value>\n`, whose length counts itself.
fn record(records: &mut Vec<u8>, key: &[u8], value: &[u8]) {
    let rest = key.len() + value.len() + 3;
    let mut length = rest + 1;
    while length < rest + length.to_string().len() {
        length += 1;
    }
    records.extend_from_slice(length.to_string().as_bytes());
    for part in [b" ", key, b"=", value, b"\n"] {
        records.extend_from_slice(part);
    }
}

fn fill(fields: &mut [GnuSparseHeader], pieces: &mut &[(u64, u64)]) {
    for field in fields {
        let Some(((offset, length), rest)) = pieces.split_first() else { return };
        number(&mut field.offset, *offset);
        number(&mut field.numbytes, *length);
        *pieces = rest;
    }
}

/// A number in octal, or where that is too short in GNU tar's base 256.
fn number(field: &mut [u8; 12], number: u64) {
    let octal = format!("{number:011o}");
    if octal.len() == 11 {
        field[..11].copy_from_slice(octal.as_bytes());
        field[11] = 0;
    } else {
        *field = [0; 12];
        field[0] = 0x80;
        field[4..].copy_from_slice(&number.to_be_bytes());
    }
}
