//! What is more than a request and an answer: events one by one, a thousand streams of one connection.

use std::{collections::HashSet, convert::Infallible, sync::Arc};

use axum::{
    Router,
    extract::Path,
    response::{IntoResponse, Sse, sse::Event},
    routing::get,
};
use bytes::Bytes;
use futures_util::{future::join_all, stream};
use http::Request;
use http_body_util::{BodyExt, Empty};
use hyper_util::rt::{TokioExecutor, TokioIo};
use reqwest::Client;
use tokio::{
    net::TcpStream,
    sync::{Barrier, Mutex, mpsc},
};

use crate::support::{Gateway, soon, upstream};

#[tokio::test]
async fn server_sent_events_arrive_one_by_one_as_they_are_sent() {
    for http2 in [false, true] {
        let (send, events) = mpsc::unbounded_channel::<u32>();
        let events = Arc::new(Mutex::new(events));
        let stream = get(async move || {
            Sse::new(stream::unfold(events, async |events| {
                let number = events.lock().await.recv().await?;
                let event = Event::default().id(number.to_string()).data(format!("number {number}"));
                Some((Ok::<_, Infallible>(event), Arc::clone(&events)))
            }))
        });
        let upstream = upstream(Router::new().fallback(stream)).await;
        let gateway = Gateway::in_front_of(&format!("events-{http2}"), upstream, "").await;
        let client = Client::builder();
        let client = if http2 { client.http2_prior_knowledge() } else { client };

        let request = client.build().unwrap().get(gateway.url("/")).header("accept", "text/event-stream");
        let mut answer = soon("the head", request.send()).await.unwrap();
        assert_eq!(answer.headers()["content-type"], "text/event-stream");
        // The next one is not even made before this one is here.
        for number in 0..20 {
            send.send(number).unwrap();
            let mut event = Vec::new();
            while !event.ends_with(b"\n\n") {
                event.extend(soon("an event", answer.chunk()).await.unwrap().expect("more events"));
            }
            assert_eq!(String::from_utf8(event).unwrap(), format!("id: {number}\ndata: number {number}\n\n"));
        }
        drop(send);
        assert_eq!(soon("the end", answer.bytes()).await.unwrap(), "");
    }
}

#[tokio::test]
async fn a_thousand_streams_of_one_connection_are_answered_each_with_its_own() {
    const STREAMS: usize = 1_000;
    // Each call waits until all are there.
    let all = Arc::new(Barrier::new(STREAMS));
    let echo = get(async move |Path(number): Path<usize>| {
        all.wait().await;
        format!("answer {number}").into_response()
    });
    let upstream = upstream(Router::new().route("/{number}", echo)).await;
    let config = format!(
        "server = {{ max_streams = {STREAMS} }}\n[[upstream]]\nname = 'it'\nurl = 'http://{upstream}'\n\
         [[route]]\npath = '/'\nupstream = 'it'\n"
    );
    let gateway = Gateway::with("streams", &config).await;

    let stream = TokioIo::new(TcpStream::connect(gateway.address).await.unwrap());
    let (client, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), stream).await.unwrap();
    tokio::spawn(connection);
    let calls = (0..STREAMS).map(|number| {
        let mut client = client.clone();
        let request = Request::get(gateway.url(&format!("/{number}"))).body(Empty::<Bytes>::new()).unwrap();
        async move {
            let answer = client.send_request(request).await.unwrap();
            assert_eq!(answer.status(), 200);
            let body = answer.into_body().collect().await.unwrap().to_bytes();
            assert_eq!(body, format!("answer {number}"));
            number
        }
    });

    let answered: HashSet<_> = soon("all answers", join_all(calls)).await.into_iter().collect();

    assert_eq!(answered.len(), STREAMS);
}
