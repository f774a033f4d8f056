use std::sync::Arc;

use buttress_core::Endpoint;
use bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::dial::{Dial, io};
use super::{Beat, Kept, Kind, Probe, Probing, dialing};
use crate::{CheckError, Failure, HealthCheck, ProbeReport};

/// The most that is read of an answer.
const MOST: usize = 16 * 1024;

/// A probe that connects, and may say something and expect an answer. See [`HealthCheck::tcp`].
#[derive(Clone, Debug, Default)]
pub struct Tcp {
    pub(super) dial: Dial,
    send: Bytes,
    expect: Bytes,
}

impl HealthCheck<Tcp> {
    /// Probes by a connection: that it is accepted is a pass, unless bytes are [expected](Self::expect).
    ///
    /// The system accepts connections for a program that hangs, so prefer a probe that is answered where there is one.
    #[must_use]
    pub fn tcp() -> Self {
        Self::of(Tcp::default())
    }

    /// Sends this when it is connected.
    #[must_use]
    pub fn send(mut self, bytes: impl Into<Bytes>) -> Self {
        self.probe.send = bytes.into();
        self
    }

    /// Passes only when this comes somewhere in the first 16 KiB of the answer.
    #[must_use]
    pub fn expect(mut self, bytes: impl Into<Bytes>) -> Self {
        self.probe.expect = bytes.into();
        self
    }
}

dialing!(Tcp, tls);

impl Kind for Tcp {
    fn into_probe(self) -> Result<Arc<dyn Probe>, CheckError> {
        if self.expect.len() > MOST {
            return Err(CheckError::new(
                "expect",
                self.expect.len(),
                "must be 16 KiB at most: no more is read",
            ));
        }
        Ok(Arc::new(Arc::new(self)))
    }
}

impl Probe for Arc<Tcp> {
    fn probe(&self, endpoint: &Endpoint, _: Kept, _: &Beat) -> Probing {
        let (tcp, address) = (Self::clone(self), endpoint.address().clone());
        Box::pin(async move {
            let asked = tcp.ask(address.as_str()).await;
            asked.map_or_else(ProbeReport::fail, |()| ProbeReport::pass()).into()
        })
    }
}

impl Tcp {
    async fn ask(&self, address: &str) -> Result<(), Failure> {
        let mut stream = self.dial.connect(address).await?;
        if !self.send.is_empty() {
            stream.write_all(&self.send).await.map_err(|error| io(&error))?;
            stream.flush().await.map_err(|error| io(&error))?;
        }
        if self.expect.is_empty() {
            return Ok(());
        }
        let mut answer = Vec::with_capacity(512);
        loop {
            // The end of what was there may be the beginning of what is expected.
            let seen = answer.len().saturating_sub(self.expect.len());
            let mut left = (&mut stream).take((MOST - answer.len()) as u64);
            let read = left.read_buf(&mut answer).await.map_err(|error| io(&error))?;
            if answer[seen..].windows(self.expect.len()).any(|part| part == &*self.expect) {
                return Ok(());
            }
            if read == 0 {
                return Err(if answer.is_empty() { Failure::Closed } else { Failure::Unexpected });
            }
        }
    }
}
