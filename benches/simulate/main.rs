//! Which policy keeps times short, loads even and errors few, while hosts are slow, fail, restart or are far too popular?
//!
//! A simulation of discrete events with a virtual clock: nothing here is timed, and each run prints the same numbers.
//!
//! ```console
//! cargo bench -p buttress-benches --bench simulate                 # all scenarios, as tables of Markdown
//! cargo bench -p buttress-benches --bench simulate -- S3           # one
//! cargo bench -p buttress-benches --bench simulate -- S3 hosts=10000 calls=10000000
//! cargo bench -p buttress-benches --bench simulate -- --write      # all, into docs/balancing.md and its picture
//! ```

use std::process::ExitCode;

mod host;
mod measure;
mod policies;
mod report;
mod scenarios;
mod world;

use report::Table;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let has = |flag: &str| args.iter().any(|arg| arg == flag);
    let number = |what: &str| args.iter().find_map(|arg| arg.strip_prefix(what)?.parse().ok());
    let (hosts, calls) = (number("hosts="), number("calls="));
    let only = args.iter().find(|arg| arg.starts_with('S'));
    let is_test = has("--test");

    let mut tables = Vec::new();
    for mut scenario in scenarios::all() {
        if only.is_some_and(|only| only != scenario.name) {
            continue;
        }
        scenario.hosts = hosts.map_or(scenario.hosts, |hosts: u64| hosts as usize);
        scenario.calls = calls.unwrap_or(scenario.calls);
        if is_test {
            scenario.hosts = scenario.hosts.min(200);
            scenario.clients = scenario.clients.min(10);
            scenario.calls = 4_000;
        }
        let table = Table::of(&scenario);
        println!("{}", table.markdown());
        tables.push(table);
    }
    let failed = report::check(&tables, is_test);
    let pages = if is_test {
        report::check_picture()
    } else if has("--write") && only.is_none() && hosts.is_none() && calls.is_none() {
        report::write(&tables)
    } else {
        Ok(())
    };
    if let Err(error) = &pages {
        eprintln!("{error}");
    }
    if failed || pages.is_err() { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}
