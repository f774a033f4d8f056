//! A guard that lives with a tunnel instead of a body.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use buttress_core::{End, Guard};
use http::Extensions;

/// Holds the guards of a call that became a tunnel, until the tunnel ends.
///
/// After a 101, or a 2xx to CONNECT, the response has no body to wait for, while the connection it opened lives on.
/// [`AtEnd`](super::AtEnd) puts the guard in here and this into the response's extensions. All guards of a stack meet in
/// one value, and are told [`End::Complete`] when its last clone is dropped.
///
/// Whoever takes the upgraded connection keeps a clone for as long as it lives:
///
/// ```
/// # use buttress_http::body::UntilUpgradeEnds;
/// # fn run_the_tunnel() {}
/// # let mut response = http::Response::new(());
/// // Above the layers: take what they left.
/// let held = response.extensions().get::<UntilUpgradeEnds>().cloned();
/// // Below them (a proxy, say): leave one for them to find.
/// let held = UntilUpgradeEnds::new();
/// response.extensions_mut().insert(held.clone());
///
/// run_the_tunnel();
/// drop(held);
/// ```
///
/// If no one does, the guards end with the response: as soon as the server has written its head.
#[derive(Clone, Default)]
pub struct UntilUpgradeEnds(Arc<Held>);

#[derive(Default)]
struct Held(Mutex<Vec<Box<dyn Guard + Send>>>);

impl UntilUpgradeEnds {
    /// Holds nothing yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a guard, which is told when the last clone is dropped.
    pub fn hold(&self, guard: impl Guard + Send + 'static) {
        let guard = Box::new(guard);
        self.0.0.lock().unwrap_or_else(PoisonError::into_inner).push(guard);
    }

    /// Adds a guard to the one value in these extensions, and puts it there if there is none.
    pub(super) fn hold_in(extensions: &mut Extensions, guard: impl Guard + Send + 'static) {
        extensions.get_or_insert_default::<Self>().hold(guard);
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let guards = self.0.get_mut().unwrap_or_else(PoisonError::into_inner);
        for mut guard in guards.drain(..) {
            guard.end(&End::Complete { trailers: None });
        }
    }
}

impl fmt::Debug for UntilUpgradeEnds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UntilUpgradeEnds").finish_non_exhaustive()
    }
}
