use std::fmt;
use std::sync::Arc;

use super::event::NotMirrored;
use super::state::{Count, State};
use super::{MirrorEnd, MirrorError};

/// Reads and steers what a [`MirrorLayer`](crate::MirrorLayer) does, while its services serve.
#[derive(Clone)]
pub struct MirrorHandle(pub(super) Arc<State>);

/// What a mirror layer has done since it was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct MirrorCounts {
    /// Copies that went to the mirror.
    pub mirrored: u64,
    /// Of these, those that were answered, with whatever status.
    pub answered: u64,
    /// Those that failed.
    pub failed: u64,
    /// Those that took too long.
    pub timed_out: u64,
    /// Those that panicked.
    pub panicked: u64,
    /// Requests that were to be mirrored and were not, for whatever reason: [`MirrorHandle::not_mirrored`] has them by
    /// reason.
    pub not_mirrored: u64,
}

impl MirrorHandle {
    /// What the layer has done.
    #[must_use]
    pub fn counts(&self) -> MirrorCounts {
        let sum = |count: Count| self.0.sum(count);
        MirrorCounts {
            mirrored: sum(Count::Mirrored),
            answered: sum(Count::Answered),
            failed: sum(MirrorEnd::Failed.into()),
            timed_out: sum(MirrorEnd::TimedOut.into()),
            panicked: sum(MirrorEnd::Panicked.into()),
            not_mirrored: NotMirrored::ALL.iter().map(|reason| self.not_mirrored(*reason)).sum(),
        }
    }

    /// How many requests that were to be mirrored were not for this reason.
    #[must_use]
    pub fn not_mirrored(&self, reason: NotMirrored) -> u64 {
        self.0.dropped(reason)
    }

    /// How many are in flight now: those whose request is being read, and those that are with the mirror.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.0.in_flight()
    }

    /// The share of the requests that is mirrored.
    #[must_use]
    pub fn sample(&self) -> f64 {
        self.0.sample()
    }

    /// Mirrors this share of the requests from now on. By key, those that were mirrored still are when it grows.
    ///
    /// # Errors
    ///
    /// When it is not from 0 to 1.
    pub fn set_sample(&self, share: f64) -> Result<(), MirrorError> {
        self.0.set_sample(share)
    }
}

impl fmt::Debug for MirrorHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MirrorHandle")
            .field("name", &self.0.rules.name)
            .field("sample", &self.sample())
            .field("in_flight", &self.in_flight())
            .finish_non_exhaustive()
    }
}
