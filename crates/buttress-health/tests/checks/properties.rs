//! What holds of a check whatever endpoints, clocks and configurations do.
//!
//! A few hundred schedules by default, and many by
//! `BUTTRESS_FULL_PROPERTIES=1 cargo test --release -p buttress-health --test checks`.

use std::collections::HashSet;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Waker};
use std::time::Duration;

use buttress_core::{Activity, Endpoint, Endpoints, Health, ManualClock, Timestamp};
use buttress_health::{Check, Checker, Failure, HealthCheck, ProbeReport, Recorded};
use proptest::prelude::*;
use proptest::test_runner::FileFailurePersistence;
use tokio::sync::oneshot;

use super::{at, ms, secs};

fn cases(small: u32, many: u32) -> ProptestConfig {
    let full = std::env::var_os("BUTTRESS_FULL_PROPERTIES").is_some_and(|value| value == "1");
    ProptestConfig {
        cases: if full { many } else { small },
        failure_persistence: Some(Box::new(FileFailurePersistence::WithSource("regressions"))),
        ..ProptestConfig::default()
    }
}

#[derive(Clone, Debug)]
enum Step {
    Result { passes: bool, degraded: bool, at_once: bool, late: bool },
    Wait { chance: u64 },
    Pass(u32),
    Reconfigure,
    Retarget,
    On(Duration),
    Jump(u64),
}

fn step() -> impl Strategy<Value = Step> {
    let result = (any::<bool>(), any::<bool>(), prop::bool::weighted(0.1), prop::bool::weighted(0.1))
        .prop_map(|(passes, degraded, at_once, late)| Step::Result { passes, degraded, at_once, late });
    prop_oneof![
        20 => result,
        6 => any::<u64>().prop_map(|chance| Step::Wait { chance }),
        6 => (1..20_u32).prop_map(Step::Pass),
        1 => Just(Step::Reconfigure),
        1 => Just(Step::Retarget),
        6 => (0..2_000_u64).prop_map(|seconds| Step::On(secs(seconds))),
        1 => any::<u64>().prop_map(Step::Jump),
    ]
}

proptest! {
    #![proptest_config(cases(400, 200_000))]

    /// The state flips only after so many opposite results in a row, of this epoch; flap damping asks for 16 passes at
    /// most, and holds back for five minutes at most.
    #[test]
    fn the_state_flips_only_after_opposite_results_in_a_row_and_damping_is_bounded(
        fails in 1..6_u32,
        passes in 1..20_u32,
        interval in 1..120_u64,
        steps in prop::collection::vec(step(), 1..120),
    ) {
        let check = HealthCheck::tcp().unhealthy_threshold(fails).healthy_threshold(passes).interval(secs(interval));
        let rules = check.rules().unwrap();
        let mut check = Check::new();
        let mut now = at(1_000);
        let (mut in_a_row, mut first, mut epochs) = (0_u32, true, vec![check.epoch()]);

        for step in steps {
            let before = check.health();
            let up = |health| matches!(health, Health::Healthy | Health::Degraded);
            match step {
                Step::Result { passes: ok, degraded, at_once, late } => {
                    let mut report = match (ok, degraded) {
                        (true, true) => ProbeReport::degraded(),
                        (true, false) => ProbeReport::pass(),
                        (false, _) => ProbeReport::fail(Failure::Timeout),
                    };
                    if at_once {
                        report = report.at_once();
                    }
                    if late && epochs.len() > 1 {
                        let former = epochs[epochs.len() - 2];
                        prop_assert_eq!(check.record(&rules, former, report, now), Recorded::Late);
                        prop_assert_eq!(check.health(), before);
                        continue;
                    }
                    check.record(&rules, check.epoch(), report, now);
                    prop_assert_ne!(check.health(), Health::Unknown);
                    let opposite = up(before) != ok;
                    in_a_row = if opposite { in_a_row + 1 } else { 0 };
                    let flipped = up(before) != up(check.health());
                    if flipped && !first {
                        prop_assert!(opposite);
                        let asked = if ok { passes } else { fails };
                        prop_assert!(at_once || in_a_row >= asked);
                    }
                    if !first && up(before) && !ok && (at_once || in_a_row >= fails) {
                        prop_assert!(flipped, "nothing holds up an endpoint that fails");
                    }
                    if first {
                        prop_assert_eq!(up(check.health()), ok, "the first result decides");
                    }
                    if flipped || first {
                        in_a_row = 0;
                    }
                    if ok && up(check.health()) {
                        prop_assert_eq!(check.health() == Health::Degraded, degraded);
                    }
                    first = false;
                }
                Step::Wait { chance } => {
                    let wait = check.wait(&rules, Activity::default(), now, chance);
                    prop_assert!(wait <= secs(interval).max(secs(30)).mul_f64(1.1));
                }
                Step::Pass(times) => {
                    // A row of passes that lasts for more than five minutes.
                    for _ in 0..times.max(16).max(passes) {
                        check.record(&rules, check.epoch(), ProbeReport::pass(), now);
                        now += secs(20);
                    }
                    check.record(&rules, check.epoch(), ProbeReport::pass(), now);
                    prop_assert_eq!(check.health(), Health::Healthy, "it is held down no longer");
                    (in_a_row, first) = (0, false);
                }
                Step::Reconfigure => {
                    check.reconfigure();
                    prop_assert_eq!(check.health(), before);
                    in_a_row = 0;
                    epochs.push(check.epoch());
                }
                Step::Retarget => {
                    check.retarget();
                    prop_assert_eq!(check.health(), before);
                    (in_a_row, first) = (0, true);
                    epochs.push(check.epoch());
                }
                Step::On(by) => now += by,
                Step::Jump(to) => now = Timestamp::from_nanos(to),
            }
        }
    }
}

#[derive(Clone, Copy, Debug)]
enum Act {
    Add(u8),
    Remove(u8),
    Weigh(u8, u32),
    Move(u8, u8),
    On(u64),
    Back(u64),
    End { which: usize, passes: bool },
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        2 => (0..8_u8).prop_map(Act::Add),
        2 => (0..8_u8).prop_map(Act::Remove),
        1 => (0..8_u8, 0..4_u32).prop_map(|(name, weight)| Act::Weigh(name, weight)),
        1 => (0..8_u8, 0..4_u8).prop_map(|(name, to)| Act::Move(name, to)),
        8 => (0..3_000_u64).prop_map(Act::On),
        1 => (0..100_000_u64).prop_map(Act::Back),
        12 => (any::<usize>(), any::<bool>()).prop_map(|(which, passes)| Act::End { which, passes }),
    ]
}

struct Pending {
    name: String,
    address: String,
    end: oneshot::Sender<bool>,
}

const MOST: usize = 3;

struct World {
    time: ManualClock,
    endpoints: Endpoints,
    checker: Pin<Box<Checker>>,
    pending: Arc<Mutex<Vec<Pending>>>,
}

impl World {
    fn new(seed: u64) -> Self {
        let (time, endpoints) = (ManualClock::new(), Endpoints::new([]).unwrap());
        time.set(at(100_000));
        let pending = Arc::new(Mutex::new(Vec::new()));
        let held = Arc::clone(&pending);
        let check = HealthCheck::with(move |endpoint: Endpoint| {
            let (end, ended) = oneshot::channel();
            let (name, address) = (endpoint.name().to_string(), endpoint.address().to_string());
            held.lock().unwrap().push(Pending { name, address, end });
            // Its end is never seen when it is dropped first.
            async move { ended.await.unwrap_or(false) }
        });
        let check = check.clock(time.clock()).seed(seed).max_concurrent_probes(MOST);
        let checker = Box::pin(check.run(&endpoints).unwrap());
        Self { time, endpoints, checker, pending }
    }

    fn act(&mut self, act: Act) {
        let now = self.time.now();
        let name = |number: u8| format!("e{number}");
        let is_there = |number: u8| self.endpoints.get(&name(number)).is_some();
        match act {
            Act::Add(number) if !is_there(number) => self.endpoints.insert(Endpoint::new(name(number)), now),
            Act::Remove(number) => {
                self.endpoints.remove(&name(number), now);
            }
            Act::Weigh(number, weight) if is_there(number) => {
                let present = self.endpoints.get(&name(number)).unwrap();
                let address = present.address().clone();
                let next = Endpoint::new(name(number)).with_address(address).with_weight(weight);
                self.endpoints.insert(next, now);
            }
            Act::Move(number, to) if is_there(number) => {
                self.endpoints.insert(Endpoint::new(name(number)).with_address(format!("at{to}")), now);
            }
            Act::On(millis) => self.time.advance(ms(millis)),
            Act::Back(millis) => self.time.set(now - ms(millis)),
            Act::End { which, passes } => {
                let mut pending = self.pending.lock().unwrap();
                if !pending.is_empty() {
                    let which = which % pending.len();
                    let _ = pending.swap_remove(which).end.send(passes);
                }
            }
            _ => {}
        }
    }

    fn poll(&mut self) {
        let _ = self.checker.as_mut().poll(&mut Context::from_waker(Waker::noop()));
        self.pending.lock().unwrap().retain(|pending| !pending.end.is_closed());
    }
}

proptest! {
    #![proptest_config(cases(60, 50_000))]

    /// No endpoint is probed that is not in the list, nor twice at a time, nor more of them than may be; and none is
    /// forgotten.
    #[test]
    fn who_is_in_the_list_is_probed_once_at_a_time_and_nobody_else(
        seed in any::<u64>(),
        acts in prop::collection::vec(act(), 1..200),
    ) {
        let mut world = World::new(seed);
        for act in acts {
            world.act(act);
            world.poll();

            let list = world.endpoints.list();
            let pending = world.pending.lock().unwrap();
            prop_assert!(pending.len() <= MOST);
            let mut seen = HashSet::new();
            for probe in &*pending {
                let endpoint = list.iter().find(|endpoint| endpoint.name().as_str() == probe.name);
                prop_assert!(endpoint.is_some(), "{} is gone", probe.name);
                prop_assert_eq!(endpoint.unwrap().address().as_str(), &probe.address, "of the present target");
                prop_assert!(seen.insert(probe.name.clone()), "{} is probed twice", probe.name);
            }
            drop(pending);
            let views = world.checker.handle().endpoints();
            prop_assert_eq!(views.len(), list.len());
            for view in views {
                let endpoint = world.endpoints.get(view.name.as_str()).unwrap();
                prop_assert_eq!(endpoint.condition().health(), view.health);
            }
        }

        // Left alone, with all probes passing, all are healthy in the end.
        for _ in 0..2_000 {
            world.act(Act::On(500));
            world.poll();
            while !world.pending.lock().unwrap().is_empty() {
                world.act(Act::End { which: 0, passes: true });
                world.poll();
            }
        }
        for endpoint in world.endpoints.list().iter() {
            prop_assert_eq!(endpoint.condition().health(), Health::Healthy, "{:?}", endpoint);
        }
    }
}
