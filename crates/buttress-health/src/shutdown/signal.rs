use std::io;

use crate::Shutdown;

impl Shutdown {
    /// Takes over the signals that end a process, SIGTERM and SIGINT (Ctrl-C): the first begins the shutdown, the second
    /// aborts it. Elsewhere than on Unix it is Ctrl-C alone.
    ///
    /// One task waits for them; it lives until the second has come. From here on the process no longer ends by itself when
    /// it gets one: it has to return from `main` when the shutdown is over. Said again, it changes nothing.
    ///
    /// # Errors
    ///
    /// When the system refuses.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime, or in one without I/O.
    pub fn on_signals(&self) -> io::Result<()> {
        let mut signals = Signals::new()?;
        // Two that wait would count each signal twice.
        if self.listens() {
            return Ok(());
        }
        let shutdown = self.clone();
        tokio::spawn(async move {
            for _ in 0..2 {
                signals.next().await;
                shutdown.signal();
            }
        });
        Ok(())
    }
}

#[cfg(unix)]
struct Signals {
    terminate: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
}

#[cfg(unix)]
impl Signals {
    fn new() -> io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    async fn next(&mut self) {
        use std::pin::pin;
        futures_util::future::select(pin!(self.terminate.recv()), pin!(self.interrupt.recv())).await;
    }
}

#[cfg(windows)]
struct Signals(tokio::signal::windows::CtrlC);

#[cfg(windows)]
impl Signals {
    fn new() -> io::Result<Self> {
        tokio::signal::windows::ctrl_c().map(Self)
    }

    async fn next(&mut self) {
        self.0.recv().await;
    }
}
