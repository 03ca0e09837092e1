//! API keys: made once, shown once, kept as a hash.
//!
//! A key is `ash_` and 32 random bytes in base64url. With that much chance in it a slow hash
//! would buy nothing and cost every request, so the store keeps plain SHA-256.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

/// What every key begins with, so that people and secret scanners recognise one.
pub const MARK: &str = "ash_";
/// Characters of a key that may be shown later to tell it from others: the mark and 24 bits.
pub const PREFIX_CHARS: usize = 8;

const RANDOM_BYTES: usize = 32;

/// The secret of an API key. Printing it for debugging shows the prefix only.
#[derive(Clone)]
pub struct Token(String);

/// Why no key could be made.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// The kernel gave no random bytes.
    #[error("no random bytes from the kernel")]
    Random(#[from] getrandom::Error),
}

impl Token {
    /// Makes a key from fresh random bytes.
    ///
    /// # Errors
    ///
    /// [`TokenError::Random`] if the kernel has none to give.
    pub fn generate() -> Result<Self, TokenError> {
        let mut bytes = [0; RANDOM_BYTES];
        getrandom::fill(&mut bytes)?;
        Ok(Self(format!("{MARK}{}", URL_SAFE_NO_PAD.encode(bytes))))
    }

    /// The secret itself, for the one answer that shows it.
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// What the store keeps.
    pub fn hash(&self) -> [u8; 32] {
        hash(&self.0)
    }

    /// The first [`PREFIX_CHARS`] characters.
    pub fn prefix(&self) -> &str {
        prefix(&self.0)
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Token({}…)", self.prefix())
    }
}

/// The hash under which a presented key is looked up, whatever its form.
pub fn hash(presented: &str) -> [u8; 32] {
    Sha256::digest(presented.as_bytes()).into()
}

/// Whether two hashes are the same, in a time that does not tell where they differ.
pub fn same(a: &[u8; 32], b: &[u8; 32]) -> bool {
    a.ct_eq(b).into()
}

/// The part of a key that may be shown; all of it if it is no longer than that.
pub fn prefix(key: &str) -> &str {
    key.char_indices().nth(PREFIX_CHARS).map_or(key, |(end, _)| &key[..end])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_has_its_form_and_is_new_each_time() {
        let (a, b) = (Token::generate().expect("random"), Token::generate().expect("random"));
        assert_ne!(a.reveal(), b.reveal());
        for key in [a.reveal(), b.reveal()] {
            let random = key.strip_prefix(MARK).expect("marked");
            assert_eq!(random.len(), 43);
            assert!(random.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'-' || c == b'_'), "{key}");
        }
    }

    #[test]
    fn debugging_prints_the_prefix_only() {
        let token = Token::generate().expect("random");
        let printed = format!("{token:?}");
        assert_eq!(printed, format!("Token({}…)", token.prefix()));
        assert!(!printed.contains(&token.reveal()[PREFIX_CHARS..]));
        assert_eq!(token.prefix().len(), PREFIX_CHARS);
    }

    #[test]
    fn the_hash_is_sha256_of_the_whole_text() {
        // The first example of FIPS 180-4: "abc".
        let abc = [
            0xba, 0x78, 0x16, 0xbf, 0x8f, 0x01, 0xcf, 0xea, 0x41, 0x41, 0x40, 0xde, 0x5d, 0xae, 0x22, 0x23, 0xb0, 0x03, 0x61,
            0xa3, 0x96, 0x17, 0x7a, 0x9c, 0xb4, 0x10, 0xff, 0x61, 0xf2, 0x00, 0x15, 0xad,
        ];
        assert_eq!(hash("abc"), abc);
        let token = Token::generate().expect("random");
        assert_eq!(token.hash(), hash(token.reveal()));
    }

    #[test]
    fn comparing_sees_each_byte() {
        let a = hash("a");
        assert!(same(&a, &hash("a")));
        for i in 0..32 {
            let mut b = a;
            b[i] ^= 1;
            assert!(!same(&a, &b), "byte {i}");
        }
    }

    #[test]
    fn prefixes_of_odd_texts_do_not_split_characters() {
        for (key, shown) in [("", ""), ("ash_", "ash_"), ("ash_abcdef", "ash_abcd"), ("äöüäöüäöü", "äöüäöüäö")] {
            assert_eq!(prefix(key), shown);
        }
    }
}
