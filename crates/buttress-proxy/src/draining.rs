use std::fmt;

use tokio::sync::watch;

/// Tells those who hold long exchanges that the server they came in by is going to end.
///
/// The server has one and puts a [`Draining`] of it into each request's extensions.
pub struct Drain(watch::Sender<bool>);

impl Drain {
    /// A drain that has not begun.
    #[must_use]
    pub fn new() -> Self {
        Self(watch::Sender::new(false))
    }

    /// Begins it. Once it has begun this does nothing.
    pub fn begin(&self) {
        self.0.send_if_modified(|begun| !std::mem::replace(begun, true));
    }

    /// What follows it.
    #[must_use]
    pub fn draining(&self) -> Draining {
        Draining(self.0.subscribe())
    }
}

impl Default for Drain {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Drain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Drain").field("begun", &*self.0.borrow()).finish()
    }
}

/// An extension of requests: whether the server that the request came in by is draining.
///
/// Requests end by themselves; what lasts (a tunnel, a stream of events) looks here, so that it ends in order and not
/// when it is cut off. Where the [`Drain`] itself is gone, the drain has begun.
///
/// ```
/// use buttress_proxy::Drain;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// let drain = Drain::new();
/// let mut draining = drain.draining();
/// assert!(!draining.has_begun());
///
/// drain.begin();
/// draining.begun().await;
/// # }
/// ```
#[derive(Clone)]
pub struct Draining(watch::Receiver<bool>);

impl Draining {
    /// Whether it has begun.
    #[must_use]
    pub fn has_begun(&self) -> bool {
        *self.0.borrow() || self.0.has_changed().is_err()
    }

    /// Completes when it begins, or has begun.
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost when the future is dropped: ask again.
    pub async fn begun(&mut self) {
        // An error says that nobody is left who could begin it.
        let _ = self.0.wait_for(|begun| *begun).await;
    }
}

impl fmt::Debug for Draining {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Draining").field("begun", &self.has_begun()).finish()
    }
}
