//! The invariants of the algorithms, each checked against its words and against an exact model in `u128`.
//!
//! A few thousand steps by default, and ten million per algorithm by
//! `BUTTRESS_FULL_PROPERTIES=1 cargo test --release -p buttress-rate-limit --test properties`.
//! Failures are kept beside the file they were found in, as `*.regressions`, and run first from then on.

mod carry;
mod fixed_window;
mod leaky_bucket;
mod oracle;
mod retry;
mod settling;
mod sliding_log;
mod sliding_strict;
mod sliding_window;
mod table;
mod token_bucket;
mod trace;

use std::time::Duration;

use buttress_core::Timestamp;
use proptest::prelude::*;
use proptest::test_runner::FileFailurePersistence;

const SECOND: Duration = Duration::from_secs(1);
const HUNDRED_YEARS: Duration = Duration::from_secs(100 * 365 * 86_400);
const TEN_YEARS: u64 = 10 * 365 * 86_400 * 1_000_000_000;
/// Far from the end of the clock for the longest windows too.
const EONS: u64 = 1 << 62;

fn full() -> bool {
    std::env::var_os("BUTTRESS_FULL_PROPERTIES").is_some_and(|value| value == "1")
}

fn cases(small: u32, many: u32) -> ProptestConfig {
    ProptestConfig {
        cases: if full() { many } else { small },
        failure_persistence: Some(Box::new(FileFailurePersistence::WithSource("regressions"))),
        ..ProptestConfig::default()
    }
}

fn at(nanos: u64) -> Timestamp {
    Timestamp::from_nanos(nanos)
}

/// From a nanosecond to a hundred years.
fn lengths() -> impl Strategy<Value = Duration> {
    prop_oneof![
        Just(Duration::from_nanos(1)),
        (1_u64..100).prop_map(Duration::from_nanos),
        (1_u64..10_000_000_000).prop_map(Duration::from_nanos),
        Just(SECOND),
        Just(Duration::from_secs(60)),
        Just(Duration::from_secs(86_400)),
        Just(HUNDRED_YEARS),
    ]
}

/// From one to as many as a count holds.
fn limits() -> impl Strategy<Value = u64> {
    prop_oneof![Just(1_u64), 1_u64..=10, 1_u64..=5_000, 1_u64..=4_294_967_295, Just(4_294_967_295)]
}
