//! The contract of every layer, for each form of this one.

use std::time::Duration;

use buttress_core::{Answer, Quota, Store, Timestamp};
use buttress_rate_limit::{FixedWindow, Limit, MissingKey, RateLimitLayer, Ruling};
use buttress_testkit::{Contract, Point, contract};

const MANY: u64 = 1_000_000;

#[test]
fn one_budget_for_all_keeps_the_contract() {
    contract(|| RateLimitLayer::per_second(MANY));
}

#[test]
fn the_strict_form_keeps_the_contract() {
    contract(|| RateLimitLayer::per_second(MANY).strict());
}

#[test]
fn a_fixed_window_by_key_keeps_the_contract() {
    contract(|| {
        let window = FixedWindow::new(MANY, Duration::from_secs(60));
        RateLimitLayer::new(window).by(|n: &u32| Some(*n)).on_missing_key(MissingKey::Deny)
    });
}

#[test]
fn closures_may_panic_and_keys_may_flood() {
    Contract::with_closures(|wire| {
        let (key, cost, observer) = (wire.clone(), wire.clone(), wire.clone());
        RateLimitLayer::per_second(MANY)
            .capacity(100)
            .by(move |n: &u32| {
                key.touch();
                Some(*n)
            })
            .cost(move |_: &u32| {
                cost.touch();
                1
            })
            .observe(move |_| observer.touch())
            .annotate_success(true)
    })
    .at_most(203, |layer| layer.handle().snapshot().keys)
    .refuses("a rate of 0", || RateLimitLayer::per_second(0))
    .refuses("a burst of 0", || RateLimitLayer::per_second(1).burst(0))
    .refuses("a burst that overflows", || RateLimitLayer::per_day(1).burst(u64::MAX))
    .refuses("a period of 0", || RateLimitLayer::new(Limit::new(1, Duration::ZERO)))
    .refuses("a window of 0", || RateLimitLayer::new(FixedWindow::new(1, Duration::ZERO)))
    .refuses("a window's limit of 0", || RateLimitLayer::new(FixedWindow::new(0, Duration::from_secs(1))))
    .refuses("a burst on a fixed window", || {
        RateLimitLayer::new(FixedWindow::new(1, Duration::from_secs(1))).burst(2)
    })
    .refuses("a capacity of 0", || RateLimitLayer::per_second(1).capacity(0))
    .refuses("a capacity that no memory holds", || RateLimitLayer::per_second(1).capacity(usize::MAX))
    .run();
}

/// A store that is always asked over the wire, as it were.
#[derive(Clone)]
struct Far;

impl Store for Far {
    type Sink = Vec<u8>;
    type Decision = Ruling;
    type Wait = std::future::Ready<Ruling>;

    fn sink(&self) -> Vec<u8> {
        Vec::new()
    }

    fn decide(&self, _: Vec<u8>, _: u32, _: Timestamp) -> Answer<Ruling, Self::Wait> {
        Answer::Later(std::future::ready(Ruling::new(true, 1, 1)))
    }

    fn settle(&self, _: &Ruling, _: u32, _: Timestamp) {}

    fn quotas(&self, _: &Ruling, _: &mut dyn FnMut(Quota)) {}
}

#[test]
fn a_store_that_answers_later_keeps_the_contract() {
    let layer = || RateLimitLayer::per_second(1).store(Far);
    // That it is the readied instance which is called has a test of its own in `behaviour.rs`.
    let why = "the readied instance moves into the future that waits, so a clone has to stay behind";
    Contract::new(layer).exempt(Point::Instance, why).run();
    Contract::new(move || layer().strict()).exempt(Point::Instance, why).run();
}
