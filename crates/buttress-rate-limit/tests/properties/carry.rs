use std::time::Duration;

use buttress_core::Decided;
use buttress_rate_limit::{
    CarryOver, FixedWindow, Gcra, LeakyBucket, Limit, LimitState, Policy, SlidingLog, SlidingWindow,
};
use proptest::prelude::*;

use crate::trace::{Step, calls, play};
use crate::{SECOND, TEN_YEARS, at, cases, lengths, retry, token_bucket};

const RULES: [CarryOver; 4] =
    [CarryOver::AsIs, CarryOver::Proportional, CarryOver::Reset, CarryOver::Additive];

/// What is used of a new limit when `used` was of the old, in the words of the rules, rounded up.
fn rule(rule: CarryOver, used: u128, old: u128, new: u128) -> u128 {
    match rule {
        CarryOver::AsIs => new.saturating_sub(old.saturating_sub(used)),
        CarryOver::Proportional => (used * new).div_ceil(old),
        CarryOver::Additive => used,
        _ => 0,
    }
}

/// The state after `steps`, and when that is.
fn after(limit: &Limit, start: u64, steps: Vec<Step>) -> (LimitState, u64) {
    let last = play(limit, start, TEN_YEARS / 4, steps).pop().expect("a trace has steps");
    (last.after, last.now)
}

fn used(limit: &Limit, state: &LimitState, now: u64) -> u128 {
    u128::from(limit.limit() - limit.left(state, at(now)).remaining)
}

/// Pairs of limits that count whole units on one grid.
fn pairs_of_windows() -> impl Strategy<Value = (Limit, Limit)> {
    let limit = || prop_oneof![1_u64..=20, 1_u64..=1000];
    prop_oneof![
        (limit(), limit(), lengths(), 1_u32..10).prop_map(|(old, new, length, parts)| {
            let parts = parts.min(length.as_nanos().min(10) as u32);
            let window = |limit| Limit::from(SlidingWindow::strict(limit, length, parts));
            (window(old), window(new))
        }),
        (limit(), limit(), lengths()).prop_filter_map("cannot work", |(old, new, length)| {
            let window = |limit| FixedWindow::try_new(limit, length).ok().map(Limit::from);
            Some((window(old)?, window(new)?))
        }),
        (limit(), limit(), lengths(), lengths()).prop_map(|(old, new, was, is)| {
            (Limit::from(SlidingLog::new(old, was)), Limit::from(SlidingLog::new(new, is)))
        }),
    ]
}

proptest! {
    #![proptest_config(cases(50, 20_000))]

    #[test]
    fn a_bucket_is_carried_over_to_the_tick(
        old in token_bucket::buckets(), new in token_bucket::buckets(),
        start in 0..TEN_YEARS / 4, steps in calls(),
    ) {
        let size = |gcra: &Gcra| (gcra.ticks_per_unit(), gcra.burst() * gcra.ticks_per_unit());
        let ((old_unit, old_full), (unit, full)) = (size(&old), size(&new));
        let (old, new) = (Limit::from(old), Limit::from(new));
        let (state, now) = after(&old, start, steps);
        let debt = u128::from(old.debt(&state, at(now)));
        if debt == 0 {
            return Ok(());
        }

        for rule in RULES {
            let carried = rule.carry(&old, &state, &new, 0, at(now));
            let carried = u128::from(new.debt(&carried, at(now)));

            let (unit, full) = (u128::from(unit), u128::from(full));
            let exact = match rule {
                CarryOver::AsIs => {
                    full.saturating_sub((u128::from(old_full) - debt) * unit / u128::from(old_unit))
                }
                CarryOver::Proportional => (debt * full).div_ceil(old_full.into()),
                CarryOver::Additive => (debt * unit).div_ceil(old_unit.into()),
                _ => 0,
            };
            prop_assert_eq!(carried, exact.min(2 * full));
        }
    }

    #[test]
    fn windows_on_one_grid_and_logs_keep_their_counts_by_the_rule(
        (old, new) in pairs_of_windows(), start in 0..TEN_YEARS / 4, steps in calls(),
    ) {
        let (state, now) = after(&old, start, steps);
        let used = used(&old, &state, now);
        if used == 0 {
            return Ok(());
        }

        for kind in RULES {
            let carried = kind.carry(&old, &state, &new, 0, at(now));

            let exact = rule(kind, used, old.limit().into(), new.limit().into());
            let left = u128::from(new.limit()).saturating_sub(exact);
            prop_assert_eq!(u128::from(new.left(&carried, at(now)).remaining), left, "{:?}", kind);
        }
    }

    #[test]
    fn a_counter_on_the_same_window_keeps_its_counts_by_the_rule(
        old in 1_u64..5_000, new in 1_u64..5_000, length in lengths(),
        start in 0..TEN_YEARS / 4, steps in calls(),
    ) {
        let (old, new) = (SlidingWindow::new(old, length), SlidingWindow::new(new, length));
        let (old, new) = (Limit::from(old), Limit::from(new));
        let (state, now) = after(&old, start, steps);
        let used = used(&old, &state, now);
        if used == 0 {
            return Ok(());
        }

        for kind in RULES {
            let carried = kind.carry(&old, &state, &new, 0, at(now));
            let carried = u128::from(new.left(&carried, at(now)).remaining);

            // What is used is not whole; and each count is rounded for itself.
            let least = rule(kind, used - 1, old.limit().into(), new.limit().into());
            let left = u128::from(new.limit()).saturating_sub(least);
            prop_assert!(carried <= left, "{kind:?} gives {carried} where {left} are left");
            let most = rule(kind, used, old.limit().into(), new.limit().into()) + 2;
            prop_assert!(carried >= u128::from(new.limit()).saturating_sub(most));
        }
    }

    #[test]
    fn from_any_limit_to_any_other_no_rule_gives_more_than_it_says(
        old in retry::limits(), (new, queue) in retry::kinds(), hash: u64,
        start in 0..TEN_YEARS / 4, steps in calls(),
    ) {
        let (state, now) = after(&old, start, steps);
        let (was, is) = (at(now) + old.shift(hash), at(now) + new.shift(hash));
        let left = old.left(&state, was).remaining;
        let (limit, new_limit) = (u128::from(old.limit()), u128::from(new.limit()));

        for kind in RULES {
            let carried = kind.carry(&old, &state, &new, hash, at(now));
            let carried = u128::from(new.left(&carried, is).remaining);

            if old.debt(&state, was) == 0 || kind == CarryOver::Reset {
                prop_assert!(carried <= new_limit);
                continue;
            }
            // Up to one unit more is left than whole ones.
            let used = limit - (u128::from(left) + 1).min(limit);
            // A queue has room for part of one more.
            let room = new_limit + u128::from(queue);
            let left = room.saturating_sub(rule(kind, used, limit, room));
            prop_assert!(carried <= left, "{kind:?} gives {carried} where {left} are left");
        }
    }

    #[test]
    fn whoever_waits_goes_before_whoever_comes_after_the_change(
        rate in 1_u64..1_000, new_rate in 1_u64..1_000, burst in 1_u64..10, waiting in 1_u32..50,
    ) {
        let minute = Duration::from_secs(60);
        let old = Limit::from(LeakyBucket::new(rate, SECOND).wait(minute));
        let new = Limit::from(LeakyBucket::new(new_rate, SECOND).burst(burst).wait(100 * minute));
        let (mut state, now) = (LimitState::default(), at(0));
        let mut last = now;
        for _ in 0..waiting {
            if old.charge(&mut state, now, 1) {
                last = now + old.delay(&state, now, 1);
            }
        }

        for rule in RULES {
            let mut carried = rule.carry(&old, &state, &new, 0, now);
            if new.charge(&mut carried, now, 1) {
                let departure = now + new.delay(&carried, now, 1);
                let unit = Duration::from_nanos(SECOND.as_nanos() as u64 / new_rate);
                let apart = if waiting > 1 { unit } else { Duration::ZERO };
                prop_assert!(departure >= last + apart);
            }
        }
    }
}

#[test]
fn a_fresh_key_is_fresh_under_every_rule() {
    let (old, new) = (Limit::per_second(5), Limit::from(SlidingLog::new(9, SECOND)));
    for rule in RULES {
        let carried = rule.carry(&old, &LimitState::default(), &new, 7, at(1));
        let ruling = new.decide(&mut carried.clone(), at(1), 9);
        assert!(ruling.admitted());
    }
}
