//! The lines to try, each with what it shows. The end-to-end tests run them as they are printed.

use std::{fmt::Write, net::SocketAddr};

/// What it shows; the command, with `{base}` for the gateway's address; the statuses in order, then what else
/// the answer holds.
const LINES: [(&str, &str, &str); 15] = [
    ("The path picks the upstream.", "curl -si {base}/users/1", "200, \"name\":\"Ada\""),
    (
        "Three servers are behind /users, and take turns.",
        "curl -si '{base}/users/who?call=[1-6]'",
        "200 200 200 200 200 200, users-1, users-2, users-3",
    ),
    ("One of them dies.", "curl -si -X POST {base}/demo/kill/users-2", "200, users-2 is gone"),
    (
        "No client sees that: its turns go to the others, and what it broke off is tried again.",
        "curl -si '{base}/users/who?call=[1-6]'",
        "200 200 200 200 200 200, users-1, users-3",
    ),
    (
        "It comes back, and gets its share again within a few seconds: ask the last line once more.",
        "curl -si -X POST {base}/demo/revive/users-2",
        "200, users-2 is back",
    ),
    (
        "The limit of /payments: 3 at once, then 12 a minute. Retry-After says when.",
        "curl -si '{base}/payments?call=[1-4]'",
        "200 200 200 429, retry-after, ratelimit, ratelimit-policy, application/problem+json",
    ),
    ("No route.", "curl -si {base}/nowhere", "404, application/problem+json"),
    ("An upstream that is down.", "curl -si {base}/legacy", "502, application/problem+json"),
    (
        "An upstream slower than the timeout of its route, 1 s.",
        "curl -si {base}/orders/slow",
        "504, application/problem+json",
    ),
    (
        "The longer prefix wins, so there is no limit here.",
        "curl -si '{base}/payments/receipts?call=[1-4]'",
        "200 200 200 200, \"sent\":true",
    ),
    (
        "A flaky upstream: every third of its calls fails. The gateway tries again, so no client sees that.",
        "curl -si '{base}/flaky?call=[1-4]'",
        "200 200 200 200, \"call\":5",
    ),
    (
        "It fails for good, and nothing is tried again here: after five failures in a row the circuit breaker answers, for 5 s.",
        "curl -si '{base}/flaky/down?call=[1-7]'",
        "503 503 503 503 503 503 503, try again, circuit, retry-after, application/problem+json",
    ),
    (
        "An answer that takes its time, passed on line by line.",
        "curl -siN {base}/orders/stream",
        "200, application/x-ndjson, \"line\":5",
    ),
    (
        "64 MB up: they stream through, the gateway never holds them.",
        "head -c 64000000 /dev/zero | curl -si -T - {base}/users/upload",
        "200, \"bytes\":64000000",
    ),
    (
        "HTTP/2 without TLS.",
        "curl -si --http2-prior-knowledge {base}/users/2",
        "200, HTTP/2 200, \"name\":\"Grace\"",
    ),
];

/// The tour, as comments and commands: the whole of it can be pasted into a shell.
pub(crate) fn tour(address: SocketAddr) -> String {
    let mut text =
        String::from("\nTry in a second terminal. Each line shows one thing; below it, what to expect.\n");
    for (shows, command, expect) in LINES {
        let command = command.replace("{base}", &format!("http://{address}"));
        let _ = write!(text, "\n# {shows}\n{command}\n#   -> {expect}\n");
    }
    text
}
