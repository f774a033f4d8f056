//! What is believed, result by result.

use std::time::Duration;

use buttress_core::{Activity, Health, Timestamp};
use buttress_health::{Check, CheckRules, Failure, HealthCheck, ProbeReport, Recorded};

use super::{at, ms, secs};

const PASS: ProbeReport = ProbeReport::pass();
const FAIL: ProbeReport = ProbeReport::fail(Failure::Timeout);

/// The middle of all chances: no jitter.
const NO_JITTER: u64 = 0;

struct Story {
    rules: CheckRules,
    check: Check,
    now: Timestamp,
}

impl Story {
    fn new() -> Self {
        Self { rules: CheckRules::default(), check: Check::new(), now: at(1_000) }
    }

    fn with<P>(check: &HealthCheck<P>) -> Self {
        Self { rules: check.rules().unwrap(), ..Self::new() }
    }

    fn after(&mut self, wait: Duration, report: ProbeReport) -> Health {
        self.now += wait;
        self.check.record(&self.rules, self.check.epoch(), report, self.now);
        self.check.health()
    }

    fn then(&mut self, report: ProbeReport) -> Health {
        self.after(secs(1), report)
    }

    fn wait(&mut self) -> Duration {
        self.check.wait(&self.rules, Activity::default(), self.now, NO_JITTER)
    }

    /// Goes down by three failures.
    fn down(&mut self) {
        while self.check.health() != Health::Unhealthy {
            self.then(FAIL);
        }
    }

    /// Passes each second until it is healthy; how many it took.
    fn up(&mut self) -> u32 {
        (1..10_000).find(|_| self.then(PASS) == Health::Healthy).expect("it comes back")
    }
}

#[test]
fn the_first_result_decides() {
    assert_eq!(Story::new().check.health(), Health::Unknown);
    assert_eq!(Story::new().then(PASS), Health::Healthy);
    assert_eq!(Story::new().then(ProbeReport::degraded()), Health::Degraded);
    assert_eq!(Story::new().then(FAIL), Health::Unhealthy);
}

#[test]
fn a_probe_that_could_not_be_made_changes_nothing() {
    let not_made = ProbeReport::fail(Failure::OutOfFiles);
    let mut story = Story::new();
    assert_eq!(story.then(not_made), Health::Unknown);
    story.then(PASS);
    story.then(FAIL);

    for _ in 0..10 {
        assert_eq!(story.then(not_made), Health::Healthy);
        assert_eq!(story.check.opposite(), 1);
    }

    assert_eq!([FAIL, FAIL].map(|report| story.then(report)), [Health::Healthy, Health::Unhealthy]);
    assert_eq!([PASS, not_made, PASS].map(|report| story.then(report)).last(), Some(&Health::Healthy));
}

#[test]
fn three_failures_in_a_row_take_it_down_and_two_passes_bring_it_back() {
    let mut story = Story::new();
    story.then(PASS);

    assert_eq!([FAIL, FAIL, PASS, FAIL, FAIL].map(|report| story.then(report)), [Health::Healthy; 5]);
    assert_eq!(story.then(FAIL), Health::Unhealthy);
    assert_eq!([PASS, FAIL, PASS].map(|report| story.then(report)), [Health::Unhealthy; 3]);
    assert_eq!(story.then(PASS), Health::Healthy);
}

#[test]
fn a_report_that_decides_alone_needs_no_other() {
    let mut story = Story::new();
    story.then(PASS);

    assert_eq!(story.then(FAIL.at_once()), Health::Unhealthy);
    assert_eq!(story.then(PASS.at_once()), Health::Healthy);
}

#[test]
fn degraded_is_what_the_last_pass_says() {
    let mut story = Story::new();
    story.then(PASS);

    assert_eq!(story.then(ProbeReport::degraded()), Health::Degraded);
    assert_eq!([FAIL, FAIL].map(|report| story.then(report)), [Health::Degraded; 2]);
    assert_eq!(story.then(PASS), Health::Healthy);
    story.down();
    story.then(PASS);
    assert_eq!(story.then(ProbeReport::degraded()), Health::Degraded);
}

#[test]
fn it_is_asked_soon_while_results_contradict_the_state_and_ever_less_while_it_is_down() {
    let mut story = Story::new();
    story.then(PASS);
    assert_eq!(story.wait(), secs(5));

    story.then(FAIL);
    assert_eq!(story.wait(), secs(1));
    story.then(PASS);
    assert_eq!(story.wait(), secs(5));

    story.down();
    let waits: Vec<_> = (0..5)
        .map(|_| {
            let wait = story.wait();
            story.then(FAIL);
            wait.as_secs()
        })
        .collect();
    assert_eq!(waits, [5, 10, 20, 30, 30]);

    story.then(PASS);
    assert_eq!(story.wait(), secs(1));
    story.then(PASS);
    assert_eq!(story.wait(), secs(5));
}

#[test]
fn who_is_down_for_years_is_asked_every_half_minute() {
    let mut story = Story::new();
    story.then(FAIL);
    for _ in 0..100 {
        story.then(FAIL);
    }

    assert_eq!(story.wait(), secs(30));
}

#[test]
fn jitter_is_a_tenth_either_way_and_the_fast_waits_make_up_for_it() {
    let mut story = Story::new();
    story.then(PASS);
    let mut wait = |chance| story.check.wait(&story.rules, Activity::default(), story.now, chance);

    assert_eq!(wait(u64::MAX - 1).as_millis(), 4_500);
    assert_eq!(wait(u64::MAX / 2 - 1).as_millis(), 4_750);
    assert_eq!(wait(u64::MAX).as_millis(), 5_499);

    story.then(FAIL);
    assert_eq!(story.wait().as_millis(), 500, "half a second was taken before");
    story.then(FAIL);
    assert_eq!(story.wait(), secs(1));
}

#[test]
fn jitter_adds_nothing_where_one_failure_takes_an_endpoint_down() {
    let mut story = Story::with(&HealthCheck::tcp().unhealthy_threshold(1));
    story.then(PASS);

    let wait = story.check.wait(&story.rules, Activity::default(), story.now, u64::MAX);

    assert_eq!(wait, secs(5), "nothing could make up for it");
}

#[test]
fn an_endpoint_that_flaps_needs_more_passes_each_time_up_to_sixteen() {
    let mut story = Story::with(&HealthCheck::tcp().interval(ms(10)).timeout(ms(10)).fast_interval(ms(10)));
    story.then(PASS);

    let passes: Vec<_> = (0..6)
        .map(|_| {
            story.down();
            story.up()
        })
        .collect();

    assert_eq!(passes, [2, 4, 8, 16, 16, 16]);
}

#[test]
fn an_endpoint_that_flaps_is_held_down_for_longer_each_time_up_to_five_minutes() {
    let mut story = Story::new();
    story.then(PASS);

    let held: Vec<_> = (0..8)
        .map(|_| {
            story.down();
            let down = story.now;
            story.up();
            (story.now - down).as_secs()
        })
        .collect();

    // By the last of these, ten minutes have passed, and the flips count for half.
    assert_eq!(held, [2, 10, 20, 40, 80, 160, 300, 40]);
}

#[test]
fn while_it_is_held_down_it_is_asked_at_the_interval_and_once_more_when_that_ends() {
    let mut story = Story::new();
    story.then(PASS);
    story.down();
    story.up();
    story.down();
    // Held for 10 s; four passes are asked for.
    for _ in 0..4 {
        assert_eq!(story.then(PASS), Health::Unhealthy);
    }

    assert_eq!(story.wait(), secs(5));
    story.after(secs(5), PASS);
    assert_eq!(story.wait(), secs(1));
    assert_eq!(story.then(PASS), Health::Healthy);
}

#[test]
fn without_flips_it_is_forgotten_that_an_endpoint_flapped() {
    let mut story = Story::new();
    story.then(PASS);
    for _ in 0..4 {
        story.down();
        story.up();
    }

    story.now += secs(3_600);
    story.down();

    assert_eq!(story.up(), 2);
}

#[test]
fn a_late_result_is_ignored() {
    let mut story = Story::new();
    story.then(PASS);
    let before = story.check.epoch();

    story.check.reconfigure();

    for _ in 0..10 {
        let recorded = story.check.record(&story.rules, before, FAIL, story.now);
        assert_eq!(recorded, Recorded::Late);
    }
    assert_eq!(story.check.health(), Health::Healthy);
}

#[test]
fn counting_begins_anew_when_the_configuration_changes() {
    let mut story = Story::new();
    story.then(PASS);
    story.then(FAIL);
    story.then(FAIL);

    story.check.reconfigure();

    assert_eq!([FAIL, FAIL].map(|report| story.then(report)), [Health::Healthy; 2]);
    assert_eq!(story.then(FAIL), Health::Unhealthy);
}

#[test]
fn the_first_result_of_another_target_decides_and_what_the_former_did_is_forgotten() {
    let mut story = Story::new();
    story.then(PASS);
    story.check.retarget();
    assert_eq!(story.check.health(), Health::Healthy, "until it is known");
    assert_eq!(story.then(FAIL), Health::Unhealthy);

    story.check.retarget();
    assert_eq!(story.check.health(), Health::Unhealthy);
    assert_eq!(story.then(PASS), Health::Healthy);
}

#[test]
fn a_probe_is_left_out_when_a_call_was_served_within_the_interval() {
    let mut story = Story::with(&HealthCheck::tcp().passive_first());
    story.then(PASS);
    let skip = |story: &Story, succeeded| {
        let mut activity = Activity::default();
        activity.succeeded = succeeded;
        story.check.skip(&story.rules, activity, story.now)
    };
    story.now += secs(5);
    let now = story.now;

    assert_eq!(skip(&story, None), None);
    assert_eq!(skip(&story, Some(now - secs(2))), Some(secs(3)));
    assert_eq!(skip(&story, Some(now - secs(5))), None);
    assert_eq!(skip(&story, Some(now + secs(5))), None, "a clock went back");

    story.now = now + secs(55);
    assert_eq!(skip(&story, Some(story.now)), None, "now and then it is asked all the same");

    story.now = now;
    story.then(FAIL);
    assert_eq!(skip(&story, Some(story.now)), None, "calls do not overrule a probe");
    story.then(ProbeReport::degraded());
    assert_eq!(skip(&story, Some(story.now)), None, "calls do not tell that it is degraded no more");
}

#[test]
fn an_endpoint_without_traffic_is_asked_every_minute() {
    let mut story = Story::with(&HealthCheck::tcp().passive_first());
    story.then(PASS);
    let wait = |story: &mut Story, used| {
        let mut activity = Activity::default();
        activity.used = used;
        story.check.wait(&story.rules, activity, story.now, NO_JITTER)
    };
    let now = story.now;

    assert_eq!(wait(&mut story, None), secs(60));
    assert_eq!(wait(&mut story, Some(now - secs(59))), secs(5));
    assert_eq!(wait(&mut story, Some(now - secs(60))), secs(60));
    story.then(FAIL);
    assert_eq!(wait(&mut story, None), secs(1), "in transition it is asked as any other");
    story.down();
    assert_eq!(wait(&mut story, None), secs(5));
}
