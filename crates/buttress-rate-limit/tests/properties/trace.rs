//! Random traces, and how a policy is led along one beside its model.

use std::fmt::Debug;
use std::time::Duration;

use buttress_core::Decided;
use buttress_rate_limit::{Policy, Ruling};
use proptest::prelude::*;

use crate::at;
use crate::oracle::Model;

pub(crate) const STEPS: usize = 100;

/// What happens before a call, what the call costs, and what follows. The waits and costs that matter depend on the
/// answers so far, so they are chosen when the trace is played.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Step {
    wait: Wait,
    act: Act,
    cost: Cost,
}

#[derive(Clone, Copy, Debug)]
enum Wait {
    None,
    Nanos(u64),
    /// This many 256ths of the window.
    Window(u8),
    /// As long as the last answer said, give or take a nanosecond.
    Told(i8),
    /// The clock goes back by so many 256ths of the window.
    Back(u8),
    /// The clock goes anywhere.
    Jump(u64),
}

#[derive(Clone, Copy, Debug)]
enum Cost {
    Fixed(u32),
    /// This many 256ths of the limit.
    Limit(u8),
    /// As much as the limit, give or take one.
    All(i8),
    /// As much as the last answer left, give or take one.
    Left(i8),
}

#[derive(Clone, Copy, Debug)]
enum Act {
    Charge,
    Force,
    /// Gives back from the charge that is so many before the last.
    Refund(u8),
}

fn waits() -> impl Strategy<Value = Wait> {
    prop_oneof![
        3 => Just(Wait::None),
        2 => (0_u64..2_000).prop_map(Wait::Nanos),
        1 => (0_u64..2_000_000_000).prop_map(Wait::Nanos),
        2 => any::<u8>().prop_map(Wait::Window),
        3 => (-1_i8..=1).prop_map(Wait::Told),
    ]
}

fn costs() -> impl Strategy<Value = Cost> {
    prop_oneof![
        4 => Just(Cost::Fixed(1)),
        1 => (0_u32..5).prop_map(Cost::Fixed),
        1 => Just(Cost::Fixed(u32::MAX)),
        2 => any::<u8>().prop_map(Cost::Limit),
        1 => (-1_i8..=1).prop_map(Cost::All),
        2 => (-1_i8..=1).prop_map(Cost::Left),
    ]
}

/// Calls on a clock that never goes back.
pub(crate) fn calls() -> impl Strategy<Value = Vec<Step>> {
    let step = (waits(), costs()).prop_map(|(wait, cost)| Step { wait, act: Act::Charge, cost });
    prop::collection::vec(step, STEPS)
}

/// Calls on a clock that jumps both ways.
pub(crate) fn jumpy_calls() -> impl Strategy<Value = Vec<Step>> {
    let step = (jumps(), costs()).prop_map(|(wait, cost)| Step { wait, act: Act::Charge, cost });
    prop::collection::vec(step, STEPS)
}

fn jumps() -> impl Strategy<Value = Wait> {
    prop_oneof![
        10 => waits(),
        1 => any::<u8>().prop_map(Wait::Back),
        1 => any::<u64>().prop_map(Wait::Jump),
    ]
}

/// All that may happen: calls, refunds and debts, on a clock that jumps both ways.
pub(crate) fn all() -> impl Strategy<Value = Vec<Step>> {
    let act = prop_oneof![
        12 => Just(Act::Charge),
        1 => Just(Act::Force),
        3 => (0_u8..8).prop_map(Act::Refund),
    ];
    let step = (jumps(), act, costs()).prop_map(|(wait, act, cost)| Step { wait, act, cost });
    prop::collection::vec(step, STEPS)
}

/// Resolves a trace into times and costs while it is played.
pub(crate) struct Player {
    now: u64,
    end: u64,
    window: Duration,
    limit: u64,
    told: Duration,
    left: u64,
}

impl Player {
    pub(crate) fn new(policy: &impl Policy, start: u64, end: u64) -> Self {
        let limit = policy.limit();
        Self { now: start, end, window: policy.window(), limit, told: Duration::ZERO, left: limit }
    }

    pub(crate) fn next(&mut self, step: Step) -> (u64, u32) {
        let part = |part: u8| (self.window.as_nanos() * u128::from(part) / 256) as u64;
        let wait = match step.wait {
            Wait::None | Wait::Back(_) | Wait::Jump(_) => 0,
            Wait::Nanos(nanos) => nanos,
            Wait::Window(parts) => part(parts),
            Wait::Told(by) => (self.told.as_nanos() as u64).saturating_add_signed(i64::from(by)),
        };
        self.now = match step.wait {
            Wait::Back(parts) => self.now.saturating_sub(part(parts)),
            Wait::Jump(to) => to % self.end,
            // Past the end the words may come to their own, which has its own tests.
            _ => self.now.saturating_add(wait).min(self.end),
        };
        let near = |of: u64, by: i8| u32::try_from(of.saturating_add_signed(by.into())).unwrap_or(u32::MAX);
        let cost = match step.cost {
            Cost::Fixed(cost) => cost,
            Cost::Limit(part) => (u128::from(self.limit) * u128::from(part) / 256) as u32,
            Cost::All(by) => near(self.limit, by),
            Cost::Left(by) => near(self.left, by),
        };
        (self.now, cost)
    }

    pub(crate) fn heard(&mut self, ruling: &Ruling) {
        self.told = ruling.retry_after().unwrap_or_else(|| ruling.reset());
        self.left = ruling.remaining();
    }
}

/// One call that was played.
pub(crate) struct Call<S> {
    pub(crate) now: u64,
    pub(crate) cost: u32,
    pub(crate) before: S,
    pub(crate) after: S,
    pub(crate) ruling: Ruling,
}

/// Plays `steps` against a fresh state.
pub(crate) fn play<P: Policy<State: Clone>>(
    policy: &P,
    start: u64,
    end: u64,
    steps: Vec<Step>,
) -> Vec<Call<P::State>> {
    let mut player = Player::new(policy, start, end);
    let mut state = P::State::default();
    steps
        .into_iter()
        .map(|step| {
            let (now, cost) = player.next(step);
            let before = state.clone();
            let ruling = policy.decide(&mut state, at(now), cost);
            player.heard(&ruling);
            Call { now, cost, before, after: state.clone(), ruling }
        })
        .collect()
}

/// `(time, cost)` of all that passes when `steps` are played, in the order of time.
pub(crate) fn admitted<P: Policy<State: Clone>>(
    policy: &P,
    start: u64,
    end: u64,
    steps: Vec<Step>,
) -> Vec<(u64, u128)> {
    let mut calls: Vec<_> = play(policy, start, end, steps)
        .into_iter()
        .filter(|call| call.ruling.admitted())
        .map(|call| (call.now, u128::from(call.cost)))
        .collect();
    calls.sort_unstable();
    calls
}

/// The most units in any interval `[t, t + length)`.
pub(crate) fn most_in(calls: &[(u64, u128)], length: Duration) -> u128 {
    let (mut first, mut sum, mut most) = (0, 0, 0);
    for &(now, cost) in calls {
        sum += cost;
        while u128::from(now - calls[first].0) >= length.as_nanos() {
            sum -= calls[first].1;
            first += 1;
        }
        most = most.max(sum);
    }
    most
}

/// Leads `policy` and `model` along `steps`, and compares all that they say at each.
pub(crate) fn agree<P, M>(
    policy: &P,
    mut model: M,
    start: u64,
    end: u64,
    steps: Vec<Step>,
) -> Result<(), TestCaseError>
where
    P: Policy<State: Clone + PartialEq + Debug>,
    M: Model,
{
    let mut player = Player::new(policy, start, end);
    let mut state = P::State::default();
    let mut charges: Vec<(u64, u32)> = Vec::new();
    prop_assert_eq!(u128::from(policy.limit()), model.limit());

    for step in steps {
        let (now, cost) = player.next(step);
        let (time, units) = (at(now), u128::from(cost));
        let mut admitted = true;
        match step.act {
            Act::Charge => {
                let before = state.clone();
                admitted = policy.charge(&mut state, time, cost);
                prop_assert_eq!(admitted, model.charge(now, units), "at {} for {}", now, cost);
                if admitted && cost > 0 {
                    let delay = policy.delay(&state, time, cost);
                    prop_assert_eq!(delay.as_nanos(), model.delay(now, units));
                    charges.push(((time + delay).as_nanos(), cost));
                } else {
                    prop_assert_eq!(&state, &before);
                }
            }
            Act::Force => {
                policy.force(&mut state, time, cost);
                model.force(now, units);
            }
            Act::Refund(back) => {
                let last = charges.len().saturating_sub(1 + usize::from(back));
                if let Some((charged, rest)) = charges.get_mut(last) {
                    let cost = cost.min(*rest);
                    *rest -= cost;
                    policy.refund(&mut state, at(*charged), time, cost);
                    model.refund(*charged, now, cost.into());
                }
            }
        }

        let left = policy.left(&state, time);
        let (remaining, reset) = (u128::from(left.remaining), left.reset.as_nanos());
        prop_assert!(model.remains(now, remaining), "{remaining} left at {now}");
        prop_assert!(model.resets(now, remaining, reset), "{remaining} left at {now}, more after {reset}");
        let retry_after = policy.retry_after(&state, time, cost);
        let wait = retry_after.map(|wait| wait.as_nanos());
        prop_assert!(model.retries(now, units, wait), "{cost} at {now} after {wait:?}");
        prop_assert!(left.remaining == policy.limit() || policy.debt(&state, time) > 0);

        if let Some(wait) = retry_after {
            let then = time + wait;
            prop_assert!(policy.charge(&mut state.clone(), then, cost));
            if !wait.is_zero() {
                let early = then - Duration::from_nanos(1);
                prop_assert!(!policy.charge(&mut state.clone(), early, cost));
            }
        }
        let told = if admitted { None } else { retry_after };
        let ruling = Ruling::new(admitted, policy.limit(), left.remaining);
        player.heard(&ruling.with_reset(left.reset, policy.window()).with_retry_after(told));
    }
    Ok(())
}
