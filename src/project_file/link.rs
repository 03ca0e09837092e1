//! Links to files that need no API key: `/api/files/<file>/download?expires=<seconds>&signature=<signature>`.
//!
//! The signature is HMAC-SHA256 with the secret of the file's row, over the file and the second at which the link ends, so
//! neither can be changed, and a link ends with its file.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;
use subtle::ConstantTimeEq as _;

use crate::wire::{FileId, Timestamp};

/// Path and query of a link that ends at this second since 1970.
pub fn path(secret: &[u8; 32], id: FileId, end: i64) -> String {
    format!("/api/files/{id}/download?expires={end}&signature={}", signature(secret, id, end))
}

/// Whether a link was made here and has not ended.
pub fn is_good(secret: &[u8; 32], id: FileId, end: i64, given: &str, now: Timestamp) -> bool {
    let is_ours: bool = signature(secret, id, end).as_bytes().ct_eq(given.as_bytes()).into();
    is_ours && now.millis().div_euclid(1000) < end
}

fn signature(secret: &[u8; 32], id: FileId, end: i64) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret).expect("HMAC takes keys of any length");
    mac.update(format!("{id}.{end}").as_bytes());
    URL_SAFE_NO_PAD.encode(mac.finalize().into_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_is_good_for_its_file_until_its_end_and_as_it_was_made() {
        let (secret, id, now) = ([7; 32], FileId::new(), Timestamp(1_000_500));
        let text = path(&secret, id, 1001);
        let (_, made) = text.split_once("signature=").expect("a signature");
        assert!(is_good(&secret, id, 1001, made, now));
        assert!(!is_good(&secret, id, 1001, made, Timestamp(1_001_000)), "it has ended");
        assert!(!is_good(&secret, id, 1002, made, now), "another end");
        assert!(!is_good(&secret, FileId::new(), 1001, made, now), "another file");
        assert!(!is_good(&[8; 32], id, 1001, made, now), "another secret");
        for other in ["", &made[1..], &format!("{made}="), &made.to_lowercase()] {
            assert!(!is_good(&secret, id, 1001, other, now), "{other}");
        }
    }
}
