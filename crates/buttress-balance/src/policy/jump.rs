use std::num::NonZeroU32;

/// Which of `buckets` numbered places a hash belongs to: jump consistent hash (Lamping and Veach 2014).
///
/// With one bucket more, 1 of `buckets + 1` hashes moves, all of them to the new one, and shares are as even as the
/// hash is. There is no table, and it takes some 10 ns for each doubling of `buckets`. Buckets are numbers: only the last one
/// can leave, none has a weight, and there is no second choice. So this is for shards, which are numbered and stay; for
/// endpoints that come and go take a [ring](crate::HashRing) or [`Maglev`](crate::Maglev).
///
/// ```
/// use buttress_balance::{Hashing, jump};
/// use std::num::NonZeroU32;
///
/// let shards = NonZeroU32::new(16).unwrap();
/// assert!(jump(Hashing::default().of(b"user-17"), shards) < 16);
/// ```
#[inline]
#[must_use]
pub fn jump(hash: u64, buckets: NonZeroU32) -> u32 {
    const FACTOR: u64 = 2_862_933_555_777_941_757;
    let mut key = hash;
    let (mut bucket, mut next) = (0_u32, 0_u64);
    while next < u64::from(buckets.get()) {
        bucket = next as u32;
        key = key.wrapping_mul(FACTOR).wrapping_add(1);
        next = ((f64::from(bucket) + 1.0) * ((1_u64 << 31) as f64 / ((key >> 33) + 1) as f64)) as u64;
    }
    bucket
}
