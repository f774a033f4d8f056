//! Bodies pass through; they are not held.

use std::{
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use axum::{
    Router,
    body::Body,
    routing::{get, put},
};
use bytes::Bytes;
use futures_util::{Stream, stream};
use http_body_util::BodyExt;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::mpsc,
};

use crate::support::{Gateway, head_of, pause, raw_upstream, soon, until, upstream};

const MIB: usize = 1024 * 1024;

/// `mib` MiB of zeros, in pieces of 64 KiB.
fn zeros(mib: usize) -> impl Stream<Item = Result<Bytes, Infallible>> + Send + 'static {
    static PIECE: [u8; 64 * 1024] = [0; 64 * 1024];
    stream::unfold(
        mib * 16,
        |left| async move { (left > 0).then(|| (Ok(Bytes::from_static(&PIECE)), left - 1)) },
    )
}

async fn count(mut body: Body) -> String {
    let mut bytes = 0;
    while let Some(Ok(frame)) = body.frame().await {
        bytes += frame.data_ref().map_or(0, Bytes::len);
    }
    bytes.to_string()
}

async fn big() -> std::net::SocketAddr {
    let service = Router::new()
        .route("/up", put(count))
        .route("/down", get(|| async { Body::from_stream(zeros(64)) }))
        .route("/small", get(|| async { "small" }));
    upstream(service).await
}

/// What the gateway holds with nothing to do, once it has done each thing it does.
async fn idle_kib(gateway: &Gateway) -> Option<u64> {
    for _ in 0..4 {
        reqwest::get(gateway.url("/small")).await.unwrap().bytes().await.unwrap();
    }
    let idle = gateway.reset_peak_kib();
    if idle.is_none() {
        eprintln!("SKIPPED: no /proc here to read the peak of the resident memory from");
    }
    idle
}

#[track_caller]
fn held_little(gateway: &Gateway, idle: u64) {
    let peak = gateway.peak_kib().expect("readable a moment ago");
    assert!(peak <= idle + 4 * 1024, "idle {idle} KiB, at its peak {peak} KiB");
    eprintln!("idle {idle} KiB, peak {peak} KiB");
}

#[tokio::test]
async fn sixty_four_mib_down_and_up_take_at_most_four_mib_of_memory() {
    let gateway = Gateway::in_front_of("big", big().await, "").await;
    let Some(idle) = idle_kib(&gateway).await else { return };

    let mut answer = reqwest::get(gateway.url("/down")).await.unwrap();
    let mut bytes = 0;
    while let Some(chunk) = answer.chunk().await.unwrap() {
        bytes += chunk.len();
    }
    assert_eq!(bytes, 64 * MIB);
    held_little(&gateway, idle);

    let body = reqwest::Body::wrap_stream(zeros(64));
    let answer = reqwest::Client::new().put(gateway.url("/up")).body(body).send().await.unwrap();
    assert_eq!(answer.text().await.unwrap(), (64 * MIB).to_string());
    held_little(&gateway, idle);
}

#[tokio::test]
async fn the_same_over_http_2() {
    let gateway = Gateway::in_front_of("big-h2", big().await, "").await;
    let client = reqwest::Client::builder().http2_prior_knowledge().build().unwrap();
    client.get(gateway.url("/small")).send().await.unwrap();
    let Some(idle) = idle_kib(&gateway).await else { return };

    let mut answer = client.get(gateway.url("/down")).send().await.unwrap();
    let mut bytes = 0;
    while let Some(chunk) = answer.chunk().await.unwrap() {
        bytes += chunk.len();
    }
    let body = reqwest::Body::wrap_stream(zeros(64));
    let up = client.put(gateway.url("/up")).body(body).send().await.unwrap();

    assert_eq!(bytes, 64 * MIB);
    assert_eq!(up.text().await.unwrap(), (64 * MIB).to_string());
    held_little(&gateway, idle);
}

#[tokio::test]
async fn a_client_that_reads_100_kib_a_second_makes_the_gateway_hold_no_more() {
    let gateway = Gateway::in_front_of("slow-reader", big().await, "").await;
    let Some(idle) = idle_kib(&gateway).await else { return };

    let mut client = TcpStream::connect(gateway.address).await.unwrap();
    client.write_all(b"GET /down HTTP/1.1\r\nhost: it\r\n\r\n").await.unwrap();
    let mut tenth = vec![0; 10 * 1024];
    for _ in 0..40 {
        soon("the next 10 KiB", client.read_exact(&mut tenth)).await.unwrap();
        pause(Duration::from_millis(100)).await;
    }

    held_little(&gateway, idle);
}

#[tokio::test]
async fn an_upstream_that_stops_reading_stops_the_client_and_not_the_gateways_memory() {
    let deaf = raw_upstream(|mut stream| async move {
        let small = head_of(&mut stream).await.starts_with("GET /small");
        if small {
            let _ =
                stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n").await;
        } else {
            std::future::pending::<()>().await;
        }
    })
    .await;
    let gateway = Gateway::in_front_of("deaf", deaf, "").await;
    let Some(idle) = idle_kib(&gateway).await else { return };

    let mut client = TcpStream::connect(gateway.address).await.unwrap();
    client.write_all(b"PUT /up HTTP/1.1\r\nhost: it\r\ncontent-length: 67108864\r\n\r\n").await.unwrap();
    let piece = vec![0; 64 * 1024];
    let mut sent = 0;
    let mut stuck = false;
    while !stuck {
        tokio::select! {
            n = client.write(&piece) => sent += n.unwrap(),
            () = pause(Duration::from_millis(500)) => stuck = true,
        }
    }

    assert!(sent < 64 * MIB, "the client is held back");
    held_little(&gateway, idle);
}

#[tokio::test]
async fn the_first_piece_arrives_before_the_second_is_sent() {
    let (send, receive) = mpsc::unbounded_channel::<&'static str>();
    let receive = Arc::new(tokio::sync::Mutex::new(receive));
    let pieces = get(async move || {
        let pieces = stream::unfold(receive, async |receive| {
            let piece = receive.lock().await.recv().await?;
            Some((Ok::<_, Infallible>(piece), Arc::clone(&receive)))
        });
        Body::from_stream(pieces)
    });
    let gateway = Gateway::in_front_of("pieces", upstream(Router::new().fallback(pieces)).await, "").await;

    send.send("first").unwrap();
    let mut answer = soon("the head", reqwest::get(gateway.url("/"))).await.unwrap();
    assert_eq!(soon("the first piece", answer.chunk()).await.unwrap().unwrap(), "first");
    send.send("second").unwrap();
    assert_eq!(soon("the second piece", answer.chunk()).await.unwrap().unwrap(), "second");
    drop(send);
}

/// Answers without end, counts what could be written, and says so in `writes` and `over`.
async fn endless(written: Arc<AtomicUsize>, over: mpsc::UnboundedSender<()>) -> std::net::SocketAddr {
    raw_upstream(move |mut stream| {
        let (written, over) = (Arc::clone(&written), over.clone());
        async move {
            head_of(&mut stream).await;
            let mut wrote = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 99999999999\r\n\r\n").await;
            while wrote.is_ok() {
                wrote = stream.write(&[0; 16 * 1024]).await.map(|n| {
                    written.fetch_add(n, SeqCst);
                });
            }
            let _ = over.send(());
        }
    })
    .await
}

#[tokio::test]
async fn when_the_client_goes_away_the_upstream_sees_it_before_it_has_sent_one_mib_more() {
    let written = Arc::new(AtomicUsize::new(0));
    let (over, mut is_over) = mpsc::unbounded_channel();
    let gateway = Gateway::in_front_of("abort", endless(Arc::clone(&written), over).await, "").await;
    let mut client = TcpStream::connect(gateway.address).await.unwrap();
    client.write_all(b"GET / HTTP/1.1\r\nhost: it\r\n\r\n").await.unwrap();
    client.read_exact(&mut vec![0; MIB]).await.unwrap();
    // The client reads no more; once every buffer on the way is full, the upstream stands still.
    let mut last = 0;
    until("back-pressure", async || {
        pause(Duration::from_millis(200)).await;
        std::mem::replace(&mut last, written.load(SeqCst)) == written.load(SeqCst)
    })
    .await;

    let before = written.load(SeqCst);
    drop(client);
    soon("the reset at the upstream", is_over.recv()).await.unwrap();

    let more = written.load(SeqCst) - before;
    assert!(more < MIB, "{more} bytes after the client had gone");
}

/// One route to `upstream`, with a short patience for clients.
async fn impatient(name: &str, upstream: std::net::SocketAddr, timeout: &str) -> Gateway {
    let config = format!(
        "send_timeout = '300ms'
         upstream = [{{ name = 'it', url = 'http://{upstream}' }}]
         route = [{{ path = '/', upstream = 'it', timeout = {{ {timeout} }} }}]"
    );
    Gateway::with(name, &config).await
}

#[tokio::test]
async fn a_client_that_stops_reading_is_cut_off_and_its_upstream_is_freed() {
    let (over, mut is_over) = mpsc::unbounded_channel();
    let gateway =
        impatient("deaf-client", endless(Arc::default(), over).await, "idle = '500ms', total = '1s'").await;
    let mut client = TcpStream::connect(gateway.address).await.unwrap();
    client.write_all(b"GET / HTTP/1.1\r\nhost: it\r\n\r\n").await.unwrap();
    client.read_exact(&mut vec![0; MIB]).await.unwrap();

    soon("the reset at the upstream", is_over.recv()).await.unwrap();

    let mut rest = Vec::new();
    let end = soon("the end of the connection", client.read_to_end(&mut rest)).await;
    assert!(end.is_err(), "a reset, not an end: the answer must not look whole");
}

#[tokio::test]
async fn an_http_2_client_that_closes_its_window_loses_the_stream_and_keeps_the_connection() {
    let (over, mut is_over) = mpsc::unbounded_channel();
    let gateway = impatient("closed-window", endless(Arc::default(), over).await, "idle = '500ms'").await;
    let client = h2_client(MIB);
    let mut answer = client.get(gateway.url("/")).send().await.unwrap();
    answer.chunk().await.unwrap().unwrap();
    let mut beside = client.get(gateway.url("/")).send().await.unwrap();
    let read = Arc::new(AtomicUsize::new(0));
    let reads = Arc::clone(&read);
    tokio::spawn(async move {
        while let Ok(Some(chunk)) = beside.chunk().await {
            reads.fetch_add(chunk.len(), SeqCst);
        }
    });

    soon("the reset at the upstream", is_over.recv()).await.unwrap();

    let mut end = Ok(Some(Bytes::new()));
    while let Ok(Some(_)) = end {
        end = soon("the end of the stream", answer.chunk()).await;
    }
    assert!(end.is_err(), "a reset, not an end: the answer must not look whole");
    let before = read.load(SeqCst);
    until("more on the other stream", async || read.load(SeqCst) > before + MIB).await;
}

#[tokio::test]
async fn a_client_that_reads_on_slowly_is_not_cut_off() {
    let service = Router::new().fallback(get(|| async { Body::from_stream(zeros(16)) }));
    let upstream = upstream(service).await;
    let config = format!(
        "send_timeout = '3s'
         upstream = [{{ name = 'it', url = 'http://{upstream}' }}]
         route = [{{ path = '/', upstream = 'it' }}]"
    );
    let gateway = Gateway::with("slow-but-well", &config).await;
    let mut answers = Vec::new();
    for client in [reqwest::Client::new(), h2_client(64 * 1024)] {
        answers.push(client.get(gateway.url("/")).send().await.unwrap());
    }

    let reads = answers.into_iter().map(|mut answer| async move {
        let mut bytes = 0;
        let mut next_pause = MIB;
        while let Some(chunk) = answer.chunk().await.unwrap() {
            bytes += chunk.len();
            if bytes >= next_pause {
                next_pause += MIB;
                pause(Duration::from_millis(250)).await;
            }
        }
        bytes
    });

    assert_eq!(futures_util::future::join_all(reads).await, [16 * MIB; 2]);
}

/// A client of HTTP/2 that lets so many bytes of each stream come unread.
fn h2_client(window: usize) -> reqwest::Client {
    let window = u32::try_from(window).unwrap();
    let builder = reqwest::Client::builder().http2_prior_knowledge();
    builder.http2_initial_stream_window_size(window).build().unwrap()
}

#[tokio::test]
async fn when_a_client_reading_at_full_speed_goes_away_the_upstream_sees_it_before_one_mib_more() {
    let written = Arc::new(AtomicUsize::new(0));
    let (over, mut is_over) = mpsc::unbounded_channel();
    let gateway = Gateway::in_front_of("abort-fast", endless(Arc::clone(&written), over).await, "").await;
    let mut client = TcpStream::connect(gateway.address).await.unwrap();
    client.write_all(b"GET / HTTP/1.1\r\nhost: it\r\n\r\n").await.unwrap();
    client.read_exact(&mut vec![0; 32 * MIB]).await.unwrap();

    // One thread runs this test and its upstream, which so writes nothing between these two lines.
    let before = written.load(SeqCst);
    drop(client);

    soon("the reset at the upstream", is_over.recv()).await.unwrap();
    let more = written.load(SeqCst) - before;
    assert!(more < MIB, "{more} bytes after the client had gone");
}

#[tokio::test]
async fn when_an_http_2_client_resets_a_stream_the_upstream_sees_it_before_one_mib_more() {
    let written = Arc::new(AtomicUsize::new(0));
    let (over, mut is_over) = mpsc::unbounded_channel();
    let gateway = Gateway::in_front_of("abort-h2", endless(Arc::clone(&written), over).await, "").await;
    let client = h2_client(64 * 1024);
    let mut answer = client.get(gateway.url("/")).send().await.unwrap();
    let mut bytes = 0;
    while bytes < 32 * MIB {
        bytes += answer.chunk().await.unwrap().unwrap().len();
    }

    let before = written.load(SeqCst);
    drop(answer);

    soon("the reset at the upstream", is_over.recv()).await.unwrap();
    let more = written.load(SeqCst) - before;
    assert!(more < MIB, "{more} bytes after the stream was reset");
    // The connection lives on.
    assert_eq!(soon("another stream", client.get(gateway.url("/")).send()).await.unwrap().status(), 200);
}

#[tokio::test]
async fn a_client_that_goes_away_before_the_head_ends_the_upstream_call() {
    let (event, mut events) = mpsc::unbounded_channel();
    let waiting = raw_upstream(move |mut stream| {
        let event = event.clone();
        async move {
            head_of(&mut stream).await;
            let _ = event.send("asked");
            // Ends when the other side closes.
            let _ = stream.read_u8().await;
            let _ = event.send("closed");
        }
    })
    .await;
    let gateway = Gateway::in_front_of("abort-early", waiting, "").await;
    let mut client = TcpStream::connect(gateway.address).await.unwrap();
    client.write_all(b"GET / HTTP/1.1\r\nhost: it\r\n\r\n").await.unwrap();
    assert_eq!(soon("the call", events.recv()).await, Some("asked"));

    drop(client);

    assert_eq!(soon("the close", events.recv()).await, Some("closed"));
}

#[tokio::test]
async fn an_upload_cut_off_reaches_the_upstream_as_cut_off() {
    let (end, mut ends) = mpsc::unbounded_channel();
    let service = Router::new().fallback(put(async move |body: Body| {
        let _ = end.send(body.collect().await.is_err());
    }));
    let gateway = Gateway::in_front_of("cut-off", upstream(service).await, "").await;
    let mut client = TcpStream::connect(gateway.address).await.unwrap();
    client.write_all(b"PUT / HTTP/1.1\r\nhost: it\r\ncontent-length: 1000\r\n\r\nhalf").await.unwrap();
    // The upstream has its part before the client goes.
    pause(Duration::from_millis(100)).await;

    drop(client);

    assert_eq!(soon("the end of the body", ends.recv()).await, Some(true));
}
