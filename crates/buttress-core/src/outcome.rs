use std::time::Duration;

use http::HeaderMap;

use crate::error::is_unsure;
use crate::{Cause, LoadReport, Rejection, RejectionKind};

/// How a call ended, as breakers, retries, balancers, caches and metrics judge it.
///
/// ```
/// use buttress_core::{Outcome, OutcomeKind};
///
/// let outcome = Outcome::soft().with_retry_after(std::time::Duration::from_secs(3));
/// assert_eq!(outcome.kind, OutcomeKind::Soft);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Outcome {
    /// The judgement.
    pub kind: OutcomeKind,
    /// How long the service asked us to wait.
    pub retry_after: Option<Duration>,
    /// Whether it is certain that the service did not begin to work on the request.
    pub unprocessed: bool,
    /// Whether the service asked not to be sent the request again, whatever else would speak for it.
    pub no_retry: bool,
    /// What the server said of its load with the answer.
    pub load: Option<LoadReport>,
}

/// The judgements of an [`Outcome`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum OutcomeKind {
    /// The service did its work.
    Success,
    /// The service is at fault.
    Failure,
    /// The service is well but asks for less, as with status 429: it counts against a success rate, but does
    /// not count towards consecutive failures.
    Soft,
    /// It says nothing of the service, as when the caller went away.
    Ignored,
    /// One of our own layers refused the call further down.
    Rejected(Rejection),
}

impl Outcome {
    const fn new(kind: OutcomeKind) -> Self {
        Self { kind, retry_after: None, unprocessed: false, no_retry: false, load: None }
    }

    /// The service did its work.
    #[must_use]
    pub const fn success() -> Self {
        Self::new(OutcomeKind::Success)
    }

    /// The service is at fault.
    #[must_use]
    pub const fn failure() -> Self {
        Self::new(OutcomeKind::Failure)
    }

    /// The service asks for less.
    #[must_use]
    pub const fn soft() -> Self {
        Self::new(OutcomeKind::Soft)
    }

    /// Nothing can be said of the service.
    #[must_use]
    pub const fn ignored() -> Self {
        Self::new(OutcomeKind::Ignored)
    }

    /// One of our layers refused the call; the rejection's wait is taken over.
    ///
    /// The service did not see the call, except where the refusal may have come while it worked (after a timeout, a
    /// deadline, or a call made together with another), or after another attempt
    /// ([`maybe_sent`](Rejection::maybe_sent)). A call that costs more than its limit ever allows, or whose key no
    /// shard holds, is not to be made again.
    #[must_use]
    pub fn rejected(rejection: Rejection) -> Self {
        let retry_after = rejection.retry_after;
        let unprocessed = !rejection.maybe_sent
            && !matches!(
                rejection.kind,
                RejectionKind::Timeout | RejectionKind::DeadlineExceeded | RejectionKind::Collapsed
            );
        let no_retry = matches!(rejection.kind, RejectionKind::CostTooHigh | RejectionKind::NoShard);
        Self { kind: OutcomeKind::Rejected(rejection), retry_after, unprocessed, no_retry, load: None }
    }

    /// Judges a refusal by one of our layers further down: it says nothing of the service, except that a timeout of ours
    /// says that the service was too slow.
    #[must_use]
    pub fn of_rejection(rejection: &Rejection) -> Self {
        match rejection.kind {
            RejectionKind::Timeout => Self::failure(),
            _ => Self::rejected(rejection.clone()),
        }
    }

    /// Judges an error by its cause: a refusal of ours as [`of_rejection`](Self::of_rejection) does, anything else as a
    /// failure, and one under which nothing was sent as unprocessed. Below [`MaybeSent`](crate::MaybeSent) neither is.
    ///
    /// ```
    /// use buttress_core::{BoxError, Outcome, Rejection, RejectionKind};
    ///
    /// let refused: BoxError = Box::new(Rejection::new(RejectionKind::RateLimited));
    /// assert_ne!(Outcome::of_error(&refused), Outcome::failure());
    /// let broken: BoxError = "out of paper".into();
    /// assert_eq!(Outcome::of_error(&broken), Outcome::failure());
    /// ```
    #[must_use]
    pub fn of_error<E: Cause>(error: &E) -> Self {
        match error.rejection() {
            Some(rejection) => {
                let mut outcome = Self::of_rejection(rejection);
                outcome.unprocessed &= !is_unsure(error);
                outcome
            }
            None if error.nothing_sent() => Self::failure().with_unprocessed(),
            None => Self::failure(),
        }
    }

    /// Adds how long the service asked us to wait.
    #[must_use]
    pub const fn with_retry_after(mut self, wait: Duration) -> Self {
        self.retry_after = Some(wait);
        self
    }

    /// Adds that the service did not begin to work on the request.
    #[must_use]
    pub const fn with_unprocessed(mut self) -> Self {
        self.unprocessed = true;
        self
    }

    /// Adds that the service asked not to be sent the request again.
    #[must_use]
    pub const fn with_no_retry(mut self) -> Self {
        self.no_retry = true;
        self
    }
}

/// Judges results.
///
/// One classifier serves breaker, retry, balancer, cache and metrics. [`ErrIsFailure`] is the default; HTTP and
/// gRPC ones are in `buttress_http::classify`. Closures from a result to an [`Outcome`] are classifiers too.
pub trait Classify<Res, Err> {
    /// Judges what the response future gave, or leaves it to the end of the body.
    fn classify(&self, result: Result<&Res, &Err>) -> Verdict;

    /// Judges by how the body ended, after [`Verdict::AtEnd`].
    ///
    /// Where a layer does not follow the body, it is called at the head, with [`End::Head`].
    fn at_end(&self, end: &End<'_>) -> Outcome {
        match end {
            End::Head | End::Complete { .. } => Outcome::success(),
            End::Aborted => Outcome::ignored(),
            End::Failed => Outcome::failure(),
        }
    }

    /// Whether the response streams, so that the time it takes says nothing of the service: it then never counts as slow.
    ///
    /// The classifiers of HTTP and gRPC look at the response. Others, closures among them, say no.
    fn streams(&self, response: &Res) -> bool {
        let _ = response;
        false
    }

    /// What the head of the response tells of its server's load, for calls that are judged [`AtEnd`](Verdict::AtEnd), when the head is
    /// no longer there. Outcomes that are given at the head have it already.
    fn load(&self, response: &Res) -> Option<LoadReport> {
        let _ = response;
        None
    }
}

/// What a [`Classify`] says at the head of the response.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "now or later: there is no third")]
pub enum Verdict {
    /// The call is judged.
    Now(Outcome),
    /// The end of the body tells.
    AtEnd,
}

/// How a call ended: with the body of its response, or at the head where no one follows the body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum End<'a> {
    /// At the head: the body is not followed, or the request was HEAD and there is none. What comes after is not known.
    Head,
    /// All of the body was handed out.
    Complete {
        /// The trailers, where there were any.
        trailers: Option<&'a HeaderMap>,
    },
    /// It was dropped before that: the caller went away.
    Aborted,
    /// It ended with an error.
    Failed,
}

/// `Ok` is success, `Err` is failure: the classifier of services about which nothing more is known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "a word: there is nothing to add to it")]
pub struct ErrIsFailure;

impl<Res, Err> Classify<Res, Err> for ErrIsFailure {
    fn classify(&self, result: Result<&Res, &Err>) -> Verdict {
        Verdict::Now(if result.is_ok() { Outcome::success() } else { Outcome::failure() })
    }
}

/// `Ok` is success, `Err` is judged by its cause ([`Outcome::of_error`]): a refusal of our own layers further down is not
/// the service's failure.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "a word: there is nothing to add to it")]
pub struct ByCause;

impl<Res, Err: Cause> Classify<Res, Err> for ByCause {
    fn classify(&self, result: Result<&Res, &Err>) -> Verdict {
        Verdict::Now(match result {
            Ok(_) => Outcome::success(),
            Err(error) => Outcome::of_error(error),
        })
    }
}

impl<F, Res, Err> Classify<Res, Err> for F
where
    F: Fn(Result<&Res, &Err>) -> Outcome,
{
    fn classify(&self, result: Result<&Res, &Err>) -> Verdict {
        Verdict::Now(self(result))
    }
}

/// What a call holds until it is over: a permit, a place in a count, a result to report.
///
/// It is told once how the call ended and then dropped. Dropped untold, the call was aborted. What it holds it
/// gives back in `Drop`, so that nothing leaks in any state a future can be dropped in.
pub trait Guard {
    /// So many bytes of the response's body have been handed out, where the body is followed. Told for each frame of data, before
    /// [`end`](Self::end).
    fn data(&mut self, bytes: u64) {
        let _ = bytes;
    }

    /// The call has ended.
    fn end(&mut self, end: &End<'_>) {
        let _ = end;
    }
}

impl Guard for () {}

impl<G: Guard> Guard for Option<G> {
    fn data(&mut self, bytes: u64) {
        if let Some(guard) = self {
            guard.data(bytes);
        }
    }

    fn end(&mut self, end: &End<'_>) {
        if let Some(guard) = self {
            guard.end(end);
        }
    }
}

/// When a call is over: at the head of the response, or at the end of its body.
///
/// The choice is a type, since following the body wraps it. [`AtHead`] is here and leaves the response type
/// alone; `AtEnd` is in `buttress_http::body`.
pub trait Finish<Req, Res, G> {
    /// What is kept of the request: whether it was HEAD, say, whose response has no body.
    type Form: Copy;
    /// The response that carries the guard.
    type Out;

    /// Reads what following the response depends on, before the inner service takes the request.
    fn form(&self, req: &Req) -> Self::Form;

    /// Whether the request is known to ask for what streams, so that nothing can be read from how long it takes. `false`
    /// unless said otherwise.
    #[inline]
    fn streams(&self, form: Self::Form) -> bool {
        let _ = form;
        false
    }

    /// Binds `guard` to the rest of the call.
    fn finish(&self, form: Self::Form, res: Res, guard: G) -> Self::Out;
}

/// The call is over at the head of the response.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "a word: there is nothing to add to it")]
pub struct AtHead;

impl<Req, Res, G: Guard> Finish<Req, Res, G> for AtHead {
    type Form = ();
    type Out = Res;

    #[inline]
    fn form(&self, _: &Req) {}

    // Most guards have nothing left to do here, which shows once this is part of the caller.
    #[inline(always)]
    fn finish(&self, (): (), res: Res, mut guard: G) -> Res {
        guard.end(&End::Head);
        res
    }
}
