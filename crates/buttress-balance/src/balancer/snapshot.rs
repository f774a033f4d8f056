//! What a pick looks at: one value, swapped as a whole, so that endpoints and tables never disagree.

use std::collections::HashMap;
use std::sync::Arc;

use buttress_core::{EndpointId, Timestamp};

use super::station::{Member, Rules};
use crate::{BoundedLoad, Levels, Node, Outlook, Policy, PolicyError};

const BITS: usize = u64::BITS as usize;

/// What follows from the list of endpoints.
pub(crate) struct Tables<S, P: Policy, C> {
    /// The number of the list.
    pub(crate) version: u64,
    pub(crate) members: Box<[Member<S, P, C>]>,
    pub(crate) by_id: HashMap<EndpointId, u32>,
    pub(crate) levels: Levels,
    pub(crate) has_gates: bool,
    pub(crate) pickers: Box<[Table<P::Picker>]>,
}

/// The picker of one level.
pub(crate) struct Table<K> {
    pub(crate) picker: K,
    pub(crate) bound: Option<BoundedLoad>,
    /// Which of the members it picks from; all of them, where it is the only level.
    pub(crate) members: Option<Box<[u32]>>,
}

impl<K> Table<K> {
    #[inline]
    pub(crate) fn member(&self, position: usize) -> usize {
        match &self.members {
            None => position,
            Some(members) => members[position] as usize,
        }
    }
}

pub(crate) type Leaving<S, P, C> = Arc<[(Member<S, P, C>, Timestamp)]>;

/// All that a pick looks at, beside the conditions of the endpoints that it meets.
pub(crate) struct Snapshot<S, P: Policy, C> {
    pub(crate) tables: Arc<Tables<S, P, C>>,
    /// Those that have left and still have calls, and until when they are kept.
    pub(crate) leaving: Leaving<S, P, C>,
    /// How many changes of conditions had been made when this was made.
    pub(crate) changes: u64,
    pub(crate) outlook: Outlook,
    /// Of each member one bit: it is usable, and not degraded. As long as no condition has changed since, it says what the
    /// conditions do, which lie far apart.
    healthy: Box<[u64]>,
    /// For each level the configured weight of its endpoints that are used, by its share of the traffic: what bounds on loads
    /// are reckoned by.
    pub(crate) weights: Box<[u128]>,
    /// Whether an endpoint gets less than its share: it asks for less, or starts slowly until then.
    pub(crate) is_partial: bool,
    pub(crate) slow_until: Timestamp,
}

impl<S, P: Policy, C> Tables<S, P, C> {
    /// Builds the tables of `members`; `present` are those before.
    pub(crate) fn new(
        version: u64,
        members: Box<[Member<S, P, C>]>,
        rules: &Rules<P, C>,
        present: Option<&Self>,
    ) -> Result<Self, PolicyError> {
        if members.is_empty() {
            // Settings that cannot work are refused now, not when the first endpoint joins.
            let any = [Node::new("any")];
            rules.policy.build(&any)?;
            rules.settings.bounded_load.map(|factor| BoundedLoad::new(factor, &any)).transpose()?;
        }
        let levels = rules.settings.priorities.levels(members.iter().map(|member| &member.endpoint));
        let count = levels.all().len();
        let mut groups: Vec<Vec<u32>> = vec![Vec::new(); count];
        for at in 0..members.len() {
            groups[levels.of(at)].push(at as u32);
        }
        let mut pickers = Vec::with_capacity(count);
        for (level, group) in groups.into_iter().enumerate() {
            let node = |&at: &u32| {
                let endpoint = &members[at as usize].endpoint;
                Node::new(endpoint.name().as_str()).weight(endpoint.weight())
            };
            let nodes: Vec<Node> = group.iter().map(node).collect();
            let same = present.and_then(|present| {
                let like = |other| present.levels.all().get(other) == levels.all().get(level);
                present.pickers.get(level).filter(|_| like(level))
            });
            let policy = &rules.policy;
            let picker = match same {
                Some(table) => policy.rebuild(&table.picker, &nodes)?,
                None => policy.build(&nodes)?,
            };
            let factor = rules.settings.bounded_load;
            let bound = factor.map(|factor| BoundedLoad::new(factor, &nodes)).transpose()?;
            pickers.push(Table { picker, bound, members: (count > 1).then(|| group.into()) });
        }
        let by_id =
            members.iter().enumerate().map(|(at, member)| (member.endpoint.id(), at as u32)).collect();
        let has_gates = members.iter().any(|member| member.gate.is_some());
        Ok(Self { version, members, by_id, levels, has_gates, pickers: pickers.into() })
    }
}

impl<S, P: Policy, C> Snapshot<S, P, C> {
    /// What follows for `tables` from the conditions that its endpoints are in now.
    pub(crate) fn new(
        tables: Arc<Tables<S, P, C>>,
        leaving: Leaving<S, P, C>,
        changes: u64,
        rules: &Rules<P, C>,
    ) -> Self {
        let members = &tables.members;
        let outlook = tables.levels.outlook(|at| members[at].endpoint.condition());
        let mut healthy = vec![0; members.len().div_ceil(BITS)];
        let mut weights = vec![0_u128; tables.pickers.len()];
        for (at, member) in members.iter().enumerate() {
            let condition = member.endpoint.condition();
            let level = tables.levels.of(at);
            if condition.is_usable() || outlook.panics(level) && condition.is_in_service() {
                weights[level] += u128::from(member.endpoint.weight()) << BoundedLoad::FRACTION;
            }
            healthy[at / BITS] |= u64::from(condition.is_usable() && !condition.is_degraded()) << (at % BITS);
        }
        for (level, weight) in weights.iter_mut().enumerate() {
            // A level without a share has room for one call at each endpoint, and for more when all else is full.
            *weight = (*weight as f64 / outlook.share(level).max(1e-9)) as u128;
        }
        let is_partial = members.iter().any(|member| member.endpoint.condition().weight_percent() < 100);
        let window = rules.settings.slow_start.window();
        let starts = members.iter().map(|member| member.endpoint.usable_since());
        let last = starts.max().unwrap_or(Timestamp::ZERO);
        let slow_until = if last > Timestamp::ZERO { last + window } else { last };
        let (healthy, weights) = (healthy.into(), weights.into());
        Self { tables, leaving, changes, outlook, healthy, weights, is_partial, slow_until }
    }

    /// Whether the member was usable and not degraded when this was made.
    #[inline]
    pub(crate) fn was_healthy(&self, member: usize) -> bool {
        self.healthy[member / BITS] >> (member % BITS) & 1 == 1
    }

    /// The same with others that have left.
    pub(crate) fn with_leaving(&self, leaving: Leaving<S, P, C>) -> Self {
        let Self { changes, is_partial, slow_until, .. } = *self;
        let (tables, outlook) = (Arc::clone(&self.tables), self.outlook.clone());
        let (healthy, weights) = (self.healthy.clone(), self.weights.clone());
        Self { tables, leaving, changes, outlook, healthy, weights, is_partial, slow_until }
    }
}
