//! How far the end of the server has come, and who has to be told.
//!
//! ```text
//! Serving ──shutdown──▶ Draining ──deadline, or an abort──▶ Cut
//! ```

use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Waker};

use tokio::sync::watch;

use crate::{Drain, Draining};

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Stage {
    Serving,
    /// Nothing new is accepted; what is under way ends in order.
    Draining,
    /// What is left is dropped.
    Cut,
}

/// How many [`Drain`]s the connections are spread over: each request counts a reference to one, and workers that all
/// count in one place slow each other down.
const DRAINS: usize = 16;

/// The stage, and the sockets that are open.
pub(super) struct House {
    stage: AtomicU8,
    seats: Mutex<Seats>,
    drains: [Drain; DRAINS],
    next_drain: AtomicUsize,
    /// The same stage for the few who wait for nothing else.
    told: watch::Sender<Stage>,
    /// Whether all seats are free; looked at when the stage is no longer `Serving`.
    empty: watch::Sender<bool>,
}

/// Who sits where: the task to wake when the stage changes.
#[derive(Default)]
struct Seats {
    wakers: Vec<Option<Waker>>,
    free: Vec<usize>,
}

impl House {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self {
            stage: AtomicU8::new(Stage::Serving as u8),
            seats: Mutex::default(),
            drains: std::array::from_fn(|_| Drain::new()),
            next_drain: AtomicUsize::new(0),
            told: watch::Sender::new(Stage::Serving),
            empty: watch::Sender::new(true),
        })
    }

    pub(super) fn stage(&self) -> Stage {
        match self.stage.load(Ordering::Acquire) {
            0 => Stage::Serving,
            1 => Stage::Draining,
            _ => Stage::Cut,
        }
    }

    /// Goes on to `stage`; never back.
    pub(super) fn enter(&self, stage: Stage) {
        self.stage.fetch_max(stage as u8, Ordering::AcqRel);
        self.told.send_if_modified(|told| std::mem::replace(told, (*told).max(stage)) < stage);
        self.drains.iter().for_each(Drain::begin);
        let wakers: Vec<_> = self.seats().wakers.iter().flatten().cloned().collect();
        // Outside the lock: a waker is somebody else's code.
        wakers.into_iter().for_each(Waker::wake);
    }

    /// Completes once the stage is at least `stage`.
    pub(super) async fn reached(&self, stage: Stage) {
        // The sender lives as long as `self`.
        let _ = self.told.subscribe().wait_for(|told| *told >= stage).await;
    }

    /// Completes when no socket is open.
    pub(super) async fn emptied(&self) {
        let _ = self.empty.subscribe().wait_for(|empty| *empty).await;
    }

    /// How many sockets are open, those that were upgraded too.
    pub(super) fn taken(&self) -> usize {
        let seats = self.seats();
        seats.wakers.len() - seats.free.len()
    }

    pub(super) fn draining(&self) -> Draining {
        let drain = self.next_drain.fetch_add(1, Ordering::Relaxed) % DRAINS;
        self.drains[drain].draining()
    }

    /// A seat for one socket.
    pub(super) fn seat(self: &Arc<Self>) -> Seat {
        let mut seats = self.seats();
        let place = seats.free.pop().unwrap_or_else(|| {
            seats.wakers.push(None);
            seats.wakers.len() - 1
        });
        if seats.wakers.len() - seats.free.len() == 1 {
            self.empty.send_replace(false);
        }
        drop(seats);
        Seat { house: Arc::clone(self), place, waker: None }
    }

    fn seats(&self) -> MutexGuard<'_, Seats> {
        self.seats.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One open socket among those that the end of the server waits for.
pub(super) struct Seat {
    house: Arc<House>,
    place: usize,
    /// What is registered: the task that last waited.
    waker: Option<Waker>,
}

impl Seat {
    /// Whether the socket is to be dropped. The task of `cx` is woken when the stage changes.
    ///
    /// In the usual case this is two comparisons and a load: a connection keeps its task.
    pub(super) fn is_cut(&mut self, cx: &Context<'_>) -> bool {
        if !self.waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
            let former = self.house.seats().wakers[self.place].replace(cx.waker().clone());
            drop(former);
            self.waker = Some(cx.waker().clone());
        }
        // After the registration, so that a change in between is not missed.
        self.house.stage() == Stage::Cut
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut seats = self.house.seats();
        let waker = seats.wakers[self.place].take();
        seats.free.push(self.place);
        if seats.free.len() == seats.wakers.len() {
            // Under the lock, so that it cannot overtake a seat that is taken next.
            self.house.empty.send_replace(true);
        }
        drop(seats);
        drop(waker);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;
    use std::task::Wake;

    use super::*;

    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn who_sits_is_woken_by_each_stage_and_sees_it() {
        let house = House::new();
        let count = Arc::new(Count(AtomicUsize::new(0)));
        let waker = Waker::from(Arc::clone(&count));
        let cx = Context::from_waker(&waker);
        let mut seat = house.seat();
        let draining = house.draining();

        assert!(!seat.is_cut(&cx) && !draining.has_begun());
        house.enter(Stage::Draining);
        assert_eq!(count.0.load(Ordering::Relaxed), 1);
        assert!(!seat.is_cut(&cx) && draining.has_begun());
        house.enter(Stage::Cut);
        assert_eq!(count.0.load(Ordering::Relaxed), 2);
        assert!(seat.is_cut(&cx));
        house.enter(Stage::Draining);
        assert_eq!(house.stage(), Stage::Cut);
    }

    #[test]
    fn a_seat_that_was_left_is_taken_again_and_wakes_nobody() {
        let house = House::new();
        let count = Arc::new(Count(AtomicUsize::new(0)));
        let waker = Waker::from(Arc::clone(&count));
        let mut first = house.seat();
        let second = house.seat();
        first.is_cut(&Context::from_waker(&waker));

        drop(first);
        house.enter(Stage::Draining);
        assert_eq!(count.0.load(Ordering::Relaxed), 0);
        assert_eq!((house.taken(), *house.empty.borrow()), (1, false));
        let third = house.seat();
        assert_eq!(house.seats().wakers.len(), 2);
        drop((second, third));
        assert_eq!((house.taken(), *house.empty.borrow()), (0, true));
    }
}
