//! What is more than a request and an answer: events one by one.

use std::{convert::Infallible, sync::Arc};

use axum::{
    Router,
    response::{Sse, sse::Event},
    routing::get,
};
use futures_util::stream;
use reqwest::Client;
use tokio::sync::{Mutex, mpsc};

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
