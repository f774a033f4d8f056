//! How many clients may be in the midst of a handshake.
//!
//! ```text
//! waits for a place ──there is one──▶ in flight ──done──▶ served
//!                                         │
//!                                         └── older than a second while somebody waits ──▶ closed
//! ```
//!
//! So clients that begin handshakes and never end them hold a place for a second each when places are short, and for the
//! whole timeout when they are not. One that is served in order, first come first, gets its place.

use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use buttress_core::{BoxError, Clock};
use tokio::sync::{Notify, Semaphore, SemaphorePermit};

use crate::server::race::race;

/// How long a handshake may take while others wait for its place: several round trips around the world.
const PATIENCE: Duration = Duration::from_secs(1);

pub(in crate::server) struct Handshakes {
    places: Semaphore,
    waiting: AtomicUsize,
    /// Somebody has begun to wait.
    crowded: Notify,
}

impl Handshakes {
    pub(in crate::server) fn new(max: usize) -> Self {
        let places = Semaphore::new(max.min(Semaphore::MAX_PERMITS));
        Self { places, waiting: AtomicUsize::new(0), crowded: Notify::new() }
    }

    /// Runs `handshake` when there is a place, and no longer than `timeout`, the wait for the place included.
    pub(in crate::server) async fn run<T>(
        &self,
        clock: &Clock,
        timeout: Duration,
        handshake: impl Future<Output = io::Result<T>>,
    ) -> Result<T, BoxError> {
        let placed = async {
            let _place = self.place().await;
            match race(handshake, self.overstayed(clock)).await {
                Ok(done) => done.map_err(Into::into),
                Err(()) => Err("the handshake took longer than a second while others waited".into()),
            }
        };
        match race(placed, clock.sleep(timeout)).await {
            Ok(done) => done,
            Err(()) => Err("the handshake took too long".into()),
        }
    }

    /// Whoever has waited longest is next.
    async fn place(&self) -> Option<SemaphorePermit<'_>> {
        struct Waiting<'a>(&'a AtomicUsize);
        impl Drop for Waiting<'_> {
            fn drop(&mut self) {
                self.0.fetch_sub(1, Ordering::Relaxed);
            }
        }

        if let Ok(place) = self.places.try_acquire() {
            return Some(place);
        }
        self.waiting.fetch_add(1, Ordering::Relaxed);
        let _waiting = Waiting(&self.waiting);
        self.crowded.notify_one();
        // Never closed.
        self.places.acquire().await.ok()
    }

    /// Completes when the patience with this handshake is over and its place is needed.
    async fn overstayed(&self, clock: &Clock) {
        clock.sleep(PATIENCE).await;
        while self.waiting.load(Ordering::Relaxed) == 0 {
            self.crowded.notified().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::sync::Arc;

    use buttress_core::ManualClock;
    use tokio::task::{JoinHandle, yield_now};

    use super::*;

    const TIMEOUT: Duration = Duration::from_secs(10);

    fn stuck(handshakes: &Arc<Handshakes>, time: &ManualClock) -> JoinHandle<Result<Infallible, String>> {
        let (handshakes, clock) = (Arc::clone(handshakes), time.clock());
        tokio::spawn(async move {
            let ended = handshakes.run(&clock, TIMEOUT, std::future::pending()).await;
            ended.map_err(|error| error.to_string())
        })
    }

    async fn settle() {
        for _ in 0..50 {
            yield_now().await;
        }
    }

    #[tokio::test]
    async fn while_nobody_waits_a_handshake_has_the_whole_timeout() {
        let time = ManualClock::new();
        let handshakes = Arc::new(Handshakes::new(2));
        let stuck = stuck(&handshakes, &time);

        settle().await;
        time.advance(TIMEOUT - Duration::from_millis(1));
        settle().await;
        assert!(!stuck.is_finished());
        time.advance(Duration::from_millis(1));

        assert_eq!(stuck.await.unwrap(), Err("the handshake took too long".to_owned()));
    }

    #[tokio::test]
    async fn while_somebody_waits_it_has_a_second() {
        let time = ManualClock::new();
        let handshakes = Arc::new(Handshakes::new(2));
        let old = stuck(&handshakes, &time);
        settle().await;
        time.advance(Duration::from_secs(3));
        let young = stuck(&handshakes, &time);
        settle().await;

        // The old one makes way, and the young one stays.
        let clock = time.clock();
        let served = handshakes.run(&clock, TIMEOUT, async { Ok(7) });
        assert_eq!(served.await.unwrap(), 7);
        assert!(old.await.unwrap().unwrap_err().contains("while others waited"));
        assert!(!young.is_finished());
    }

    #[tokio::test]
    async fn who_stops_waiting_is_not_counted_as_waiting() {
        let time = ManualClock::new();
        let handshakes = Arc::new(Handshakes::new(1));
        let _first = stuck(&handshakes, &time);
        settle().await;
        let waits = stuck(&handshakes, &time);
        settle().await;

        time.advance(Duration::from_millis(999));
        settle().await;
        assert_eq!(handshakes.waiting.load(Ordering::Relaxed), 1);
        waits.abort();
        let _ = waits.await;
        assert_eq!(handshakes.waiting.load(Ordering::Relaxed), 0);
    }
}
