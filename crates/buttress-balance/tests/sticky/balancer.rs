//! The layer over the crate's own balancer.

use std::future::pending;

use buttress_balance::{Balancer, Members, Static};
use buttress_core::{BoxError, Health};
use tower::util::BoxCloneSyncService;
use tower::{ServiceBuilder, service_fn};

use super::*;

type Service = BoxCloneSyncService<Request<()>, Response<String>, BoxError>;

fn site(endpoints: &Endpoints, layer: &StickyLayer) -> Service {
    let members = Members::new(endpoints.clone(), |endpoint| {
        let name = endpoint.name().to_string();
        service_fn(move |request: Request<()>| {
            let name = name.clone();
            async move {
                if request.uri().path() == "/held" {
                    pending::<()>().await;
                }
                Ok::<_, BoxError>(Response::new(name))
            }
        })
    });
    let balancer = Balancer::new(members);
    BoxCloneSyncService::new(ServiceBuilder::new().layer(layer.clone()).service(balancer))
}

/// Where a client with this cookie is served, and the cookie that it has then.
fn visit(site: &Service, cookie: Option<&str>) -> (String, Option<String>) {
    let mut request = Request::get("/").body(()).unwrap();
    if let Some(cookie) = cookie {
        request.headers_mut().insert("cookie", cookie.parse().unwrap());
    }
    let mut call = Task::new(site.clone().oneshot(request));
    let Poll::Ready(Ok(response)) = call.run() else { panic!("it is served at once") };
    let set = response.headers().get("set-cookie");
    let set = set.map(|field| field.to_str().unwrap().split(';').next().unwrap().to_owned());
    (response.into_body(), set)
}

#[test]
fn a_client_stays_while_others_are_spread() {
    let endpoints = endpoints(&["a", "b", "c"]);
    let site = site(&endpoints, &layer(&endpoints));

    let clients: Vec<_> = (0..30).map(|_| visit(&site, None)).collect();

    let names = |name| clients.iter().filter(|(at, _)| at == name).count();
    assert!(["a", "b", "c"].into_iter().all(|name| names(name) > 0), "{clients:?}");
    for (at, cookie) in &clients {
        for _ in 0..3 {
            assert_eq!(visit(&site, cookie.as_deref()), (at.clone(), None));
        }
    }
}

#[test]
fn it_leaves_an_endpoint_that_is_not_well_or_drains_and_stays_at_the_next() {
    let endpoints = endpoints(&["a", "b", "c"]);
    let site = site(&endpoints, &layer(&endpoints));
    let (first, cookie) = visit(&site, None);

    endpoints.get(&first).unwrap().set_health(Health::Unhealthy, NOW);
    let (second, cookie) = visit(&site, cookie.as_deref());
    assert_ne!(first, second);
    assert_eq!(visit(&site, cookie.as_deref()), (second.clone(), None));

    endpoints.get(&second).unwrap().drain(NOW);
    let (third, cookie) = visit(&site, cookie.as_deref());
    assert!(third != first && third != second);
    assert_eq!(visit(&site, cookie.as_deref()), (third, None));
}

#[test]
fn a_session_survives_the_removal_of_its_endpoint_while_the_balancer_drains_it_by_option() {
    for survives in [false, true] {
        let endpoints = endpoints(&["a", "b"]);
        let layer = if survives { layer(&endpoints).survive_drain() } else { layer(&endpoints) };
        let site = site(&endpoints, &layer);
        let (first, cookie) = visit(&site, None);
        // A balancer drains an endpoint as long as that has calls.
        let held = Request::get("/held").header("cookie", cookie.as_deref().unwrap()).body(()).unwrap();
        let mut held = Task::new(site.clone().oneshot(held));
        assert!(held.run().is_pending());

        endpoints.remove(&first, NOW);

        let (second, set) = visit(&site, cookie.as_deref());
        assert_eq!(second == first, survives, "{second} after {first}, {survives}");
        assert_eq!(set.is_none(), survives);
        assert_ne!(visit(&site, None).0, first, "no new client goes there");
        drop(held);
        let (third, _) = visit(&site, cookie.as_deref());
        assert_ne!(third, first, "it is gone");
    }
}

#[test]
fn above_a_hedge_the_endpoint_of_the_answer_counts_where_the_balancer_marks_it() {
    let endpoints = endpoints(&["a", "b"]);
    let members = Members::new(endpoints.clone(), |endpoint| {
        let name = endpoint.name().to_string();
        service_fn(move |_: Request<()>| ready(Ok::<_, BoxError>(Response::new(name.clone()))))
    });
    let balancer = Balancer::new(members).policy(Static::round_robin()).mark_endpoint();
    let balancer: Service = BoxCloneSyncService::new(balancer);
    // It asks two endpoints, and gives the answer of the first.
    let hedge = service_fn(move |request: Request<()>| {
        let second = balancer.clone().oneshot(request.clone());
        let first = balancer.clone().oneshot(request);
        async move {
            let (first, second) = (first.await?, second.await?);
            assert_ne!(first.body(), second.body());
            Ok(first)
        }
    });
    let site: Service = BoxCloneSyncService::new(layer(&endpoints).layer(hedge));

    for _ in 0..4 {
        let (first, cookie) = visit(&site, None);
        let alone = site_of(&endpoints);
        assert_eq!(visit(&alone, cookie.as_deref()), (first, None), "its cookie is that of who has answered");
    }
}

fn site_of(endpoints: &Endpoints) -> Service {
    site(endpoints, &layer(endpoints))
}
