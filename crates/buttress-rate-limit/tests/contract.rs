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

#[test]
fn several_limits_keep_the_contract() {
    contract(|| {
        let limits = [Limit::per_second(MANY).named("burst"), Limit::per_day(MANY).named("daily")];
        RateLimitLayer::all(limits).by(|n: &u32| Some(*n))
    });
}

#[test]
fn a_limit_that_calls_may_wait_for_keeps_the_contract() {
    contract(|| {
        RateLimitLayer::per_second(MANY).wait(Duration::from_secs(1)).queue(64).by(|n: &u32| Some(*n))
    });
    contract(|| RateLimitLayer::per_second(MANY).wait(Duration::from_secs(1)).strict());
}

#[test]
fn calls_that_are_settled_keep_the_contract() {
    contract(|| RateLimitLayer::per_second(MANY).settle(|_: &u32| 0));
    contract(|| RateLimitLayer::per_second(MANY).settle(|_: &u32| 2).annotate_success(true).strict());
    contract(|| {
        RateLimitLayer::per_second(MANY).settle_with(|n: u32, charge| {
            charge.settle(3);
            n
        })
    });
}

#[test]
fn limits_that_only_watch_keep_the_contract() {
    contract(|| RateLimitLayer::per_day(1).shadow());
    contract(|| RateLimitLayer::all([Limit::per_day(1).shadow(), Limit::per_day(MANY).named("hard")]));
}

#[test]
fn every_closure_may_panic() {
    Contract::with_closures(|wire| {
        let (plan, allow, deny, settle) = (wire.clone(), wire.clone(), wire.clone(), wire.clone());
        RateLimitLayer::plans([("free", Limit::per_second(MANY)), ("pro", Limit::per_second(2 * MANY))])
            .plan(move |_: &u32| {
                plan.touch();
                "pro"
            })
            .allow_if(move |_: &u32| {
                allow.touch();
                false
            })
            .deny_if(move |_: &u32| {
                deny.touch();
                false
            })
            .settle(move |_: &u32| {
                settle.touch();
                0
            })
    })
    .refuses("no limits", || RateLimitLayer::all([] as [Limit; 0]))
    .refuses("two limits of one name", || RateLimitLayer::all([Limit::per_second(1), Limit::per_day(1)]))
    .refuses("no plans", || RateLimitLayer::plans([] as [(&str, Limit); 0]))
    .refuses("two plans of one name", || {
        RateLimitLayer::plans([("pro", Limit::per_day(1)), ("pro", Limit::per_day(2))])
    })
    .refuses("a burst for several limits", || {
        RateLimitLayer::all([Limit::per_second(1).named("a"), Limit::per_day(1).named("b")]).burst(2)
    })
    .refuses("a wait for a window", || {
        RateLimitLayer::new(FixedWindow::new(1, Duration::from_secs(1))).wait(Duration::from_secs(1))
    })
    .refuses("a wait without end", || RateLimitLayer::per_second(1).wait(Duration::MAX))
    .refuses("no refused key to keep", || RateLimitLayer::per_second(1).top_refused(0))
    .run();
}

#[cfg(feature = "http")]
#[test]
fn calls_settled_at_the_end_of_the_body_keep_the_contract() {
    use buttress_testkit::http_contract;

    http_contract(|| RateLimitLayer::per_second(MANY).settle_at_end(|_| Some(0)));
    http_contract(|| RateLimitLayer::per_second(MANY).settle_at_end(|_| None).strict());
}

/// The form that servers take.
#[cfg(feature = "http")]
#[test]
fn limits_that_answer_with_a_response_keep_the_contract() {
    use buttress_rate_limit::reject::respond;
    use buttress_testkit::http_contract;

    http_contract(|| RateLimitLayer::per_second(MANY).on_reject(respond()));
    http_contract(|| RateLimitLayer::per_second(MANY).on_reject(respond()).strict());
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
    // What waits for the store has a place of its own, so that calls which do not wait have smaller futures.
    Contract::new(layer).exempt(Point::Instance, why).allocations(1).run();
    Contract::new(move || layer().strict()).exempt(Point::Instance, why).allocations(1).run();
}
