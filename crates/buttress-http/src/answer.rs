//! Answers errors, once, at the top of the stack.
//!
//! Layers pass errors up unchanged, so that a retry, a breaker or a cache can see them. Above them all
//! [`AnswerErrorsLayer`] makes each error a response, and the error type [`Infallible`], which is what axum and
//! hyper's servers are happiest with:
//!
//! | the error, or a cause of it | the answer |
//! |---|---|
//! | a [`Rejection`] | as by [`reject::respond()`](crate::reject::respond) |
//! | what [`describe`](AnswerErrorsLayer::describe) knows | its [`Problem`] |
//! | an I/O error that timed out | 504 |
//! | anything else | 502, or [`otherwise`](AnswerErrorsLayer::otherwise) |
//!
//! The text of an error is never sent to the client; [`observe`](AnswerErrorsLayer::observe) gets it for the log.
//!
//! ```
//! use buttress_core::BoxError;
//! use buttress_http::answer::AnswerErrorsLayer;
//! use bytes::Bytes;
//! use http::{Request, Response, StatusCode};
//! use http_body_util::Full;
//! use tower::{ServiceBuilder, ServiceExt, service_fn};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() {
//! let upstream = service_fn(|_: Request<()>| async {
//!     Err::<Response<Full<Bytes>>, BoxError>("the upstream closed the connection".into())
//! });
//! let server = ServiceBuilder::new()
//!     .layer(AnswerErrorsLayer::new().observe(|event| eprintln!("{event:?}")))
//!     .service(upstream);
//!
//! let response = server.oneshot(Request::new(())).await.unwrap();
//! assert_eq!(response.status(), StatusCode::BAD_GATEWAY);
//! # }
//! ```

use std::convert::Infallible;
use std::error::Error as StdError;
use std::fmt;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use buttress_core::{Cause, Rejection};
use http::{Request, Response, StatusCode};
use pin_project::pin_project;
use tower_layer::Layer;
use tower_service::Service;

use crate::body::ReplyBody;
use crate::problem::{Form, Problem};
use crate::reject;

/// Makes a response of each error, and so the error type [`Infallible`]. See the [module](self).
///
/// It belongs above all other layers. The inner error must be one that can be looked into ([`Cause`]), the body one
/// that can be made of bytes ([`ReplyBody`]).
///
/// An error of the inner `poll_ready` is kept, and the next call is answered with it without calling the inner service.
pub struct AnswerErrorsLayer<D = Undescribed>(Answers<D>);

/// What to answer.
struct Answers<D> {
    describe: Arc<D>,
    otherwise: StatusCode,
    observe: Option<Observer>,
}

type Observer = Arc<dyn Fn(&AnswerEvent<'_>) + Send + Sync>;

/// What [`AnswerErrorsLayer::observe`] is told.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum AnswerEvent<'a> {
    /// A refusal became a response.
    Refused {
        /// The refusal.
        rejection: &'a Rejection,
    },
    /// An error became a response.
    Failed {
        /// The error, where [`Cause`] shows it. Its `source()` tells more.
        error: Option<&'a (dyn StdError + 'static)>,
        /// The status of the response; gRPC gets the code that says the same.
        status: StatusCode,
    },
}

/// Says what problem an error is, for the client. Implemented for closures; see [`AnswerErrorsLayer::describe`].
pub trait Describe<E> {
    /// The problem, where it is one of those that this knows.
    fn describe(&self, error: &E) -> Option<Problem>;
}

/// Knows no error: the default [`Describe`].
#[derive(Clone, Copy, Debug, Default)]
pub struct Undescribed(());

impl<E> Describe<E> for Undescribed {
    fn describe(&self, _: &E) -> Option<Problem> {
        None
    }
}

impl<F, E> Describe<E> for F
where
    F: Fn(&E) -> Option<Problem>,
{
    fn describe(&self, error: &E) -> Option<Problem> {
        self(error)
    }
}

impl AnswerErrorsLayer {
    /// Answers refusals as [`reject::respond()`](crate::reject::respond) does, timeouts with 504 and all other errors
    /// with 502.
    #[must_use]
    pub fn new() -> Self {
        Self(Answers {
            describe: Arc::new(Undescribed(())),
            otherwise: StatusCode::BAD_GATEWAY,
            observe: None,
        })
    }
}

impl Default for AnswerErrorsLayer {
    fn default() -> Self {
        Self::new()
    }
}

impl<D> AnswerErrorsLayer<D> {
    /// Answers errors of which nothing is known with `status`; the default is 502, as of a gateway.
    ///
    /// # Panics
    ///
    /// When `status` is not an error, 4xx or 5xx.
    #[must_use]
    pub fn otherwise(mut self, status: StatusCode) -> Self {
        assert!(
            status.is_client_error() || status.is_server_error(),
            "otherwise: {status} does not tell of an error; take a 4xx or 5xx"
        );
        self.0.otherwise = status;
        self
    }

    /// Lets `describe` say which problem an error is. It is asked about every error that is not a refusal; its
    /// argument needs its type written out.
    ///
    /// ```
    /// use buttress_http::{Problem, answer::AnswerErrorsLayer};
    /// use http::StatusCode;
    ///
    /// # struct DatabaseError { is_full: bool }
    /// let layer = AnswerErrorsLayer::new().describe(|error: &DatabaseError| {
    ///     error.is_full.then(|| Problem::new(StatusCode::INSUFFICIENT_STORAGE))
    /// });
    /// # let _ = layer;
    /// ```
    #[must_use]
    pub fn describe<F>(self, describe: F) -> AnswerErrorsLayer<F> {
        let Answers { otherwise, observe, .. } = self.0;
        AnswerErrorsLayer(Answers { describe: Arc::new(describe), otherwise, observe })
    }

    /// Tells `observe` of every error that is answered, for logs and counters.
    #[must_use]
    pub fn observe(mut self, observe: impl Fn(&AnswerEvent<'_>) + Send + Sync + 'static) -> Self {
        self.0.observe = Some(Arc::new(observe));
        self
    }
}

impl<D> Clone for AnswerErrorsLayer<D> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<D> Clone for Answers<D> {
    fn clone(&self) -> Self {
        Self {
            describe: Arc::clone(&self.describe),
            otherwise: self.otherwise,
            observe: self.observe.clone(),
        }
    }
}

impl<D> fmt::Debug for AnswerErrorsLayer<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AnswerErrorsLayer").field("otherwise", &self.0.otherwise).finish_non_exhaustive()
    }
}

impl<S, D> Layer<S> for AnswerErrorsLayer<D> {
    type Service = AnswerErrors<S, D>;

    fn layer(&self, inner: S) -> Self::Service {
        AnswerErrors { inner, answers: Arc::new(self.0.clone()), failed: None }
    }
}

/// An error on its way to a response.
enum Answer {
    Refusal(Rejection),
    Problem(Problem),
}

impl<D> Answers<D> {
    fn answer<E>(&self, error: &E) -> Answer
    where
        E: Cause,
        D: Describe<E>,
    {
        if let Some(rejection) = error.rejection() {
            self.tell(&AnswerEvent::Refused { rejection });
            return Answer::Refusal(rejection.clone());
        }
        let cause = error.cause();
        let problem = self.describe.describe(error).unwrap_or_else(|| {
            Problem::new(if timed_out(cause) { StatusCode::GATEWAY_TIMEOUT } else { self.otherwise })
        });
        self.tell(&AnswerEvent::Failed { error: cause, status: problem.status() });
        Answer::Problem(problem)
    }

    fn tell(&self, event: &AnswerEvent<'_>) {
        if let Some(observe) = &self.observe {
            observe(event);
        }
    }
}

impl Answer {
    fn reply<B: ReplyBody>(self, form: Form) -> Response<B> {
        match self {
            Self::Refusal(rejection) => reject::reply(form, rejection),
            Self::Problem(problem) => problem.reply(form),
        }
    }
}

/// Whether an I/O operation timed out somewhere below.
fn timed_out(mut cause: Option<&(dyn StdError + 'static)>) -> bool {
    // A cycle of causes must not hold us up.
    for _ in 0..64 {
        let Some(error) = cause else { break };
        if error.downcast_ref().is_some_and(|error: &io::Error| error.kind() == io::ErrorKind::TimedOut) {
            return true;
        }
        cause = error.source();
    }
    false
}

/// Makes a response of each error of `S`. Made by [`AnswerErrorsLayer`].
pub struct AnswerErrors<S, D = Undescribed> {
    inner: S,
    answers: Arc<Answers<D>>,
    /// What `poll_ready` failed with, for the next call.
    failed: Option<Box<Answer>>,
}

impl<S: Clone, D> Clone for AnswerErrors<S, D> {
    fn clone(&self) -> Self {
        // A clone is not ready, so it has not failed either.
        Self { inner: self.inner.clone(), answers: Arc::clone(&self.answers), failed: None }
    }
}

impl<S: fmt::Debug, D> fmt::Debug for AnswerErrors<S, D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AnswerErrors").field("inner", &self.inner).finish_non_exhaustive()
    }
}

impl<S, D, Q, B> Service<Request<Q>> for AnswerErrors<S, D>
where
    S: Service<Request<Q>, Response = Response<B>, Error: Cause>,
    D: Describe<S::Error>,
    B: ReplyBody,
{
    type Response = Response<B>;
    type Error = Infallible;
    type Future = AnswerErrorsFuture<S::Future, D>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        if self.failed.is_none()
            && let Err(error) = ready!(self.inner.poll_ready(cx))
        {
            self.failed = Some(Box::new(self.answers.answer(&error)));
        }
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Q>) -> Self::Future {
        let form = Form::of(&request);
        let state = match self.failed.take() {
            Some(answer) => State::Failed(Some(answer)),
            None => State::Called(self.inner.call(request), Arc::clone(&self.answers)),
        };
        AnswerErrorsFuture { form, state }
    }
}

/// The future of [`AnswerErrors`].
///
/// # Cancel safety
///
/// Dropping it drops the inner future.
#[pin_project]
pub struct AnswerErrorsFuture<F, D = Undescribed> {
    form: Form,
    #[pin]
    state: State<F, D>,
}

#[pin_project(project = StateProj)]
enum State<F, D> {
    Called(#[pin] F, Arc<Answers<D>>),
    Failed(Option<Box<Answer>>),
}

impl<F, D, B, E> Future for AnswerErrorsFuture<F, D>
where
    F: Future<Output = Result<Response<B>, E>>,
    D: Describe<E>,
    E: Cause,
    B: ReplyBody,
{
    type Output = Result<Response<B>, Infallible>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let answer = match this.state.project() {
            StateProj::Called(future, answers) => match ready!(future.poll(cx)) {
                Ok(response) => return Poll::Ready(Ok(response)),
                Err(error) => answers.answer(&error),
            },
            StateProj::Failed(answer) => *answer.take().expect("a future is not polled after it is ready"),
        };
        Poll::Ready(Ok(answer.reply(*this.form)))
    }
}

impl<F, D> fmt::Debug for AnswerErrorsFuture<F, D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AnswerErrorsFuture").finish_non_exhaustive()
    }
}
