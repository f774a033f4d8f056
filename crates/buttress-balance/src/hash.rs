use std::fmt;
use std::hash::Hasher;

use buttress_core::KeySink;
use siphasher::sip::SipHasher13;
use twox_hash::{XxHash3_64, XxHash64};

/// How keys become the 64 bits that a consistent hash orders endpoints by.
///
/// Every process that is to send a key to the same endpoint needs the same hashing, so seeds are settings and never
/// drawn by chance. A policy says which one is its own: [`HashRing::hashing`](crate::HashRing::hashing) and the like.
///
/// | hashing | takes | a client that picks its keys |
/// |---|---|---|
/// | [`xxh3`](Self::xxh3) | a few nanoseconds | can aim them at one endpoint when it knows the seed; the default seed is known to all |
/// | [`sip`](Self::sip) | some 20 ns | cannot, while the secret is one |
/// | those of the presets | what their models take | can aim them; for CRC32, which is linear, by pencil and paper |
///
/// A [`BoundedLoad`](crate::BoundedLoad) caps the harm of aimed keys whatever the hash is.
///
/// ```
/// use buttress_balance::Hashing;
///
/// let hashing = Hashing::xxh3(0);
/// assert_eq!(hashing.of(b"user-17"), hashing.of(b"user-17"));
/// assert_ne!(hashing.of(b"user-17"), Hashing::xxh3(1).of(b"user-17"));
/// ```
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Hashing(Kind);

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Xxh3(u64),
    Sip(u64, u64),
    Crc32,
    Xxh64,
    Md5,
}

impl Hashing {
    /// XXH3-64 with a seed: fast, and the same on every machine. The default, with the seed 0.
    ///
    /// Each part of a key is hashed with the hash of the parts before it as its seed, so parts are kept apart, and a
    /// key of one part has the hash that any XXH3 library gives.
    #[must_use]
    pub const fn xxh3(seed: u64) -> Self {
        Self(Kind::Xxh3(seed))
    }

    /// SipHash-1-3 with a secret key of 16 bytes: for keys that clients can choose, who could otherwise send all their
    /// load to one endpoint. All processes that are to agree need the same secret.
    #[must_use]
    pub const fn sip(secret: [u8; 16]) -> Self {
        let secret = u128::from_le_bytes(secret);
        Self(Kind::Sip(secret as u64, (secret >> u64::BITS) as u64))
    }

    /// CRC32 as nginx takes it of a key, in the upper half: a ring of 32 bits on one of 64. Parts are joined, as in
    /// `hash "$a$b"`.
    pub(crate) const fn crc32() -> Self {
        Self(Kind::Crc32)
    }

    /// XXH64 with the seed 0; several parts are combined as Envoy combines hash policies.
    pub(crate) const fn xxh64() -> Self {
        Self(Kind::Xxh64)
    }

    /// The first four bytes of MD5, little endian, in the upper half. Parts are joined.
    pub(crate) const fn md5() -> Self {
        Self(Kind::Md5)
    }

    /// The hash of a key of one part.
    #[inline]
    #[must_use]
    pub fn of(self, key: &[u8]) -> u64 {
        match self.0 {
            Kind::Xxh3(seed) => xxh3(seed, key),
            Kind::Xxh64 => XxHash64::oneshot(0, key),
            Kind::Crc32 => upper(crc32fast::hash(key)),
            Kind::Md5 => upper(first_word(md5::compute(key))),
            Kind::Sip(..) => {
                let mut sink = self.sink();
                sink.bytes(key);
                sink.finish()
            }
        }
    }

    /// Where a [`Key`](buttress_core::Key) writes itself to be hashed. Nothing is allocated.
    #[inline]
    #[must_use]
    pub fn sink(self) -> KeyHasher {
        KeyHasher(match self.0 {
            Kind::Xxh3(seed) => State::Xxh3(seed),
            Kind::Sip(low, high) => State::Sip(SipHasher13::new_with_keys(low, high)),
            Kind::Crc32 => State::Crc32(crc32fast::Hasher::new()),
            Kind::Xxh64 => State::Xxh64(None),
            Kind::Md5 => State::Md5(md5::Context::new()),
        })
    }
}

impl Default for Hashing {
    fn default() -> Self {
        Self::xxh3(0)
    }
}

impl fmt::Debug for Hashing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Kind::Xxh3(seed) => f.debug_tuple("Xxh3").field(&seed).finish(),
            Kind::Sip(..) => f.write_str("Sip(secret)"),
            Kind::Crc32 => f.write_str("Crc32"),
            Kind::Xxh64 => f.write_str("Xxh64"),
            Kind::Md5 => f.write_str("Md5"),
        }
    }
}

/// Takes the parts of a key and gives its hash, as [`Hashing::sink`] says.
///
/// ```
/// use buttress_balance::Hashing;
/// use buttress_core::KeyPart;
///
/// let mut sink = Hashing::default().sink();
/// ("tenant-3", 17_u64).write(&mut sink);
/// assert_ne!(sink.finish(), Hashing::default().of(b"tenant-3"));
/// ```
#[derive(Clone)]
pub struct KeyHasher(State);

#[derive(Clone)]
enum State {
    Xxh3(u64),
    Sip(SipHasher13),
    Crc32(crc32fast::Hasher),
    Xxh64(Option<u64>),
    Md5(md5::Context),
}

impl KeyHasher {
    /// The hash of what was written.
    #[inline]
    #[must_use]
    pub fn finish(self) -> u64 {
        match self.0 {
            State::Xxh3(hash) => hash,
            State::Sip(hasher) => hasher.finish(),
            State::Crc32(hasher) => upper(hasher.finalize()),
            State::Xxh64(hash) => hash.unwrap_or(0),
            State::Md5(context) => upper(first_word(context.finalize())),
        }
    }
}

impl KeySink for KeyHasher {
    #[inline]
    fn bytes(&mut self, part: &[u8]) {
        match &mut self.0 {
            State::Xxh3(hash) => *hash = xxh3(*hash, part),
            State::Sip(hasher) => {
                hasher.write(part);
                hasher.write(&(part.len() as u64).to_le_bytes());
            }
            State::Crc32(hasher) => hasher.update(part),
            State::Xxh64(hash) => {
                let next = XxHash64::oneshot(0, part);
                *hash = Some(hash.map_or(next, |hash| hash.rotate_left(1) ^ next));
            }
            State::Md5(context) => context.consume(part),
        }
    }
}

impl fmt::Debug for KeyHasher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyHasher").finish_non_exhaustive()
    }
}

#[inline]
pub(crate) fn xxh3(seed: u64, bytes: &[u8]) -> u64 {
    XxHash3_64::oneshot_with_seed(seed, bytes)
}

/// A hash of 32 bits on a ring of 64.
#[inline]
pub(crate) const fn upper(hash: u32) -> u64 {
    (hash as u64) << u32::BITS
}

fn first_word(digest: md5::Digest) -> u32 {
    words(digest)[0]
}

/// The four words of a digest, little endian.
pub(crate) fn words(digest: md5::Digest) -> [u32; 4] {
    let all = u128::from_le_bytes(digest.0);
    std::array::from_fn(|word| (all >> (u32::BITS as usize * word)) as u32)
}

/// Multiplies to 128 bits and folds the halves onto each other, so that each bit of the result depends on all.
#[inline]
pub(crate) const fn fold(a: u64, b: u64) -> u64 {
    let product = a as u128 * b as u128;
    product as u64 ^ (product >> u64::BITS) as u64
}

/// The `n`th number of a sequence that `random` begins (Weyl's, mixed as in wyrand).
#[inline]
pub(crate) const fn nth(random: u64, n: u64) -> u64 {
    let place = random.wrapping_add(n.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    fold(place, place ^ 0xe703_7ed1_a0b4_28db)
}

/// Spreads `hash` over `0..count` by its upper bits, without a division.
#[inline]
pub(crate) const fn scale(hash: u64, count: u64) -> u64 {
    ((hash as u128 * count as u128) >> u64::BITS) as u64
}
