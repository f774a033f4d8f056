//! The signals that end a process. One test, as they come to the whole of it.

#![cfg(all(unix, feature = "signal"))]

use buttress_health::{Readiness, Shutdown, Stage};
use buttress_testkit::settle;

#[tokio::test]
async fn two_that_wait_for_signals_count_each_once() {
    let shutdown = Shutdown::new(&Readiness::new());
    shutdown.on_signals().unwrap();
    shutdown.clone().on_signals().unwrap();
    let signal = async |before| {
        let us = std::process::id().to_string();
        assert!(
            std::process::Command::new("sh").args(["-c", "kill -TERM $0", &us]).status().unwrap().success()
        );
        while shutdown.stage() == before {
            tokio::task::yield_now().await;
        }
        // Whoever else waits has heard it as well.
        settle().await;
        shutdown.stage()
    };

    assert_eq!(signal(Stage::Serving).await, Stage::PreDrain);
    assert_eq!(signal(Stage::PreDrain).await, Stage::Aborting);
}
