//! Which endpoint gets a call.

use std::cell::Cell;

use buttress_core::{EndpointId, Facts, Timestamp};

use super::snapshot::{Snapshot, Table};
use super::station::{Member, Rules};
use crate::sync::Ordering;
use crate::{Among, BoundedLoad, Load, Part, Picker, Policy, Tier};

/// Why there is no endpoint for a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Without {
    /// None can serve.
    Usable,
    /// Those that can have all the calls that they may have.
    Place,
}

/// One choice, as far as it has come.
struct Choice<'a, 'b, S, P: Policy, C> {
    snapshot: &'a Snapshot<S, P, C>,
    /// Whether no condition has changed since the snapshot was made.
    is_exact: bool,
    rules: &'b Rules<P, C>,
    hash: u64,
    tried: &'b [EndpointId],
    /// Whether gates are asked.
    is_gated: bool,
    /// Whether bounds on loads are widened where they leave no room.
    widens: bool,
    now: Cell<Option<Timestamp>>,
    was_full: Cell<bool>,
}

/// The endpoints of one tier, for one call.
struct View<'a, 'b, S, P: Policy, C> {
    choice: &'b Choice<'a, 'b, S, P, C>,
    table: &'a Table<P::Picker>,
    tier: Tier,
    /// Whether endpoints that start slowly refuse some calls.
    is_ramped: bool,
    /// What bounds are reckoned by.
    weight: u128,
    /// The weight of the endpoints that were usable and full.
    full: Cell<u64>,
}

/// Nobody loses so many races in a row.
const PASSES: u32 = 100;

impl<S, P: Policy, C> Snapshot<S, P, C> {
    /// Chooses an endpoint for a call of this hash, and takes a place there. Gives the time too, if it was looked at.
    #[inline]
    pub(crate) fn choose<'a>(
        &'a self,
        rules: &Rules<P, C>,
        hash: u64,
        facts: Option<&Facts>,
        is_exact: bool,
    ) -> Result<(&'a Member<S, P, C>, Option<Timestamp>), Without> {
        let is_bounded = rules.settings.bounded_load.is_some();
        if is_bounded {
            rules.total.fetch_add(1, Ordering::SeqCst);
        }
        let counted = Counted(is_bounded.then_some(rules));
        let (tried, prefer) = facts.map_or((&[][..], None), |facts| (&facts.tried[..], facts.prefer));
        let choice = Choice {
            snapshot: self,
            is_exact,
            rules,
            hash,
            tried,
            is_gated: true,
            widens: false,
            now: Cell::new(None),
            was_full: Cell::new(false),
        };
        let member = prefer.and_then(|id| choice.preferred(id)).or_else(|| choice.any());
        match member {
            Some(member) => {
                std::mem::forget(counted);
                Ok((member, choice.now.get()))
            }
            None if choice.was_full.get() => Err(Without::Place),
            None => Err(Without::Usable),
        }
    }
}

impl<'a, S, P: Policy, C> Choice<'a, '_, S, P, C> {
    /// The endpoint that the call is bound to, if that is well: it may drain.
    #[cold]
    fn preferred(&self, id: EndpointId) -> Option<&'a Member<S, P, C>> {
        let tables = &self.snapshot.tables;
        let present = tables.by_id.get(&id).map(|&at| &tables.members[at as usize]);
        let leaving = || {
            let leaving = self.snapshot.leaving.iter().filter(|(_, until)| *until > self.now());
            leaving.map(|(member, _)| member).find(|member| member.endpoint.id() == id)
        };
        let member = present.or_else(leaving)?;
        let condition = member.endpoint.condition();
        // In panic nothing that is said of health is believed, and sessions stay where they are.
        let panics = || {
            let at = tables.by_id.get(&id).map(|&at| tables.levels.of(at as usize));
            at.is_some_and(|level| self.snapshot.outlook.panics(level))
        };
        let takes = (condition.is_well() || panics())
            && !condition.is_in_maintenance()
            && !self.tried.contains(&id)
            && member.gate.as_ref().is_none_or(|gate| gate());
        let is_admitted = takes && member.station.enter();
        self.was_full.set(takes && !is_admitted);
        is_admitted.then_some(member)
    }

    #[inline]
    fn any(&self) -> Option<&'a Member<S, P, C>> {
        if let Some(tier) = self.snapshot.outlook.pick(self.hash)
            && let Some(member) = self.of(tier, self.is_ramped())
        {
            return Some(member);
        }
        self.other()
    }

    /// None of those that come first takes it.
    #[cold]
    fn other(&self) -> Option<&'a Member<S, P, C>> {
        let outlook = &self.snapshot.outlook;
        let again = |choice: &Self| outlook.order(self.hash).find_map(|tier| choice.of(tier, false));
        let with = |tried, is_gated| {
            let (now, was_full) = (self.now.clone(), Cell::new(false));
            let choice = Choice { tried, is_gated, widens: true, now, was_full, ..*self };
            let found = again(&choice);
            self.was_full.set(self.was_full.get() || choice.was_full.get());
            found
        };
        let has_tried = !self.tried.is_empty();
        // All bounds together have room for one call more: unless their weights were wrong, or not all may have this call. Then,
        // if each was tried: once more there is better than not at all. And where no gate is open, who is behind one says why.
        again(self)
            .or_else(|| if self.was_full.get() { with(self.tried, true) } else { None })
            .or_else(|| if has_tried { with(&[], true) } else { None })
            .or_else(|| if self.snapshot.tables.has_gates { with(&[], false) } else { None })
    }

    #[inline]
    fn is_ramped(&self) -> bool {
        let Snapshot { is_partial, slow_until, .. } = *self.snapshot;
        is_partial || slow_until > Timestamp::ZERO && slow_until > self.now()
    }

    #[inline]
    fn now(&self) -> Timestamp {
        if let Some(now) = self.now.get() {
            return now;
        }
        let now = self.rules.settings.clock.now();
        self.now.set(Some(now));
        now
    }

    #[inline]
    fn of(&self, tier: Tier, is_ramped: bool) -> Option<&'a Member<S, P, C>> {
        let tables = &*self.snapshot.tables;
        let table = &tables.pickers[tier.level()];
        let weight = self.snapshot.weights[tier.level()];
        let mut view = View { choice: self, table, tier, is_ramped, weight, full: Cell::new(0) };
        for _ in 0..PASSES {
            if let Some(position) = table.picker.pick(self.hash, &view) {
                return Some(&tables.members[table.member(position)]);
            }
            let full = u128::from(view.full.replace(0)) << BoundedLoad::FRACTION;
            if !self.widens || table.bound.is_none() || full == 0 || full == view.weight {
                break;
            }
            view.weight = full;
        }
        None
    }
}

impl<'a, S, P: Policy, C> View<'a, '_, S, P, C> {
    #[inline]
    fn member(&self, position: usize) -> &'a Member<S, P, C> {
        &self.choice.snapshot.tables.members[self.table.member(position)]
    }

    /// Whether a slow start, or a weight that it asked for, lets the endpoint have this call.
    #[cold]
    fn is_accepted(&self, member: &Member<S, P, C>) -> bool {
        let settings = &self.choice.rules.settings;
        let endpoint = &member.endpoint;
        let ramp = settings.slow_start.ramp(endpoint.usable_since(), self.choice.now());
        let ramp = ramp.percent(endpoint.condition().weight_percent());
        ramp.accepts(self.choice.hash, endpoint.id())
    }
}

impl<S, P: Policy, C> Among for View<'_, '_, S, P, C> {
    #[inline]
    fn is_usable(&self, position: usize) -> bool {
        let (Choice { snapshot, is_exact, .. }, at) = (self.choice, self.table.member(position));
        let member = &snapshot.tables.members[at];
        let is_of_tier = match self.tier.part() {
            Part::Healthy if *is_exact => snapshot.was_healthy(at),
            _ => self.tier.takes(member.endpoint.condition()),
        };
        is_of_tier
            && (self.choice.tried.is_empty() || !self.choice.tried.contains(&member.endpoint.id()))
            && (!self.is_ramped || self.is_accepted(member))
            && (!self.choice.is_gated || member.gate.as_ref().is_none_or(|gate| gate()))
    }

    #[inline]
    fn admit(&self, position: usize) -> bool {
        if !self.is_usable(position) {
            return false;
        }
        let station = &self.member(position).station;
        let is_admitted = match &self.table.bound {
            None => station.enter(),
            Some(bound) => {
                let load = station.load.count();
                let most = station.rules.settings.max_in_flight;
                bound.reserve(position, load, &self.choice.rules.total, self.weight, most)
            }
        };
        if !is_admitted {
            self.choice.was_full.set(true);
            let weight = u64::from(self.member(position).endpoint.weight());
            self.full.set(self.full.get().saturating_add(weight));
        }
        is_admitted
    }

    #[inline]
    fn load(&self, position: usize) -> &Load {
        &self.member(position).station.load
    }

    #[inline]
    fn now(&self) -> Timestamp {
        self.choice.now()
    }
}

/// A call that is being placed: it is in the total, and leaves it again unless it stays.
struct Counted<'a, P, C>(Option<&'a Rules<P, C>>);

impl<P, C> Drop for Counted<'_, P, C> {
    fn drop(&mut self) {
        if let Some(rules) = self.0 {
            rules.total.fetch_sub(1, Ordering::SeqCst);
        }
    }
}
