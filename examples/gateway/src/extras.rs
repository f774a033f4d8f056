//! What tower-http puts around the layers of a route that asks for it. Only such a route pays.

use std::convert::Infallible;

use buttress::{Problem, reject::Form};
use http::{Request, Response, StatusCode};
use tower::{
    ServiceBuilder, ServiceExt,
    util::{MapRequestLayer, MapResponseLayer},
};
use tower_http::{
    compression::CompressionLayer,
    limit::RequestBodyLimitLayer,
    request_id::{MakeRequestUuid, PropagateRequestIdLayer, SetRequestIdLayer},
    trace::{DefaultMakeSpan, DefaultOnFailure, DefaultOnRequest, DefaultOnResponse, TraceLayer},
};
use tracing::Level;

use crate::{
    config::Route,
    erased::{Answer, Erased},
    inbound::Inbound,
};

type Routed = Erased<Inbound, Infallible>;

/// Said of an answer that came from below a limit of the body.
#[derive(Clone, Copy)]
struct FromBelow;

fn from_below(mut response: Response<Answer>) -> Response<Answer> {
    response.extensions_mut().insert(FromBelow);
    response
}

/// `service` with what `route` asks for around it, outermost first: trace, request id, CORS, compression, limit of the body.
pub(crate) fn around(route: &Route, mut service: Routed) -> Routed {
    if let Some(bytes) = route.max_body() {
        let form = |request: &Request<_>| Form::of(request);
        let limited = ServiceBuilder::new()
            .layer(RequestBodyLimitLayer::new(bytes))
            .layer(MapRequestLayer::new(|request: Request<_>| request.map(Inbound::boxed)))
            .layer(MapResponseLayer::new(from_below))
            .service(service);
        let limited = Erased::new(limited);
        // What the limit answers itself is text; here refusals are problems.
        service = Erased::again(tower::service_fn(move |request: Request<Inbound>| {
            let (form, limited) = (form(&request), limited.clone());
            async move {
                let mut response = limited.oneshot(request).await?;
                if response.extensions_mut().remove::<FromBelow>().is_some() {
                    return Ok(response);
                }
                let detail = format!("the body is longer than {bytes} bytes, the most that is taken here");
                Ok(Problem::new(StatusCode::PAYLOAD_TOO_LARGE).with_detail(detail).reply(form))
            }
        }));
    }
    if route.compression() {
        let layer = CompressionLayer::new().gzip(true);
        service = Erased::new(ServiceBuilder::new().layer(layer).service(service));
    }
    if let Some(cors) = route.cors() {
        service = Erased::again(ServiceBuilder::new().layer(cors.layer()).service(service));
    }
    if let Some(name) = route.request_id() {
        // A request without an id gets one, and the answer has it too.
        let id = SetRequestIdLayer::new(name.clone(), MakeRequestUuid);
        let identified = ServiceBuilder::new().layer(id).layer(PropagateRequestIdLayer::new(name.clone()));
        service = Erased::again(identified.service(service));
    }
    if route.trace() {
        let layer = TraceLayer::new_for_http()
            .make_span_with(DefaultMakeSpan::new().level(Level::INFO))
            .on_request(DefaultOnRequest::new().level(Level::DEBUG))
            .on_response(DefaultOnResponse::new().level(Level::INFO))
            .on_failure(DefaultOnFailure::new().level(Level::WARN));
        service = Erased::new(ServiceBuilder::new().layer(layer).service(service));
    }
    service
}

/// Writes what traces tell to standard error, from now on.
pub(crate) fn start_tracing() {
    // A second call changes nothing.
    let _ = tracing_subscriber::fmt().with_writer(std::io::stderr).with_ansi(false).try_init();
}
