use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use buttress_balance::{Sticky, StickyCounts, StickyEvent, StickyFuture, StickyHandle, StickyLayer};
use buttress_core::{EndpointId, Facts, Health, Trail};
use buttress_testkit::{allocations, assert_send, assert_send_sync_clone_unpin, poll_once};
use http::{Request, Response};
use tower::{Service, ServiceExt, service_fn};
use tower_layer::Layer;

use super::*;

const _: () = {
    assert_send_sync_clone_unpin::<StickyLayer>();
    assert_send_sync_clone_unpin::<Sticky<OnCall<Balance>>>();
    assert_send_sync_clone_unpin::<StickyHandle>();
    assert_send::<StickyFuture<Ready<Result<Response<String>, Infallible>>>>();
};

#[test]
fn a_client_stays_where_it_was_served_first() {
    let site = Site::new(&["a", "b"], |layer| layer);

    let first = site.visit(&[]);
    site.endpoint("a").set_health(Health::Unhealthy, NOW);
    let other = site.visit(&[]);
    site.endpoint("a").set_health(Health::Healthy, NOW);

    assert_eq!((&*first.at, &*other.at), ("a", "b"));
    for _ in 0..3 {
        assert_eq!(site.again(first.value()), Visit { at: "a".into(), set: vec![] });
        assert_eq!(site.again(other.value()), Visit { at: "b".into(), set: vec![] });
    }
    let StickyCounts { absent, bound, known, kept, moved, .. } = site.handle.counts();
    assert_eq!((absent, bound, known, kept, moved), (2, 2, 6, 6, 0));
}

#[test]
fn when_its_endpoint_cannot_serve_it_is_bound_to_the_one_that_does() {
    let site = Site::new(&["a", "b"], |layer| layer);
    let first = site.visit(&[]);

    site.endpoint("a").set_health(Health::Unhealthy, NOW);
    let moved = site.again(first.value());
    site.endpoint("a").set_health(Health::Healthy, NOW);

    assert_eq!(moved.at, "b");
    assert_ne!(moved.value(), first.value());
    assert_eq!(site.again(moved.value()).at, "b", "and stays there");
    assert_eq!(site.handle.counts().moved, 1);
}

#[test]
fn of_two_cookies_the_one_counts_whose_endpoint_can_serve() {
    let changes: [fn(&Endpoint) -> bool; 4] = [
        |endpoint| endpoint.drain(NOW),
        |endpoint| endpoint.maintain(NOW),
        |endpoint| endpoint.set_health(Health::Unhealthy, NOW),
        |endpoint| endpoint.eject(NOW),
    ];
    for change in changes {
        let site = Site::new(&["a", "b", "c"], |layer| layer);
        let old = site.visit(&[]).value().to_owned();
        assert!(["a", "b"].iter().all(|name| site.endpoint(name).maintain(NOW)));
        let new = site.visit(&[]).value().to_owned();
        assert!(["a", "b"].iter().all(|name| site.endpoint(name).resume(NOW)));
        let both = [&*format!("SERVERID={old}; SERVERID={new}")];
        assert_eq!(site.visit(&both), Visit { at: "a".into(), set: Vec::new() }, "the first, as both serve");

        assert!(change(&site.endpoint("a")));

        assert_eq!(site.visit(&both), Visit { at: "c".into(), set: Vec::new() });
        assert_eq!(site.visit(&[&*format!("SERVERID={new}; SERVERID={old}")]).at, "c");
        // With none that serves the first is left for another, as ever.
        site.endpoint("c").maintain(NOW);
        assert_eq!(site.visit(&both).at, "b");
    }
}

#[test]
fn of_two_cookies_one_of_a_former_list_or_key_comes_last() {
    let endpoints = endpoints(&["a", "b"]);
    let former = Site::over(&endpoints, &StickyLayer::cookie("SERVERID").key(FORMER).over(&endpoints));
    let site = Site::over(&endpoints, &layer_of(&endpoints).survive_drain());
    let a = former.visit(&[]).value().to_owned();
    endpoints.get("a").unwrap().maintain(NOW);
    let b = site.visit(&[]).value().to_owned();
    endpoints.get("a").unwrap().resume(NOW);
    let both = [&*format!("SERVERID={a}; SERVERID={b}")];

    assert_eq!(site.visit(&both), Visit { at: "b".into(), set: Vec::new() }, "of the present key");
    let now_a = site.again(&a).value().to_owned();
    endpoints.remove("a", NOW);
    let both = [&*format!("SERVERID={now_a}; SERVERID={b}")];
    assert_eq!(site.visit(&both), Visit { at: "b".into(), set: Vec::new() }, "of the present list");
}

fn layer_of(endpoints: &Endpoints) -> StickyLayer {
    StickyLayer::cookie("SERVERID").key(SECRET).former_key(FORMER).over(endpoints)
}

#[test]
fn an_endpoint_that_leaves_takes_its_cookies_with_it_and_has_them_back_when_it_returns() {
    let site = Site::new(&["a", "b"], |layer| layer);
    let first = site.visit(&[]);

    let gone = site.endpoints.remove("a", NOW).unwrap();
    let moved = site.again(first.value());
    site.endpoints.insert(gone, NOW);

    assert_eq!(moved.at, "b");
    assert_eq!(site.handle.counts().unknown, 1);
    assert_eq!(site.again(first.value()), Visit { at: "a".into(), set: vec![] });
}

#[test]
fn an_endpoint_that_joins_can_be_bound_to_at_once() {
    let site = Site::new(&["a"], |layer| layer);
    site.endpoint("a").maintain(NOW);

    site.endpoints.insert(Endpoint::new("b"), NOW);

    let visit = site.visit(&[]);
    assert_eq!(visit.at, "b");
    assert_eq!(site.again(visit.value()).at, "b");
}

#[test]
fn the_last_of_many_lists_holds() {
    let site = Site::new(&["a"], |layer| layer);
    let first = site.visit(&[]);

    let threads: Vec<_> = (0..4)
        .map(|thread| {
            let endpoints = site.endpoints.clone();
            std::thread::spawn(move || {
                for n in 0..50 {
                    endpoints.insert(Endpoint::new(format!("{thread}-{n}")), NOW);
                }
            })
        })
        .collect();
    threads.into_iter().for_each(|thread| thread.join().unwrap());

    assert_eq!(site.again(first.value()).at, "a");
    site.endpoint("a").maintain(NOW);
    for endpoint in site.endpoints.list().iter().skip(1) {
        let visit = site.visit(&[]);
        assert_eq!(visit.at, &**endpoint.name());
        assert_eq!(site.again(visit.value()).at, visit.at);
        endpoint.maintain(NOW);
    }
}

#[test]
fn an_answer_without_an_endpoint_sets_no_cookie() {
    let site = Site::new(&["a"], |layer| layer);
    site.endpoint("a").maintain(NOW);

    assert_eq!(site.visit(&[]), Visit { at: "none".into(), set: vec![] });
}

#[test]
fn an_error_passes_as_it_is() {
    let layer = layer(&endpoints(&["a"]));
    let fails = service_fn(|_: Request<()>| async { Err::<Response<()>, _>("out of paper") });

    let mut call = Task::new(layer.layer(fails).oneshot(Request::new(())));

    assert!(matches!(call.run(), Poll::Ready(Err("out of paper"))));
}

#[test]
fn what_the_answer_says_of_its_endpoint_goes_before_the_trail() {
    let endpoints = endpoints(&["a", "b"]);
    let layer = layer(&endpoints);
    let ids: Vec<EndpointId> = endpoints.list().iter().map(Endpoint::id).collect();
    // A hedge below goes to both, and the first answers last.
    let service = layer.layer(service_fn(move |req: Request<()>| {
        let facts = req.facts().unwrap();
        ids.iter().for_each(|id| facts.chose(*id));
        let mut response = Response::new(String::new());
        response.extensions_mut().insert(ids[0]);
        ready(Ok::<_, Infallible>(response))
    }));
    let site = Site::over(&endpoints, &super::layer(&endpoints));

    let response = now(service.oneshot(Request::new(())));

    let set = response.headers()["set-cookie"].to_str().unwrap().to_owned();
    assert_eq!(set, site.visit(&[]).set[0], "that of `a`");
}

#[test]
fn with_another_balancer_below_the_endpoint_of_its_own_counts() {
    let endpoints = endpoints(&["a", "b"]);
    let inner = Endpoint::new("inner").id();
    for answer_tells in [false, true] {
        let layer = layer(&endpoints);
        let a = endpoints.list()[0].id();
        let service = layer.layer(service_fn(move |req: Request<()>| {
            let facts = req.facts().unwrap();
            facts.chose(a);
            facts.chose(inner);
            let mut response = Response::new(String::new());
            if answer_tells {
                response.extensions_mut().insert(inner);
            }
            ready(Ok::<_, Infallible>(response))
        }));
        let site = Site::over(&endpoints, &super::layer(&endpoints));

        let response = now(service.clone().oneshot(Request::new(())));

        let set = response.headers()["set-cookie"].to_str().unwrap().to_owned();
        assert_eq!(set, site.visit(&[]).set[0], "that of `a`");
        let cookie = set.split(';').next().unwrap().to_owned();
        let again = Request::get("/").header("cookie", cookie).body(()).unwrap();
        assert_eq!(now(service.oneshot(again)).headers().get("set-cookie"), None, "it stays there");
    }
}

#[test]
fn attempts_side_by_side_are_each_bound_to_their_own_endpoint() {
    let endpoints = endpoints(&["a", "b"]);
    let answers = Arc::new(AtomicBool::new(false));
    let service = layer(&endpoints).layer(service_fn({
        let (list, answers) = (endpoints.list(), Arc::clone(&answers));
        move |req: Request<usize>| {
            req.facts().unwrap().chose(list[*req.body()].id());
            let answers = Arc::clone(&answers);
            std::future::poll_fn(move |_| {
                let is_over = answers.load(Ordering::SeqCst);
                if is_over { Poll::Ready(Ok::<_, Infallible>(Response::new(()))) } else { Poll::Pending }
            })
        }
    }));
    // A hedge layer above has one trail for both.
    let above = Trail::new();
    let request = |at: usize| {
        let mut request = Request::new(at);
        request.facts_mut().unwrap().trail = Some(above.clone());
        request
    };

    let mut first = Box::pin(service.clone().oneshot(request(0)));
    let mut second = Box::pin(service.oneshot(request(1)));
    assert!(poll_once(&mut first).is_pending() && poll_once(&mut second).is_pending(), "both have chosen");
    answers.store(true, Ordering::SeqCst);
    let (first, second) = (now(first), now(second));

    let set_at = |name| {
        let site = Site::new(&["a", "b"], |layer| layer);
        site.endpoints
            .list()
            .iter()
            .filter(|other| other.name() != name)
            .for_each(|other| _ = other.maintain(NOW));
        site.visit(&[]).set.remove(0)
    };
    assert_eq!(first.headers()["set-cookie"], set_at("a"));
    assert_eq!(second.headers()["set-cookie"], set_at("b"));
    let all: Vec<EndpointId> = endpoints.list().iter().map(Endpoint::id).collect();
    assert_eq!(above.endpoints(), all, "the layer above hears of both");
}

#[test]
fn what_a_layer_above_prefers_holds_where_the_cookie_says_nothing() {
    let site = Site::new(&["a", "b"], |layer| layer);
    let prefers = |value: Option<&str>, name: &str| {
        let mut request = Request::get("/").body(()).unwrap();
        if let Some(value) = value {
            request.headers_mut().insert("cookie", format!("SERVERID={value}").parse().unwrap());
        }
        let mut facts = Facts::new();
        facts.prefer = Some(site.endpoint(name).id());
        request.extensions_mut().insert(facts);
        site.send(request)
    };

    let to_b = prefers(None, "b");
    assert_eq!(to_b.at, "b");
    assert_eq!(prefers(Some(to_b.value()), "a").at, "b", "the cookie goes first");
}

#[test]
fn what_happens_is_told() {
    let told = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&told);
    let site = Site::new(&["a", "b"], |layer| {
        layer.named("shop").observe(move |event| {
            seen.lock().unwrap().push(match *event {
                StickyEvent::Bound { policy, to, .. } => format!("{policy}: bound to {to}"),
                StickyEvent::Moved { policy, from, to, .. } => format!("{policy}: {from} -> {to}"),
                StickyEvent::Unknown { policy, .. } => format!("{policy}: unknown"),
                StickyEvent::Released { policy, from, .. } => format!("{policy}: released from {from}"),
                StickyEvent::Renewed { policy, to, .. } => format!("{policy}: renewed at {to}"),
                _ => "?".into(),
            });
        })
    });

    let first = site.visit(&[]);
    site.again(first.value());
    site.again("forged");
    site.endpoint("a").drain(NOW);
    site.again(first.value());

    assert_eq!(
        told.lock().unwrap().join("\n"),
        "shop: bound to a\nshop: unknown\nshop: bound to a\nshop: released from a\nshop: a -> b"
    );
}

#[test]
fn services_and_clones_of_one_layer_share_its_counts() {
    let endpoints = endpoints(&["a"]);
    let layer = layer(&endpoints);
    let sites = [Site::over(&endpoints, &layer), Site::over(&endpoints, &layer.clone())];

    sites.iter().for_each(|site| drop(site.visit(&[])));

    assert_eq!(layer.handle().counts().bound, 2);
    assert_eq!(layer.named("other").handle().counts().bound, 0, "a step begins new ones");
}

#[test]
fn a_call_costs_the_facts_and_the_trail_and_a_cookie_that_is_set_nothing_more_than_its_line() {
    let site = Site::new(&["a"], |layer| layer);
    let value = site.visit(&[]).value().to_owned();
    let mut service = site.service;
    let mut requests: Vec<Request<()>> = (0..20)
        .map(|_| Request::get("/").header("cookie", format!("SERVERID={value}")).body(()).unwrap())
        .collect();
    let mut run = || {
        let mut response = now_inline(service.call(requests.pop().unwrap()));
        response.body_mut().clear();
    };
    run();

    let bound = allocations(&mut run);

    // The map of the extensions with its box (3), the trail (1), its list (1), and the answer's text here (1 or 2).
    assert!(bound <= 8, "{bound}");
    assert!(bound >= 3, "it was counted");
}

fn now_inline<T>(call: impl Future<Output = Result<T, Infallible>>) -> T {
    let call = std::pin::pin!(call);
    match call.poll(&mut Context::from_waker(std::task::Waker::noop())) {
        Poll::Ready(Ok(answer)) => answer,
        _ => panic!("a call waits"),
    }
}

#[test]
fn debug_output_shows_no_secret() {
    let layer = StickyLayer::cookie("SERVERID").key(SECRET).former_key(FORMER);
    let text = format!("{layer:?}");
    assert!(text.contains("SERVERID") && !text.contains("1, 1") && !text.contains("2, 2"), "{text}");
    let layer = layer.over(&endpoints(&["a"]));
    let text = format!("{layer:?} {:?} {:?}", layer.handle(), layer.layer("inner"));
    assert!(text.contains("SERVERID") && !text.contains("1, 1") && !text.contains("2, 2"), "{text}");
}
