//! Does the program do what it prints? The built binary, a real client.

use std::process::Stdio;

use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, Command},
};

/// The program on a free port, ended when dropped; and its address.
async fn start() -> (Child, String) {
    let mut child = Command::new(env!("CARGO_BIN_EXE_axum-api"))
        .arg("127.0.0.1:0")
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .expect("the binary was built for this test");
    let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
    let first = lines.next_line().await.expect("readable").expect("it says where it listens");
    let url =
        first.strip_prefix("listening on ").and_then(|rest| rest.strip_suffix(", try:")).expect("an address");
    let url = url.to_owned();
    // Its other lines must find a reader too.
    while let Ok(Some(line)) = lines.next_line().await {
        if line.contains("/readyz") {
            break;
        }
    }
    (child, url)
}

#[tokio::test]
async fn the_eleventh_request_at_once_is_a_429_that_says_when_to_come_back() {
    let (_child, url) = start().await;
    let client = reqwest::Client::new();
    let get = async || client.get(format!("{url}/users/1")).send().await.unwrap();

    // Five a second come back meanwhile, so on a slow machine it is not the eleventh but one soon after.
    let mut admitted = 0;
    let refused = loop {
        let answer = get().await;
        if answer.status() == 429 {
            break answer;
        }
        assert_eq!(answer.status(), 200);
        admitted += 1;
        assert!(admitted < 1_000, "the limit never bites");
    };

    assert!(admitted >= 10, "{admitted}");
    assert_eq!(refused.headers()["content-type"], "application/problem+json");
    assert_eq!(refused.headers()["retry-after"], "1");
}

#[tokio::test]
async fn who_is_on_the_pro_plan_has_its_numbers() {
    let (_child, url) = start().await;
    let client = reqwest::Client::new();

    for _ in 0..50 {
        let request = client.get(format!("{url}/users/1")).header("x-api-key", "demo-pro");
        assert_eq!(request.send().await.unwrap().status(), 200);
    }
}

#[tokio::test]
async fn an_answer_that_takes_too_long_is_a_504() {
    let (_child, url) = start().await;

    let answer = reqwest::get(format!("{url}/report")).await.unwrap();

    assert_eq!(answer.status(), 504);
    assert_eq!(answer.headers()["content-type"], "application/problem+json");
}

#[tokio::test]
async fn a_caller_with_less_time_is_answered_that_its_deadline_has_passed() {
    let (_child, url) = start().await;
    let left =
        |ms| reqwest::Client::new().get(format!("{url}/report")).header("x-envoy-expected-rq-timeout-ms", ms);

    let answer = left("50").send().await.unwrap();

    assert_eq!(answer.status(), 504);
    assert!(answer.text().await.unwrap().contains("deadline"));
}

#[tokio::test]
async fn the_service_itself_answers_as_before() {
    let (_child, url) = start().await;

    assert!(reqwest::get(format!("{url}/users/2")).await.unwrap().text().await.unwrap().contains("Grace"));
    assert_eq!(reqwest::get(format!("{url}/users/9")).await.unwrap().status(), 404);
}

#[cfg(unix)]
#[tokio::test]
async fn told_to_end_it_says_so_and_serves_on_and_told_twice_it_ends_at_once() {
    let (mut child, url) = start().await;
    let client = reqwest::Client::new();
    let status =
        async |path: &str| client.get(format!("{url}{path}")).send().await.unwrap().status().as_u16();
    let pid = child.id().expect("it runs").to_string();
    let signal = async |name: &str| {
        assert!(Command::new("kill").args([name, &pid]).status().await.unwrap().success());
    };
    assert_eq!((status("/readyz").await, status("/livez").await), (200, 200));

    signal("-TERM").await;
    while status("/readyz").await != 503 {
        tokio::task::yield_now().await;
    }
    assert_eq!((status("/livez").await, status("/users/1").await), (200, 200));
    signal("-INT").await;

    assert!(!child.wait().await.unwrap().success(), "the shutdown was aborted");
}
