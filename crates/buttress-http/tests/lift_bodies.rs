//! Lifting the bodies at the bottom of a stack.

mod support;

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::task::{Context, Poll};

use buttress_http::body::ReplyBody;
use buttress_http::{LiftBodies, LiftBodiesLayer};
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Either, Full};
use support::{Scripted, Step, body, trailers};
use tower_layer::Layer;
use tower_service::Service;

/// Answers with a body that no bytes make.
#[derive(Clone)]
struct Backend;

impl Service<Request<()>> for Backend {
    type Response = Response<Scripted>;
    type Error = Infallible;
    type Future = Ready<Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Request<()>) -> Self::Future {
        let response = Response::builder().status(201).header("x-from", "backend");
        ready(Ok(response.body(body([Step::Data("hello"), Step::Trailers("done")]).exact(5)).unwrap()))
    }
}

#[tokio::test]
async fn a_lifted_response_is_the_same_in_head_and_body() {
    let mut service = LiftBodiesLayer::new().layer(Backend);

    let response = service.call(Request::new(())).await.unwrap();

    assert_eq!(response.status(), 201);
    assert_eq!(response.headers()["x-from"], "backend");
    assert_eq!(http_body::Body::size_hint(response.body()).exact(), Some(5));
    let collected = response.into_body().collect().await.unwrap();
    assert_eq!(collected.trailers(), Some(&trailers("done")));
    assert_eq!(collected.to_bytes(), "hello");
}

#[tokio::test]
async fn a_lifted_body_and_a_reply_have_one_type() {
    let mut service = LiftBodies::new(Backend);

    let mut response = service.call(Request::new(())).await.unwrap();
    *response.body_mut() = ReplyBody::reply(Bytes::from_static(b"refused"));

    let body: Either<Full<Bytes>, Scripted> = response.into_body();
    assert_eq!(body.collect().await.unwrap().to_bytes(), "refused");
}
