//! Outlier ejection: which endpoints are taken out, for how long, and what brings them back.

mod allocations;
mod calls;
mod contract;
mod driving;
mod events;
#[cfg(feature = "http")]
mod http;
mod lists;
mod properties;
mod settings;
mod stories;
mod threads;

use std::collections::HashMap;
use std::future::{Ready, ready};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use buttress_core::{BoxError, Endpoint, Endpoints, Health, ManualClock, OnCall, Outcome};
use buttress_health::{
    EjectionReason, Fault, HealthEvent, Outlier, OutlierDetection, OutlierHandle, OutlierView, Outliers,
    SkipReason, UnejectionReason,
};
use buttress_testkit::Task;
use tower::{Layer, Service};

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);

/// What an endpoint answers with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reply {
    Good,
    /// A failure of its own, as 500 is.
    Failed,
    /// A failure of what it stands for, as 503 is.
    Gateway,
    /// No answer at all.
    Nothing,
    /// Come less often, as 429 is.
    Soft,
    /// It says nothing of the endpoint.
    Ignored,
}

use Reply::{Failed, Gateway, Good, Ignored, Nothing, Soft};

fn judge(result: Result<&Reply, &BoxError>) -> Outcome {
    match result {
        Ok(Good) => Outcome::success(),
        Ok(Soft) => Outcome::soft(),
        Ok(Ignored) => Outcome::ignored(),
        _ => Outcome::failure(),
    }
}

fn blame(result: Result<&Reply, &BoxError>) -> Fault {
    match result {
        Ok(Gateway) => Fault::Gateway,
        Ok(_) => Fault::Service,
        Err(_) => Fault::Local,
    }
}

/// Answers as it is asked to.
#[derive(Clone)]
struct Asked;

impl Service<Reply> for Asked {
    type Response = Reply;
    type Error = BoxError;
    type Future = Ready<Result<Reply, BoxError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, reply: Reply) -> Self::Future {
        ready(if reply == Nothing { Err("connection reset".into()) } else { Ok(reply) })
    }
}

/// Endpoints `a`, `b`, `c`, … with a detection that follows them.
struct Rig {
    endpoints: Endpoints,
    outliers: Outliers,
    handle: OutlierHandle,
    time: ManualClock,
    told: Arc<Mutex<Vec<String>>>,
    /// Made once, so that what a call does is all that is done.
    services: Mutex<HashMap<String, Judged>>,
}

type Judged = Outlier<OnCall<Asked>, Judge, Blame>;
type Judge = fn(Result<&Reply, &BoxError>) -> Outcome;
type Blame = fn(Result<&Reply, &BoxError>) -> Fault;

/// As it comes, without jitter.
fn plain() -> OutlierDetection {
    OutlierDetection::default().max_ejection_time_jitter(Duration::ZERO)
}

fn named(names: &str) -> Vec<Endpoint> {
    names.split_whitespace().map(|name| Endpoint::new(name.to_owned())).collect()
}

fn rig(names: &str, detection: OutlierDetection) -> Rig {
    rig_of(named(names), detection)
}

fn rig_of(list: Vec<Endpoint>, detection: OutlierDetection) -> Rig {
    let (time, told) = (ManualClock::new(), Arc::new(Mutex::new(Vec::new())));
    let endpoints = Endpoints::new(list).expect("each has a name of its own");
    let tell = Arc::clone(&told);
    let detection =
        detection.clock(time.clock()).observe(move |event| tell.lock().unwrap().push(line(event)));
    let outliers = detection.follow(&endpoints);
    let rig = Rig { handle: outliers.handle(), endpoints, outliers, time, told, services: Mutex::default() };
    rig.endpoints.list().iter().for_each(|endpoint| drop(rig.service(endpoint.name())));
    rig
}

/// An event in a line.
fn line(event: &HealthEvent<'_>) -> String {
    match event {
        HealthEvent::Ejected { endpoint, reason, time, times, .. } => {
            format!("{} ejected by {reason} for {time:?}, the {times}. time", endpoint.name())
        }
        HealthEvent::Unejected { endpoint, reason, .. } => format!("{} back: {reason}", endpoint.name()),
        HealthEvent::EjectionSkipped { endpoint, reason, skipped, .. } => {
            format!("{} not ejected by {reason}: {skipped}", endpoint.name())
        }
        other => format!("{other:?}"),
    }
}

impl Rig {
    fn endpoint(&self, name: &str) -> Endpoint {
        self.endpoints.get(name).expect("it is in the list")
    }

    fn service(&self, name: &str) -> Judged {
        let mut services = self.services.lock().unwrap();
        let make = || judged(&self.outliers, &self.endpoint(name));
        services.entry(name.to_owned()).or_insert_with(make).clone()
    }

    fn call(&self, name: &str, reply: Reply) {
        through(self.service(name), reply);
    }

    /// Whoever looks brings it up to date.
    fn look(&self) {
        let _ = self.handle.ejected();
    }

    fn calls(&self, name: &str, reply: Reply, count: usize) {
        for _ in 0..count {
            self.call(name, reply);
        }
    }

    /// By condition, which is what a balancer sees.
    fn ejected(&self) -> String {
        let list = self.endpoints.list();
        let out = list.iter().filter(|endpoint| endpoint.condition().is_ejected());
        out.map(|endpoint| endpoint.name().to_string()).collect::<Vec<_>>().join(" ")
    }

    fn view(&self, name: &str) -> OutlierView {
        self.handle.view(name).expect("it is in the list")
    }

    fn told(&self) -> Vec<String> {
        std::mem::take(&mut self.told.lock().unwrap())
    }
}

fn judged(outliers: &Outliers, endpoint: &Endpoint) -> Judged {
    outliers.layer(endpoint).classify(judge as Judge).blame(blame as Blame).layer(Asked)
}

fn call(outliers: &Outliers, endpoint: &Endpoint, reply: Reply) {
    through(judged(outliers, endpoint), reply);
}

fn through(mut service: Judged, reply: Reply) {
    match Task::new(service.call(reply)).run() {
        Poll::Ready(result) => assert_eq!(result.ok(), (reply != Nothing).then_some(reply), "it passes on"),
        Poll::Pending => panic!("a call waits although the inner service has answered"),
    }
}
