//! What holds of a breaker whatever calls, clocks and people do, and a model that keeps every result to compare it with.
//!
//! A few thousand schedules by default, and a million by
//! `BUTTRESS_FULL_PROPERTIES=1 cargo test --release -p buttress-circuit-breaker --test properties`.
//! Failures are kept beside the file they were found in, as `*.regressions`, and run first from then on.

mod model;
mod oracle;
mod recovery;
mod schedule;
mod step;

use proptest::prelude::*;
use proptest::test_runner::FileFailurePersistence;

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
