//! The calls that wait for their turn, in the order in which they go.
//!
//! Places and turns are two lists: who has so many before it has the turn with so many before it. When a call gives
//! up, its place goes and so does the last turn, back to the store; everyone behind it moves up by that alone:
//!
//! ```text
//!   turns   100   200   300   400            100   200   300   400
//!   calls    a     b     c     d    b gives up  a     c     d   (free)
//! ```
//!
//! Each has its own timer, which ends at its turn or later: turns only move forward. The next one behind is told at
//! once that its turn is another, whoever is behind that when the one before it goes. So nobody waits for another to be
//! polled for longer than it was to wait anyway, and a thousand that give up wake a thousand, not a million.
//!
//! Every key has a line of its own, under a lock of its own that is held for O(log n) steps. What all share are the
//! maps in which lines are found, and these are held for a look.

use std::collections::HashMap;
use std::mem;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;
use std::time::Duration;

use buttress_core::Timestamp;

use crate::ranked::Ranked;

const SHARDS: usize = 16;

/// The lines of all keys in which somebody waits.
pub(crate) struct Lines<D>([Mutex<Shard<D>>; SHARDS]);

type Shard<D> = HashMap<u64, Arc<Line<D>>>;

type Line<D> = Mutex<Waiting<D>>;

/// A place in a line, which is [left](Lines::leave) or [given up](Lines::give_up).
pub(crate) struct Place<D> {
    key: u64,
    line: Arc<Line<D>>,
    /// Where the waiter is in the list. Written under the line's lock.
    slot: Arc<AtomicUsize>,
}

/// Who waits, and the turns there are: as many.
struct Waiting<D> {
    waiters: Ranked<Waiter>,
    turns: Ranked<Turn<D>>,
    /// All waiters from this slot on have the same cost.
    same_from: usize,
}

struct Waiter {
    slot: Arc<AtomicUsize>,
    cost: u32,
    came: Timestamp,
    /// When its turn comes, as far as it knows.
    told: Timestamp,
    waker: Option<Waker>,
}

/// When a call goes, by which decision.
pub(crate) struct Turn<D> {
    pub(crate) at: Timestamp,
    pub(crate) decision: D,
}

/// A call that goes.
pub(crate) struct Gone<D> {
    pub(crate) decision: D,
    pub(crate) cost: u32,
    pub(crate) waited: Duration,
}

impl<D> Default for Lines<D> {
    fn default() -> Self {
        Self(Default::default())
    }
}

impl<D> Lines<D> {
    /// Enters the line of `key`.
    pub(crate) fn enter(&self, key: u64, turn: Turn<D>, cost: u32, now: Timestamp) -> Place<D> {
        let line = Arc::clone(lock(self.shard(key)).entry(key).or_default());
        let slot = Arc::new(AtomicUsize::new(0));
        let waiter = Waiter { slot: Arc::clone(&slot), cost, came: now, told: turn.at, waker: None };
        lock(&line).enter(waiter, turn);
        Place { key, line, slot }
    }

    /// Leaves the line to go.
    pub(crate) fn leave(&self, place: Place<D>) -> Gone<D> {
        let mut line = lock(&place.line);
        let (waiter, rank) = line.take_out(&place);
        let Turn { at, decision } = line.turns.remove_nth(rank);
        let woken = line.next_at(rank);
        drop(line);
        wake(woken);
        self.release(place);
        Gone { decision, cost: waiter.cost, waited: at - waiter.came }
    }

    /// Leaves the line for good. Says which turn is free by it.
    pub(crate) fn give_up(&self, place: Place<D>, now: Timestamp) -> D {
        let mut line = lock(&place.line);
        let same = place.slot.load(Ordering::Relaxed) >= line.same_from;
        let (waiter, rank) = line.take_out(&place);
        // A turn that has come already is of no use to others, nor is one of another size.
        let moves = same && line.turns.nth(rank).at > now;
        let free = if moves { line.turns.len() - 1 } else { rank };
        let turn = line.turns.remove_nth(free);
        let woken = line.next_at(rank);
        drop(line);
        wake(woken);
        // A waker is code of others.
        drop(waiter);
        self.release(place);
        turn.decision
    }

    /// Gives everyone who waits the turn that `renew` makes of the old one, in the order of the lines.
    pub(crate) fn renew(&self, mut renew: impl FnMut(&D) -> Option<Turn<D>>) {
        for shard in &self.0 {
            let lines: Vec<_> = lock(shard).iter().map(|(key, line)| (*key, Arc::clone(line))).collect();
            for (key, line) in lines {
                let mut woken = Vec::new();
                let mut waiting = lock(&line);
                for turn in waiting.turns.iter_mut() {
                    if let Some(new) = renew(&turn.decision) {
                        *turn = new;
                    }
                }
                for waiter in waiting.waiters.iter_mut() {
                    woken.extend(waiter.waker.take());
                }
                drop(waiting);
                wake(woken);
                self.release(Place { key, line, slot: Arc::default() });
            }
        }
    }

    /// Forgets a line that nobody is in. Whoever holds a line lets it go under this lock, so the last one sees it.
    fn release(&self, place: Place<D>) {
        let Place { key, line, .. } = place;
        let mut shard = lock(self.shard(key));
        drop(line);
        if shard.get(&key).is_some_and(|line| Arc::strong_count(line) == 1) {
            shard.remove(&key);
        }
    }

    fn shard(&self, key: u64) -> &Mutex<Shard<D>> {
        &self.0[key as usize % SHARDS]
    }
}

impl<D> Default for Waiting<D> {
    fn default() -> Self {
        Self { waiters: Ranked::default(), turns: Ranked::default(), same_from: 0 }
    }
}

impl<D> Waiting<D> {
    fn enter(&mut self, waiter: Waiter, turn: Turn<D>) {
        let Self { waiters, turns, same_from } = self;
        if waiters.is_sparse() {
            let mut same = waiters.len();
            let first = *same_from;
            waiters.compact(|new, old, waiter| {
                waiter.slot.store(new, Ordering::Relaxed);
                if old >= first {
                    same = same.min(new);
                }
            });
            *same_from = same;
        }
        if turns.is_sparse() {
            turns.compact(|_, _, _| {});
        }

        let (at, cost) = (turn.at, waiter.cost);
        let end = waiters.len();
        let same = end == 0 || waiters.nth(end - 1).cost == cost;
        let slot = waiters.push(waiter);
        waiters.nth(end).slot.store(slot, Ordering::Relaxed);
        turns.push(turn);
        if !same {
            *same_from = slot;
        }
        // Whoever was charged later may be here sooner.
        let mut rank = end;
        while rank > 0 && turns.nth(rank - 1).at > at {
            turns.swap(rank - 1, rank);
            waiters.swap(rank - 1, rank);
            for rank in [rank - 1, rank] {
                let slot = waiters.slot(rank);
                waiters.nth(rank).slot.store(slot, Ordering::Relaxed);
            }
            if waiters.nth(rank).cost != cost {
                *same_from = slot;
            }
            rank -= 1;
        }
    }

    /// Takes a waiter out, and says how many are before it.
    fn take_out(&mut self, place: &Place<D>) -> (Waiter, usize) {
        let slot = place.slot.load(Ordering::Relaxed);
        let rank = self.waiters.rank(slot);
        (self.waiters.remove(slot), rank)
    }

    /// Whom to wake of those who have so many before them: the first, where its turn is another than it knows.
    fn next_at(&mut self, rank: usize) -> Option<Waker> {
        if rank == self.waiters.len() {
            return None;
        }
        let at = self.turns.nth(rank).at;
        let waiter = self.waiters.nth_mut(rank);
        if waiter.told == at { None } else { waiter.waker.take() }
    }

    /// The turn of a waiter, which it knows then.
    fn tell(&mut self, slot: usize) -> (Timestamp, &mut Option<Waker>) {
        let at = self.turns.nth(self.waiters.rank(slot)).at;
        let waiter = self.waiters.at_mut(slot);
        waiter.told = at;
        (at, &mut waiter.waker)
    }
}

impl<D> Place<D> {
    /// When the turn comes, as it is now.
    pub(crate) fn at(&self) -> Timestamp {
        self.with(|at, _| at)
    }

    /// When the turn comes, as it is now; `waker` is told when that changes.
    pub(crate) fn turn(&self, waker: &Waker) -> Timestamp {
        let known =
            self.with(|at, known| known.as_ref().is_some_and(|known| known.will_wake(waker)).then_some(at));
        if let Some(at) = known {
            return at;
        }
        // Wakers are code of others: cloned and dropped outside the lock.
        let mut waker = Some(waker.clone());
        self.with(|at, known| {
            mem::swap(known, &mut waker);
            at
        })
    }

    fn with<T>(&self, f: impl FnOnce(Timestamp, &mut Option<Waker>) -> T) -> T {
        let mut line = lock(&self.line);
        let (at, waker) = line.tell(self.slot.load(Ordering::Relaxed));
        f(at, waker)
    }
}

fn wake(wakers: impl IntoIterator<Item = Waker>) {
    wakers.into_iter().for_each(Waker::wake);
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
