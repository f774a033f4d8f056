//! The demo's own words: each line that it prints is run as printed, and must show what it promises.

use std::process::Stdio;

use tokio::process::Command;

use crate::support::{Gateway, have, soon};

struct Step {
    command: String,
    statuses: Vec<String>,
    shows: Vec<String>,
}

/// A command is a line of its own; the promise follows it: `#   -> 200 429, retry-after, ...`.
fn steps(welcome: &str) -> Vec<Step> {
    let lines: Vec<_> = welcome.lines().collect();
    let promise = |line: &str| line.strip_prefix("#   -> ").map(str::to_owned);
    let step = |pair: &[&str]| {
        let promise = promise(pair[1])?;
        let mut parts = promise.split(", ").map(str::to_owned);
        let statuses = parts.next()?.split(' ').map(str::to_owned).collect();
        Some(Step { command: pair[0].to_owned(), statuses, shows: parts.collect() })
    };
    lines.windows(2).filter_map(step).collect()
}

/// The statuses of the final answers in what `curl -i` printed. A body need not end its line.
fn statuses(output: &str) -> Vec<String> {
    let heads = output.split("HTTP/").skip(1);
    let codes = heads.filter_map(|head| head.split_whitespace().nth(1)).map(str::to_owned);
    codes.filter(|code| code != "100").collect()
}

#[tokio::test]
async fn every_printed_line_runs_as_printed_and_shows_what_it_promises() {
    if !have("curl") {
        return;
    }
    let gateway = Gateway::demo().await;

    let steps = steps(&gateway.welcome);
    let commands =
        gateway.welcome.lines().filter(|line| !line.starts_with('#') && line.contains("curl -")).count();
    assert_eq!(steps.len(), commands, "each command is followed by its promise:\n{}", gateway.welcome);
    assert!(steps.len() >= 8, "the tour shows each feature:\n{}", gateway.welcome);

    for step in steps {
        let mut shell = Command::new("sh");
        shell.args(["-c", &step.command]).stdin(Stdio::null()).kill_on_drop(true);
        let output = soon(&step.command, shell.output()).await.expect("sh can be run");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();

        assert!(output.status.success(), "{}: {}", step.command, String::from_utf8_lossy(&output.stderr));
        assert_eq!(statuses(&text), step.statuses, "{}\n{text}", step.command);
        for shown in &step.shows {
            let found = text.to_lowercase().contains(&shown.to_lowercase());
            assert!(found, "{}: no {shown:?} in\n{text}", step.command);
        }
    }
}

#[tokio::test]
async fn the_welcome_lists_each_route_with_its_upstream() {
    let gateway = Gateway::demo().await;

    for (path, upstream) in
        [("/users", "users"), ("/orders", "orders"), ("/payments", "payments"), ("/legacy", "legacy")]
    {
        let listed = gateway.welcome.lines().any(|line| {
            let words: Vec<_> = line.split_whitespace().collect();
            matches!(words[..], [p, "->", u, url, ..] if p == path && u == upstream && url.starts_with("http://127.0.0.1:"))
        });
        assert!(listed, "{path} -> {upstream}:\n{}", gateway.welcome);
    }
}
