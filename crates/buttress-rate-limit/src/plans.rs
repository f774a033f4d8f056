use std::sync::Arc;

use buttress_core::{Fail, Global, Name};

use crate::rules::{KeyCost, NoLists, PlanBy, Rules};
use crate::settle::AsCharged;
use crate::{Limit, Memory, Pick, RateLimitLayer};

/// Several plans, of which each call is under one. Made by [`RateLimitLayer::plans`].
#[derive(Clone, Debug)]
#[must_use = "plans become a layer by `.plan(..)`"]
pub struct Plans {
    memory: Memory,
    names: Arc<[Name]>,
}

impl Plans {
    #[track_caller]
    pub(crate) fn new<N: Into<Name>>(plans: impl IntoIterator<Item = (N, impl PlanLimits)>) -> Self {
        let (mut names, mut sets) = (Vec::<Name>::new(), Vec::new());
        for (name, limits) in plans {
            let name = name.into();
            assert!(
                !names.contains(&name),
                "rate limit with two plans `{name}`: each needs a name of its own"
            );
            let named = |limit: Limit| match limit.name().as_str() {
                "default" => limit.named(name.clone()),
                _ => limit,
            };
            sets.push(limits.limits().into_iter().map(named).collect::<Vec<_>>());
            names.push(name);
        }
        Self { memory: Memory::plans(sets), names: names.into() }
    }

    /// Finds the plan of each call by `plan`: its name, its index in the order they were given, or an option of these,
    /// where `None` is the first. An index costs no search.
    ///
    /// A call whose plan is not there is held to the first, so put the smallest there. It is counted in
    /// [`Snapshot::unplanned`](crate::Snapshot::unplanned), and told as
    /// [`UnknownPlan`](crate::RateLimitEvent::UnknownPlan).
    ///
    /// A key has a budget of its own in each plan, so one that changes its plan begins anew. Each plan in use has a
    /// table of its own.
    ///
    /// The closure's argument needs its type written out: `|req: &Request<Body>| …`.
    pub fn plan<Req, N, F>(
        self,
        plan: F,
    ) -> RateLimitLayer<Global, Fail, Memory, Rules<KeyCost, PlanBy<F>, NoLists, AsCharged>>
    where
        F: Fn(&Req) -> N,
        N: Pick,
    {
        let rules = Rules { cost: KeyCost, plan: PlanBy(plan), lists: NoLists, settle: AsCharged };
        RateLimitLayer::of_plans(self.memory, self.names, rules)
    }
}

/// The limits of a plan: one, or several as an array or a `Vec`.
pub trait PlanLimits {
    /// All of them.
    fn limits(self) -> Vec<Limit>;
}

impl PlanLimits for Limit {
    fn limits(self) -> Vec<Limit> {
        vec![self]
    }
}

impl<const N: usize> PlanLimits for [Limit; N] {
    fn limits(self) -> Vec<Limit> {
        self.into()
    }
}

impl PlanLimits for Vec<Limit> {
    fn limits(self) -> Vec<Limit> {
        self
    }
}
