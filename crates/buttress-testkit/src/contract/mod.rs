mod body;
mod cancel;
mod exchange;
mod given;
mod hot_path;
mod panics;
mod point;
mod readiness;
mod report;
mod rig;
mod time;
mod tripwire;
mod wakes;

use std::any::Any;
use std::fmt;
use std::marker::PhantomData;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use buttress_core::{Clock, ManualClock};
use tower_layer::Layer;
use tower_service::Service;

#[doc(hidden)]
pub use exchange::Shape;
pub use exchange::{Answer, Exchange, Http, Inner, Plain};
pub use point::Point;
pub use report::{Failure, Report};
pub use tripwire::Tripwire;

#[cfg(doc)]
use crate::BoxError;
use crate::service::Fault;
use given::{Ending, Epoch, Refusal};
use panics::Place;
use rig::{Checked, Probe, Rig, Wrong};
use wakes::Wait;

/// How often a scenario repeats what might leak.
const ROUNDS: usize = 8;
/// How many clones wait for one event.
const WAITERS: usize = 3;
/// How often the inner service panics: few, so that a breaker stays closed.
const PANICS: usize = 2;
/// A scenario takes milliseconds; one that takes this long blocks its thread, on the slowest machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// Checks that the layer keeps the contract, and panics with what is wrong.
///
/// Short for [`Contract::new`]`(make).run()`; `make` builds a fresh layer for each scenario. See [`Contract`]
/// for what the layer has to admit, and for what the suite can check when it is told more.
///
/// ```
/// buttress_testkit::contract(tower_layer::Identity::new);
/// ```
///
/// # Panics
///
/// When the layer breaks a point of the contract.
#[track_caller]
pub fn contract<L: Subject<Plain>>(make: impl Fn() -> L + Send + Sync + 'static) {
    Contract::new(make).run();
}

/// As [`contract()`], for a layer over HTTP messages: bodies are examined as well.
///
/// ```
/// buttress_testkit::http_contract(tower_layer::Identity::new);
/// ```
///
/// # Panics
///
/// When the layer breaks a point of the contract.
#[track_caller]
pub fn http_contract<L: Subject<Http>>(make: impl Fn() -> L + Send + Sync + 'static) {
    Contract::http(make).run();
}

/// A layer that can be examined: `Send`, `Sync`, `Clone`, with a service that is `Send`, `Sync`, `Clone` and
/// `Unpin` and whose futures are `Send`. These bounds are point 10 of the contract.
///
/// A service that is not `Send` does not compile:
///
/// ```compile_fail
/// # use std::{rc::Rc, task::{Context, Poll}};
/// # use tower_service::Service;
/// #[derive(Clone)]
/// struct Local<S>(S, Rc<()>);
///
/// impl<S: Service<u32>> Service<u32> for Local<S> {
/// #   type Response = S::Response;
/// #   type Error = S::Error;
/// #   type Future = S::Future;
/// #   fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> { self.0.poll_ready(cx) }
/// #   fn call(&mut self, req: u32) -> S::Future { self.0.call(req) }
/// }
///
/// buttress_testkit::contract(|| tower_layer::layer_fn(|inner| Local(inner, Rc::new(()))));
/// ```
///
/// The same with an `Arc` does:
///
/// ```
/// # use std::{sync::Arc, task::{Context, Poll}};
/// # use tower_service::Service;
/// #[derive(Clone)]
/// struct Shared<S>(S, Arc<()>);
///
/// impl<S: Service<u32>> Service<u32> for Shared<S> {
/// #   type Response = S::Response;
/// #   type Error = S::Error;
/// #   type Future = S::Future;
/// #   fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> { self.0.poll_ready(cx) }
/// #   fn call(&mut self, req: u32) -> S::Future { self.0.call(req) }
/// }
///
/// buttress_testkit::contract(|| tower_layer::layer_fn(|inner| Shared(inner, Arc::new(()))));
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be put to the contract",
    note = "a layer is `Clone + Send + Sync`; its service is `Clone + Send + Sync + Unpin`, answers with `u32` \
            (`contract`) or `http::Response` (`http_contract`), and its future is `Send`"
)]
pub trait Subject<X: Exchange>: Clone + Send + Sync + 'static {
    /// The layer's service around the suite's inner one.
    type Layered: Service<X::Request, Response: Answer<X>, Future: Send>
        + Clone
        + Send
        + Sync
        + Unpin
        + 'static;

    /// Wraps the suite's inner service.
    fn wrap(&self, inner: Inner<X>) -> Self::Layered;
}

impl<X, L> Subject<X> for L
where
    X: Exchange,
    L: Layer<Inner<X>> + Clone + Send + Sync + 'static,
    L::Service:
        Service<X::Request, Response: Answer<X>, Future: Send> + Clone + Send + Sync + Unpin + 'static,
{
    type Layered = L::Service;

    fn wrap(&self, inner: Inner<X>) -> L::Service {
        self.layer(inner)
    }
}

/// The contract suite, told what a black box cannot show.
///
/// Each scenario runs on a thread of its own with a fresh layer around a [`StrictService`](crate::StrictService),
/// a paused tokio runtime, and a [`ManualClock`] as the default clock. `run` may be called from a plain `#[test]` as
/// well as from an asynchronous one.
///
/// The layer under test has to let the suite's calls through: 64 calls of different requests without the
/// clock moving, and the next call after two that failed. It may let as little as one call in at a time; small
/// limits on concurrency find more. A layer that has another form (`.strict()`) is examined twice, once in
/// each.
///
/// ```
/// use buttress_testkit::{Contract, Point};
/// use tower::limit::ConcurrencyLimitLayer;
///
/// Contract::new(|| ConcurrencyLimitLayer::new(1))
///     .exempt(Point::HotPath, "tower boxes its permit's future")
///     .run();
/// ```
///
/// | point | checked | needs |
/// |---|---|---|
/// | 1 instance, 2 readiness, 3 wakes, 4 cancel, 5 panic | always | [`held`](Self::held) to see what a layer without a limit leaks; [`with_closures`](Self::with_closures) for panics of user closures |
/// | 6 late outcomes | | [`late`](Self::late) |
/// | 7 end of body | | [`Contract::http`] |
/// | 8 hot path | always | feature `alloc` (on by default) for allocations |
/// | 9 bounded | | [`at_most`](Self::at_most) |
/// | 10 types | by the compiler | |
/// | 11 configuration | | [`refuses`](Self::refuses) |
/// | 12 time | always | the layer takes its time from [`Clock::default`], or from tokio |
pub struct Contract<L, X = Plain> {
    make: Arc<dyn Fn(&Tripwire) -> L + Send + Sync>,
    closures: bool,
    held: Option<Probe<L>>,
    allocations: u64,
    exempt: Vec<(Point, String)>,
    epoch: Option<Epoch<L>>,
    most: Option<(usize, Probe<L>)>,
    refusals: Vec<Refusal>,
    patience: Duration,
    exchange: PhantomData<fn() -> X>,
}

impl<L: 'static> Contract<L, Plain> {
    /// Examines a layer over `u32` requests and replies; the inner service fails with [`BoxError`].
    pub fn new(make: impl Fn() -> L + Send + Sync + 'static) -> Self {
        Self::of(move |_| make(), false)
    }

    /// As [`new`](Self::new), for a layer that takes closures from its user: each one
    /// [touches](Tripwire::touch) the wire, and is made to panic once at each touch.
    ///
    /// ```no_run
    /// # use buttress_testkit::Contract;
    /// # fn observed_layer(f: impl Fn() + Clone + Send + Sync + 'static) -> tower_layer::Identity { tower_layer::Identity::new() }
    /// Contract::with_closures(|wire| {
    ///     let wire = wire.clone();
    ///     observed_layer(move || wire.touch())
    /// })
    /// .run();
    /// ```
    pub fn with_closures(make: impl Fn(&Tripwire) -> L + Send + Sync + 'static) -> Self {
        Self::of(make, true)
    }
}

impl<L: 'static> Contract<L, Http> {
    /// Examines a layer over HTTP messages; the inner service fails with [`BoxError`].
    pub fn http(make: impl Fn() -> L + Send + Sync + 'static) -> Self {
        Self::of(move |_| make(), false)
    }

    /// As [`http`](Self::http), with closures as in [`with_closures`](Contract::with_closures).
    pub fn http_with_closures(make: impl Fn(&Tripwire) -> L + Send + Sync + 'static) -> Self {
        Self::of(make, true)
    }
}

impl<L, E: Fault> Contract<L, Plain<E>> {
    /// Changes the inner service's error type, as `Infallible` for a layer under axum.
    #[must_use]
    pub fn error<T: Fault>(self) -> Contract<L, Plain<T>> {
        self.exchange()
    }
}

impl<L, E: Fault> Contract<L, Http<E>> {
    /// Changes the inner service's error type, as `Infallible` for a layer under axum.
    #[must_use]
    pub fn error<T: Fault>(self) -> Contract<L, Http<T>> {
        self.exchange()
    }
}

impl<L, X> Contract<L, X> {
    /// Leaves `point` out, for `reason`; the report repeats it.
    #[must_use]
    pub fn exempt(mut self, point: Point, reason: impl Into<String>) -> Self {
        self.exempt.push((point, reason.into()));
        self
    }

    /// Lets the suite see how many permits, slots and in-flight keys the layer holds; 0 when it is idle.
    #[must_use]
    pub fn held(mut self, held: impl Fn(&L) -> usize + Send + Sync + 'static) -> Self {
        self.held = Some(Arc::new(held));
        self
    }

    /// Allows this many allocations per call. 0 by default.
    #[must_use]
    pub fn allocations(mut self, per_call: u64) -> Self {
        self.allocations = per_call;
        self
    }

    /// Checks that outcomes of an earlier epoch are ignored: `next` moves the layer on (trips, resets), `state`
    /// gives what outcomes move (not what merely counts calls in flight).
    #[must_use]
    pub fn late<T: fmt::Debug>(
        mut self,
        next: impl Fn(&L) + Send + Sync + 'static,
        state: impl Fn(&L) -> T + Send + Sync + 'static,
    ) -> Self {
        self.epoch =
            Some(Epoch { next: Arc::new(next), state: Arc::new(move |layer| format!("{:?}", state(layer))) });
        self
    }

    /// Checks that the layer never keeps more than `most` entries, whatever is sent: four times as many
    /// different requests are.
    #[must_use]
    pub fn at_most(mut self, most: usize, entries: impl Fn(&L) -> usize + Send + Sync + 'static) -> Self {
        self.most = Some((most, Arc::new(entries)));
        self
    }

    /// Checks that `build` panics, with a sentence. `what` names the bad value. A `Result` is unwrapped in
    /// `build`.
    #[must_use]
    pub fn refuses<T>(
        mut self,
        what: impl Into<String>,
        build: impl Fn() -> T + Send + Sync + 'static,
    ) -> Self {
        let build = Box::new(move || drop(build()));
        self.refusals.push(Refusal { what: what.into(), build });
        self
    }

    /// How long a scenario may block its thread before it counts as hung; 60 seconds unless told otherwise.
    ///
    /// A healthy scenario takes milliseconds: this is for a layer that is expected to hang.
    #[must_use]
    pub fn patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    fn of(make: impl Fn(&Tripwire) -> L + Send + Sync + 'static, closures: bool) -> Self {
        Self {
            make: Arc::new(make),
            closures,
            held: None,
            allocations: 0,
            exempt: Vec::new(),
            epoch: None,
            most: None,
            refusals: Vec::new(),
            patience: PATIENCE,
            exchange: PhantomData,
        }
    }

    fn exchange<Y>(self) -> Contract<L, Y> {
        let Self { make, closures, held, allocations, exempt, epoch, most, refusals, patience, .. } = self;
        Contract {
            make,
            closures,
            held,
            allocations,
            exempt,
            epoch,
            most,
            refusals,
            patience,
            exchange: PhantomData,
        }
    }
}

impl<L: Subject<X>, X: Exchange> Contract<L, X> {
    /// Runs the suite.
    ///
    /// # Panics
    ///
    /// When the layer breaks a point of the contract. The message names each point and says what is wrong.
    #[track_caller]
    pub fn run(self) {
        let report = self.check();
        assert!(report.is_ok(), "the layer does not keep the contract:\n{report}");
    }

    /// Runs the suite and says what it found.
    #[must_use]
    pub fn check(self) -> Report {
        let mut suite = Suite { contract: &self, report: Report::default() };
        suite.readiness();
        suite.wakes();
        suite.cancels();
        suite.panics();
        suite.late();
        suite.bodies();
        suite.hot_path();
        suite.bounds();
        suite.config();
        suite.times();
        let mut report = suite.report;
        report.skipped.extend(self.exempt);
        report.skipped.sort();
        report
    }
}

impl<L, X> fmt::Debug for Contract<L, X> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Contract").field("exempt", &self.exempt).finish_non_exhaustive()
    }
}

struct Suite<'a, L, X> {
    contract: &'a Contract<L, X>,
    report: Report,
}

impl<L: Subject<X>, X: Exchange> Suite<'_, L, X> {
    fn readiness(&mut self) {
        use readiness as r;
        self.examine(Point::Instance, "calls while the inner service is ready", r::inner_is_ready);
        self.examine(
            Point::Instance,
            "calls while the inner service lets them in one by one",
            r::inner_becomes_ready,
        );
        self.examine(Point::Readiness, "poll_ready again and again", r::poll_ready_is_repeatable);
        self.examine(Point::Readiness, "a readied service and its clone", r::a_clone_is_not_ready);
        self.examine(Point::Readiness, "poll_ready from two tasks", r::another_task_polls_ready);
        self.examine(Point::Readiness, "clones readied and dropped", r::readied_and_dropped);
        self.examine(Point::Readiness, "an inner poll_ready that fails", r::readiness_fails);
        self.examine(
            Point::Readiness,
            "an inner poll_ready that fails after a while",
            r::readiness_fails_late,
        );
    }

    fn wakes(&mut self) {
        for wait in [Wait::Readiness, Wait::Response] {
            for gone in [None, Some(0), Some(WAITERS - 1)] {
                self.examine(Point::Wakes, "clones that wait", move |rig| {
                    wakes::all_are_woken(rig, wait, gone)
                });
            }
            self.examine(Point::Wakes, "a call that changes its task", move |rig| {
                wakes::the_last_waker_counts(rig, wait)
            });
        }
    }

    fn cancels(&mut self) {
        self.examine(Point::Cancel, "calls that succeed and fail", cancel::a_call_that_ends);
        self.examine(Point::Cancel, "drop before the first poll", cancel::before_the_first_poll);
        self.examine(
            Point::Cancel,
            "drop while the inner service is not ready",
            cancel::waiting_for_readiness,
        );
        self.examine(Point::Cancel, "drop while the inner service works", cancel::waiting_for_the_response);
        self.examine(Point::Cancel, "drop one of two calls", cancel::behind_another_call);
        self.examine(Point::Cancel, "drop a call that was woken", cancel::woken_and_then_dropped);
        self.examine(Point::Cancel, "drop the service before its call", cancel::the_service_goes_first);
        self.examine(Point::Cancel, "drop after the head", cancel::after_the_head);
        if X::HAS_BODY {
            self.examine(Point::Cancel, "drop mid-body", cancel::mid_body);
        }
    }

    fn panics(&mut self) {
        for (place, during) in [
            (Place::Ready, "panic in the inner poll_ready"),
            (Place::Call, "panic in the inner call"),
            (Place::Future, "panic in the inner future"),
        ] {
            self.examine(Point::Panic, during, move |rig| panics::the_layer_works_on(rig, place, false));
            let during = format!("{during}, after a wait");
            self.examine(Point::Panic, &during, move |rig| panics::the_layer_works_on(rig, place, true));
        }
        self.examine(Point::Panic, "panic in one of two calls", panics::the_other_call_finishes);
        if X::HAS_BODY {
            self.examine(Point::Panic, "panic in the inner body", panics::the_body_panics);
        }
        if self.contract.closures {
            self.examine(Point::Panic, "panic in a closure of the user", panics::a_closure_panics);
        }
    }

    fn late(&mut self) {
        let Some(epoch) = self.contract.epoch.clone() else {
            return self.skip(Point::Late, "`late` was not given");
        };
        for ending in [Ending::Success, Ending::Failure, Ending::Panic, Ending::Drop] {
            let epoch = epoch.clone();
            self.examine(Point::Late, "a call that ends in a later epoch", move |rig| {
                given::late_outcome(rig, &epoch, ending)
            });
        }
    }

    fn bodies(&mut self) {
        if !X::HAS_BODY {
            return self.skip(Point::BodyEnd, "needs `Contract::http`");
        }
        for shape in Shape::READABLE {
            self.examine(Point::BodyEnd, "reading the body", move |rig| body::is_kept(rig, shape));
        }
        for moves in [false, true] {
            self.examine(Point::Wakes, "a body that waits", move |rig| body::wakes(rig, moves));
        }
    }

    fn hot_path(&mut self) {
        #[cfg(feature = "alloc")]
        {
            let allowed = self.contract.allocations;
            for cloned in [false, true] {
                self.examine(Point::HotPath, "allocations of a call", move |rig| {
                    hot_path::allocations(rig, allowed, cloned)
                });
            }
        }
        #[cfg(not(feature = "alloc"))]
        self.skip(Point::HotPath, "allocations are counted with the feature `alloc`");
        self.examine(Point::HotPath, "tasks of a call", hot_path::no_task_per_call);
        if self.contract.closures {
            let during = "a closure of the user that looks at the layer";
            self.examine(Point::HotPath, during, hot_path::closures_run_outside_locks);
        }
    }

    fn bounds(&mut self) {
        let Some((most, entries)) = self.contract.most.clone() else {
            return self.skip(Point::Bounded, "`at_most` was not given");
        };
        self.examine(Point::Bounded, "many different requests", move |rig| {
            given::bounded(rig, most, &entries)
        });
    }

    fn config(&mut self) {
        if self.contract.refusals.is_empty() {
            return self.skip(Point::Config, "`refuses` was not given");
        }
        if !self.is_exempt(Point::Config) {
            self.report.failures.extend(self.contract.refusals.iter().filter_map(Refusal::check));
        }
    }

    fn times(&mut self) {
        self.examine(Point::Time, "time that jumps forward", time::jumps_forward);
        self.examine(Point::Time, "time that goes back", time::goes_back);
        self.examine(Point::Time, "the end of time", time::ends);
    }

    fn is_exempt(&self, point: Point) -> bool {
        self.contract.exempt.iter().any(|(exempt, _)| *exempt == point)
    }

    fn skip(&mut self, point: Point, reason: &str) {
        if !self.is_exempt(point) {
            self.report.skipped.push((point, reason.to_owned()));
        }
    }

    /// Runs one scenario on a thread of its own.
    fn examine(
        &mut self,
        point: Point,
        during: &str,
        scenario: impl FnOnce(Rig<L, X>) -> Checked + Send + 'static,
    ) {
        if self.is_exempt(point) {
            return;
        }
        let (make, held) = (self.contract.make.clone(), self.contract.held.clone());
        let (done, result) = mpsc::channel();
        let thread = thread::Builder::new()
            .name(during.to_owned())
            .spawn(move || {
                // Nobody listens any more when the scenario blocked for too long.
                let _ = done.send(on_this_thread(&*make, held, scenario));
            })
            .expect("a thread can be started");

        let wrong = match result.recv_timeout(self.contract.patience) {
            Ok(wrong) => {
                thread.join().expect("the scenario's panics are caught");
                wrong
            }
            Err(_) => {
                Some("a call blocks its thread: it waits for a lock that it holds itself, or is in a loop that never ends".into())
            }
        };
        if let Some(Wrong { point: other, what }) = wrong {
            // A clone that counts as ready is found out by the inner service, too.
            let point = if point == Point::Readiness { point } else { other.unwrap_or(point) };
            if !self.is_exempt(point) {
                self.report.failures.push(Failure { point, during: during.to_owned(), what });
            }
        }
    }
}

fn on_this_thread<L: Subject<X>, X: Exchange>(
    make: &(dyn Fn(&Tripwire) -> L + Send + Sync),
    held: Option<Probe<L>>,
    scenario: impl FnOnce(Rig<L, X>) -> Checked,
) -> Option<Wrong> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime without I/O can be built");
    let handle = runtime.handle().clone();
    let _inside = handle.enter();
    let clock = ManualClock::new();

    let mut inner = None;
    let outcome = catch_unwind(AssertUnwindSafe(|| {
        Clock::with_default(clock.clock(), || {
            let wire = Tripwire::default();
            let rig = Rig::new(make(&wire), wire, clock.clone(), held, runtime);
            inner = Some(rig.inner.clone());
            scenario(rig)
        })
    }));
    if inner.is_some_and(|inner| inner.unready_calls() > 0) {
        let what = "calls an instance of the inner service that was not readied".to_owned();
        return Some(Wrong { point: Some(Point::Instance), what });
    }
    match outcome {
        Ok(Ok(())) => None,
        Ok(Err(wrong)) => Some(wrong),
        Err(payload) => Some(format!("panics: {}", message(&*payload).unwrap_or("without a message")).into()),
    }
}

/// What a panic says.
fn message(payload: &(dyn Any + Send)) -> Option<&str> {
    payload.downcast_ref::<&str>().copied().or_else(|| payload.downcast_ref::<String>().map(String::as_str))
}
