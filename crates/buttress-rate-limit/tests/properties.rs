//! The invariants of the algorithms, each checked against its words and against an exact model in `u128`.
//!
//! A few thousand steps by default; `BUTTRESS_FULL_PROPERTIES=1` runs ten million per algorithm.

use std::time::Duration;

use buttress_core::{Answer, Decided, KeyPart, Store, Timestamp};
use buttress_rate_limit::{FixedWindow, Gcra, Limit, LimitState, Memory, Policy, Ruling};
use proptest::prelude::*;

const SECOND: Duration = Duration::from_secs(1);
const STEPS: usize = 100;

fn cases(small: u32, full: u32) -> ProptestConfig {
    let all = std::env::var_os("BUTTRESS_FULL_PROPERTIES").is_some_and(|value| value == "1");
    ProptestConfig {
        cases: if all { full } else { small },
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

fn at(nanos: u64) -> Timestamp {
    Timestamp::from_nanos(nanos)
}

/// Token buckets from 1 per 100 years to 4·10⁹ per second, even and odd rates, small and large bursts.
fn buckets() -> impl Strategy<Value = Gcra> {
    let period = prop_oneof![
        Just(SECOND),
        Just(Duration::from_secs(60)),
        Just(Duration::from_secs(86_400)),
        Just(Duration::from_secs(365 * 86_400)),
        Just(Duration::from_secs(100 * 365 * 86_400)),
        (1_u64..10_000_000_000).prop_map(Duration::from_nanos),
    ];
    let rate = prop_oneof![
        1_u64..=10,
        1_u64..=5_000,
        Just(3_000_000),
        Just(300_000_000),
        Just(700_000_000),
        Just(123_456_789),
        Just(999_999_937),
        Just(4_294_967_295),
        1_u64..=4_294_967_295,
    ];
    let burst = prop_oneof![Just(1_u64), 1_u64..=10, 1_u64..=5_000, 1_u64..=4_294_967_295];
    (rate, period, burst)
        .prop_filter_map("cannot work", |(rate, period, burst)| Gcra::new(rate, period, burst).ok())
}

fn windows() -> impl Strategy<Value = FixedWindow> {
    let limit = prop_oneof![Just(1_u64), 1_u64..=10, 1_u64..=5_000, 1_u64..=4_294_967_295];
    let window = prop_oneof![
        Just(SECOND),
        Just(Duration::from_secs(86_400)),
        (1_u64..10_000_000_000).prop_map(Duration::from_nanos),
    ];
    let phase = prop_oneof![Just(0_u64), any::<u64>()];
    (limit, window, phase).prop_filter_map("cannot work", |(limit, window, phase)| {
        Some(FixedWindow::try_new(limit, window).ok()?.phase(Duration::from_nanos(phase)))
    })
}

/// What happens before a call, and what the call costs. The waits that matter depend on the answers so far, so
/// they are chosen when the trace is played.
#[derive(Clone, Copy, Debug)]
struct Step {
    wait: Wait,
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
}

#[derive(Clone, Copy, Debug)]
enum Cost {
    Fixed(u32),
    /// This many 256ths of the limit.
    Limit(u8),
    /// As much as the last answer left, give or take one.
    Left(i8),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let wait = prop_oneof![
        3 => Just(Wait::None),
        2 => (0_u64..2_000).prop_map(Wait::Nanos),
        1 => (0_u64..2_000_000_000).prop_map(Wait::Nanos),
        2 => any::<u8>().prop_map(Wait::Window),
        3 => (-1_i8..=1).prop_map(Wait::Told),
    ];
    let cost = prop_oneof![
        4 => Just(Cost::Fixed(1)),
        1 => (0_u32..5).prop_map(Cost::Fixed),
        1 => Just(Cost::Fixed(u32::MAX)),
        2 => any::<u8>().prop_map(Cost::Limit),
        2 => (-1_i8..=1).prop_map(Cost::Left),
    ];
    prop::collection::vec((wait, cost).prop_map(|(wait, cost)| Step { wait, cost }), STEPS)
}

/// Resolves a trace into times and costs while it is played.
struct Player {
    now: u64,
    window: Duration,
    limit: u64,
    told: Duration,
    left: u64,
}

impl Player {
    fn new(start: u64, window: Duration, limit: u64) -> Self {
        Self { now: start, window, limit, told: Duration::ZERO, left: limit }
    }

    fn next(&mut self, step: Step) -> (u64, u32) {
        let wait = match step.wait {
            Wait::None => 0,
            Wait::Nanos(nanos) => nanos,
            Wait::Window(part) => (self.window.as_nanos() * u128::from(part) / 256) as u64,
            Wait::Told(by) => (self.told.as_nanos() as u64).saturating_add_signed(i64::from(by)),
        };
        // Past ten years the ticks may come to their end, which has its own tests.
        self.now = self.now.saturating_add(wait).min(TEN_YEARS);
        let cost = match step.cost {
            Cost::Fixed(cost) => cost,
            Cost::Limit(part) => (u128::from(self.limit) * u128::from(part) / 256) as u32,
            Cost::Left(by) => {
                u32::try_from(self.left.saturating_add_signed(i64::from(by))).unwrap_or(u32::MAX)
            }
        };
        (self.now, cost)
    }

    fn heard(&mut self, decision: &Ruling) {
        self.told = decision.retry_after().unwrap_or_else(|| decision.reset());
        self.left = decision.remaining();
    }
}

const TEN_YEARS: u64 = 10 * 365 * 86_400 * 1_000_000_000;

/// A leaking bucket in exact arithmetic: a call pours in `cost · pour`, a nanosecond drains `drain`.
struct Bucket {
    pour: u128,
    drain: u128,
    burst: u128,
    level: u128,
    last: u64,
}

impl Bucket {
    /// The bucket of the rate as it was asked for.
    fn asked(gcra: &Gcra) -> Self {
        Self::new(gcra, gcra.period().as_nanos(), u128::from(gcra.rate()))
    }

    /// The bucket of the rate that is kept: the one asked for wherever its ticks come out even.
    fn kept(gcra: &Gcra) -> Self {
        let ticks_per_period = gcra.period().as_nanos() * u128::from(gcra.ticks_per_nano());
        if ticks_per_period.is_multiple_of(u128::from(gcra.rate())) {
            Self::asked(gcra)
        } else {
            Self::new(gcra, u128::from(gcra.ticks_per_unit()), u128::from(gcra.ticks_per_nano()))
        }
    }

    fn new(gcra: &Gcra, pour: u128, drain: u128) -> Self {
        Self { pour, drain, burst: u128::from(gcra.burst()), level: 0, last: 0 }
    }

    fn flow_until(&mut self, now: u64) {
        self.level = self.level.saturating_sub(u128::from(now - self.last) * self.drain);
        self.last = now;
    }

    fn full(&self) -> u128 {
        self.burst * self.pour
    }

    fn remaining(&self) -> u128 {
        (self.full() - self.level) / self.pour
    }

    /// Until the level is at most `target`.
    fn wait(&self, target: u128) -> u128 {
        self.level.saturating_sub(target).div_ceil(self.drain)
    }

    fn expected(&mut self, now: u64, cost: u32) -> Expected {
        self.flow_until(now);
        let poured = u128::from(cost) * self.pour;
        let admitted = self.level + poured <= self.full();
        if admitted {
            self.level += poured;
        }
        let remaining = self.remaining();
        let reset =
            if remaining == self.burst { 0 } else { self.wait(self.full() - (remaining + 1) * self.pour) };
        let retry_after =
            (!admitted && u128::from(cost) <= self.burst).then(|| self.wait(self.full() - poured));
        Expected { admitted, remaining, reset, retry_after }
    }
}

/// A fixed window in exact arithmetic: the count of each window of the grid.
struct Grid {
    limit: u128,
    window: u128,
    index: u128,
    count: u128,
}

impl Grid {
    fn expected(&mut self, now: u64, cost: u32) -> Expected {
        let index = u128::from(now) / self.window;
        if index != self.index {
            self.index = index;
            self.count = 0;
        }
        let cost = u128::from(cost);
        let admitted = self.count + cost <= self.limit;
        if admitted {
            self.count += cost;
        }
        let reset = (index + 1) * self.window - u128::from(now);
        let retry_after = (!admitted && cost <= self.limit).then_some(reset);
        Expected { admitted, remaining: self.limit - self.count, reset, retry_after }
    }
}

#[derive(Debug, PartialEq)]
struct Expected {
    admitted: bool,
    remaining: u128,
    reset: u128,
    retry_after: Option<u128>,
}

impl From<Ruling> for Expected {
    fn from(decision: Ruling) -> Self {
        Self {
            admitted: decision.admitted(),
            remaining: u128::from(decision.remaining()),
            reset: decision.reset().as_nanos(),
            retry_after: decision.retry_after().map(|wait| wait.as_nanos()),
        }
    }
}

/// Charges `state`, and gives the state that follows beside the outcome.
fn decide<P: Policy>(policy: &P, mut state: P::State, now: Timestamp, cost: u32) -> (P::State, Ruling) {
    let ruling = policy.decide(&mut state, now, cost);
    (state, ruling)
}

/// Gives back at once what was charged.
fn refund<P: Policy>(policy: &P, mut state: P::State, now: Timestamp, cost: u32) -> P::State {
    policy.refund(&mut state, now, now, cost);
    state
}

/// Plays `steps` and gives each `(time, cost, state before, state after, decision)`.
fn play<P: Policy<State = u64>>(
    policy: &P,
    limit: u64,
    window: Duration,
    start: u64,
    steps: Vec<Step>,
) -> Vec<(u64, u32, u64, u64, Ruling)> {
    let mut player = Player::new(start, window, limit);
    let mut state = 0;
    steps
        .into_iter()
        .map(|step| {
            let (now, cost) = player.next(step);
            let before = state;
            let (after, decision) = decide(policy, before, at(now), cost);
            player.heard(&decision);
            state = after;
            (now, cost, before, after, decision)
        })
        .collect()
}

fn play_bucket(gcra: &Gcra, start: u64, steps: Vec<Step>) -> Vec<(u64, u32, u64, u64, Ruling)> {
    let full = decide(gcra, 0, at(0), 0).1.window();
    play(gcra, gcra.burst(), full, start, steps)
}

mod token_bucket {
    use super::*;

    proptest! {
        #![proptest_config(cases(300, 100_000))]

        // I3
        #[test]
        fn equals_the_exact_model_step_by_step(gcra in buckets(), start in 0..TEN_YEARS, steps in steps()) {
            let mut model = Bucket::kept(&gcra);
            let mut asked = Bucket::asked(&gcra);
            let mut last = 0;
            for (now, cost, before, after, decision) in play_bucket(&gcra, start, steps) {
                prop_assert_eq!(Expected::from(decision), model.expected(now, cost));

                // Never more than was asked for, where the kept rate is rounded.
                asked.flow_until(now);
                if decision.admitted() {
                    asked.level += u128::from(cost) * asked.pour;
                }
                prop_assert!(asked.level <= asked.full());

                // I2
                prop_assert!(after >= last);
                if decision.admitted() && cost > 0 {
                    let debt = gcra.debt(&after, at(now));
                    prop_assert!(0 < debt && debt <= gcra.burst() * gcra.ticks_per_unit());
                } else {
                    prop_assert_eq!(after, before);
                }
                last = after;
            }
        }
    }

    proptest! {
        #![proptest_config(cases(100, 2_000))]

        // I1, in its own words, and with a clock that jumps at will.
        #[test]
        fn never_admits_more_than_burst_plus_rate_times_time_in_any_interval(
            gcra in buckets(),
            steps in steps(),
            jumps in prop::collection::vec(prop_oneof![Just(0_i64), Just(-1), any::<i64>()], STEPS),
        ) {
            let mut player = Player::new(TEN_YEARS / 2, SECOND, gcra.burst());
            let (mut state, mut calls) = (0, Vec::new());
            for (step, jump) in steps.into_iter().zip(jumps) {
                player.now = player.now.saturating_add_signed(jump);
                let (now, cost) = player.next(step);
                let (next, decision) = decide(&gcra, state, at(now), cost);
                player.heard(&decision);
                state = next;
                if decision.admitted() {
                    calls.push((now, u128::from(cost)));
                }
            }

            calls.sort_unstable();
            for (first, &(from, _)) in calls.iter().enumerate() {
                let mut sum = 0;
                for &(to, cost) in &calls[first..] {
                    sum += cost;
                    let earned = u128::from(to - from) * u128::from(gcra.rate()) / gcra.period().as_nanos();
                    prop_assert!(sum <= u128::from(gcra.burst()) + earned);
                }
            }
        }

        // I4
        #[test]
        fn a_refused_call_passes_at_retry_after_and_not_a_nanosecond_earlier(
            gcra in buckets(), start in 0..TEN_YEARS, steps in steps(),
        ) {
            for (now, cost, _, state, decision) in play_bucket(&gcra, start, steps) {
                if let Some(wait) = decision.retry_after() {
                    let then = at(now) + wait;
                    prop_assert!(decide(&gcra, state, then, cost).1.admitted());
                    prop_assert!(!decide(&gcra, state, then - Duration::from_nanos(1), cost).1.admitted());
                } else {
                    prop_assert!(decision.admitted() || u64::from(cost) > gcra.burst());
                }
            }
        }

        // I5
        #[test]
        fn exactly_remaining_more_units_pass_at_the_same_moment(
            gcra in buckets(), start in 0..TEN_YEARS, steps in steps(),
        ) {
            for (now, _, _, state, decision) in play_bucket(&gcra, start, steps) {
                let Ok(remaining) = u32::try_from(decision.remaining()) else { continue };
                let (spent, all) = decide(&gcra, state, at(now), remaining);
                prop_assert!(all.admitted());
                prop_assert_eq!(all.remaining(), 0);
                prop_assert!(!decide(&gcra, spent, at(now), 1).1.admitted());
            }
        }

        // I7
        #[test]
        fn a_key_that_was_idle_for_a_full_refill_cannot_be_told_from_a_fresh_one(
            gcra in buckets(), start in 0..TEN_YEARS, steps in steps(), cost: u32,
        ) {
            for (now, _, _, state, decision) in play_bucket(&gcra, start, steps) {
                let later = at(now) + decision.window();
                prop_assert_eq!(gcra.debt(&state, later), 0);
                prop_assert_eq!(decide(&gcra, state, later, 0).1, decide(&gcra, 0, later, 0).1);
                let (old, fresh) = (decide(&gcra, state, later, cost), decide(&gcra, 0, later, cost));
                prop_assert_eq!(old.1, fresh.1);
                prop_assert_eq!(gcra.debt(&old.0, later), gcra.debt(&fresh.0, later));
            }
        }

        // I8
        #[test]
        fn a_refund_at_the_same_moment_restores_an_equivalent_state(
            gcra in buckets(), start in 0..TEN_YEARS, steps in steps(),
        ) {
            for (now, cost, before, after, decision) in play_bucket(&gcra, start, steps) {
                if decision.admitted() {
                    let now = at(now);
                    let refunded = refund(&gcra, after, now, cost);
                    prop_assert_eq!(gcra.debt(&refunded, now), gcra.debt(&before, now));
                    prop_assert_eq!(decide(&gcra, refunded, now, 1).1, decide(&gcra, before, now, 1).1);
                }
            }
        }

        #[test]
        fn any_input_is_answered_without_a_panic(
            gcra in buckets(), state in 0..u64::MAX, now: u64, cost: u32,
        ) {
            let (next, decision) = decide(&gcra, state, at(now), cost);
            let _ = (refund(&gcra, next, at(now), cost), gcra.debt(&next, at(now)));
            prop_assert!(decision.remaining() <= gcra.burst());
            prop_assert!(decision.admitted() || next == state);
        }
    }
}

mod fixed_window {
    use super::*;

    proptest! {
        #![proptest_config(cases(300, 100_000))]

        #[test]
        fn equals_the_exact_model_step_by_step(
            windows in windows(), hash: u64, start in 0..TEN_YEARS, steps in steps(),
        ) {
            let mut model = Grid {
                limit: u128::from(windows.limit()),
                window: windows.window().as_nanos(),
                index: 0,
                count: 0,
            };
            let shift = windows.shift(hash);
            prop_assert!(shift < windows.window());
            let start = (at(start) + shift).as_nanos();
            let mut last = 0;
            for (now, cost, before, after, decision) in
                play(&windows, windows.limit(), windows.window(), start, steps)
            {
                prop_assert_eq!(Expected::from(decision), model.expected(now, cost));
                prop_assert!(after >= last);
                prop_assert!(after == before || (decision.admitted() && cost > 0));
                last = after;
            }
        }
    }

    proptest! {
        #![proptest_config(cases(100, 2_000))]

        #[test]
        fn never_admits_more_than_twice_the_limit_in_an_interval_as_long_as_a_window(
            windows in windows(), start in 0..TEN_YEARS, steps in steps(),
        ) {
            let calls: Vec<_> = play(&windows, windows.limit(), windows.window(), start, steps)
                .into_iter()
                .filter(|call| call.4.admitted())
                .map(|call| (u128::from(call.0), u128::from(call.1)))
                .collect();
            for (first, &(from, _)) in calls.iter().enumerate() {
                let sum: u128 = calls[first..]
                    .iter()
                    .take_while(|&&(to, _)| to < from + windows.window().as_nanos())
                    .map(|&(_, cost)| cost)
                    .sum();
                prop_assert!(sum <= 2 * u128::from(windows.limit()));
            }
        }

        #[test]
        fn a_clock_that_jumps_never_admits_more_than_the_limit_per_window_it_has_reached(
            windows in windows(),
            times in prop::collection::vec(prop_oneof![0..TEN_YEARS, 0_u64..20_000_000_000], STEPS),
        ) {
            let (mut state, mut admitted, mut reached) = (0, 0_u128, std::collections::BTreeSet::new());
            let mut latest = 0;
            for now in times {
                let (next, decision) = decide(&windows, state, at(now), 1);
                state = next;
                latest = latest.max(u128::from(now) / windows.window().as_nanos());
                reached.insert(latest);
                admitted += u128::from(decision.admitted());
            }
            prop_assert!(admitted <= reached.len() as u128 * u128::from(windows.limit()));
        }

        #[test]
        fn a_refused_call_passes_at_retry_after_and_not_a_nanosecond_earlier(
            windows in windows(), start in 0..TEN_YEARS, steps in steps(),
        ) {
            for (now, cost, _, state, decision) in
                play(&windows, windows.limit(), windows.window(), start, steps)
            {
                if let Some(wait) = decision.retry_after() {
                    let then = at(now) + wait;
                    prop_assert!(decide(&windows, state, then, cost).1.admitted());
                    prop_assert!(!decide(&windows, state, then - Duration::from_nanos(1), cost).1.admitted());
                } else {
                    prop_assert!(decision.admitted() || u64::from(cost) > windows.limit());
                }
            }
        }

        #[test]
        fn exactly_remaining_more_units_pass_at_the_same_moment(
            windows in windows(), start in 0..TEN_YEARS, steps in steps(),
        ) {
            for (now, _, _, state, decision) in
                play(&windows, windows.limit(), windows.window(), start, steps)
            {
                let remaining = u32::try_from(decision.remaining()).expect("limits here fit 32 bits");
                let (spent, all) = decide(&windows, state, at(now), remaining);
                prop_assert!(all.admitted());
                prop_assert_eq!(all.remaining(), 0);
                prop_assert!(!decide(&windows, spent, at(now), 1).1.admitted());
            }
        }

        #[test]
        fn a_key_that_was_idle_for_a_window_cannot_be_told_from_a_fresh_one(
            windows in windows(), start in 0..TEN_YEARS, steps in steps(), cost: u32,
        ) {
            for (now, _, _, state, decision) in
                play(&windows, windows.limit(), windows.window(), start, steps)
            {
                let later = at(now) + decision.reset();
                prop_assert_eq!(windows.debt(&state, later), 0);
                prop_assert_eq!(decide(&windows, state, later, cost).1, decide(&windows, 0, later, cost).1);
            }
        }

        #[test]
        fn a_refund_at_the_same_moment_restores_an_equivalent_state(
            windows in windows(), start in 0..TEN_YEARS, steps in steps(),
        ) {
            for (now, cost, before, after, decision) in
                play(&windows, windows.limit(), windows.window(), start, steps)
            {
                if decision.admitted() {
                    let now = at(now);
                    let refunded = refund(&windows, after, now, cost);
                    prop_assert_eq!(windows.debt(&refunded, now), windows.debt(&before, now));
                    prop_assert_eq!(decide(&windows, refunded, now, 1).1, decide(&windows, before, now, 1).1);
                }
            }
        }

        #[test]
        fn any_input_is_answered_without_a_panic(
            windows in windows(), state in 0..u64::MAX, now: u64, cost: u32,
        ) {
            let (next, decision) = decide(&windows, state, at(now), cost);
            let _ = (refund(&windows, next, at(now), cost), windows.debt(&next, at(now)));
            prop_assert!(decision.remaining() <= windows.limit());
            prop_assert!(decision.admitted() || next == state);
        }
    }
}

mod table {
    use super::*;

    fn limits() -> impl Strategy<Value = Limit> {
        // With a grid for each key a model would have to know the hashes.
        prop_oneof![
            buckets().prop_map(Limit::from),
            windows().prop_map(|window| Limit::from(window.phase(Duration::ZERO))),
        ]
    }

    proptest! {
        #![proptest_config(cases(100, 2_000))]

        #[test]
        fn each_key_is_limited_as_if_it_were_alone(
            limit in limits(),
            calls in prop::collection::vec((0_u32..20, 0..u64::MAX / 1000, 0_u32..20), 2 * STEPS),
        ) {
            // Twenty keys in 286 groups of seven: that eight of them meet in one does not happen.
            let memory = Memory::with_capacity(limit.clone(), 1_000);
            let mut alone = [const { None::<LimitState> }; 20];
            let mut now = 0;
            for (key, wait, cost) in calls {
                now += wait % 1_000_000_000;
                let mut sink = memory.sink();
                key.write(&mut sink);
                let Answer::Now(held) = memory.decide(sink, cost, at(now)) else {
                    panic!("the answer of memory comes at once");
                };

                let state = alone[key as usize].get_or_insert_default();
                let ruling = limit.decide(state, at(now), cost);
                prop_assert_eq!(held.admitted(), ruling.admitted());
                prop_assert_eq!(held.retry_after(), ruling.retry_after());
                memory.quotas(&held, &mut |quota| {
                    assert_eq!((quota.remaining, quota.reset), (ruling.remaining(), ruling.reset()));
                });
            }
            prop_assert_eq!(memory.evicted(), 0);
        }
    }
}
