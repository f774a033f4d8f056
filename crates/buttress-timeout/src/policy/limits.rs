//! Which of three limits ends a call first.
//!
//! ```text
//!   call            head            frame    frame          end
//!    |---------------|...............|........|..............|
//!    |<--- head ---->|   |<- idle ->|  (only while the reader waits)
//!    |<----------------------- total ----------------------->|
//! ```

use std::time::Duration;

use buttress_core::Timestamp;

/// The limits of one layer; [`Duration::MAX`] is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Limits {
    pub(crate) head: Duration,
    pub(crate) idle: Duration,
    pub(crate) total: Duration,
}

/// The limit that ended a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    Head,
    Idle,
    Total,
}

/// When a wait ends, and by which limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Due {
    /// [`Timestamp::MAX`] is never.
    pub(crate) at: Timestamp,
    pub(crate) by: Phase,
}

impl Due {
    /// The earlier of two; the first when they are the same.
    fn or(self, other: Self) -> Self {
        if other.at < self.at { other } else { self }
    }
}

impl Limits {
    /// No limit at all.
    pub(crate) const NONE: Self = Self { head: Duration::MAX, idle: Duration::MAX, total: Duration::MAX };

    /// When a call that began at `start`, and whose total time is over at `end`, must have its response head.
    pub(crate) fn until_head(&self, start: Timestamp, end: Timestamp) -> Due {
        Due { at: start + self.head, by: Phase::Head }.or(Due { at: end, by: Phase::Total })
    }

    /// When the reader, who has waited for the body since `waiting`, waits no longer.
    pub(crate) fn until_frame(&self, waiting: Timestamp, end: Timestamp) -> Due {
        Due { at: end, by: Phase::Total }.or(Due { at: waiting + self.idle, by: Phase::Idle })
    }

    /// When a call that began at `start` must be over; never for one that streams.
    pub(crate) fn end(&self, start: Timestamp, streaming: bool) -> Timestamp {
        if streaming { Timestamp::MAX } else { start + self.total }
    }

    /// The limit that `phase` names.
    pub(crate) fn of(&self, phase: Phase) -> Duration {
        match phase {
            Phase::Head => self.head,
            Phase::Idle => self.idle,
            Phase::Total => self.total,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn the_shorter_of_head_and_total_ends_the_wait_for_the_head() {
        let limits = Limits { head: 2 * SECOND, total: 3 * SECOND, ..Limits::NONE };
        let start = Timestamp::ZERO + SECOND;

        let due = limits.until_head(start, limits.end(start, false));
        assert_eq!(due, Due { at: start + 2 * SECOND, by: Phase::Head });

        let limits = Limits { total: SECOND, ..limits };
        let due = limits.until_head(start, limits.end(start, false));
        assert_eq!(due, Due { at: start + SECOND, by: Phase::Total });
    }

    #[test]
    fn what_streams_has_no_end() {
        let limits = Limits { total: SECOND, ..Limits::NONE };

        assert_eq!(limits.end(Timestamp::ZERO, true), Timestamp::MAX);
    }

    #[test]
    fn no_limit_and_an_endless_one_are_never() {
        let start = Timestamp::from_nanos(7);

        assert_eq!(Limits::NONE.end(start, false), Timestamp::MAX);
        assert_eq!(Limits::NONE.until_head(start, Timestamp::MAX).at, Timestamp::MAX);
        assert_eq!(Limits::NONE.until_frame(Timestamp::MAX, Timestamp::MAX).at, Timestamp::MAX);
    }

    #[test]
    fn the_wait_for_a_frame_ends_by_idle_or_by_what_is_left_of_total() {
        let limits = Limits { idle: 5 * SECOND, ..Limits::NONE };
        let waiting = Timestamp::ZERO + 10 * SECOND;

        let never = limits.until_frame(waiting, Timestamp::MAX);
        assert_eq!(never, Due { at: waiting + 5 * SECOND, by: Phase::Idle });
        let soon = limits.until_frame(waiting, waiting + SECOND);
        assert_eq!(soon, Due { at: waiting + SECOND, by: Phase::Total });
    }
}
