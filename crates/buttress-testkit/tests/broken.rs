//! One broken layer for each way to break the contract: the suite names the point.

use std::collections::{HashSet, VecDeque};
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use buttress_core::{Clock, Timestamp};
use buttress_testkit::{Contract, Exchange, Plain, Point, Report, Subject};
use tower_layer::{Layer, layer_fn};
use tower_service::Service;

type BoxFuture<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// The suite finds `point` broken, and nothing else.
#[track_caller]
fn finds<L: Subject<X>, X: Exchange>(point: Point, contract: Contract<L, X>) -> Report {
    let report = contract.check();
    assert!(report.breaks(point), "{point} is broken, but the suite does not say so:\n{report}");
    for failure in &report.failures {
        assert_eq!(failure.point, point, "{report}");
    }
    report
}

/// As [`finds`], for a layer that boxes its future so that it stays short here.
#[track_caller]
fn finds_boxed<L: Subject<Plain>>(point: Point, contract: Contract<L>) -> Report {
    finds(point, contract.exempt(Point::HotPath, "boxed for the sake of a short test"))
}

/// A service that forwards, and does one thing wrong in `poll_ready` or `call`.
macro_rules! broken {
    ($name:ident { $($field:ident: $type:ty),* };
     ready($this:ident, $cx:ident) $ready:block
     call($that:ident, $req:ident) -> $future:ty $call:block) => {
        #[derive(Clone)]
        struct $name<S> { inner: S, $($field: $type),* }

        impl<S> Service<u32> for $name<S>
        where
            S: Service<u32, Future: Send + 'static, Error: Send + 'static> + Clone + Send + 'static,
            S::Response: Send + 'static,
        {
            type Response = S::Response;
            type Error = S::Error;
            type Future = $future;

            fn poll_ready(&mut self, $cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
                let $this = self;
                $ready
            }

            fn call(&mut self, $req: u32) -> Self::Future {
                let $that = self;
                $call
            }
        }
    };
}

// 1: the instance that was readied

broken! { CallsAFreshClone {};
    ready(this, cx) { this.inner.poll_ready(cx) }
    call(this, req) -> S::Future { this.inner.clone().call(req) }
}

#[test]
fn a_layer_that_calls_a_fresh_clone_is_found() {
    let report = Contract::new(|| layer_fn(|inner| CallsAFreshClone { inner })).check();

    assert!(report.breaks(Point::Instance), "{report}");
    assert!(
        report.to_string().contains("calls an instance of the inner service that was not readied"),
        "{report}"
    );
}

broken! { ClonesEachTime {};
    ready(this, cx) { this.inner.poll_ready(cx) }
    call(this, req) -> S::Future {
        let fresh = this.inner.clone();
        std::mem::replace(&mut this.inner, fresh).call(req)
    }
}

#[test]
fn a_layer_that_clones_a_ready_service_is_found() {
    finds(Point::Instance, Contract::new(|| layer_fn(|inner| ClonesEachTime { inner })));
}

broken! { WaitsWithAnotherInstance {};
    ready(_this, _cx) { Poll::Ready(Ok(())) }
    call(this, req) -> BoxFuture<Result<S::Response, S::Error>> {
        if this.inner.poll_ready(&mut Context::from_waker(Waker::noop())).is_ready() {
            return Box::pin(this.inner.call(req));
        }
        let mut fresh = this.inner.clone();
        Box::pin(async move {
            std::future::poll_fn(|cx| fresh.poll_ready(cx)).await?;
            fresh.call(req).await
        })
    }
}

#[test]
fn a_layer_that_lets_one_instance_wait_and_asks_another_is_found() {
    let contract = Contract::new(|| layer_fn(|inner| WaitsWithAnotherInstance { inner }));
    let report = contract.exempt(Point::HotPath, "boxed").check();

    assert!(report.breaks(Point::Instance), "{report}");
    // The idle instance keeps its place in the queue, too.
    assert!(report.breaks(Point::Cancel), "{report}");
}

// 2: readiness

#[derive(Clone)]
struct Permits(Arc<AtomicUsize>);

impl Permits {
    fn take(&self) -> bool {
        self.0.fetch_update(Ordering::AcqRel, Ordering::Acquire, |left| left.checked_sub(1)).is_ok()
    }

    fn give(&self) {
        self.0.fetch_add(1, Ordering::AcqRel);
    }
}

broken! { TakesInPollReady { permits: Permits };
    ready(this, cx) {
        ready!(this.inner.poll_ready(cx))?;
        if this.permits.take() { Poll::Ready(Ok(())) } else { Poll::Pending }
    }
    call(this, req) -> S::Future {
        this.permits.give();
        this.inner.call(req)
    }
}

#[test]
fn a_layer_that_takes_a_permit_at_each_poll_ready_is_found() {
    finds(
        Point::Readiness,
        Contract::new(|| {
            let permits = Permits(Arc::new(AtomicUsize::new(8)));
            layer_fn(move |inner| TakesInPollReady { inner, permits: permits.clone() })
        }),
    );
}

#[derive(Clone, Default)]
struct Reservation {
    permits: Arc<AtomicUsize>,
    taken: bool,
}

struct Reserves<S> {
    inner: S,
    held: Reservation,
}

impl<S: Clone> Clone for Reserves<S> {
    fn clone(&self) -> Self {
        let held = Reservation { permits: self.held.permits.clone(), taken: false };
        Self { inner: self.inner.clone(), held }
    }
}

impl<S: Service<u32>> Service<u32> for Reserves<S> {
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        if !std::mem::replace(&mut self.held.taken, true) {
            self.held.permits.fetch_add(1, Ordering::AcqRel);
        }
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, req: u32) -> S::Future {
        if std::mem::take(&mut self.held.taken) {
            self.held.permits.fetch_sub(1, Ordering::AcqRel);
        }
        self.inner.call(req)
    }
}

/// A layer with something to look at.
struct Probed<F, T> {
    make: F,
    seen: Arc<T>,
}

impl<F: Clone, T> Clone for Probed<F, T> {
    fn clone(&self) -> Self {
        Self { make: self.make.clone(), seen: self.seen.clone() }
    }
}

impl<S, R, T, F: Fn(S, Arc<T>) -> R> Layer<S> for Probed<F, T> {
    type Service = R;

    fn layer(&self, inner: S) -> R {
        (self.make)(inner, self.seen.clone())
    }
}

fn probed<T: Default, F>(make: F) -> Probed<F, T> {
    Probed { make, seen: Arc::default() }
}

#[test]
fn a_reservation_that_a_dropped_service_keeps_is_found() {
    finds(
        Point::Readiness,
        Contract::new(|| {
            probed::<AtomicUsize, _>(|inner, permits| Reserves {
                inner,
                held: Reservation { permits, taken: false },
            })
        })
        .held(|layer| layer.seen.load(Ordering::Acquire))
        .exempt(Point::Panic, "leaks there as well")
        .exempt(Point::Wakes, "leaks there as well")
        .exempt(Point::Cancel, "leaks there as well"),
    );
}

broken! { CopiesReadiness { ready: bool };
    ready(this, cx) {
        if !this.ready {
            ready!(this.inner.poll_ready(cx))?;
            this.ready = true;
        }
        Poll::Ready(Ok(()))
    }
    call(this, req) -> S::Future {
        this.ready = false;
        this.inner.call(req)
    }
}

#[test]
fn a_clone_that_counts_as_ready_is_found() {
    finds(Point::Readiness, Contract::new(|| layer_fn(|inner| CopiesReadiness { inner, ready: false })));
}

broken! { KnowsTheFirstTask { first: Option<Waker> };
    ready(this, cx) {
        let waker = this.first.get_or_insert_with(|| cx.waker().clone()).clone();
        let answer = this.inner.poll_ready(&mut Context::from_waker(&waker));
        if answer.is_ready() {
            this.first = None;
        }
        answer
    }
    call(this, req) -> S::Future { this.inner.call(req) }
}

#[test]
fn a_poll_ready_that_wakes_only_the_first_task_is_found() {
    let report = Contract::new(|| layer_fn(|inner| KnowsTheFirstTask { inner, first: None })).check();

    assert!(report.breaks(Point::Readiness), "{report}");
    assert!(report.breaks(Point::Wakes), "{report}");
}

broken! { SwallowsErrors {};
    ready(this, cx) {
        match ready!(this.inner.poll_ready(cx)) {
            Ok(()) => Poll::Ready(Ok(())),
            Err(_) => Poll::Pending,
        }
    }
    call(this, req) -> S::Future { this.inner.call(req) }
}

#[test]
fn a_readiness_error_that_is_swallowed_is_found() {
    finds(Point::Readiness, Contract::new(|| layer_fn(|inner| SwallowsErrors { inner })));
}

broken! { FailsForGood { failed: Arc<AtomicBool> };
    ready(this, cx) {
        if this.failed.load(Ordering::Acquire) {
            return Poll::Pending;
        }
        let answer = this.inner.poll_ready(cx);
        if matches!(answer, Poll::Ready(Err(_))) {
            this.failed.store(true, Ordering::Release);
        }
        answer
    }
    call(this, req) -> S::Future { this.inner.call(req) }
}

#[test]
fn a_layer_that_one_readiness_error_ends_is_found() {
    finds(
        Point::Readiness,
        Contract::new(|| {
            let failed = Arc::new(AtomicBool::new(false));
            layer_fn(move |inner| FailsForGood { inner, failed: failed.clone() })
        }),
    );
}

// 3: wakes

broken! { WakesItself {};
    ready(this, cx) {
        let answer = this.inner.poll_ready(cx);
        if answer.is_pending() {
            cx.waker().wake_by_ref();
        }
        answer
    }
    call(this, req) -> S::Future { this.inner.call(req) }
}

#[test]
fn a_loop_that_wakes_itself_is_found() {
    let report = Contract::new(|| layer_fn(|inner| WakesItself { inner })).check();

    assert!(report.breaks(Point::Wakes), "{report}");
    assert!(report.to_string().contains("wakes itself in a loop"), "{report}");
}

/// Lets one call in; the others wait, but there is room for one waker only.
#[derive(Default)]
struct OneSeat {
    taken: bool,
    waiting: Option<Waker>,
}

struct Seat(Arc<Mutex<OneSeat>>);

impl Drop for Seat {
    fn drop(&mut self) {
        let mut seat = self.0.lock().unwrap();
        seat.taken = false;
        let waiting = seat.waiting.take();
        drop(seat);
        if let Some(waker) = waiting {
            waker.wake();
        }
    }
}

broken! { KeepsTheLastWaker { seat: Arc<Mutex<OneSeat>> };
    ready(this, cx) { this.inner.poll_ready(cx) }
    call(this, req) -> BoxFuture<Result<S::Response, S::Error>> {
        let seat = this.seat.clone();
        let fresh = this.inner.clone();
        let mut inner = std::mem::replace(&mut this.inner, fresh);
        Box::pin(async move {
            let _seat = std::future::poll_fn(|cx| {
                let mut one = seat.lock().unwrap();
                if one.taken {
                    one.waiting = Some(cx.waker().clone());
                    return Poll::Pending;
                }
                one.taken = true;
                Poll::Ready(Seat(seat.clone()))
            })
            .await;
            inner.call(req).await
        })
    }
}

#[test]
fn a_shared_state_that_wakes_the_last_waiter_only_is_found() {
    let report = finds_boxed(
        Point::Wakes,
        Contract::new(|| probed::<Mutex<OneSeat>, _>(|inner, seat| KeepsTheLastWaker { inner, seat }))
            .exempt(Point::Instance, "clones, to be short"),
    );
    assert!(report.to_string().contains("are never woken"), "{report}");
}

struct FirstWaker<F> {
    inner: Pin<Box<F>>,
    waker: Option<Waker>,
}

impl<F: Future> Future for FirstWaker<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let waker = self.waker.get_or_insert_with(|| cx.waker().clone()).clone();
        self.inner.as_mut().poll(&mut Context::from_waker(&waker))
    }
}

broken! { KeepsTheFirstWaker {};
    ready(this, cx) { this.inner.poll_ready(cx) }
    call(this, req) -> FirstWaker<S::Future> { FirstWaker { inner: Box::pin(this.inner.call(req)), waker: None } }
}

#[test]
fn a_future_that_wakes_only_its_first_task_is_found() {
    finds_boxed(Point::Wakes, Contract::new(|| layer_fn(|inner| KeepsTheFirstWaker { inner })));
}

// 4 and 5: cancel and panic

broken! { DropsWithItsService { gone: Arc<Gone> };
    ready(this, cx) { this.inner.poll_ready(cx) }
    call(this, req) -> UnlessGone<S::Future> {
        UnlessGone { inner: Box::pin(this.inner.call(req)), gone: this.gone.0.clone() }
    }
}

/// Says that the service is gone, once its last clone is.
struct Gone(Arc<AtomicBool>);

impl Drop for Gone {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

struct UnlessGone<F> {
    inner: Pin<Box<F>>,
    gone: Arc<AtomicBool>,
}

impl<F: Future> Future for UnlessGone<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        if self.gone.load(Ordering::Acquire) { Poll::Pending } else { self.inner.as_mut().poll(cx) }
    }
}

#[test]
fn a_call_that_ends_with_its_service_is_found() {
    let report = finds_boxed(
        Point::Cancel,
        Contract::new(|| {
            layer_fn(|inner| {
                let gone = Arc::new(Gone(Arc::default()));
                DropsWithItsService { inner, gone }
            })
        }),
    );

    assert!(report.to_string().contains("when the service that made it was dropped"), "{report}");
}

/// Lets one call in, and hands the seat to the next in line, who may be gone when he is called.
#[derive(Default)]
struct Line {
    taken: bool,
    next: u64,
    waiting: VecDeque<(u64, Waker)>,
    called: Option<u64>,
}

struct Place(Arc<Mutex<Line>>);

impl Drop for Place {
    fn drop(&mut self) {
        let mut line = self.0.lock().unwrap();
        let Some((next, waker)) = line.waiting.pop_front() else {
            line.taken = false;
            return;
        };
        line.called = Some(next);
        drop(line);
        waker.wake();
    }
}

broken! { HandsOver { line: Arc<Mutex<Line>> };
    ready(this, cx) { this.inner.poll_ready(cx) }
    call(this, req) -> BoxFuture<Result<S::Response, S::Error>> {
        let line = this.line.clone();
        let fresh = this.inner.clone();
        let mut inner = std::mem::replace(&mut this.inner, fresh);
        let mut number = None;
        Box::pin(async move {
            let _place = std::future::poll_fn(|cx| {
                let mut now = line.lock().unwrap();
                if number.is_some() && now.called == number {
                    now.called = None;
                    return Poll::Ready(Place(line.clone()));
                }
                if !now.taken {
                    now.taken = true;
                    return Poll::Ready(Place(line.clone()));
                }
                if number.is_none() {
                    now.next += 1;
                    number = Some(now.next);
                    let next = now.next;
                    now.waiting.push_back((next, cx.waker().clone()));
                }
                Poll::Pending
            })
            .await;
            inner.call(req).await
        })
    }
}

#[test]
fn a_seat_handed_to_a_call_that_is_dropped_is_found() {
    let report = Contract::new(|| probed::<Mutex<Line>, _>(|inner, line| HandsOver { inner, line })).check();

    assert!(report.breaks(Point::Cancel), "{report}");
    assert!(
        report.to_string().contains("the second was woken and dropped, and the third never finishes"),
        "{report}"
    );
}

/// Where a gauge is not given back.
#[derive(Clone, Copy, PartialEq)]
enum Leak {
    Never,
    BeforeTheFirstPoll,
    WhilePending,
    WhenInnerPanics,
    WhenCallPanics,
    WhenDone,
    WhenFailed,
}

struct Gauge {
    count: Arc<AtomicUsize>,
    leak: Leak,
    polled: bool,
    pending: bool,
    panicked: bool,
    done: bool,
    failed: bool,
}

impl Gauge {
    fn up(count: &Arc<AtomicUsize>, leak: Leak) -> Self {
        count.fetch_add(1, Ordering::AcqRel);
        Self {
            count: count.clone(),
            leak,
            polled: false,
            pending: false,
            panicked: false,
            done: false,
            failed: false,
        }
    }
}

impl Drop for Gauge {
    fn drop(&mut self) {
        let leaks = match self.leak {
            Leak::Never | Leak::WhenCallPanics => false,
            Leak::WhenDone => self.done,
            Leak::WhenFailed => self.failed,
            Leak::BeforeTheFirstPoll => !self.polled,
            Leak::WhilePending => self.pending,
            Leak::WhenInnerPanics => self.panicked,
        };
        if !leaks {
            self.count.fetch_sub(1, Ordering::AcqRel);
        }
    }
}

struct Gauged<F> {
    inner: Pin<Box<F>>,
    gauge: Gauge,
}

impl<F: Future<Output = Result<T, E>>, T, E> Future for Gauged<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        self.gauge.polled = true;
        self.gauge.panicked = true;
        let answer = self.inner.as_mut().poll(cx);
        self.gauge.panicked = false;
        self.gauge.pending = answer.is_pending();
        self.gauge.done = matches!(answer, Poll::Ready(Ok(_)));
        self.gauge.failed = matches!(answer, Poll::Ready(Err(_)));
        answer
    }
}

broken! { Gauges { count: Arc<AtomicUsize>, leak: Leak };
    ready(this, cx) { this.inner.poll_ready(cx) }
    call(this, req) -> Gauged<S::Future> {
        if this.leak == Leak::WhenCallPanics {
            this.count.fetch_add(1, Ordering::AcqRel);
            let inner = Box::pin(this.inner.call(req));
            this.count.fetch_sub(1, Ordering::AcqRel);
            return Gauged { inner, gauge: Gauge::up(&this.count, this.leak) };
        }
        let gauge = Gauge::up(&this.count, this.leak);
        Gauged { inner: Box::pin(this.inner.call(req)), gauge }
    }
}

fn gauged(leak: Leak) -> Contract<impl Subject<Plain>> {
    Contract::new(move || probed::<AtomicUsize, _>(move |inner, count| Gauges { inner, count, leak }))
        .held(|layer| layer.seen.load(Ordering::Acquire))
        .exempt(Point::HotPath, "boxed for the sake of a short test")
}

#[test]
fn a_gauge_with_a_good_guard_passes() {
    gauged(Leak::Never).run();
}

#[test]
fn what_is_kept_by_a_call_that_succeeds_or_fails_is_found() {
    let report = gauged(Leak::WhenDone).check();
    assert!(report.breaks(Point::Cancel), "{report}");
    assert!(report.to_string().contains("after calls that succeeded, the layer still holds 8"), "{report}");

    let report = finds(Point::Cancel, gauged(Leak::WhenFailed));
    assert!(report.to_string().contains("after calls that failed, the layer still holds 2"), "{report}");
}

broken! { Outlived {};
    ready(this, cx) { this.inner.poll_ready(cx) }
    call(this, req) -> S::Future {
        let orphan = this.inner.clone();
        tokio::spawn(async move {
            std::future::pending::<()>().await;
            drop(orphan);
        });
        this.inner.call(req)
    }
}

#[test]
fn a_task_that_outlives_the_layer_is_found() {
    let report = Contract::new(|| layer_fn(|inner| Outlived { inner })).check();

    assert!(report.breaks(Point::Cancel) && report.breaks(Point::HotPath), "{report}");
    assert!(report.to_string().contains("outlive the layer, its services and its futures"), "{report}");
}

#[test]
fn what_is_kept_by_a_drop_before_the_first_poll_is_found() {
    let report = finds(
        Point::Cancel,
        gauged(Leak::BeforeTheFirstPoll).exempt(Point::Panic, "a panic in call drops it unpolled, too"),
    );

    assert!(report.to_string().contains("dropped before their first poll"), "{report}");
}

#[test]
fn what_is_kept_by_a_drop_while_waiting_is_found() {
    let report = finds(
        Point::Cancel,
        gauged(Leak::WhilePending)
            .exempt(Point::Wakes, "drops a call, too")
            .exempt(Point::Panic, "drops one, too"),
    );

    assert!(report.to_string().contains("dropped while the inner service worked"), "{report}");
}

#[test]
fn what_is_kept_by_a_panic_in_the_inner_future_is_found() {
    finds(Point::Panic, gauged(Leak::WhenInnerPanics));
}

#[test]
fn what_is_kept_by_a_panic_in_the_inner_call_is_found() {
    finds(Point::Panic, gauged(Leak::WhenCallPanics));
}

broken! { CallsUnderItsLock { lock: Arc<Mutex<()>> };
    ready(this, cx) { this.inner.poll_ready(cx) }
    call(this, req) -> S::Future {
        let _held = this.lock.lock().expect("not poisoned");
        this.inner.call(req)
    }
}

#[test]
fn a_lock_poisoned_by_a_panic_is_found() {
    finds(
        Point::Panic,
        Contract::new(|| probed::<Mutex<()>, _>(|inner, lock| CallsUnderItsLock { inner, lock })),
    );
}

#[test]
fn a_users_closure_that_runs_under_a_lock_is_found() {
    finds(
        Point::Panic,
        Contract::with_closures(|wire| {
            let (wire, lock) = (wire.clone(), Arc::new(Mutex::new(())));
            layer_fn(move |inner| {
                let (wire, lock) = (wire.clone(), lock.clone());
                Before {
                    inner,
                    act: Arc::new(move || {
                        let _held = lock.lock().expect("not poisoned");
                        wire.touch();
                    }),
                }
            })
        }),
    );
}

#[test]
fn a_users_closure_that_is_never_called_is_found() {
    finds(Point::Panic, Contract::with_closures(|_| tower_layer::Identity::new()));
}

// 6: late outcomes

broken! { Before { act: Arc<dyn Fn() + Send + Sync> };
    ready(this, cx) { this.inner.poll_ready(cx) }
    call(this, req) -> S::Future {
        (this.act)();
        this.inner.call(req)
    }
}

broken! { CountsOutcomes { count: Arc<AtomicUsize>  };
    ready(this, cx) { this.inner.poll_ready(cx) }
    call(this, req) -> BoxFuture<Result<S::Response, S::Error>> {
        let count = this.count.clone();
        let inner = this.inner.call(req);
        Box::pin(async move {
            let answer = inner.await;
            count.fetch_add(1, Ordering::AcqRel);
            answer
        })
    }
}

#[test]
fn an_outcome_that_counts_in_a_later_epoch_is_found() {
    finds_boxed(
        Point::Late,
        Contract::new(|| probed::<AtomicUsize, _>(|inner, count| CountsOutcomes { inner, count }))
            .late(|layer| layer.seen.store(0, Ordering::Release), |layer| layer.seen.load(Ordering::Acquire)),
    );
}

// 8: the hot path (7, bodies, is in broken_bodies.rs)

broken! { Boxes {};
    ready(this, cx) { this.inner.poll_ready(cx) }
    call(this, req) -> BoxFuture<Result<S::Response, S::Error>> { Box::pin(this.inner.call(req)) }
}

#[test]
fn an_allocation_per_call_is_found_unless_it_is_allowed() {
    let boxes = || layer_fn(|inner| Boxes { inner });
    let report = finds(Point::HotPath, Contract::new(boxes));

    assert!(report.to_string().contains("16 allocations more"), "{report}");
    Contract::new(boxes).allocations(1).run();
}

broken! { Spawns {};
    ready(this, cx) { this.inner.poll_ready(cx) }
    call(this, req) -> BoxFuture<Result<S::Response, S::Error>> {
        let inner = this.inner.call(req);
        let (tx, rx) = tokio::sync::oneshot::channel();
        let task = tokio::spawn(async move { drop(tx.send(inner.await)) });
        let guard = AbortOnDrop(task);
        Box::pin(async move {
            let answer = rx.await;
            drop(guard);
            answer.unwrap_or_else(|_| panic!("the task panicked"))
        })
    }
}

struct AbortOnDrop(tokio::task::JoinHandle<()>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

#[test]
fn a_task_per_call_is_found() {
    let report = finds(
        Point::HotPath,
        Contract::new(|| layer_fn(|inner| Spawns { inner })).allocations(u64::MAX >> 8),
    );

    assert!(report.to_string().contains("spawned 3 tasks"), "{report}");
}

broken! { BoxesItsState { state: Box<u64> };
    ready(this, cx) { this.inner.poll_ready(cx) }
    call(this, req) -> S::Future {
        *this.state += 1;
        this.inner.call(req)
    }
}

#[test]
fn an_allocation_per_clone_is_found() {
    let report = finds(
        Point::HotPath,
        Contract::new(|| layer_fn(|inner| BoxesItsState { inner, state: Box::default() })),
    );

    assert!(report.to_string().contains("each on a clone, make 16 allocations more"), "{report}");
}

#[test]
fn a_users_closure_that_runs_under_a_lock_and_looks_at_the_layer_is_found() {
    let contract = Contract::with_closures(|wire| {
        let wire = wire.clone();
        probed::<Mutex<usize>, _>(move |inner, lock| {
            let (wire, lock): (_, Arc<Mutex<usize>>) = (wire.clone(), lock);
            Before {
                inner,
                act: Arc::new(move || {
                    let _held = lock.lock().unwrap_or_else(PoisonError::into_inner);
                    wire.touch();
                }),
            }
        })
    })
    .held(|layer| *layer.seen.lock().unwrap_or_else(PoisonError::into_inner));
    // A slow machine may find more in this little time.
    let report = contract.patience(Duration::from_secs(2)).check();

    assert!(report.breaks(Point::HotPath), "{report}");
    assert!(report.to_string().contains("a call blocks its thread"), "{report}");
}

// 9: bounds

#[test]
fn a_table_that_grows_with_its_keys_is_found() {
    finds(
        Point::Bounded,
        Contract::new(|| probed::<Mutex<HashSet<u32>>, _>(|inner, seen| Remembers { inner, seen }))
            .allocations(1)
            .at_most(16, |layer| layer.seen.lock().unwrap().len()),
    );
}

broken! { Remembers { seen: Arc<Mutex<HashSet<u32>>> };
    ready(this, cx) { this.inner.poll_ready(cx) }
    call(this, req) -> S::Future {
        this.seen.lock().unwrap().insert(req);
        this.inner.call(req)
    }
}

// 10 is checked by the compiler: see the `compile_fail` example of `Subject`.

// 11: configuration

#[test]
fn a_bad_value_that_is_accepted_or_refused_without_a_word_is_found() {
    let sound = || Contract::new(tower_layer::Identity::new);

    finds(Point::Config, sound().refuses("a window of zero", || ()));
    finds(
        Point::Config,
        sound().refuses("a window of zero", || assert!(AtomicBool::new(false).into_inner(), "")),
    );
    sound()
        .refuses("a window of zero", || -> u32 { panic!("a window of zero never ends: give at least 1 ms") })
        .run();
}

// 12: time

broken! { SubtractsTimes { clock: Clock, last: Arc<AtomicU64> };
    ready(this, cx) { this.inner.poll_ready(cx) }
    call(this, req) -> S::Future {
        let now = this.clock.now().as_nanos();
        let last = this.last.swap(now, Ordering::AcqRel);
        let _age = now.checked_sub(last).expect("time goes forward");
        this.inner.call(req)
    }
}

#[test]
fn a_layer_that_breaks_when_time_goes_back_is_found() {
    finds(
        Point::Time,
        Contract::new(|| {
            let clock = Clock::default();
            let last = Arc::new(AtomicU64::new(0));
            layer_fn(move |inner| SubtractsTimes { inner, clock: clock.clone(), last: last.clone() })
        }),
    );
}

broken! { AddsTimes { clock: Clock };
    ready(this, cx) { this.inner.poll_ready(cx) }
    call(this, req) -> S::Future {
        let hour = Duration::from_secs(3600).as_nanos() as u64;
        let _until = this.clock.now().as_nanos().checked_add(hour).expect("time does not end");
        this.inner.call(req)
    }
}

#[test]
fn a_layer_that_breaks_at_the_end_of_time_is_found() {
    finds(
        Point::Time,
        Contract::new(|| {
            let clock = Clock::default();
            layer_fn(move |inner| AddsTimes { inner, clock: clock.clone() })
        }),
    );
}

broken! { RefusesAfterAJump { clock: Clock, start: Timestamp };
    ready(this, cx) {
        if this.clock.now() - this.start > Duration::from_secs(60) { Poll::Pending } else { this.inner.poll_ready(cx) }
    }
    call(this, req) -> S::Future { this.inner.call(req) }
}

#[test]
fn a_layer_that_a_time_jump_stops_is_found() {
    finds(
        Point::Time,
        Contract::new(|| {
            let clock = Clock::default();
            let start = clock.now();
            layer_fn(move |inner| RefusesAfterAJump { inner, clock: clock.clone(), start })
        }),
    );
}

// The suite itself

#[test]
fn run_panics_with_the_point_and_a_sentence() {
    let run = || Contract::new(|| layer_fn(|inner| ClonesEachTime { inner })).run();
    let payload = catch_unwind(AssertUnwindSafe(run)).expect_err("the layer is broken");

    let message = payload.downcast_ref::<String>().expect("a message");
    assert!(message.contains("point 1 (Instance)"), "{message}");
    assert!(message.contains("clones the inner service 8 times in 8 calls"), "{message}");
}

#[test]
fn an_exempt_point_is_not_reported() {
    Contract::new(|| layer_fn(|inner| Boxes { inner })).exempt(Point::HotPath, "it boxes").run();
}
