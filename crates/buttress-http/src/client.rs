//! Clients spoken to in the types of `http`.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

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
/// # async fn example() -> Result<(), reqwest::Error> {
/// let mut client = Reqwest(reqwest::Client::new());
/// let request = http::Request::get("http://127.0.0.1:8080/users").body("").expect("a valid request");
/// let response: http::Response<reqwest::Body> = client.call(request).await?;
/// # Ok(())
/// # }
/// ```
///
/// # Errors
///
/// Those of the client. A request that is none for reqwest (a relative URI) fails the same way, from the future, with an
/// error whose `is_builder()` is true.
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
    type Error = reqwest::Error;
    type Future = ReqwestFuture;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), reqwest::Error>> {
        self.0.poll_ready(cx)
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
    type Output = Result<Response<reqwest::Body>, reqwest::Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project().0.project() {
            StateProj::Sent(pending) => Poll::Ready(ready!(pending.poll(cx)).map(Into::into)),
            StateProj::Refused(error) => Poll::Ready(Err(error.take().expect("polled after it was ready"))),
        }
    }
}
