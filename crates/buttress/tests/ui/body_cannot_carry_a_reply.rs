//! A body that is read from a connection cannot be made of bytes.

use std::convert::Infallible;

use buttress::{RateLimitLayer, reject};
use http::{Request, Response};
use hyper::body::Incoming;
use tower::{Service, ServiceBuilder, service_fn};

async fn forward(request: Request<Incoming>) -> Result<Response<Incoming>, Infallible> {
    Ok(Response::new(request.into_body()))
}

fn serve(_: impl Service<Request<Incoming>>) {}

fn main() {
    let service = ServiceBuilder::new()
        .layer(RateLimitLayer::per_second(100).on_reject(reject::respond()))
        .service(service_fn(forward));
    serve(service);
}
