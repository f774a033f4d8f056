//! Clients that stay at their endpoints by a signed cookie.
#![cfg(feature = "http")]

mod balancer;
mod behaviour;
mod contract;
mod cookie;
mod defaults;
mod drain;
mod keys;
mod properties;

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::task::{Context, Poll};

use buttress_balance::{Sticky, StickyHandle, StickyLayer};
use buttress_core::{Endpoint, Endpoints, HasFacts, OnCall, Timestamp};
use buttress_testkit::Task;
use http::{Request, Response};
use tower::{Service, ServiceExt};
use tower_layer::Layer;

const NOW: Timestamp = Timestamp::ZERO;
const SECRET: [u8; 32] = [1; 32];
const FORMER: [u8; 32] = [2; 32];

/// A balancer as small as it gets: the preferred endpoint if it is well and not in maintenance, else the first that is usable.
/// It answers with the name of the endpoint.
#[derive(Clone)]
struct Balance(Endpoints);

impl<B> Service<Request<B>> for Balance {
    type Response = Response<String>;
    type Error = Infallible;
    type Future = Ready<Result<Response<String>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, req: Request<B>) -> Self::Future {
        let list = self.0.list();
        let prefer = req.facts().and_then(|facts| facts.prefer);
        let serves = |endpoint: &&Endpoint| {
            let condition = endpoint.condition();
            condition.is_well() && !condition.is_in_maintenance()
        };
        let bound = list.iter().filter(|endpoint| Some(endpoint.id()) == prefer).find(serves);
        let usable = || list.iter().find(|endpoint| endpoint.condition().is_usable());
        let Some(chosen) = bound.or_else(usable) else {
            return ready(Ok(Response::new("none".into())));
        };
        if let Some(facts) = req.facts() {
            facts.chose(chosen.id());
        }
        ready(Ok(Response::new(chosen.name().to_string())))
    }
}

fn endpoints(names: &[&'static str]) -> Endpoints {
    Endpoints::new(names.iter().map(|name| Endpoint::new(*name))).expect("the names are different")
}

fn layer(endpoints: &Endpoints) -> StickyLayer {
    StickyLayer::cookie("SERVERID").key(SECRET).over(endpoints)
}

/// A site: a layer over a balancer over endpoints.
struct Site {
    endpoints: Endpoints,
    service: Sticky<OnCall<Balance>>,
    handle: StickyHandle,
}

/// A visit's answer.
#[derive(Debug, PartialEq)]
struct Visit {
    /// The endpoint that served it.
    at: String,
    /// The cookies that are set, as they are written.
    set: Vec<String>,
}

impl Visit {
    /// The value of the cookie that is set.
    fn value(&self) -> &str {
        let [field] = &*self.set else { panic!("not one cookie is set: {self:?}") };
        let (pair, _) = field.split_once(';').unwrap();
        pair.split_once('=').unwrap().1
    }
}

impl Site {
    fn new(names: &[&'static str], change: impl FnOnce(StickyLayer) -> StickyLayer) -> Self {
        let endpoints = endpoints(names);
        Self::over(&endpoints, &change(layer(&endpoints)))
    }

    fn over(endpoints: &Endpoints, layer: &StickyLayer) -> Self {
        let service = layer.layer(Balance(endpoints.clone()));
        Self { endpoints: endpoints.clone(), handle: layer.handle(), service }
    }

    fn endpoint(&self, name: &str) -> Endpoint {
        self.endpoints.get(name).expect("it is there")
    }

    fn visit(&self, cookies: &[&str]) -> Visit {
        let request =
            cookies.iter().fold(Request::get("/"), |request, cookie| request.header("cookie", *cookie));
        self.send(request.body(()).unwrap())
    }

    fn send(&self, request: Request<()>) -> Visit {
        let response = now(self.service.clone().oneshot(request));
        let set = response.headers().get_all("set-cookie").iter();
        let set = set.map(|field| field.to_str().unwrap().to_owned()).collect();
        Visit { at: response.into_body(), set }
    }

    /// A visit with the cookie of this value.
    fn again(&self, value: &str) -> Visit {
        self.visit(&[&format!("SERVERID={value}")])
    }
}

fn now<T>(call: impl Future<Output = Result<T, Infallible>>) -> T {
    match Task::new(call).run() {
        Poll::Ready(Ok(answer)) => answer,
        Poll::Ready(Err(never)) => match never {},
        Poll::Pending => panic!("a call waits although the balancer does not"),
    }
}
