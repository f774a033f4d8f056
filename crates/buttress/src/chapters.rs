//! The pages of the project, so that what they show compiles and runs.

#[doc = include_str!("../../../README.md")]
struct Readme;

#[doc = include_str!("../../../docs/quick-start.md")]
struct QuickStart;

#[doc = include_str!("../../../docs/errors-and-rejections.md")]
struct ErrorsAndRejections;

#[doc = include_str!("../../../docs/choosing-an-algorithm.md")]
struct ChoosingAnAlgorithm;

#[doc = include_str!("../../../docs/timeouts.md")]
struct Timeouts;

#[doc = include_str!("../../../docs/retries-and-hedging.md")]
struct RetriesAndHedging;

#[doc = include_str!("../../../docs/circuit-breaker.md")]
struct CircuitBreaker;

#[doc = include_str!("../../../docs/balancing.md")]
struct Balancing;

#[doc = include_str!("../../../docs/health-checks.md")]
struct HealthChecks;

#[doc = include_str!("../../../docs/routing.md")]
struct Routing;

#[doc = include_str!("../../../docs/proxying.md")]
struct Proxying;

#[doc = include_str!("../../../docs/order-of-layers.md")]
struct OrderOfLayers;

#[doc = include_str!("../../../docs/testing-your-stack.md")]
struct TestingYourStack;
