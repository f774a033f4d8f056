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
                // One that is too old when it comes back is closed there.
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
