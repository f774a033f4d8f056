//! Refusals as responses.
//!
//! [`respond()`] answers refused requests with `application/problem+json` (RFC 9457), and gRPC requests with a
//! `grpc-status`:
//!
//! | refusal | HTTP | gRPC |
//! |---|---|---|
//! | `RateLimited` | 429 | RESOURCE_EXHAUSTED |
//! | `CostTooHigh` | 413 | RESOURCE_EXHAUSTED, and not to try again |
//! | `Denied` | 403 | PERMISSION_DENIED |
//! | `CircuitOpen`, `Overloaded`, `NoEndpoint`, `NotReady` | 503 | UNAVAILABLE |
//! | `NoShard` | 503 | UNAVAILABLE, and not to try again |
//! | `Timeout`, `DeadlineExceeded` | 504 | DEADLINE_EXCEEDED |
//! | `Collapsed` | 502 | UNAVAILABLE |
//!
//! How long to wait stands in `Retry-After` (whole seconds, rounded up, never 0), and for gRPC in
//! `grpc-retry-pushback-ms` and, as a `google.rpc.RetryInfo`, in `grpc-status-details-bin`. The rate limits that refused
//! are named, the one with the longest wait first: in `violated-policies` of the problem, and for gRPC in a
//! `google.rpc.QuotaFailure`. Whose budget it was is never told. The [`Rejection`] itself travels in the response's extensions, so that the layers above
//! tell a refusal of ours from an answer of the service.
//!
//! What is left of the limits stands in the [`Fields`] of your choice, on refusals and, where a layer is asked to, on all
//! answers.
//!
//! A refusal in your own words is a closure: [`with`].
//!
//! ```
//! use buttress_core::{Reject, Rejection, RejectionKind};
//! use buttress_http::reject;
//! use bytes::Bytes;
//! use http::{Request, Response};
//! use http_body_util::Full;
//! use std::convert::Infallible;
//!
//! let respond = reject::respond();
//! let form = Reject::<_, Response<Full<Bytes>>, Infallible>::form(&respond, &Request::new(()));
//! let rejection = Rejection::new(RejectionKind::RateLimited).with_policy("burst");
//! let response: Result<Response<Full<Bytes>>, Infallible> =
//!     Reject::<Request<()>, _, _>::reject(&respond, form, rejection);
//! assert_eq!(response.unwrap().status(), 429);
//! ```

use buttress_core::{Clock, Name, Quota, Reject, Rejection, RejectionKind};
use http::header::RETRY_AFTER;
use http::{Request, Response, StatusCode};

use crate::body::ReplyBody;
use crate::details::{DETAILS, details};
use crate::field;
use crate::grpc::Pushback;
use crate::ratelimit::Sets;

pub use crate::problem::Form;
pub use crate::ratelimit::Fields;
pub use buttress_core::reject::{With, with};

/// Answers refused requests with a response.
///
/// The response's body must be one that can be made of bytes ([`ReplyBody`]); others are lifted once at the bottom of
/// the stack.
#[must_use]
pub fn respond() -> Respond {
    Respond { sets: Sets::of(Fields::default()), clock: Clock::default() }
}

/// Answers refused requests with a response. Made by [`respond()`].
///
/// | setting | default | why |
/// |---|---|---|
/// | `fields` | [`Fields::IetfDraft11`] | what is to become the standard |
/// | `clock` | [`Clock::default`] | |
#[derive(Clone, Debug)]
pub struct Respond {
    sets: Sets,
    clock: Clock,
}

impl Respond {
    /// Chooses the fields that tell what is left of a rate limit, instead of those chosen before.
    #[must_use]
    pub fn fields(mut self, fields: Fields) -> Self {
        self.sets = Sets::of(fields);
        self
    }

    /// Adds a set of fields to those chosen before, for clients old and new.
    ///
    /// ```
    /// use buttress_http::reject::{self, Fields};
    ///
    /// let respond = reject::respond().and_fields(Fields::XRateLimitEpoch);
    /// # let _ = respond;
    /// ```
    ///
    /// # Panics
    ///
    /// When both [`XRateLimitDelta`](Fields::XRateLimitDelta) and [`XRateLimitEpoch`](Fields::XRateLimitEpoch) are
    /// chosen: they are the same fields.
    #[must_use]
    #[track_caller]
    pub fn and_fields(mut self, fields: Fields) -> Self {
        self.sets = self.sets.and(fields);
        self
    }

    /// Takes the date from `clock` instead of [`Clock::default`], for [`Fields::XRateLimitEpoch`].
    #[must_use]
    pub fn clock(mut self, clock: Clock) -> Self {
        self.clock = clock;
        self
    }
}

impl<Q, B, E> Reject<Request<Q>, Response<B>, E> for Respond
where
    B: ReplyBody,
{
    type Form = Form;

    #[inline]
    fn form(&self, request: &Request<Q>) -> Form {
        Form::of(request)
    }

    fn reject(&self, form: Form, rejection: Rejection) -> Result<Response<B>, E> {
        Ok(reply(form, rejection))
    }

    fn annotate(&self, _: Form, response: &mut Response<B>, quotas: &[Quota]) {
        self.sets.write(quotas, response.headers_mut(), &self.clock);
    }
}

/// The response to a refused request.
pub(crate) fn reply<B: ReplyBody>(form: Form, rejection: Rejection) -> Response<B> {
    let wait = match rejection.kind {
        RejectionKind::CostTooHigh | RejectionKind::NoShard => Pushback::Never,
        RejectionKind::Denied => Pushback::Unknown,
        _ => rejection.retry_after.map_or(Pushback::Unknown, Pushback::After),
    };
    let problem = problem(rejection.kind);
    let violated = violated(&rejection);
    let named = if problem.status() == StatusCode::TOO_MANY_REQUESTS { &violated[..] } else { &[] };
    let mut response = problem.reply_with(form, wait, named);
    let headers = response.headers_mut();
    let wait = match wait {
        Pushback::After(wait) => Some(wait),
        _ => None,
    };
    if let Some(wait) = wait {
        headers.insert(RETRY_AFTER, field::retry_after_value(wait));
    }
    if form.is_grpc() {
        let (code, message) = problem.grpc_status();
        let violated = violated.iter().copied().flatten().map(Name::as_str);
        if let Some(details) = details(code, message, wait, violated) {
            headers.insert(DETAILS, details);
        }
    }
    response.extensions_mut().insert(rejection);
    response
}

fn problem(kind: RejectionKind) -> crate::Problem {
    let status = status(kind);
    let problem = crate::Problem::new(status).with_detail(kind.as_str());
    match status {
        StatusCode::TOO_MANY_REQUESTS => problem.with_type(
            "https://iana.org/assignments/http-problem-types#quota-exceeded",
            "Request cannot be satisfied as assigned quota has been exceeded",
        ),
        StatusCode::SERVICE_UNAVAILABLE => problem.with_type(
            "https://iana.org/assignments/http-problem-types#temporary-reduced-capacity",
            "Request cannot be satisfied due to temporary server capacity constraints",
        ),
        _ => problem,
    }
}

/// The rate limits that refused, the one that binds before the others. What is out of order inside is not named.
fn violated(rejection: &Rejection) -> [&[Name]; 2] {
    match rejection.kind {
        RejectionKind::RateLimited | RejectionKind::CostTooHigh => {
            [rejection.policy.as_slice(), rejection.also.as_slice()]
        }
        _ => [&[], &[]],
    }
}

fn status(kind: RejectionKind) -> StatusCode {
    match kind {
        RejectionKind::RateLimited => StatusCode::TOO_MANY_REQUESTS,
        RejectionKind::CostTooHigh => StatusCode::PAYLOAD_TOO_LARGE,
        RejectionKind::Denied => StatusCode::FORBIDDEN,
        RejectionKind::Timeout | RejectionKind::DeadlineExceeded => StatusCode::GATEWAY_TIMEOUT,
        RejectionKind::Collapsed => StatusCode::BAD_GATEWAY,
        // CircuitOpen, Overloaded, NoEndpoint, NoShard, NotReady, and what is to come.
        _ => StatusCode::SERVICE_UNAVAILABLE,
    }
}
