//! An HTTP/2 client that reads the socket and leaves the window of a stream closed: see `socket.rs`.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Poll;

use buttress_core::Sleep;
use hyper::rt::Executor;

use super::options::Options;
use super::shared::Shared;

/// Spawns the streams of a connection, and drops one whose client takes nothing for too long.
#[derive(Clone)]
pub(super) struct Streams(pub(super) Arc<Options>);

impl<F> Executor<F> for Streams
where
    F: Future<Output: Send> + Send + 'static,
{
    fn execute(&self, stream: F) {
        tokio::spawn(attend(Arc::clone(&self.0), stream));
    }
}

tokio::task_local! {
    /// The stream that the present task answers.
    static STREAM: Arc<Offer>;
}

/// The number of the piece of the body that hyper has got and not let the client have yet; 0 where there is none.
#[derive(Default)]
struct Offer(AtomicU64);

async fn attend(options: Arc<Options>, stream: impl Future) {
    let offer = Arc::new(Offer::default());
    let mut stream = pin!(STREAM.scope(Arc::clone(&offer), stream));
    let mut alarm = pin!(None::<Sleep>);
    let mut alarm_for = 0;
    poll_fn(|cx| {
        if stream.as_mut().poll(cx).is_ready() {
            return Poll::Ready(());
        }
        let piece = offer.0.load(Ordering::Relaxed);
        if piece != alarm_for {
            alarm_for = piece;
            alarm.set((piece > 0).then(|| options.clock.sleep(options.send_timeout)));
        }
        alarm.as_mut().as_pin_mut().map_or(Poll::Pending, |alarm| alarm.poll(cx))
    })
    .await;
}

/// Tells the task of a stream whether hyper waits for the client or for the body. HTTP/1 has no such task.
pub(super) struct Told {
    stream: Option<Arc<Offer>>,
    pieces: u64,
}

impl Told {
    pub(super) fn of(shared: &Shared) -> Self {
        let stream = if shared.is_http2 { STREAM.try_with(Arc::clone).ok() } else { None };
        Self { stream, pieces: 0 }
    }

    pub(super) fn tell(&mut self, offered: bool) {
        let Some(stream) = &self.stream else { return };
        if offered {
            self.pieces += 1;
        }
        stream.0.store(if offered { self.pieces } else { 0 }, Ordering::Relaxed);
    }
}
