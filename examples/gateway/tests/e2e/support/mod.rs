//! What the stories share: the running binary, upstreams to script, bounded waiting.

mod gateway;
pub(crate) mod process;
mod upstream;

use std::{path::PathBuf, process::Command, time::Duration};

use buttress::Clock;

pub(crate) use gateway::{Gateway, gateway};
pub(crate) use process::Process;
pub(crate) use upstream::{head_of, raw_upstream, upstream};

/// Fails rather than hangs when `future` does not complete in time. 30 s is for a busy machine.
pub(crate) async fn soon<F: Future>(what: &str, future: F) -> F::Output {
    tokio::select! {
        output = future => output,
        () = Clock::monotonic().sleep(Duration::from_secs(30)) => panic!("{what}: nothing within 30 s"),
    }
}

/// Asks again every 10 ms until `done`.
pub(crate) async fn until(what: &str, mut done: impl AsyncFnMut() -> bool) {
    soon(what, async {
        while !done().await {
            pause(Duration::from_millis(10)).await;
        }
    })
    .await;
}

/// The other side of a socket needs real time.
pub(crate) async fn pause(duration: Duration) {
    Clock::monotonic().sleep(duration).await;
}

/// Whether `program` is there. A missing one is a failure where everything is required, else said aloud.
pub(crate) fn have(program: &str) -> bool {
    let found = Command::new(program).arg("--version").output().is_ok();
    let required = std::env::var_os("BUTTRESS_REQUIRE_SERVICES").is_some_and(|value| value == "1");
    assert!(found || !required, "{program} is required and cannot be run");
    if !found {
        eprintln!(
            "SKIPPED: {program} cannot be run; install it, or set BUTTRESS_REQUIRE_SERVICES=1 to fail here"
        );
    }
    found
}

/// Writes a configuration for one test; `name` is the test's own.
pub(crate) fn config_file(name: &str, text: &str) -> PathBuf {
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}-{}.toml", std::process::id()));
    std::fs::write(&path, text).expect("the target's own folder is writable");
    path
}
