use std::sync::Arc;

use buttress_core::{Counters, EndpointId, Endpoints, HasFacts, Name, Trail};
use http::header::{CACHE_CONTROL, SET_COOKIE};
use http::{HeaderValue, Request, Response};

use super::event::StickyEvent;
use super::table::{Known, Signing, Table, Tables};
use super::value::Value;
use super::{StickyError, cookies};

/// What the services of one layer share.
pub(crate) struct State {
    pub(crate) setup: Setup,
    tables: Tables,
    counts: Counters<8>,
}

#[derive(Clone)]
pub(crate) struct Setup {
    pub(crate) name: Name,
    pub(crate) signing: Signing,
    pub(crate) endpoints: Endpoints,
    pub(crate) no_cache: bool,
    pub(crate) observer: Option<Observer>,
}

pub(crate) type Observer = Arc<dyn Fn(&StickyEvent<'_>) + Send + Sync>;

#[derive(Clone, Copy)]
pub(crate) enum Count {
    Absent,
    Unknown,
    Known,
    Released,
    Kept,
    Bound,
    Moved,
    Renewed,
}

/// One call, from its request to its answer.
pub(crate) struct Call {
    state: Arc<State>,
    /// What the cookie says.
    known: Option<Known>,
    trail: Trail,
}

impl State {
    pub(crate) fn new(setup: Setup) -> Result<Self, StickyError> {
        setup.signing.attributes.check()?;
        let tables = Tables::follow(&setup.endpoints, &setup.signing);
        Ok(Self { setup, tables, counts: Counters::new() })
    }

    /// Reads the cookie, and tells the layers below where the call is bound to.
    pub(crate) fn begin<B>(self: &Arc<Self>, req: &mut Request<B>) -> Call {
        let known = self.known(req);
        let prefer = known.as_ref().filter(|known| self.keeps(known)).map(|known| known.endpoint.id());
        let facts = req.facts_mut().expect("an HTTP request takes facts");
        // Attempts that run beside this one have trails of their own.
        let trail = facts.trail.as_ref().map_or_else(Trail::new, Trail::branch);
        facts.trail = Some(trail.clone());
        facts.prefer = prefer.or(facts.prefer);
        Call { state: Arc::clone(self), known, trail }
    }

    fn known<B>(&self, req: &Request<B>) -> Option<Known> {
        let mut values = cookies::values(req.headers(), &self.setup.signing.attributes.name).peekable();
        if values.peek().is_none() {
            self.count(Count::Absent);
            return None;
        }
        let table = self.tables.load();
        let all = values.filter_map(Value::sent).filter_map(|value| table.find(&value));
        // A browser keeps one for each domain and path that the cookie ever had, and sends the oldest first: that one may stand
        // for an endpoint that was left long ago.
        let known = all.min_by_key(|known| (self.standing(&table, known), !known.is_current)).cloned();
        drop(table);
        if known.is_some() {
            self.count(Count::Known);
        } else {
            self.count(Count::Unknown);
            self.tell(|policy| StickyEvent::Unknown { policy });
        }
        known
    }

    /// How good it is to be bound to an endpoint: the least is best.
    fn standing(&self, table: &Table, known: &Known) -> u8 {
        let condition = known.endpoint.condition();
        let drains = condition.is_draining() && !self.setup.signing.survive_drain;
        match table.set(known.endpoint.id()) {
            _ if drains || condition.is_in_maintenance() || !condition.is_well() => 2,
            // It has left the list.
            None => 1,
            Some(_) => 0,
        }
    }

    /// Whether the balancer is asked for the endpoint of a cookie.
    fn keeps(&self, known: &Known) -> bool {
        let keeps = self.setup.signing.survive_drain || !known.endpoint.condition().is_draining();
        if !keeps {
            self.count(Count::Released);
            self.tell(|policy| StickyEvent::Released { policy, from: known.endpoint.name() });
        }
        keeps
    }

    fn count(&self, count: Count) {
        self.counts.add_one(count as usize);
    }

    pub(crate) fn sum(&self, count: Count) -> u64 {
        self.counts.sum(count as usize)
    }

    fn tell<'a>(&'a self, event: impl FnOnce(&'a Name) -> StickyEvent<'a>) {
        if let Some(observer) = &self.setup.observer {
            observer(&event(&self.setup.name));
        }
    }
}

impl Call {
    /// Binds the client to the endpoint that served it, unless its cookie says that already.
    pub(crate) fn end<B>(self, res: &mut Response<B>) {
        let Self { state, known, trail } = self;
        let table = state.tables.load();
        // The answer knows best, of several attempts below. An answer without an endpoint is a refusal on the way; with one that
        // is not ours, it comes from a balancer below ours.
        let said = res.extensions().get::<EndpointId>().copied();
        let is_ours = |id: &EndpointId| {
            known.as_ref().is_some_and(|known| known.endpoint.id() == *id) || table.set(*id).is_some()
        };
        let noted =
            || trail.last().filter(is_ours).or_else(|| trail.endpoints().into_iter().rev().find(is_ours));
        let Some(served) = said.filter(is_ours).or_else(noted) else { return };
        let same = known.as_ref().filter(|known| known.endpoint.id() == served);
        if let Some(same) = same {
            state.count(Count::Kept);
            if same.is_current {
                return;
            }
        }
        let Some(set) = table.set(served) else { return };
        if same.is_none() && set.endpoint.condition().is_draining() {
            // It is leaving: the next call finds a better place to be bound to.
            return;
        }
        state.set(res, set.field.clone());
        let to = set.endpoint.clone();
        drop(table);
        let to = to.name();
        match &known {
            None => {
                state.count(Count::Bound);
                state.tell(|policy| StickyEvent::Bound { policy, to });
            }
            Some(_) if same.is_some() => {
                state.count(Count::Renewed);
                state.tell(|policy| StickyEvent::Renewed { policy, to });
            }
            Some(known) => {
                state.count(Count::Moved);
                state.tell(|policy| StickyEvent::Moved { policy, from: known.endpoint.name(), to });
            }
        }
    }
}

impl State {
    fn set<B>(&self, res: &mut Response<B>, field: HeaderValue) {
        res.headers_mut().append(SET_COOKIE, field);
        if self.setup.no_cache {
            res.headers_mut().append(CACHE_CONTROL, HeaderValue::from_static("private"));
        }
    }
}
