use std::collections::{HashMap, HashSet};
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use tokio::sync::Notify;

use crate::endpoint::announce;
use crate::{Endpoint, EndpointId, Name, Timestamp};

/// The endpoints of one service, which come and go: discovery replaces the list, balancers and health checks follow it.
///
/// A clone is the same list. The list is always replaced as a whole, so that nobody sees half of a change; an endpoint
/// that stays keeps its condition.
///
/// ```
/// use buttress_core::{Endpoint, Endpoints, Timestamp};
///
/// # fn main() -> Result<(), buttress_core::EndpointsError> {
/// let endpoints = Endpoints::new(["10.0.0.1:80", "10.0.0.2:80"].map(Endpoint::new))?;
/// let now = Timestamp::ZERO;
/// endpoints.replace([Endpoint::new("10.0.0.2:80"), Endpoint::new("10.0.0.3:80")], now)?;
/// assert_eq!(endpoints.list().len(), 2);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Endpoints(Arc<Shared>);

struct Shared {
    state: Mutex<State>,
    changed: Notify,
}

struct State {
    list: Arc<[Endpoint]>,
    version: u64,
    followers: Vec<Weak<Follower>>,
}

type Follower = dyn Fn(u64, &Arc<[Endpoint]>) + Send + Sync;

impl Endpoints {
    /// These endpoints; none is a list too, which waits for its first.
    ///
    /// # Errors
    ///
    /// When two have one name.
    pub fn new(list: impl IntoIterator<Item = Endpoint>) -> Result<Self, EndpointsError> {
        let list: Arc<[Endpoint]> = list.into_iter().collect();
        check(&list)?;
        let state = State { list, version: 0, followers: Vec::new() };
        Ok(Self(Arc::new(Shared { state: Mutex::new(state), changed: Notify::new() })))
    }

    /// The endpoints as they are now.
    #[must_use]
    pub fn list(&self) -> Arc<[Endpoint]> {
        Arc::clone(&self.0.lock().list)
    }

    /// The endpoints as they are now, and the number of the list: each one has a higher number than those before it.
    #[must_use]
    pub fn numbered(&self) -> (u64, Arc<[Endpoint]>) {
        let state = self.0.lock();
        (state.version, Arc::clone(&state.list))
    }

    /// The endpoint of this name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<Endpoint> {
        self.list().iter().find(|endpoint| endpoint.name().as_str() == name).cloned()
    }

    /// Puts `list` in the place of all endpoints. Those whose names were there keep their condition; others begin with a
    /// slow start at `now`, unless the list was empty.
    ///
    /// Followers have seen the new list when this returns. A list that says the same as the present one, in whatever order,
    /// changes nothing.
    ///
    /// # Errors
    ///
    /// When two have one name. Nothing is changed then.
    pub fn replace(
        &self,
        list: impl IntoIterator<Item = Endpoint>,
        now: Timestamp,
    ) -> Result<(), EndpointsError> {
        let list: Vec<Endpoint> = list.into_iter().collect();
        check(&list)?;
        self.change(now, |_| list);
        Ok(())
    }

    /// Adds an endpoint, or puts it in the place of the one of its name.
    pub fn insert(&self, endpoint: Endpoint, now: Timestamp) {
        self.change(now, |present| {
            let mut list: Vec<Endpoint> =
                present.iter().filter(|other| other.id() != endpoint.id()).cloned().collect();
            list.push(endpoint);
            list
        });
    }

    /// Removes the endpoint of this name. Returns it, if there was one.
    #[expect(clippy::must_use_candidate, reason = "most who remove one know that it is there")]
    pub fn remove(&self, name: &str, now: Timestamp) -> Option<Endpoint> {
        let mut removed = None;
        self.change(now, |present| {
            let (gone, rest): (Vec<Endpoint>, _) =
                present.iter().cloned().partition(|endpoint| endpoint.name().as_str() == name);
            removed = gone.into_iter().next();
            rest
        });
        removed
    }

    fn change(&self, now: Timestamp, next: impl FnOnce(&[Endpoint]) -> Vec<Endpoint>) {
        let (version, list, followers) = {
            let mut state = self.0.lock();
            let present: HashMap<EndpointId, &Endpoint> =
                state.list.iter().map(|endpoint| (endpoint.id(), endpoint)).collect();
            let next = next(&state.list);
            let stays = |endpoint: &Endpoint| {
                present.get(&endpoint.id()).is_some_and(|same| same.is_configured_as(endpoint))
            };
            if next.len() == present.len() && next.iter().all(stays) {
                return;
            }
            let list: Arc<[Endpoint]> = next
                .into_iter()
                .map(|endpoint| match present.get(&endpoint.id()) {
                    Some(&same) if same.is_configured_as(&endpoint) => same.clone(),
                    Some(&other) => endpoint.in_place_of(other),
                    None => {
                        if !present.is_empty() {
                            endpoint.begin_at(now);
                        }
                        endpoint
                    }
                })
                .collect();
            state.version += 1;
            state.list = Arc::clone(&list);
            state.followers.retain(|follower| follower.strong_count() > 0);
            (state.version, list, state.followers.clone())
        };
        let mut panicked = None;
        for follower in followers.iter().filter_map(Weak::upgrade) {
            // One that panics does not keep the list from the others.
            let told = catch_unwind(AssertUnwindSafe(|| follower(version, &list)));
            panicked = panicked.or_else(|| told.err());
        }
        self.0.changed.notify_waiters();
        announce();
        if let Some(panic) = panicked {
            resume_unwind(panic);
        }
    }

    /// Calls `follower` with each new list and its number, as long as the returned value lives, on the thread that
    /// replaces the list. Where two lists are made at one time the later may come first: its number tells.
    #[must_use = "it is no longer called once this is dropped"]
    pub fn follow(&self, follower: impl Fn(u64, &Arc<[Endpoint]>) + Send + Sync + 'static) -> Following {
        let follower: Arc<Follower> = Arc::new(follower);
        self.0.lock().followers.push(Arc::downgrade(&follower));
        Following { _follower: follower }
    }

    /// Waits until there is a list with a higher number than `seen`, and gives it.
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost when the future is dropped: ask again with the same number.
    pub async fn newer_than(&self, seen: u64) -> (u64, Arc<[Endpoint]>) {
        loop {
            // Before the look, so that no list goes by between the two.
            let changed = self.0.changed.notified();
            let present = self.numbered();
            if present.0 > seen {
                return present;
            }
            changed.await;
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn check(list: &[Endpoint]) -> Result<(), EndpointsError> {
    let mut seen = HashSet::with_capacity(list.len());
    match list.iter().find(|endpoint| !seen.insert(endpoint.id())) {
        Some(twice) => Err(EndpointsError::Duplicate { name: twice.name().clone() }),
        None => Ok(()),
    }
}

impl fmt::Debug for Endpoints {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.list().iter()).finish()
    }
}

/// Keeps a follower of [`Endpoints`] called, until it is dropped.
pub struct Following {
    _follower: Arc<Follower>,
}

impl fmt::Debug for Following {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Following").finish_non_exhaustive()
    }
}

/// Why a list of endpoints is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EndpointsError {
    /// Two endpoints of one name.
    #[error("two endpoints are called `{name}`: each needs a name of its own, weights make one of two")]
    Duplicate {
        /// The name.
        name: Name,
    },
}
