//! The calls that wait for their turn, in the order in which they go.
//!
//! Each has its turn from the store, and its own timer, so nobody waits for another to be polled. When one gives up,
//! those behind it move up by one, and the turn of the last goes back to the store:
//!
//! ```text
//!   turns   100   200   300   400            100   200   300   400
//!   calls    a     b     c     d    b gives up  a     c     d   (free)
//! ```

use std::collections::{HashMap, VecDeque};
use std::mem;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;
use std::time::Duration;

use buttress_core::Timestamp;

/// The lines of all keys in which somebody waits.
pub(crate) struct Lines<D>(Mutex<HashMap<u64, Line<D>>>);

type Line<D> = VecDeque<Arc<Place<D>>>;

/// A place in a line.
pub(crate) struct Place<D>(Mutex<Spot<D>>);

struct Spot<D> {
    turn: Turn<D>,
    cost: u32,
    came: Timestamp,
    waker: Option<Waker>,
}

/// When a call goes, by which decision.
pub(crate) struct Turn<D> {
    pub(crate) at: Timestamp,
    pub(crate) decision: D,
}

impl<D> Default for Lines<D> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<D> Lines<D> {
    /// Enters the line of `key`.
    pub(crate) fn enter(&self, key: u64, turn: Turn<D>, cost: u32, now: Timestamp) -> Arc<Place<D>> {
        let at = turn.at;
        let place = Arc::new(Place(Mutex::new(Spot { turn, cost, came: now, waker: None })));
        let mut lines = lock(&self.0);
        let line = lines.entry(key).or_default();
        // Whoever was charged later may be here sooner.
        let index = line.partition_point(|other| other.lock().turn.at <= at);
        line.insert(index, Arc::clone(&place));
        place
    }

    /// Leaves the line to go; says how long that took.
    pub(crate) fn leave(&self, key: u64, place: &Arc<Place<D>>) -> Duration {
        let mut lines = lock(&self.0);
        take_out(&mut lines, key, place);
        drop(lines);
        let spot = place.lock();
        spot.turn.at - spot.came
    }

    /// Leaves the line for good. Gives the place the turn that is free by it.
    pub(crate) fn give_up(&self, key: u64, place: &Arc<Place<D>>, now: Timestamp) {
        let mut moved = Vec::new();
        let mut lines = lock(&self.0);
        let index = take_out(&mut lines, key, place);
        let mut own = place.lock();
        // A turn that has come already is of no use to others, nor is one of another size.
        if let Some(line) = lines.get(&key)
            && own.turn.at > now
            && line.range(index..).all(|other| other.lock().cost == own.cost)
        {
            for other in line.range(index..) {
                let mut other = other.lock();
                mem::swap(&mut own.turn, &mut other.turn);
                moved.extend(other.waker.take());
            }
        }
        drop((own, lines));
        moved.into_iter().for_each(Waker::wake);
    }
}

/// Takes a place out of its line, and says where it was.
fn take_out<D>(lines: &mut HashMap<u64, Line<D>>, key: u64, place: &Arc<Place<D>>) -> usize {
    let Some(line) = lines.get_mut(&key) else { return 0 };
    let index = line.iter().position(|other| Arc::ptr_eq(other, place)).unwrap_or(line.len());
    line.remove(index);
    if line.is_empty() {
        lines.remove(&key);
    }
    index
}

impl<D> Place<D> {
    /// When the turn comes, as it is now.
    pub(crate) fn at(&self) -> Timestamp {
        self.lock().turn.at
    }

    /// When the turn comes, as it is now; `waker` is told when that changes.
    pub(crate) fn turn(&self, waker: &Waker) -> Timestamp {
        let spot = self.lock();
        if spot.waker.as_ref().is_some_and(|known| known.will_wake(waker)) {
            return spot.turn.at;
        }
        drop(spot);
        // Wakers are code of others: cloned and dropped outside the lock.
        let waker = waker.clone();
        let mut spot = self.lock();
        let old = spot.waker.replace(waker);
        let at = spot.turn.at;
        drop(spot);
        drop(old);
        at
    }

    /// What was charged for the turn.
    pub(crate) fn charged(&self) -> (D, u32)
    where
        D: Clone,
    {
        let spot = self.lock();
        (spot.turn.decision.clone(), spot.cost)
    }

    fn lock(&self) -> MutexGuard<'_, Spot<D>> {
        lock(&self.0)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
