use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};

use buttress_core::{AtHead, ByCause, Classify, Finish};
use pin_project::pin_project;
use tower_service::Service;

use crate::call::{Admitted, Armed, HealthCall};

/// The response future of [`Health`](crate::Health).
///
/// # Cancel safety
///
/// Dropped before the answer, it marks nothing.
#[pin_project]
#[must_use = "futures do nothing unless polled"]
pub struct HealthFuture<S, Req, C = ByCause, F = AtHead>
where
    S: Service<Req>,
    F: Finish<Req, S::Response, HealthCall<C>>,
{
    #[pin]
    state: State<S, Req, C, F>,
}

#[pin_project(project = StateProj)]
enum State<S, Req, C, F>
where
    S: Service<Req>,
    F: Finish<Req, S::Response, HealthCall<C>>,
{
    /// Admitted.
    Called {
        #[pin]
        future: S::Future,
        form: F::Form,
        finish: F,
        call: Admitted<C>,
    },
    /// Refused: the answer is there.
    Refused { result: Option<Result<F::Out, S::Error>> },
}

impl<S, Req, C, F> HealthFuture<S, Req, C, F>
where
    S: Service<Req>,
    F: Finish<Req, S::Response, HealthCall<C>>,
{
    #[inline]
    pub(crate) const fn called(future: S::Future, form: F::Form, finish: F, call: Admitted<C>) -> Self {
        Self { state: State::Called { future, form, finish, call } }
    }

    #[inline]
    pub(crate) const fn refused(result: Result<F::Out, S::Error>) -> Self {
        Self { state: State::Refused { result: Some(result) } }
    }
}

impl<S, Req, C, F> Future for HealthFuture<S, Req, C, F>
where
    S: Service<Req>,
    C: Classify<S::Response, S::Error>,
    F: Finish<Req, S::Response, HealthCall<C>>,
{
    type Output = Result<F::Out, S::Error>;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project().state.project() {
            StateProj::Called { future, form, finish, call } => {
                // The inner future and the classifier may panic.
                let mut armed = Armed::new(call);
                match future.poll(cx) {
                    Poll::Pending => {
                        armed.disarm();
                        Poll::Pending
                    }
                    Poll::Ready(Ok(res)) => {
                        let call = armed.call().answered::<_, S::Error>(&res);
                        armed.disarm();
                        Poll::Ready(Ok(finish.finish(*form, res, call)))
                    }
                    Poll::Ready(Err(error)) => {
                        armed.call().failed::<S::Response, _>(&error);
                        armed.disarm();
                        Poll::Ready(Err(error))
                    }
                }
            }
            StateProj::Refused { result } => Poll::Ready(result.take().expect("polled after it was ready")),
        }
    }
}

impl<S, Req, C, F> fmt::Debug for HealthFuture<S, Req, C, F>
where
    S: Service<Req>,
    F: Finish<Req, S::Response, HealthCall<C>>,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match self.state {
            State::Called { .. } => "called",
            State::Refused { .. } => "refused",
        };
        f.debug_tuple("HealthFuture").field(&state).finish()
    }
}
