use std::hash::{Hash, Hasher};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use subtle::ConstantTimeEq;

use super::StickyError;

/// The bytes of the MAC that are kept: 144 bits, above the 128 that are asked for, and whole letters in base64.
const BYTES: usize = 18;
const LETTERS: usize = BYTES / 3 * 4;

/// Sets these MACs apart from all else that the secret may be used for.
const PURPOSE: &[u8] = b"buttress sticky 1";

/// What stands in the cookie for one endpoint: the first 144 bits of HMAC-SHA-256 (RFC 2104) over its name and that of the
/// pool, as base64url.
///
/// Two are compared in constant time. A table finds one by its hash, which is SipHash with a key that is drawn for each
/// table: how far a guess agrees with a value says nothing of how far their hashes do, so the time of a look tells a
/// client nothing that brings its next guess nearer.
#[derive(Clone, Copy)]
pub(crate) struct Value([u8; LETTERS]);

impl Value {
    /// What a client sent, if it has the length of one.
    pub(crate) fn sent(text: &[u8]) -> Option<Self> {
        text.try_into().ok().map(Self)
    }

    pub(crate) fn as_str(&self) -> &str {
        str::from_utf8(&self.0).expect("values that are shown were made here, of ASCII")
    }
}

impl PartialEq for Value {
    fn eq(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl Eq for Value {}

impl Hash for Value {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.hash(state);
    }
}

/// A secret that values are made with.
#[derive(Clone)]
pub(crate) struct Secret(Hmac<Sha256>);

impl Secret {
    /// That of the hash's own length, as RFC 2104, section 3, and RFC 7518, section 3.2, want it.
    pub(crate) const LEAST: usize = 32;

    pub(crate) fn new(secret: &[u8]) -> Result<Self, StickyError> {
        if secret.len() < Self::LEAST {
            return Err(StickyError::ShortKey { given: secret.len(), least: Self::LEAST });
        }
        Ok(Self(Hmac::new_from_slice(secret).expect("HMAC takes keys of any length")))
    }

    /// The value of an endpoint.
    pub(crate) fn value(&self, pool: &str, endpoint: &str) -> Value {
        let mut mac = self.0.clone();
        mac.update(PURPOSE);
        mac.update(&(pool.len() as u64).to_be_bytes());
        mac.update(pool.as_bytes());
        mac.update(endpoint.as_bytes());
        let bytes = mac.finalize().into_bytes();
        let mut letters = [0; LETTERS];
        let written = URL_SAFE_NO_PAD.encode_slice(&bytes[..BYTES], &mut letters);
        debug_assert_eq!(written.ok(), Some(LETTERS));
        Value(letters)
    }
}
