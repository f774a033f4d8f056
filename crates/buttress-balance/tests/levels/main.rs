//! Which part of the endpoints a call goes to: priorities, zones, subsets, and those that have just become usable.

mod properties;
mod slow_start;
mod subset;
mod tables;
mod zones;

use buttress_balance::{Levels, Outlook, Priorities};
use buttress_core::{Endpoint, Health, Timestamp};

/// `count` endpoints of this priority, of which some percents are healthy and degraded.
pub(crate) fn priority(priority: u32, count: usize, healthy: usize, degraded: usize) -> Vec<Endpoint> {
    (0..count)
        .map(|at| {
            let endpoint = Endpoint::new(format!("{priority}-{at}")).with_priority(priority);
            let health = match at * 100 / count {
                percent if percent < healthy => Health::Healthy,
                percent if percent < healthy + degraded => Health::Degraded,
                _ => Health::Unhealthy,
            };
            endpoint.set_health(health, Timestamp::ZERO);
            endpoint
        })
        .collect()
}

/// Priorities of 100 endpoints each, of which these percents are healthy.
pub(crate) fn healthy(percents: &[usize]) -> Vec<Endpoint> {
    (0..).zip(percents).flat_map(|(at, &percent)| priority(at, 100, percent, 0)).collect()
}

pub(crate) fn outlook(levels: &Levels, endpoints: &[Endpoint]) -> Outlook {
    levels.outlook(|endpoint| endpoints[endpoint].condition())
}

/// How `rules` share traffic among `endpoints` now.
pub(crate) fn look(rules: &Priorities, endpoints: &[Endpoint]) -> Outlook {
    outlook(&rules.levels(endpoints), endpoints)
}

/// The shares of the first `count` levels, in percent.
pub(crate) fn percents(outlook: &Outlook, count: usize) -> Vec<f64> {
    (0..count).map(|level| 100.0 * outlook.share(level)).collect()
}

/// Hashes that are as good as random.
pub(crate) fn hashes(count: u64) -> impl Iterator<Item = u64> {
    (0..count).map(|n| buttress_balance::Hashing::default().of(&n.to_le_bytes()))
}

#[track_caller]
pub(crate) fn assert_about(actual: &[f64], expected: &[f64], off: f64) {
    let near = actual.iter().zip(expected).all(|(one, other)| (one - other).abs() < off);
    assert!(near && actual.len() == expected.len(), "{actual:?}, and not {expected:?}");
}
