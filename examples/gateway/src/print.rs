//! What the program says. A closed pipe is no reason to stop serving, so nothing here fails.

use std::{
    fmt::{Display, Write as _},
    io::Write as _,
    net::SocketAddr,
};

use crate::{
    config::{Config, Target, Upstream},
    demo,
    listeners::Listening,
};

/// To standard output, as it is.
pub(crate) fn say(text: &str) {
    let mut out = std::io::stdout().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

/// To standard error, as an error.
pub(crate) fn complain(what: impl Display) {
    let _ = writeln!(std::io::stderr(), "error: {what}");
}

/// To standard error, for whoever watches the terminal.
pub(crate) fn note(what: impl Display) {
    let _ = writeln!(std::io::stderr(), "{what}");
}

/// The address, the routes, and in the demo the lines to try.
pub(crate) fn welcome(ports: &[Listening], config: &Config, admin: Option<SocketAddr>, demo: bool) -> String {
    let mut text = String::new();
    for listening in ports {
        if let Some(wanted) = listening.instead_of {
            text += &format!("{wanted} is taken by another program, so this is the next free port:\n");
        }
        let (scheme, address) = (listening.scheme(), listening.address);
        let _ = writeln!(text, "gateway {} listening on {scheme}://{address}", env!("CARGO_PKG_VERSION"));
    }
    if let Some(admin) = admin {
        let _ = writeln!(text, "  for operators: http://{admin}/metrics /livez /readyz /startupz");
    }
    for route in config.routes() {
        let to = match route.target() {
            Some(Target::Upstream(name)) => {
                let name = name.get_ref();
                let addresses = config.upstream(name).map_or_else(Vec::new, addresses);
                format!("{name:<9} {}", addresses.join(" "))
            }
            Some(Target::Redirect(redirect)) => redirect.summary(),
            Some(Target::Respond(answer)) => answer.summary(),
            None => String::new(),
        };
        let _ = writeln!(text, "  {:<16} -> {to}", route.name());
    }
    if let (true, [listening, ..]) = (demo, ports) {
        text += &demo::tour(listening.address);
    }
    text += "\nCtrl-C finishes what is in flight and stops; a second one stops at once.\n";
    text
}

/// Where the requests to an upstream go.
fn addresses(upstream: &Upstream) -> Vec<String> {
    let own = upstream.endpoints().into_iter().map(|one| one.url().to_owned());
    let sides = upstream.split().iter().map(|side| format!("{} ({})", side.upstream.get_ref(), side.weight));
    own.chain(sides).collect()
}
