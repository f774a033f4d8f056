//! Counts of many threads.

use std::sync::Barrier;
use std::thread;

use buttress_core::Counters;

const EACH: u64 = 1_000;

#[test]
fn the_counts_of_all_threads_add_up_where_they_outnumber_the_lines_of_their_own() {
    const THREADS: u64 = 100;
    let (counters, all_there) = (Counters::<3>::new(), Barrier::new(THREADS as usize));

    thread::scope(|threads| {
        for _ in 0..THREADS {
            threads.spawn(|| {
                counters.add_one(0);
                all_there.wait();
                (1..EACH).for_each(|_| counters.add_one(0));
                counters.add_one(2);
            });
        }
    });

    assert_eq!([0, 1, 2].map(|index| counters.sum(index)), [THREADS * EACH, 0, THREADS]);
}

#[test]
fn what_a_thread_counted_stays_when_another_takes_its_line() {
    let counters = Counters::<1>::new();

    for _ in 0..100 {
        thread::scope(|threads| _ = threads.spawn(|| counters.add_one(0)));
    }

    assert_eq!(counters.sum(0), 100);
}
