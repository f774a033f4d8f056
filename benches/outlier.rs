//! What does it take to judge a call for outlier ejection, beside the detector of tower-resilience: while a task looks at
//! the clock, while each call does, where one of ten calls fails, and for two threads that call one endpoint?
//!
//! The inner service answers at once, so that what is left is the layer's.

use std::future::{Ready, ready};
use std::io::{Error, ErrorKind};
use std::pin::{Pin, pin};
use std::sync::Barrier;
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::Duration;

use buttress_core::{Endpoint, Endpoints};
use buttress_health::{OutlierDetection, Outliers};
use tower::{Layer, Service};
use tower_resilience_outlier::{OutlierDetectionLayer, OutlierDetector};

mod race;
use race::{Ask, Races, times};

const RESILIENCE: &str = "tower-resilience";
const NAMES: [&str; 3] = ["a", "b", "c"];

fn main() {
    // The task's timer wants one; the task itself is polled by hand.
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_time().build().expect("it can be built");
    let _entered = runtime.enter();
    let races = Races::new(Ask::from_args());

    let (driven, _task) = driven();
    let by_clock = outliers();
    for (what, outliers, goal) in
        [("good calls while a task drives", &driven, 0.5), ("good calls that drive", &by_clock, 0.7)]
    {
        let (mut ours, mut peer) = (ours(outliers), peer());
        races.row(
            what,
            RESILIENCE,
            Some(goal),
            5_000,
            |n| times(n, |_| call(&mut ours, true)),
            |n| times(n, |_| call(&mut peer, true)),
        );
    }

    let (mut mine, mut theirs) = (ours(&driven), peer());
    races.row(
        "one of ten calls fails",
        RESILIENCE,
        Some(0.5),
        5_000,
        |n| times(n, |i| call(&mut mine, i % 10 != 0)),
        |n| times(n, |i| call(&mut theirs, i % 10 != 0)),
    );

    let (mine, theirs) = (ours(&driven), peer());
    races.row(
        "two threads, one endpoint",
        RESILIENCE,
        Some(0.5),
        200_000,
        |n| both(n, &mine),
        |n| both(n, &theirs),
    );
}

/// Answers at once, well if it is asked to.
#[derive(Clone)]
struct Asked;

impl Service<bool> for Asked {
    type Response = ();
    type Error = Error;
    type Future = Ready<Result<(), Error>>;

    #[inline]
    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(Ok(()))
    }

    #[inline]
    fn call(&mut self, good: bool) -> Self::Future {
        ready(if good { Ok(()) } else { Err(ErrorKind::ConnectionReset.into()) })
    }
}

fn outliers() -> Outliers {
    let endpoints = Endpoints::new(NAMES.map(Endpoint::new)).expect("no name comes twice");
    OutlierDetection::default().follow(&endpoints)
}

/// With its task, which has begun to drive.
fn driven() -> (Outliers, Pin<Box<dyn Future<Output = ()>>>) {
    let outliers = outliers();
    let mut task: Pin<Box<dyn Future<Output = ()>>> = Box::pin(outliers.run());
    assert!(task.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
    (outliers, task)
}

fn ours(
    outliers: &Outliers,
) -> impl Service<bool, Response = (), Future: Send> + Clone + Send + Sync + use<> {
    outliers.layer(&Endpoint::new(NAMES[0])).layer(Asked)
}

/// It refuses calls itself, and so has a lock for `poll_ready` and one for each result.
fn peer() -> impl Service<bool, Response = (), Future: Send> + Clone + Send + Sync {
    let detector = OutlierDetector::new();
    for name in NAMES {
        detector.register(name, 5);
    }
    let layer = OutlierDetectionLayer::builder().detector(detector).instance_name(NAMES[0]);
    layer.build().expect("it has all that it needs").layer(Asked)
}

#[inline]
fn call<S: Service<bool, Response = ()>>(service: &mut S, good: bool) -> bool {
    let cx = &mut Context::from_waker(Waker::noop());
    assert!(service.poll_ready(cx).is_ready());
    match pin!(service.call(good)).poll(cx) {
        Poll::Ready(result) => result.is_ok(),
        Poll::Pending => unreachable!("it answers at once"),
    }
}

/// How long it takes two threads that start together to make `count` calls each, by clones of one service.
fn both<S: Service<bool, Response = ()> + Clone + Send>(count: u64, service: &S) -> Duration {
    let start = Barrier::new(2);
    let run = |mut service: S| {
        start.wait();
        times(count, |_| call(&mut service, true))
    };
    let (one, other) = (service.clone(), service.clone());
    thread::scope(|threads| {
        let other = threads.spawn(|| run(other));
        let mine = run(one);
        mine.max(other.join().expect("the work does not panic"))
    })
}
