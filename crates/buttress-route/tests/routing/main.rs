//! The router as its users see it: what takes which request, and what is answered.

mod answers;
mod bodies;
mod conditions;
mod hosts;
mod methods;
mod mistakes;
mod order;
mod paths;
mod redirects;

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::task::{Context, Poll};

use buttress_route::{AsTheyAre, Matched, Router, RouterBuilder};
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use tower::{Service, ServiceExt};

/// Answers with its name, and with what the router told it.
#[derive(Clone)]
struct Named(&'static str);

impl<B> Service<Request<B>> for Named {
    type Response = Response<Full<Bytes>>;
    type Error = Infallible;
    type Future = Ready<Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let mut response = Response::new(Full::from(self.0));
        if let Some(matched) = request.extensions().get::<Matched>() {
            response.extensions_mut().insert(matched.clone());
        }
        response.headers_mut().insert("x-service", http::HeaderValue::from_static(self.0));
        ready(Ok(response))
    }
}

fn router() -> RouterBuilder<Named, AsTheyAre> {
    Router::builder()
}

async fn answer(router: &Router<Named>, request: http::request::Builder) -> Response<Full<Bytes>> {
    let Ok(response) = router.clone().oneshot(request.body(()).unwrap()).await;
    response
}

/// The service that answers, or the status of the router's own answer.
async fn who(router: &Router<Named>, request: http::request::Builder) -> String {
    of(&answer(router, request).await)
}

fn of(response: &Response<Full<Bytes>>) -> String {
    let service = response.headers().get("x-service");
    service.map_or_else(|| response.status().as_u16().to_string(), |name| name.to_str().unwrap().to_owned())
}
