//! What holds of a detection whatever calls, clocks, checks, lists and people do.
//!
//! A few hundred schedules by default, and many more by
//! `BUTTRESS_FULL_PROPERTIES=1 cargo test --release -p buttress-health --test outlier properties`.

use std::collections::HashMap;
use std::sync::OnceLock;

use super::*;
use buttress_core::Timestamp;
use proptest::prelude::*;
use proptest::test_runner::FileFailurePersistence;

const NAMES: [&str; 12] = ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l"];
const BASE: Duration = Duration::from_secs(30);
const LONGEST: Duration = Duration::from_secs(100);
const JITTER: Duration = Duration::from_secs(4);
/// Grown no further than to the longest time.
const MOST_TIMES: u32 = 4;

#[derive(Clone, Debug)]
enum Step {
    Calls(usize, Reply, usize),
    Pass(u64),
    Check(usize, Health),
    Drain(usize),
    Resume(usize),
    Eject(usize),
    Uneject(usize),
    CheckPassed(usize),
    /// These are in the list from now on, and each is of this priority.
    List(Vec<(usize, u32)>),
}

fn step() -> impl Strategy<Value = Step> {
    let at = 0..NAMES.len();
    let reply = prop_oneof![3 => Just(Failed), 2 => Just(Good), 1 => Just(Gateway), 1 => Just(Nothing), 1 => Just(Soft)];
    let health = prop_oneof![Just(Health::Healthy), Just(Health::Unhealthy), Just(Health::Degraded)];
    prop_oneof![
        12 => (at.clone(), reply, 1..40_usize).prop_map(|(at, reply, count)| Step::Calls(at, reply, count)),
        4 => (1..40_000_u64).prop_map(Step::Pass),
        2 => (at.clone(), health).prop_map(|(at, health)| Step::Check(at, health)),
        1 => at.clone().prop_map(Step::Drain),
        1 => at.clone().prop_map(Step::Resume),
        2 => at.clone().prop_map(Step::Eject),
        1 => at.clone().prop_map(Step::Uneject),
        1 => at.prop_map(Step::CheckPassed),
        1 => list().prop_map(Step::List),
    ]
}

fn list() -> impl Strategy<Value = Vec<(usize, u32)>> {
    proptest::collection::btree_map(0..NAMES.len(), 0..3_u32, 0..=NAMES.len())
        .prop_map(|list| list.into_iter().collect())
}

fn endpoints_of(list: &[(usize, u32)]) -> Vec<Endpoint> {
    list.iter().map(|&(at, priority)| Endpoint::new(NAMES[at]).with_priority(priority)).collect()
}

fn detection(percent: u32, enforced: u32, seed: u64) -> OutlierDetection {
    OutlierDetection::default()
        .base_ejection_time(BASE)
        .max_ejection_time(LONGEST)
        .max_ejection_time_jitter(JITTER)
        .max_ejection_percent(percent)
        .success_rate_request_volume(10)
        .success_rate_minimum_hosts(3)
        .failure_percentage_request_volume(10)
        .failure_percentage_minimum_hosts(2)
        .enforcing(EjectionReason::FailurePercentage, enforced)
        .enforcing(EjectionReason::Consecutive5xx, enforced)
        .seed(seed)
}

/// Looks on at each event: this is outside every lock, and nothing else runs.
fn look(endpoints: &Endpoints, event: &HealthEvent<'_>, wrong: &mut Vec<String>) {
    let HealthEvent::Ejected { endpoint, time, times, .. } = event else { return };
    let list = endpoints.list();
    let others = || list.iter().filter(|other| other.priority() == endpoint.priority());
    if !others().any(|other| other.condition().is_usable()) {
        wrong.push(format!("{} was the last usable one", endpoint.name()));
    }
    if *time > LONGEST + JITTER || *time < BASE || !(1..=MOST_TIMES).contains(times) {
        wrong.push(format!("{} is out for {time:?}, the {times}. time", endpoint.name()));
    }
}

/// What was told, after a schedule in which nothing was wrong.
fn play(percent: u32, enforced: u32, seed: u64, first: &[(usize, u32)], steps: &[Step]) -> Vec<String> {
    let (time, told, wrong) =
        (ManualClock::new(), Arc::new(Mutex::new(Vec::new())), Arc::new(Mutex::new(Vec::new())));
    let endpoints = Endpoints::new(endpoints_of(first)).unwrap();
    let (tell, watched, seen) = (Arc::clone(&told), endpoints.clone(), Arc::clone(&wrong));
    let outliers = detection(percent, enforced, seed)
        .clock(time.clock())
        .observe(move |event| {
            look(&watched, event, &mut seen.lock().unwrap());
            tell.lock().unwrap().push(line(event));
        })
        .follow(&endpoints);
    let handle = outliers.handle();

    for step in steps {
        apply(step, &endpoints, &outliers, &time);
        // Whoever looks brings it up to date, with the list and the conditions as they are.
        let out = handle.ejected();
        let (list, now) = (endpoints.list(), time.now());
        assert_eq!(*wrong.lock().unwrap(), Vec::<String>::new(), "after {step:?}");
        check_shares(&list, percent);
        for ejected in &out {
            assert!(ejected.endpoint.condition().is_ejected());
            assert!(ejected.until > now, "{ejected:?} is over at {now}");
            assert!(ejected.until - ejected.since <= LONGEST + JITTER);
        }
        let by_condition = list.iter().filter(|endpoint| endpoint.condition().is_ejected()).count();
        assert_eq!(out.len(), by_condition, "every ejection is one that will end");
        for endpoint in list.iter() {
            assert!(handle.view(endpoint.name()).unwrap().multiplier <= MOST_TIMES);
        }
    }
    time.advance(LONGEST + JITTER);
    assert!(handle.ejected().is_empty(), "every ejection ends");
    told.lock().unwrap().clone()
}

fn apply(step: &Step, endpoints: &Endpoints, outliers: &Outliers, time: &ManualClock) {
    let (handle, now) = (outliers.handle(), time.now());
    let on = |at: usize, act: &dyn Fn(&Endpoint)| {
        if let Some(endpoint) = endpoints.get(NAMES[at]) {
            act(&endpoint);
        }
    };
    match step {
        Step::Calls(at, reply, count) => {
            on(*at, &|endpoint| (0..*count).for_each(|_| call(outliers, endpoint, *reply)));
        }
        Step::Pass(millis) => time.advance(Duration::from_millis(*millis)),
        Step::Check(at, health) => on(*at, &|endpoint| {
            endpoint.set_health(*health, now);
        }),
        Step::Drain(at) => on(*at, &|endpoint| {
            endpoint.drain(now);
        }),
        Step::Resume(at) => on(*at, &|endpoint| {
            endpoint.resume(now);
        }),
        Step::Eject(at) => {
            let _ = handle.eject(NAMES[*at]);
        }
        Step::Uneject(at) => {
            let _ = handle.uneject(NAMES[*at]);
        }
        Step::CheckPassed(at) => {
            let _ = handle.check_passed(NAMES[*at]);
        }
        Step::List(list) => endpoints.replace(endpoints_of(list), now).unwrap(),
    }
}

/// Of each priority no more are out than may be, and none of those that are keeps it from having a usable one.
fn check_shares(list: &[Endpoint], percent: u32) {
    let mut priorities: HashMap<u32, Vec<&Endpoint>> = HashMap::new();
    for endpoint in list {
        priorities.entry(endpoint.priority()).or_default().push(endpoint);
    }
    for (priority, members) in priorities {
        let out = members.iter().filter(|endpoint| endpoint.condition().is_ejected()).count();
        let most = (members.len() * percent as usize / 100).max(1);
        assert!(out <= most, "{out} of {} are out in priority {priority}", members.len());
        let held_back = members.iter().any(|endpoint| {
            let condition = endpoint.condition();
            condition.is_ejected() && condition.is_in_service() && condition.health() != Health::Unhealthy
        });
        let usable = members.iter().any(|endpoint| endpoint.condition().is_usable());
        assert!(usable || !held_back, "priority {priority} has none, and one is out");
    }
}

fn cases() -> ProptestConfig {
    static FULL: OnceLock<bool> = OnceLock::new();
    let full = || std::env::var_os("BUTTRESS_FULL_PROPERTIES").is_some_and(|value| value == "1");
    ProptestConfig {
        cases: if *FULL.get_or_init(full) { 20_000 } else { 200 },
        failure_persistence: Some(Box::new(FileFailurePersistence::WithSource("regressions"))),
        ..ProptestConfig::default()
    }
}

proptest! {
    #![proptest_config(cases())]

    #[test]
    fn shares_ends_and_multipliers_keep_their_bounds_and_the_same_schedule_goes_the_same_way(
        percent in 1..=100_u32,
        enforced in prop_oneof![Just(100_u32), Just(50)],
        seed in any::<u64>(),
        first in list(),
        steps in proptest::collection::vec(step(), 1..80),
    ) {
        let told = play(percent, enforced, seed, &first, &steps);
        prop_assert_eq!(told, play(percent, enforced, seed, &first, &steps));
    }

    #[test]
    fn the_clock_may_go_wherever_it_likes(moments in proptest::collection::vec(any::<u64>(), 1..40)) {
        let rig = rig("a b c", OutlierDetection::default());
        for moment in moments {
            rig.time.set(Timestamp::from_nanos(moment));
            rig.calls("a", Failed, 5);
            rig.calls("b", Good, 1);
            let now = rig.time.now();
            for ejected in rig.handle.ejected() {
                prop_assert!(ejected.until > now || now == Timestamp::MAX);
                prop_assert!(ejected.until - now <= 303 * SECOND);
            }
        }
    }
}
