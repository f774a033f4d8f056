use buttress::{FromRejection, Rejection, RejectionKind, reject};
use tower::{Service, ServiceBuilder, service_fn};

use crate::limit;

/// An application's error, with a place for a refusal.
#[derive(Debug, PartialEq)]
enum ShopError {
    SoldOut,
    Refused(Rejection),
}

impl FromRejection for ShopError {
    fn from_rejection(rejection: Rejection) -> Self {
        Self::Refused(rejection)
    }
}

async fn buy(what: &'static str) -> Result<u32, ShopError> {
    if what == "unicorn" { Err(ShopError::SoldOut) } else { Ok(1) }
}

#[tokio::test]
async fn an_enum_of_the_users_own_carries_the_rejection() {
    let (limit, _time) = limit(2);
    let mut shop = ServiceBuilder::new().layer(limit).service(service_fn(buy));

    assert_eq!(shop.call("apple").await, Ok(1));
    assert_eq!(shop.call("unicorn").await, Err(ShopError::SoldOut), "its own errors are as they were");
    let Err(ShopError::Refused(rejection)) = shop.call("apple").await else { panic!("not refused") };

    assert_eq!(rejection.kind, RejectionKind::RateLimited);
}

#[tokio::test]
async fn a_closure_refuses_in_the_users_own_words() {
    let (limit, _time) = limit(1);
    let mut shop = ServiceBuilder::new()
        .layer(limit.on_reject(reject::with(|_: Rejection| Err(ShopError::SoldOut))))
        .service(service_fn(buy));

    assert_eq!(shop.call("apple").await, Ok(1));
    assert_eq!(shop.call("apple").await, Err(ShopError::SoldOut));
}
