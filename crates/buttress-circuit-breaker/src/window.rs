//! The results that are counted while closed, shared by threads. What the words mean is in `policy`.

use std::iter;
use std::sync::atomic::Ordering::SeqCst;

use buttress_core::Timestamp;

use crate::policy::{Cell, Header, Latest, Marks, SLICES, Slice, Span, Sums, bits};
use crate::sync::AtomicU64;

/// The results of one generation: a header, and cells or slices behind it.
///
/// A word of another generation is an old one if the breaker is still in the generation of the one who looks, since
/// whoever writes for a later one has seen the breaker in it. So `is_current` is asked after the word was read, and
/// an old word is replaced by a compare-and-swap from what was read.
#[derive(Debug)]
pub(crate) struct Results(Box<[AtomicU64]>);

/// How counting a result went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Counted {
    /// It came too late.
    Stale,
    /// It is neither a failure nor slow, and so opens nothing.
    Good,
    /// The breaker is to be judged by these.
    Bad(Sums),
}

impl Results {
    pub(crate) fn new(span: Span) -> Self {
        let (header, words) = match span {
            Span::Last(calls) => (Header::empty(0).0, calls.div_ceil(Cell::RESULTS) as usize),
            Span::Slices(_) => (Latest::new(0, 0).0, SLICES as usize),
        };
        Self(iter::once(header).chain(iter::repeat_n(0, words)).map(AtomicU64::new).collect())
    }

    /// Counts a result of this generation. The last N calls need no time.
    ///
    /// Here is the usual case, a success like those before it; all others are below.
    #[inline]
    pub(crate) fn count(
        &self,
        span: Span,
        generation: u32,
        marks: Marks,
        now: Timestamp,
        is_current: impl Fn() -> bool,
    ) -> Counted {
        match span {
            Span::Last(calls) => {
                let mut seen = Header(self.0[0].load(SeqCst));
                let (place, next) = loop {
                    if !seen.is_of(generation) {
                        return self.count_last(calls, generation, marks, &is_current);
                    }
                    let (place, next) = seen.claim(calls);
                    match self.0[0].compare_exchange_weak(seen.0, next.0, SeqCst, SeqCst) {
                        Ok(_) => break (place, next),
                        Err(word) => seen = Header(word),
                    }
                };
                let cell = Cell(self.0[1 + (place / Cell::RESULTS) as usize].load(SeqCst));
                // Success after success writes nothing here, and corrects nothing.
                if cell.is_of(generation) && cell.get(place % Cell::RESULTS) | bits(marks) == 0 {
                    return Counted::Good;
                }
                self.put(calls, generation, marks, place, next, &is_current)
            }
            Span::Slices(width) => {
                let seen = Latest(self.0[0].load(SeqCst));
                let slice = seen.slice();
                // A multiplication where the general case divides.
                let is_on = now.as_nanos().wrapping_sub(slice.wrapping_mul(width)) < width;
                if is_on && seen.is_of(generation) && !marks.is_bad() {
                    let word = &self.0[1 + (slice % SLICES) as usize];
                    let mut seen = Slice(word.load(SeqCst));
                    while seen.tag() == Latest::tag(slice, generation) {
                        match word.compare_exchange_weak(seen.0, seen.with(marks).0, SeqCst, SeqCst) {
                            Ok(_) => return Counted::Good,
                            Err(word) => seen = Slice(word),
                        }
                    }
                }
                self.count_slice(width, generation, marks, now, &is_current)
            }
        }
    }

    #[inline(never)]
    fn count_last(
        &self,
        calls: u32,
        generation: u32,
        marks: Marks,
        is_current: &dyn Fn() -> bool,
    ) -> Counted {
        let header = &self.0[0];
        let mut seen = Header(header.load(SeqCst));
        loop {
            let base = if seen.is_of(generation) {
                seen
            } else if is_current() {
                Header::empty(generation)
            } else {
                return Counted::Stale;
            };
            let (place, next) = base.claim(calls);
            match header.compare_exchange_weak(seen.0, next.0, SeqCst, SeqCst) {
                Ok(_) => return self.put(calls, generation, marks, place, next, is_current),
                Err(word) => seen = Header(word),
            }
        }
    }

    /// Puts a result into the place that was claimed for it.
    #[inline(never)]
    fn put(
        &self,
        calls: u32,
        generation: u32,
        marks: Marks,
        place: u32,
        mut after: Header,
        is_current: &dyn Fn() -> bool,
    ) -> Counted {
        let (header, cells) = self.0.split_first().expect("a window has a header");
        let (new, at) = (bits(marks), place % Cell::RESULTS);
        let cell = &cells[(place / Cell::RESULTS) as usize];
        let mut seen = Cell(cell.load(SeqCst));
        let old = loop {
            let base = if seen.is_of(generation) {
                seen
            } else if is_current() {
                Cell::empty(generation)
            } else {
                return Counted::Stale;
            };
            let old = base.get(at);
            if old == new {
                break old;
            }
            match cell.compare_exchange_weak(seen.0, base.with(at, new).0, SeqCst, SeqCst) {
                Ok(_) => break old,
                Err(word) => seen = Cell(word),
            }
        };

        if old != new {
            loop {
                let next = after.corrected(old, new);
                match header.compare_exchange_weak(after.0, next.0, SeqCst, SeqCst) {
                    Ok(_) => {
                        after = next;
                        break;
                    }
                    Err(word) => after = Header(word),
                }
                if !after.is_of(generation) {
                    return Counted::Stale;
                }
            }
        }
        if marks.is_bad() { Counted::Bad(after.sums(calls)) } else { Counted::Good }
    }

    #[inline(never)]
    fn count_slice(
        &self,
        width: u64,
        generation: u32,
        marks: Marks,
        now: Timestamp,
        is_current: &dyn Fn() -> bool,
    ) -> Counted {
        let (latest, slices) = self.0.split_first().expect("a window has a header");
        loop {
            let seen = Latest(latest.load(SeqCst));
            let known = seen.is_of(generation);
            if !known && !is_current() {
                return Counted::Stale;
            }
            let slice = seen.at(now.as_nanos() / width);
            if (!known || slice != seen.slice()) && !self.advance(seen, generation, slice) {
                continue;
            }

            let word = &slices[(slice % SLICES) as usize];
            let tag = Latest::tag(slice, generation);
            let seen = Slice(word.load(SeqCst));
            let base = if seen.tag() == tag {
                seen
            } else if latest.load(SeqCst) == Latest::new(generation, slice).0 {
                Slice::empty(tag)
            } else {
                continue;
            };
            if !swap(word, seen.0, base.with(marks).0) {
                continue;
            }
            return if marks.is_bad() {
                Counted::Bad(self.slice_sums(generation, slice))
            } else {
                Counted::Good
            };
        }
    }

    /// Goes on to another slice or generation; `false` when another call came in between.
    ///
    /// The words that begin anew are emptied first, whatever their tags say: those of long ago may look like new ones.
    /// Nobody writes to them before the header says so, apart from a result of before that is written late: its tag is not
    /// one of the ten.
    fn advance(&self, seen: Latest, generation: u32, slice: u64) -> bool {
        let (latest, slices) = self.0.split_first().expect("a window has a header");
        let passed = match slice.checked_sub(seen.slice()) {
            Some(passed) if seen.is_of(generation) => passed.min(SLICES),
            // A new generation, or a clock that has gone back: all of them.
            _ => SLICES,
        };
        let empty = Slice::empty(Latest::tag(slice, generation)).0;
        for back in 0..passed {
            // Also those before the clock's origin.
            let word = &slices[((slice + SLICES - back) % SLICES) as usize];
            let old = word.load(SeqCst);
            if old == empty {
                continue;
            }
            if latest.load(SeqCst) != seen.0 {
                return false;
            }
            // Where this fails, someone else has emptied it.
            let _ = word.compare_exchange(old, empty, SeqCst, SeqCst);
        }
        let next = Latest::new(generation, slice);
        latest.compare_exchange(seen.0, next.0, SeqCst, SeqCst).is_ok()
    }

    /// Empties the window for a new generation, so that no word is older than one generation and its few bits tell it.
    pub(crate) fn renew(&self, span: Span, generation: u32, now: Timestamp, is_current: impl Fn() -> bool) {
        let Span::Slices(width) = span else {
            let empty =
                iter::once(Header::empty(generation).0).chain(iter::repeat(Cell::empty(generation).0));
            for (word, empty) in self.0.iter().zip(empty) {
                let mut seen = word.load(SeqCst);
                while !Cell(seen).is_of(generation) && is_current() {
                    match word.compare_exchange_weak(seen, empty, SeqCst, SeqCst) {
                        Ok(_) => break,
                        Err(word) => seen = word,
                    }
                }
            }
            return;
        };
        loop {
            let seen = Latest(self.0[0].load(SeqCst));
            if seen.is_of(generation)
                || !is_current()
                || self.advance(seen, generation, seen.at(now.as_nanos() / width))
            {
                return;
            }
        }
    }

    fn slice_sums(&self, generation: u32, slice: u64) -> Sums {
        let tag = Latest::tag(slice, generation);
        self.0[1..].iter().fold(Sums::default(), |mut all, word| {
            let word = Slice(word.load(SeqCst));
            if tag.wrapping_sub(word.tag()) & 0xffff < SLICES {
                let sums = word.sums();
                all.total += sums.total;
                all.failed += sums.failed;
                all.slow += sums.slow;
            }
            all
        })
    }

    /// What is counted of this generation.
    pub(crate) fn sums(&self, span: Span, generation: u32, now: Timestamp) -> Sums {
        let first = self.0[0].load(SeqCst);
        match span {
            Span::Last(calls) if Header(first).is_of(generation) => Header(first).sums(calls),
            Span::Slices(width) if Latest(first).is_of(generation) => {
                let last = Latest(first);
                let slice = last.at(now.as_nanos() / width);
                // A tag tells a slice from its neighbours, and not from one of long ago.
                let is_near = slice.checked_sub(last.slice()).is_some_and(|passed| passed < SLICES);
                if is_near { self.slice_sums(generation, slice) } else { Sums::default() }
            }
            _ => Sums::default(),
        }
    }
}

#[inline]
fn swap(word: &AtomicU64, seen: u64, next: u64) -> bool {
    word.compare_exchange(seen, next, SeqCst, SeqCst).is_ok()
}
