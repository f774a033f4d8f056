//! cargo run -p axum-api
//!
//! A small axum service behind a rate limit and a timeout: 10 requests at once and 5 a second per client
//! address, a hundred times that on the pro plan; half a second per answer, less where the caller has less. What
//! is refused is answered as application/problem+json. Probes are answered, and it ends in order.

use std::{net::SocketAddr, time::Duration};

use axum::extract::{Path, Request};
use axum::{Json, Router, http::StatusCode, routing::get};
use buttress::health::{HealthEndpoints, Readiness, Shutdown};
use buttress::{Clock, DeadlineLayer, RateLimitLayer, TimeoutLayer, key, rate_limit::Limit, reject};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tower::ServiceBuilder;

fn app(readiness: &Readiness) -> Router {
    let plans = [("free", Limit::per_second(5).burst(10)), ("pro", Limit::per_second(500).burst(1000))];
    let limit = RateLimitLayer::plans(plans).plan(plan).by(key::client_ip()).on_reject(reject::respond());
    // The first line is the outermost: a request over the limit never starts a timer.
    let layers = ServiceBuilder::new()
        .layer(limit)
        .layer(DeadlineLayer::new().on_reject(reject::respond()))
        .layer(TimeoutLayer::head(Duration::from_millis(500)).on_reject(reject::respond()));
    // One layer value is one budget, for all routes and all connections.
    let app = Router::new().route("/users/{id}", get(user)).route("/report", get(report)).layer(layers);
    // Beside the layers: a probe is never refused for the load that clients make.
    app.fallback_service(HealthEndpoints::new(readiness))
}

/// Who pays has a key. (A real service looks it up, before anything that a client could have made up.)
fn plan(req: &Request) -> &'static str {
    let key = req.headers().get("x-api-key");
    if key.is_some_and(|key| key == "demo-pro") { "pro" } else { "free" }
}

async fn user(Path(id): Path<usize>) -> Result<Json<Value>, StatusCode> {
    let name = ["Ada", "Grace", "Edsger"].get(id.wrapping_sub(1)).ok_or(StatusCode::NOT_FOUND)?;
    Ok(Json(json!({ "id": id, "name": name })))
}

/// Takes longer than it may.
async fn report() -> &'static str {
    Clock::default().sleep(Duration::from_secs(5)).await;
    "at last"
}

#[tokio::main]
async fn main() -> std::io::Result<()> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:3000".to_owned());
    let listener = TcpListener::bind(address).await?;
    let url = format!("http://{}", listener.local_addr()?);
    println!("listening on {url}, try:");
    println!("  curl -i {url}/users/1                  # 200");
    println!("  curl -i '{url}/users/1?call=[1-11]'    # 200 ten times, then 429 with retry-after");
    println!("  curl -i '{url}/users/1?call=[1-11]' -H 'x-api-key: demo-pro'   # 200 each time");
    println!("  curl -i {url}/report                   # 504 after half a second");
    println!("  curl -i {url}/report -H 'x-envoy-expected-rq-timeout-ms: 50'   # 504 sooner");
    println!("  curl -i {url}/readyz                   # 200; 503 after Ctrl-C, and 5 s later it is gone");

    let readiness = Readiness::new();
    let shutdown = Shutdown::new(&readiness);
    shutdown.on_signals()?;
    // The client's address, for the limiter's key.
    let app = app(&readiness).into_make_service_with_connect_info::<SocketAddr>();
    let serve = axum::serve(listener, app).with_graceful_shutdown(shutdown.stopping());
    shutdown.run(serve.into_future()).await.unwrap_or_else(|aborted| Err(std::io::Error::other(aborted)))
}
