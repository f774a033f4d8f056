//! gRPC, through the gateway: answers whose status is in the trailers, streams message by message.

use std::net::SocketAddr;

use tokio::net::TcpListener;
use tonic::{Code, transport::Channel};
use tonic_health::{
    ServingStatus,
    pb::{HealthCheckRequest, health_check_response::ServingStatus as Said, health_client::HealthClient},
    server::{HealthReporter, health_reporter},
};

use crate::support::{Gateway, soon};

/// A gRPC server, over HTTP/2 without TLS, and what changes the answers of its health service.
async fn server() -> (SocketAddr, HealthReporter) {
    let (reporter, health) = health_reporter();
    reporter.set_service_status("orders", ServingStatus::Serving).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback has free ports");
    let address = listener.local_addr().expect("bound");
    let incoming = tonic::transport::server::TcpIncoming::from(listener);
    tokio::spawn(tonic::transport::Server::builder().add_service(health).serve_with_incoming(incoming));
    (address, reporter)
}

async fn through(name: &str, upstream: SocketAddr) -> (Gateway, HealthClient<Channel>) {
    let config = format!(
        "[[upstream]]\nname = 'it'\nurl = 'http://{upstream}'\nhttp2 = true\n[[route]]\npath = '/'\nupstream = 'it'\n"
    );
    let gateway = Gateway::with(name, &config).await;
    let channel = Channel::from_shared(gateway.url("/")).unwrap().connect().await.unwrap();
    (gateway, HealthClient::new(channel))
}

fn about(service: &str) -> HealthCheckRequest {
    HealthCheckRequest { service: service.to_owned() }
}

#[tokio::test]
async fn a_call_has_its_message_and_its_status_from_the_trailers() {
    let (upstream, _reporter) = server().await;
    let (_gateway, mut client) = through("grpc-unary", upstream).await;

    for _ in 0..20 {
        let answer = soon("the answer", client.check(about("orders"))).await.unwrap();
        assert_eq!(answer.into_inner().status(), Said::Serving);
    }
    let refused = soon("the refusal", client.check(about("nobody"))).await.unwrap_err();
    assert_eq!(refused.code(), Code::NotFound, "{refused:?}");
}

#[tokio::test]
async fn a_stream_brings_each_message_when_it_is_sent() {
    let (upstream, mut reporter) = server().await;
    let (_gateway, mut client) = through("grpc-stream", upstream).await;

    let mut stream = soon("the head", client.watch(about("orders"))).await.unwrap().into_inner();
    let first = soon("the first message", stream.message()).await.unwrap().unwrap();
    assert_eq!(first.status(), Said::Serving);
    for (status, said) in
        [(ServingStatus::NotServing, Said::NotServing), (ServingStatus::Serving, Said::Serving)]
    {
        reporter.set_service_status("orders", status).await;
        let next = soon("the next message", stream.message()).await.unwrap().unwrap();
        assert_eq!(next.status(), said);
    }

    // The trailers end the stream.
    reporter.clear_service_status("orders").await;
    assert!(soon("the end", stream.message()).await.unwrap().is_none());
}

#[tokio::test]
async fn a_refusal_of_the_gateway_is_a_status_that_clients_of_grpc_know() {
    let free = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let nobody = free.local_addr().unwrap();
    drop(free);
    let (_gateway, mut client) = through("grpc-nobody", nobody).await;

    let refused = soon("the refusal", client.check(about("orders"))).await.unwrap_err();

    assert_eq!(refused.code(), Code::Unavailable, "{refused:?}");
}
