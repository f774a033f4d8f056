//! Clients spoken to in the types of `http`.

use std::error::Error as StdError;
use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use buttress_core::{Cause, FromRejection, MaybeSent, NothingSent, Rejection};
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
/// let mut client = Reqwest::new();
/// let request = http::Request::get("http://127.0.0.1:8080/users").body("").expect("a valid request");
/// let response: http::Response<reqwest::Body> = client.call(request).await?;
/// # Ok(())
/// # }
/// ```
///
/// # Redirects, and proof that nothing was sent
///
/// | made by | redirects | a connection that cannot be made |
/// |---|---|---|
/// | [`new`](Self::new), [`build`](Self::build) | are answers | [nothing was sent](NothingSent): any request may be tried again |
/// | `Reqwest::from(client)` | as the client follows them | [something may have been sent](MaybeSent): only idempotent requests are |
///
/// A client that follows redirects makes several exchanges for one call, and its error is that of the last: a POST that
/// was carried out and answered with a redirect to where nobody listens fails with "connection refused". So a client that
/// somebody else made gives no proof, since it cannot be asked what it follows. To follow redirects and have proof as well,
/// put what follows them (`tower_http::follow_redirect`) above the layer that retries.
///
/// # Errors
///
/// Those of the client, as [`Error`], which also has a place for a refusal: there is nothing to lift. A request that is
/// none for reqwest (a relative URI) fails the same way, from the future, with an error whose `is_builder()` is true.
#[derive(Clone, Debug)]
pub struct Reqwest {
    client: reqwest::Client,
    /// Whether a call is one exchange, so that its error tells of the whole call.
    one_exchange: bool,
}

impl Reqwest {
    /// A client with the defaults of reqwest that makes one exchange for each call: it follows no redirects and tries
    /// nothing again by itself.
    ///
    /// # Panics
    ///
    /// When [`reqwest::Client::new`] would: the TLS backend cannot be set up.
    #[must_use]
    pub fn new() -> Self {
        Self::build(reqwest::Client::builder()).expect("a client with reqwest's defaults can be made")
    }

    /// The client that `builder` describes, except that it makes one exchange for each call: its policies for redirects
    /// and retries are set to none.
    ///
    /// # Errors
    ///
    /// Those of [`reqwest::ClientBuilder::build`].
    pub fn build(builder: reqwest::ClientBuilder) -> reqwest::Result<Self> {
        let builder = builder.redirect(reqwest::redirect::Policy::none()).retry(reqwest::retry::never());
        Ok(Self { client: builder.build()?, one_exchange: true })
    }

    /// The client inside.
    #[must_use]
    pub const fn client(&self) -> &reqwest::Client {
        &self.client
    }
}

impl Default for Reqwest {
    fn default() -> Self {
        Self::new()
    }
}

impl From<reqwest::Client> for Reqwest {
    /// The client as it is, redirects and retries of its own included.
    fn from(client: reqwest::Client) -> Self {
        Self { client, one_exchange: false }
    }
}

impl<B: Into<reqwest::Body>> Service<Request<B>> for Reqwest {
    type Response = Response<reqwest::Body>;
    type Error = Error;
    type Future = ReqwestFuture;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.client.poll_ready(cx).map_err(Error::of(self.one_exchange))
    }

    fn call(&mut self, req: Request<B>) -> ReqwestFuture {
        ReqwestFuture(match reqwest::Request::try_from(req) {
            Ok(req) => State::Sent { pending: self.client.call(req), one_exchange: self.one_exchange },
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
    Sent {
        #[pin]
        pending: <reqwest::Client as Service<reqwest::Request>>::Future,
        one_exchange: bool,
    },
    Refused(Option<reqwest::Error>),
}

impl Future for ReqwestFuture {
    type Output = Result<Response<reqwest::Body>, Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project().0.project() {
            StateProj::Sent { pending, one_exchange } => {
                Poll::Ready(ready!(pending.poll(cx)).map(Into::into).map_err(Error::of(*one_exchange)))
            }
            StateProj::Refused(error) => {
                Poll::Ready(Err(error.take().expect("polled after it was ready").into()))
            }
        }
    }
}

/// Why a [`Reqwest`] gave no answer: an error of the client, or a refusal of a layer above it.
///
/// An error that kept a client of [one exchange](Reqwest#redirects-and-proof-that-nothing-was-sent) from connecting is one
/// under which [nothing was sent](Cause::nothing_sent), so that any request may be tried again. It displays as what it
/// carries.
#[derive(Debug)]
pub struct Error(Failure);

#[derive(Debug)]
enum Failure {
    Rejected(Rejection),
    Sent(reqwest::Error),
    Unsent(NothingSent),
    /// Of one exchange of several.
    Unsure(MaybeSent),
}

impl Error {
    /// The client's own error, unless it is a refusal of ours.
    #[must_use]
    pub fn reqwest(&self) -> Option<&reqwest::Error> {
        match &self.0 {
            Failure::Rejected(_) => None,
            Failure::Sent(error) => Some(error),
            Failure::Unsent(mark) => mark.source().and_then(|error| error.downcast_ref()),
            Failure::Unsure(mark) => mark.source().and_then(|error| error.downcast_ref()),
        }
    }

    fn of(one_exchange: bool) -> impl FnOnce(reqwest::Error) -> Self {
        move |error| {
            Self(match (one_exchange, error.is_connect()) {
                (true, true) => Failure::Unsent(NothingSent::new(error)),
                (true, false) => Failure::Sent(error),
                (false, _) => Failure::Unsure(MaybeSent::new(error)),
            })
        }
    }
}

impl From<reqwest::Error> for Error {
    /// An error of a client of which nothing is known: it is no proof of anything.
    fn from(error: reqwest::Error) -> Self {
        Self(Failure::Unsure(MaybeSent::new(error)))
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

    fn maybe_sent(self) -> Self {
        Self(match self.0 {
            Failure::Rejected(rejection) => Failure::Rejected(rejection.with_maybe_sent()),
            Failure::Sent(error) => Failure::Unsure(MaybeSent::new(error)),
            Failure::Unsent(mark) => Failure::Unsure(MaybeSent::new(mark.into_inner())),
            Failure::Unsure(mark) => Failure::Unsure(mark),
        })
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Failure::Rejected(rejection) => rejection.fmt(f),
            Failure::Sent(error) => error.fmt(f),
            Failure::Unsent(error) => error.fmt(f),
            Failure::Unsure(error) => error.fmt(f),
        }
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        Some(match &self.0 {
            Failure::Rejected(rejection) => rejection,
            Failure::Sent(error) => error,
            Failure::Unsent(error) => error,
            Failure::Unsure(error) => error,
        })
    }
}
