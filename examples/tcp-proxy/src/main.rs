//! cargo run -p tcp-proxy -- 127.0.0.1:6432 10.0.0.1:5432 10.0.0.2:5432
//!
//! Forwards TCP connections to the upstream with the fewest of them. One that a probe cannot connect to gets none; where
//! connecting fails all the same, the next one gets the connection. Each connection that ends is told on a line. Ctrl-C
//! drains: what is open may go on for 25 seconds.

use std::error::Error;
use std::time::Duration;

use buttress::balance::{LeastLoad, Members};
use buttress::health::{HealthCheck, Readiness, Shutdown};
use buttress::proxy::tcp::{AtClose, Connect, Connection, Event, Server};
use buttress::retry::RetryLayer;
use buttress::{Balancer, Endpoint, Endpoints};
use tower::ServiceBuilder;

/// One thread: carrying bytes is the kernel's work.
#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let quiet = std::env::args().any(|word| word == "--quiet");
    let mut words = std::env::args().skip(1).filter(|word| word != "--quiet");
    let listen = words.next().ok_or("usage: tcp-proxy [--quiet] LISTEN UPSTREAM...")?;
    let mut endpoints = Vec::new();
    for address in words {
        // A wrong one is found here, and not when the first connection comes.
        endpoints.push((Endpoint::new(address.clone()), Connect::to(address)?));
    }

    let balancer =
        Balancer::try_new(Members::from(endpoints))?.policy(LeastLoad::connections()).finish(AtClose);
    let list: &Endpoints = balancer.endpoints();
    let _probes = HealthCheck::tcp().interval(Duration::from_secs(2)).run(list)?.spawn();
    // Of a protocol that nobody reads it is not known what may be sent twice; but here nothing was sent.
    let retry = RetryLayer::cloning(|_: &Connection| false).elsewhere();
    let stack = ServiceBuilder::new().layer(retry).service(balancer);

    let server = Server::bind(listen).await?;
    println!("forwarding what comes to {}", server.local_addr()?);
    let shutdown = Shutdown::new(&Readiness::new());
    shutdown.on_signals()?;
    let serve = server
        .observe(move |event| {
            if !quiet {
                tell(event)
            }
        })
        .serve_until(stack, shutdown.stopping());
    Ok(shutdown.run(serve).await?)
}

fn tell(event: &Event<'_>) {
    match event {
        Event::Refused { peer, why } => println!("{peer} was closed: {why}"),
        Event::Failed { connection, error } => println!("{} got no upstream: {error}", connection.client()),
        Event::Ended { connection, upstream, sent, received, lasted, why, .. } => {
            let upstream = upstream.map_or_else(|| "?".to_owned(), |address| address.to_string());
            let client = connection.client();
            println!("{client} to {upstream}: {sent} bytes up, {received} down, {lasted:.1?}, {why:?}");
        }
        other => println!("{other:?}"),
    }
}
