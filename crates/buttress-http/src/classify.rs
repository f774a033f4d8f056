//! How calls ended, as breakers, retries, balancers, caches and metrics judge it over HTTP and gRPC.
//!
//! | seen | [`status()`] | [`grpc()`] |
//! |---|---|---|
//! | an error | failure | failure |
//! | a refusal of ours, as an error or a response | rejected | rejected |
//! | a timeout of ours | failure | failure |
//! | status 5xx | failure | failure |
//! | status 429 | soft | soft |
//! | any other status | success | success, or by `grpc-status` |
//! | `UNKNOWN`, `DEADLINE_EXCEEDED`, `INTERNAL`, `UNAVAILABLE`, `DATA_LOSS` | – | failure |
//! | `RESOURCE_EXHAUSTED` | – | soft |
//! | any other `grpc-status` | – | success |
//! | a gRPC body that ends without trailers | – | failure |
//! | the body breaks | – (failure [`at_end`](Status::at_end)) | failure |
//!
//! The other codes of gRPC (`INVALID_ARGUMENT`, `NOT_FOUND`, `CANCELLED`, …) are the client's doing: a client that asks
//! for what is not there must not open anyone's breaker.
//!
//! The wait that a service asks for (`Retry-After`, `grpc-retry-pushback-ms`) goes into the outcome. A pushback that is
//! negative or no number says not to try again, and so does the outcome. An error under which nothing was sent makes the
//! outcome unprocessed. [`orca()`] adds what a server reports of its load. A response marked [`NoRetry`](field::NoRetry) says not to try again.

use buttress_core::{Cause, Classify, End, Outcome, Rejection, Verdict};
use http::{HeaderMap, Response, StatusCode};

pub use crate::orca::{Orca, orca};

use crate::field;
use crate::grpc::{self, Code, Pushback};

/// Judges by the status: 5xx and errors fail, 429 is soft.
///
/// ```
/// use buttress_core::{Classify, Outcome, Verdict};
/// use buttress_http::classify;
/// use std::convert::Infallible;
///
/// let response = http::Response::builder().status(429).header("retry-after", "2").body(()).unwrap();
/// let verdict = classify::status().classify(Ok::<_, &Infallible>(&response));
/// assert_eq!(verdict, Verdict::Now(Outcome::soft().with_retry_after(std::time::Duration::from_secs(2))));
/// ```
#[must_use]
pub const fn status() -> Status {
    Status { at_end: false }
}

/// Judges by the status. Made by [`status()`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Status {
    at_end: bool,
}

impl Status {
    /// Waits for the end of the body before it calls a response a success: one that breaks off is a failure, and
    /// one that the client leaves is ignored.
    ///
    /// What is known to stream (server-sent events, a 101, what is marked [`Streaming`](field::Streaming)) may go on for
    /// ever and is judged at its head all the same: a breaker would else wait for its verdict until then.
    ///
    /// It works in layers that follow the body, with `body::AtEnd`.
    #[must_use]
    pub const fn at_end(mut self) -> Self {
        self.at_end = true;
        self
    }
}

impl<B, E: Cause> Classify<Response<B>, E> for Status {
    fn classify(&self, result: Result<&Response<B>, &E>) -> Verdict {
        match result {
            Ok(response) => match of_response(response) {
                Some(outcome) => Verdict::Now(outcome),
                None if self.at_end && !goes_on(response) => Verdict::AtEnd,
                None => Verdict::Now(Outcome::success()),
            },
            Err(error) => Verdict::Now(Outcome::of_error(error)),
        }
    }

    fn streams(&self, response: &Response<B>) -> bool {
        field::is_streaming(response)
    }
}

/// Judges by `grpc-status`: in the head where the reply is nothing but its head, else in the trailers.
///
/// The trailers are seen by layers that follow the body, with `body::AtEnd`; in others a reply whose head says nothing
/// is a success. A body that is followed to its end and has no `grpc-status` there is a failure: the reply is broken. A
/// response that is not gRPC is judged by its status, as by [`status()`].
///
/// The head of a gRPC response does not tell a stream from a single message. Mark the responses of methods that stream
/// ([`Streaming`](field::Streaming)): they are judged at the head. Otherwise a breaker that tries a service out with such a call
/// waits for its trailers until the time for its probes is over, and goes by the head only then.
///
/// ```
/// use buttress_core::{Classify, Outcome, Verdict};
/// use buttress_http::classify;
/// use std::convert::Infallible;
///
/// let response = http::Response::builder()
///     .header("content-type", "application/grpc")
///     .header("grpc-status", "14")
///     .body(())
///     .unwrap();
/// let verdict = classify::grpc().classify(Ok::<_, &Infallible>(&response));
/// assert_eq!(verdict, Verdict::Now(Outcome::failure()));
/// ```
#[must_use]
pub const fn grpc() -> Grpc {
    Grpc(())
}

/// Judges by `grpc-status`. Made by [`grpc()`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grpc(());

impl<B, E: Cause> Classify<Response<B>, E> for Grpc {
    fn classify(&self, result: Result<&Response<B>, &E>) -> Verdict {
        match result {
            Ok(response) => match of_response(response) {
                Some(outcome) => Verdict::Now(outcome),
                None if Code::of(response.headers()).is_some() => Verdict::Now(of_grpc(response.headers())),
                None if field::is_grpc(response.headers()) && !goes_on(response) => Verdict::AtEnd,
                None => Verdict::Now(Outcome::success()),
            },
            Err(error) => Verdict::Now(Outcome::of_error(error)),
        }
    }

    fn streams(&self, response: &Response<B>) -> bool {
        field::is_streaming(response)
    }

    fn at_end(&self, end: &End<'_>) -> Outcome {
        match end {
            End::Complete { trailers: Some(trailers) } => of_grpc(trailers),
            End::Head => Outcome::success(),
            End::Aborted => Outcome::ignored(),
            _ => Outcome::failure(),
        }
    }
}

/// Whether a response is known to go on after its head for as long as it likes. Of gRPC only a mark tells.
fn goes_on<B>(response: &Response<B>) -> bool {
    let marked = response.extensions().get::<field::Streaming>().is_some();
    marked || !field::is_grpc(response.headers()) && field::is_streaming(response)
}

/// What the head alone says, unless that is success.
fn of_response<B>(response: &Response<B>) -> Option<Outcome> {
    if let Some(rejection) = response.extensions().get::<Rejection>() {
        return Some(Outcome::of_rejection(rejection));
    }
    let outcome = match response.status() {
        StatusCode::TOO_MANY_REQUESTS => Outcome::soft(),
        status if status.is_server_error() => Outcome::failure(),
        _ => return None,
    };
    let outcome = match field::retry_after(response.headers()) {
        Some(wait) => outcome.with_retry_after(wait),
        None => outcome,
    };
    let marked = response.extensions().get::<field::NoRetry>().is_some();
    Some(if marked { outcome.with_no_retry() } else { outcome })
}

/// What `grpc-status` in `headers`, or in trailers, says.
fn of_grpc(headers: &HeaderMap) -> Outcome {
    let outcome = match Code::of(headers).unwrap_or(Code::UNKNOWN) {
        Code::OK => return Outcome::success(),
        Code::UNKNOWN | Code::DEADLINE_EXCEEDED | Code::INTERNAL | Code::UNAVAILABLE | Code::DATA_LOSS => {
            Outcome::failure()
        }
        Code::RESOURCE_EXHAUSTED => Outcome::soft(),
        _ => Outcome::success(),
    };
    match grpc::pushback(headers) {
        Pushback::Unknown => outcome,
        Pushback::After(wait) => outcome.with_retry_after(wait),
        Pushback::Never => outcome.with_no_retry(),
    }
}
