use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;

use buttress_core::ManualClock;
use http_body::Body;
use tokio::runtime::Runtime;

use tower_service::Service;

use super::exchange::{Answer, Exchange, Inner, Shape};
use super::{Point, Subject, Tripwire};
use crate::service::{StrictHandle, StrictService};
use crate::task::{POLLS_PER_EVENT, Task};
use crate::time::settle;

/// Counts what a layer holds or keeps.
pub(super) type Probe<L> = Arc<dyn Fn(&L) -> usize + Send + Sync>;

/// What a scenario found wrong; the scenario's own point unless it says another.
pub(super) struct Wrong {
    pub(super) point: Option<Point>,
    pub(super) what: String,
}

impl<T: Into<String>> From<T> for Wrong {
    fn from(what: T) -> Self {
        Self { point: None, what: what.into() }
    }
}

pub(super) type Checked<T = ()> = Result<T, Wrong>;

/// One fresh layer around one strict service, with a runtime and a clock of its own.
///
/// Futures are polled by hand outside `block_on`: there tokio's cooperative budget, which would wake a task
/// for reasons of its own, does not apply.
pub(super) struct Rig<L: Subject<X>, X: Exchange> {
    pub(super) layer: L,
    pub(super) inner: StrictHandle<X::Error>,
    pub(super) clock: ManualClock,
    pub(super) runtime: Runtime,
    pub(super) tripwire: Tripwire,
    bare: Option<Inner<X>>,
    held: Option<Probe<L>>,
    next: Cell<u32>,
}

impl<L: Subject<X>, X: Exchange> Rig<L, X> {
    pub(super) fn new(
        layer: L,
        tripwire: Tripwire,
        clock: ManualClock,
        held: Option<Probe<L>>,
        runtime: Runtime,
    ) -> Self {
        let (bare, inner) = StrictService::new(X::reply);
        Self { layer, inner, clock, runtime, tripwire, bare: Some(bare), held, next: Cell::new(0) }
    }

    /// The layered service. Once per rig.
    pub(super) fn service(&mut self) -> L::Layered {
        let bare = self.bare.take().expect("a scenario builds one service");
        self.layer.wrap(bare)
    }

    /// A request that was not sent before.
    pub(super) fn request(&self) -> (u32, X::Request) {
        self.shaped(Shape::Short)
    }

    pub(super) fn shaped(&self, shape: Shape) -> (u32, X::Request) {
        let number = self.next.get();
        self.next.set(number + 1);
        (number, X::request(number, shape))
    }

    /// Lets spawned tasks run.
    pub(super) fn settle(&self) {
        self.runtime.block_on(settle());
    }

    /// Runs the tasks by their wakes alone until none is woken; gives the outputs of those that finished.
    pub(super) fn run_all<F: Future>(&self, tasks: &mut [Task<F>]) -> Checked<Vec<F::Output>> {
        let before: Vec<_> = tasks.iter().map(Task::polls).collect();
        let mut outputs = Vec::new();
        loop {
            self.settle();
            let mut polled = false;
            for (task, before) in tasks.iter_mut().zip(&before) {
                if !task.wants_poll() {
                    continue;
                }
                if task.polls() - before >= POLLS_PER_EVENT {
                    return Err(Wrong {
                        point: Some(Point::Wakes),
                        what: format!(
                            "a call was polled {POLLS_PER_EVENT} times while nothing happened: it wakes itself in a loop"
                        ),
                    });
                }
                polled = true;
                if let std::task::Poll::Ready(output) = task.poll() {
                    outputs.push(output);
                }
            }
            if !polled {
                return Ok(outputs);
            }
        }
    }

    pub(super) fn run<F: Future>(&self, task: &mut Task<F>) -> Checked<Option<F::Output>> {
        Ok(self.run_all(std::slice::from_mut(task))?.pop())
    }

    /// Readies `service`; `false` when it waits.
    pub(super) fn ready(&self, service: &mut L::Layered) -> Checked<bool> {
        match self.run(&mut Task::new(poll_fn(|cx| service.poll_ready(cx))))? {
            Some(Ok(())) => Ok(true),
            Some(Err(_)) => Err("poll_ready fails although the inner service does not".into()),
            None => Ok(false),
        }
    }

    /// Readies `service` and says so when it waits although nothing stands in its way.
    pub(super) fn must_ready(&self, service: &mut L::Layered) -> Checked {
        if self.ready(service)? {
            Ok(())
        } else {
            Err("poll_ready is pending although the inner service is ready and nothing is in flight".into())
        }
    }

    /// One whole call that has to succeed.
    pub(super) fn serve(&self, service: &mut L::Layered, when: &str) -> Checked {
        let (number, request) = self.request();
        match self.run(&mut Task::new(exchange::<L, X>(service, request)))? {
            None => Err(format!(
                "{when}, a call does not finish although the inner service is ready and answers at once"
            )
            .into()),
            Some(Err(error)) => Err(format!("{when}, a call {error}").into()),
            Some(Ok(answer)) if answer != number => {
                Err(format!("{when}, a call gets the answer of another one").into())
            }
            Some(Ok(_)) => Ok(()),
        }
    }

    /// Nothing of a call may be left; the service itself may still be there.
    pub(super) fn clean(&self, when: &str) -> Checked {
        self.settle();
        let in_flight = self.inner.in_flight();
        if in_flight > 0 {
            return Err(
                format!("{when}, {in_flight} call(s) of the inner service are still in flight").into()
            );
        }
        self.nothing_held(when)
    }

    pub(super) fn nothing_held(&self, when: &str) -> Checked {
        match self.held() {
            0 => Ok(()),
            held => Err(format!("{when}, the layer still holds {held} (by the `held` probe)").into()),
        }
    }

    pub(super) fn probe(&self) -> Option<Probe<L>> {
        self.held.clone()
    }

    pub(super) fn held(&self) -> usize {
        self.settle();
        self.held.as_ref().map_or(0, |held| held(&self.layer))
    }

    /// Drops what is left of the services, then the layer: nothing of the inner service may outlive them.
    pub(super) fn close<T>(self, services: T) -> Checked {
        drop(services);
        self.clean("after every service was dropped")?;
        let (waiting, reserved) = (self.inner.waiting(), self.inner.reserved());
        let Self { layer, inner, runtime, bare, .. } = self;
        drop((layer, bare));
        runtime.block_on(settle());
        if waiting > 0 {
            return Err(format!(
                "after every service and future was dropped, {waiting} place(s) in the inner service's queue are kept"
            )
            .into());
        }
        if reserved > 0 {
            return Err(format!(
                "after every service and future was dropped, {reserved} readied instance(s) of the inner service are kept"
            )
            .into());
        }
        match inner.alive() {
            0 => Ok(()),
            alive => Err(format!(
                "{alive} instance(s) of the inner service outlive the layer, its services and its futures"
            )
            .into()),
        }
    }
}

/// One whole call: readies, calls, and reads the body to its end.
pub(super) async fn exchange<L: Subject<X>, X: Exchange>(
    service: &mut L::Layered,
    request: X::Request,
) -> Result<u32, String> {
    if poll_fn(|cx| service.poll_ready(cx)).await.is_err() {
        return Err("fails in poll_ready".to_owned());
    }
    answered::<L, X>(service.call(request)).await
}

/// The rest of a call that was made: its response, read to the end.
pub(super) async fn answered<L: Subject<X>, X: Exchange>(
    call: <L::Layered as Service<X::Request>>::Future,
) -> Result<u32, String> {
    let Ok(response) = call.await else {
        return Err("fails".to_owned());
    };
    let (number, body) = response.split();
    let mut body = pin!(body);
    while !body.is_end_stream() {
        match poll_fn(|cx| body.as_mut().poll_frame(cx)).await {
            Some(Ok(_)) => {}
            Some(Err(error)) => return Err(format!("fails in its body: {}", error.into())),
            None => break,
        }
    }
    number
}

/// As [`exchange`]; the service goes away with its call.
pub(super) async fn oneshot<L: Subject<X>, X: Exchange>(
    mut service: L::Layered,
    request: X::Request,
) -> Result<u32, String> {
    exchange::<L, X>(&mut service, request).await
}
