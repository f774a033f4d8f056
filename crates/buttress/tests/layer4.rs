//! TCP connections on the balancer, the retries and the probes that HTTP is served by: nothing here is a request.

#![cfg(feature = "full")]

use std::net::SocketAddr;
use std::time::Duration;

use buttress::balance::{LeastLoad, Members, Static};
use buttress::health::HealthCheck;
use buttress::proxy::tcp::{AtClose, Connect, Connection, Server, Upstream};
use buttress::rate_limit::RateLimitLayer;
use buttress::retry::{Budget, RetryLayer};
use buttress::{Balancer, Endpoint, Endpoints};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tower::{Service, ServiceBuilder};

/// A server that says its name to every connection and then sends back what comes.
async fn named(name: &'static str) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            tokio::spawn(async move {
                stream.write_all(name.as_bytes()).await.unwrap();
                let (mut reads, mut writes) = stream.split();
                let _ = tokio::io::copy(&mut reads, &mut writes).await;
            });
        }
    });
    address
}

/// An address at which nobody listens.
async fn nobody() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap()
}

fn endpoints(addresses: &[SocketAddr]) -> Endpoints {
    Endpoints::new(addresses.iter().map(|address| Endpoint::new(address.to_string()))).unwrap()
}

fn members(endpoints: &Endpoints) -> Members<Connect> {
    Members::new(endpoints.clone(), |endpoint: &Endpoint| {
        Connect::to(endpoint.address().as_str()).expect("the list holds addresses")
    })
}

async fn serve<S>(service: S) -> SocketAddr
where
    S: Service<Connection, Response = Upstream, Error: Into<buttress::BoxError> + Send, Future: Send>
        + Clone
        + Send
        + 'static,
{
    let server = Server::bind("127.0.0.1:0").await.unwrap();
    let address = server.local_addr().unwrap();
    tokio::spawn(server.serve(service));
    address
}

async fn visit(front: SocketAddr) -> (String, TcpStream) {
    let mut stream = TcpStream::connect(front).await.unwrap();
    let mut name = [0; 1];
    let name = match stream.read(&mut name).await {
        Ok(length) => String::from_utf8(name[..length].to_vec()).unwrap(),
        Err(error) => error.kind().to_string(),
    };
    (name, stream)
}

#[tokio::test]
async fn connections_take_turns_and_both_ways_reach_the_one_that_was_chosen() {
    let endpoints = endpoints(&[named("a").await, named("b").await]);
    let front = serve(Balancer::new(members(&endpoints)).policy(Static::round_robin())).await;

    let mut names = Vec::new();
    for _ in 0..4 {
        let (name, mut stream) = visit(front).await;
        stream.write_all(b"echo").await.unwrap();
        let mut echo = [0; 4];
        stream.read_exact(&mut echo).await.unwrap();
        assert_eq!(&echo, b"echo");
        names.push(name);
    }

    names.sort();
    assert_eq!(names, ["a", "a", "b", "b"]);
}

#[tokio::test]
async fn the_least_connections_are_those_that_are_open() {
    let endpoints = endpoints(&[named("a").await, named("b").await]);
    let balancer = Balancer::new(members(&endpoints)).policy(LeastLoad::connections().all()).finish(AtClose);
    let handle = balancer.handle();
    let in_flight = move || handle.endpoints().iter().map(|view| view.in_flight).collect::<Vec<_>>();
    let front = serve(balancer).await;

    let (first, held) = visit(front).await;
    for _ in 0..3 {
        // However often another is opened and closed, the first still counts.
        let (name, stream) = visit(front).await;
        assert_ne!(name, first);
        drop(stream);
        while in_flight().iter().sum::<u32>() > 1 {
            tokio::task::yield_now().await;
        }
    }

    drop(held);
    while in_flight() != [0, 0] {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn where_one_endpoint_cannot_be_reached_the_next_one_gets_the_connection() {
    let endpoints = endpoints(&[nobody().await, nobody().await, named("c").await]);
    let balancer = Balancer::new(members(&endpoints)).policy(Static::random());
    // Nothing says that what the clients will send may be sent twice: only that nothing was sent allows it.
    let retry = RetryLayer::cloning(|_: &Connection| false).elsewhere().budget(Budget::unlimited());
    let front = serve(ServiceBuilder::new().layer(retry).service(balancer)).await;

    // Three attempts are as many as there are endpoints: none is tried twice.
    for _ in 0..20 {
        assert_eq!(visit(front).await.0, "c");
    }
}

#[tokio::test]
async fn a_probe_takes_the_endpoint_out_that_nobody_answers_at() {
    let dead = nobody().await;
    let endpoints = endpoints(&[dead, named("b").await]);
    let front = serve(Balancer::new(members(&endpoints)).policy(Static::round_robin())).await;
    let check = HealthCheck::tcp().interval(Duration::from_millis(10)).timeout(Duration::from_millis(10));
    let _probes = check.unhealthy_threshold(1).run(&endpoints).unwrap().spawn();

    while endpoints.get(&dead.to_string()).unwrap().condition().is_usable() {
        tokio::task::yield_now().await;
    }

    for _ in 0..4 {
        assert_eq!(visit(front).await.0, "b");
    }
}

#[tokio::test]
async fn a_limit_goes_by_the_clients_address() {
    let limit = RateLimitLayer::per_minute(2).by(|connection: &Connection| Some(connection.client().ip()));
    let connect = Connect::to(named("a").await).unwrap();
    let front = serve(ServiceBuilder::new().layer(limit).service(connect)).await;

    let mut names = Vec::new();
    for _ in 0..4 {
        names.push(visit(front).await.0);
    }

    assert_eq!(names, ["a", "a", "", ""]);
}
