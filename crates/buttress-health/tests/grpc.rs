//! The health service of gRPC, through tonic's own client.

#![cfg(feature = "grpc")]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use buttress_core::Clock;
use buttress_health::{Dependency, GrpcHealth, Readiness};
use buttress_testkit::settle;
use futures_util::FutureExt;
use tonic::{Code, Status, Streaming};
use tonic_health::pb::health_check_response::ServingStatus::{self, NotServing, ServiceUnknown, Serving};
use tonic_health::pb::health_client::HealthClient;
use tonic_health::pb::health_server::HealthServer;
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse};

type Client = HealthClient<HealthServer<GrpcHealth>>;

const SECOND: Duration = Duration::from_secs(1);

fn readiness() -> Readiness {
    Readiness::starting().clock(Clock::tokio())
}

fn client(readiness: &Readiness) -> Client {
    HealthClient::new(GrpcHealth::new(readiness).service("shop.Orders").into_server())
}

fn of(service: &str) -> HealthCheckRequest {
    HealthCheckRequest { service: service.to_owned() }
}

async fn check(client: &Client, service: &str) -> Result<ServingStatus, Code> {
    let answer = client.clone().check(of(service)).await;
    answer.map(|answer| answer.into_inner().status()).map_err(|status| status.code())
}

async fn watch(client: &Client, service: &str) -> Streaming<HealthCheckResponse> {
    client.clone().watch(of(service)).await.unwrap().into_inner()
}

/// What the stream says without waiting; `None` where it says nothing yet.
async fn said(stream: &mut Streaming<HealthCheckResponse>) -> Option<Result<Option<ServingStatus>, Status>> {
    settle().await;
    let said = stream.message().now_or_never()?;
    Some(said.map(|message| message.map(|message| message.status())))
}

async fn says(stream: &mut Streaming<HealthCheckResponse>) -> Option<ServingStatus> {
    said(stream).await.map(|said| said.unwrap().expect("it goes on"))
}

/// A critical dependency that is there while the switch is on, and how often it was looked at.
fn switched(up: &Arc<AtomicBool>, runs: &Arc<AtomicUsize>) -> Dependency {
    let (up, runs) = (up.clone(), runs.clone());
    Dependency::critical("database", move || {
        runs.fetch_add(1, Ordering::SeqCst);
        let up = up.load(Ordering::SeqCst);
        async move { if up { Ok(()) } else { Err("gone") } }
    })
}

#[tokio::test(start_paused = true)]
async fn check_says_what_readiness_is() {
    let readiness = readiness();
    let client = client(&readiness);

    for service in ["", "shop.Orders"] {
        assert_eq!(check(&client, service).await, Ok(NotServing));
    }
    readiness.started();
    for service in ["", "shop.Orders"] {
        assert_eq!(check(&client, service).await, Ok(Serving));
    }
    readiness.stop();
    for service in ["", "shop.Orders"] {
        assert_eq!(check(&client, service).await, Ok(NotServing));
    }
}

#[tokio::test(start_paused = true)]
async fn check_of_a_service_that_is_not_known_is_not_found() {
    let readiness = readiness();
    readiness.started();

    assert_eq!(check(&client(&readiness), "shop.Other").await, Err(Code::NotFound));
}

#[tokio::test(start_paused = true)]
async fn check_looks_at_dependencies_and_degraded_is_serving() {
    let readiness = Readiness::new()
        .clock(Clock::tokio())
        .depends_on(Dependency::optional("search", || async { Err::<(), _>("gone") }));
    let client = client(&readiness);
    assert_eq!(check(&client, "").await, Ok(Serving));

    let _ = readiness.clone().depends_on(Dependency::critical("database", || async { Err::<(), _>("gone") }));

    assert_eq!(check(&client, "").await, Ok(NotServing));
}

#[tokio::test(start_paused = true)]
async fn watch_says_it_at_once_and_at_each_change() {
    let readiness = readiness();
    let client = client(&readiness);
    let mut whole = watch(&client, "").await;
    let mut orders = watch(&client, "shop.Orders").await;

    for stream in [&mut whole, &mut orders] {
        assert_eq!(says(stream).await, Some(NotServing));
        assert_eq!(says(stream).await, None);
    }
    readiness.started();
    for stream in [&mut whole, &mut orders] {
        assert_eq!(says(stream).await, Some(Serving));
        assert_eq!(says(stream).await, None);
    }
}

#[tokio::test(start_paused = true)]
async fn a_watch_has_the_checks_run_and_says_only_what_has_changed() {
    let (up, runs) = (Arc::new(AtomicBool::new(true)), Arc::default());
    let readiness = Readiness::new().clock(Clock::tokio()).depends_on(switched(&up, &runs));
    let mut streams = [watch(&client(&readiness), "").await, watch(&client(&readiness), "").await];
    let say = async |streams: &mut [Streaming<HealthCheckResponse>; 2], expected| {
        for stream in streams {
            assert_eq!(says(stream).await, expected);
        }
    };
    // The first look waits for the check.
    for stream in &mut streams {
        assert_eq!(stream.message().await.unwrap().unwrap().status(), Serving);
    }

    up.store(false, Ordering::SeqCst);
    say(&mut streams, None).await;
    tokio::time::advance(4 * SECOND).await;
    say(&mut streams, None).await;
    tokio::time::advance(SECOND).await;
    for stream in &mut streams {
        assert_eq!(stream.message().await.unwrap().unwrap().status(), NotServing);
    }
    assert_eq!(runs.load(Ordering::SeqCst), 2, "once for both");

    // What somebody else finds out is told without waiting for the next look.
    up.store(true, Ordering::SeqCst);
    tokio::time::advance(SECOND).await;
    readiness.report().await;
    say(&mut streams, Some(Serving)).await;
}

#[tokio::test(start_paused = true)]
async fn watch_of_a_service_that_is_not_known_says_so_and_goes_on() {
    let readiness = readiness();
    let mut stream = watch(&client(&readiness), "shop.Other").await;

    assert_eq!(says(&mut stream).await, Some(ServiceUnknown));
    readiness.started();
    tokio::time::advance(60 * SECOND).await;

    assert_eq!(says(&mut stream).await, None);
}

#[tokio::test(start_paused = true)]
async fn a_watch_holds_up_no_shutdown() {
    let readiness = Readiness::new().clock(Clock::tokio());
    let client = client(&readiness);
    let mut known = watch(&client, "").await;
    let mut unknown = watch(&client, "shop.Other").await;
    assert_eq!(says(&mut known).await, Some(Serving));
    assert_eq!(says(&mut unknown).await, Some(ServiceUnknown));

    readiness.stop();

    assert_eq!(says(&mut known).await, Some(NotServing));
    for stream in [&mut known, &mut unknown] {
        assert_eq!(said(stream).await.unwrap().unwrap_err().code(), Code::Unavailable);
    }
    // And again for who asks again.
    let mut again = watch(&client, "").await;
    assert_eq!(says(&mut again).await, Some(NotServing));
    assert_eq!(said(&mut again).await.unwrap().unwrap_err().code(), Code::Unavailable);
}

#[tokio::test(start_paused = true)]
async fn a_watch_that_waits_for_a_check_hears_of_the_stop_at_once() {
    let hangs = Dependency::critical("database", std::future::pending::<Result<(), &str>>);
    let readiness = Readiness::new().clock(Clock::tokio()).depends_on(hangs.timeout(60 * SECOND));
    let mut stream = watch(&client(&readiness), "").await;
    assert_eq!(says(&mut stream).await, None);

    readiness.stop();

    assert_eq!(says(&mut stream).await, Some(NotServing));
    assert_eq!(said(&mut stream).await.unwrap().unwrap_err().code(), Code::Unavailable);
}

#[test]
#[should_panic(expected = "refresh is 0s")]
fn a_watch_that_never_rests_is_refused() {
    let _ = GrpcHealth::new(&Readiness::new()).refresh(Duration::ZERO);
}
