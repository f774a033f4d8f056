//! What becomes of the keys that are held when a limit changes.
//!
//! ```text
//!              old limit 10                     new limit 20
//!   ■■■■□□□□□□  4 used, 6 left      AsIs  ■■■■■■■■■■■■■■□□□□□□   6 left
//!                               Additive  ■■■■□□□□□□□□□□□□□□□□   4 used
//!                           Proportional  ■■■■■■■■□□□□□□□□□□□□   two fifths used
//!                                  Reset  □□□□□□□□□□□□□□□□□□□□
//! ```
//!
//! Every rounding is towards more used.

use buttress_core::Timestamp;

use super::ledger::{Ledger, LedgerState};
use super::limit::Algorithm;
use super::state::{hold, look};
use super::{
    FixedWindow, Gcra, Limit, LimitState, Policy, SlidingLog, SlidingLogState, SlidingStrict,
    SlidingStrictState, SlidingWindow, SlidingWindowState,
};

/// What a key that has used some of its limit is left with when the limit changes.
///
/// A key that has used nothing is a fresh one under each of the rules.
///
/// Buckets are carried over to the tick, and logs unit by unit. Windows keep their counts and their place while the
/// length and the grid stay the same; otherwise what is used counts as spent now. So it does where the algorithm
/// changes. Calls that wait in a [`LeakyBucket`](super::LeakyBucket) keep their turn, and whatever the rule, none goes before them.
///
/// ```
/// use buttress_core::Timestamp;
/// use buttress_rate_limit::{CarryOver, Limit, Policy};
///
/// let (old, new, now) = (Limit::per_minute(10), Limit::per_minute(20), Timestamp::ZERO);
/// let mut state = Default::default();
/// assert!(old.charge(&mut state, now, 4));
///
/// let left = |rule: CarryOver| new.left(&rule.carry(&old, &state, &new, 0, now), now).remaining;
/// assert_eq!(left(CarryOver::AsIs), 6);
/// assert_eq!(left(CarryOver::Additive), 16);
/// assert_eq!(left(CarryOver::Proportional), 12);
/// assert_eq!(left(CarryOver::Reset), 20);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum CarryOver {
    /// What was left is left, as far as the new limit reaches: nobody gains by the change.
    AsIs,
    /// The used share stays: whoever had used half has used half.
    Proportional,
    /// All is forgotten: everybody has the whole new limit at once.
    Reset,
    /// What was used stays used: raising the limit by ten gives ten more, lowering it takes ten away.
    Additive,
}

impl CarryOver {
    /// The state under `new` of a key that had `state` under `old`, where `hash` is the key's.
    #[must_use]
    pub fn carry(
        self,
        old: &Limit,
        state: &LimitState,
        new: &Limit,
        hash: u64,
        now: Timestamp,
    ) -> LimitState {
        use Algorithm as A;

        let (then, now) = (now + old.shift(hash), now + new.shift(hash));
        if self == Self::Reset || old.debt(state, then) == 0 {
            // Those that wait have their turn still.
            return match (old.algorithm(), new.algorithm()) {
                (
                    A::LeakyBucket(_) | A::LeakyLedger(_),
                    A::LeakyBucket(_) | A::LeakyLedger(_) | A::Gcra(_) | A::GcraLedger(_),
                ) => self.buckets(old, state, new, now),
                _ => LimitState::default(),
            };
        }
        let same = match (old.algorithm(), new.algorithm()) {
            (
                A::Gcra(_) | A::LeakyBucket(_) | A::GcraLedger(_) | A::LeakyLedger(_),
                A::Gcra(_) | A::LeakyBucket(_) | A::GcraLedger(_) | A::LeakyLedger(_),
            ) => return self.buckets(old, state, new, now),
            (A::FixedWindow(old), A::FixedWindow(new)) => self.fixed(old, state, new, now).map(hold),
            (A::SlidingStrict(old), A::SlidingStrict(new)) => self.strict(old, state, new, now).map(hold),
            (A::SlidingLog(old), A::SlidingLog(new)) => Some(hold(self.log(old, state, new, now))),
            (A::Packed(old), A::Packed(new)) => {
                let state = look(old, state, |old, &word| old.unpack(word));
                self.counter(old.window(), &state, new.window(), now).map(|state| hold(new.pack(state)))
            }
            (A::Packed(old), A::SlidingWindow(new)) => {
                let state = look(old, state, |old, &word| old.unpack(word));
                self.counter(old.window(), &state, new, now).map(hold)
            }
            (A::SlidingWindow(old), A::Packed(new)) => look(old, state, |old, state| {
                self.counter(old, state, new.window(), now).map(|state| hold(new.pack(state)))
            }),
            (A::SlidingWindow(old), A::SlidingWindow(new)) => {
                look(old, state, |old, state| self.counter(old, state, new, now).map(hold))
            }
            _ => None,
        };
        same.unwrap_or_else(|| {
            let used = old.limit() - old.left(state, then).remaining.min(old.limit());
            spent(new, self.units(used, old.limit(), new.limit()), now)
        })
    }

    /// Units used of `new`, when `used` were of `old`.
    fn units(self, used: u64, old: u64, new: u64) -> u64 {
        let used =
            self.scale(used.into(), Size { unit: 1, full: old.into() }, Size { unit: 1, full: new.into() });
        u64::try_from(used).unwrap_or(u64::MAX)
    }

    /// What is used of `new`, in its measure, when `used` was of `old`. Ends at one limit of debt.
    fn scale(self, used: u128, old: Size, new: Size) -> u128 {
        let same_units = |used: u128| (used * new.unit).div_ceil(old.unit);
        let used = match self {
            Self::Reset => 0,
            Self::Additive => same_units(used),
            Self::Proportional => (used * new.full).div_ceil(old.full),
            Self::AsIs => match old.full.checked_sub(used) {
                Some(left) => new.full.saturating_sub(left * new.unit / old.unit),
                None => new.full + same_units(used - old.full),
            },
        };
        used.min(2 * new.full)
    }

    fn buckets(self, old: &Limit, state: &LimitState, new: &Limit, now: Timestamp) -> LimitState {
        let (Some(was), Some(is)) = (Bucket::of(old), Bucket::of(new)) else {
            return LimitState::default();
        };
        // Buckets have no grid, so one `now` serves both.
        let debt = u128::from(old.debt(state, now));
        let mut carried = self.scale(debt, was.size(), is.size());
        if was.queue && debt > was.burst() {
            let last = (debt - was.burst()).div_ceil(u128::from(was.gcra.ticks_per_nano()));
            carried = carried.max(last * u128::from(is.gcra.ticks_per_nano()) + is.burst());
        }
        match u64::try_from(carried).unwrap_or(u64::MAX) {
            0 => LimitState::default(),
            carried => entries(old, state, new, now, carried),
        }
    }

    fn fixed(self, old: &FixedWindow, state: &LimitState, new: &FixedWindow, now: Timestamp) -> Option<u64> {
        old.same_grid(new).then(|| {
            let (index, count) = look(old, state, |old, &word| old.current(word, now));
            new.word(index, self.units(count, old.limit(), new.limit()))
        })
    }

    fn counter(
        self,
        old: &SlidingWindow,
        state: &SlidingWindowState,
        new: &SlidingWindow,
        now: Timestamp,
    ) -> Option<SlidingWindowState> {
        if old.nanos() != new.nanos() {
            return None;
        }
        let view = old.view(state, now);
        let (was, is) = (old.limit(), new.limit());
        let (previous, current) = match self {
            Self::AsIs => {
                let more = is.saturating_sub(was);
                // First from the newer, which weighs whole, then from the older.
                let less = was.saturating_sub(is);
                let from_current = less.min(view.current);
                let share = u128::from(old.nanos() - view.into);
                let weight = (u128::from(view.previous) * share)
                    .saturating_sub(u128::from(less - from_current) * u128::from(old.nanos()));
                let previous = if share == 0 { 0 } else { weight.div_ceil(share) as u64 };
                (previous, view.current - from_current + more)
            }
            Self::Proportional => (self.units(view.previous, was, is), self.units(view.current, was, is)),
            Self::Additive | Self::Reset => (view.previous, view.current),
        };
        // A much lower limit has no room for the counts.
        (previous.max(current) <= new.most()).then(|| new.state(view.index, previous, current))
    }

    fn strict(
        self,
        old: &SlidingStrict,
        state: &LimitState,
        new: &SlidingStrict,
        now: Timestamp,
    ) -> Option<SlidingStrictState> {
        if !old.same_grid(new) {
            return None;
        }
        let (was, is) = (old.limit(), new.limit());
        look(old, state, |old, state| {
            let mut counts = old.newest_first(state, now);
            let used = counts.iter().sum();
            let target = self.units(used, was, is);
            match self {
                Self::Proportional => {
                    // The sums from the newest on are rounded up, so that none is ever too small.
                    let (mut before, mut given) = (0, 0);
                    for count in &mut counts {
                        before += *count;
                        let sum = self.units(before, was, is);
                        (*count, given) = (sum - given, sum);
                    }
                }
                _ if target > used => counts[0] += target - used,
                _ => {
                    let mut less = used - target;
                    for count in counts.iter_mut().rev() {
                        let taken = less.min(*count);
                        *count -= taken;
                        less -= taken;
                    }
                }
            }
            Some(new.state(old.counted_in(state, now), &counts))
        })
    }

    fn log(self, old: &SlidingLog, state: &LimitState, new: &SlidingLog, now: Timestamp) -> SlidingLogState {
        look(old, state, |old, state| {
            let units = state.newest_first(now);
            let used = units.len() as u64;
            let target = self.units(used, old.limit(), new.limit());
            let longest = now.as_nanos().saturating_add(new.nanos());
            // Each leaves the window when it would have, at the latest when one of now does.
            let expiry = |nth: u64| units.clone().nth(nth as usize).map_or(longest, |unit| unit.min(longest));
            match self {
                Self::Proportional => {
                    let nth =
                        |nth: u64| expiry((u128::from(nth) * u128::from(used) / u128::from(target)) as u64);
                    SlidingLogState::of(new.limit(), (0..target).map(nth))
                }
                _ => {
                    let more = target.saturating_sub(used);
                    let added = (0..more).map(|_| longest);
                    SlidingLogState::of(new.limit(), added.chain((0..target - more).map(expiry)))
                }
            }
        })
    }
}

/// How much a unit is, and how much fits.
#[derive(Clone, Copy)]
struct Size {
    unit: u128,
    full: u128,
}

/// What token bucket and leaky bucket have in common.
struct Bucket {
    gcra: Gcra,
    full: u64,
    queue: bool,
}

impl Bucket {
    fn of(limit: &Limit) -> Option<Self> {
        match limit.algorithm() {
            Algorithm::Gcra(gcra) | Algorithm::GcraLedger(Ledger(gcra)) => {
                Some(Self { gcra: *gcra, full: gcra.burst() * gcra.ticks_per_unit(), queue: false })
            }
            Algorithm::LeakyBucket(bucket) | Algorithm::LeakyLedger(Ledger(bucket)) => {
                Some(Self { gcra: *bucket.gcra(), full: bucket.ticks_full(), queue: true })
            }
            _ => None,
        }
    }

    fn size(&self) -> Size {
        Size { unit: self.gcra.ticks_per_unit().into(), full: self.full.into() }
    }

    fn burst(&self) -> u128 {
        u128::from(self.gcra.burst()) * u128::from(self.gcra.ticks_per_unit())
    }
}

/// A bucket's state with the debt `carried`, and what is known of its charges.
fn entries(old: &Limit, state: &LimitState, new: &Limit, now: Timestamp, carried: u64) -> LimitState {
    use Algorithm as A;

    macro_rules! shares {
        ($was:expr, $is:expr) => {
            look($was, state, |was, state| hold(state.carried(was, $is, now, carried)))
        };
    }
    match (old.algorithm(), new.algorithm()) {
        (A::GcraLedger(was), A::GcraLedger(is)) => shares!(was, is),
        (A::GcraLedger(was), A::LeakyLedger(is)) => shares!(was, is),
        (A::LeakyLedger(was), A::GcraLedger(is)) => shares!(was, is),
        (A::LeakyLedger(was), A::LeakyLedger(is)) => shares!(was, is),
        _ => bucket(new, now, carried),
    }
}

/// A bucket's state with this debt.
fn bucket(limit: &Limit, now: Timestamp, debt: u64) -> LimitState {
    let Some(Bucket { gcra, .. }) = Bucket::of(limit) else { return LimitState::default() };
    let word = gcra.ticks(now).saturating_add(debt);
    match limit.algorithm() {
        Algorithm::GcraLedger(_) | Algorithm::LeakyLedger(_) => hold(LedgerState::of(word)),
        _ => hold(word),
    }
}

/// The state of a key that has just spent `used` units.
fn spent(limit: &Limit, used: u64, now: Timestamp) -> LimitState {
    if let Some(Bucket { gcra, .. }) = Bucket::of(limit) {
        return bucket(limit, now, gcra.ticks_per_unit().saturating_mul(used));
    }
    match limit.algorithm() {
        Algorithm::FixedWindow(window) => hold(window.word(window.current(0, now).0, used)),
        _ => {
            let mut state = LimitState::default();
            limit.force(&mut state, now, u32::try_from(used).unwrap_or(u32::MAX));
            state
        }
    }
}
