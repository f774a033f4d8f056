//! The last T seconds in ten slices, each a word.
//!
//! ```text
//!  latest │ generation 16 │ number of the latest slice 48 │
//!  slice  │ tag 16 │ total 16 │ failed 16 │ slow 16        │
//! ```
//!
//! Slices are numbered from the clock's origin, and a word is that of every tenth. Its *tag* says of which one: the end
//! of its number plus ten for each generation, so that a new generation is like ten slices of silence.
//!
//! While the clock goes back by up to the window, results count towards the latest slice, in a new generation as well:
//! threads read the time in another order than they come here. When it goes back by more, the window begins anew.

use super::rules::SLICES;
use super::state::{Marks, Sums};

const NUMBER: u64 = (1 << 48) - 1;
const MOST: u64 = 0xffff;

/// The first word of the window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Latest(pub(crate) u64);

impl Latest {
    #[inline]
    pub(crate) const fn new(generation: u32, slice: u64) -> Self {
        Self((generation as u64 & MOST) << 48 | slice & NUMBER)
    }

    #[inline]
    pub(crate) const fn is_of(self, generation: u32) -> bool {
        self.0 >> 48 == generation as u64 & MOST
    }

    #[inline]
    pub(crate) const fn slice(self) -> u64 {
        self.0 & NUMBER
    }

    /// The slice that results count towards while the clock says that it is `slice`.
    #[inline]
    pub(crate) const fn at(self, slice: u64) -> u64 {
        let latest = self.slice();
        if slice + SLICES < latest || slice > latest { slice } else { latest }
    }

    /// The tag of the word for this slice.
    #[inline]
    pub(crate) const fn tag(slice: u64, generation: u32) -> u64 {
        slice.wrapping_add(SLICES * generation as u64) & MOST
    }
}

/// What has ended in one slice of the time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Slice(pub(crate) u64);

impl Slice {
    pub(crate) const fn empty(tag: u64) -> Self {
        Self(tag << 48)
    }

    #[inline]
    pub(crate) const fn tag(self) -> u64 {
        self.0 >> 48
    }

    #[inline]
    pub(crate) const fn total(self) -> u32 {
        (self.0 >> 32 & MOST) as u32
    }

    pub(crate) const fn sums(self) -> Sums {
        Sums::new(self.total(), (self.0 >> 16 & MOST) as u32, (self.0 & MOST) as u32)
    }

    /// One more result. When there is no room for it, what is there counts for half, so that the shares stay.
    #[inline]
    pub(crate) const fn with(self, marks: Marks) -> Self {
        let mut word = self.0;
        if word >> 32 & MOST == MOST {
            word = word & MOST << 48 | word >> 1 & 0x7fff_7fff_7fff;
        }
        Self(word + (1 << 32) + ((marks.failed as u64) << 16) + marks.slow as u64)
    }
}
