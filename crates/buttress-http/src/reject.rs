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
//! | `Timeout`, `DeadlineExceeded` | 504 | DEADLINE_EXCEEDED |
//! | `Collapsed` | 502 | UNAVAILABLE |
//!
//! How long to wait stands in `Retry-After` (whole seconds, rounded up, never 0) and for gRPC in
//! `grpc-retry-pushback-ms`. The [`Rejection`] itself travels in the response's extensions, so that the layers above
//! tell a refusal of ours from an answer of the service.
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

use buttress_core::{Quota, Reject, Rejection, RejectionKind};
use http::header::RETRY_AFTER;
use http::{Request, Response, StatusCode};

use crate::body::ReplyBody;
use crate::field;
use crate::grpc::Pushback;
use crate::ratelimit;

pub use crate::problem::Form;
pub use buttress_core::reject::{With, with};

/// Answers refused requests with a response.
///
/// The response's body must be one that can be made of bytes ([`ReplyBody`]); others are lifted once at the bottom of
/// the stack.
#[must_use]
pub const fn respond() -> Respond {
    Respond { fields: Fields::IetfDraft11 }
}

/// Answers refused requests with a response. Made by [`respond()`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Respond {
    fields: Fields,
}

/// The fields that tell what is left of a rate limit, on answers and on refusals.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fields {
    /// None.
    None,
    /// `RateLimit` and `RateLimit-Policy` as of draft-ietf-httpapi-ratelimit-headers-11: the default. It is a draft
    /// and may change; a later one gets a name of its own here.
    ///
    /// Each layer adds its own policies to those that are there.
    #[default]
    IetfDraft11,
}

impl Respond {
    /// Chooses the fields that tell what is left of a rate limit.
    #[must_use]
    pub const fn fields(mut self, fields: Fields) -> Self {
        self.fields = fields;
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
        match self.fields {
            Fields::None => {}
            Fields::IetfDraft11 => ratelimit::write(quotas, response.headers_mut()),
        }
    }
}

/// The response to a refused request.
pub(crate) fn reply<B: ReplyBody>(form: Form, rejection: Rejection) -> Response<B> {
    let wait = match rejection.kind {
        RejectionKind::CostTooHigh => Pushback::Never,
        RejectionKind::Denied => Pushback::Unknown,
        _ => rejection.retry_after.map_or(Pushback::Unknown, Pushback::After),
    };
    let mut response = problem(&rejection).reply_with(form, wait);
    if let Pushback::After(wait) = wait {
        response.headers_mut().insert(RETRY_AFTER, field::retry_after_value(wait));
    }
    response.extensions_mut().insert(rejection);
    response
}

fn problem(rejection: &Rejection) -> crate::Problem {
    let status = status(rejection.kind);
    let problem = crate::Problem::new(status).with_detail(rejection.kind.as_str());
    match status {
        StatusCode::TOO_MANY_REQUESTS => {
            let problem = problem.with_type(
                "https://iana.org/assignments/http-problem-types#quota-exceeded",
                "Request cannot be satisfied as assigned quota has been exceeded",
            );
            match &rejection.policy {
                Some(policy) => problem.with_member("violated-policies", [policy.as_str()]),
                None => problem,
            }
        }
        StatusCode::SERVICE_UNAVAILABLE => problem.with_type(
            "https://iana.org/assignments/http-problem-types#temporary-reduced-capacity",
            "Request cannot be satisfied due to temporary server capacity constraints",
        ),
        _ => problem,
    }
}

fn status(kind: RejectionKind) -> StatusCode {
    match kind {
        RejectionKind::RateLimited => StatusCode::TOO_MANY_REQUESTS,
        RejectionKind::CostTooHigh => StatusCode::PAYLOAD_TOO_LARGE,
        RejectionKind::Denied => StatusCode::FORBIDDEN,
        RejectionKind::Timeout | RejectionKind::DeadlineExceeded => StatusCode::GATEWAY_TIMEOUT,
        RejectionKind::Collapsed => StatusCode::BAD_GATEWAY,
        // CircuitOpen, Overloaded, NoEndpoint, NotReady, and what is to come.
        _ => StatusCode::SERVICE_UNAVAILABLE,
    }
}
