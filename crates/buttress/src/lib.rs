#![doc = include_str!("../README.md")]
#![cfg_attr(docsrs, feature(doc_cfg))]

mod builder;
#[cfg(feature = "presets")]
#[cfg_attr(docsrs, doc(cfg(feature = "presets")))]
pub mod presets;

#[cfg(all(doctest, feature = "full", feature = "axum", feature = "reqwest"))]
mod chapters;

pub use builder::ServiceBuilderExt;
#[doc(inline)]
pub use buttress_core::*;

/// Whose state a request counts against: the trait, its sinks, and the keys of HTTP requests.
pub mod key {
    #[doc(inline)]
    pub use buttress_core::{Costed, Global, HashSink, Key, KeyPart, KeySink};
    #[cfg(feature = "http")]
    #[doc(inline)]
    pub use buttress_http::key::*;
}

/// How a refusal becomes an error or a response.
pub mod reject {
    #[doc(inline)]
    pub use buttress_core::reject::*;
    #[cfg(feature = "http")]
    #[doc(inline)]
    pub use buttress_http::reject::*;
}

/// How a call ended, and who judges it.
pub mod classify {
    #[doc(inline)]
    pub use buttress_core::{ByCause, Classify, End, ErrIsFailure, Outcome, OutcomeKind, Verdict};
    #[cfg(feature = "http")]
    #[doc(inline)]
    pub use buttress_http::classify::*;
}

#[cfg(feature = "http")]
#[cfg_attr(docsrs, doc(cfg(feature = "http")))]
#[doc(inline)]
pub use buttress_http::{LiftBodies, LiftBodiesFuture, LiftBodiesLayer, Peer, Problem, answer, body, field};

#[cfg(feature = "reqwest")]
#[cfg_attr(docsrs, doc(cfg(feature = "reqwest")))]
#[doc(inline)]
pub use buttress_http::client;

#[cfg(feature = "balance")]
#[cfg_attr(docsrs, doc(cfg(feature = "balance")))]
#[doc(inline)]
pub use buttress_balance::{self as balance, BalanceLayer, Balancer};

#[cfg(feature = "circuit-breaker")]
#[cfg_attr(docsrs, doc(cfg(feature = "circuit-breaker")))]
#[doc(inline)]
pub use buttress_circuit_breaker::{self as circuit_breaker, CircuitBreaker, CircuitBreakerLayer};

#[cfg(feature = "health")]
#[cfg_attr(docsrs, doc(cfg(feature = "health")))]
#[doc(inline)]
pub use buttress_health::{self as health, Health, HealthLayer};

#[cfg(feature = "rate-limit")]
#[cfg_attr(docsrs, doc(cfg(feature = "rate-limit")))]
#[doc(inline)]
pub use buttress_rate_limit::{self as rate_limit, RateLimit, RateLimitLayer};

#[cfg(feature = "retry")]
#[cfg_attr(docsrs, doc(cfg(feature = "retry")))]
#[doc(inline)]
pub use buttress_retry::{self as retry, Budget, Hedge, HedgeLayer, Retry, RetryLayer};

#[cfg(feature = "route")]
#[cfg_attr(docsrs, doc(cfg(feature = "route")))]
#[doc(inline)]
pub use buttress_route::{self as route, Router};

#[cfg(feature = "timeout")]
#[cfg_attr(docsrs, doc(cfg(feature = "timeout")))]
#[doc(inline)]
pub use buttress_timeout::{self as timeout, Timeout, TimeoutLayer};

#[cfg(all(feature = "timeout", feature = "http"))]
#[cfg_attr(docsrs, doc(cfg(all(feature = "timeout", feature = "http"))))]
#[doc(inline)]
pub use buttress_timeout::{Deadline, DeadlineLayer};

#[cfg(feature = "proxy")]
#[cfg_attr(docsrs, doc(cfg(feature = "proxy")))]
#[doc(inline)]
pub use buttress_proxy::{self as proxy, Proxy};
