//! Who is compared: budgets, and layers over a service that does nothing and never fails.
#![allow(dead_code, reason = "each bench takes what it compares")]

use std::future::{Ready, ready};
use std::sync::Arc;
use std::time::Duration;

use buttress_core::{Clock, Timestamp};
use buttress_retry::{Budget, HedgeLayer, RetryLayer};
use tower::retry::Policy;
use tower::retry::budget::{Budget as _, TpsBudget};
use tower::{Layer, Service};
use tower_resilience_retry::{RetryBudget, RetryBudgetBuilder};

use crate::sides::{Error, Unit};

/// A fifth of the calls and 10 per second, over 10 s: what ours and tower's docs both begin with.
pub(crate) fn ours() -> Budget {
    Budget::default()
}

pub(crate) fn tps() -> TpsBudget {
    TpsBudget::new(Duration::from_secs(10), 10, 0.2)
}

/// As near as it comes: it counts by time, and a token for each success.
pub(crate) fn resilience() -> Arc<dyn RetryBudget> {
    let budget = RetryBudgetBuilder::new().token_bucket().tokens_per_second(10.0).max_tokens(100);
    budget.build().expect("the numbers are in range")
}

/// Five calls and one retry.
#[inline]
pub(crate) fn turn(budget: &Budget, mut now: impl FnMut() -> Timestamp) -> bool {
    budget.deposit(now());
    budget.withdraw(now())
}

#[inline]
pub(crate) fn turn_tps(budget: &TpsBudget) -> bool {
    budget.deposit();
    budget.withdraw()
}

/// What a layer over [`Unit`] is.
pub(crate) trait Calls: Service<(), Response = (), Error: std::fmt::Debug> {}

impl<S: Service<(), Response = (), Error: std::fmt::Debug>> Calls for S {}

pub(crate) fn retry(clock: Clock) -> impl Calls {
    RetryLayer::cloning(|(): &()| true).clock(clock).layer(Unit)
}

pub(crate) fn hedge(clock: Clock, fixed: bool) -> impl Calls {
    let layer = HedgeLayer::cloning(|(): &()| true).clock(clock);
    if fixed { layer.delay(Duration::from_secs(1)) } else { layer }.layer(Unit)
}

/// Retries errors within a budget, as tower's docs show it.
#[derive(Clone)]
pub(crate) struct Budgeted(Arc<TpsBudget>);

impl Policy<(), (), Error> for Budgeted {
    type Future = Ready<()>;

    fn retry(&mut self, (): &mut (), result: &mut Result<(), Error>) -> Option<Ready<()>> {
        if result.is_ok() {
            self.0.deposit();
            return None;
        }
        self.0.withdraw().then(|| ready(()))
    }

    fn clone_request(&mut self, (): &()) -> Option<()> {
        Some(())
    }
}

pub(crate) fn tower_retry() -> impl Calls {
    tower::retry::Retry::new(Budgeted(Arc::new(tps())), Unit)
}

pub(crate) fn resilience_retry() -> impl Calls {
    tower_resilience_retry::RetryLayer::<(), (), Error>::builder()
        .max_attempts(3)
        .budget(resilience())
        .build()
        .layer(Unit)
}

#[derive(Clone, Copy)]
pub(crate) struct Every;

impl tower::hedge::Policy<()> for Every {
    fn clone_request(&self, (): &()) -> Option<()> {
        Some(())
    }

    fn can_retry(&self, (): &()) -> bool {
        true
    }
}

/// A service whose error is what tower's hedges need.
pub(crate) fn tower_hedge() -> impl Calls {
    tower::hedge::Hedge::new(Unit, Every, 100, 0.95, Duration::from_secs(10))
}
