use std::sync::Arc;

use buttress_core::Endpoint;
use bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::dial::{Dial, io};
use super::{Beat, Kept, Kind, Probe, Probing, dialing};
use crate::policy::check::Admin;
use crate::{CheckError, Failure, HealthCheck, ProbeReport};

/// The most that is read of a line.
const MOST: u64 = 1024;

/// A probe that reads one line from an agent beside the endpoint. See [`HealthCheck::agent`].
#[derive(Clone, Debug, Default)]
pub struct Agent {
    pub(super) dial: Dial,
    send: Bytes,
}

impl HealthCheck<Agent> {
    /// Probes by an agent as HAProxy's `agent-check` has it: it is connected to, and writes one line of words.
    ///
    /// | word | effect |
    /// |---|---|
    /// | `75%` | the endpoint gets this share of its weight, from 0 % to 255 % |
    /// | `ready` | ends draining and maintenance, an operator's as well |
    /// | `drain` | only calls that are bound to the endpoint go there |
    /// | `maint` | no calls at all go there |
    /// | `up` | it serves |
    /// | `down`, `fail`, `failed`, `stopped` | it does not serve; what follows a `#` says why, and is not read |
    /// | `maxconn:N` | taken, and without effect: bound the calls of an endpoint where they are balanced |
    ///
    /// It [speaks as the agent](Self::as_agent), so that another check of the same list says what it finds beside it.
    ///
    /// Words are separated by spaces, tabs or commas. A line without a word about it means that the endpoint serves, and
    /// a word that is none of these makes the line garbage, which fails. The agent most often listens on a
    /// [port](Self::port) of its own.
    #[must_use]
    pub fn agent() -> Self {
        Self::of(Agent::default())
    }

    /// Sends this line to the agent before it answers, as HAProxy's `agent-send`.
    #[must_use]
    pub fn send(mut self, bytes: impl Into<Bytes>) -> Self {
        self.probe.send = bytes.into();
        self
    }
}

dialing!(Agent);

impl Kind for Agent {
    const IS_AGENT: bool = true;

    fn into_probe(self) -> Result<Arc<dyn Probe>, CheckError> {
        Ok(Arc::new(Arc::new(self)))
    }
}

impl Probe for Arc<Agent> {
    fn probe(&self, endpoint: &Endpoint, _: Kept, _: &Beat) -> Probing {
        let (agent, address) = (Self::clone(self), endpoint.address().clone());
        Box::pin(async move { agent.ask(address.as_str()).await.unwrap_or_else(ProbeReport::fail).into() })
    }
}

impl Agent {
    async fn ask(&self, address: &str) -> Result<ProbeReport, Failure> {
        let mut stream = self.dial.connect(address).await?;
        if !self.send.is_empty() {
            stream.write_all(&self.send).await.map_err(|error| io(&error))?;
        }
        let mut said = Vec::with_capacity(64);
        let mut stream = stream.take(MOST);
        while !said.contains(&b'\n') {
            if stream.read_buf(&mut said).await.map_err(|error| io(&error))? == 0 {
                // It has closed, which ends the line as well, or said more than a line.
                break;
            }
        }
        match said.is_empty() {
            true => Err(Failure::Closed),
            false => understand(&said).ok_or(Failure::Garbage),
        }
    }
}

fn understand(said: &[u8]) -> Option<ProbeReport> {
    let line = std::str::from_utf8(said).ok()?.lines().next()?;
    // A reason is for people.
    let words = line.split('#').next()?;
    let mut report = ProbeReport::pass();
    let mut any = false;
    for word in words.split([' ', '\t', ',']).filter(|word| !word.is_empty()) {
        any = true;
        match word.to_ascii_lowercase().as_str() {
            "up" => {}
            "down" | "failed" | "fail" | "stopped" => report.finding = crate::Finding::Fail(Failure::Down),
            "ready" => report.admin = Some(Admin::Ready),
            "drain" => report.admin = Some(Admin::Drain),
            "maint" => report.admin = Some(Admin::Maintain),
            word => match (word.strip_suffix('%'), word.strip_prefix("maxconn:")) {
                (Some(percent), _) => report.weight_percent = Some(percent.parse().ok()?),
                (_, Some(most)) => drop(most.parse::<u32>().ok()?),
                _ => return None,
            },
        }
    }
    // The agent's word decides: it has counted for itself.
    any.then_some(report.at_once())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_words_of_an_agent_are_understood() {
        let said = |line: &str| understand(line.as_bytes());
        let up = ProbeReport::pass().at_once();
        let down = ProbeReport::fail(Failure::Down).at_once();

        assert_eq!(said("up\n"), Some(up));
        assert_eq!(said("75%\n"), Some(up.weight_percent(75)));
        assert_eq!(said("READY, 100%\r\n"), Some(up.admin(Admin::Ready).weight_percent(100)));
        assert_eq!(said("drain"), Some(up.admin(Admin::Drain)));
        assert_eq!(said("maint maxconn:30"), Some(up.admin(Admin::Maintain)));
        assert_eq!(said("down#disk full, 100%\n"), Some(down));
        assert_eq!(said("stopped"), Some(down));
        assert_eq!(said("failed\nup\n"), Some(down), "one line is read");
    }

    #[test]
    fn what_an_agent_cannot_mean_is_garbage() {
        for line in ["", "\n", "256%", "-1%", "%", "fine", "maxconn:many", "up \u{fffd}", "#down"] {
            assert_eq!(understand(line.as_bytes()), None, "{line:?}");
        }
        assert_eq!(understand(b"up\xff"), None);
    }
}
