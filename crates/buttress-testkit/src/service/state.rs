//! What all instances of a strict service share.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::Waker;

pub(super) struct Shared<E>(Arc<Mutex<State<E>>>);

impl<E> Shared<E> {
    pub(super) fn new() -> Self {
        Self(Arc::new(Mutex::new(State::new())))
    }

    /// Our own code never panics under this lock; a poisoned one still holds a good state.
    pub(super) fn lock(&self) -> MutexGuard<'_, State<E>> {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl<E> Clone for Shared<E> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

pub(super) struct State<E> {
    pub(super) ready: bool,
    /// Grants that nobody has taken.
    pub(super) spare: usize,
    pub(super) held: bool,
    pub(super) panic_in_ready: bool,
    pub(super) ready_errors: VecDeque<E>,
    pub(super) scripts: VecDeque<Script<E>>,
    pub(super) instances: Waiters,
    pub(super) calls: Waiters,
    pub(super) next_id: u64,
    pub(super) counts: Counts,
}

pub(super) enum Script<E> {
    Fail(E),
    PanicInCall,
    PanicInFuture,
}

#[derive(Debug, Default)]
pub(super) struct Counts {
    pub(super) clones: usize,
    pub(super) polls: usize,
    pub(super) calls: usize,
    pub(super) in_flight: usize,
    pub(super) finished: usize,
    pub(super) abandoned: usize,
    pub(super) reserved: usize,
    pub(super) alive: usize,
    pub(super) unready_calls: usize,
}

impl<E> State<E> {
    fn new() -> Self {
        Self {
            ready: true,
            spare: 0,
            held: false,
            panic_in_ready: false,
            ready_errors: VecDeque::new(),
            scripts: VecDeque::new(),
            instances: Waiters::default(),
            calls: Waiters::default(),
            next_id: 0,
            counts: Counts::default(),
        }
    }

    pub(super) fn new_id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }

    pub(super) fn new_instance(&mut self) -> u64 {
        self.counts.alive += 1;
        self.new_id()
    }

    pub(super) fn admit(&mut self, id: u64) -> bool {
        if self.instances.granted.contains(&id) || self.ready {
            self.instances.leave(id);
            return true;
        }
        // Who comes late does not overtake who waits.
        let first = self.instances.queue.front().is_none_or(|(waiting, _)| *waiting == id);
        if first && self.spare > 0 {
            self.spare -= 1;
            self.instances.leave(id);
            return true;
        }
        false
    }

    pub(super) fn grant(&mut self) -> Option<Waker> {
        let next = self.instances.grant();
        if next.is_none() {
            self.spare += 1;
        }
        next
    }
}

/// Who waits, oldest first, and who was let through but has not come back yet.
#[derive(Default)]
pub(super) struct Waiters {
    pub(super) queue: VecDeque<(u64, Option<Waker>)>,
    pub(super) granted: Vec<u64>,
}

impl Waiters {
    pub(super) fn wait(&mut self, id: u64, waker: &Waker) {
        match self.queue.iter_mut().find(|(waiting, _)| *waiting == id) {
            Some((_, slot)) => *slot = Some(waker.clone()),
            None => self.queue.push_back((id, Some(waker.clone()))),
        }
    }

    pub(super) fn grant(&mut self) -> Option<Waker> {
        let (id, waker) = self.queue.pop_front()?;
        self.granted.push(id);
        waker
    }

    /// Forgets `id`; says whether it had been granted.
    pub(super) fn leave(&mut self, id: u64) -> bool {
        self.queue.retain(|(waiting, _)| *waiting != id);
        let before = self.granted.len();
        self.granted.retain(|granted| *granted != id);
        self.granted.len() != before
    }
}
