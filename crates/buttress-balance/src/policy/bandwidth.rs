use buttress_core::Timestamp;

use crate::load::SECONDS;
use crate::sync::Ordering;
use crate::{Load, Score};

/// The bytes of responses that an endpoint has sent in the last ten seconds, by its weight: least bandwidth.
///
/// ```text
/// score = bytes of the last 10 s / weight
/// ```
///
/// The window slides: of its oldest second the part counts that is still inside. Bytes are known where a balancer follows bodies
/// (`Balancer::at_end`), and in others all endpoints are alike. A call that has just begun has no bytes yet, so that where many come at
/// once [`Connections`](crate::Connections) is better.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bandwidth(());

impl Bandwidth {
    pub(super) const NEW: Self = Self(());
}

impl Score for Bandwidth {
    type Seen = ();
    const TIMED: bool = true;
    const COUNTS_BYTES: bool = true;

    #[inline]
    fn score(&self, (): &(), load: &Load, now: Timestamp) -> f64 {
        let words = load.traffic.iter().map(|word| word.load(Ordering::Relaxed));
        bytes(words, now) / load.divisor()
    }

    #[inline]
    fn received(&self, load: &Load, bytes: u64, now: Timestamp) {
        let second = now.as_nanos() / SECOND;
        let word = &load.traffic[(second % SECONDS as u64) as usize];
        let _ =
            word.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |word| Some(with(word, second, bytes)));
    }
}

const SECOND: u64 = 1_000_000_000;
const WINDOW: i64 = SECONDS as i64 - 1;

/// A word has the number of its second in the upper 24 bits and its bytes in the lower 40: a terabyte.
const BYTES: u32 = 40;
const MOST: u64 = (1 << BYTES) - 1;

/// How many seconds lie between a word's and this one, less than half of all that 24 bits can tell, either way.
const fn age(word: u64, second: u64) -> i64 {
    let age = second.wrapping_sub(word >> BYTES) << BYTES;
    age.cast_signed() >> BYTES
}

const fn with(word: u64, second: u64, bytes: u64) -> u64 {
    let before = if age(word, second) == 0 { word & MOST } else { 0 };
    let bytes = before.saturating_add(bytes);
    second << BYTES | if bytes < MOST { bytes } else { MOST }
}

/// The bytes of the window that ends now. Where the clock went back a little, seconds to come count as well.
fn bytes(words: impl Iterator<Item = u64>, now: Timestamp) -> f64 {
    let (second, part) = (now.as_nanos() / SECOND, now.as_nanos() % SECOND);
    words
        .map(|word| {
            let bytes = (word & MOST) as f64;
            match age(word, second) {
                age if -WINDOW < age && age < WINDOW => bytes,
                WINDOW => bytes * (1.0 - part as f64 / SECOND as f64),
                _ => 0.0,
            }
        })
        .sum()
}
