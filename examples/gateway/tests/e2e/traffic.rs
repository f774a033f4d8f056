//! Upstreams of several endpoints: sessions, splits, mirrors, checks, as clients and upstreams see them.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
};

use axum::{Router, http::StatusCode, routing::any};
use reqwest::{Client, header};

use crate::support::{Gateway, until, upstream};

/// Answers with its name, and counts; it is ready while it is told to be.
#[derive(Clone, Default)]
struct Named {
    calls: Arc<AtomicUsize>,
    is_down: Arc<AtomicBool>,
}

impl Named {
    async fn serve(&self, name: &'static str) -> SocketAddr {
        let Self { calls, is_down } = self.clone();
        let answer = any(move || {
            calls.fetch_add(1, SeqCst);
            std::future::ready(name)
        });
        let ready = any(move || {
            let down = is_down.load(SeqCst);
            std::future::ready(if down { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::OK })
        });
        upstream(Router::new().route("/ready", ready).fallback(answer)).await
    }

    fn calls(&self) -> usize {
        self.calls.load(SeqCst)
    }
}

async fn two() -> ([Named; 2], [SocketAddr; 2]) {
    let named = [Named::default(), Named::default()];
    let addresses = [named[0].serve("one").await, named[1].serve("two").await];
    (named, addresses)
}

fn pool([one, two]: [SocketAddr; 2], more: &str) -> String {
    format!(
        "[[upstream]]\nname = 'it'\nendpoint = [{{ url = 'http://{one}' }}, {{ url = 'http://{two}' }}]\n{more}\n\
         [[route]]\npath = '/'\nupstream = 'it'\n"
    )
}

async fn get(client: &Client, gateway: &Gateway) -> String {
    let answer = client.get(gateway.url("/")).send().await.expect("the gateway answers");
    assert_eq!(answer.status(), 200);
    answer.text().await.expect("a whole body")
}

#[tokio::test]
async fn a_session_stays_at_its_endpoint_and_goes_on_at_another_when_that_is_down() {
    let (named, addresses) = two().await;
    let more = "sticky = { key = '0123456789abcdef0123456789abcdef', insecure = true }\n\
                balance = { policy = 'round_robin' }\n\
                health = { path = '/ready', interval = '50ms', timeout = '50ms', unhealthy_threshold = 1 }";
    let gateway = Gateway::with("sticky", &pool(addresses, more)).await;
    let client = Client::new();
    let first = client.get(gateway.url("/")).send().await.unwrap();
    let cookie = first.headers()[header::SET_COOKIE].to_str().unwrap().to_owned();
    assert!(cookie.starts_with("SERVERID=") && cookie.contains("HttpOnly"), "{cookie}");
    let session = cookie.split(';').next().unwrap().to_owned();
    let owner = first.text().await.unwrap();

    for _ in 0..6 {
        let again = client.get(gateway.url("/")).header(header::COOKIE, &session).send().await.unwrap();
        assert!(again.headers().get(header::SET_COOKIE).is_none());
        assert_eq!(again.text().await.unwrap(), owner);
    }
    named[usize::from(owner == "two")].is_down.store(true, SeqCst);
    until("a session that goes on elsewhere", async || {
        let again = client.get(gateway.url("/")).header(header::COOKIE, &session).send().await.unwrap();
        let moved = again.headers().contains_key(header::SET_COOKIE);
        assert_eq!(again.status(), 200);
        moved && again.text().await.unwrap() != owner
    })
    .await;
}

#[tokio::test]
async fn a_check_takes_an_endpoint_out_and_brings_it_back() {
    let (named, addresses) = two().await;
    let more = "balance = { policy = 'round_robin', slow_start = '1ms' }\n\
                health = { path = '/ready', interval = '50ms', timeout = '50ms', unhealthy_threshold = 1 }";
    let gateway = Gateway::with("checked", &pool(addresses, more)).await;
    let client = Client::new();

    named[0].is_down.store(true, SeqCst);
    until("one alone", async || {
        let mut all = Vec::new();
        for _ in 0..4 {
            all.push(get(&client, &gateway).await);
        }
        all.iter().all(|name| name == "two")
    })
    .await;
    named[0].is_down.store(false, SeqCst);
    until("both", async || get(&client, &gateway).await == "one").await;
}

#[tokio::test]
async fn traffic_is_split_by_user_and_a_user_stays() {
    let (_, [one, two]) = two().await;
    let config = format!(
        "[[upstream]]\nname = 'stable'\nurl = 'http://{one}'\n[[upstream]]\nname = 'canary'\nurl = 'http://{two}'\n\
         [[upstream]]\nname = 'it'\nsplit_key = 'header:x-user'\n\
         split = [{{ upstream = 'stable', weight = 80 }}, {{ upstream = 'canary', weight = 20 }}]\n\
         [[route]]\npath = '/'\nupstream = 'it'\n"
    );
    let gateway = Gateway::with("split", &config).await;
    let client = Client::new();
    let mut canaries = 0;
    for user in 0..200 {
        let ask = async || {
            let answer =
                client.get(gateway.url("/")).header("x-user", user.to_string()).send().await.unwrap();
            answer.text().await.unwrap()
        };
        let side = ask().await;
        assert_eq!(side, ask().await);
        canaries += usize::from(side == "two");
    }
    assert!((15..70).contains(&canaries), "{canaries} of 200 at 20 %");
    assert!(gateway.welcome.contains("stable (80)"), "{}", gateway.welcome);
}

#[tokio::test]
async fn a_mirror_gets_a_copy_and_a_dead_one_changes_nothing() {
    let (named, [one, two]) = two().await;
    let config = |next: SocketAddr| {
        format!(
            "[[upstream]]\nname = 'next'\nurl = 'http://{next}'\n[[upstream]]\nname = 'it'\nurl = 'http://{one}'\n\
             mirror = {{ upstream = 'next' }}\n[[route]]\npath = '/'\nupstream = 'it'\n"
        )
    };
    let gateway = Gateway::with("mirror", &config(two)).await;
    let client = Client::new();
    let answer = client.post(gateway.url("/")).body("order").send().await.unwrap();
    assert_eq!(answer.text().await.unwrap(), "one");
    until("a copy", async || named[1].calls() == 1).await;
    assert_eq!(named[0].calls(), 1);

    let dead = Gateway::with("dead-mirror", &config("127.0.0.1:9".parse().unwrap())).await;
    for _ in 0..5 {
        assert_eq!(get(&client, &dead).await, "one");
    }
}
