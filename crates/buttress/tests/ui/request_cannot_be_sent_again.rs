//! A request that is not HTTP says itself how it is sent again.

use buttress::{BoxError, RetryLayer};
use http::Response;
use tower::{Service, ServiceBuilder, service_fn};

async fn ask(question: String) -> Result<Response<String>, BoxError> {
    Ok(Response::new(question))
}

fn serve(_: impl Service<String>) {}

fn main() {
    let service = ServiceBuilder::new().layer(RetryLayer::default()).service(service_fn(ask));
    serve(service);
}
