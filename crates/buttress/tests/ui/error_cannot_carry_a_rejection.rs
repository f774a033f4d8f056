//! axum's services have the error `Infallible`, in which no refusal fits.

use axum::Router;
use axum::routing::get;
use buttress::RateLimitLayer;

fn main() {
    let _app: Router =
        Router::new().route("/", get(|| async { "hello" })).layer(RateLimitLayer::per_second(100));
}
