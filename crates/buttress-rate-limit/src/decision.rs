use std::time::Duration;

use buttress_core::{Decided, Timestamp};

use crate::set::{NEVER, Outcome};

/// What [`Memory`](crate::Memory) has decided on a call.
///
/// It knows whose budget was charged and how much, so that the charge can be corrected, and what is left be
/// reported, as long as it is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decision {
    /// The key's, where it is keyed.
    pub(crate) hash: u64,
    pub(crate) at: Timestamp,
    pub(crate) cost: u32,
    pub(crate) plan: u16,
    pub(crate) keyed: bool,
    /// Of the plan, when the call was decided.
    pub(crate) epoch: u8,
    pub(crate) outcome: Outcome,
}

impl Decided for Decision {
    #[inline]
    fn admitted(&self) -> bool {
        self.outcome.admitted()
    }

    #[inline]
    fn delay(&self) -> Duration {
        // Most often there is none, and nothing to compute.
        if self.outcome.wait() == 0 || !self.admitted() {
            return Duration::ZERO;
        }
        Duration::from_nanos(self.outcome.wait())
    }

    fn retry_after(&self) -> Option<Duration> {
        let wait = self.outcome.wait();
        (!self.admitted() && wait < NEVER).then(|| Duration::from_nanos(wait))
    }

    fn never(&self) -> bool {
        !self.admitted() && self.outcome.wait() == NEVER
    }

    fn binding(&self) -> usize {
        self.outcome.binding().into()
    }

    fn violates(&self, index: usize) -> bool {
        bit(self.outcome.refused(), index)
    }

    #[inline]
    fn violations(&self) -> u32 {
        self.outcome.refused().into()
    }

    fn shadowed(&self, index: usize) -> bool {
        bit(self.outcome.shadowed(), index)
    }

    #[inline]
    fn any_shadowed(&self) -> bool {
        self.outcome.shadowed() != 0
    }
}

fn bit(bits: u16, index: usize) -> bool {
    index < u16::BITS as usize && bits & 1 << index != 0
}
