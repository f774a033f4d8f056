//! Who waits for which moment.

use std::collections::BTreeMap;
use std::task::Waker;

use crate::Timestamp;

/// The wakers of those who wait, the earliest first. The number keeps sleepers of the same moment apart.
#[derive(Debug, Default)]
pub(crate) struct Sleepers {
    last: u64,
    waiting: BTreeMap<(Timestamp, u64), Waker>,
}

impl Sleepers {
    pub(crate) const fn new() -> Self {
        Self { last: 0, waiting: BTreeMap::new() }
    }

    /// Lets `waker` wait for `deadline`, at the place that it has or is given. The waker that was there before is
    /// handed back, to be dropped when no lock is held.
    pub(crate) fn enter(
        &mut self,
        deadline: Timestamp,
        place: &mut Option<u64>,
        waker: Waker,
    ) -> Option<Waker> {
        let number = *place.get_or_insert_with(|| {
            self.last += 1;
            self.last
        });
        self.waiting.insert((deadline, number), waker)
    }

    /// Gives the place up. The waker is handed back, to be dropped when no lock is held.
    pub(crate) fn leave(&mut self, deadline: Timestamp, place: &mut Option<u64>) -> Option<Waker> {
        self.waiting.remove(&(deadline, place.take()?))
    }

    /// Whether `waker` waits at this place.
    pub(crate) fn knows(&self, deadline: Timestamp, place: Option<u64>, waker: &Waker) -> bool {
        place
            .and_then(|number| self.waiting.get(&(deadline, number)))
            .is_some_and(|known| known.will_wake(waker))
    }

    /// The earliest moment that somebody waits for.
    pub(crate) fn next(&self) -> Option<Timestamp> {
        self.waiting.first_key_value().map(|((at, _), _)| *at)
    }

    /// Takes out whose moment has come, to be woken when no lock is held.
    pub(crate) fn due(&mut self, now: Timestamp) -> impl Iterator<Item = Waker> + use<> {
        let later = self.waiting.split_off(&(now, u64::MAX));
        std::mem::replace(&mut self.waiting, later).into_values()
    }
}
