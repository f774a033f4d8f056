//! Which of the limits ends a call first.
//!
//! ```text
//!   call         request sent      head        frame    frame          end
//!    |---.....---------|------------|............|........|..............|
//!    |<- upload ->|    |<-- head -->|            |<- idle ->|  (only while the reader waits)
//!    |<------------------------------ total ---------------------------->|
//! ```
//!
//! Without an upload limit the request counts as sent when the call begins.

use std::time::Duration;

use buttress_core::Timestamp;

/// The limits of one layer; [`Duration::MAX`] is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Limits {
    pub(crate) upload: Duration,
    pub(crate) head: Duration,
    pub(crate) idle: Duration,
    pub(crate) total: Duration,
}

/// How far a request has got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    /// The inner service has yet to ask for the next frame of the request.
    Held,
    /// The inner service waits for the client to send the next frame.
    Awaited,
    /// The inner service has the whole request, or has let go of the rest.
    Sent,
}

/// The limit that ended a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    Upload {
        /// Whether the client was waited for.
        client: bool,
    },
    Head,
    Idle,
    Total,
    /// Not the layer's limit, but the caller's.
    Deadline,
}

/// A limit that runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(unnameable_types, reason = "the sealed traits of the modes pass it on")]
pub struct Due {
    pub(crate) since: Timestamp,
    /// [`Timestamp::MAX`] is never.
    pub(crate) at: Timestamp,
    pub(crate) by: Phase,
}

impl Due {
    pub(crate) fn new(by: Phase, since: Timestamp, limit: Duration) -> Self {
        Self { since, at: since + limit, by }
    }

    /// The earlier of two; the first when they are the same.
    fn or(self, other: Self) -> Self {
        if other.at < self.at { other } else { self }
    }
}

impl Limits {
    /// No limit at all.
    pub(crate) const NONE: Self =
        Self { upload: Duration::MAX, head: Duration::MAX, idle: Duration::MAX, total: Duration::MAX };

    /// When a call whose request has been in `stage` since `since` must have its response head, or get on; `end` is when
    /// it must be over.
    pub(crate) fn until_head(&self, stage: Stage, since: Timestamp, end: Due) -> Due {
        match stage {
            Stage::Held => Due::new(Phase::Upload { client: false }, since, self.upload),
            Stage::Awaited => Due::new(Phase::Upload { client: true }, since, self.upload),
            Stage::Sent => Due::new(Phase::Head, since, self.head),
        }
        .or(end)
    }

    /// When the reader, who has waited for the body since `waiting`, waits no longer.
    pub(crate) fn until_frame(&self, waiting: Timestamp, end: Due) -> Due {
        end.or(Due::new(Phase::Idle, waiting, self.idle))
    }

    /// When a call that began at `start` must be over; never for one that streams.
    pub(crate) fn end(&self, start: Timestamp, streaming: bool) -> Due {
        Due::new(Phase::Total, start, if streaming { Duration::MAX } else { self.total })
    }

    /// The limit that `phase` names.
    pub(crate) fn of(&self, phase: Phase) -> Duration {
        match phase {
            Phase::Upload { .. } => self.upload,
            Phase::Head => self.head,
            Phase::Idle => self.idle,
            Phase::Total => self.total,
            Phase::Deadline => Duration::MAX,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);
    const NEVER: Due = Due { since: Timestamp::ZERO, at: Timestamp::MAX, by: Phase::Total };

    #[test]
    fn the_shorter_of_head_and_total_ends_the_wait_for_the_head() {
        let limits = Limits { head: 2 * SECOND, total: 3 * SECOND, ..Limits::NONE };
        let start = Timestamp::ZERO + SECOND;

        let due = limits.until_head(Stage::Sent, start, limits.end(start, false));
        assert_eq!(due, Due::new(Phase::Head, start, 2 * SECOND));

        let limits = Limits { total: SECOND, ..limits };
        let due = limits.until_head(Stage::Sent, start, limits.end(start, false));
        assert_eq!(due, Due::new(Phase::Total, start, SECOND));
    }

    #[test]
    fn until_the_request_is_sent_each_wait_has_the_upload_time_and_the_call_the_total_time() {
        let limits = Limits { upload: 5 * SECOND, head: SECOND, total: 20 * SECOND, ..Limits::NONE };
        let start = Timestamp::ZERO + SECOND;
        let end = limits.end(start, false);

        for (stage, client) in [(Stage::Held, false), (Stage::Awaited, true)] {
            let due = limits.until_head(stage, start + 9 * SECOND, end);
            assert_eq!(due, Due::new(Phase::Upload { client }, start + 9 * SECOND, 5 * SECOND));
            assert_eq!(limits.until_head(stage, start + 16 * SECOND, end), end);
        }
    }

    #[test]
    fn what_streams_has_no_end() {
        let limits = Limits { total: SECOND, ..Limits::NONE };

        assert_eq!(limits.end(Timestamp::ZERO, true), NEVER);
    }

    #[test]
    fn no_limit_and_an_endless_one_are_never() {
        let start = Timestamp::from_nanos(7);

        assert_eq!(Limits::NONE.end(start, false).at, Timestamp::MAX);
        for stage in [Stage::Held, Stage::Awaited, Stage::Sent] {
            assert_eq!(Limits::NONE.until_head(stage, start, NEVER).at, Timestamp::MAX);
        }
        assert_eq!(Limits::NONE.until_frame(Timestamp::MAX, NEVER).at, Timestamp::MAX);
    }

    #[test]
    fn the_wait_for_a_frame_ends_by_idle_or_by_what_is_left_of_total() {
        let limits = Limits { idle: 5 * SECOND, ..Limits::NONE };
        let waiting = Timestamp::ZERO + 10 * SECOND;

        let never = limits.until_frame(waiting, NEVER);
        assert_eq!(never, Due::new(Phase::Idle, waiting, 5 * SECOND));
        let end = Due::new(Phase::Total, Timestamp::ZERO, 11 * SECOND);
        assert_eq!(limits.until_frame(waiting, end), end);
    }
}
