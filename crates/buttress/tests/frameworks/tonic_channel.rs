use buttress::{RejectionKind, ServiceBuilderExt, reject};
use tonic::Code;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;
use tower::ServiceBuilder;

use crate::tonic_server::{Client, Greeter, channel, greet};
use crate::{limit, listen};

async fn plain_greeter() -> std::net::SocketAddr {
    let (listener, address) = listen().await;
    tokio::spawn(Server::builder().add_service(Greeter).serve_with_incoming(TcpIncoming::from(listener)));
    address
}

#[tokio::test]
async fn a_refusal_is_an_error_in_the_status() {
    let (limit, _time) = limit(1);
    let channel = channel(plain_greeter().await).await;
    let mut client = Client::new(ServiceBuilder::new().layer(limit).lift_errors().service(channel));

    assert_eq!(greet(&mut client, "Ada").await.unwrap(), "hello Ada");
    let status = greet(&mut client, "Bob").await.unwrap_err();

    let mut causes =
        std::iter::successors(Some(&status as &(dyn std::error::Error + 'static)), |error| error.source());
    let rejection =
        causes.find_map(|error| error.downcast_ref::<buttress::Rejection>()).expect("our rejection");
    assert_eq!(rejection.kind, RejectionKind::RateLimited);
}

#[tokio::test]
async fn a_refusal_as_a_response_is_the_status_that_a_server_gives() {
    let (limit, _time) = limit(1);
    let channel = channel(plain_greeter().await).await;
    let mut client =
        Client::new(ServiceBuilder::new().layer(limit.on_reject(reject::respond())).service(channel));

    assert_eq!(greet(&mut client, "Ada").await.unwrap(), "hello Ada");
    let status = greet(&mut client, "Bob").await.unwrap_err();

    assert_eq!(status.code(), Code::ResourceExhausted);
}
