//! Secrets at rest: sealed under a master key which is not in the database.
//!
//! There is one key a line, the newest first: the first seals, all of them open, so that the key can
//! be changed while secrets are under the old one.
//!
//! What is sealed is bound to its place: a secret that was moved to another row or tenant does not
//! open. XChaCha20-Poly1305 (draft-irtf-cfrg-xchacha-03) with a random nonce, under a key that
//! HKDF-SHA256 (RFC 5869) derives from the master key.

use std::fmt;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chacha20poly1305::aead::{Aead as _, KeyInit as _, Payload};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};
use hkdf::Hkdf;
use sha2::Sha256;

const KEY_BYTES: usize = 32;
const NONCE_BYTES: usize = 24;
/// Far more keys than anybody has at a time.
const KEYS_MAX: usize = 16;
const SEALING: &[u8] = b"ash seal 1";
const NAMING: &[u8] = b"ash name 1";

/// The master keys, the newest first. Printing them for debugging shows their names only.
#[derive(Clone)]
pub struct MasterKeys(Vec<Master>);

#[derive(Clone)]
struct Master {
    name: String,
    cipher: XChaCha20Poly1305,
}

/// Where a secret is kept. It opens at the same place only.
#[derive(Debug, Clone, Copy)]
pub struct Place<'a> {
    /// The table and the column.
    pub what: &'static str,
    /// The row.
    pub id: uuid::Uuid,
    /// The tenant whose it is.
    pub tenant: &'a str,
}

/// A secret that only a master key opens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sealed {
    /// Names the master key.
    pub master: String,
    /// The nonce, then the ciphertext with its tag.
    pub bytes: Vec<u8>,
}

/// Why a text holds no master keys.
#[derive(Debug, thiserror::Error)]
pub enum MasterError {
    /// It holds no keys.
    #[error("{}, line {line}: has to be {KEY_BYTES} bytes in base64url, as \"openssl rand -base64 32 | tr +/ -_ | tr -d =\" prints them", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
    },
    /// It holds too much.
    #[error("{}: has more than {KEYS_MAX} keys", path.display())]
    TooMany {
        /// The file.
        path: PathBuf,
    },
}

/// Why a secret could not be sealed or opened.
#[derive(Debug, thiserror::Error)]
pub enum SealError {
    /// The kernel gave no random bytes.
    #[error("no random bytes from the kernel")]
    Random(#[from] getrandom::Error),
    /// It is longer than any cipher takes.
    #[error("the secret is too long")]
    TooLong,
    /// The master key under which it is is not there.
    #[error("it is sealed under the master key {0}, which is not in the file of master keys")]
    NoMaster(String),
    /// It is not what was sealed at this place.
    #[error("what is stored is damaged, or belongs elsewhere")]
    Damaged,
}

impl MasterKeys {
    /// Those of a text, one a line; `None` if it has none. `path` is where it is from, for errors.
    ///
    /// # Errors
    ///
    /// [`MasterError`] if a line holds no key, or there are too many.
    pub fn parse(path: &Path, text: &str) -> Result<Option<Self>, MasterError> {
        let mut keys = Vec::new();
        for (index, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
            let key = URL_SAFE_NO_PAD.decode(line.trim()).ok().and_then(|bytes| <[u8; KEY_BYTES]>::try_from(bytes).ok());
            let key = key.ok_or_else(|| MasterError::Malformed { path: path.to_owned(), line: index + 1 })?;
            keys.push(Master::of(&key));
        }
        if keys.len() > KEYS_MAX {
            return Err(MasterError::TooMany { path: path.to_owned() });
        }
        Ok((!keys.is_empty()).then_some(Self(keys)))
    }

    /// Names the newest key, without telling it.
    pub fn newest(&self) -> &str {
        &self.0[0].name
    }

    /// Seals a secret for its place, under the newest key.
    ///
    /// # Errors
    ///
    /// [`SealError`] if the kernel has no random bytes, or the secret is longer than 256 GiB.
    pub fn seal(&self, place: Place<'_>, secret: &[u8]) -> Result<Sealed, SealError> {
        let mut nonce = [0; NONCE_BYTES];
        getrandom::fill(&mut nonce)?;
        let payload = Payload { msg: secret, aad: &place.bytes() };
        let sealed = self.0[0].cipher.encrypt(&XNonce::from(nonce), payload).map_err(|_| SealError::TooLong)?;
        Ok(Sealed { master: self.newest().to_owned(), bytes: [&nonce[..], &sealed].concat() })
    }

    /// Opens what was sealed for this place.
    ///
    /// # Errors
    ///
    /// [`SealError`] if its master key is not there, or it was sealed for another place or changed.
    pub fn open(&self, place: Place<'_>, sealed: &Sealed) -> Result<Vec<u8>, SealError> {
        let master = self.0.iter().find(|master| master.name == sealed.master);
        let master = master.ok_or_else(|| SealError::NoMaster(sealed.master.clone()))?;
        let (nonce, rest) = sealed.bytes.split_first_chunk::<NONCE_BYTES>().ok_or(SealError::Damaged)?;
        let payload = Payload { msg: rest, aad: &place.bytes() };
        master.cipher.decrypt(&XNonce::from(*nonce), payload).map_err(|_| SealError::Damaged)
    }
}

impl fmt::Debug for MasterKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.iter().map(|master| &master.name)).finish()
    }
}

impl Master {
    fn of(key: &[u8; KEY_BYTES]) -> Self {
        let derive = Hkdf::<Sha256>::new(None, key);
        let (mut sealing, mut name) = ([0; KEY_BYTES], [0; 6]);
        // Fails for more than 255 blocks of the hash only.
        for (info, made) in [(SEALING, &mut sealing[..]), (NAMING, &mut name[..])] {
            derive.expand(info, made).unwrap_or_default();
        }
        Self { name: URL_SAFE_NO_PAD.encode(name), cipher: XChaCha20Poly1305::new(&sealing.into()) }
    }
}

impl Place<'_> {
    /// Different for different places: only the last part may have any length and any bytes.
    fn bytes(self) -> Vec<u8> {
        [self.what.as_bytes(), b"\0", self.id.as_bytes(), self.tenant.as_bytes()].concat()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A key whose bytes are all the same.
    fn line(byte: u8) -> String {
        URL_SAFE_NO_PAD.encode([byte; KEY_BYTES])
    }

    fn keys(bytes: &[u8]) -> MasterKeys {
        let text = bytes.iter().map(|byte| line(*byte) + "\n").collect::<String>();
        MasterKeys::parse(Path::new("f"), &text).expect("good").expect("some")
    }

    fn place(tenant: &str) -> Place<'_> {
        Place { what: "credentials.key", id: uuid::Uuid::from_u128(1), tenant }
    }

    #[test]
    fn what_was_sealed_opens_at_its_place_and_nowhere_else() {
        let keys = keys(&[1]);
        let sealed = keys.seal(place("a"), b"secret").expect("seals");
        assert_eq!(keys.open(place("a"), &sealed).expect("opens"), b"secret");
        let other = Place { id: uuid::Uuid::from_u128(2), ..place("a") };
        let column = Place { what: "credentials", ..place("a") };
        for wrong in [place("b"), place(""), other, column] {
            assert!(matches!(keys.open(wrong, &sealed), Err(SealError::Damaged)), "{wrong:?}");
        }
        assert_ne!(keys.seal(place("a"), b"secret").expect("seals"), sealed, "a new nonce each time");
    }

    #[test]
    fn each_byte_counts() {
        let keys = keys(&[1]);
        let sealed = keys.seal(place("a"), b"secret").expect("seals");
        for at in 0..sealed.bytes.len() {
            let mut changed = sealed.clone();
            changed.bytes[at] ^= 1;
            assert!(matches!(keys.open(place("a"), &changed), Err(SealError::Damaged)), "byte {at}");
        }
        for length in 0..sealed.bytes.len() {
            let cut = Sealed { bytes: sealed.bytes[..length].to_vec(), ..sealed.clone() };
            assert!(matches!(keys.open(place("a"), &cut), Err(SealError::Damaged)), "{length} bytes");
        }
    }

    #[test]
    fn an_older_key_opens_and_a_newer_one_seals() {
        let sealed = keys(&[1]).seal(place("a"), b"secret").expect("seals");
        let both = keys(&[2, 1]);
        assert_eq!(both.open(place("a"), &sealed).expect("opens"), b"secret");
        let again = both.seal(place("a"), b"secret").expect("seals");
        assert_eq!((again.master.as_str(), both.newest()), (keys(&[2]).newest(), keys(&[2]).newest()));
        assert!(keys(&[2]).open(place("a"), &again).is_ok());
        let gone = keys(&[2]).open(place("a"), &sealed).expect_err("its key is gone");
        assert!(matches!(&gone, SealError::NoMaster(name) if name == keys(&[1]).newest()), "{gone}");
    }

    #[test]
    fn what_is_no_key_is_refused_by_its_line_without_showing_it() {
        for bad in ["short", &"x".repeat(44), "two words", "ö"] {
            let text = format!("{}\n\n{bad}\n", line(1));
            let error = MasterKeys::parse(Path::new("f"), &text).expect_err(bad);
            assert!(matches!(error, MasterError::Malformed { line: 3, .. }), "{error}");
            assert!(!format!("{error}{error:?}").contains(bad));
        }
        let many = (0..=KEYS_MAX).map(|n| line(n as u8) + "\n").collect::<String>();
        assert!(matches!(MasterKeys::parse(Path::new("f"), &many), Err(MasterError::TooMany { .. })));
    }

    #[test]
    fn debugging_shows_names_only() {
        let keys = keys(&[7]);
        let shown = format!("{keys:?}");
        assert!(shown.contains(keys.newest()) && !shown.contains(&line(7)), "{shown}");
    }
}
