//! A layer that follows responses to the end of their bodies changes the response's type: it fits everywhere too.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use axum::routing::get;
use buttress::body::{AtEnd, Tracked};
use buttress::client::Reqwest;
use buttress::{End, Finish, Guard};
use bytes::Bytes;
use futures_util::stream;
use http::{HeaderMap, Request, Response};
use http_body_util::{BodyExt, Full, StreamBody};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;
use tower::{Layer, Service, ServiceExt};

use crate::tonic_server::{Client, Greeter, channel, greet};
use crate::{listen, plain_server};

#[derive(Debug, PartialEq)]
enum Told {
    Head,
    Complete,
    Trailers(HeaderMap),
    Aborted,
}

struct Recorder(UnboundedSender<Told>);

impl Guard for Recorder {
    fn end(&mut self, end: &End<'_>) {
        let _ = self.0.send(match end {
            End::Complete { trailers: Some(trailers) } => Told::Trailers((*trailers).clone()),
            End::Head => Told::Head,
            End::Complete { trailers: None } => Told::Complete,
            End::Aborted => Told::Aborted,
            other => panic!("not expected here: {other:?}"),
        });
    }
}

/// The smallest layer that follows bodies.
#[derive(Clone)]
struct Follow<S>(S, UnboundedSender<Told>);

fn follow<S>() -> (impl Layer<S, Service = Follow<S>> + Clone, UnboundedReceiver<Told>) {
    let (to, told) = unbounded_channel();
    (tower::layer::layer_fn(move |inner| Follow(inner, to.clone())), told)
}

impl<S, Q, B> Service<Request<Q>> for Follow<S>
where
    S: Service<Request<Q>, Response = Response<B>, Future: Send + 'static>,
    B: http_body::Body,
{
    type Response = Response<Tracked<B, Recorder>>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, S::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Q>) -> Self::Future {
        let form = Finish::<_, Response<B>, Recorder>::form(&AtEnd, &request);
        let guard = Recorder(self.1.clone());
        let answer = self.0.call(request);
        Box::pin(async move { Ok(Finish::<Request<Q>, _, _>::finish(&AtEnd, form, answer.await?, guard)) })
    }
}

#[tokio::test]
async fn on_an_axum_router_every_kind_of_body_is_complete_and_head_has_none() {
    async fn streamed() -> axum::body::Body {
        let frame = http_body::Frame::data(Bytes::from_static(b"streamed"));
        axum::body::Body::new(StreamBody::new(stream::iter([Ok::<_, Infallible>(frame)])))
    }
    let (layer, mut told) = follow();
    let router = axum::Router::new()
        .route("/text", get(|| async { "text" }))
        .route("/empty", get(|| async {}))
        .route("/stream", get(streamed))
        .layer(layer);
    let (listener, address) = listen().await;
    tokio::spawn(async move { axum::serve(listener, router).await });
    let client = reqwest::Client::new();

    for (method, path, body) in [
        ("GET", "/text", "text"),
        ("HEAD", "/text", ""),
        ("GET", "/empty", ""),
        ("GET", "/stream", "streamed"),
        ("HEAD", "/stream", ""),
        ("GET", "/missing", ""),
    ] {
        let request = client.request(method.parse().unwrap(), format!("http://{address}{path}"));
        assert_eq!(request.send().await.unwrap().text().await.unwrap(), body, "{method} {path}");
        let end = if method == "HEAD" { Told::Head } else { Told::Complete };
        assert_eq!(told.recv().await, Some(end), "{method} {path}");
    }
    assert!(told.is_empty(), "once each");
}

#[tokio::test]
async fn on_a_tonic_server_the_trailers_are_told() {
    let (layer, mut told) = follow();
    let (listener, address) = listen().await;
    let server = Server::builder().layer(layer).add_service(Greeter);
    tokio::spawn(server.serve_with_incoming(TcpIncoming::from(listener)));
    let mut client = Client::new(channel(address).await);

    greet(&mut client, "Ada").await.unwrap();

    let Some(Told::Trailers(trailers)) = told.recv().await else { panic!("no trailers") };
    assert_eq!(trailers["grpc-status"], "0");
    assert!(told.is_empty());
}

#[tokio::test]
async fn on_a_tonic_channel_the_trailers_are_told() {
    let (layer, mut told) = follow();
    let (listener, address) = listen().await;
    tokio::spawn(Server::builder().add_service(Greeter).serve_with_incoming(TcpIncoming::from(listener)));
    let mut client = Client::new(layer.layer(channel(address).await));

    greet(&mut client, "Ada").await.unwrap();

    let Some(Told::Trailers(trailers)) = told.recv().await else { panic!("no trailers") };
    assert_eq!(trailers["grpc-status"], "0");
    assert!(told.is_empty());
}

#[tokio::test]
async fn on_reqwest_a_body_is_complete_when_read_and_aborted_when_not() {
    let url = format!("http://{}/", plain_server().await);
    let (layer, mut told) = follow();
    let client = layer.layer(Reqwest::new());
    let ask = || client.clone().oneshot(Request::get(&url).body("").unwrap());

    let read = ask().await.unwrap().into_body().collect().await.unwrap();
    assert_eq!(read.to_bytes(), "hello");
    assert_eq!(told.recv().await, Some(Told::Complete));

    drop(ask().await.unwrap());
    assert_eq!(told.recv().await, Some(Told::Aborted));
    assert!(told.is_empty());
}

#[tokio::test]
async fn a_refusal_of_a_layer_above_holds_no_guard() {
    use buttress::reject;

    let (limit, _time) = crate::limit(1);
    let (layer, mut told) = follow();
    let service =
        limit.on_reject(reject::respond()).layer(layer.layer(tower::service_fn(|_: Request<()>| async {
            Ok::<_, Infallible>(Response::new(Full::new(Bytes::from_static(b"hello"))))
        })));

    let allowed = service.clone().oneshot(Request::new(())).await.unwrap();
    let refused = service.oneshot(Request::new(())).await.unwrap();

    assert_eq!((allowed.status().as_u16(), refused.status().as_u16()), (200, 429));
    assert!(!refused.body().is_tracking());
    drop((allowed, refused));
    assert_eq!(told.recv().await, Some(Told::Aborted));
    assert!(told.is_empty());
}
