//! What stands in a manifest, and how it is written and checked.
//!
//! A manifest is one object of JSON whose last field is the SHA-256 of all bytes before that
//! field:
//!
//! ```text
//! {"format":1,"session":"0198…", … ,"manifestSha256":"<64 hex digits>"}⏎
//! ```
//!
//! So a change of any byte is seen, also one in a field that no digest of the data covers, and
//! fields that a later release adds are checked without being known. This frame stays in all
//! formats to come; `format` says how to read what is in it.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest as _, Sha256};

use super::error::{Damage, SnapshotError};
use crate::wire::{SessionId, Timestamp};

/// The format that is written, and the newest one that is read. Format 1: `data.tar.zst` is a tar
/// archive with the roots `work/` and `home/`, in frames of Zstandard (RFC 8878) whose window is at
/// most 2 to the power of [`WINDOW_LOG_MAX`].
pub const FORMAT: u64 = 1;
/// Largest manifest in bytes.
pub const MANIFEST_MAX: usize = 1 << 20;
/// RFC 8878 §3.1.1.1.2 recommends that every decoder takes windows of 8 MiB, and none has to take
/// larger ones.
pub const WINDOW_LOG_MAX: u32 = 23;
/// Where in a manifest its own checksum begins.
const CHECKSUM_FIELD: &str = ",\"manifestSha256\":\"";
const CHECKSUM_END: &str = "\"}\n";

/// Names a snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SnapshotId {
    /// The session.
    pub session: SessionId,
    /// The last event that it contains, from 0: of a session to which nothing happened yet.
    pub event: i64,
}

impl fmt::Display for SnapshotId {
    /// In a sentence.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the snapshot of session {} at event {}", self.session, self.event)
    }
}

/// A SHA-256. Text form: 64 lower-case hex digits.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Checksum(pub(super) [u8; 32]);

impl Checksum {
    pub(super) fn of(sum: Sha256) -> Self {
        Self(sum.finalize().into())
    }

    fn parse(text: &str) -> Option<Self> {
        let digit = |byte: u8| match byte {
            b'0'..=b'9' => Some(byte - b'0'),
            b'a'..=b'f' => Some(byte - b'a' + 10),
            _ => None,
        };
        let mut sum = [0; 32];
        if text.len() != 64 {
            return None;
        }
        for (byte, pair) in sum.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
            *byte = digit(pair[0])? << 4 | digit(pair[1])?;
        }
        Some(Self(sum))
    }
}

impl fmt::Display for Checksum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Checksum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for Checksum {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Checksum {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).ok_or_else(|| serde::de::Error::custom("not 64 lower-case hex digits"))
    }
}

/// Why a snapshot was taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Reason {
    /// The session was paused.
    Pause,
    /// The session was stopped.
    Stop,
    /// The session was ended.
    End,
    /// A turn ended.
    Turn,
    /// The session was idle for a while.
    Idle,
    /// Another session was made of it.
    Fork,
    /// The session went back to an earlier snapshot: how it was before, or a copy of that one.
    Rewind,
    /// The daemon or the host was shut down.
    Shutdown,
    /// Files were put into the workspace, or are about to be.
    Upload,
    /// Somebody asked for it.
    Request,
    /// An agent was installed: what all sessions of its version begin with.
    Install,
    /// A reason that this release does not know.
    #[serde(other)]
    Unknown,
}

impl Reason {
    /// The word in manifests and on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pause => "pause",
            Self::Stop => "stop",
            Self::End => "end",
            Self::Turn => "turn",
            Self::Idle => "idle",
            Self::Fork => "fork",
            Self::Rewind => "rewind",
            Self::Shutdown => "shutdown",
            Self::Upload => "upload",
            Self::Request => "request",
            Self::Install => "install",
            Self::Unknown => "unknown",
        }
    }
}

/// What is known of a snapshot before it is taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct About {
    /// Its name.
    pub id: SnapshotId,
    /// Name of the session's agent.
    pub agent_name: String,
    /// Digest of the agent's version.
    pub agent_version: String,
    /// Name of the runtime, such as `claude`.
    pub runtime: String,
    /// The runtime's version, as it tells it.
    pub runtime_version: String,
    /// What was left out, as the agent's definition says it.
    pub excludes: Vec<String>,
    /// Why it is taken.
    pub reason: Reason,
}

/// What is known of a snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Manifest {
    /// Always [`FORMAT`]: others are not read.
    pub(super) format: u64,
    /// Its session.
    pub session: SessionId,
    /// The last event that it contains.
    pub event: i64,
    /// When it was finished; of a copy, when it was copied.
    pub created_at: Timestamp,
    /// Why it was taken; of a copy, [`Reason::Fork`], or [`Reason::Rewind`] within one session.
    pub reason: Reason,
    /// Name of the session's agent.
    pub agent_name: String,
    /// Digest of the agent's version.
    pub agent_version: String,
    /// Name of the runtime, such as `claude`.
    pub runtime: String,
    /// The runtime's version, as it tells it.
    pub runtime_version: String,
    /// The runtime's own name of the conversation; `None` if it has begun none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub conversation: Option<String>,
    /// What was left out, as the agent's definition says it.
    #[serde(default)]
    pub excludes: Vec<String>,
    /// Of a copy: what it was copied from. `None` for what was packed from a sandbox.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub forked_from: Option<Origin>,
    /// Bytes of the tar archive.
    pub tar_bytes: u64,
    /// SHA-256 of the tar archive.
    pub tar_sha256: Checksum,
    /// Bytes of `data.tar.zst`.
    pub stored_bytes: u64,
    /// SHA-256 of `data.tar.zst`.
    pub stored_sha256: Checksum,
}

/// What a snapshot was copied from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    /// The session.
    pub session: SessionId,
    /// The event of that session.
    pub event: i64,
}

/// What was written: sizes and digests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Measure {
    pub(super) tar_bytes: u64,
    pub(super) tar_sha256: Checksum,
    pub(super) stored_bytes: u64,
    pub(super) stored_sha256: Checksum,
}

impl Manifest {
    pub(super) fn new(about: About, conversation: Option<String>, measure: Measure, created_at: Timestamp) -> Self {
        Self {
            format: FORMAT,
            session: about.id.session,
            event: about.id.event,
            created_at,
            reason: about.reason,
            agent_name: about.agent_name,
            agent_version: about.agent_version,
            runtime: about.runtime,
            runtime_version: about.runtime_version,
            conversation,
            excludes: about.excludes,
            forked_from: None,
            tar_bytes: measure.tar_bytes,
            tar_sha256: measure.tar_sha256,
            stored_bytes: measure.stored_bytes,
            stored_sha256: measure.stored_sha256,
        }
    }

    /// The manifest of a copy under another name.
    pub(super) fn forked(self, to: SnapshotId, created_at: Timestamp) -> Self {
        let from = Origin { session: self.session, event: self.event };
        let reason = if from.session == to.session { Reason::Rewind } else { Reason::Fork };
        // Where this is a copy itself, the conversation still has the name of what it was copied from.
        let conversation = self.conversation.or_else(|| self.forked_from.map(|origin| origin.session.to_string()));
        Self { session: to.session, event: to.event, created_at, reason, conversation, forked_from: Some(from), ..self }
    }

    /// Its name.
    pub fn id(&self) -> SnapshotId {
        SnapshotId { session: self.session, event: self.event }
    }

    pub(super) fn measure(&self) -> Measure {
        Measure {
            tar_bytes: self.tar_bytes,
            tar_sha256: self.tar_sha256,
            stored_bytes: self.stored_bytes,
            stored_sha256: self.stored_sha256,
        }
    }

    /// The bytes of the file.
    ///
    /// # Errors
    ///
    /// [`SnapshotError::ManifestTooLarge`].
    pub(super) fn encode(&self) -> Result<Vec<u8>, SnapshotError> {
        // Serialising can not fail: all keys are texts, and no number is infinite.
        let mut text = serde_json::to_string(self).unwrap_or_default();
        text.pop();
        let text = seal(text);
        if text.len() > MANIFEST_MAX {
            return Err(SnapshotError::ManifestTooLarge(self.id()));
        }
        Ok(text.into_bytes())
    }

    /// Reads the bytes of a file that lies where the manifest of `id` should.
    ///
    /// # Errors
    ///
    /// [`SnapshotError::Damaged`] and [`SnapshotError::Newer`].
    pub(super) fn decode(bytes: &[u8], id: SnapshotId) -> Result<Self, SnapshotError> {
        #[derive(Deserialize)]
        struct Format {
            format: u64,
        }
        let text = unseal(bytes).map_err(SnapshotError::damaged(id))?;
        let unreadable = |error: serde_json::Error| SnapshotError::damaged(id)(Damage::Manifest(error.to_string()));
        let Format { format } = serde_json::from_str(text).map_err(unreadable)?;
        if format > FORMAT {
            return Err(SnapshotError::Newer { id, format });
        }
        if format == 0 {
            return Err(SnapshotError::damaged(id)(Damage::Manifest("there is no format 0".to_owned())));
        }
        let manifest: Self = serde_json::from_str(text).map_err(unreadable)?;
        if manifest.id() != id {
            return Err(SnapshotError::damaged(id)(Damage::Moved(manifest.id())));
        }
        Ok(manifest)
    }
}

/// Adds the checksum to an object of JSON without its closing brace.
pub(super) fn seal(text: String) -> String {
    let sum = Checksum::of(Sha256::new_with_prefix(&text));
    format!("{text}{CHECKSUM_FIELD}{sum}{CHECKSUM_END}")
}

/// The whole text, if its checksum is right.
fn unseal(bytes: &[u8]) -> Result<&str, Damage> {
    let checked = || {
        let text = std::str::from_utf8(bytes).ok()?;
        let (said, sum) = text.strip_suffix(CHECKSUM_END)?.rsplit_once(CHECKSUM_FIELD)?;
        (Checksum::parse(sum)? == Checksum::of(Sha256::new_with_prefix(said))).then_some(text)
    };
    checked().ok_or(Damage::ManifestChecksum)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As release 0.1.0 wrote it; it has to open in all that follow.
    const FIRST: &str = include_str!("tests/manifest-format-1.json");

    fn id() -> SnapshotId {
        SnapshotId { session: "01980000-0000-7000-8000-000000000001".parse().expect("an id"), event: 17 }
    }

    fn manifest() -> Manifest {
        let about = About {
            id: id(),
            agent_name: "hello".to_owned(),
            agent_version: "sha256:aa".to_owned(),
            runtime: "claude".to_owned(),
            runtime_version: "2.1.330".to_owned(),
            excludes: vec!["node_modules".to_owned()],
            reason: Reason::Pause,
        };
        let measure =
            Measure { tar_bytes: 2048, tar_sha256: Checksum([0xab; 32]), stored_bytes: 99, stored_sha256: Checksum([0xcd; 32]) };
        Manifest::new(about, Some("11111111-2222".to_owned()), measure, Timestamp(1_767_225_599_999))
    }

    fn sealed(json: &serde_json::Value) -> Vec<u8> {
        let mut text = json.to_string();
        text.pop();
        seal(text).into_bytes()
    }

    fn said(bytes: &[u8]) -> String {
        Manifest::decode(bytes, id()).expect_err("bad").to_string()
    }

    /// Seals it again, mostly, so that what stands in it is looked at.
    fn mend(bytes: &mut Vec<u8>, random: &mut crate::hostile::Random) {
        if random.below(8) == 0 {
            return;
        }
        let text = String::from_utf8_lossy(bytes).into_owned();
        let text = text.rsplit_once(CHECKSUM_FIELD).map_or(text.trim_end().trim_end_matches('}'), |(text, _)| text);
        *bytes = seal(text.to_owned()).into_bytes();
    }

    #[test]
    fn no_bytes_are_too_much_for_what_reads_manifests() {
        let copy = manifest().forked(SnapshotId { event: 18, ..id() }, Timestamp(1));
        let target = crate::hostile::Target {
            name: "manifests of snapshots",
            seeds: vec![FIRST.into(), manifest().encode().expect("small"), copy.encode().expect("small")],
            words: &[b"\"format\":2", b"\"event\":-1", b",\"manifestSha256\":\"", b"null", b"{}"],
            is_json: true,
            mend,
            ..Default::default()
        };
        let mut read = 0;
        target.attack(|bytes| {
            if let Ok(manifest) = Manifest::decode(bytes, id()) {
                read += 1;
                assert_eq!((manifest.id(), manifest.format), (id(), FORMAT));
                let again = manifest.encode().expect("is no larger than it was");
                assert_eq!(Manifest::decode(&again, id()).expect("reads back"), manifest);
            }
        });
        assert!(read > 3, "some changes leave it readable: {read}");
    }

    #[test]
    fn the_first_format_stays_as_it_is() {
        let bytes = manifest().encode().expect("small");
        assert_eq!(String::from_utf8_lossy(&bytes), FIRST);
        assert_eq!(Manifest::decode(FIRST.as_bytes(), id()).expect("reads"), manifest());
    }

    #[test]
    fn fields_of_later_releases_are_ignored_and_checked() {
        let mut json: serde_json::Value = serde_json::from_str(FIRST).expect("JSON");
        let fields = json.as_object_mut().expect("object");
        fields.remove("manifestSha256");
        fields.insert("colour".to_owned(), "red".into());
        fields.insert("reason".to_owned(), "whim".into());
        let bytes = sealed(&json);
        assert_eq!(Manifest::decode(&bytes, id()).expect("reads"), Manifest { reason: Reason::Unknown, ..manifest() });
        let changed = String::from_utf8_lossy(&bytes).replace("red", "rad");
        assert_eq!(said(changed.as_bytes()), format!("{} is damaged: its manifest does not match its own checksum", id()));
    }

    #[test]
    fn a_newer_format_is_refused_with_a_sentence() {
        let text = sealed(&serde_json::json!({"format": 2, "anything": []}));
        let Err(error @ SnapshotError::Newer { format: 2, .. }) = Manifest::decode(&text, id()) else { panic!("accepted") };
        assert_eq!(
            error.to_string(),
            "the snapshot of session 01980000-0000-7000-8000-000000000001 at event 17 has format 2, \
             which needs a newer release of Ash: this one reads up to format 1"
        );
    }

    #[test]
    fn every_flipped_bit_and_every_cut_is_seen() {
        let bytes = manifest().encode().expect("small");
        for at in 0..bytes.len() {
            for bit in 0..8 {
                let mut bytes = bytes.clone();
                bytes[at] ^= 1 << bit;
                let result = Manifest::decode(&bytes, id());
                assert!(
                    matches!(result, Err(SnapshotError::Damaged { damage: Damage::ManifestChecksum, .. })),
                    "bit {bit} of byte {at}: {result:?}"
                );
            }
            assert!(Manifest::decode(&bytes[..at], id()).is_err(), "{at} bytes");
        }
        assert!(Manifest::decode(&[&bytes[..], b"\n"].concat(), id()).is_err());
    }

    #[test]
    fn what_is_whole_but_wrong_is_told() {
        let about = format!("{} is damaged: its manifest", id());
        let json: serde_json::Value = serde_json::from_str(FIRST).expect("JSON");
        for (field, value, reason) in [
            ("format", 0.into(), " can not be read: there is no format 0"),
            ("format", "x".into(), " can not be read: invalid type: string \"x\", expected u64"),
            ("tarBytes", (-1).into(), " can not be read: invalid value: integer `-1`, expected u64"),
            ("tarSha256", "AB".into(), " can not be read: not 64 lower-case hex digits"),
            ("event", 18.into(), " is that of the snapshot of session 01980000-0000-7000-8000-000000000001 at event 18"),
        ] {
            let mut json = json.clone();
            json[field] = value;
            json.as_object_mut().expect("object").remove("manifestSha256");
            let said = said(&sealed(&json));
            assert!(said.starts_with(&format!("{about}{reason}")), "{said}");
        }
        assert!(said(&sealed(&serde_json::json!({"a": 1}))).contains("missing field `format`"));
    }

    #[test]
    fn a_copy_of_a_copy_has_the_conversation_of_the_first() {
        let to = |session: &str, event| SnapshotId { session: session.parse().expect("an id"), event };
        let (second, third) = ("01980000-0000-7000-8000-000000000002", "01980000-0000-7000-8000-000000000003");
        let first = Manifest { conversation: None, ..manifest() };
        let copy = first.clone().forked(to(second, 17), Timestamp(1));
        assert_eq!((copy.reason, copy.conversation.as_deref()), (Reason::Fork, None), "that of its origin, which it names");
        let again = copy.clone().forked(to(third, 17), Timestamp(2));
        assert_eq!(again.conversation, Some(first.session.to_string()));
        let rewound = copy.forked(to(second, 40), Timestamp(2));
        assert_eq!((rewound.reason, rewound.conversation), (Reason::Rewind, Some(first.session.to_string())));
        assert_eq!(rewound.forked_from, Some(Origin { session: second.parse().expect("an id"), event: 17 }));
    }

    #[test]
    fn a_manifest_that_is_too_large_is_not_written() {
        let large = Manifest { excludes: vec!["x".repeat(MANIFEST_MAX)], ..manifest() };
        assert!(matches!(large.encode(), Err(SnapshotError::ManifestTooLarge(_))));
    }
}
