use std::convert::Infallible;
use std::sync::{Arc, Weak};
use std::time::Duration;

use crate::io::Link;
use crate::options::Options;
use crate::pool::Pool;

/// The shortest wait between two looks at a connection in use.
const PACE: Duration = Duration::from_millis(10);

/// Closes the connection of `link` once it has been idle for the idle timeout.
///
/// A request neither wakes it nor moves its timer: it looks at most once in an idle timeout, and where the connection
/// has become idle in between, once more at the right moment.
pub(crate) fn watch_age<B>(
    pool: Weak<Pool<B>>,
    options: &Options,
    link: Arc<Link>,
) -> impl Future<Output = Infallible> + use<B> {
    let clock = options.clock.clone();
    let timeout = options.idle_timeout;
    async move {
        loop {
            let now = clock.now();
            let due = match link.idle_since() {
                Some(since) => since + timeout,
                None => now + timeout.max(PACE),
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
