//! The command line.

use std::{ffi::OsString, net::SocketAddr, path::PathBuf};

pub(crate) const HELP: &str = "\
A reverse proxy built from Buttress layers.

Usage: gateway [--config FILE] [--listen ADDR]

Without --config it runs a demo: four small services inside the process, and a list of curl lines to try.

Options:
      --config FILE   Proxy to the upstreams of this gateway.toml instead
      --listen ADDR   Take connections here, such as 127.0.0.1:8080; port 0 takes any free one
  -h, --help          Print this help
  -V, --version       Print the version

Signals:
  Ctrl-C or SIGTERM   Stop accepting, finish what is in flight (30 s at most), exit 0
  the same again      Exit 130 at once

Exit codes:
  0 done    1 cannot listen    2 wrong command line or configuration    130 ended by a second signal
";

/// What the command line asks for.
pub(crate) enum Command {
    Help,
    Version,
    Run { config: Option<PathBuf>, listen: Option<SocketAddr> },
}

/// Reads the arguments that follow the program's name.
pub(crate) fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Command, lexopt::Error> {
    use lexopt::prelude::*;

    let (mut config, mut listen) = (None, None);
    let mut parser = lexopt::Parser::from_args(args);
    while let Some(arg) = parser.next()? {
        match arg {
            Long("config") => config = Some(PathBuf::from(parser.value()?)),
            Long("listen") => listen = Some(parser.value()?.parse()?),
            Short('h') | Long("help") => return Ok(Command::Help),
            Short('V') | Long("version") => return Ok(Command::Version),
            _ => return Err(arg.unexpected()),
        }
    }
    Ok(Command::Run { config, listen })
}
