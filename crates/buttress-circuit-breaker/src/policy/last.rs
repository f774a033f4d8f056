//! The last N calls, two bits for each: a ring of cells, and a header that says whose turn it is and what all add up to.
//!
//! ```text
//!  header │ epoch 8 │ cursor 20 │ failed 18 │ slow 18 │
//!  cell   │ epoch 8 │ 28 results of two bits          │
//! ```
//!
//! A call takes the place of the call N before it: it claims the place by the cursor, swaps the two bits, and corrects
//! the sums by the difference. Each difference is one between what was there and what is there, so once all are in,
//! the sums are exactly those of the bits, whatever the order. Meanwhile one may be below zero, when a result is taken
//! out before its own call has added it; the sums therefore begin at a bias and not at zero.
//!
//! The *epoch* is the end of the breaker's generation. Words of another epoch count as empty, so that a new generation
//! begins with an empty window at once.

use super::state::{Marks, Sums};

const EPOCH: u32 = 56;
const CURSOR: u32 = 36;
const CURSOR_MASK: u64 = (1 << 20) - 1;
const FAILED: u32 = 18;
const SUM_MASK: u64 = (1 << 18) - 1;
const BIAS: u64 = 1 << 16;

const fn epoch(generation: u32) -> u64 {
    (generation as u64 & 0xff) << EPOCH
}

/// The first word of the window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header(pub(crate) u64);

impl Header {
    /// Nothing counted in this generation.
    pub(crate) const fn empty(generation: u32) -> Self {
        Self(epoch(generation) | BIAS << FAILED | BIAS)
    }

    #[inline]
    pub(crate) const fn is_of(self, generation: u32) -> bool {
        (self.0 ^ epoch(generation)) >> EPOCH == 0
    }

    /// Goes from 0 to `calls` once, and then round from `calls` to twice as many.
    #[inline]
    const fn cursor(self) -> u32 {
        (self.0 >> CURSOR & CURSOR_MASK) as u32
    }

    /// The place whose turn it is, and the header after it was taken.
    #[inline]
    pub(crate) const fn claim(self, calls: u32) -> (u32, Self) {
        let cursor = self.cursor();
        let place = if cursor < calls { cursor } else { cursor - calls };
        let back = if cursor + 1 == 2 * calls { (calls as u64) << CURSOR } else { 0 };
        (place, Self(self.0 + (1 << CURSOR) - back))
    }

    /// Takes `old` out of the sums and `new` in.
    #[inline]
    pub(crate) const fn corrected(self, old: u64, new: u64) -> Self {
        let (old_failed, new_failed) = (old & 1, new & 1);
        let (old_slow, new_slow) = (old >> 1, new >> 1);
        Self(
            self.0
                .wrapping_add(new_failed << FAILED)
                .wrapping_sub(old_failed << FAILED)
                .wrapping_add(new_slow)
                .wrapping_sub(old_slow),
        )
    }

    #[inline]
    pub(crate) const fn sums(self, calls: u32) -> Sums {
        let cursor = self.cursor();
        let total = if cursor < calls { cursor } else { calls };
        let failed = (self.0 >> FAILED & SUM_MASK).saturating_sub(BIAS) as u32;
        let slow = (self.0 & SUM_MASK).saturating_sub(BIAS) as u32;
        Sums::new(total, failed, slow)
    }
}

/// One of the words behind the header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Cell(pub(crate) u64);

impl Cell {
    /// Results in one.
    pub(crate) const RESULTS: u32 = 28;

    pub(crate) const fn empty(generation: u32) -> Self {
        Self(epoch(generation))
    }

    #[inline]
    pub(crate) const fn is_of(self, generation: u32) -> bool {
        (self.0 ^ epoch(generation)) >> EPOCH == 0
    }

    /// The result at this place.
    #[inline]
    pub(crate) const fn get(self, at: u32) -> u64 {
        self.0 >> (2 * at) & 3
    }

    #[inline]
    pub(crate) const fn with(self, at: u32, bits: u64) -> Self {
        Self(self.0 & !(3 << (2 * at)) | bits << (2 * at))
    }
}

/// A result in two bits.
#[inline]
pub(crate) const fn bits(marks: Marks) -> u64 {
    marks.failed as u64 | (marks.slow as u64) << 1
}
