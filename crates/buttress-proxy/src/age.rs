use std::convert::Infallible;
use std::sync::{Arc, Weak};
use std::time::Duration;

use buttress_core::Timestamp;

use crate::io::Link;
use crate::options::Options;
use crate::pool::Pool;

/// The shortest wait between two looks at a connection in use.
pub(crate) const PACE: Duration = Duration::from_millis(10);

/// Closes the connection of `link` once it has been idle for the idle timeout, or is idle and older than it may be.
///
/// A request neither wakes it nor moves its timer: it looks at most once in an idle timeout, and where the connection
/// has become idle in between, once more at the right moment.
pub(crate) fn watch_age<B>(
    pool: Weak<Pool<B>>,
    options: &Options,
    link: Arc<Link>,
    until: Timestamp,
) -> impl Future<Output = Infallible> + use<B> {
    let clock = options.clock.clone();
    let timeout = options.idle_timeout;
    async move {
        loop {
            let now = clock.now();
            let due = match link.idle_since() {
                Some(since) => until.min(since + timeout),
                // One that is too old when it comes back is closed there: a tunnel may last for days.
                None if until <= now => now + timeout.max(PACE),
                None => until.min(now + timeout).max(now + PACE),
            };
            if now < due {
                clock.sleep_until(due).await;
                continue;
            }
            // The pool decides under its lock: a connection that is being taken stays open.
            if let Some(pool) = pool.upgrade() {
                pool.close_old(now);
            }
            clock.sleep(timeout.max(PACE)).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::{Context, Wake, Waker};

    use buttress_core::ManualClock;

    use super::*;

    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn a_connection_in_use_is_looked_at_once_in_an_idle_timeout_however_old_it_is() {
        let time = ManualClock::new();
        let options = Options { clock: time.clock(), ..Options::default() };
        let until = options.clock.now() + Duration::from_secs(2);
        let count = Arc::new(Count(AtomicUsize::new(0)));
        let waker = Waker::from(count.clone());
        let mut cx = Context::from_waker(&waker);
        let mut watch = pin!(watch_age::<()>(Weak::new(), &options, Arc::default(), until));

        for _ in 0..6_000 {
            assert!(watch.as_mut().poll(&mut cx).is_pending());
            time.advance(Duration::from_millis(10));
        }

        let looks = count.0.load(Ordering::Relaxed);
        assert!((10..=20).contains(&looks), "{looks} looks in a minute");
    }
}
