//! One set of limits, and the state that is held under it.

use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Arc, OnceLock, PoisonError};
use std::time::Duration;

use buttress_core::{Quota, Timestamp};

use crate::WhenFull;
use crate::decision::Decision;
use crate::one::{Denied, One};
use crate::packed::{Packed, Refused};
use crate::policy::{CarryOver, Left, Limit, LimitError, LimitState, Policy};
use crate::scale::Scale;
use crate::set::{self, Outcome};
use crate::sync::{Mutex, MutexGuard};
use crate::table::{Full, Table};

#[derive(Debug)]
pub(crate) struct Plan {
    /// The limits as they are now: locked for a look, since calls read their names.
    limits: Mutex<Arc<[Limit]>>,
    /// Whoever changes the limits holds it until the states are changed too.
    changing: Mutex<()>,
    /// The states of keys that have a packed word each.
    packed: OnceLock<Packed>,
    /// The states of keys, otherwise.
    table: OnceLock<Table>,
    /// The state of calls without a key.
    one: Single,
    /// Whether keys have packed words.
    fits: bool,
    first: Report,
    /// Whether a charge was corrected, or the limit changed: what decisions have seen is out of date then.
    outdated: AtomicBool,
    /// How often the limits were changed, or everything forgotten.
    epoch: AtomicU8,
    /// The epoch that began when everything was forgotten last.
    fresh: AtomicU8,
    capacity: usize,
    when_full: WhenFull,
    settles: bool,
}

/// The first limit as it was made, for what can be said of it without asking a state.
#[derive(Debug)]
struct Report {
    /// All but what is left.
    quota: Quota,
    /// In which calls without a key are counted, if it is a token bucket.
    exact: Scale,
    /// In which keys are counted that have packed words.
    packed: Scale,
}

/// One state.
#[derive(Debug)]
enum Single {
    /// Of a token bucket.
    Bucket(One),
    /// Of whatever limits: a table whose first slot is never left.
    Table(Table),
}

/// The states of keys.
#[derive(Clone, Copy)]
enum Keys<'a> {
    /// Of a token bucket.
    Packed(&'a Packed),
    /// Of whatever limits.
    Table(&'a Table),
}

impl Plan {
    pub(crate) fn new(limits: &[Limit], capacity: usize, when_full: WhenFull, settles: bool) -> Self {
        let several = limits.len() > 1;
        let limits: Arc<[Limit]> = limits.iter().map(|limit| kept(limit, settles, several)).collect();
        // A bucket that only watches does more than to refuse or not.
        let bucket = match &*limits {
            [limit] if !limit.is_shadow() => limit.gcra(),
            _ => None,
        };
        let (exact, packed) = (bucket.map(Scale::exact), bucket.and_then(Scale::packed));
        let one = match exact {
            Some(scale) => Single::Bucket(One::new(&limits[0], scale)),
            None => Single::Table(Table::new(&limits, 1, WhenFull::default())),
        };
        let full = Left { remaining: limits[0].limit(), reset: Duration::ZERO };
        let exact = exact.unwrap_or(Scale::NONE);
        let first = Report { quota: quota(&limits[0], full), exact, packed: packed.unwrap_or(exact) };
        Self {
            limits: Mutex::new(limits),
            changing: Mutex::new(()),
            packed: OnceLock::new(),
            table: OnceLock::new(),
            one,
            fits: packed.is_some(),
            first,
            outdated: AtomicBool::new(false),
            epoch: AtomicU8::new(0),
            fresh: AtomicU8::new(0),
            capacity,
            when_full,
            settles,
        }
    }

    pub(crate) fn limits(&self) -> Arc<[Limit]> {
        Arc::clone(&lock(&self.limits))
    }

    /// The table, made when it is first asked for.
    pub(crate) fn make(&self) {
        self.keys();
    }

    #[inline]
    fn keys(&self) -> Keys<'_> {
        match self.made_keys() {
            Some(keys) => keys,
            None => self.make_keys(),
        }
    }

    #[inline]
    fn made_keys(&self) -> Option<Keys<'_>> {
        let packed = self.packed.get().map(Keys::Packed);
        packed.or_else(|| self.table.get().map(Keys::Table))
    }

    #[cold]
    fn make_keys(&self) -> Keys<'_> {
        // Under the lock, so that a change of the limits does not miss a table that is just being made.
        let _changing = lock(&self.changing);
        let limits = self.limits();
        if !self.fits {
            return Keys::Table(
                self.table.get_or_init(|| Table::new(&limits, self.capacity, self.when_full)),
            );
        }
        Keys::Packed(self.packed.get_or_init(|| {
            let scale = limits[0].gcra().and_then(Scale::packed);
            let scale = scale.expect("a change is refused that has no packed words");
            Packed::new(&limits[0], scale, self.capacity, self.when_full)
        }))
    }

    /// How often the limits were changed, or everything forgotten. Asked before a call is charged, so that whoever
    /// reads a new epoch is charged in it.
    #[inline(always)]
    pub(crate) fn epoch(&self) -> u8 {
        self.epoch.load(Ordering::Acquire)
    }

    #[inline(always)]
    pub(crate) fn charge(&self, hash: Option<u64>, cost: u32, now: Timestamp) -> Outcome {
        // No closures here: they are not always inlined.
        let seen = match (hash, &self.one) {
            (Some(hash), _) => match self.packed.get() {
                Some(table) => table.charge(hash, cost, now),
                None => None,
            },
            (None, Single::Bucket(one)) => one.charge(cost, now),
            (None, Single::Table(_)) => None,
        };
        match seen {
            Some(outcome) => outcome,
            None => self.charge_any(hash, cost, now),
        }
    }

    /// Charges in whatever case it may be.
    #[inline(never)]
    fn charge_any(&self, hash: Option<u64>, cost: u32, now: Timestamp) -> Outcome {
        let mut seen = 0;
        let step = |scale: &Scale, _, debt| {
            let after = scale.charge(debt, cost)?;
            seen = after;
            Some(after)
        };
        let result = match (hash, &self.one) {
            (None, Single::Bucket(one)) => one.run(now, step).map_err(Refused::Denied),
            (None, Single::Table(table)) => return by_table(table, 0, cost, now),
            (Some(hash), _) => match self.keys() {
                Keys::Packed(table) => table.run(hash, now, true, step),
                Keys::Table(table) => return by_table(table, hash, cost, now),
            },
        };
        match result {
            Ok(()) => Outcome::admitted_at(seen),
            Err(Refused::Denied(Denied { scale, ticks, debt })) => {
                Outcome::denied(&scale, debt, ticks, cost, now)
            }
            Err(Refused::Full(scale, ticks)) => Outcome::new(1, 0, 0, scale.until(ticks, now).max(1)),
        }
    }

    pub(crate) fn settle(&self, decision: &Decision, actual: u32, now: Timestamp) {
        let Decision { hash, at, cost, outcome, keyed, .. } = *decision;
        let epoch = self.epoch();
        let since = |then| epoch.wrapping_sub(then);
        if since(decision.epoch) > since(self.fresh.load(Ordering::Acquire)) {
            // What it was charged is forgotten.
            return;
        }
        self.outdated.store(true, Ordering::Relaxed);
        let less = cost.checked_sub(actual);
        // In which ticks the debt was is known as long as the limit is the same.
        let owed = outcome.debt().filter(|_| decision.epoch == epoch);
        let step = |scale: &Scale, ticks: u64, debt| {
            Some(match less {
                Some(less) => {
                    let earned = scale.ticks(at).saturating_add(owed.unwrap_or(scale.full));
                    scale.refund(debt, less, earned.saturating_sub(ticks))
                }
                None => scale.force(debt, actual - cost),
            })
        };
        let charged = (at, outcome.wait(), cost);
        let settle = |limits: &[Limit], states: &mut [LimitState]| {
            set::settle(limits, states, hash, charged, outcome.shadowed(), actual, now);
        };
        // Where there is no place there is nothing to correct.
        match (keyed, &self.one) {
            (false, Single::Bucket(one)) => drop(one.run(now, step)),
            (false, Single::Table(table)) => drop(table.with(0, now, settle)),
            (true, _) => match self.keys() {
                Keys::Packed(table) => drop(table.run(hash, now, less.is_none(), step)),
                Keys::Table(table) => drop(table.with(hash, now, settle)),
            },
        }
    }

    /// Reports what was left after the decision, or is left where that is out of date.
    #[inline(always)]
    pub(crate) fn quotas(&self, decision: &Decision, report: &mut dyn FnMut(Quota)) {
        let Decision { hash, at, keyed, cost, outcome, .. } = *decision;
        match outcome.debt() {
            Some(debt) if !self.outdated.load(Ordering::Relaxed) => {
                let Report { quota, exact, packed } = &self.first;
                let scale = if keyed { packed } else { exact };
                let Left { remaining, reset } = scale.left(debt, at);
                let mut quota = quota.clone();
                (quota.remaining, quota.reset) = (remaining, reset);
                report(quota);
            }
            _ if outcome.admitted() => self.ask_quotas(keyed.then_some(hash), at, report),
            _ => {
                let mut index = 0;
                self.ask_quotas(keyed.then_some(hash), at, &mut |mut quota| {
                    // Refused, although the key has spent nothing: there is no place for it.
                    if outcome.refused() & 1 << index != 0 && quota.remaining >= u64::from(cost.max(1)) {
                        (quota.remaining, quota.reset) = (0, Duration::from_nanos(outcome.wait()));
                    }
                    index += 1;
                    report(quota);
                });
            }
        }
    }

    /// Reports what is left at `now`.
    pub(crate) fn quotas_at(&self, decision: &Decision, now: Timestamp, report: &mut dyn FnMut(Quota)) {
        self.ask_quotas(decision.keyed.then_some(decision.hash), now, report);
    }

    #[cold]
    fn ask_quotas(&self, hash: Option<u64>, at: Timestamp, report: &mut dyn FnMut(Quota)) {
        let mut seen = None;
        let look = |scale: &Scale, _, debt| {
            seen = Some((*scale, debt));
            Some(debt)
        };
        let quotas = |limits: &[Limit], states: &mut [LimitState]| {
            set::quotas(limits, states, hash.unwrap_or(0), at, report)
        };
        match (hash, &self.one) {
            (None, Single::Bucket(one)) => drop(one.run(at, look)),
            (None, Single::Table(table)) => return drop(table.with(0, at, quotas)),
            (Some(hash), _) => match self.keys() {
                Keys::Packed(table) => drop(table.run(hash, at, false, look)),
                Keys::Table(table) => return drop(table.with(hash, at, quotas)),
            },
        }
        let limits = self.limits();
        let limit = &limits[0];
        report(quota(
            limit,
            match seen {
                Some((scale, debt)) => scale.left(debt, at),
                None => Left { remaining: limit.limit(), reset: Duration::ZERO },
            },
        ));
    }

    /// Puts `limit` in the place of the limit with this index, while calls go on.
    pub(crate) fn change(
        &self,
        index: usize,
        limit: &Limit,
        rule: CarryOver,
        now: Timestamp,
    ) -> Result<(), LimitError> {
        let _changing = lock(&self.changing);
        let limits = self.limits();
        if index >= limits.len() {
            return Err(LimitError::new("index", index, "must be that of a limit which is there"));
        }
        let mut new = limits.to_vec();
        new[index] = kept(limit, self.settles, new.len() > 1);
        set::check(&new)?;
        let new: Arc<[Limit]> = new.into();
        let other = || {
            let rule = "must be a token bucket like the one in its place, for which a few words are packed";
            LimitError::new("limit", limit, rule)
        };
        let bucket = limit.gcra().filter(|_| !limit.is_shadow());
        let exact = bucket.map(Scale::exact).ok_or_else(other);
        let packed = bucket.and_then(Scale::packed).ok_or_else(other);

        let carry = |old: &[Limit], states: &mut [LimitState], hash| {
            states[index] = rule.carry(&old[index], &states[index], &new[index], hash, now);
        };
        if self.fits {
            packed.as_ref().map_err(Clone::clone)?;
        }
        self.outdated.store(true, Ordering::Relaxed);
        match &self.one {
            Single::Bucket(one) => one.change(limit, exact?, rule, now),
            Single::Table(table) => table.change(&new, carry),
        }
        match self.made_keys() {
            Some(Keys::Packed(table)) => table.change(limit, packed?, rule, now),
            Some(Keys::Table(table)) => table.change(&new, carry),
            None => {}
        }
        self.begin_epoch(rule == CarryOver::Reset);
        *lock(&self.limits) = new;
        Ok(())
    }

    pub(crate) fn held(&self, now: Timestamp) -> usize {
        let one = match &self.one {
            Single::Bucket(one) => usize::from(one.is_held(now)),
            Single::Table(table) => table.keys(now),
        };
        one + self.ask(0, |table| table.keys(now), |table| table.keys(now))
    }

    pub(crate) fn evicted(&self) -> u64 {
        self.ask(0, Packed::evicted, Table::evicted)
    }

    pub(crate) fn crowded(&self) -> u64 {
        self.ask(0, Packed::crowded, Table::crowded)
    }

    pub(crate) fn clear(&self) {
        // No change of limits meanwhile.
        let _changing = lock(&self.changing);
        match &self.one {
            Single::Bucket(one) => one.clear(),
            Single::Table(table) => table.clear(),
        }
        self.ask((), Packed::clear, Table::clear);
        self.begin_epoch(true);
    }

    /// The caller is the only one who changes anything.
    fn begin_epoch(&self, fresh: bool) {
        let epoch = self.epoch.load(Ordering::Relaxed).wrapping_add(1);
        // What is older than all that can be told apart counts as forgotten.
        if fresh || epoch == self.fresh.load(Ordering::Relaxed) {
            self.fresh.store(if fresh { epoch } else { epoch.wrapping_add(1) }, Ordering::Release);
        }
        self.epoch.store(epoch, Ordering::Release);
    }

    #[cfg(buttress_loom)]
    pub(crate) fn groups_of(&self, hash: u64) -> [usize; 2] {
        match self.keys() {
            Keys::Packed(table) => table.groups_of(hash),
            Keys::Table(_) => unreachable!("it is asked of packed words only"),
        }
    }

    /// Asks the table, if there is one.
    fn ask<T>(&self, none: T, packed: impl FnOnce(&Packed) -> T, any: impl FnOnce(&Table) -> T) -> T {
        match self.made_keys() {
            Some(Keys::Packed(table)) => packed(table),
            Some(Keys::Table(table)) => any(table),
            None => none,
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The limit as it is counted: with an account of its charges, where it has to be known of which a refund is.
fn kept(limit: &Limit, settles: bool, several: bool) -> Limit {
    let limit = limit.clone().without_ledger();
    // The one moment of a call's turn tells for one queue alone which call it is.
    let watched = several || limit.is_shadow();
    if settles || watched && limit.is_queue() { limit.with_ledger() } else { limit }
}

fn quota(limit: &Limit, Left { remaining, reset }: Left) -> Quota {
    Quota::new(limit.name().clone(), limit.limit(), remaining, reset, limit.window())
}

fn by_table(table: &Table, hash: u64, cost: u32, now: Timestamp) -> Outcome {
    match table.with(hash, now, |limits, states| set::charge(limits, states, hash, now, cost)) {
        Ok(outcome) => outcome,
        Err(Full(wait)) => Outcome::new(1, 0, 0, wait),
    }
}
