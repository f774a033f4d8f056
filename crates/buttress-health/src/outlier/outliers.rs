use std::fmt;
use std::future::poll_fn;
use std::pin::pin;
use std::sync::{Arc, Weak};
use std::task::Poll;

use buttress_core::Endpoint;

use super::core::Core;
use super::{OutlierHandle, OutlierLayer};

/// Watches the calls to a list of endpoints and ejects those that fail. Made by
/// [`OutlierDetection::follow`](crate::OutlierDetection::follow).
///
/// It holds the state; a clone shares it. When the last clone, layer, service and handle is gone, all of its ejections
/// end.
///
/// # What drives it
///
/// A row of failures ejects in the call that fills it. What time brings (the end of an ejection, the interval's rates)
/// is done by whoever comes first:
///
/// - the future of [`run`](Self::run), spawned once: then ejections end on time without any call, and calls read no clock;
/// - else the calls themselves, each of which looks at the clock when it ends. Where no call comes at all, nothing is
///   done until one does: then it no longer matters, except that who asks an endpoint itself sees it ejected for longer.
#[derive(Clone)]
pub struct Outliers {
    core: Arc<Core>,
}

impl Outliers {
    pub(crate) const fn new(core: Arc<Core>) -> Self {
        Self { core }
    }

    /// The layer that judges the calls of `endpoint`, for its service. Endpoints are told apart by their names.
    ///
    /// One that is not in the list is judged and never ejected, until it is.
    #[must_use]
    pub fn layer(&self, endpoint: &Endpoint) -> OutlierLayer {
        OutlierLayer::new(Arc::clone(&self.core), self.core.host(endpoint))
    }

    /// Reads and steers the state.
    #[must_use]
    pub fn handle(&self) -> OutlierHandle {
        OutlierHandle::new(Arc::clone(&self.core))
    }

    /// Does what time brings, for as long as there is anything to watch: spawn it once. It holds no state itself, and ends
    /// when all clones, layers, services and handles are gone.
    ///
    /// It also wakes when the condition of an endpoint changes, so that a health check which passes ends an ejection at
    /// once.
    ///
    /// # Cancel safety
    ///
    /// When it is dropped, calls do its work again.
    pub fn run(&self) -> impl Future<Output = ()> + Send + 'static {
        let (core, clock) = (Arc::downgrade(&self.core), self.core.clock.clone());
        async move {
            let Some(_driving) = Driving::begin(core.clone()) else { return };
            loop {
                // Before the look, so that no change goes by between the two.
                let mut changed = pin!(Endpoint::changed());
                let Some(next) = core.upgrade().map(|core| core.drive()) else { return };
                let mut sleep = pin!(clock.sleep_until(next));
                poll_fn(|cx| {
                    let woken = changed.as_mut().poll(cx).is_ready() || sleep.as_mut().poll(cx).is_ready();
                    if woken { Poll::Ready(()) } else { Poll::Pending }
                })
                .await;
            }
        }
    }
}

/// While it lives, calls leave the clock alone.
struct Driving(Weak<Core>);

impl Driving {
    fn begin(core: Weak<Core>) -> Option<Self> {
        core.upgrade()?.begin_driving();
        Some(Self(core))
    }
}

impl Drop for Driving {
    fn drop(&mut self) {
        if let Some(core) = self.0.upgrade() {
            core.end_driving();
        }
    }
}

impl fmt::Debug for Outliers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Outliers").field("name", &self.core.name).finish_non_exhaustive()
    }
}
