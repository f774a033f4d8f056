//! The contract of every layer, for each form of this one.

use super::*;
use buttress_core::Outcome;
use buttress_health::OutlierLayer;
use buttress_testkit::{Contract, contract};

/// The layer of one of three endpoints. What else there is lives in it.
fn layer_of(detection: &OutlierDetection) -> OutlierLayer {
    let endpoints = Endpoints::new(named("a b c")).unwrap();
    detection.follow(&endpoints).layer(&endpoints.get("a").unwrap())
}

/// A layer that keeps what a test looks at beside it.
#[derive(Clone)]
struct Kept(OutlierLayer, OutlierHandle);

impl<S> Layer<S> for Kept {
    type Service = <OutlierLayer as Layer<S>>::Service;

    fn layer(&self, inner: S) -> Self::Service {
        self.0.layer(inner)
    }
}

fn kept() -> Kept {
    let endpoints = Endpoints::new(named("a b c")).unwrap();
    let outliers = OutlierDetection::default().follow(&endpoints);
    Kept(outliers.layer(&endpoints.get("a").unwrap()), outliers.handle())
}

#[test]
fn the_default_keeps_the_contract() {
    contract(|| layer_of(&OutlierDetection::default()));
    contract(|| layer_of(&OutlierDetection::default()).strict());
}

#[test]
fn one_that_ejects_at_each_failure_keeps_the_contract() {
    let eager = || {
        layer_of(&OutlierDetection::default().consecutive_5xx(1).base_ejection_time(Duration::from_millis(1)))
    };
    contract(eager);
    contract(move || eager().strict());
}

#[test]
fn a_service_that_cannot_fail_keeps_the_contract() {
    Contract::new(|| layer_of(&OutlierDetection::default())).error::<std::convert::Infallible>().run();
}

#[test]
fn results_of_an_earlier_epoch_move_nothing() {
    Contract::new(kept)
        .late(
            |Kept(_, handle)| {
                handle.eject("a").unwrap();
                handle.uneject("a");
            },
            |Kept(_, handle)| format!("{:?}", handle.view("a")),
        )
        .run();
    Contract::new(kept)
        .late(
            |Kept(_, handle)| handle.eject("a").unwrap(),
            |Kept(_, handle)| format!("{:?}", handle.view("a")),
        )
        .run();
}

#[test]
fn every_closure_may_panic() {
    Contract::with_closures(|wire| {
        let (judge, blame, observer) = (wire.clone(), wire.clone(), wire.clone());
        layer_of(&OutlierDetection::default().consecutive_5xx(1).observe(move |_| observer.touch()))
            .classify(move |result: Result<&u32, &BoxError>| {
                judge.touch();
                if result.is_ok() { Outcome::success() } else { Outcome::failure() }
            })
            .blame(move |_: Result<&u32, &BoxError>| {
                blame.touch();
                Fault::Service
            })
    })
    .run();
}

#[test]
fn settings_that_cannot_work_are_refused_when_it_is_built() {
    Contract::new(|| layer_of(&OutlierDetection::default()))
        .refuses("no failures", || layer_of(&OutlierDetection::default().consecutive_5xx(0)))
        .refuses("no share", || layer_of(&OutlierDetection::default().max_ejection_percent(0)))
        .refuses("no interval", || layer_of(&OutlierDetection::default().interval(Duration::ZERO)))
        .run();
}

#[test]
fn types_can_be_written_down_and_shared() {
    fn assert_shared<T: Send + Sync + Clone + Unpin>() {}
    assert_shared::<OutlierDetection>();
    assert_shared::<Outliers>();
    assert_shared::<OutlierHandle>();
    assert_shared::<OutlierLayer>();
    assert_shared::<Outlier<OnCall<Asked>>>();
}

#[cfg(feature = "http")]
mod http {
    use super::*;
    use buttress_health::classify;
    use buttress_testkit::http_contract;

    #[test]
    fn over_http_it_keeps_the_contract() {
        http_contract(|| layer_of(&OutlierDetection::default()).over_http());
        http_contract(|| layer_of(&OutlierDetection::default()).over_http().strict());
    }

    #[test]
    fn following_bodies_it_keeps_the_contract() {
        http_contract(|| {
            layer_of(&OutlierDetection::default()).over_http().classify(classify::status().at_end()).at_end()
        });
        http_contract(|| layer_of(&OutlierDetection::default()).over_grpc().strict());
    }
}
