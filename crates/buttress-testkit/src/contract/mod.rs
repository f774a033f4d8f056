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
mod suite;
mod time;
mod tripwire;
mod wakes;

use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

#[cfg(doc)]
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
use given::{Epoch, Refusal};
use rig::Probe;
use suite::Suite;

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
        let mut report = Suite::new(&self).run();
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
