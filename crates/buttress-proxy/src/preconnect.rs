use std::future::poll_fn;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::task::Poll;
use std::time::Duration;

use buttress_core::{BoxError, Clock};
use tokio::sync::{Mutex, Notify};

use crate::Error;
use crate::connect::open_ahead;
use crate::pool::Pool;

/// How long to wait after the first connection that could not be opened; it doubles with each further one.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// The least time between two looks, for an upstream that closes each connection at once.
const PACE: Duration = Duration::from_millis(100);

/// Has connections opened before they are needed.
///
/// ```text
/// Filling ──as many as wanted──▶ Resting ──one was taken, or has ended──▶ Filling
/// Filling ──one cannot be opened──▶ Pausing ──1 s, 2 s, … 30 s──▶ Filling
/// ```
///
/// It is one task for each pool, begun by the first call, and it ends with the pool.
#[derive(Default)]
pub(crate) struct Keeper {
    begun: AtomicBool,
    look: Arc<Notify>,
    filling: Mutex<()>,
}

impl Keeper {
    /// Something has changed: there may be too few now.
    pub(crate) fn look(&self) {
        self.look.notify_one();
    }

    pub(crate) fn begin<B>(&self, pool: &Arc<Pool<B>>)
    where
        B: http_body::Body + Send + 'static,
        B::Data: Send,
        B::Error: Into<BoxError>,
    {
        if !self.begun.load(Ordering::Relaxed) && !self.begun.swap(true, Ordering::Relaxed) {
            let (clock, look) = (pool.options().clock.clone(), self.look.clone());
            let begun = Begun(Arc::downgrade(pool));
            tokio::spawn(async move { keep(&begun.0, look, clock).await });
        }
    }
}

/// The task is there. Where its runtime ends before the pool does, the next call begins another.
struct Begun<B>(Weak<Pool<B>>);

impl<B> Drop for Begun<B> {
    fn drop(&mut self) {
        if let Some(pool) = self.0.upgrade() {
            pool.keeper().begun.store(false, Ordering::Relaxed);
        }
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        // The task finds the pool gone.
        self.look.notify_one();
    }
}

/// Opens connections until there are as many at hand as wanted, each place once.
pub(crate) async fn fill<B>(pool: &Arc<Pool<B>>) -> Result<(), Error>
where
    B: http_body::Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<BoxError>,
{
    // Two who count at the same time would open twice as many.
    let _filling = pool.keeper().filling.lock().await;
    for _ in pool.at_hand()..pool.wanted_at_hand() {
        open_ahead(pool).await.map_err(|error| error.at(pool.address()))?;
    }
    Ok(())
}

async fn keep<B>(pool: &Weak<Pool<B>>, look: Arc<Notify>, clock: Clock)
where
    B: http_body::Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<BoxError>,
{
    let mut pause = FIRST_PAUSE;
    while let Some(there) = pool.upgrade() {
        let filled = fill(&there).await;
        drop(there);
        if filled.is_ok() {
            pause = FIRST_PAUSE;
            rest(pool, &look, &clock, PACE).await;
            look.notified().await;
        } else {
            rest(pool, &look, &clock, pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }
}

/// Waits for `pause`, or until the pool is gone. What there is to look at then is not forgotten.
async fn rest<B>(pool: &Weak<Pool<B>>, look: &Notify, clock: &Clock, pause: Duration) {
    let mut over = pin!(clock.sleep(pause));
    let mut told = false;
    loop {
        let mut notified = pin!(look.notified());
        let passed = poll_fn(|cx| {
            if over.as_mut().poll(cx).is_ready() {
                return Poll::Ready(true);
            }
            notified.as_mut().poll(cx).map(|()| false)
        });
        if passed.await || pool.strong_count() == 0 {
            break;
        }
        told = true;
    }
    if told {
        look.notify_one();
    }
}
