use std::time::Duration;

use buttress::client::Reqwest;
use buttress::{
    Cause, Error, Facts, HasFacts, Rejection, RejectionKind, ServiceBuilderExt, Timestamp, reject,
};
use http::Request;
use http_body_util::BodyExt;
use tower::{Service, ServiceBuilder, ServiceExt};

use crate::{limit, plain_server};

#[tokio::test]
async fn bare_with_lifted_errors_it_refuses_with_one() {
    let url = format!("http://{}/", plain_server().await);
    let (limit, time) = limit(2);
    let mut client = ServiceBuilder::new().layer(limit).lift_errors().service(reqwest::Client::new());
    let mut ask = || client.call(reqwest::Request::new(http::Method::GET, url.parse().unwrap()));

    assert_eq!(ask().await.unwrap().text().await.unwrap(), "hello");
    assert_eq!(ask().await.unwrap().text().await.unwrap(), "hello");
    let refused = ask().await.unwrap_err();

    let Error::Rejected(rejection) = refused else { panic!("{refused:?}") };
    assert_eq!(rejection.kind, RejectionKind::RateLimited);
    assert_eq!(rejection.retry_after, Some(Duration::from_secs(1)));
    time.advance(Duration::from_secs(1));
    assert!(ask().await.is_ok());
}

#[tokio::test]
async fn its_own_errors_pass_through_the_lift() {
    let (limit, _time) = limit(1);
    let mut client = ServiceBuilder::new().layer(limit).lift_errors().service(reqwest::Client::new());
    // Nothing listens there any more.
    let (listener, address) = crate::listen().await;
    drop(listener);

    let url = format!("http://{address}/").parse().unwrap();
    let failed = client.call(reqwest::Request::new(http::Method::GET, url)).await.unwrap_err();

    let Error::Inner(error) = failed else { panic!("{failed:?}") };
    assert!(error.is_connect(), "{error:?}");
}

#[tokio::test]
async fn the_adapter_speaks_the_types_of_http() {
    let address = plain_server().await;
    let mut client = Reqwest::new();

    let request =
        Request::post(format!("http://{address}/echo")).header("x-a", "b").body("over and back").unwrap();
    let response = client.call(request).await.unwrap();

    assert_eq!(response.status(), 200);
    assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), "over and back");
}

#[tokio::test]
async fn the_adapter_fails_a_request_without_a_host_and_does_not_panic() {
    let mut client = Reqwest::new();

    let error = client.call(Request::get("/relative").body("").unwrap()).await.unwrap_err();

    assert!(error.reqwest().is_some_and(|error| error.is_builder()), "{error:?}");
    assert!(!error.nothing_sent(), "only a connection that was not made says so: {error:?}");
}

#[tokio::test]
async fn the_adapter_says_that_nothing_was_sent_where_no_connection_was_made() {
    // Nothing listens there any more.
    let (listener, address) = crate::listen().await;
    drop(listener);
    let mut client = Reqwest::new();

    let error = client.call(Request::post(format!("http://{address}/")).body("").unwrap()).await.unwrap_err();

    assert!(error.nothing_sent(), "{error:?}");
    assert!(error.reqwest().is_some_and(|error| error.is_connect()), "{error:?}");
    assert!(error.rejection().is_none());

    let unsure = error.maybe_sent();
    assert!(!unsure.nothing_sent(), "another attempt may have been carried out: {unsure:?}");
    assert!(unsure.reqwest().is_some_and(|error| error.is_connect()), "{unsure:?}");
}

#[tokio::test]
async fn the_adapters_error_has_a_place_for_a_refusal() {
    let url = format!("http://{}/", plain_server().await);
    let (limit, _time) = limit(1);
    let mut client = ServiceBuilder::new().layer(limit).service(Reqwest::new());
    let mut ask = || client.call(Request::get(&url).body("").unwrap());

    assert!(ask().await.is_ok());
    let refused = ask().await.unwrap_err();

    assert_eq!(refused.rejection().map(|refusal| refusal.kind), Some(RejectionKind::RateLimited));
    assert!(refused.reqwest().is_none() && !refused.nothing_sent());
    assert!(refused.maybe_sent().rejection().is_some_and(|refusal| refusal.maybe_sent));
}

#[tokio::test]
async fn over_the_adapter_facts_travel_from_layer_to_layer() {
    let url = format!("http://{}/", plain_server().await);
    let (limit, _time) = limit(1);
    let deadline = Timestamp::from_nanos(7);
    let client = ServiceBuilder::new()
        // A layer above writes what it knows ..
        .map_request(move |(attempt, mut request): (u32, Request<&'static str>)| {
            let facts = request.facts_mut().expect("an http::Request carries facts");
            facts.attempt = attempt;
            facts.limit_deadline(deadline);
            request
        })
        // .. one in the middle counts by it ..
        .layer(
            limit
                .by(|request: &Request<&'static str>| request.facts().map(|facts| facts.attempt))
                .on_reject(reject::respond()),
        )
        // .. and it is still there just above the client.
        .map_request(move |request: Request<&'static str>| {
            let mut expected = Facts::new();
            expected.attempt = request.facts().unwrap().attempt;
            expected.deadline = Some(deadline);
            assert_eq!(request.extensions().get(), Some(&expected));
            request
        })
        .service(Reqwest::new());
    let ask = |attempt| client.clone().oneshot((attempt, Request::get(&url).body("").unwrap()));

    assert_eq!(ask(1).await.unwrap().status(), 200);
    assert_eq!(ask(2).await.unwrap().status(), 200, "another attempt, another budget");
    let refused = ask(1).await.unwrap();

    assert_eq!(refused.status(), 429, "reqwest's own body carries the reply");
    assert!(refused.extensions().get::<Rejection>().is_some());
}
