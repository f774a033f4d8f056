use buttress_core::{Clock, Endpoint, Endpoints, EndpointsError, Name};
use tokio::sync::watch;

use super::DiscoverEvent;
use super::feed::Feed;

/// Endpoints that come through a [`watch`] channel: each value is the whole list.
///
/// It begins with what the channel has. An empty list is taken for what its sender says, unlike that of a file or a name server, which
/// may be a mistake.
///
/// ```
/// use buttress_balance::discover::Watched;
/// use buttress_core::Endpoint;
/// use tokio::sync::watch;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), buttress_core::EndpointsError> {
/// let (send, receive) = watch::channel(vec![Endpoint::new("10.0.0.1:80")]);
/// let source = Watched::new(receive)?;
/// let endpoints = source.endpoints();
/// assert_eq!(endpoints.list().len(), 1);
///
/// let (version, _) = endpoints.numbered();
/// let task = tokio::spawn(source.run());
/// send.send_replace(vec![Endpoint::new("10.0.0.1:80"), Endpoint::new("10.0.0.2:80")]);
/// assert_eq!(endpoints.newer_than(version).await.1.len(), 2);
/// # task.abort();
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
#[must_use = "it does nothing until it runs"]
pub struct Watched {
    feed: Feed,
    lists: watch::Receiver<Vec<Endpoint>>,
}

impl Watched {
    /// The endpoints that `lists` has now, and those that it is sent.
    ///
    /// # Errors
    ///
    /// When two of those that it has now have one name.
    pub fn new(mut lists: watch::Receiver<Vec<Endpoint>>) -> Result<Self, EndpointsError> {
        let endpoints = Endpoints::new(lists.borrow_and_update().clone())?;
        Ok(Self { feed: Feed::new(Name::from_static("watch"), endpoints), lists })
    }

    /// Calls it `name` in its events, and not `watch`.
    pub fn named(mut self, name: impl Into<Name>) -> Self {
        self.feed.source = name.into();
        self
    }

    /// Tells `observer` of each new list, and of each that is refused. There is none unless said otherwise.
    pub fn observe(mut self, observer: impl Fn(&DiscoverEvent<'_>) + Send + Sync + 'static) -> Self {
        self.feed.observe(observer);
        self
    }

    /// Reads the time from `clock` instead of [`Clock::default`].
    pub fn clock(mut self, clock: Clock) -> Self {
        self.feed.clock = clock;
        self
    }

    /// The endpoints that it keeps up to date while it [runs](Self::run).
    #[must_use]
    pub fn endpoints(&self) -> Endpoints {
        self.feed.endpoints.clone()
    }

    /// Follows the channel until its last sender is dropped.
    ///
    /// # Cancel safety
    ///
    /// When it is dropped the endpoints stay as they are.
    pub async fn run(mut self) {
        while self.lists.changed().await.is_ok() {
            let list = self.lists.borrow_and_update().clone();
            if let Err(error) = self.feed.put(list) {
                self.feed.failed(&error, None);
            }
        }
        self.feed.ended();
    }
}
