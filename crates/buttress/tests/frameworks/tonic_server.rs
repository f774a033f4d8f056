//! A gRPC service by hand (there is no `protoc` here): one unary method, and a codec that passes bytes on.

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::net::SocketAddr;
use std::task::{Context, Poll};

use buttress::reject;
use bytes::{Buf, BufMut, Bytes};
use http::uri::PathAndQuery;
use tonic::body::Body;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::server::{NamedService, UnaryService};
use tonic::transport::server::TcpIncoming;
use tonic::transport::{Channel, Endpoint, Server};
use tonic::{Code, Request, Response, Status};
use tower::Service;
use tower::util::BoxCloneSyncService;

use crate::{limit, listen};

/// Messages are bytes.
#[derive(Clone, Copy, Default)]
pub(crate) struct Plain;

impl Codec for Plain {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Plain {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, to: &mut EncodeBuf<'_>) -> Result<(), Status> {
        to.put(item);
        Ok(())
    }
}

impl Decoder for Plain {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(from.copy_to_bytes(from.remaining())))
    }
}

/// Greets whoever calls.
#[derive(Clone, Copy)]
pub(crate) struct Greeter;

impl NamedService for Greeter {
    const NAME: &'static str = "test.Greeter";
}

impl UnaryService<Bytes> for Greeter {
    type Response = Bytes;
    type Future = Ready<Result<Response<Bytes>, Status>>;

    fn call(&mut self, request: Request<Bytes>) -> Self::Future {
        let mut greeting = b"hello ".to_vec();
        greeting.extend_from_slice(request.get_ref());
        ready(Ok(Response::new(greeting.into())))
    }
}

impl Service<http::Request<Body>> for Greeter {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = std::pin::Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let greeter = *self;
        Box::pin(async move { Ok(tonic::server::Grpc::new(Plain).unary(greeter, request).await) })
    }
}

pub(crate) type Client<S> = tonic::client::Grpc<S>;

/// Calls the one method there is.
pub(crate) async fn greet<S>(client: &mut Client<S>, name: &'static str) -> Result<Bytes, Status>
where
    S: tonic::client::GrpcService<Body, ResponseBody: Send + 'static, Error: std::fmt::Debug>,
    <S::ResponseBody as http_body::Body>::Error: Into<buttress::BoxError>,
{
    client.ready().await.unwrap();
    let path = PathAndQuery::from_static("/test.Greeter/Greet");
    let response = client.unary(Request::new(Bytes::from_static(name.as_bytes())), path, Plain).await?;
    Ok(response.into_inner())
}

pub(crate) async fn channel(address: SocketAddr) -> Channel {
    Endpoint::from_shared(format!("http://{address}")).unwrap().connect().await.unwrap()
}

#[tokio::test]
async fn after_the_budget_the_status_is_resource_exhausted() {
    let (limit, time) = limit(2);
    let (listener, address) = listen().await;
    let server = Server::builder().layer(limit.on_reject(reject::respond())).add_service(Greeter);
    tokio::spawn(server.serve_with_incoming(TcpIncoming::from(listener)));
    let mut client = Client::new(channel(address).await);

    assert_eq!(greet(&mut client, "Ada").await.unwrap(), "hello Ada");
    assert_eq!(greet(&mut client, "Bob").await.unwrap(), "hello Bob");
    let status = greet(&mut client, "Eve").await.unwrap_err();

    assert_eq!(status.code(), Code::ResourceExhausted);
    assert_eq!(Code::ResourceExhausted as i32, 8);
    assert_eq!(status.metadata().get("grpc-retry-pushback-ms").unwrap(), "1000");
    time.advance(std::time::Duration::from_secs(1));
    assert_eq!(greet(&mut client, "Eve").await.unwrap(), "hello Eve");
}

#[tokio::test]
async fn two_connections_spend_one_budget() {
    let (limit, _time) = limit(1);
    let (listener, address) = listen().await;
    let server = Server::builder().layer(limit.on_reject(reject::respond())).add_service(Greeter);
    tokio::spawn(server.serve_with_incoming(TcpIncoming::from(listener)));

    assert!(greet(&mut Client::new(channel(address).await), "Ada").await.is_ok());
    let status = greet(&mut Client::new(channel(address).await), "Bob").await.unwrap_err();

    assert_eq!(status.code(), Code::ResourceExhausted);
}

#[tokio::test]
async fn it_also_stands_around_one_service_boxed() {
    use tower::Layer;

    let (limit, _time) = limit(1);
    let boxed: BoxCloneSyncService<http::Request<Body>, http::Response<Body>, Infallible> =
        BoxCloneSyncService::new(limit.on_reject(reject::respond()).layer(Greeter));
    let mut client = Client::new(boxed);

    assert_eq!(greet(&mut client, "Ada").await.unwrap(), "hello Ada");
    assert_eq!(greet(&mut client, "Bob").await.unwrap_err().code(), Code::ResourceExhausted);
}
