//! Many threads note in one load.

use std::sync::Barrier;
use std::thread;

use buttress_balance::{Ended, LeastLoad, Load, Policy};
use buttress_core::Outcome;

use crate::{Farm, START, ms};

const THREADS: u64 = 8;
const CALLS: u64 = 20_000;

#[test]
fn eight_threads_lose_no_byte_no_call_and_no_peak() {
    let (peak, bytes) = (LeastLoad::peak_ewma(), LeastLoad::bandwidth());
    let (load, start) = (Load::new(1), Barrier::new(THREADS as usize));
    let failure = Outcome::failure().with_retry_after(ms(200_000));
    thread::scope(|scope| {
        for thread in 0..THREADS {
            let (peak, bytes, load, start, failure) = (&peak, &bytes, &load, &start, &failure);
            scope.spawn(move || {
                start.wait();
                for call in 0..CALLS {
                    let now = START + ms(call / 10);
                    load.enter();
                    let is_last = thread == 3 && call == CALLS - 1;
                    let outcome = if is_last { failure } else { &Outcome::success() };
                    peak.ended(load, &Ended::new(now - ms(1 + thread), now, Some(outcome)));
                    bytes.received(load, 3, now);
                    load.leave();
                }
            });
        }
    });

    let (end, farm) = (START + ms(CALLS / 10), Farm::new(&[1]));
    assert_eq!(load.in_flight(), 0);
    assert_eq!(farm.picker(&bytes).score(&load, end), (THREADS * CALLS * 3) as f64);
    let score = farm.picker(&peak).score(&load, end);
    assert!((195e9..=200.1e9).contains(&score), "{score}");
}
