use std::fmt;
use std::mem;
use std::sync::Arc;
use std::task::{Context, Poll};

use buttress_core::{Fail, Global, Key, Reject, Store};
use tower_service::Service;

use crate::future::Seat;
use crate::gate::{Course, Gate, Ruling};
use crate::rules::{Rules, Terms};
use crate::tally::Count;
use crate::{Memory, RateLimitFuture};

/// Limits how often the service `S` is called. Made by [`RateLimitLayer`](crate::RateLimitLayer).
///
/// `poll_ready` is that of `S`: over [`OnCall`](buttress_core::OnCall), as the layer makes it, always ready. The
/// decision is made in `call`, and a refused call does not touch `S`. Nor does a call that waits for its turn, until
/// that has come.
///
/// # Cancel safety
///
/// Nothing is held between calls. A call counts when it is made: dropping its future does not give the unit back,
/// whether or not `S` was called, unless the call was still waiting for its turn.
pub struct RateLimit<S, K = Global, J = Fail, St: Store = Memory, R = Rules> {
    inner: S,
    gate: Arc<Gate<K, J, St, R>>,
}

impl<S, K, J, St: Store, R> RateLimit<S, K, J, St, R> {
    pub(crate) const fn new(inner: S, gate: Arc<Gate<K, J, St, R>>) -> Self {
        Self { inner, gate }
    }

    /// The inner service.
    pub const fn inner(&self) -> &S {
        &self.inner
    }

    /// The inner service, to change it.
    pub const fn inner_mut(&mut self) -> &mut S {
        &mut self.inner
    }

    /// Unwraps the inner service.
    pub fn into_inner(self) -> S {
        self.inner
    }
}

impl<S: Clone, K, J, St: Store, R> RateLimit<S, K, J, St, R> {
    /// What was readied, for a call that waits: that instance is called, not its clone.
    fn take_ready(&mut self) -> S {
        let fresh = self.inner.clone();
        mem::replace(&mut self.inner, fresh)
    }
}

impl<S, Req, K, J, St, R> Service<Req> for RateLimit<S, K, J, St, R>
where
    S: Service<Req> + Clone,
    K: Key<Req>,
    R: Terms<Req, K, S::Response, St>,
    J: Reject<Req, R::Out, S::Error>,
    St: Store,
{
    type Response = R::Out;
    type Error = S::Error;
    type Future = RateLimitFuture<S, Req, K, J, St, R>;

    #[inline]
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    #[inline]
    fn call(&mut self, req: Req) -> Self::Future {
        let gate = &self.gate;
        match gate.ask(&req) {
            Ok(ruling) if gate.passes(&ruling) => {
                gate.core.tally.count(Count::Allowed);
                if R::SETTLES || gate.core.annotate_success {
                    return RateLimitFuture::followed(&mut self.inner, req, gate, Some(ruling.charge()));
                }
                RateLimitFuture::called(self.inner.call(req))
            }
            Ok(ruling) if gate.refuses(&ruling) => self.turn_away(&req, &ruling),
            ruling => self.go_on(req, ruling),
        }
    }
}

impl<S, K, J, St: Store, R> RateLimit<S, K, J, St, R> {
    /// Refuses a call.
    #[inline(never)]
    fn turn_away<Req>(&self, req: &Req, ruling: &Ruling<St::Decision>) -> RateLimitFuture<S, Req, K, J, St, R>
    where
        S: Service<Req>,
        K: Key<Req>,
        R: Terms<Req, K, S::Response, St>,
        J: Reject<Req, R::Out, S::Error>,
    {
        RateLimitFuture::refused(self.gate.turn_away(req, ruling))
    }

    /// What neither just passes nor is refused: apart, so that most calls do not make room for it.
    #[inline(never)]
    fn go_on<Req>(
        &mut self,
        req: Req,
        ruling: Result<Ruling<St::Decision>, Course<St::Decision, St::Wait>>,
    ) -> RateLimitFuture<S, Req, K, J, St, R>
    where
        S: Service<Req> + Clone,
        K: Key<Req>,
        R: Terms<Req, K, S::Response, St>,
        J: Reject<Req, R::Out, S::Error>,
    {
        let gate = &self.gate;
        let course = match ruling {
            Ok(ruling) => gate.judge(ruling),
            Err(course) => course,
        };
        match course {
            Course::Passed { charged, delayed: None } => {
                RateLimitFuture::followed(&mut self.inner, req, gate, Some(charged))
            }
            Course::Passed { charged, delayed: Some(delayed) } => {
                let gate = Arc::clone(gate);
                let seat = Seat::new(&gate, &req, charged, delayed);
                RateLimitFuture::in_turn(self.take_ready(), req, gate, seat)
            }
            Course::Asked(wait, asked) => {
                let gate = Arc::clone(gate);
                RateLimitFuture::asking(wait, self.take_ready(), req, gate, asked)
            }
            Course::Uncounted => RateLimitFuture::followed(&mut self.inner, req, gate, None),
            Course::Denied => RateLimitFuture::refused(gate.deny(gate.reject.form(&req))),
        }
    }
}

impl<S: Clone, K, J, St: Store, R> Clone for RateLimit<S, K, J, St, R> {
    fn clone(&self) -> Self {
        Self { inner: self.inner.clone(), gate: Arc::clone(&self.gate) }
    }
}

impl<S: fmt::Debug, K, J, St: Store, R> fmt::Debug for RateLimit<S, K, J, St, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RateLimit")
            .field("inner", &self.inner)
            .field("name", &self.gate.core.name)
            .finish_non_exhaustive()
    }
}
