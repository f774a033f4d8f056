use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use buttress_core::{Answer, OnCall, OnCallFuture, Reject, Rejection, RejectionKind};
use pin_project::pin_project;
use tower_service::Service;

use super::epoch::Epoch;
use super::rules::{Count, Rules};
use super::{Locate, Located, Moves, Moving, ShardsEvent};

/// The response future of [`Shards`](crate::Shards).
///
/// # Cancel safety
///
/// Dropping it drops the call of its shard. A lookup goes on as long as other calls wait for it.
#[pin_project]
#[must_use = "futures do nothing unless polled"]
pub struct ShardsFuture<S, Req, L, M, J>
where
    S: Service<Req>,
    L: Locate<Req>,
    J: Reject<Req, S::Response, S::Error>,
{
    #[pin]
    state: State<S, Req, L::Wait, M, J, J::Form, Result<S::Response, S::Error>>,
    /// Held as long as the call is under way.
    epoch: Option<Arc<Epoch>>,
}

#[pin_project(project = StateProj)]
enum State<S, Req, W, M, J, Form, T>
where
    S: Service<Req>,
{
    /// The directory is asked.
    Looking {
        #[pin]
        wait: W,
        call: Option<Waiting<S, Req, M, J, Form>>,
    },
    /// The shard has the call.
    Called {
        #[pin]
        future: OnCallFuture<S, Req>,
    },
    /// The new place of a key that moves is read.
    Reading {
        #[pin]
        future: OnCallFuture<S, Req>,
        fallback: Option<Fallback<S, Req, M, J>>,
    },
    /// Refused: the answer is there.
    Refused { result: Option<T> },
}

/// A call that does not know its shard yet.
struct Waiting<S, Req, M, J, Form> {
    services: Arc<[S]>,
    rules: Arc<Rules<M, J>>,
    req: Req,
    form: Form,
}

/// The former place of a key that moves.
struct Fallback<S, Req, M, J> {
    service: S,
    req: Req,
    rules: Arc<Rules<M, J>>,
    moving: Moving,
}

impl<S, Req, L, M, J> ShardsFuture<S, Req, L, M, J>
where
    S: Service<Req> + Clone,
    L: Locate<Req>,
    M: Moves<Req, S::Response, S::Error>,
    J: Reject<Req, S::Response, S::Error>,
{
    #[inline]
    pub(crate) fn new(
        services: &Arc<[S]>,
        rules: &Arc<Rules<M, J>>,
        epoch: Arc<Epoch>,
        answer: Answer<Located, L::Wait>,
        req: Req,
    ) -> Self {
        let form = rules.reject.form(&req);
        let state = match answer {
            Answer::Now(located) => State::route(services, rules, located, req, form),
            Answer::Later(wait) => {
                let call = Waiting { services: Arc::clone(services), rules: Arc::clone(rules), req, form };
                State::Looking { wait, call: Some(call) }
            }
        };
        Self { state, epoch: Some(epoch) }
    }
}

impl<S, Req, W, M, J, Form: Copy> State<S, Req, W, M, J, Form, Result<S::Response, S::Error>>
where
    S: Service<Req> + Clone,
    M: Moves<Req, S::Response, S::Error>,
    J: Reject<Req, S::Response, S::Error, Form = Form>,
{
    #[inline]
    fn route(services: &[S], rules: &Arc<Rules<M, J>>, located: Located, req: Req, form: Form) -> Self {
        match located {
            Located::At(shard) if shard < services.len() => Self::called(&services[shard], req),
            Located::Moving(moving) => Self::moving(services, rules, moving, req, form),
            _ => Self::refused(rules, located, form),
        }
    }

    #[inline]
    fn called(service: &S, req: Req) -> Self {
        Self::Called { future: OnCall::new(service.clone()).call(req) }
    }

    #[inline(never)]
    fn moving(services: &[S], rules: &Arc<Rules<M, J>>, moving: Moving, req: Req, form: Form) -> Self {
        let known = services.get(moving.from).zip(services.get(moving.first()));
        let (Some((from, to)), Some(access)) = (known, rules.moves.access(&req)) else {
            return Self::refused(rules, Located::Moving(moving), form);
        };
        let fallback = moving.then(access).filter(|_| moving.from != moving.to);
        let Some(again) = fallback.and_then(|_| rules.moves.again(&req)) else {
            return Self::called(to, req);
        };
        let fallback = Fallback { service: from.clone(), req: again, rules: Arc::clone(rules), moving };
        Self::Reading { future: OnCall::new(to.clone()).call(req), fallback: Some(fallback) }
    }

    #[inline(never)]
    fn refused(rules: &Rules<M, J>, located: Located, form: Form) -> Self {
        let policy = &rules.name;
        let kind = if located == Located::Unknown {
            rules.tally.add(Count::Unknown);
            rules.watch.tell(&ShardsEvent::Unknown { policy });
            RejectionKind::NoEndpoint
        } else {
            rules.tally.add(Count::NoShard);
            rules.watch.tell(&ShardsEvent::NoShard { policy, located });
            RejectionKind::NoShard
        };
        let rejection = Rejection::new(kind).with_policy(policy.clone());
        Self::Refused { result: Some(rules.reject.reject(form, rejection)) }
    }
}

impl<S, Req, L, M, J> Future for ShardsFuture<S, Req, L, M, J>
where
    S: Service<Req> + Clone,
    L: Locate<Req>,
    M: Moves<Req, S::Response, S::Error>,
    J: Reject<Req, S::Response, S::Error>,
{
    type Output = Result<S::Response, S::Error>;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        let result = loop {
            let next = match this.state.as_mut().project() {
                StateProj::Called { future } => break ready!(future.poll(cx)),
                StateProj::Looking { wait, call } => {
                    let located = ready!(wait.poll(cx));
                    let Waiting { services, rules, req, form } =
                        call.take().expect("polled after it was ready");
                    State::route(&services, &rules, located, req, form)
                }
                StateProj::Reading { future, fallback } => {
                    let result = ready!(future.poll(cx));
                    let Fallback { service, req, rules, moving } =
                        fallback.take().expect("polled after it was ready");
                    if !rules.moves.not_found(result.as_ref()) {
                        break result;
                    }
                    rules.tally.add(Count::Fallback);
                    rules.watch.tell(&ShardsEvent::Fallback { policy: &rules.name, moving });
                    State::called(&service, req)
                }
                StateProj::Refused { result } => break result.take().expect("polled after it was ready"),
            };
            this.state.set(next);
        };
        *this.epoch = None;
        Poll::Ready(result)
    }
}

impl<S, Req, L, M, J> fmt::Debug for ShardsFuture<S, Req, L, M, J>
where
    S: Service<Req>,
    L: Locate<Req>,
    J: Reject<Req, S::Response, S::Error>,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match self.state {
            State::Looking { .. } => "looking up the shard",
            State::Called { .. } => "called",
            State::Reading { .. } => "reading a key that moves",
            State::Refused { .. } => "refused",
        };
        f.debug_tuple("ShardsFuture").field(&state).finish()
    }
}
