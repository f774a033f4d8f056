use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::{ArcSwap, Guard};
use buttress_core::{Endpoint, EndpointId, Endpoints, Following, Name};
use http::HeaderValue;

use super::attributes::Attributes;
use super::value::{Secret, Value};

/// The values of all endpoints, made anew with each list and looked up by each request.
pub(crate) struct Table {
    list: u64,
    by_value: HashMap<Value, Known>,
    by_id: HashMap<EndpointId, Set>,
    /// Those of former lists that clients may still be bound to, the last that left at the end.
    departed: Vec<Endpoint>,
}

/// How many endpoints that left are remembered, where sessions survive a drain: a whole set that is replaced at once.
const MOST_DEPARTED: usize = 1024;

/// An endpoint that a value stands for.
#[derive(Clone)]
pub(crate) struct Known {
    pub(crate) endpoint: Endpoint,
    /// Whether the first key has signed it.
    pub(crate) is_current: bool,
}

/// How a client is bound to an endpoint.
pub(crate) struct Set {
    pub(crate) endpoint: Endpoint,
    pub(crate) field: HeaderValue,
}

impl Table {
    pub(crate) fn find(&self, value: &Value) -> Option<&Known> {
        self.by_value.get(value)
    }

    pub(crate) fn set(&self, endpoint: EndpointId) -> Option<&Set> {
        self.by_id.get(&endpoint)
    }
}

/// What a table is made with.
#[derive(Clone)]
pub(crate) struct Signing {
    pub(crate) secret: Secret,
    pub(crate) former: Option<Secret>,
    pub(crate) pool: Name,
    pub(crate) attributes: Attributes,
    /// Whether what was signed for an endpoint holds when it has left the list: a balancer drains it then.
    pub(crate) survive_drain: bool,
}

impl Signing {
    /// The table of a list, after `before`.
    fn table(&self, list: u64, endpoints: &[Endpoint], before: Option<&Table>) -> Table {
        let mut by_id = HashMap::with_capacity(endpoints.len());
        for endpoint in endpoints {
            let field = self.attributes.set_cookie(&self.value(&self.secret, endpoint));
            by_id.insert(endpoint.id(), Set { endpoint: endpoint.clone(), field });
        }
        let mut departed = Vec::new();
        if let Some(before) = before.filter(|_| self.survive_drain) {
            let listed = before.by_id.values().map(|set| &set.endpoint);
            let all = before.departed.iter().chain(listed);
            departed.extend(all.filter(|endpoint| !by_id.contains_key(&endpoint.id())).cloned());
            departed.drain(..departed.len().saturating_sub(MOST_DEPARTED));
        }
        let mut by_value = HashMap::with_capacity(2 * (endpoints.len() + departed.len()));
        for endpoint in departed.iter().chain(endpoints) {
            let known = |is_current| Known { endpoint: endpoint.clone(), is_current };
            // The former one first: where both keys are one, it is current.
            if let Some(former) = &self.former {
                by_value.insert(self.value(former, endpoint), known(false));
            }
            by_value.insert(self.value(&self.secret, endpoint), known(true));
        }
        Table { list, by_value, by_id, departed }
    }

    fn value(&self, secret: &Secret, endpoint: &Endpoint) -> Value {
        secret.value(&self.pool, endpoint.name())
    }
}

/// The table of the present list.
pub(crate) struct Tables {
    present: Arc<Present>,
    _following: Following,
}

struct Present {
    table: ArcSwap<Table>,
    /// Held by who puts another table in.
    changing: Mutex<()>,
}

impl Tables {
    pub(crate) fn follow(endpoints: &Endpoints, signing: &Signing) -> Self {
        let (list, now) = endpoints.numbered();
        let table = ArcSwap::from_pointee(signing.table(list, &now, None));
        let present = Arc::new(Present { table, changing: Mutex::new(()) });
        let (followed, signing) = (Arc::clone(&present), signing.clone());
        let follow = move |list, endpoints: &Arc<[Endpoint]>| followed.renew(&signing, list, endpoints);
        let following = endpoints.follow(follow.clone());
        // One that came before it was followed.
        let (list, now) = endpoints.numbered();
        follow(list, &now);
        Self { present, _following: following }
    }

    pub(crate) fn load(&self) -> Guard<Arc<Table>> {
        self.present.table.load()
    }
}

impl Present {
    fn renew(&self, signing: &Signing, list: u64, endpoints: &[Endpoint]) {
        let _changing = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let before = self.table.load();
        // A later list may have come first.
        if list > before.list {
            self.table.store(Arc::new(signing.table(list, endpoints, Some(&before))));
        }
    }
}

impl fmt::Debug for Tables {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tables").field("endpoints", &self.load().by_id.len()).finish_non_exhaustive()
    }
}
