//! Rounds: group 8.

use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use buttress_balance::{Node, Order, RoundRobin};
use proptest::collection::vec;
use proptest::prelude::*;

use crate::weighted;

fn rounds(nodes: &[Node]) -> RoundRobin {
    RoundRobin::new(nodes).expect("a round is laid out")
}

fn turn(rounds: &RoundRobin, turn: u64) -> usize {
    rounds.pick(turn, |_| true).expect("something is usable")
}

proptest! {
    #[test]
    fn any_window_of_a_rounds_length_has_each_share_exactly(weights in vec(0_u32..12, 1..8), from in 0_u64..1_000_000) {
        let total: u32 = weights.iter().sum();
        prop_assume!(total > 0);
        let rounds = rounds(&weighted(&weights));
        let length = rounds.turns() as u64;
        prop_assert_eq!(u64::from(total) % length, 0);

        let mut served = vec![0_u64; weights.len()];
        (from..from + length).for_each(|number| served[turn(&rounds, number)] += 1);
        for (&weight, served) in weights.iter().zip(served) {
            prop_assert_eq!(served * u64::from(total), u64::from(weight) * length);
        }
    }

    #[test]
    fn from_the_start_no_one_is_a_whole_turn_ahead_or_behind(weights in vec(0_u32..40, 1..10)) {
        let total: u64 = weights.iter().copied().map(u64::from).sum();
        prop_assume!(total > 0);
        let rounds = rounds(&weighted(&weights));

        let mut served = vec![0_u64; weights.len()];
        for number in 0..2 * total {
            served[turn(&rounds, number)] += 1;
            for (&weight, &served) in weights.iter().zip(&served) {
                // |served - ideal| < 1, times the total.
                let ideal = u64::from(weight) * (number + 1);
                prop_assert!((served * total).abs_diff(ideal) < total, "{} after {} turns", served, number + 1);
            }
        }
    }
}

#[test]
fn turns_of_the_heavy_one_are_spread_over_the_round() {
    let rounds = rounds(&weighted(&[5, 1, 1]));
    let order: Vec<usize> = (0..7).map(|number| turn(&rounds, number)).collect();
    assert_eq!(order, [0, 0, 0, 1, 0, 0, 2]);
}

#[test]
fn weights_with_a_common_divisor_make_a_short_round() {
    assert_eq!(rounds(&weighted(&[300, 200, 100])).turns(), 6);
    assert_eq!(rounds(&weighted(&[7; 4])).turns(), 4);
}

/// The cursor is all that clones share.
#[test]
fn threads_that_share_a_cursor_share_the_turns_fairly() {
    let rounds = rounds(&weighted(&[1, 2, 3]));
    let cursor = AtomicU64::new(0);
    let served = [0; 3].map(AtomicU64::new);
    thread::scope(|threads| {
        for _ in 0..8 {
            let (rounds, cursor, served) = (rounds.clone(), &cursor, &served);
            threads.spawn(move || {
                for _ in 0..600 {
                    let number = cursor.fetch_add(1, Ordering::Relaxed);
                    served[turn(&rounds, number)].fetch_add(1, Ordering::Relaxed);
                }
            });
        }
    });
    assert_eq!(served.map(AtomicU64::into_inner), [800, 1600, 2400]);
}

#[test]
fn the_turns_of_one_that_is_down_do_not_all_fall_to_its_neighbour() {
    let rounds = rounds(&weighted(&[1; 10]));
    let mut served = [0; 10];
    (0..10_000).for_each(|number| served[rounds.pick(number, |at| at != 3).unwrap()] += 1);

    assert_eq!(served[3], 0);
    for (at, served) in served.into_iter().enumerate().filter(|&(at, _)| at != 3) {
        assert!((1080..1145).contains(&served), "{at} served {served}");
    }
}

#[test]
fn a_cursor_may_wrap() {
    let rounds = rounds(&weighted(&[1, 2, 3]));
    assert!([u64::MAX - 1, u64::MAX].into_iter().all(|number| turn(&rounds, number) < 3));
}
