use buttress::{BoxError, Cause, RejectionKind};
use tower::{Service, ServiceBuilder, ServiceExt, service_fn};

use crate::limit;

#[tokio::test]
async fn a_stack_with_box_error_carries_the_rejection() {
    let (limit, _time) = limit(1);
    let mut service = ServiceBuilder::new()
        .layer(limit)
        .service(service_fn(|name: &'static str| async move { Ok::<_, BoxError>(format!("hello {name}")) }));

    assert_eq!(service.call("Ada").await.unwrap(), "hello Ada");
    let refused: BoxError = service.call("Bob").await.unwrap_err();

    assert_eq!(refused.rejection().map(|rejection| rejection.kind), Some(RejectionKind::RateLimited));
}

#[tokio::test]
async fn towers_own_layers_stand_above_and_below() {
    let (limit, _time) = limit(1);
    let service = ServiceBuilder::new()
        .buffer(8)
        .concurrency_limit(4)
        .layer(limit)
        .timeout(std::time::Duration::from_secs(3600))
        .buffer(8)
        .service(service_fn(|n: u32| async move { Ok::<_, BoxError>(n + 1) }));

    assert_eq!(service.clone().oneshot(1).await.unwrap(), 2);
    let refused = service.oneshot(1).await.unwrap_err();

    assert_eq!(refused.rejection().map(|rejection| rejection.kind), Some(RejectionKind::RateLimited));
}

#[tokio::test]
async fn strict_it_waits_for_the_service_below() {
    let (limit, _time) = limit(1);
    let mut service = ServiceBuilder::new()
        .layer(limit.strict())
        .service(service_fn(|n: u32| async move { Ok::<_, BoxError>(n + 1) }));

    assert_eq!(service.ready().await.unwrap().call(1).await.unwrap(), 2);
    assert!(service.ready().await.unwrap().call(1).await.is_err());
}
