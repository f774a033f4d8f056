//! One set of limits, and the state that is held under it.

use std::sync::{Arc, OnceLock, PoisonError};

use buttress_core::{Quota, Timestamp};

use crate::WhenFull;
use crate::decision::Decision;
use crate::policy::{CarryOver, Limit, LimitError, LimitState};
use crate::set::{self, Outcome};
use crate::sync::{Mutex, MutexGuard};
use crate::table::{Full, Table};

#[derive(Debug)]
pub(crate) struct Plan {
    /// The limits as they are now. Whoever changes them holds the lock until the states are changed too.
    limits: Mutex<Arc<[Limit]>>,
    /// The state of calls without a key: a table of its own, whose first slot is never left.
    one: Table,
    table: OnceLock<Table>,
    capacity: usize,
    when_full: WhenFull,
}

impl Plan {
    pub(crate) fn new(limits: &[Limit], capacity: usize, when_full: WhenFull) -> Self {
        let limits: Arc<[Limit]> = limits.into();
        let one = Table::new(&limits, 1, WhenFull::default());
        Self { limits: Mutex::new(limits), one, table: OnceLock::new(), capacity, when_full }
    }

    pub(crate) fn limits(&self) -> Arc<[Limit]> {
        Arc::clone(&self.lock())
    }

    fn lock(&self) -> MutexGuard<'_, Arc<[Limit]>> {
        self.limits.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The table, made when it is first asked for.
    #[inline]
    pub(crate) fn table(&self) -> &Table {
        match self.table.get() {
            Some(table) => table,
            None => self.make(),
        }
    }

    #[cold]
    fn make(&self) -> &Table {
        // Under the lock, so that a change of the limits does not miss a table that is just being made.
        let limits = self.lock();
        self.table.get_or_init(|| Table::new(&limits, self.capacity, self.when_full))
    }

    /// Gives `change` the limits and the states of the key with this hash, or those of calls without one.
    #[inline]
    fn with<T>(
        &self,
        hash: Option<u64>,
        now: Timestamp,
        change: impl FnOnce(&[Limit], &mut [LimitState]) -> T,
    ) -> Result<T, Full> {
        match hash {
            None => self.one.with(0, now, change),
            Some(hash) => self.table().with(hash, now, change),
        }
    }

    #[inline]
    pub(crate) fn charge(&self, hash: Option<u64>, cost: u32, now: Timestamp) -> Outcome {
        self.with(hash, now, |limits, states| set::charge(limits, states, hash.unwrap_or(0), now, cost))
            .unwrap_or_else(|Full(wait)| Outcome { refused: 1, wait, ..Outcome::ADMITTED })
    }

    pub(crate) fn settle(&self, decision: &Decision, actual: u32, now: Timestamp) {
        let Decision { hash, at, cost, outcome, .. } = *decision;
        // Where there is no place, there is nothing to correct.
        let _: Result<(), Full> = self.with(decision.hash(), now, |limits, states| {
            set::settle(limits, states, hash, (at, outcome.wait, cost), outcome.shadowed, actual, now);
        });
    }

    pub(crate) fn quotas(&self, decision: &Decision, report: &mut dyn FnMut(Quota)) {
        let Decision { hash, at, .. } = *decision;
        let _: Result<(), Full> = self.with(decision.hash(), at, |limits, states| {
            set::quotas(limits, states, hash, at, report);
        });
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

        let carry = |old: &[Limit], states: &mut [LimitState], hash| {
            states[index] = rule.carry(&old[index], &states[index], &new[index], hash, now);
        };
        self.one.change(&new, carry);
        if let Some(table) = self.table.get() {
            table.change(&new, carry);
        }
        *limits = new;
        Ok(())
    }

    pub(crate) fn keys(&self, now: Timestamp) -> usize {
        self.one.keys(now) + self.table.get().map_or(0, |table| table.keys(now))
    }

    pub(crate) fn evicted(&self) -> u64 {
        self.table.get().map_or(0, Table::evicted)
    }

    pub(crate) fn crowded(&self) -> u64 {
        self.table.get().map_or(0, Table::crowded)
    }

    pub(crate) fn clear(&self) {
        self.one.clear();
        if let Some(table) = self.table.get() {
            table.clear();
        }
    }
}
