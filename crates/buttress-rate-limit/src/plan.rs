//! One set of limits, and the state that is held under it.

use std::sync::{Arc, OnceLock, PoisonError};
use std::time::Duration;

use buttress_core::{Quota, Timestamp};

use crate::WhenFull;
use crate::decision::Decision;
use crate::one::One;
use crate::packed::{Packed, Refused};
use crate::policy::{CarryOver, Left, Limit, LimitError, LimitState, Policy};
use crate::scale::Scale;
use crate::set::{self, Outcome};
use crate::sync::{Mutex, MutexGuard};
use crate::table::{Full, Table};

#[derive(Debug)]
pub(crate) struct Plan {
    /// The limits as they are now. Whoever changes them holds the lock until the states are changed too.
    limits: Mutex<Arc<[Limit]>>,
    /// The state of calls without a key.
    one: Single,
    table: OnceLock<Keys>,
    /// Whether keys have a packed word each.
    packed: bool,
    capacity: usize,
    when_full: WhenFull,
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
#[derive(Debug)]
pub(crate) enum Keys {
    /// Of a token bucket.
    Packed(Packed),
    /// Of whatever limits.
    Table(Table),
}

impl Plan {
    pub(crate) fn new(limits: &[Limit], capacity: usize, when_full: WhenFull) -> Self {
        let limits: Arc<[Limit]> = limits.into();
        // A bucket that only watches does more than to refuse or not.
        let bucket = match &*limits {
            [limit] if !limit.is_shadow() => limit.gcra().map(|gcra| (limit, gcra)),
            _ => None,
        };
        let one = match bucket {
            Some((limit, gcra)) => Single::Bucket(One::new(limit, Scale::exact(gcra))),
            None => Single::Table(Table::new(&limits, 1, WhenFull::default())),
        };
        let packed = bucket.is_some_and(|(_, gcra)| Scale::packed(gcra).is_some());
        Self { limits: Mutex::new(limits), one, table: OnceLock::new(), packed, capacity, when_full }
    }

    pub(crate) fn limits(&self) -> Arc<[Limit]> {
        Arc::clone(&self.lock())
    }

    fn lock(&self) -> MutexGuard<'_, Arc<[Limit]>> {
        self.limits.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The table, made when it is first asked for.
    #[inline]
    pub(crate) fn table(&self) -> &Keys {
        match self.table.get() {
            Some(table) => table,
            None => self.make(),
        }
    }

    #[cold]
    fn make(&self) -> &Keys {
        // Under the lock, so that a change of the limits does not miss a table that is just being made.
        let limits = self.lock();
        self.table.get_or_init(|| {
            let scale = limits[0].gcra().and_then(Scale::packed).filter(|_| self.packed);
            match scale {
                Some(scale) => Keys::Packed(Packed::new(&limits[0], scale, self.capacity, self.when_full)),
                None => Keys::Table(Table::new(&limits, self.capacity, self.when_full)),
            }
        })
    }

    #[inline(always)]
    pub(crate) fn charge(&self, hash: Option<u64>, cost: u32, now: Timestamp) -> Outcome {
        match hash {
            None => match &self.one {
                Single::Bucket(one) => match one.run(now, |scale, debt| scale.charge(debt, cost)) {
                    Ok(()) => Outcome::ADMITTED,
                    Err(denied) => Outcome::denied(&denied, cost, now),
                },
                Single::Table(table) => by_table(table, 0, cost, now),
            },
            Some(hash) => match self.table.get() {
                Some(Keys::Packed(table)) if table.charge(hash, cost, now) => Outcome::ADMITTED,
                _ => self.charge_key(hash, cost, now),
            },
        }
    }

    /// Charges a key in whatever case it may be.
    #[inline(never)]
    fn charge_key(&self, hash: u64, cost: u32, now: Timestamp) -> Outcome {
        match self.table() {
            Keys::Packed(table) => by_packed(table, hash, cost, now),
            Keys::Table(table) => by_table(table, hash, cost, now),
        }
    }

    pub(crate) fn settle(&self, decision: &Decision, actual: u32, now: Timestamp) {
        let Decision { hash, at, cost, outcome, keyed, .. } = *decision;
        let less = cost.checked_sub(actual);
        let step = |scale: &Scale, debt| {
            Some(match less {
                Some(less) => scale.refund(debt, less),
                None => scale.force(debt, actual - cost),
            })
        };
        let charged = (at, outcome.wait, cost);
        let settle = |limits: &[Limit], states: &mut [LimitState]| {
            set::settle(limits, states, hash, charged, outcome.shadowed(), actual, now);
        };
        // Where there is no place there is nothing to correct.
        match (keyed, &self.one) {
            (false, Single::Bucket(one)) => drop(one.run(now, step)),
            (false, Single::Table(table)) => drop(table.with(0, now, settle)),
            (true, _) => match self.table() {
                Keys::Packed(table) => drop(table.run(hash, now, less.is_none(), step)),
                Keys::Table(table) => drop(table.with(hash, now, settle)),
            },
        }
    }

    pub(crate) fn quotas(&self, decision: &Decision, report: &mut dyn FnMut(Quota)) {
        let Decision { hash, at, keyed, .. } = *decision;
        let mut seen = None;
        let look = |scale: &Scale, debt| {
            seen = Some((*scale, debt));
            Some(debt)
        };
        let quotas =
            |limits: &[Limit], states: &mut [LimitState]| set::quotas(limits, states, hash, at, report);
        match (keyed, &self.one) {
            (false, Single::Bucket(one)) => drop(one.run(at, look)),
            (false, Single::Table(table)) => return drop(table.with(0, at, quotas)),
            (true, _) => match self.table() {
                Keys::Packed(table) => drop(table.run(hash, at, false, look)),
                Keys::Table(table) => return drop(table.with(hash, at, quotas)),
            },
        }
        let limits = self.limits();
        let limit = &limits[0];
        let Left { remaining, reset } = match seen {
            Some((scale, debt)) => scale.left(debt, scale.ticks(at), at),
            None => Left { remaining: limit.limit(), reset: Duration::ZERO },
        };
        report(Quota::new(limit.name().clone(), limit.limit(), remaining, reset, limit.window()));
    }

    /// Puts `limit` in the place of the limit with this index, while calls go on.
    pub(crate) fn change(
        &self,
        index: usize,
        limit: &Limit,
        rule: CarryOver,
        now: Timestamp,
    ) -> Result<(), LimitError> {
        let mut limits = self.lock();
        if index >= limits.len() {
            return Err(LimitError::new("index", index, "must be that of a limit which is there"));
        }
        let mut new = limits.to_vec();
        new[index] = limit.clone();
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
        if self.packed {
            packed.as_ref().map_err(Clone::clone)?;
        }
        match &self.one {
            Single::Bucket(one) => one.change(limit, exact?, rule, now),
            Single::Table(table) => table.change(&new, carry),
        }
        match self.table.get() {
            Some(Keys::Packed(table)) => table.change(limit, packed?, rule, now),
            Some(Keys::Table(table)) => table.change(&new, carry),
            None => {}
        }
        *limits = new;
        Ok(())
    }

    pub(crate) fn keys(&self, now: Timestamp) -> usize {
        let one = match &self.one {
            Single::Bucket(one) => usize::from(one.is_held(now)),
            Single::Table(table) => table.keys(now),
        };
        one + self.made(0, |table| table.keys(now), |table| table.keys(now))
    }

    pub(crate) fn evicted(&self) -> u64 {
        self.made(0, Packed::evicted, Table::evicted)
    }

    pub(crate) fn crowded(&self) -> u64 {
        self.made(0, Packed::crowded, Table::crowded)
    }

    pub(crate) fn clear(&self) {
        // No change of limits meanwhile.
        let _limits = self.lock();
        match &self.one {
            Single::Bucket(one) => one.clear(),
            Single::Table(table) => table.clear(),
        }
        self.made((), Packed::clear, Table::clear);
    }

    /// Asks the table, if there is one.
    fn made<T>(&self, none: T, packed: impl FnOnce(&Packed) -> T, any: impl FnOnce(&Table) -> T) -> T {
        match self.table.get() {
            Some(Keys::Packed(table)) => packed(table),
            Some(Keys::Table(table)) => any(table),
            None => none,
        }
    }
}

fn by_packed(table: &Packed, hash: u64, cost: u32, now: Timestamp) -> Outcome {
    match table.run(hash, now, true, |scale, debt| scale.charge(debt, cost)) {
        Ok(()) => Outcome::ADMITTED,
        Err(Refused::Denied(denied)) => Outcome::denied(&denied, cost, now),
        Err(Refused::Full(scale, ticks)) => Outcome::new(1, 0, 0, scale.until(ticks, now).max(1)),
    }
}

#[inline]
fn by_table(table: &Table, hash: u64, cost: u32, now: Timestamp) -> Outcome {
    match table.with(hash, now, |limits, states| set::charge(limits, states, hash, now, cost)) {
        Ok(outcome) => outcome,
        Err(Full(wait)) => Outcome::new(1, 0, 0, wait),
    }
}
