//! `gateway.toml`: the sample works, and each mistake is one error with its place and what would be right.

use std::path::Path;

use crate::support::{Gateway, config_file, gateway, soon};

const UPSTREAM: &str = "[[upstream]]\nname = 'users'\nurl = 'http://127.0.0.1:9001'\n";
const ROUTE: &str = "[[route]]\npath = '/users'\nupstream = 'users'\n";

/// The one line on standard error, without the file's folder.
async fn mistake(name: &str, config: &str) -> String {
    let path = config_file(name, config);
    failure(&path).await.replace(path.to_str().unwrap(), "gateway.toml")
}

async fn failure(path: &Path) -> String {
    let output = soon("the end", gateway(["--config".as_ref(), path.as_os_str()]).output()).await.unwrap();
    let errors = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{errors}");
    assert!(output.stdout.is_empty(), "nothing is started");
    assert_eq!(errors.lines().count(), 1, "{errors}");
    errors
}

#[tokio::test]
async fn the_documented_sample_is_accepted() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("gateway.toml");
    let args = ["--config".as_ref(), path.as_os_str(), "--listen".as_ref(), "127.0.0.1:0".as_ref()];

    let gateway = Gateway::start(gateway(args)).await;

    assert!(gateway.welcome.contains("/payments/receipts"), "{}", gateway.welcome);
    assert!(!gateway.welcome.contains("curl"), "the tour belongs to the demo:\n{}", gateway.welcome);
}

#[tokio::test]
async fn what_the_sample_shows_as_a_comment_is_accepted_too() {
    let sample = include_str!("../../gateway.toml");
    let commented = [
        "# trusted_proxies",
        "# [[route.rate_limit.plan]]",
        "# name",
        "# rate =",
        "# keys",
        "# zone =",
        "# key = \"header",
        "# key = \"at least",
    ];
    let traffic =
        ["# [upstream.sticky]", "# cookie =", "# former_key", "# max_age", "# insecure", "# survive_drain"];
    let more = [
        "# [upstream.mirror]",
        "# upstream =",
        "# percent",
        "# safe_only",
        "# [[upstream]]",
        "# split ",
        "# split_key",
    ];
    let routes = [
        "# [[route]]\n",
        "# template =",
        "# host = \"*",
        "# methods =",
        "# headers =",
        "# query = {",
        "# cookies =",
        "# json =",
        "# json_has =",
        "# path =",
        "# host = \"plain",
        "# redirect =",
    ];
    let ports = [
        "# [[listener]]",
        "# address =",
        "# [[tcp]]",
        "# server_names",
        "# idle_timeout",
        "# max_connections = 10000\n# proxy",
        "# proxy_protocol_from",
        "# send_proxy_protocol",
        "# pre_drain",
        "# accept_rate",
        "# workers",
        "# identity_fields",
        "# cors",
        "# compression",
        "# request_id",
        "# max_body",
        "# trace",
    ];
    let whole = [&commented[..], &traffic, &more, &routes, &ports]
        .concat()
        .into_iter()
        .fold(sample.to_owned(), |text, line| {
            assert!(text.contains(line), "{line}");
            text.replace(line, &line[2..])
        })
        .replace("\nlisten = \"127.0.0.1:8080\"", "")
        .replace("127.0.0.1:5432", "127.0.0.1:0")
        .replace("key = \"ip\"", "key = \"header:x-api-key\"");

    Gateway::with("whole-sample", &whole).await;
}

#[tokio::test]
async fn the_file_says_where_to_listen_unless_the_command_line_does() {
    let path = config_file("listen", &format!("listen = '127.0.0.1:0'\n{UPSTREAM}{ROUTE}"));

    let gateway = Gateway::start(gateway(["--config".as_ref(), path.as_os_str()])).await;

    assert_ne!(gateway.address.port(), 8080);
}

#[tokio::test]
async fn every_mistake_is_told_with_its_line_and_what_would_be_right() {
    // UPSTREAM is lines 1 to 3, ROUTE lines 4 to 6.
    let after_route = |line: &str| format!("{UPSTREAM}{ROUTE}{line}\n");
    let top = |line: &str| format!("{line}\n{UPSTREAM}{ROUTE}");
    let limit = |limit: &str| after_route(&format!("rate_limit = {{ {limit} }}"));
    let retry = |retry: &str| after_route(&format!("retry = {{ {retry} }}"));
    let breaker = |breaker: &str| format!("{UPSTREAM}circuit_breaker = {{ {breaker} }}\n{ROUTE}");
    // The balance is line 2, the endpoints lines 4 and 5.
    let endpoints = |one: &str, other: &str, balance: &str| {
        let upstream = format!("[[upstream]]\nbalance = {{ {balance} }}\nname = 'users'\n");
        format!("{upstream}endpoint = [{{ {one} }},\n{{ {other} }}]\n{ROUTE}")
    };
    let upstream = |url: &str| format!("[[upstream]]\nname = 'users'\nurl = '{url}'\n{ROUTE}");
    // The route is line 4.
    let route = |route: &str| format!("{UPSTREAM}[[route]]\n{route}\n");
    let path = |path: &str| format!("{UPSTREAM}[[route]]\npath = '{path}'\nupstream = 'users'\n");
    let cases = [
        (
            "unknown key at the top",
            format!("lisen = '127.0.0.1:80'\n{UPSTREAM}{ROUTE}"),
            1,
            &["lisen", "`listen`"][..],
        ),
        ("unknown key of a route", after_route("upsteam = 'users'"), 7, &["upsteam", "`upstream`"]),
        ("unknown key of a timeout", after_route("timeout = { heed = '1s' }"), 7, &["heed", "`head`"]),
        ("unknown key of a limit", limit("rate = '1/s', bursts = 1"), 7, &["bursts", "`burst`"]),
        (
            "unknown algorithm",
            limit("rate = '1/s', algorithm = 'magic'"),
            7,
            &["magic", "token_bucket", "fixed_window"],
        ),
        ("no TOML", after_route("timeout = ["), 7, &["array"]),
        ("bad duration", after_route("timeout = { head = '1 parsec' }"), 7, &["1 parsec", "250ms"]),
        ("duration without a unit", after_route("timeout = { idle = '5' }"), 7, &["\"5\"", "250ms"]),
        ("duration as a number", after_route("timeout = { total = 5 }"), 7, &["`5`", "250ms"]),
        ("no duration at all", after_route("timeout = { head = '0s' }"), 7, &["0s", "above zero"]),
        (
            "endless header_timeout",
            top("header_timeout = '400000000000y'"),
            1,
            &["header_timeout", "1day at most"],
        ),
        ("endless send_timeout", top("send_timeout = '25h'"), 1, &["send_timeout", "1day at most"]),
        ("a drain of days", top("drain = '2d'"), 1, &["drain is 2days", "1day at most"]),
        ("endless head", after_route("timeout = { head = '500y' }"), 7, &["timeout head", "1day at most"]),
        ("endless idle", after_route("timeout = { idle = '25h' }"), 7, &["timeout idle", "1day at most"]),
        (
            "endless total",
            after_route("timeout = { total = '400000000000y' }"),
            7,
            &["total", "1day at most"],
        ),
        ("endless rate", limit("rate = '1/400000000000y'"), 7, &["the time of a rate", "at most"]),
        (
            "head above total",
            after_route("timeout = { head = '3s', total = '2s' }"),
            7,
            &["head", "at most total"],
        ),
        (
            "missing upstream",
            format!("{UPSTREAM}[[route]]\npath = '/'\nupstream = 'user'\n"),
            6,
            &["\"user\"", "known: users"],
        ),
        ("no upstreams at all", ROUTE.to_owned(), 3, &["\"users\"", "known: none"]),
        ("duplicate upstream", format!("{UPSTREAM}{UPSTREAM}{ROUTE}"), 5, &["duplicate upstream \"users\""]),
        (
            "duplicate route",
            format!("{UPSTREAM}{ROUTE}{ROUTE}"),
            7,
            &["route \"/users\" and route \"/users\" of line 4", "another path, host, method or condition"],
        ),
        ("no route", UPSTREAM.to_owned(), 1, &["no [[route]]", "path and upstream"]),
        (
            "route without a path",
            format!("{UPSTREAM}[[route]]\nupstream = 'users'\n"),
            4,
            &["path", "template"],
        ),
        (
            "path and template",
            after_route("template = '/users/{id}'"),
            7,
            &["path is a prefix and template the whole path"],
        ),
        (
            "a template that is none",
            route("template = '/users/{id'\nrespond = {}"),
            4,
            &["/users/{id", "ends with `}`"],
        ),
        ("a host with a port", after_route("host = 'a.example:80'"), 4, &["a.example:80", "no port"]),
        ("no method", after_route("methods = []"), 7, &["methods has none"]),
        ("a method that is none", after_route("methods = ['G T']"), 7, &["G T", "such as \"GET\""]),
        ("a field that is none", after_route("headers = { 'x y' = '1' }"), 4, &["x y", "name of a field"]),
        (
            "a field that must be missing",
            after_route("headers = { x = false }"),
            7,
            &["false", "true for any"],
        ),
        ("a pointer without its slash", after_route("json = { kind = 'gold' }"), 4, &["kind", "RFC 6901"]),
        ("a route to nowhere", route("path = '/x'"), 4, &["upstream, redirect, respond"]),
        ("a route to two places", after_route("respond = {}"), 4, &["upstream, redirect, respond"]),
        (
            "an open redirect",
            route("template = '/{host}'\nredirect = { to = 'https://{host}/' }"),
            6,
            &["https://{host}/", "no parameters"],
        ),
        (
            "a redirect for its parameter",
            route("template = '/a/{id}'\nredirect = { to = '/b/{name}' }"),
            4,
            &["no parameter `name`"],
        ),
        (
            "a status that does not redirect",
            route("path = '/a'\nredirect = { to = '/b', status = 303 }"),
            6,
            &["303", "301, 302, 307 or 308"],
        ),
        ("a redirect to nowhere", route("path = '/a'\nredirect = {}"), 6, &["to = ", "https = "]),
        (
            "an answer that is none",
            route("path = '/a'\nrespond = { status = 103 }"),
            6,
            &["103", "200 to 999"],
        ),
        (
            "a body where there is none",
            route("path = '/a'\nrespond = { status = 204, body = 'x' }"),
            6,
            &["status 204 has no body"],
        ),
        (
            "a limit on a redirect",
            route("path = '/a'\nredirect = { to = '/b' }\nrate_limit = { rate = '1/s' }"),
            7,
            &["rate_limit is for routes to an upstream"],
        ),
        (
            "templates that take the same",
            format!(
                "{}{}",
                route("template = '/a/{id}'\nrespond = {}"),
                "[[route]]\ntemplate = '/a/{name}'\nrespond = {}\n"
            ),
            7,
            &["\"/a/{name}\"", "\"/a/{id}\" of line 4"],
        ),
        (
            "upstream without an address",
            format!("[[upstream]]\nname = 'users'\n{ROUTE}"),
            2,
            &["users", "url", "[[upstream.endpoint]]"],
        ),
        (
            "url and endpoints",
            format!("{UPSTREAM}[[upstream.endpoint]]\nurl = 'http://a'\n{ROUTE}"),
            2,
            &["url", "endpoints"],
        ),
        (
            "one endpoint twice",
            endpoints("url = 'http://a'", "url = 'http://a:80'", ""),
            5,
            &["duplicate endpoint", "weight"],
        ),
        (
            "unknown key of an endpoint",
            endpoints("url = 'http://a', wait = 1", "url = 'http://b'", ""),
            4,
            &["wait", "`weight`"],
        ),
        (
            "weights beyond a ring",
            endpoints("url = 'http://a', weight = 4000000000", "url = 'http://b'", "policy = 'ring'"),
            2,
            &["weights", "points"],
        ),
        (
            "unknown policy",
            endpoints("url = 'http://a'", "url = 'http://b'", "policy = 'rang'"),
            2,
            &["rang", "\"ring\""],
        ),
        (
            "unknown key of a call",
            endpoints("url = 'http://a'", "url = 'http://b'", "key = 'host'"),
            2,
            &["host", "\"cookie:session\""],
        ),
        (
            "bound below an even spread",
            endpoints("url = 'http://a'", "url = 'http://b'", "bounded_load = 0.5"),
            2,
            &["0.5", "1.25"],
        ),
        (
            "panic above everything",
            endpoints("url = 'http://a'", "url = 'http://b'", "panic_percent = 120"),
            2,
            &["panic_percent", "100"],
        ),
        (
            "outlier that never ejects",
            format!("{UPSTREAM}outlier = {{ max_ejection_percent = 200 }}\n{ROUTE}"),
            4,
            &["max_ejection_percent", "200"],
        ),
        (
            "url that is not HTTP",
            upstream("ftp://example.com"),
            3,
            &["ftp://example.com", "http://127.0.0.1:9001", "https://users.internal", "unix:/run/users.sock"],
        ),
        ("url with a path", upstream("http://example.com/api"), 3, &["/api", "no path"]),
        ("url with a bad port", upstream("http://example.com:99999"), 3, &["99999", "a port"]),
        ("url with a password", upstream("http://me:secret@example.com"), 3, &["http://127.0.0.1:9001"]),
        ("relative path", path("users"), 5, &["\"users\"", "begins with /"]),
        ("path with a slash at its end", path("/users/"), 5, &["/users/", "no / at the end"]),
        ("path with a query", path("/users?x=1"), 5, &["/users?x=1"]),
        ("bad rate", limit("rate = 'fast'"), 7, &["fast", "100/s"]),
        ("rate of nothing", limit("rate = '0/s'"), 7, &["0/s", "above zero"]),
        ("rate per nothing", limit("rate = '5/0s'"), 7, &["5/0s"]),
        ("burst of nothing", limit("rate = '1/s', burst = 0"), 7, &["`0`", "above zero"]),
        ("burst below nothing", limit("rate = '1/s', burst = -1"), 7, &["`-1`", "above zero"]),
        ("burst in parts", limit("rate = '1/s', burst = 1.5"), 7, &["1.5", "whole number"]),
        (
            "burst of a window",
            limit("rate = '1/s', burst = 2, algorithm = 'fixed_window'"),
            7,
            &["burst is for token_bucket and leaky_bucket", "leave it out"],
        ),
        (
            "wait of a bucket that refuses",
            limit("rate = '1/s', wait = '1s'"),
            7,
            &["wait is for leaky_bucket"],
        ),
        (
            "queue of a window",
            limit("rate = '1/s', queue = 3, algorithm = 'sliding_log'"),
            7,
            &["leaky_bucket"],
        ),
        ("parts of a bucket", limit("rate = '1/s', parts = 3"), 7, &["parts is for sliding_window"]),
        (
            "too many parts",
            limit("rate = '1/s', parts = 4000000000, algorithm = 'sliding_window'"),
            7,
            &["parts", "must be"],
        ),
        (
            "a log too long",
            limit("rate = '5000/s', algorithm = 'sliding_log'"),
            7,
            &["limit", "5000", "at most 1024"],
        ),
        ("cost above the burst", limit("rate = '1/s', burst = 3, cost = 4"), 7, &["cost", "burst larger"]),
        (
            "unknown rule for no key",
            limit("rate = '1/s', missing_key = 'drop'"),
            7,
            &["drop", "shared", "deny"],
        ),
        (
            "a plan without a field",
            limit("rate = '1/s', plan = [{ name = 'pro', rate = '9/s', keys = ['a'] }]"),
            7,
            &["header:x-api-key"],
        ),
        (
            "a key on two plans",
            limit(
                "rate = '1/s', key = 'header:k', plan = [{ name = 'p', rate = '9/s', keys = ['a'] }, { name = 'q', \
                 rate = '9/s', keys = ['a'] }]",
            ),
            7,
            &["\"a\" is on two plans"],
        ),
        ("unknown key of retries", retry("attempt = 3"), 7, &["`attempt`", "`attempts`"]),
        ("no attempt", retry("attempts = 0"), 7, &["`0`", "above zero"]),
        ("a budget of more than all", retry("budget = 1.5"), 7, &["`ratio` = 1.5", "at most 1"]),
        ("a budget that is no number", retry("budget = nan"), 7, &["`ratio` = NaN", "at most 1"]),
        (
            "backoff that shrinks",
            retry("backoff = '2s', longest_backoff = '1s'"),
            7,
            &["longest_backoff is below backoff"],
        ),
        ("retries of what went well", retry("statuses = [503, 200]"), 7, &["200", "400 to 599"]),
        ("unknown key of a breaker", breaker("failures = 3"), 4, &["`failures`", "`failure_rate`"]),
        ("a rate above 1", breaker("failure_rate = 50.0"), 4, &["`failure_rate` = 50.0", "at most 1"]),
        (
            "a rate that is no number",
            breaker("failure_rate = nan"),
            4,
            &["`failure_rate` = NaN", "at most 1"],
        ),
        ("a share without a time", breaker("slow_rate = 0.5"), 4, &["slow = \"2s\""]),
        ("too many probes", breaker("probes = 1000"), 4, &["`probes` = 1000", "31"]),
        ("an open time that shrinks", breaker("open = '1m', longest_open = '1s'"), 4, &["open", "1s"]),
        ("bad key", limit("rate = '1/s', key = 'cookie'"), 7, &["cookie", "header:x-api-key"]),
        ("bad field name", limit("rate = '1/s', key = 'header:a b'"), 7, &["header:a b", "header:x-api-key"]),
        (
            "bad address",
            format!("listen = 'localhost'\n{UPSTREAM}{ROUTE}"),
            1,
            &["localhost", "127.0.0.1:8080"],
        ),
        (
            "a port twice",
            top("listener = [{ address = '127.0.0.1:8080' }, { address = '127.0.0.1:8080' }]"),
            1,
            &["127.0.0.1:8080 is listened to already"],
        ),
        (
            "two ways to say it",
            top("listen = '127.0.0.1:8080'\nlistener = [{ address = '127.0.0.1:8081' }]"),
            1,
            &["listen is short for one [[listener]]"],
        ),
        ("a field that must stay", top("identity_fields = ['Host']"), 1, &["Host", "x-envoy-*"]),
        ("fields that must stay", top("identity_fields = ['content-*']"), 1, &["content-*", "x-user-id"]),
        (
            "an origin with a path",
            after_route("cors = { origins = ['https://a.example/x'] }"),
            7,
            &["https://a.example/x", "no path"],
        ),
        (
            "credentials for everybody",
            after_route("cors = { origins = ['*'], credentials = true }"),
            7,
            &["credentials", "name the origins"],
        ),
        ("a body of nothing", after_route("max_body = 0"), 7, &["above zero"]),
        (
            "a TCP port to nowhere",
            top("tcp = [{ address = '127.0.0.1:1', upstream = 'user' }]"),
            1,
            &["\"user\""],
        ),
        (
            "a name that is none",
            top(
                "tcp = [{ address = '127.0.0.1:1', upstream = 'users', server_names = { 'a b' = 'users' } }]",
            ),
            1,
            &["a b"],
        ),
        (
            "a port for both",
            top(
                "listener = [{ address = '127.0.0.1:1' }]\ntcp = [{ address = '127.0.0.1:1', upstream = 'users' }]",
            ),
            2,
            &["127.0.0.1:1 is listened to already"],
        ),
        ("a head of nothing", top("server = { max_head = 10 }"), 1, &["max_head is 10", "256"]),
        ("unknown key of the server", top("server = { max_conections = 10 }"), 1, &["`max_connections`"]),
        ("endless keep-alive", top("server = { keep_alive = '25h' }"), 1, &["keep_alive", "1day at most"]),
        (
            "bad network",
            format!("trusted_proxies = ['10.0.0.0/33']\n{UPSTREAM}{ROUTE}"),
            1,
            &["10.0.0.0/33", "10.0.0.0/8"],
        ),
    ];

    for (what, config, line, parts) in cases {
        let message = mistake("mistake", &config).await;

        assert!(message.starts_with(&format!("error: gateway.toml:{line}:")), "{what}: {message}");
        for part in parts {
            assert!(message.contains(part), "{what}: no {part} in {message}");
        }
    }
}

#[tokio::test]
async fn a_file_that_cannot_be_read_is_named() {
    let missing = Path::new(env!("CARGO_TARGET_TMPDIR")).join("no-such-gateway.toml");
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));

    for path in [missing.as_path(), folder] {
        let message = failure(path).await;

        assert!(message.contains(path.to_str().unwrap()), "{message}");
        assert!(message.contains("cannot be read") && message.contains("--config"), "{message}");
    }
}
