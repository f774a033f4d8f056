use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed};

use buttress_core::Timestamp;

use crate::policy::{BUCKETS, BudgetRule};
use crate::sync::AtomicU64;

/// As many as a window has buckets, and the one before it: a power of two, to be found by a mask.
const MARKS: usize = if cfg!(buttress_loom) { 4 } else { 32 };

/// Counts originals and extra attempts over a sliding window, without a lock.
///
/// Two counters only ever go up. When a bucket of time opens, it is marked with where they stood, so that the count since
/// any bucket is the difference from its mark. A bucket opens in four steps, which any thread may take, or finish for
/// another:
///
/// 1. `next` says which bucket is to open.
/// 2. The counters are read, and `open` again: if that is still the old bucket, then whoever counts for the new one has
///    not done so yet, and the numbers are of before.
/// 3. The marks from the old bucket to the new one, at most a window of them, are raised to these numbers.
/// 4. `open` says that the bucket is open.
///
/// Marks are raised and never lowered. A thread that was held up in step 3 changes nothing when it goes on: to a mark that
/// has a later bucket by now its numbers are too low, and any number that was read before a bucket opened is a right one
/// for that bucket.
///
/// An extra attempt is one compare-and-swap of their count, from a number that the rule was held against. So no two of
/// them pass on what is enough for one. While `next` and `open` differ the marks may be changing, and are not relied upon.
#[derive(Debug)]
pub(crate) struct Ledger {
    turn: Line<Turn>,
    originals: Line<AtomicU64>,
    extras: Line<AtomicU64>,
    marks: [Mark; MARKS],
}

/// Keeps what it holds on cache lines of its own: 128 bytes, since they are fetched in pairs.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Line<T>(T);

#[derive(Debug)]
struct Turn {
    open: AtomicU64,
    next: AtomicU64,
}

/// Where the counters stood when a bucket opened.
#[derive(Debug, Default)]
struct Mark {
    originals: AtomicU64,
    extras: AtomicU64,
}

/// A window as one thread saw it at one moment.
struct View {
    originals: u64,
    extras: u64,
    /// The count of extra attempts since ever.
    at: u64,
}

impl Ledger {
    pub(crate) fn new() -> Self {
        let turn = Turn { open: AtomicU64::new(BUCKETS), next: AtomicU64::new(BUCKETS) };
        Self {
            turn: Line(turn),
            originals: Line::default(),
            extras: Line::default(),
            marks: std::array::from_fn(|_| Mark::default()),
        }
    }

    /// Counts an original.
    #[inline]
    pub(crate) fn deposit(&self, rule: &BudgetRule, now: Timestamp) {
        self.open(rule, now);
        // Released, so that who sees it in the count sees the open bucket too.
        self.originals.0.fetch_add(1, AcqRel);
    }

    /// Counts an extra attempt, if `rule` allows one more.
    #[inline]
    pub(crate) fn withdraw(&self, rule: &BudgetRule, now: Timestamp) -> bool {
        loop {
            let view = self.view(rule, now);
            if !rule.allows(view.originals, view.extras) {
                return false;
            }
            let next = view.at.wrapping_add(1);
            if self.extras.0.compare_exchange_weak(view.at, next, AcqRel, Relaxed).is_ok() {
                return true;
            }
        }
    }

    /// How many extra attempts `rule` would allow.
    pub(crate) fn left(&self, rule: &BudgetRule, now: Timestamp) -> u64 {
        let view = self.view(rule, now);
        rule.left(view.originals, view.extras)
    }

    #[inline]
    fn view(&self, rule: &BudgetRule, now: Timestamp) -> View {
        loop {
            let open = self.open(rule, now);
            let at = self.extras.0.load(Acquire);
            // The window that holds all of the last `BUCKETS`, and the one that they hold: see the rule.
            let extras = at.saturating_sub(self.mark(open - BUCKETS).extras.load(Acquire));
            let before = self.mark(open - BUCKETS + 1).originals.load(Acquire);
            let originals = self.originals.0.load(Acquire).saturating_sub(before);
            if self.turn.0.next.load(Acquire) == open {
                return View { originals, extras, at };
            }
            self.open_bucket(open);
        }
    }

    /// The open bucket: the one of `now`, or a later one that others have opened.
    #[inline]
    fn open(&self, rule: &BudgetRule, now: Timestamp) -> u64 {
        let open = self.turn.0.open.load(Acquire);
        if rule.is_over(open, now) { self.open_bucket(rule.bucket(now)) } else { open }
    }

    /// Opens `bucket`, or a later one that others are about to open.
    #[cold]
    fn open_bucket(&self, bucket: u64) -> u64 {
        let turn = &self.turn.0;
        let bucket = turn.next.fetch_max(bucket, AcqRel).max(bucket);
        loop {
            let open = turn.open.load(Acquire);
            if open >= bucket {
                return open;
            }
            let extras = self.extras.0.load(Acquire);
            let originals = self.originals.0.load(Acquire);
            if turn.open.load(Acquire) != open {
                continue;
            }
            // However long nothing happened: what is older than a window is not asked for again.
            for bucket in (open + 1).max(bucket - BUCKETS)..=bucket {
                self.mark(bucket).raise(originals, extras);
            }
            if turn.open.compare_exchange(open, bucket, AcqRel, Relaxed).is_ok() {
                return bucket;
            }
        }
    }

    #[inline]
    fn mark(&self, bucket: u64) -> &Mark {
        &self.marks[bucket as usize % MARKS]
    }
}

impl Mark {
    fn raise(&self, originals: u64, extras: u64) {
        for (mark, to) in [(&self.originals, originals), (&self.extras, extras)] {
            if mark.load(Relaxed) < to {
                mark.fetch_max(to, AcqRel);
            }
        }
    }
}
