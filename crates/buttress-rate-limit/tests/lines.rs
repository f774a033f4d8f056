//! Who goes when of the calls that wait, on a clock that the test moves.

use std::sync::Arc;
use std::time::Duration;

use buttress_core::ManualClock;
use buttress_rate_limit::{Limit, RateLimitLayer};
use buttress_testkit::{StrictHandle, StrictService, Task};
use tower::Service;
use tower_layer::Layer;

const TENTH: Duration = Duration::from_millis(100);

fn echo() -> (StrictService<u32, u32>, StrictHandle) {
    StrictService::new(|n| n)
}

/// Ten a second, one after the other.
fn even(time: &ManualClock) -> RateLimitLayer {
    RateLimitLayer::per_second(10).burst(1).wait(Duration::from_secs(1_000)).queue(2_000).clock(time.clock())
}

/// Polls those that are still there, and says how many are not yet done.
fn run<F: Future>(tasks: &mut Vec<Task<F>>) -> usize {
    tasks.retain_mut(|task| task.run().is_pending());
    tasks.len()
}

mod after_a_reset {
    use super::*;

    #[test]
    fn those_that_wait_go_before_newcomers_and_at_the_rate() {
        let (time, (inner, watch)) = (ManualClock::new(), echo());
        let layer = even(&time);
        let mut service = layer.layer(inner);
        let mut tasks: Vec<_> = (0..4).map(|n| Task::new(service.call(n))).collect();
        assert_eq!(run(&mut tasks), 3);

        layer.handle().reset();
        let mut newcomer = vec![Task::new(service.call(4))];

        assert!(tasks.iter().all(Task::is_woken));
        for left in [2, 1, 0] {
            assert_eq!((run(&mut newcomer), run(&mut tasks)), (1, left), "after {} calls", watch.calls());
            time.advance(TENTH);
        }
        assert_eq!((run(&mut newcomer), watch.calls()), (0, 5));
    }

    #[test]
    fn a_fresh_burst_goes_at_once_and_the_rest_can_still_be_given_back() {
        let (time, (inner, watch)) = (ManualClock::new(), echo());
        let layer = RateLimitLayer::new(Limit::per_second(10).burst(2)).queue(8).clock(time.clock());
        let mut service = layer.layer(inner);
        let mut tasks: Vec<_> = (0..8).map(|n| Task::new(service.call(n))).collect();
        assert_eq!(run(&mut tasks), 6);

        layer.handle().reset();

        assert_eq!((run(&mut tasks), watch.calls()), (4, 4));
        drop(tasks);
        assert_eq!(layer.handle().snapshot().abandoned, 4);
        time.advance(TENTH);
        assert!(Task::new(service.call(9)).run().is_ready(), "what four calls held is there again");
    }
}

mod giving_up {
    use super::*;

    #[test]
    fn wakes_the_next_one_and_nobody_else() {
        let time = ManualClock::new();
        let mut service = even(&time).layer(echo().0);
        let mut tasks: Vec<_> = (0..1_001).map(|n| Task::new(service.call(n))).collect();
        assert_eq!(run(&mut tasks), 1_000);
        let wakes = |tasks: &[Task<_>]| tasks.iter().map(|task| task.counter().wakes()).sum::<usize>();
        let before = wakes(&tasks);

        drop(tasks.remove(500));

        assert!(tasks[500].is_woken());
        assert_eq!(wakes(&tasks), before + 1);
        let counters: Vec<_> = tasks.iter().map(|task| Arc::clone(task.counter())).collect();
        tasks.into_iter().for_each(drop);
        let all: usize = counters.iter().map(|counter| counter.wakes()).sum();
        assert!(all <= before + 1_001, "{all} wakes as a thousand give up from the front");
    }

    #[test]
    fn moves_all_behind_up_who_hear_of_it_when_they_are_next() {
        let (time, (inner, watch)) = (ManualClock::new(), echo());
        let mut service = even(&time).layer(inner);
        let mut tasks: Vec<_> = (0..11).map(|n| Task::new(service.call(n))).collect();
        assert_eq!(run(&mut tasks), 10);

        // Every second one.
        let mut kept = 0;
        tasks.retain(|_| {
            kept += 1;
            kept % 2 == 0
        });

        for gone in 1..=5 {
            time.advance(TENTH);
            // Only who is woken is polled, as a runtime does it.
            for _ in 0..2 {
                tasks.retain_mut(|task| !task.is_woken() || task.run().is_pending());
            }
            assert_eq!(watch.calls(), 1 + gone);
        }
    }

    #[test]
    fn a_call_that_is_not_polled_keeps_nobody_longer_than_was_told_at_first() {
        let (time, (inner, watch)) = (ManualClock::new(), echo());
        let mut service = even(&time).layer(inner);
        let mut tasks: Vec<_> = (0..5).map(|n| Task::new(service.call(n))).collect();
        assert_eq!(run(&mut tasks), 4);

        drop(tasks.remove(0));
        let _asleep = tasks.remove(0);

        time.advance(TENTH * 4);
        tasks.retain_mut(|task| !task.is_woken() || task.run().is_pending());
        assert_eq!((tasks.len(), watch.calls()), (0, 3));
    }
}
