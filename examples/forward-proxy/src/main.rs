//! cargo run -p forward-proxy
//!
//! A forward proxy for the client that asks it: `curl -x http://127.0.0.1:3128 https://example.com/`. It reaches public
//! addresses at the ports 80 and 443, and nothing of this machine or of the network that it stands in.
//!
//! | argument | |
//! |---|---|
//! | `127.0.0.1:3128` | where it listens, the default |
//! | `--user NAME:PASSWORD` | whom it serves; may be given more than once. Everyone, if it is not |
//! | `--host NAME` | the hosts that may be reached, as `*.example.com`; may be given more than once. All, if it is not |
//! | `--network NET` | a network that may be reached besides, as `10.1.0.0/16` |
//! | `--any-port` | lets clients reach every port |
//!
//! Each request is a line. Ctrl-C drains: tunnels may go on for 30 seconds.

use std::error::Error;

use buttress::Peer;
use buttress::answer::AnswerErrorsLayer;
use buttress::health::{Readiness, Shutdown};
use buttress::proxy::forward::Forward;
use buttress::proxy::server::{Body, Server};
use http::Request;
use tower::{Service, ServiceBuilder, ServiceExt, service_fn};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error + Send + Sync>> {
    let (listen, forward) = configured(std::env::args().skip(1))?;
    let layers = AnswerErrorsLayer::new().describe(buttress::proxy::Error::problem);
    let proxy = ServiceBuilder::new().layer(layers).service(forward);
    let told = service_fn(move |request: Request<Body>| {
        let mut proxy = proxy.clone();
        async move {
            let peer = Peer::of(&request).map(|peer| peer.0.to_string()).unwrap_or_default();
            let what = format!("{} {}", request.method(), request.uri());
            let answer = proxy.ready().await?.call(request).await?;
            println!("{peer} {what}: {}", answer.status());
            Ok::<_, std::convert::Infallible>(answer)
        }
    });

    let shutdown = Shutdown::new(&Readiness::new());
    shutdown.on_signals()?;
    let server = Server::bind(listen).await?;
    let address = server.addresses().next().ok_or("it listens nowhere")?;
    println!("curl -x http://{address} https://example.com/");
    let serve = server.shutdown(shutdown.stopping()).abort(shutdown.aborting()).serve(told);
    shutdown.run(serve).await??;
    Ok(())
}

/// Where to listen, and the proxy, by the arguments.
fn configured(
    mut words: impl Iterator<Item = String>,
) -> Result<(String, Forward<Body>), Box<dyn Error + Send + Sync>> {
    let (mut listen, mut users, mut forward) = ("127.0.0.1:3128".to_owned(), Vec::new(), Forward::new());
    while let Some(word) = words.next() {
        let mut value = || words.next().ok_or(format!("{word} must be followed by a value"));
        forward = match word.as_str() {
            "--user" => {
                let pair = value()?;
                let (user, password) = pair.split_once(':').ok_or("--user must be NAME:PASSWORD")?;
                users.push((user.to_owned(), password.to_owned()));
                forward
            }
            "--host" => forward.allow_hosts([value()?]),
            "--network" => forward.allow_networks([value()?.as_str()]),
            "--any-port" => forward.any_port(),
            _ => {
                listen = word;
                forward
            }
        };
    }
    let forward = if users.is_empty() { forward } else { forward.credentials(users) };
    Ok((listen, forward))
}
