//! What tower-http puts around the layers of a route that asks for it. Only such a route pays: it is boxed, the others are not.

use std::convert::Infallible;

use buttress::{Problem, reject::Form};
use http::{HeaderName, Request, Response, StatusCode};
use tower::{
    ServiceBuilder, ServiceExt,
    util::{BoxCloneSyncService, Either, MapRequestLayer, MapResponse, MapResponseLayer},
};
use tower_http::{
    compression::CompressionLayer,
    limit::RequestBodyLimitLayer,
    request_id::{MakeRequestUuid, PropagateRequestIdLayer, SetRequestIdLayer},
    trace::{DefaultMakeSpan, DefaultOnFailure, DefaultOnRequest, DefaultOnResponse, TraceLayer},
};
use tracing::Level;

use crate::{config::Route, inbound::Inbound, outbound::Outbound, stack::Stack};

type Boxed<B> = BoxCloneSyncService<Request<Inbound>, Response<Outbound<B>>, Infallible>;
type Plain<S> = MapResponse<S, fn(Response<<S as Stack>::Body>) -> Response<Outbound<<S as Stack>::Body>>>;

/// Said of an answer that came from below a limit of the body.
#[derive(Clone, Copy)]
struct FromBelow;

/// `stack` with what `route` asks for around it, outermost first: trace, request id, CORS, compression, limit of the body.
pub(crate) fn around<S: Stack>(route: &Route, stack: S) -> Either<Plain<S>, Boxed<S::Body>> {
    let plain: Plain<S> =
        MapResponse::new(stack, (|response: Response<S::Body>| response.map(Outbound::AsItCame)) as _);
    if !route.has_extras() {
        return Either::Left(plain);
    }
    let mut service = BoxCloneSyncService::new(plain);
    if let Some(bytes) = route.max_body() {
        let form = |request: &Request<_>| Form::of(request);
        let limited = ServiceBuilder::new()
            .layer(RequestBodyLimitLayer::new(bytes))
            .layer(MapRequestLayer::new(|request: Request<_>| request.map(Inbound::boxed)))
            .layer(MapResponseLayer::new(|mut response: Response<Outbound<S::Body>>| {
                response.extensions_mut().insert(FromBelow);
                response
            }))
            .service(service);
        // What the limit answers itself is text; here refusals are problems.
        service = BoxCloneSyncService::new(tower::service_fn(move |request: Request<Inbound>| {
            let (form, limited) = (form(&request), limited.clone());
            async move {
                let mut response = limited.oneshot(request).await?;
                if response.extensions_mut().remove::<FromBelow>().is_some() {
                    return Ok(response.map(Outbound::boxed));
                }
                let detail = format!("the body is longer than {bytes} bytes, the most that is taken here");
                Ok(Problem::new(StatusCode::PAYLOAD_TOO_LARGE).with_detail(detail).reply(form))
            }
        }));
    }
    if route.compression() {
        let layer = CompressionLayer::new().gzip(true);
        let compressed = ServiceBuilder::new().layer(layer).service(service);
        service = BoxCloneSyncService::new(compressed.map_response(|response| response.map(Outbound::boxed)));
    }
    if let Some(cors) = route.cors() {
        service = BoxCloneSyncService::new(ServiceBuilder::new().layer(cors.layer()).service(service));
    }
    if let Some(name) = route.request_id() {
        service = BoxCloneSyncService::new(identified(name.clone(), service));
    }
    if route.trace() {
        let layer = TraceLayer::new_for_http()
            .make_span_with(DefaultMakeSpan::new().level(Level::INFO))
            .on_request(DefaultOnRequest::new().level(Level::DEBUG))
            .on_response(DefaultOnResponse::new().level(Level::INFO))
            .on_failure(DefaultOnFailure::new().level(Level::WARN));
        let traced = ServiceBuilder::new().layer(layer).service(service);
        service = BoxCloneSyncService::new(traced.map_response(|response| response.map(Outbound::boxed)));
    }
    Either::Right(service)
}

/// A request without an id gets one, and the answer has it too.
fn identified<B: Send + 'static>(
    name: HeaderName,
    service: Boxed<B>,
) -> impl tower::Service<
    Request<Inbound>,
    Response = Response<Outbound<B>>,
    Error = Infallible,
    Future: Send + 'static,
> + Clone
+ Send
+ Sync
+ 'static {
    ServiceBuilder::new()
        .layer(SetRequestIdLayer::new(name.clone(), MakeRequestUuid))
        .layer(PropagateRequestIdLayer::new(name))
        .service(service)
}

/// Writes what traces tell to standard error, from now on.
pub(crate) fn start_tracing() {
    // A second call changes nothing.
    let _ = tracing_subscriber::fmt().with_writer(std::io::stderr).with_ansi(false).try_init();
}
