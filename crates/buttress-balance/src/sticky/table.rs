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
}

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
}

impl Signing {
    fn table(&self, list: u64, endpoints: &[Endpoint]) -> Table {
        let mut by_value = HashMap::with_capacity(2 * endpoints.len());
        let mut by_id = HashMap::with_capacity(endpoints.len());
        for endpoint in endpoints {
            let value = |secret: &Secret| secret.value(&self.pool, endpoint.name());
            let known = |is_current| Known { endpoint: endpoint.clone(), is_current };
            // The former one first: where both keys are one, it is current.
            if let Some(former) = &self.former {
                by_value.insert(value(former), known(false));
            }
            let current = value(&self.secret);
            by_value.insert(current, known(true));
            let field = self.attributes.set_cookie(&current);
            by_id.insert(endpoint.id(), Set { endpoint: endpoint.clone(), field });
        }
        Table { list, by_value, by_id }
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
        let table = ArcSwap::from_pointee(signing.table(list, &now));
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
        if list <= self.table.load().list {
            return;
        }
        let table = Arc::new(signing.table(list, endpoints));
        let _changing = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        // A later list may have come first.
        if list > self.table.load().list {
            self.table.store(table);
        }
    }
}

impl fmt::Debug for Tables {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tables").field("endpoints", &self.load().by_id.len()).finish_non_exhaustive()
    }
}
