//! Clients spoken to in the types of `http`.

use std::error::Error as StdError;
use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use buttress_core::{Cause, FromRejection, NothingSent, Rejection};
use http::{Request, Response};
use pin_project::pin_project;
use tower_service::Service;

/// A [`reqwest::Client`] that takes an `http::Request` and gives an `http::Response`.
///
/// `reqwest::Request` keeps its extensions to itself, so what layers know of a request (deadline, attempt, tried
/// endpoints: [`Facts`](buttress_core::Facts)) cannot travel in it. It can in an `http::Request`. Put the layers that need
/// it over this; a limiter or a breaker also stands on a bare `reqwest::Client`.
///
/// The request's URI is absolute, as for any client. Its body is what turns into a [`reqwest::Body`]: bytes, a string, or
/// `reqwest::Body::wrap(..)` around any other body.
///
/// ```
/// use buttress_http::client::Reqwest;
/// use tower_service::Service;
///
/// # async fn example() -> Result<(), buttress_http::client::Error> {
/// let mut client = Reqwest(reqwest::Client::new());
/// let request = http::Request::get("http://127.0.0.1:8080/users").body("").expect("a valid request");
/// let response: http::Response<reqwest::Body> = client.call(request).await?;
/// # Ok(())
/// # }
/// ```
///
/// # Errors
///
/// Those of the client, as [`Error`], which also has a place for a refusal: there is nothing to lift. A request that is
/// none for reqwest (a relative URI) fails the same way, from the future, with an error whose `is_builder()` is true.
#[derive(Clone, Debug)]
#[expect(clippy::exhaustive_structs, reason = "it is a wrapper and stays one: `Reqwest(client)` builds it")]
pub struct Reqwest(pub reqwest::Client);

impl From<reqwest::Client> for Reqwest {
    fn from(client: reqwest::Client) -> Self {
        Self(client)
    }
}

impl<B: Into<reqwest::Body>> Service<Request<B>> for Reqwest {
    type Response = Response<reqwest::Body>;
    type Error = Error;
    type Future = ReqwestFuture;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.0.poll_ready(cx).map_err(Error::from)
    }

    fn call(&mut self, req: Request<B>) -> ReqwestFuture {
        ReqwestFuture(match reqwest::Request::try_from(req) {
            Ok(req) => State::Sent(self.0.call(req)),
            Err(error) => State::Refused(Some(error)),
        })
    }
}

/// The response future of [`Reqwest`].
///
/// # Panics
///
/// When it is polled again after it has given its error.
#[pin_project]
#[derive(Debug)]
pub struct ReqwestFuture(#[pin] State);

#[pin_project(project = StateProj)]
#[derive(Debug)]
enum State {
    Sent(#[pin] <reqwest::Client as Service<reqwest::Request>>::Future),
    Refused(Option<reqwest::Error>),
}

impl Future for ReqwestFuture {
    type Output = Result<Response<reqwest::Body>, Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project().0.project() {
            StateProj::Sent(pending) => {
                Poll::Ready(ready!(pending.poll(cx)).map(Into::into).map_err(Error::from))
            }
            StateProj::Refused(error) => {
                Poll::Ready(Err(error.take().expect("polled after it was ready").into()))
            }
        }
    }
}

/// Why a [`Reqwest`] gave no answer: an error of the client, or a refusal of a layer above it.
///
/// An error that kept reqwest from connecting is one under which [nothing was sent](Cause::nothing_sent), so that any
/// request may be tried again. It displays as what it carries.
#[derive(Debug)]
pub struct Error(Failure);

#[derive(Debug)]
enum Failure {
    Rejected(Rejection),
    Sent(reqwest::Error),
    Unsent(NothingSent),
}

impl Error {
    /// The client's own error, unless it is a refusal of ours.
    #[must_use]
    pub fn reqwest(&self) -> Option<&reqwest::Error> {
        match &self.0 {
            Failure::Rejected(_) => None,
            Failure::Sent(error) => Some(error),
            Failure::Unsent(unsent) => unsent.source().and_then(|error| error.downcast_ref()),
        }
    }
}

impl From<reqwest::Error> for Error {
    fn from(error: reqwest::Error) -> Self {
        Self(if error.is_connect() { Failure::Unsent(NothingSent::new(error)) } else { Failure::Sent(error) })
    }
}

impl FromRejection for Error {
    fn from_rejection(rejection: Rejection) -> Self {
        Self(Failure::Rejected(rejection))
    }
}

impl Cause for Error {
    fn cause(&self) -> Option<&(dyn StdError + 'static)> {
        Some(self)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Failure::Rejected(rejection) => rejection.fmt(f),
            Failure::Sent(error) => error.fmt(f),
            Failure::Unsent(error) => error.fmt(f),
        }
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        Some(match &self.0 {
            Failure::Rejected(rejection) => rejection,
            Failure::Sent(error) => error,
            Failure::Unsent(error) => error,
        })
    }
}
