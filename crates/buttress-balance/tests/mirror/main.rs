//! Copies of requests to a second service.
#![cfg(feature = "http")]

mod bounds;
mod cancel;
mod contract;
mod copy;
mod properties;
mod sample;
mod steered;
mod unchanged;
mod wire;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use buttress_balance::{MirrorLayer, MirroredBody, TeeBody};
use buttress_core::{BoxError, Clock};
use buttress_testkit::{ScriptedBody, advance, settle};
use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body_util::{BodyExt, Full};
use tower::util::BoxCloneSyncService;
use tower::{Service, ServiceExt, service_fn};
use tower_layer::Layer;

const SECOND: Duration = Duration::from_secs(1);

type Shadow = BoxCloneSyncService<Request<MirroredBody>, Response<ScriptedBody>, BoxError>;
type Main = BoxCloneSyncService<Request<TeeBody<ScriptedBody>>, Response<Full<Bytes>>, BoxError>;

/// What came to the mirror.
#[derive(Clone, Default)]
struct Seen(Arc<Mutex<Vec<Request<(Bytes, Option<HeaderMap>)>>>>);

impl Seen {
    fn all(&self) -> Vec<Request<(Bytes, Option<HeaderMap>)>> {
        self.0.lock().unwrap().clone()
    }

    fn count(&self) -> usize {
        self.all().len()
    }

    fn paths(&self) -> Vec<String> {
        self.all().iter().map(|request| request.uri().path().to_owned()).collect()
    }
}

/// A mirror that answers at once, and what came to it.
fn recorder() -> (Shadow, Seen) {
    let seen = Seen::default();
    let to = seen.clone();
    let shadow = service_fn(move |request: Request<MirroredBody>| {
        let to = to.clone();
        async move {
            let (head, body) = request.into_parts();
            let body = body.collect().await.unwrap();
            let trailers = body.trailers().cloned();
            to.0.lock().unwrap().push(Request::from_parts(head, (body.to_bytes(), trailers)));
            Ok::<_, BoxError>(Response::new(ScriptedBody::new().data("thank you")))
        }
    });
    (BoxCloneSyncService::new(shadow), seen)
}

/// A mirror that never answers.
fn hangs() -> Shadow {
    BoxCloneSyncService::new(service_fn(|_: Request<MirroredBody>| std::future::pending()))
}

/// A main service that answers with the body that it was sent.
fn echo() -> Main {
    BoxCloneSyncService::new(service_fn(|request: Request<TeeBody<ScriptedBody>>| async {
        let body = request.into_body().collect().await?;
        Ok::<_, BoxError>(Response::new(Full::from(body.to_bytes())))
    }))
}

fn mirror(to: Shadow) -> MirrorLayer {
    MirrorLayer::new(to).clock(Clock::tokio())
}

fn get(path: &str) -> Request<ScriptedBody> {
    Request::get(path).body(ScriptedBody::new()).unwrap()
}

fn post(body: ScriptedBody) -> Request<ScriptedBody> {
    Request::post("/orders").body(body).unwrap()
}

/// One call over this layer, and the body of its answer.
async fn send<S>(service: S, request: Request<ScriptedBody>) -> Result<Bytes, BoxError>
where
    S: Service<Request<ScriptedBody>, Response = Response<Full<Bytes>>, Error = BoxError>,
{
    let response = service.oneshot(request).await?;
    Ok(response.into_body().collect().await?.to_bytes())
}
