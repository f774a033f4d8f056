//! Over HTTP and gRPC.

use std::task::Waker;

use super::*;
use ::http::{HeaderMap, Request, Response};
use buttress_core::{Rejection, RejectionKind};
use buttress_health::classify;
use buttress_testkit::ScriptedBody;
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use tower::service_fn;

type Answer = Response<Full<Bytes>>;

/// Ejects after two gateway failures in a row, or three others, or two calls without a response.
fn rig_http() -> Rig {
    let detection = plain()
        .consecutive_5xx(3)
        .consecutive_gateway_failure(2)
        .split_local_origin()
        .consecutive_local_origin_failure(2);
    rig("a b", detection.enforcing(EjectionReason::ConsecutiveGatewayFailure, 100))
}

fn status(status: u16) -> Answer {
    Response::builder().status(status).body(Full::default()).unwrap()
}

/// Sends one call to `a`, judged over HTTP at the head.
fn answered(rig: &Rig, answer: Result<Answer, BoxError>) {
    let mut answer = Some(answer);
    let inner = service_fn(move |_: Request<()>| ready(answer.take().expect("it is called once")));
    let layer = rig.outliers.layer(&rig.endpoint("a")).over_http();
    let mut service = buttress_core::Wrap::wrap(&layer, inner);
    let cx = &mut Context::from_waker(Waker::noop());
    assert!(std::pin::pin!(service.call(Request::new(()))).poll(cx).is_ready());
}

fn ejected_by(rig: &Rig) -> Option<EjectionReason> {
    rig.view("a").ejected.map(|ejected| ejected.reason)
}

#[test]
fn three_500_in_a_row_eject_and_what_is_below_500_does_not() {
    let rig = rig_http();
    for code in [404, 400, 429, 302, 200] {
        (0..10).for_each(|_| answered(&rig, Ok(status(code))));
    }
    assert_eq!(ejected_by(&rig), None);

    (0..3).for_each(|_| answered(&rig, Ok(status(500))));
    assert_eq!(ejected_by(&rig), Some(EjectionReason::Consecutive5xx));
}

#[test]
fn two_answers_of_a_gateway_eject_whichever_they_are() {
    for codes in [[502, 503], [503, 504], [504, 502]] {
        let rig = rig_http();
        codes.into_iter().for_each(|code| answered(&rig, Ok(status(code))));
        assert_eq!(ejected_by(&rig), Some(EjectionReason::ConsecutiveGatewayFailure), "{codes:?}");
    }
    let rig = rig_http();
    [502, 501].into_iter().for_each(|code| answered(&rig, Ok(status(code))));
    assert_eq!(ejected_by(&rig), None, "501 is the service's own");
}

#[test]
fn no_answer_is_local_and_so_is_a_timeout_of_ours_that_was_answered_with_504() {
    let rig = rig_http();
    answered(&rig, Err("connection refused".into()));
    let mut timed_out = status(504);
    timed_out.extensions_mut().insert(Rejection::new(RejectionKind::Timeout));
    answered(&rig, Ok(timed_out));
    assert_eq!(ejected_by(&rig), Some(EjectionReason::ConsecutiveLocalOriginFailure));
}

#[test]
fn a_503_of_a_layer_of_ours_says_nothing_of_the_endpoint() {
    let rig = rig_http();
    for _ in 0..10 {
        let mut refused = status(503);
        refused.extensions_mut().insert(Rejection::new(RejectionKind::Overloaded));
        answered(&rig, Ok(refused));
    }
    assert_eq!((ejected_by(&rig), rig.view("a").failed), (None, 0));
}

fn grpc(
    code: &'static str,
    in_trailers: bool,
) -> Response<http_body_util::combinators::UnsyncBoxBody<Bytes, BoxError>> {
    let mut fields = HeaderMap::new();
    fields.insert("grpc-status", code.parse().unwrap());
    let body = Full::new(Bytes::from_static(b"message")).map_err(|never| match never {});
    let mut response = Response::builder().header("content-type", "application/grpc");
    let body = if in_trailers {
        body.with_trailers(ready(Some(Ok(fields)))).boxed_unsync()
    } else {
        response.headers_mut().unwrap().extend(fields);
        body.boxed_unsync()
    };
    response.body(body).unwrap()
}

/// Sends one call to `a` over gRPC, and reads the answer to its end.
fn called(rig: &Rig, code: &'static str, in_trailers: bool) {
    let inner = service_fn(move |_: Request<()>| ready(Ok::<_, BoxError>(grpc(code, in_trailers))));
    let mut service = rig.outliers.layer(&rig.endpoint("a")).over_grpc().layer(inner);
    let read = async move {
        let response = service.call(Request::new(())).await.expect("it answers");
        drop(response.into_body().collect().await);
    };
    let cx = &mut Context::from_waker(Waker::noop());
    assert!(std::pin::pin!(read).poll(cx).is_ready());
}

#[test]
fn grpc_is_judged_by_its_status_in_the_head_and_in_the_trailers() {
    for in_trailers in [false, true] {
        let rig = rig_http();
        ["0", "5", "3", "8"]
            .into_iter()
            .for_each(|code| (0..5).for_each(|_| called(&rig, code, in_trailers)));
        assert_eq!(ejected_by(&rig), None);
        (0..3).for_each(|_| called(&rig, "13", in_trailers));
        assert_eq!(ejected_by(&rig), Some(EjectionReason::Consecutive5xx), "INTERNAL");

        let rig = rig_http();
        ["14", "4"].into_iter().for_each(|code| called(&rig, code, in_trailers));
        assert_eq!(ejected_by(&rig), Some(EjectionReason::ConsecutiveGatewayFailure), "UNAVAILABLE");
    }
}

#[test]
fn a_body_that_breaks_off_is_no_answer_where_bodies_are_followed() {
    let rig = rig_http();
    let call = || {
        let broken = || Response::new(ScriptedBody::new().data("half of").error("reset").chunked());
        let inner = service_fn(move |_: Request<()>| ready(Ok::<_, BoxError>(broken())));
        let layer = rig.outliers.layer(&rig.endpoint("a")).over_http();
        let mut service = layer.classify(classify::status().at_end()).at_end().layer(inner);
        let read = async move {
            let response = service.call(Request::new(())).await.expect("it answers");
            assert!(response.into_body().collect().await.is_err());
        };
        assert!(std::pin::pin!(read).poll(&mut Context::from_waker(Waker::noop())).is_ready());
    };

    call();
    call();

    assert_eq!(ejected_by(&rig), Some(EjectionReason::ConsecutiveLocalOriginFailure));
}
