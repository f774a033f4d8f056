use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use buttress_core::{Decided, Reject, Store};
use pin_project::pin_project;
use tower_service::Service;

use crate::gate::Gate;

/// The response future of [`RateLimit`](crate::RateLimit).
#[pin_project]
#[must_use = "futures do nothing unless polled"]
pub struct RateLimitFuture<S, Req, K, J, St>
where
    S: Service<Req>,
    J: Reject<Req, S::Response, S::Error>,
    St: Store,
{
    #[pin]
    state: State<
        S,
        Req,
        S::Future,
        St::Wait,
        St::Decision,
        Result<S::Response, S::Error>,
        Arc<Gate<K, J, St>>,
        J::Form,
    >,
}

#[pin_project(project = StateProj)]
enum State<S, Req, F, W, D, R, G, Form> {
    /// Allowed; the note is what to write into the response.
    Called {
        #[pin]
        future: F,
        note: Option<(G, Form, D)>,
    },
    /// Refused: the answer is there.
    Refused { result: Option<R> },
    /// The store answers later. The service is the one that was readied.
    Waiting {
        #[pin]
        wait: W,
        call: Option<(S, Req, G)>,
        form: Form,
        cost: u32,
    },
}

impl<S, Req, K, J, St> RateLimitFuture<S, Req, K, J, St>
where
    S: Service<Req>,
    J: Reject<Req, S::Response, S::Error>,
    St: Store,
{
    #[inline]
    pub(crate) const fn called(
        future: S::Future,
        note: Option<(Arc<Gate<K, J, St>>, J::Form, St::Decision)>,
    ) -> Self {
        Self { state: State::Called { future, note } }
    }

    #[inline]
    pub(crate) const fn refused(result: Result<S::Response, S::Error>) -> Self {
        Self { state: State::Refused { result: Some(result) } }
    }

    pub(crate) const fn waiting(
        wait: St::Wait,
        service: S,
        req: Req,
        gate: Arc<Gate<K, J, St>>,
        form: J::Form,
        cost: u32,
    ) -> Self {
        Self { state: State::Waiting { wait, call: Some((service, req, gate)), form, cost } }
    }
}

impl<S, Req, K, J, St> Future for RateLimitFuture<S, Req, K, J, St>
where
    S: Service<Req>,
    J: Reject<Req, S::Response, S::Error>,
    St: Store,
{
    type Output = Result<S::Response, S::Error>;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut state = self.project().state;
        loop {
            match state.as_mut().project() {
                StateProj::Called { future, note } => {
                    let mut result = ready!(future.poll(cx));
                    if let (Ok(res), Some((gate, form, decision))) = (&mut result, note.take()) {
                        gate.annotate(form, res, &decision);
                    }
                    return Poll::Ready(result);
                }
                StateProj::Refused { result } => {
                    return Poll::Ready(result.take().expect("polled after it was ready"));
                }
                StateProj::Waiting { wait, call, form, cost } => {
                    let decision = ready!(wait.poll(cx));
                    let (form, cost) = (*form, *cost);
                    let (mut service, req, gate) = call.take().expect("polled after it was ready");
                    gate.report(cost, &decision);
                    if !decision.admitted() {
                        return Poll::Ready(gate.refuse(form, &decision));
                    }
                    let future = service.call(req);
                    let note = gate.annotate_success.then_some((gate, form, decision));
                    state.set(State::Called { future, note });
                }
            }
        }
    }
}

impl<S, Req, K, J, St> fmt::Debug for RateLimitFuture<S, Req, K, J, St>
where
    S: Service<Req>,
    J: Reject<Req, S::Response, S::Error>,
    St: Store,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match self.state {
            State::Called { .. } => "called",
            State::Refused { .. } => "refused",
            State::Waiting { .. } => "waiting for the store",
        };
        f.debug_tuple("RateLimitFuture").field(&state).finish()
    }
}
