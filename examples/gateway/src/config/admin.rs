//! What is for operators: the admin port, and the access log.

use std::net::SocketAddr;

use serde::Deserialize;
use toml::Spanned;

use super::{
    Finding,
    value::{Count, FromText, Text},
};
use crate::access_log::{Format, Settings, Target};

/// The admin port; see `gateway.toml` for what each key of the file means.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Admin {
    listen: Text<SocketAddr>,
}

impl Admin {
    pub(crate) fn listen(&self) -> SocketAddr {
        self.listen.0
    }
}

/// The access log; see `gateway.toml` for what each key of the file means.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Log {
    to: Text<Target>,
    #[serde(default)]
    format: FormatOf,
    #[serde(default)]
    query: bool,
    queue: Option<Spanned<Count>>,
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
enum FormatOf {
    #[default]
    Json,
    Logfmt,
}

/// The default of `queue`: a tenth of a second of 80 000 requests a second.
const QUEUE: u64 = 8_192;
/// The largest queue: its places are there from the start.
const LONGEST_QUEUE: u64 = 1 << 20;

impl Log {
    pub(super) fn check(&self) -> Result<(), Finding> {
        match &self.queue {
            Some(queue) if queue.get_ref().0 > LONGEST_QUEUE => {
                let given = queue.get_ref().0;
                Err((Some(queue.span()), format!("queue is {given}; make it {LONGEST_QUEUE} at most")))
            }
            _ => Ok(()),
        }
    }

    pub(super) fn settings(&self) -> Settings {
        let queue = self.queue.as_ref().map_or(QUEUE, |queue| queue.get_ref().0.min(LONGEST_QUEUE));
        Settings {
            target: self.to.0.clone(),
            format: match self.format {
                FormatOf::Json => Format::Json,
                FormatOf::Logfmt => Format::Logfmt,
            },
            query: self.query,
            queue: usize::try_from(queue).expect("a million at most"),
        }
    }
}

impl FromText for Target {
    const EXPECTED: &'static str = "\"stdout\", \"stderr\" or the path of a file";

    fn from_text(text: &str) -> Option<Self> {
        match text {
            "" => None,
            "stdout" => Some(Self::Stdout),
            "stderr" => Some(Self::Stderr),
            path => Some(Self::File(path.into())),
        }
    }
}
