use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use buttress_core::{Chance, Clock, Counters, Name};

use super::MirrorError;
use super::event::{MirrorEnd, MirrorEvent, NotMirrored};
use super::shadow::Launch;
use crate::Hashing;
use crate::hash::fold;

/// What the services of one layer share, and the requests that are being mirrored.
pub(crate) struct State {
    pub(crate) rules: Rules,
    pub(crate) shadow: Arc<dyn Launch>,
    /// See [`bound`].
    bound: AtomicU64,
    chance: Chance,
    in_flight: AtomicUsize,
    counts: Counters<{ Count::Answered as usize + 1 + NotMirrored::ALL.len() }>,
}

#[derive(Clone)]
pub(crate) struct Rules {
    pub(crate) name: Name,
    pub(crate) clock: Clock,
    pub(crate) hashing: Hashing,
    pub(crate) sample: f64,
    pub(crate) seed: Option<u64>,
    pub(crate) in_flight: usize,
    pub(crate) body_limit: usize,
    pub(crate) timeout: Duration,
    pub(crate) safe_only: bool,
    pub(crate) shadow_host: bool,
    pub(crate) observer: Option<Observer>,
}

pub(crate) type Observer = Arc<dyn Fn(&MirrorEvent<'_>) + Send + Sync>;

#[derive(Clone, Copy)]
pub(crate) enum Count {
    Mirrored,
    Failed,
    TimedOut,
    Panicked,
    Answered,
}

impl From<MirrorEnd> for Count {
    fn from(end: MirrorEnd) -> Self {
        match end {
            MirrorEnd::Answered(_) => Self::Answered,
            MirrorEnd::Failed => Self::Failed,
            MirrorEnd::TimedOut => Self::TimedOut,
            MirrorEnd::Panicked => Self::Panicked,
        }
    }
}

/// The first hash outside of a share of all; the last one stands for all.
fn bound(share: f64) -> Result<u64, MirrorError> {
    if !(0.0..=1.0).contains(&share) {
        return Err(MirrorError::new("sample", share, "must be from 0 to 1"));
    }
    // It saturates, so that 1 is all.
    Ok((share * 2.0_f64.powi(64)) as u64)
}

/// Sets the sample apart from all else that the hash of a key decides, a split or a ring below.
const APART: (u64, u64) = (0x6d69_7272_6f72_0001, 0x9fb2_1c65_1e98_df25);

impl State {
    pub(crate) fn new(rules: Rules, shadow: Arc<dyn Launch>) -> Result<Self, MirrorError> {
        if rules.in_flight == 0 {
            let rule = "must be at least 1; `.sample(0.0)` mirrors none";
            return Err(MirrorError::new("in_flight", rules.in_flight, rule));
        }
        if rules.timeout.is_zero() {
            return Err(MirrorError::new(
                "timeout",
                rules.timeout,
                "must be longer than zero, or no copy is answered",
            ));
        }
        Ok(Self {
            bound: AtomicU64::new(bound(rules.sample)?),
            chance: Chance::new(rules.seed),
            rules,
            shadow,
            in_flight: AtomicUsize::new(0),
            counts: Counters::new(),
        })
    }

    /// Whether a request is mirrored whose key has this hash.
    #[inline]
    pub(crate) fn samples(&self, hash: impl FnOnce() -> Option<u64>) -> bool {
        match self.bound.load(Ordering::Relaxed) {
            0 => false,
            u64::MAX => true,
            bound => hash().map_or_else(|| self.chance.draw(), |hash| fold(hash ^ APART.0, APART.1)) < bound,
        }
    }

    pub(crate) fn sample(&self) -> f64 {
        self.bound.load(Ordering::Relaxed) as f64 / 2.0_f64.powi(64)
    }

    pub(crate) fn set_sample(&self, share: f64) -> Result<(), MirrorError> {
        self.bound.store(bound(share)?, Ordering::Relaxed);
        Ok(())
    }

    /// A place for one more, unless as many as may be are in flight.
    pub(crate) fn place(self: &Arc<Self>) -> Option<Place> {
        let most = self.rules.in_flight;
        let one_more = |present: usize| (present < most).then_some(present + 1);
        let taken = self.in_flight.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more);
        taken.is_ok().then(|| Place(Arc::clone(self)))
    }

    pub(crate) fn in_flight(&self) -> usize {
        self.in_flight.load(Ordering::Relaxed)
    }

    pub(crate) fn mirrored(&self) {
        self.counts.add_one(Count::Mirrored as usize);
        self.tell(|policy| MirrorEvent::Mirrored { policy });
    }

    pub(crate) fn ended(&self, end: MirrorEnd) {
        self.counts.add_one(Count::from(end) as usize);
        self.tell(|policy| MirrorEvent::Ended { policy, end });
    }

    pub(crate) fn drops(&self, reason: NotMirrored) {
        self.counts.add_one(Count::Answered as usize + 1 + reason as usize);
        self.tell(|policy| MirrorEvent::NotMirrored { policy, reason });
    }

    pub(crate) fn sum(&self, count: Count) -> u64 {
        self.counts.sum(count as usize)
    }

    pub(crate) fn dropped(&self, reason: NotMirrored) -> u64 {
        self.counts.sum(Count::Answered as usize + 1 + reason as usize)
    }

    fn tell<'a>(&'a self, event: impl FnOnce(&'a Name) -> MirrorEvent<'a>) {
        if let Some(observer) = &self.rules.observer {
            observer(&event(&self.rules.name));
        }
    }
}

/// The place of one among those in flight, given back when it is dropped.
pub(crate) struct Place(Arc<State>);

impl Place {
    pub(crate) fn state(&self) -> &Arc<State> {
        &self.0
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}
