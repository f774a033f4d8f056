use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use buttress_core::{
    AtHead, ByCause, Changed, Classify, Endpoint, Fail, Finish, HasFacts, OnCall, OnCallFuture, Reject,
    Rejection, RejectionKind, Sleep,
};
use pin_project::{pin_project, pinned_drop};
use tokio::sync::futures::OwnedNotified;
use tower_service::Service;

use super::shared::Shared;
use super::station::{Armed, Flight};
use super::{Placed, Without};
use crate::sync::Ordering;
use crate::{BalanceEvent, Policy};

/// The response future of [`Balancer`](crate::Balancer).
///
/// # Cancel safety
///
/// Dropped, it gives back its place at the endpoint, or among those who wait for one.
#[pin_project(PinnedDrop)]
#[must_use = "futures do nothing unless polled"]
pub struct BalanceFuture<S, Req, P, J = Fail, C = ByCause, F = AtHead>
where
    S: Service<Req>,
    P: Policy,
    F: Finish<Req, S::Response, Flight<P, C>>,
    J: Reject<Req, F::Out, S::Error>,
{
    #[pin]
    state: State<S, Req, P, J, C, F>,
}

#[pin_project(project = StateProj)]
enum State<S, Req, P, J, C, F>
where
    S: Service<Req>,
    P: Policy,
    F: Finish<Req, S::Response, Flight<P, C>>,
    J: Reject<Req, F::Out, S::Error>,
{
    /// An endpoint has the call.
    Called {
        #[pin]
        future: OnCallFuture<S, Req>,
        form: F::Form,
        finish: F,
        flight: Option<Flight<P, C>>,
    },
    /// No endpoint can take it yet.
    Waiting(Pin<Box<Waiting<S, Req, P, J, C, F>>>),
    /// The answer is there.
    Refused { result: Option<Result<F::Out, S::Error>> },
}

/// A call that waits for an endpoint.
#[pin_project]
struct Waiting<S, Req, P, J, C, F>
where
    P: Policy,
{
    shared: Arc<Shared<S, P, C>>,
    request: Option<Req>,
    hash: u64,
    reject: J,
    finish: F,
    _among: Among<P, C>,
    #[pin]
    time_up: Sleep,
    #[pin]
    changed: Changed,
    #[pin]
    freed: OwnedNotified,
}

/// Counts a call among those that wait.
struct Among<P: Policy, C>(Arc<super::station::Rules<P, C>>);

impl<P: Policy, C> Among<P, C> {
    fn new(rules: Arc<super::station::Rules<P, C>>) -> Self {
        rules.waiting.fetch_add(1, Ordering::SeqCst);
        Self(rules)
    }
}

impl<P: Policy, C> Drop for Among<P, C> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::SeqCst);
    }
}

impl<S, Req, P, J, C, F> BalanceFuture<S, Req, P, J, C, F>
where
    S: Service<Req> + Clone + Send + Sync + 'static,
    Req: HasFacts,
    P: Policy,
    C: Classify<S::Response, S::Error> + Send + Sync + 'static,
    F: Finish<Req, S::Response, Flight<P, C>> + Clone,
    J: Reject<Req, F::Out, S::Error> + Clone,
{
    /// Begins a call of `request`.
    #[inline]
    pub(crate) fn new(
        shared: &Arc<Shared<S, P, C>>,
        hash: u64,
        request: Req,
        reject: &J,
        finish: &F,
    ) -> Self {
        let state = match shared.place(hash, &request) {
            Ok(place) => State::call(place, request, finish.clone()),
            Err(without) => Self::without(shared, hash, request, reject, finish, without),
        };
        Self { state }
    }

    #[cold]
    fn without(
        shared: &Arc<Shared<S, P, C>>,
        hash: u64,
        request: Req,
        reject: &J,
        finish: &F,
        without: Without,
    ) -> State<S, Req, P, J, C, F> {
        let rules = &shared.rules;
        if rules.settings.fail_fast.is_zero() {
            return State::refuse(shared, &request, reject, without);
        }
        let among = Among::new(Arc::clone(rules));
        let waiting = Waiting {
            shared: Arc::clone(shared),
            request: Some(request),
            hash,
            reject: reject.clone(),
            finish: finish.clone(),
            _among: among,
            time_up: rules.settings.clock.sleep(rules.settings.fail_fast),
            changed: Endpoint::changed(),
            freed: Arc::clone(&rules.freed).notified_owned(),
        };
        State::Waiting(Box::pin(waiting))
    }
}

impl<S, Req, P, J, C, F> State<S, Req, P, J, C, F>
where
    S: Service<Req> + Clone + Send + Sync + 'static,
    Req: HasFacts,
    P: Policy,
    C: Classify<S::Response, S::Error> + Send + Sync + 'static,
    F: Finish<Req, S::Response, Flight<P, C>> + Clone,
    J: Reject<Req, F::Out, S::Error>,
{
    #[inline]
    fn call(place: Placed<S, P, C>, request: Req, finish: F) -> Self {
        let Placed { mut flight, service } = place;
        // The inner service may panic.
        let armed = Armed(&mut flight);
        let form = finish.form(&request);
        let future = OnCall::new(service).call(request);
        armed.disarm();
        Self::Called { future, form, finish, flight: Some(flight) }
    }

    #[cold]
    fn refuse(shared: &Shared<S, P, C>, request: &Req, reject: &J, without: Without) -> Self {
        let settings = &shared.rules.settings;
        let overloaded = without == Without::Place;
        settings.tell(&BalanceEvent::NoEndpoint { overloaded });
        let kind = if overloaded { RejectionKind::Overloaded } else { RejectionKind::NoEndpoint };
        let rejection = Rejection::new(kind).with_policy(settings.name.clone());
        Self::Refused { result: Some(reject.reject(reject.form(request), rejection)) }
    }
}

impl<S, Req, P, J, C, F> Waiting<S, Req, P, J, C, F>
where
    S: Service<Req> + Clone + Send + Sync + 'static,
    Req: HasFacts,
    P: Policy,
    C: Classify<S::Response, S::Error> + Send + Sync + 'static,
    F: Finish<Req, S::Response, Flight<P, C>> + Clone,
    J: Reject<Req, F::Out, S::Error>,
{
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<State<S, Req, P, J, C, F>> {
        let mut this = self.project();
        loop {
            // They count from when they are made, and both are looked at, so that no change goes by.
            let changed = this.changed.as_mut().poll(cx).is_ready();
            if changed {
                this.changed.set(Endpoint::changed());
            }
            let freed = this.freed.as_mut().poll(cx).is_ready();
            if freed {
                this.freed.set(Arc::clone(&this.shared.rules.freed).notified_owned());
            }
            let request = this.request.take().expect("polled after it was ready");
            match this.shared.place(*this.hash, &request) {
                Ok(place) => return Poll::Ready(State::call(place, request, this.finish.clone())),
                Err(without) => {
                    if this.time_up.as_mut().poll(cx).is_ready() {
                        return Poll::Ready(State::refuse(this.shared, &request, this.reject, without));
                    }
                }
            }
            *this.request = Some(request);
            if !changed && !freed {
                return Poll::Pending;
            }
        }
    }
}

impl<S, Req, P, J, C, F> Future for BalanceFuture<S, Req, P, J, C, F>
where
    S: Service<Req> + Clone + Send + Sync + 'static,
    Req: HasFacts,
    P: Policy,
    C: Classify<S::Response, S::Error> + Send + Sync + 'static,
    F: Finish<Req, S::Response, Flight<P, C>> + Clone,
    J: Reject<Req, F::Out, S::Error>,
{
    type Output = Result<F::Out, S::Error>;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut state = self.project().state;
        loop {
            match state.as_mut().project() {
                StateProj::Called { future, form, finish, flight } => {
                    let holder = flight.as_mut().expect("polled after it was ready");
                    // The inner future and the classifier may panic.
                    let armed = Armed(holder);
                    let Poll::Ready(result) = future.poll(cx) else {
                        armed.disarm();
                        return Poll::Pending;
                    };
                    armed.0.answered(result.as_ref());
                    armed.disarm();
                    let flight = flight.take().expect("it is there");
                    return Poll::Ready(result.map(|res| finish.finish(*form, res, flight)));
                }
                StateProj::Waiting(waiting) => {
                    let next = ready!(waiting.as_mut().poll(cx));
                    state.set(next);
                }
                StateProj::Refused { result } => {
                    return Poll::Ready(result.take().expect("polled after it was ready"));
                }
            }
        }
    }
}

#[pinned_drop]
impl<S, Req, P, J, C, F> PinnedDrop for BalanceFuture<S, Req, P, J, C, F>
where
    S: Service<Req>,
    P: Policy,
    F: Finish<Req, S::Response, Flight<P, C>>,
    J: Reject<Req, F::Out, S::Error>,
{
    fn drop(self: Pin<&mut Self>) {
        if let StateProj::Called { flight: Some(flight), .. } = self.project().state.project() {
            flight.dropped();
        }
    }
}

impl<S, Req, P, J, C, F> fmt::Debug for BalanceFuture<S, Req, P, J, C, F>
where
    S: Service<Req>,
    P: Policy,
    F: Finish<Req, S::Response, Flight<P, C>>,
    J: Reject<Req, F::Out, S::Error>,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match self.state {
            State::Called { .. } => "called",
            State::Waiting(_) => "waiting for an endpoint",
            State::Refused { .. } => "refused",
        };
        f.debug_tuple("BalanceFuture").field(&state).finish()
    }
}
