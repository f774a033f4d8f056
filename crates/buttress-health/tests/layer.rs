//! Calls are refused while the service is not ready, and it is marked how the others went.

use std::future::pending;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use buttress_core::{BoxError, Cause, Clock, Outcome, Rejection, RejectionKind};
use buttress_health::{Dependency, HealthEvent, HealthLayer, Readiness, Status, Traffic, TrafficReport};
use buttress_testkit::settle;
use tower::{Layer, Service, ServiceExt, service_fn};

const SECOND: Duration = Duration::from_secs(1);

fn readiness() -> Readiness {
    Readiness::new().clock(Clock::tokio())
}

/// The judged calls and the failed ones.
async fn counts(readiness: &Readiness) -> (u32, u32) {
    readiness.report().await.traffic.map_or((0, 0), |TrafficReport { calls, failed, .. }| (calls, failed))
}

/// What a call comes to.
#[derive(Clone, Copy, Debug)]
enum Call {
    Well,
    Fails,
    TimesOut,
    Limited,
    Panics,
    Hangs,
}

async fn answer(call: Call) -> Result<(), BoxError> {
    match call {
        Call::Well => Ok(()),
        Call::Fails => Err("broken".into()),
        Call::TimesOut => Err(Rejection::new(RejectionKind::Timeout).into()),
        Call::Limited => Err(Rejection::new(RejectionKind::RateLimited).into()),
        Call::Panics => panic!("in the inner service"),
        Call::Hangs => pending().await,
    }
}

macro_rules! service {
    ($readiness:expr) => {
        HealthLayer::new(&$readiness).layer(service_fn(answer))
    };
}

async fn calls<S: Service<Call, Error = BoxError> + Clone>(service: &S, call: Call, times: usize) {
    for _ in 0..times {
        let _ = service.clone().oneshot(call).await;
    }
}

fn is_refused(result: &Result<(), BoxError>) -> bool {
    let rejection = result.as_ref().err().and_then(Cause::rejection);
    rejection.is_some_and(|rejection| rejection.kind == RejectionKind::NotReady && rejection.elsewhere)
}

#[tokio::test(start_paused = true)]
async fn before_the_start_calls_are_refused_and_the_inner_service_is_not_touched() {
    let readiness = Readiness::starting().clock(Clock::tokio());
    let touched = Arc::new(AtomicUsize::new(0));
    let counted = touched.clone();
    let service = HealthLayer::new(&readiness).layer(service_fn(move |call| {
        counted.fetch_add(1, Ordering::SeqCst);
        answer(call)
    }));

    assert!(is_refused(&service.clone().oneshot(Call::Well).await));
    assert_eq!(touched.load(Ordering::SeqCst), 0);
    readiness.started();
    assert!(service.clone().oneshot(Call::Well).await.is_ok());
    assert_eq!(counts(&readiness).await, (1, 0));
}

#[tokio::test(start_paused = true)]
async fn while_it_stops_calls_are_served() {
    let readiness =
        readiness().depends_on(Dependency::critical("database", || async { Err::<(), _>("gone") }));
    let service = service!(readiness);
    assert_eq!(readiness.report().await.status, Status::NotReady);
    assert!(is_refused(&service.clone().oneshot(Call::Well).await));

    readiness.stop();

    assert_eq!(readiness.report().await.status, Status::NotReady);
    assert!(service.clone().oneshot(Call::Well).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn what_is_critical_and_failed_once_is_looked_at_again_where_nobody_probes() {
    let up = Arc::new(AtomicBool::new(false));
    let (looked, runs) = (up.clone(), Arc::new(AtomicUsize::new(0)));
    let counted = runs.clone();
    let readiness = readiness().depends_on(Dependency::critical("database", move || {
        counted.fetch_add(1, Ordering::SeqCst);
        let up = looked.load(Ordering::SeqCst);
        async move { if up { Ok(()) } else { Err("gone") } }
    }));
    let service = service!(readiness);
    // Nothing is known yet.
    assert!(service.clone().oneshot(Call::Well).await.is_ok());
    readiness.report().await;

    for _ in 0..100 {
        assert!(is_refused(&service.clone().oneshot(Call::Well).await));
    }
    assert_eq!(runs.load(Ordering::SeqCst), 1, "within the ttl");

    up.store(true, Ordering::SeqCst);
    tokio::time::advance(SECOND).await;
    assert!(is_refused(&service.clone().oneshot(Call::Well).await), "no call waits for a check");
    settle().await;
    assert!(service.clone().oneshot(Call::Well).await.is_ok());
    assert_eq!(runs.load(Ordering::SeqCst), 2);
}

#[tokio::test(start_paused = true)]
async fn what_is_optional_refuses_no_call() {
    let readiness = readiness().depends_on(Dependency::optional("search", || async { Err::<(), _>("gone") }));
    let service = service!(readiness);
    assert_eq!(readiness.report().await.status, Status::Degraded);

    assert!(service.clone().oneshot(Call::Well).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn on_request_it_serves_even_while_something_critical_fails() {
    let readiness = Readiness::starting().clock(Clock::tokio());
    let readiness = readiness.depends_on(Dependency::critical("database", || async { Err::<(), _>("gone") }));
    let service = HealthLayer::new(&readiness).even_while_failing().layer(service_fn(answer));

    assert!(is_refused(&service.clone().oneshot(Call::Well).await), "it has not started");
    readiness.started();
    readiness.report().await;
    assert!(service.clone().oneshot(Call::Well).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn outcomes_are_counted_as_what_they_are() {
    let readiness = readiness();
    let service = service!(readiness);

    for (call, expected) in
        [(Call::Well, (1, 0)), (Call::Fails, (2, 1)), (Call::TimesOut, (3, 2)), (Call::Limited, (3, 2))]
    {
        calls(&service, call, 1).await;
        assert_eq!(counts(&readiness).await, expected, "{call:?}");
    }

    let panicked = tokio::spawn(service.clone().oneshot(Call::Panics)).await;
    assert!(panicked.unwrap_err().is_panic());
    assert_eq!(counts(&readiness).await, (4, 3), "a panic is a failure");

    let task = tokio::spawn(service.clone().oneshot(Call::Hangs));
    settle().await;
    task.abort();
    assert!(task.await.unwrap_err().is_cancelled());
    assert_eq!(counts(&readiness).await, (4, 3), "the caller went away");
}

#[tokio::test(start_paused = true)]
async fn what_is_soft_is_well_and_what_is_ignored_is_nothing() {
    let readiness = readiness();
    let classify = |result: Result<&(), &BoxError>| match result {
        Ok(()) => Outcome::soft(),
        Err(_) => Outcome::ignored(),
    };
    let service = HealthLayer::new(&readiness).classify(classify).layer(service_fn(answer));

    calls(&service, Call::Well, 1).await;
    calls(&service, Call::Fails, 1).await;

    assert_eq!(counts(&readiness).await, (1, 0));
}

#[tokio::test(start_paused = true)]
async fn by_default_a_service_of_whose_calls_half_fail_is_degraded() {
    let readiness = readiness();
    let service = service!(readiness);

    calls(&service, Call::Fails, 10).await;
    calls(&service, Call::Well, 9).await;
    assert_eq!(readiness.report().await.status, Status::Ready, "there are but nineteen");
    calls(&service, Call::Well, 1).await;
    assert_eq!(readiness.report().await.status, Status::Degraded);
    assert!(service.clone().oneshot(Call::Well).await.is_ok(), "and serves");
    assert_eq!(readiness.report().await.status, Status::Ready, "less than half");
}

#[tokio::test(start_paused = true)]
async fn where_its_calls_are_critical_it_refuses_until_the_failures_are_old() {
    let readiness = readiness().traffic(Traffic::critical());
    let service = service!(readiness);

    calls(&service, Call::Fails, 20).await;

    assert_eq!(readiness.report().await.status, Status::NotReady);
    tokio::time::advance(8 * SECOND).await;
    assert!(is_refused(&service.clone().oneshot(Call::Well).await));
    tokio::time::advance(2 * SECOND).await;
    assert!(service.clone().oneshot(Call::Well).await.is_ok(), "with nobody to probe it");
    assert_eq!(readiness.report().await.status, Status::Ready);
}

#[tokio::test(start_paused = true)]
async fn what_is_not_to_be_counted_is_not() {
    let readiness = readiness().traffic(Traffic::ignored());
    let service = service!(readiness);

    calls(&service, Call::Fails, 100).await;

    let report = readiness.report().await;
    assert_eq!((report.traffic, report.status), (None, Status::Ready));
}

#[tokio::test(start_paused = true)]
async fn layers_of_one_readiness_count_together() {
    let readiness = readiness();
    let (one, other) = (service!(readiness), service!(readiness));

    calls(&one, Call::Fails, 10).await;
    calls(&other, Call::Fails, 10).await;

    assert_eq!(counts(&readiness).await, (20, 20));
    assert_eq!(readiness.report().await.status, Status::Degraded);
}

#[tokio::test(start_paused = true)]
async fn each_turn_of_the_traffic_and_each_refusal_is_told() {
    let told = Arc::new(Mutex::new(Vec::new()));
    let heard = told.clone();
    let readiness = readiness().traffic(Traffic::critical()).observe(move |event| {
        heard.lock().unwrap().push(match event {
            HealthEvent::Traffic { failing, calls, failed, .. } => {
                format!("failing {failing}: {failed} of {calls}")
            }
            HealthEvent::Refused { phase, .. } => format!("refused while {}", phase.as_str()),
            HealthEvent::Phase { phase, .. } => phase.as_str().to_owned(),
            other => panic!("{other:?}"),
        });
    });
    let service = service!(readiness);

    calls(&service, Call::Fails, 21).await;
    tokio::time::advance(10 * SECOND).await;
    calls(&service, Call::Well, 2).await;
    readiness.stop();
    readiness.stop();

    let expected = ["failing true: 20 of 20", "refused while running", "failing false: 0 of 0", "stopping"];
    assert_eq!(*told.lock().unwrap(), expected);
}

#[tokio::test(start_paused = true)]
async fn an_observer_that_panics_takes_its_call_down_and_nothing_else() {
    let readiness = readiness().traffic(Traffic::critical().minimum_calls(1)).observe(|event| {
        assert!(!matches!(event, HealthEvent::Traffic { .. }), "in the observer");
    });
    let service = service!(readiness);

    let panicked = tokio::spawn(service.clone().oneshot(Call::Fails)).await;

    assert!(panicked.unwrap_err().is_panic());
    assert_eq!(counts(&readiness).await, (1, 1), "the call is counted once");
    assert!(is_refused(&service.clone().oneshot(Call::Well).await));
}

#[test]
fn many_threads_and_a_window_that_moves_lose_no_turn() {
    let manual = buttress_core::ManualClock::new();
    let readiness = Readiness::new().clock(manual.clock()).traffic(Traffic::critical().minimum_calls(100));
    let service = service!(readiness);
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    for _ in 0..50 {
        std::thread::scope(|scope| {
            for _ in 0..4 {
                let service = service.clone();
                scope.spawn(move || {
                    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
                    runtime.block_on(calls(&service, Call::Fails, 50));
                });
            }
        });
        assert_eq!(runtime.block_on(readiness.report()).status, Status::NotReady);
        assert!(is_refused(&runtime.block_on(service.clone().oneshot(Call::Well))));
        manual.advance(11 * SECOND);
        assert!(runtime.block_on(service.clone().oneshot(Call::Well)).is_ok());
        manual.advance(11 * SECOND);
    }
}

#[cfg(feature = "http")]
mod http {
    use std::convert::Infallible;

    use ::http::{HeaderMap, Request, Response, StatusCode};
    use buttress_health::{classify, reject};
    use bytes::Bytes;
    use http_body_util::{BodyExt, Full};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_refusal_is_a_problem_with_status_503() {
        let readiness = Readiness::starting();
        let service = HealthLayer::new(&readiness)
            .classify(classify::status())
            .on_reject(reject::respond())
            .layer(service_fn(|_: Request<()>| async {
                Ok::<_, Infallible>(Response::new(Full::<Bytes>::default()))
            }));

        let refused = service.clone().oneshot(Request::new(())).await.unwrap();

        assert_eq!(refused.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(refused.headers()["content-type"], "application/problem+json");
        assert_eq!(refused.extensions().get::<Rejection>().unwrap().kind, RejectionKind::NotReady);
        let body = refused.into_body().collect().await.unwrap().to_bytes();
        let problem: serde_json::Value = serde_json::from_slice(&body).unwrap();
        assert_eq!((&problem["status"], &problem["detail"]), (&503.into(), &"not ready".into()));
        readiness.started();
        assert_eq!(service.oneshot(Request::new(())).await.unwrap().status(), 200);
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_over_grpc_is_judged_by_its_trailers() {
        let readiness = readiness();
        let service = HealthLayer::new(&readiness).classify(classify::grpc()).at_end().layer(service_fn(
            |status: Request<&'static str>| async move {
                let trailers = HeaderMap::from_iter([(
                    ::http::HeaderName::from_static("grpc-status"),
                    ::http::HeaderValue::from_static(status.into_body()),
                )]);
                let body = Full::new(Bytes::from("message")).with_trailers(async { Some(Ok(trailers)) });
                let response = Response::builder().header("content-type", "application/grpc");
                Ok::<_, BoxError>(response.body(Box::pin(body)).unwrap())
            },
        ));

        // UNAVAILABLE, OK.
        for (status, expected) in [("14", (1, 1)), ("0", (2, 1))] {
            let response = service.clone().oneshot(Request::new(status)).await.unwrap();
            let before = counts(&readiness).await;
            let _ = response.into_body().collect().await.unwrap();
            assert_ne!(counts(&readiness).await, before, "not at the head");
            assert_eq!(counts(&readiness).await, expected);
        }
        // Dropped half read, nothing is known of it.
        drop(service.clone().oneshot(Request::new("14")).await.unwrap());
        assert_eq!(counts(&readiness).await, (2, 1));
    }
}
