//! The two ways to be asked to stop: Ctrl-C, and SIGTERM where there is one.

use std::io::Result;

#[cfg(unix)]
use tokio::signal::unix::{Signal, SignalKind, signal};

/// Listens from its construction on, so that no signal ends the program unheard.
pub(crate) struct Signals {
    #[cfg(unix)]
    interrupt: Signal,
    #[cfg(unix)]
    terminate: Signal,
}

#[cfg(unix)]
impl Signals {
    pub(crate) fn new() -> Result<Self> {
        let (interrupt, terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
        Ok(Self { interrupt, terminate })
    }

    /// Waits for the next request to stop.
    pub(crate) async fn stop(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

#[cfg(not(unix))]
impl Signals {
    pub(crate) fn new() -> Result<Self> {
        Ok(Self {})
    }

    /// Waits for the next request to stop.
    pub(crate) async fn stop(&mut self) {
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

/// SIGHUP, which asks for the configuration to be read again.
pub(crate) struct HangUps {
    #[cfg(unix)]
    hang_up: Signal,
}

#[cfg(unix)]
impl HangUps {
    pub(crate) fn new() -> Result<Self> {
        Ok(Self { hang_up: signal(SignalKind::hangup())? })
    }

    /// Waits for the next one.
    pub(crate) async fn next(&mut self) {
        self.hang_up.recv().await;
    }
}

#[cfg(not(unix))]
impl HangUps {
    pub(crate) fn new() -> Result<Self> {
        Ok(Self {})
    }

    /// There is none.
    pub(crate) async fn next(&mut self) {
        std::future::pending::<()>().await;
    }
}
