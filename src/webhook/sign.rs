//! Secrets of webhooks, and signatures after the specification Standard Webhooks 1.0
//! (standardwebhooks.com).

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;

use crate::wire::Timestamp;

/// What every secret begins with.
const MARK: &str = "whsec_";
/// Bytes of a secret, of which the specification asks for 24 to 64: so many that base64 needs no padding.
const SECRET_BYTES: usize = 33;

/// Makes a secret: `whsec_` and 44 letters and digits. Bytes that would need one of the four other characters
/// are drawn again, so that it reads the same in each kind of base64.
///
/// # Errors
///
/// If the kernel has no random bytes to give.
pub fn new_secret() -> Result<String, getrandom::Error> {
    let mut bytes = [0; SECRET_BYTES];
    loop {
        getrandom::fill(&mut bytes)?;
        let text = URL_SAFE_NO_PAD.encode(bytes);
        if text.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
            return Ok(format!("{MARK}{text}"));
        }
    }
}

/// The value of `webhook-signature`; `None` if the secret is none.
pub fn signature(secret: &str, id: &str, at: Timestamp, body: &[u8]) -> Option<String> {
    let key = URL_SAFE_NO_PAD.decode(secret.strip_prefix(MARK)?).ok()?;
    let mut mac = Hmac::<Sha256>::new_from_slice(&key).ok()?;
    for part in [id.as_bytes(), b".", seconds(at).to_string().as_bytes(), b".", body] {
        mac.update(part);
    }
    Some(format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes())))
}

/// The value of `webhook-timestamp`.
pub const fn seconds(at: Timestamp) -> i64 {
    at.millis().div_euclid(1000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_reads_the_same_in_each_base64_and_is_new_each_time() {
        let (a, b) = (new_secret().expect("random"), new_secret().expect("random"));
        assert_ne!(a, b);
        let text = a.strip_prefix(MARK).expect("marked");
        assert_eq!(text.len(), 44);
        assert_eq!(STANDARD.decode(text).expect("standard"), URL_SAFE_NO_PAD.decode(text).expect("url safe"));
    }

    /// The value was computed by Python: `base64.b64encode(hmac.digest(base64.b64decode(key), text, "sha256"))`.
    #[test]
    fn signatures_are_those_of_the_specification() {
        let secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
        let signed = signature(secret, "msg_p5jXN8AQM9LWM0D4loKWxJek", Timestamp(1_614_265_330_999), br#"{"test": 2432232314}"#);
        assert_eq!(signed.as_deref(), Some("v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="));
        assert_eq!(signature("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "a", Timestamp(0), b""), None);
    }
}
