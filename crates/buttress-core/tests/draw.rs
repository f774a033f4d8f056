//! Numbers by chance.

use std::collections::HashSet;
use std::thread;

use buttress_core::{Chance, draw};

#[test]
fn a_seed_gives_the_numbers_of_split_mix_64() {
    // Those of the reference implementation, <https://prng.di.unimi.it/splitmix64.c>, for the seed 1234567.
    let chance = Chance::new(Some(1_234_567));

    let numbers = [(); 3].map(|()| chance.draw());

    assert_eq!(numbers, [6_457_827_717_110_365_317, 3_203_168_211_198_807_973, 9_817_491_932_198_370_423]);
}

#[test]
fn threads_that_share_a_sequence_draw_each_of_its_numbers_once() {
    let (alone, shared) = (Chance::new(Some(1)), Chance::new(Some(1)));
    let draws = || (0..1000).map(|_| shared.draw()).collect::<Vec<u64>>();

    let drawn: HashSet<u64> = thread::scope(|scope| {
        let threads = [(); 4].map(|()| scope.spawn(draws));
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });

    assert_eq!(drawn, (0..4000).map(|_| alone.draw()).collect());
}

#[test]
fn without_a_seed_no_thread_repeats_what_another_has_drawn() {
    let draws = || (0..500).flat_map(|_| [draw(), Chance::default().draw()]).collect::<Vec<u64>>();

    let drawn: HashSet<u64> = thread::scope(|scope| {
        let threads = [(); 4].map(|()| scope.spawn(draws));
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });

    assert_eq!(drawn.len(), 4000);
}
