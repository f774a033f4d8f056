//! Which failed calls are tried again.

use std::fmt;

/// Why a call that failed was not tried again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Skip {
    /// It may have been carried out, and to carry it out twice is not the same as once.
    NotIdempotent,
    /// Its body is longer than what is kept, or the pool for all bodies was used up.
    BodyTooLarge,
    /// It was answered before all of its body was sent, or the body was not given back.
    BodyUnfinished,
    /// Its own body failed.
    BodyFailed,
    /// The budget was spent.
    Budget,
    /// The deadline leaves no time to wait.
    Deadline,
    /// The service asks to wait longer than the cap.
    RetryAfter,
    /// It has had all the attempts that one call may have.
    Attempts,
    /// The request or the answer says not to try again.
    Marked,
    /// A layer of ours refused it, and would refuse it again.
    Refused,
    /// It asks for a tunnel: `CONNECT`, or an upgrade.
    Tunnel,
}

impl Skip {
    /// Every reason.
    pub const ALL: [Self; 11] = [
        Self::NotIdempotent,
        Self::BodyTooLarge,
        Self::BodyUnfinished,
        Self::BodyFailed,
        Self::Budget,
        Self::Deadline,
        Self::RetryAfter,
        Self::Attempts,
        Self::Marked,
        Self::Refused,
        Self::Tunnel,
    ];

    /// The reason as a label for metrics: `not_idempotent`, `body_too_large`, and so on.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NotIdempotent => "not_idempotent",
            Self::BodyTooLarge => "body_too_large",
            Self::BodyUnfinished => "body_unfinished",
            Self::BodyFailed => "body_failed",
            Self::Budget => "budget",
            Self::Deadline => "deadline",
            Self::RetryAfter => "retry_after",
            Self::Attempts => "attempts",
            Self::Marked => "marked",
            Self::Refused => "refused",
            Self::Tunnel => "tunnel",
        }
    }
}

impl fmt::Display for Skip {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What is known of a call that failed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Failed {
    /// Whether the service, or a layer below, said not to try again.
    pub(crate) marked: bool,
    /// Whether one of our own layers refused it, and if so, whether it may be tried elsewhere.
    pub(crate) refusal: Option<Elsewhere>,
    /// Whether carrying it out twice is the same as once, or the caller said that it may be.
    pub(crate) repeatable: bool,
    /// Whether it is certain that the service did not begin to work on it.
    pub(crate) unprocessed: bool,
    /// Whether it was answered, and did not fail with an error.
    pub(crate) answered: bool,
    /// How far its body got.
    pub(crate) body: Sent,
    /// Whether one call may have a further attempt.
    pub(crate) attempts_left: bool,
}

/// Whether a refused call goes elsewhere when it is tried again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Elsewhere {
    Here,
    Elsewhere,
}

/// How far the body of an attempt got, and whether it can be sent again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(unnameable_types, reason = "the sealed trait of the ways to repeat passes it on")]
pub enum Sent {
    /// All of it went out, and is kept.
    All,
    /// A part of it went out; that is kept, and the rest is here.
    Part,
    /// A part of it went out, and the rest is in use.
    InUse,
    /// More went out than is kept.
    TooMuch,
    /// It failed.
    Broken,
}

impl Failed {
    /// What keeps the call from being tried again, before its wait and the budget are asked.
    pub(crate) fn rule(&self) -> Result<(), Skip> {
        if self.marked {
            return Err(Skip::Marked);
        }
        if self.refusal == Some(Elsewhere::Here) {
            return Err(Skip::Refused);
        }
        if !self.repeatable && !self.unprocessed {
            return Err(Skip::NotIdempotent);
        }
        match self.body {
            Sent::TooMuch => return Err(Skip::BodyTooLarge),
            Sent::Broken => return Err(Skip::BodyFailed),
            // An early answer: the service has made up its mind without the rest. Where it did not look at the request at
            // all, the rest must at least be here; after an error it comes back when the attempt is dropped.
            Sent::Part if self.answered && !self.unprocessed => return Err(Skip::BodyUnfinished),
            Sent::InUse if self.answered => return Err(Skip::BodyUnfinished),
            Sent::All | Sent::Part | Sent::InUse => {}
        }
        if self.attempts_left { Ok(()) } else { Err(Skip::Attempts) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A GET that was answered with 503.
    const FAILED: Failed = Failed {
        marked: false,
        refusal: None,
        repeatable: true,
        unprocessed: false,
        answered: true,
        body: Sent::All,
        attempts_left: true,
    };

    #[test]
    fn without_idempotence_it_takes_proof_that_nothing_was_processed() {
        let post = Failed { repeatable: false, ..FAILED };

        assert_eq!(FAILED.rule(), Ok(()));
        assert_eq!(post.rule(), Err(Skip::NotIdempotent));
        assert_eq!(Failed { answered: false, ..post }.rule(), Err(Skip::NotIdempotent));
        assert_eq!(Failed { unprocessed: true, ..post }.rule(), Ok(()));
    }

    #[test]
    fn a_mark_goes_before_all_that_speaks_for_it() {
        let marked = Failed { marked: true, unprocessed: true, ..FAILED };
        assert_eq!(marked.rule(), Err(Skip::Marked));
    }

    #[test]
    fn a_refusal_of_ours_is_tried_elsewhere_or_not_at_all() {
        let refused = Failed { unprocessed: true, refusal: Some(Elsewhere::Here), ..FAILED };

        assert_eq!(refused.rule(), Err(Skip::Refused));
        assert_eq!(Failed { refusal: Some(Elsewhere::Elsewhere), ..refused }.rule(), Ok(()));
    }

    #[test]
    fn an_early_answer_is_the_last_one_but_an_early_error_is_not() {
        for body in [Sent::Part, Sent::InUse] {
            assert_eq!(Failed { body, ..FAILED }.rule(), Err(Skip::BodyUnfinished));
            assert_eq!(Failed { body, answered: false, ..FAILED }.rule(), Ok(()));
        }
        let unprocessed = Failed { unprocessed: true, ..FAILED };
        assert_eq!(Failed { body: Sent::Part, ..unprocessed }.rule(), Ok(()));
        assert_eq!(Failed { body: Sent::InUse, ..unprocessed }.rule(), Err(Skip::BodyUnfinished));
    }

    #[test]
    fn a_body_that_is_not_here_is_not_sent_again_whatever_happened() {
        let unsent = Failed { unprocessed: true, answered: false, ..FAILED };
        assert_eq!(Failed { body: Sent::TooMuch, ..unsent }.rule(), Err(Skip::BodyTooLarge));
        assert_eq!(Failed { body: Sent::Broken, ..unsent }.rule(), Err(Skip::BodyFailed));
    }

    #[test]
    fn attempts_are_asked_last() {
        let last = Failed { attempts_left: false, ..FAILED };
        assert_eq!(last.rule(), Err(Skip::Attempts));
        assert_eq!(Failed { repeatable: false, ..last }.rule(), Err(Skip::NotIdempotent));
    }

    #[test]
    fn every_reason_has_a_label_of_its_own() {
        let labels: std::collections::HashSet<_> = Skip::ALL.iter().map(|skip| skip.as_str()).collect();
        assert_eq!(labels.len(), Skip::ALL.len());
        assert!(Skip::ALL.iter().enumerate().all(|(at, skip)| *skip as usize == at));
    }
}
