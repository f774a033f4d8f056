//! What the layer does around a service, on a clock that the test moves. The letters are those of the contract in the
//! crate's page.

mod by_hand;
mod dropped_calls;
mod half_open;
mod inner_service;
mod keys;
mod late_results;
mod open;
mod opening;
mod outcomes;
mod panics;
mod ramp;
mod sharing;
mod time;
mod types;

use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::task::Poll;
use std::time::Duration;

use buttress_circuit_breaker::{
    CircuitBreaker, CircuitBreakerFuture, CircuitBreakerLayer, Handle, OnDrop, Ramp, Settings, State, Window,
};
use buttress_core::{
    AtHead, BoxError, ByCause, Cause, Clock, Fail, Global, ManualClock, OnCall, Outcome, Rejection,
    RejectionKind, Timestamp,
};
use buttress_testkit::{StrictHandle, StrictService, Task, assert_send, assert_send_sync_clone_unpin};
use tower::{Service, ServiceExt};
use tower_layer::Layer;

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);

type Echo = StrictService<u32, u32>;

/// A breaker around an echo, with all that a test steers it by.
struct Rig<S> {
    service: S,
    inner: StrictHandle,
    time: ManualClock,
    handle: Handle,
}

/// Opens after two failures in a row, for 5 s, then 10 s and so on to a minute, without jitter, and has one probe.
fn simple() -> CircuitBreakerLayer {
    CircuitBreakerLayer::failures_in_a_row(2).open_for(5 * SECOND, MINUTE).jitter(0.0).probes(1)
}

fn rig(layer: CircuitBreakerLayer) -> Rig<CircuitBreaker<OnCall<Echo>>> {
    rig_of(layer)
}

fn rig_of<K: Clone, C: Clone>(
    layer: CircuitBreakerLayer<K, Fail, C>,
) -> Rig<CircuitBreaker<OnCall<Echo>, K, Fail, C>> {
    let (time, (inner, watch)) = (ManualClock::new(), StrictService::new(|n| n));
    let layer = layer.clock(time.clock());
    Rig { handle: layer.handle(), service: layer.layer(inner), inner: watch, time }
}

impl<S> Rig<S>
where
    S: Service<u32, Response = u32, Error = BoxError> + Clone,
{
    /// One call, which has to finish at once.
    fn call(&self, n: u32) -> Result<u32, BoxError> {
        match self.start(n).run() {
            Poll::Ready(result) => result,
            Poll::Pending => panic!("a call waits although the inner service is ready"),
        }
    }

    /// A call that may be held by the inner service.
    fn start(&self, n: u32) -> Task<impl Future<Output = Result<u32, BoxError>> + use<S>> {
        Task::new(self.service.clone().oneshot(n))
    }

    /// A call that is under way, and held.
    fn held(&self, n: u32) -> Task<impl Future<Output = Result<u32, BoxError>> + use<S>> {
        self.inner.hold();
        let mut call = self.start(n);
        assert!(call.run().is_pending(), "it is held");
        call
    }

    /// A call that is under way, and held, and fails when it is released.
    fn held_failure(&self) -> Task<impl Future<Output = Result<u32, BoxError>> + use<S>> {
        self.inner.fail("out of paper".into());
        self.held(0)
    }

    fn succeed(&self, calls: u32) {
        for n in 0..calls {
            assert_eq!(self.call(n).expect("it passes"), n);
        }
    }

    fn fail(&self, calls: u32) {
        for n in 0..calls {
            self.inner.fail("out of paper".into());
            let error = self.call(n).expect_err("it fails");
            assert_eq!(error.to_string(), "out of paper");
        }
    }

    fn refusal(&self) -> Rejection {
        let refused = self.call(0).expect_err("it is refused");
        refused.rejection().expect("the error is a rejection").clone()
    }

    fn passes(&self) -> bool {
        let before = self.inner.calls();
        let _ = self.call(0);
        self.inner.calls() > before
    }

    fn state(&self) -> State {
        self.handle.state()
    }
}
