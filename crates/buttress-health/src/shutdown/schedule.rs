//! When each stage begins. A pure function of what has happened.

use std::time::Duration;

use buttress_core::Timestamp;

/// How far a [`Shutdown`](crate::Shutdown) has come. It only goes forward.
///
/// ```text
///           begin             pre-drain              grace
/// Serving ────────► PreDrain ───────────► Draining ──────────► Aborting
///              │                             │                    ▲
///              └─────────────────────────────┴────────────────────┘
///                               abort, a second signal
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Stage {
    /// It has not begun.
    Serving,
    /// The service says that it is not ready, and goes on serving until everyone has heard that.
    PreDrain,
    /// No connection is accepted any more; those that are open end their requests.
    Draining,
    /// What is still open is cut off.
    Aborting,
}

/// What has happened, and how long the stages are.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Schedule {
    pub(crate) pre_drain: Duration,
    pub(crate) grace: Duration,
    pub(crate) begun: Option<Timestamp>,
    pub(crate) aborted: bool,
}

impl Schedule {
    /// When no connection is accepted any more; never, while the shutdown has not begun.
    pub(crate) fn stop_accepting_at(&self) -> Timestamp {
        match self.begun {
            _ if self.aborted => Timestamp::ZERO,
            Some(begun) => begun.saturating_add(self.pre_drain),
            None => Timestamp::MAX,
        }
    }

    /// When what is open is cut off; never, while the shutdown has not begun.
    pub(crate) fn abort_at(&self) -> Timestamp {
        self.stop_accepting_at().saturating_add(if self.aborted { Duration::ZERO } else { self.grace })
    }

    pub(crate) fn stage(&self, now: Timestamp) -> Stage {
        // The end of time is never.
        let has_come = |moment: Timestamp| moment != Timestamp::MAX && now >= moment;
        if has_come(self.abort_at()) {
            Stage::Aborting
        } else if has_come(self.stop_accepting_at()) {
            Stage::Draining
        } else if self.begun.is_some() {
            Stage::PreDrain
        } else {
            Stage::Serving
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn at(seconds: u64) -> Timestamp {
        Timestamp::ZERO.saturating_add(Duration::from_secs(seconds))
    }

    fn begun(pre_drain: Duration, grace: Duration) -> Schedule {
        Schedule { pre_drain, grace, begun: Some(at(100)), aborted: false }
    }

    #[test]
    fn each_stage_begins_when_the_one_before_is_over() {
        let schedule = begun(5 * SECOND, 30 * SECOND);

        let stages = [100, 104, 105, 134, 135].map(|seconds| schedule.stage(at(seconds)));

        use Stage::*;
        assert_eq!(stages, [PreDrain, PreDrain, Draining, Draining, Aborting]);
    }

    #[test]
    fn what_has_not_begun_serves_for_ever() {
        let schedule = Schedule { begun: None, ..begun(SECOND, SECOND) };

        assert_eq!(schedule.stage(Timestamp::MAX), Stage::Serving);
    }

    #[test]
    fn an_abort_leaves_the_rest_out() {
        let schedule = Schedule { aborted: true, ..begun(5 * SECOND, 30 * SECOND) };

        assert_eq!(schedule.stage(at(100)), Stage::Aborting);
    }

    #[test]
    fn no_time_and_all_the_time_are_ordinary() {
        assert_eq!(begun(Duration::ZERO, Duration::ZERO).stage(at(100)), Stage::Aborting);
        assert_eq!(begun(Duration::ZERO, Duration::MAX).stage(Timestamp::MAX), Stage::Draining);
        assert_eq!(begun(Duration::MAX, Duration::ZERO).stage(Timestamp::MAX), Stage::PreDrain);
    }
}
