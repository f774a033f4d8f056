//! Group 5: no endpoint is given more than its bound, and every call finds a place.

use std::sync::Barrier;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::thread;

use buttress_balance::{BoundedLoad, ConsistentHash, HashRing, Loads, Node, Order};
use proptest::collection::vec;
use proptest::prelude::*;

struct InFlight(Vec<AtomicU32>, AtomicUsize);

impl InFlight {
    fn of(endpoints: usize) -> Self {
        Self((0..endpoints).map(|_| AtomicU32::new(0)).collect(), AtomicUsize::new(0))
    }

    fn at(&self, endpoint: usize) -> u64 {
        self.0[endpoint].load(Ordering::SeqCst).into()
    }

    fn sum(&self) -> u64 {
        (0..self.0.len()).map(|at| self.at(at)).sum()
    }
}

impl Loads for InFlight {
    fn load(&self, endpoint: usize) -> &AtomicU32 {
        &self.0[endpoint]
    }

    fn total(&self) -> &AtomicUsize {
        &self.1
    }
}

fn nodes(weights: &[u32]) -> Vec<Node> {
    weights
        .iter()
        .enumerate()
        .map(|(at, &weight)| Node::new(format!("10.0.0.{at}:443")).weight(weight))
        .collect()
}

fn ring(nodes: &[Node]) -> HashRing {
    ConsistentHash::ring().build(nodes).expect("these endpoints make a ring")
}

/// The bound as the paper has it, in floating point; the factors of these tests are exact in it.
fn most(factor: f64, total: u64, weight: u32, weights: u64) -> u64 {
    (factor * total as f64 * f64::from(weight) / weights as f64).ceil().max(1.0) as u64
}

#[derive(Clone, Debug)]
enum Act {
    Arrive(u64),
    /// The call that was placed so long ago ends.
    End(usize),
    /// An endpoint goes down or comes up.
    Flip(usize),
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let act = prop_oneof![
        // Few keys: hot ones.
        6 => (0_u64..4).prop_map(|key| Act::Arrive(key << 62)),
        2 => any::<u64>().prop_map(Act::Arrive),
        3 => any::<usize>().prop_map(Act::End),
        1 => any::<usize>().prop_map(Act::Flip),
    ];
    vec(act, 0..200)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn no_call_is_placed_above_the_bound_and_each_is_placed_while_something_is_up(
        weights in vec(1_u32..6, 1..8),
        factor in prop_oneof![Just(1.0), Just(1.25), Just(1.5), Just(2.0)],
        acts in acts(),
    ) {
        let nodes = nodes(&weights);
        let (ring, bound, loads) = (ring(&nodes), BoundedLoad::new(factor, &nodes).unwrap(), InFlight::of(nodes.len()));
        let mut up = vec![true; nodes.len()];
        let mut calls = Vec::new();
        for act in acts {
            match act {
                Act::Flip(at) => up[at % weights.len()] ^= true,
                Act::End(at) if !calls.is_empty() => bound.release(calls.remove(at % calls.len()), &loads),
                Act::End(_) => {}
                Act::Arrive(hash) => {
                    let weight = (0..up.len()).filter(|&at| up[at]).map(|at| u64::from(weights[at])).sum();
                    let before = loads.sum();
                    let placed = bound.place(&ring, hash, &loads, weight, |at| up[at]);
                    prop_assert_eq!(placed.is_some(), up.contains(&true));
                    let Some(at) = placed else {
                        prop_assert_eq!(loads.sum(), before);
                        continue;
                    };
                    calls.push(at);
                    let bound_now = most(factor, before + 1, weights[at], weight);
                    prop_assert!(up[at] && loads.at(at) <= bound_now, "{} at {}, bound {}", loads.at(at), at, bound_now);
                    prop_assert_eq!(bound.most(at, before as usize + 1, weight), bound_now);

                    // It is the first of its candidates that had room.
                    for earlier in ring.candidates(hash).take_while(|&other| other != at).filter(|&other| up[other]) {
                        prop_assert!(loads.at(earlier) >= most(factor, before + 1, weights[earlier], weight));
                    }
                }
            }
            prop_assert_eq!(loads.sum(), calls.len() as u64);
            prop_assert_eq!(loads.1.load(Ordering::SeqCst), calls.len());
        }
    }
}

#[test]
fn bounds_of_all_endpoints_hold_one_call_more_than_there_are() {
    let nodes = nodes(&[1, 7, 100, 3]);
    let bound = BoundedLoad::new(1.0, &nodes).unwrap();
    for total in 0..1000 {
        let all: u64 = (0..4).map(|at| bound.most(at, total + 1, bound.weight())).sum();
        assert!(all > total as u64);
    }
}

#[test]
fn a_weight_that_is_out_of_date_loses_no_call() {
    let nodes = nodes(&[1; 4]);
    let (ring, bound, loads) = (ring(&nodes), BoundedLoad::new(1.0, &nodes).unwrap(), InFlight::of(4));
    // Three of four are down, and the caller has not counted that yet.
    for _ in 0..100 {
        assert_eq!(bound.place(&ring, 7, &loads, bound.weight(), |at| at == 2), Some(2));
    }
}

#[test]
fn counters_that_do_not_add_up_end_in_no_place_and_not_in_a_loop() {
    let nodes = nodes(&[1; 4]);
    let (ring, bound, loads) = (ring(&nodes), BoundedLoad::new(1.0, &nodes).unwrap(), InFlight::of(4));
    loads.0.iter().for_each(|load| load.store(1000, Ordering::SeqCst));

    assert_eq!(bound.place(&ring, 7, &loads, bound.weight(), |_| true), None);
    assert_eq!((loads.sum(), loads.1.load(Ordering::SeqCst)), (4000, 0));
}

#[test]
fn a_hot_key_fills_its_candidates_in_order() {
    let nodes = nodes(&[1; 10]);
    let (ring, bound, loads) = (ring(&nodes), BoundedLoad::new(1.25, &nodes).unwrap(), InFlight::of(10));
    let order: Vec<usize> = ring.candidates(99).collect();

    for call in 1..=100_u64 {
        let at = bound.place(&ring, 99, &loads, bound.weight(), |_| true).unwrap();
        assert!(loads.at(at) <= (call as f64 * 0.125).ceil() as u64);
    }

    // From 97 calls on the bound is 13, and it was 12 before: the first have taken another call each.
    let filled: Vec<u64> = order.iter().map(|&at| loads.at(at)).collect();
    assert_eq!(filled, [13, 13, 13, 13, 12, 12, 12, 12, 0, 0]);
}

#[test]
fn a_call_whose_choice_panics_is_not_counted() {
    let nodes = nodes(&[1; 3]);
    let (ring, bound, loads) = (ring(&nodes), BoundedLoad::new(1.25, &nodes).unwrap(), InFlight::of(3));
    let place = || bound.place(&ring, 7, &loads, bound.weight(), |_| panic!("the caller's mistake"));
    assert!(std::panic::catch_unwind(std::panic::AssertUnwindSafe(place)).is_err());
    assert_eq!((loads.sum(), loads.1.load(Ordering::SeqCst)), (0, 0));
}

const THREADS: usize = 8;

/// Calls that stay: the total only grows, so a bound that held once holds from then on, and each thread can look.
#[test]
fn eight_threads_that_place_at_once_keep_every_bound() {
    for factor in [1.0, 1.25] {
        for round in 0..50_u64 {
            let weights = [1, 2, 3, 1, 1];
            let nodes = nodes(&weights);
            let (ring, bound) = (ring(&nodes), BoundedLoad::new(factor, &nodes).unwrap());
            let loads = InFlight::of(nodes.len());
            // What was admitted, apart from the places that are taken for a moment only.
            let admitted = InFlight::of(nodes.len());
            let start = Barrier::new(THREADS);
            thread::scope(|threads| {
                for thread in 0..THREADS as u64 {
                    let (ring, bound, loads, admitted, start) = (&ring, &bound, &loads, &admitted, &start);
                    threads.spawn(move || {
                        start.wait();
                        for call in 0..40 {
                            let hash = if call % 4 == 0 { thread << 61 } else { round << 40 };
                            let at =
                                bound.place(ring, hash, loads, bound.weight(), |_| true).expect("all are up");
                            admitted.0[at].fetch_add(1, Ordering::SeqCst);
                            for (at, &weight) in weights.iter().enumerate() {
                                let load = admitted.at(at);
                                let total = loads.1.load(Ordering::SeqCst) as u64;
                                assert!(load <= most(factor, total, weight, bound.weight()));
                            }
                        }
                    });
                }
            });
            assert_eq!(loads.sum(), 40 * THREADS as u64);
            assert_eq!(loads.1.load(Ordering::SeqCst), 40 * THREADS);
            for (at, &weight) in weights.iter().enumerate() {
                assert_eq!(loads.at(at), admitted.at(at));
                assert!(loads.at(at) <= most(factor, 40 * THREADS as u64, weight, bound.weight()));
            }
        }
    }
}

/// Calls that come and go: each finds a place, and none is left behind.
#[test]
fn eight_threads_that_come_and_go_leave_nothing_behind() {
    let nodes = nodes(&[1; 3]);
    let (ring, bound, loads) = (ring(&nodes), BoundedLoad::new(1.0, &nodes).unwrap(), InFlight::of(3));
    thread::scope(|threads| {
        for thread in 0..THREADS as u64 {
            let (ring, bound, loads) = (&ring, &bound, &loads);
            threads.spawn(move || {
                let mut held = Vec::new();
                for call in 0..3000 {
                    held.push(
                        bound
                            .place(ring, (call % 3) << 62, loads, bound.weight(), |_| true)
                            .expect("all are up"),
                    );
                    if (call + thread) % 3 > 0 {
                        bound.release(held.swap_remove(call as usize % held.len()), loads);
                    }
                    if held.len() > 20 {
                        held.drain(..).for_each(|at| bound.release(at, loads));
                    }
                }
                held.into_iter().for_each(|at| bound.release(at, loads));
            });
        }
    });
    assert_eq!((loads.sum(), loads.1.load(Ordering::SeqCst)), (0, 0));
}
