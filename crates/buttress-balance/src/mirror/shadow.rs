use std::future::poll_fn;
use std::mem;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;

use http::{Request, Response};
use http_body::Body;
use tokio::runtime::Handle;
use tower_service::Service;

use super::body::MirroredBody;
use super::event::MirrorEnd;
use super::state::{Place, State};

/// Carries copies to a mirror of whatever type.
pub(crate) trait Launch: Send + Sync {
    /// Sends one on its way.
    fn launch(&self, runtime: &Handle, request: Request<MirroredBody>, place: Place);
}

/// A mirror that each copy gets a clone of.
pub(super) struct Shadow<M>(pub(super) Arc<M>);

impl<M, R> Launch for Shadow<M>
where
    M: Service<Request<MirroredBody>, Response = Response<R>, Future: Send> + Clone + Send + Sync + 'static,
    M::Error: Send,
    R: Body + Send + 'static,
{
    fn launch(&self, runtime: &Handle, request: Request<MirroredBody>, place: Place) {
        let mirror = Arc::clone(&self.0);
        runtime.spawn(async move {
            let end = within_time(place.state(), exchange(&*mirror, request)).await;
            let state = place.state().clone();
            drop(place);
            state.ended(end);
        });
    }
}

/// The whole call, from the clone to the last frame of the answer.
async fn exchange<M, R>(mirror: &M, request: Request<MirroredBody>) -> MirrorEnd
where
    M: Service<Request<MirroredBody>, Response = Response<R>> + Clone,
    R: Body,
{
    let mut mirror = mirror.clone();
    if poll_fn(|cx| mirror.poll_ready(cx)).await.is_err() {
        return MirrorEnd::Failed;
    }
    let Ok(response) = mirror.call(request).await else { return MirrorEnd::Failed };
    let (head, body) = response.into_parts();
    let mut body = pin!(body);
    while !body.is_end_stream() {
        // A body that always has more must not keep the thread, nor its own time from being looked at.
        tokio::task::coop::consume_budget().await;
        match poll_fn(|cx| body.as_mut().poll_frame(cx)).await {
            Some(Ok(_)) => {}
            Some(Err(_)) => return MirrorEnd::Failed,
            None => break,
        }
    }
    MirrorEnd::Answered(head.status)
}

/// What `call` comes to, unless its time is over before.
async fn within_time(state: &Arc<State>, call: impl Future<Output = MirrorEnd>) -> MirrorEnd {
    let mut call = pin!(call);
    let mut over = pin!(state.rules.clock.sleep(state.rules.timeout));
    poll_fn(|cx| {
        let armed = Armed(state);
        let polled = call.as_mut().poll(cx);
        let polled = match polled {
            Poll::Pending => over.as_mut().poll(cx).map(|()| MirrorEnd::TimedOut),
            ended => ended,
        };
        armed.disarm();
        polled
    })
    .await
}

/// Counts a panic in our own poll; the runtime catches it.
struct Armed<'a>(&'a State);

impl Armed<'_> {
    fn disarm(self) {
        mem::forget(self);
    }
}

impl Drop for Armed<'_> {
    fn drop(&mut self) {
        self.0.ended(MirrorEnd::Panicked);
    }
}
