use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::SettingError;

/// The memory that all requests together may take to keep their bodies.
///
/// A clone is the same pool: give one to several layers, and they share it. A request that finds no room goes out once
/// and is not retried; it does not fail.
///
/// ```
/// use buttress_retry::{ReplayPool, RetryLayer};
///
/// let pool = ReplayPool::new(8 << 20);
/// let orders = RetryLayer::default().replay_pool(pool.clone());
/// let search = RetryLayer::default().replay_pool(pool.clone());
/// # let _ = (orders, search);
/// assert_eq!(pool.used(), 0);
/// ```
#[derive(Clone)]
pub struct ReplayPool(Arc<Pool>);

struct Pool {
    used: AtomicUsize,
    most: usize,
}

impl ReplayPool {
    /// Allows `most` bytes.
    ///
    /// # Panics
    ///
    /// When `most` is 0: to keep no bodies, say so by a limit of 0 for each.
    #[must_use]
    #[track_caller]
    pub fn new(most: usize) -> Self {
        if most == 0 {
            let rule = "must be at least 1; `.replay_limit(0)` keeps no bodies";
            panic!("{}", SettingError::new("replay pool", "most", most, rule));
        }
        Self(Arc::new(Pool { used: AtomicUsize::new(0), most }))
    }

    /// How many bytes are in use.
    #[must_use]
    pub fn used(&self) -> usize {
        self.0.used.load(Ordering::Relaxed)
    }

    /// How many bytes there are.
    #[must_use]
    pub fn most(&self) -> usize {
        self.0.most
    }

    #[cfg_attr(not(feature = "http"), expect(dead_code, reason = "only bodies take memory"))]
    pub(crate) fn take(&self, bytes: usize) -> bool {
        let taken = self.0.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |used| {
            used.checked_add(bytes).filter(|used| *used <= self.0.most)
        });
        taken.is_ok()
    }

    #[cfg_attr(not(feature = "http"), expect(dead_code, reason = "only bodies take memory"))]
    pub(crate) fn give_back(&self, bytes: usize) {
        self.0.used.fetch_sub(bytes, Ordering::Relaxed);
    }
}

impl Default for ReplayPool {
    /// 64 MiB: a thousand requests under way with the longest body that is kept.
    fn default() -> Self {
        Self::new(64 << 20)
    }
}

impl From<usize> for ReplayPool {
    #[track_caller]
    fn from(most: usize) -> Self {
        Self::new(most)
    }
}

impl fmt::Debug for ReplayPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReplayPool").field("used", &self.used()).field("most", &self.most()).finish()
    }
}
