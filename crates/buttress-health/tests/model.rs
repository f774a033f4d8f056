//! Every interleaving of two threads on one outlier detection. Runs under `--cfg buttress_loom` alone.
#![cfg(buttress_loom)]

use std::future::{Ready, ready};
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use buttress_core::{Endpoint, Endpoints, ManualClock};
use buttress_health::{EjectionReason, OutlierDetection, Outliers};
use loom::thread;
use tower_layer::Layer;
use tower_service::Service;

/// Fails when it is asked to.
#[derive(Clone)]
struct Asked;

impl Service<bool> for Asked {
    type Response = ();
    type Error = std::io::Error;
    type Future = Ready<Result<(), std::io::Error>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), std::io::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, good: bool) -> Self::Future {
        ready(if good { Ok(()) } else { Err(std::io::Error::other("out of paper")) })
    }
}

#[derive(Clone)]
struct Rig {
    list: Vec<Endpoint>,
    outliers: Outliers,
    time: ManualClock,
}

fn rig(hosts: usize, detection: OutlierDetection) -> Rig {
    let list: Vec<Endpoint> = (0..hosts).map(|n| Endpoint::new(format!("n{n}"))).collect();
    let (endpoints, time) = (Endpoints::new(list.clone()).unwrap(), ManualClock::new());
    let detection = detection.clock(time.clock()).max_ejection_time_jitter(Duration::ZERO).seed(1);
    Rig { list, outliers: detection.follow(&endpoints), time }
}

fn eager() -> OutlierDetection {
    OutlierDetection::default().consecutive_5xx(1).max_ejection_percent(100)
}

impl Rig {
    fn call(&self, at: usize, good: bool) {
        let mut service = self.outliers.layer(&self.list[at]).layer(Asked);
        let call = pin!(service.call(good));
        assert!(call.poll(&mut Context::from_waker(Waker::noop())).is_ready());
    }

    fn out(&self) -> usize {
        self.list.iter().filter(|endpoint| endpoint.condition().is_ejected()).count()
    }

    fn view(&self, at: usize) -> buttress_health::OutlierView {
        self.outliers.handle().view(self.list[at].name()).unwrap()
    }
}

#[test]
fn of_two_that_fail_at_once_one_stays() {
    loom::model(|| {
        let rig = rig(2, eager());
        let other = rig.clone();
        let thread = thread::spawn(move || other.call(0, false));

        rig.call(1, false);
        thread.join().unwrap();

        assert_eq!(rig.out(), 1);
        assert_eq!(rig.outliers.handle().counts().last_usable, 1);
    });
}

#[test]
fn of_two_that_fail_at_once_one_takes_the_only_place() {
    loom::model(|| {
        let rig = rig(3, eager().max_ejection_percent(50));
        let other = rig.clone();
        let thread = thread::spawn(move || other.call(0, false));

        rig.call(1, false);
        thread.join().unwrap();

        assert_eq!(rig.out(), 1);
        assert_eq!(rig.outliers.handle().counts().over_max_ejection_percent, 1);
    });
}

#[test]
fn two_failures_at_once_are_a_row_of_two_and_eject_once() {
    loom::model(|| {
        let rig = rig(2, eager().consecutive_5xx(2));
        let other = rig.clone();
        let thread = thread::spawn(move || other.call(0, false));

        rig.call(0, false);
        thread.join().unwrap();

        assert_eq!(rig.out(), 1);
        let counts = rig.outliers.handle().counts();
        assert_eq!((counts.ejections(EjectionReason::Consecutive5xx), counts.late), (1, 0));
    });
}

#[test]
fn a_result_that_comes_while_its_endpoint_goes_and_comes_back_moves_no_row_of_the_new_epoch() {
    loom::model(|| {
        let rig = rig(2, eager().consecutive_5xx(2));
        let service = Arc::new(rig.outliers.layer(&rig.list[0]).layer(Asked));
        // Admitted in the first epoch.
        let mut late = Box::pin({
            let mut service = (*service).clone();
            service.call(false)
        });
        let other = rig.clone();
        let thread = thread::spawn(move || {
            let handle = other.outliers.handle();
            handle.eject("n0").unwrap();
            handle.uneject("n0");
        });

        assert!(late.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_ready());
        thread.join().unwrap();

        assert_eq!((rig.out(), rig.view(0).failures_in_a_row), (0, 0));
    });
}

#[test]
fn a_call_that_fills_a_row_does_not_eject_an_endpoint_that_went_and_came_back_while_it_waited() {
    loom::model(|| {
        let rig = rig(2, eager());
        // Admitted in the first epoch, so whatever comes first, it is in at the end.
        let mut filling = Box::pin(rig.outliers.layer(&rig.list[0]).layer(Asked).call(false));
        let other = rig.clone();
        let thread = thread::spawn(move || {
            let handle = other.outliers.handle();
            let _ = handle.eject("n0");
            handle.uneject("n0");
        });

        assert!(filling.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_ready());
        thread.join().unwrap();

        assert_eq!(rig.out(), 0);
    });
}

#[test]
fn an_ejection_that_two_calls_find_over_ends_once() {
    loom::model(|| {
        let rig = rig(2, eager());
        rig.call(0, false);
        rig.time.advance(Duration::from_secs(30));
        let other = rig.clone();
        let thread = thread::spawn(move || other.call(1, true));

        rig.call(1, true);
        thread.join().unwrap();

        assert_eq!(rig.out(), 0);
        assert_eq!(rig.outliers.handle().counts().unejections, 1);
    });
}

#[test]
fn no_result_is_lost_when_the_interval_ends_meanwhile() {
    loom::model(|| {
        let rig = rig(2, OutlierDetection::default());
        rig.time.advance(Duration::from_secs(10));
        let other = rig.clone();
        let thread = thread::spawn(move || other.call(0, true));

        let _ = rig.outliers.handle().ejected();
        thread.join().unwrap();

        // It was counted before the interval ended, and judged; after it; or in the interval after the next.
        let succeeded = |rig: &Rig| rig.view(0).succeeded;
        let now = succeeded(&rig);
        rig.time.advance(Duration::from_secs(10));
        let next = succeeded(&rig);
        assert!(now + next <= 1, "{now} now, {next} in the next");
    });
}
