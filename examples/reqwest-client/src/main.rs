//! cargo run -p reqwest-client
//!
//! A reqwest client behind `presets::client()` and `presets::hedged_client()`. It calls three small upstreams, which live in
//! this process and misbehave each in its own way, and prints what came of it: how often it called, how often they were
//! called, and what the layers in between did.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use axum::{Router, http::StatusCode, routing::any};
use buttress::circuit_breaker::Settings;
use buttress::presets::{self, ClientService};
use buttress::{Budget, Cause, Clock, client::Reqwest};
use http::{Method, Request};
use tokio::net::TcpListener;
use tower::{Layer, Service, ServiceExt};

type Error = Box<dyn std::error::Error + Send + Sync>;

#[tokio::main]
async fn main() -> Result<(), Error> {
    flaky().await?;
    down().await?;
    slow().await
}

/// Every third request fails: retries mend that, where the request may be sent again.
async fn flaky() -> Result<(), Error> {
    let upstream = Upstream::start(|n| async move { if n % 3 == 0 { 503 } else { 200 } }).await?;
    let stack = presets::client()
        .named("flaky")
        .attempt_timeout(Duration::from_secs(2))
        .total_timeout(Duration::from_secs(10))
        .budget(Budget::ratio(0.2).min_per_second(10));
    let handle = stack.handle();
    // The field of a struct would have this type too.
    let client: ClientService<Reqwest> = stack.layer(Reqwest::new());

    println!("flaky: every third request is answered with 503");
    let mut answered = 0;
    for _ in 0..30 {
        answered += u32::from(send(&client, Method::GET, &upstream.url).await == Ok(200));
    }
    let (requests, retries) = (upstream.requests(), handle.retries().snapshot().retries);
    println!("  30 GETs: {answered} answered with 200, by {requests} requests, {retries} of them retries");

    let (mut lost, before) = (0, upstream.requests());
    for _ in 0..3 {
        lost += u32::from(send(&client, Method::POST, &upstream.url).await == Ok(503));
    }
    let requests = upstream.requests() - before;
    println!(
        "  3 POSTs: {lost} lost, by {requests} requests: what may have been carried out is not sent twice"
    );
    Ok(())
}

/// The upstream fails altogether, and is left alone until it may be back.
async fn down() -> Result<(), Error> {
    let well = Arc::new(AtomicBool::new(false));
    let state = well.clone();
    let upstream = Upstream::start(move |_| {
        let status = if state.load(Ordering::Relaxed) { 200 } else { 500 };
        async move { status }
    })
    .await?;
    // Opens at half of 20 attempts, as it does by default, but for a short time, so that nobody has to wait here.
    let open_for = Duration::from_secs(1);
    let stack = presets::client().named("down").breaker(Settings::default().open_for(open_for, open_for));
    let handle = stack.handle();
    let client = stack.layer(Reqwest::new());

    println!("down: every request is answered with 500");
    let mut refusal = None;
    for _ in 0..50 {
        if let Err(error) = send(&client, Method::GET, &upstream.url).await {
            refusal = Some(error);
        }
    }
    let (requests, refused) = (upstream.requests(), handle.breaker().counts().refused);
    println!("  50 GETs: {requests} requests, then the breaker was open and refused {refused} attempts");
    println!("  the last one: {}", refusal.unwrap_or_default());

    well.store(true, Ordering::Relaxed);
    Clock::default().sleep(open_for).await;
    let mut answered = 0;
    for _ in 0..10 {
        answered += u32::from(send(&client, Method::GET, &upstream.url).await == Ok(200));
    }
    let key = upstream.url.trim_start_matches("http://").trim_end_matches('/');
    println!(
        "  well again: {answered} of 10 GETs answered, the breaker is {}",
        handle.breaker().key(key).state()
    );
    Ok(())
}

/// One request in 25 is slow by chance: a second one is made, and answers before it.
async fn slow() -> Result<(), Error> {
    let late = Duration::from_millis(600);
    let start = || {
        Upstream::start(move |n| async move {
            if n % 25 == 0 {
                Clock::default().sleep(late).await;
            }
            200
        })
    };
    println!("slow: every 25th request takes {late:?}");

    let upstream = start().await?;
    let client = presets::client().layer(Reqwest::new());
    println!(
        "  100 GETs as they are: {} took half of that or longer",
        count_slow(&client, &upstream, late / 2).await
    );

    let upstream = start().await?;
    // By default after the time that 95 of 100 calls take, once a hundred are known.
    let stack = presets::hedged_client().named("slow").hedge(|hedge| hedge.delay(Duration::from_millis(100)));
    let handle = stack.handle();
    let client = stack.layer(Reqwest::new());
    let slow = count_slow(&client, &upstream, late / 2).await;
    let (hedges, counts) = (handle.hedges().snapshot(), handle.breaker().counts());
    println!(
        "  100 GETs hedged after 100 ms: {slow} took so long, {} hedges, {} of them won",
        hedges.fired, hedges.won
    );
    println!(
        "  the breaker counted {} answers, and none of the {} that lost",
        counts.succeeded, counts.abandoned
    );
    Ok(())
}

/// How many of a hundred calls take as long as `limit`.
async fn count_slow<S>(client: &S, upstream: &Upstream, limit: Duration) -> u32
where
    S: Service<Request<String>, Response = http::Response<reqwest::Body>, Error: Cause + ToString> + Clone,
{
    let clock = Clock::default();
    let mut slow = 0;
    for _ in 0..100 {
        let start = clock.now();
        let _ = send(client, Method::GET, &upstream.url).await;
        slow += u32::from(clock.now() - start >= limit);
    }
    slow
}

/// One call: its status, or why there is none.
async fn send<S>(client: &S, method: Method, url: &str) -> Result<u16, String>
where
    S: Service<Request<String>, Response = http::Response<reqwest::Body>, Error: Cause + ToString> + Clone,
{
    let request =
        Request::builder().method(method).uri(url).body(String::new()).map_err(|error| error.to_string())?;
    match client.clone().oneshot(request).await {
        Ok(answer) => Ok(answer.status().as_u16()),
        Err(error) => Err(match error.rejection() {
            Some(refusal) => format!("{refusal}"),
            None => error.to_string(),
        }),
    }
}

/// A small server that counts its requests, from 1, and answers each with the status that a closure makes of its number.
struct Upstream {
    url: String,
    requests: Arc<AtomicUsize>,
}

impl Upstream {
    async fn start<F>(status: impl Fn(usize) -> F + Clone + Send + Sync + 'static) -> std::io::Result<Self>
    where
        F: Future<Output = u16> + Send + 'static,
    {
        let requests = Arc::new(AtomicUsize::new(0));
        let count = requests.clone();
        let answer = move || {
            let status = status(count.fetch_add(1, Ordering::Relaxed) + 1);
            async move { StatusCode::from_u16(status.await).unwrap_or_default() }
        };
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let url = format!("http://{}/", listener.local_addr()?);
        tokio::spawn(async move { axum::serve(listener, Router::new().route("/", any(answer))).await });
        Ok(Self { url, requests })
    }

    fn requests(&self) -> usize {
        self.requests.load(Ordering::Relaxed)
    }
}
