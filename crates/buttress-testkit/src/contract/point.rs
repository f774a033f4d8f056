use std::fmt;

/// A point of the contract, by the number it has in the design.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Point {
    /// 1: calls exactly the instance that was readied, and clones nothing while inner is ready.
    Instance,
    /// 2: a clone is not ready; `poll_ready` may be repeated, moved to another task or dropped, with nothing
    /// lost and nothing held; an error of it is seen once.
    Readiness,
    /// 3: `Pending` means a waker that a real event fires; nothing wakes itself in a loop; all who wait are
    /// woken.
    Wakes,
    /// 4: dropping a call at any stage gives back what it held.
    Cancel,
    /// 5: so does a panic, and the layer works on.
    Panic,
    /// 6: an outcome of an earlier epoch moves no state.
    Late,
    /// 7: bodies keep their frames, `size_hint`, `is_end_stream` and trailers, and a call is over when its body
    /// is.
    BodyEnd,
    /// 8: no allocation and no task per call.
    HotPath,
    /// 9: keyed state is bounded.
    Bounded,
    /// 10: `Send`, `Sync`, `Clone`, `Unpin`, checked by the compiler when the suite is called.
    Types,
    /// 11: configuration that cannot work is refused when it is built.
    Config,
    /// 12: time jumps, and the end of time, are ordinary inputs.
    Time,
}

impl Point {
    /// Every point, in order.
    pub const ALL: [Self; 12] = [
        Self::Instance,
        Self::Readiness,
        Self::Wakes,
        Self::Cancel,
        Self::Panic,
        Self::Late,
        Self::BodyEnd,
        Self::HotPath,
        Self::Bounded,
        Self::Types,
        Self::Config,
        Self::Time,
    ];

    /// The point's number.
    #[must_use]
    pub const fn number(self) -> u8 {
        self as u8 + 1
    }
}

impl fmt::Display for Point {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({self:?})", self.number())
    }
}
