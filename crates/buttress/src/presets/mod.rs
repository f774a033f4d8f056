//! Stacks for clients: several layers in the order that works, with defaults that may stay.
//!
//! ```text
//!                [client()]                             [hedged_client()]
//!
//!      request │        ▲ answer, or why not     request │        ▲
//!    ┌─────────▼────────┴─────────┐            ┌─────────▼────────┴─────────┐
//!    │ total timeout         30 s │            │ total timeout         30 s │
//!    │ ┌────────────────────────┐ │            │ ┌────────────────────────┐ │
//!    │ │ retry, within a budget │ │            │ │ hedge, within a budget │ │
//!    │ │ ┌────────────────────┐ │ │            │ │ ┌────────────────────┐ │ │
//!    │ │ │ breaker for each   │ │ │            │ │ │ breaker for each   │ │ │
//!    │ │ │ authority          │ │ │            │ │ │ authority          │ │ │
//!    │ │ │ ┌────────────────┐ │ │ │            │ │ │ ┌────────────────┐ │ │ │
//!    │ │ │ │ attempt   10 s │ │ │ │            │ │ │ │ attempt   10 s │ │ │ │
//!    │ │ │ │    service     │ │ │ │            │ │ │ │    service     │ │ │ │
//!    │ │ │ └────────────────┘ │ │ │            │ │ │ └────────────────┘ │ │ │
//!    └─┴─┴────────────────────┴─┴─┘            └─┴─┴────────────────────┴─┴─┘
//! ```
//!
//! - The *total* bounds what the caller waits for, whatever happens inside. A retry or a hedge whose wait would end after it is
//!   not begun.
//! - *Retries* are above the breaker, so that each attempt is counted. A refusal by the breaker is not tried again, and takes
//!   nothing from the budget.
//! - The timeout of an *attempt* is below the breaker: a call that hangs has no result, and what has none is not counted.
//!
//! The chapter on the order of layers, `docs/order-of-layers.md`, has the reasons, and what goes wrong in another order.
//!
//! ```
//! use std::time::Duration;
//!
//! use buttress::{Budget, ServiceBuilderExt, presets};
//! # use buttress::retry::ReplayBody;
//! # use bytes::Bytes;
//! # use http_body_util::Full;
//! use http::{Request, Response};
//! use tower::{ServiceBuilder, ServiceExt, service_fn};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() {
//! # let http_client = service_fn(|_: Request<ReplayBody<Full<Bytes>>>| async {
//! #     Ok::<_, std::io::Error>(Response::new(Full::<Bytes>::from("hello")))
//! # });
//! let stack = presets::client()
//!     .attempt_timeout(Duration::from_secs(2))
//!     .total_timeout(Duration::from_secs(5))
//!     .budget(Budget::ratio(0.1).min_per_second(5))
//!     .named("orders");
//! let handle = stack.handle();
//!
//! let client = ServiceBuilder::new().layer(stack).lift_errors().service(http_client);
//! let request = Request::get("http://orders.test/7").body(Full::default()).unwrap();
//! assert_eq!(client.oneshot(request).await.unwrap().status(), 200);
//!
//! assert_eq!(handle.retries().snapshot().calls, 1);
//! assert_eq!(handle.breaker().counts().succeeded, 1);
//! # }
//! ```
//!
//! # The service below
//!
//! It takes an `http::Request<ReplayBody<B>>`, and its error has a place for a refusal:
//!
//! | client | below the preset |
//! |---|---|
//! | reqwest | `client::Reqwest::new()` (feature `reqwest`), as it is; one that follows redirects (`Reqwest::from(client)`) has no POST tried again |
//! | hyper-util's `Client` | `.map_err(mark).lift_errors()`, where `mark` puts [`NothingSent`](buttress_core::NothingSent) around an error that `is_connect()`, so that a POST which was not sent is tried again |
//! | tonic's `Channel` | [`grpc()`](Client::grpc) on the preset, and `.map_request(\|req: Request<ReplayBody<Body>>\| req.map(Body::new)).lift_errors()` |
//!
//! The error type stays the service's: `type Error = S::Error`.
//!
//! # When something else is better
//!
//! A preset has one order, and one breaker for each authority. For several endpoints behind one name a breaker belongs *below*
//! the balancer, one for each endpoint; for requests that are not HTTP, take the layers themselves. What belongs to a call as
//! a whole goes above, and above every other layer that retries: a limit on the client's own rate, whatever writes an
//! `Idempotency-Key`, and a
//! [`DeadlineLayer`](buttress_timeout::DeadlineLayer), whose deadline the retries keep too.
//!
//! [client()]: client
//! [hedged_client()]: hedged_client

mod attempt;
mod client;
mod hedged;

pub use client::{Client, ClientHandle, ClientService, client};
pub use hedged::{HedgedClient, HedgedClientHandle, HedgedClientService, hedged_client};
