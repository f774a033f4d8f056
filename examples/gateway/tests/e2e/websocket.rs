//! WebSocket, through the gateway: what is sent arrives, each end closes, a drain says goodbye.

use std::net::SocketAddr;

use futures_util::{SinkExt, StreamExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::{
    MaybeTlsStream, WebSocketStream, accept_async, connect_async,
    tungstenite::{
        Message,
        protocol::{CloseFrame, frame::coding::CloseCode},
    },
};

use crate::support::{Gateway, soon};

type Client = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// An upstream that sends back what it gets, and closes when it is asked to by the word "bye".
async fn echo() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback has free ports");
    let address = listener.local_addr().expect("bound");
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut socket = accept_async(stream).await.expect("a handshake");
                while let Some(Ok(message)) = socket.next().await {
                    if message == Message::text("bye") {
                        let frame = CloseFrame { code: CloseCode::Library(4000), reason: "as asked".into() };
                        let _ = socket.close(Some(frame)).await;
                    } else if message.is_text() || message.is_binary() {
                        let _ = socket.send(message).await;
                    }
                }
            });
        }
    });
    address
}

async fn connected(gateway: &Gateway) -> Client {
    let url = format!("ws://{}/chat", gateway.address);
    let (client, answer) = soon("the handshake", connect_async(url)).await.unwrap();
    assert_eq!(answer.status(), 101);
    client
}

async fn echoed(client: &mut Client, message: Message) {
    client.send(message.clone()).await.unwrap();
    let back = soon("the echo", client.next()).await.unwrap().unwrap();
    assert!(back == message, "{} bytes came back as {}", message.len(), back.len());
}

#[tokio::test]
async fn what_is_sent_comes_back_and_a_close_goes_through() {
    let gateway = Gateway::in_front_of("websocket", echo().await, "").await;
    let mut client = connected(&gateway).await;

    echoed(&mut client, Message::text("hello")).await;
    echoed(&mut client, Message::binary(vec![7; 1 << 20])).await;
    for number in 0..100 {
        echoed(&mut client, Message::text(number.to_string())).await;
    }
    client.send(Message::Ping(vec![1, 2, 3].into())).await.unwrap();
    let pong = soon("the pong", client.next()).await.unwrap().unwrap();
    assert_eq!(pong, Message::Pong(vec![1, 2, 3].into()));

    client.send(Message::text("bye")).await.unwrap();
    let close = soon("the close", client.next()).await.unwrap().unwrap();
    let Message::Close(Some(frame)) = close else { panic!("{close}") };
    assert_eq!((frame.code, frame.reason.as_str()), (CloseCode::Library(4000), "as asked"));
    assert!(soon("the end", client.next()).await.is_none_or(|end| end.is_err()));
}

#[tokio::test]
async fn many_at_once_keep_to_themselves() {
    let gateway = Gateway::in_front_of("websockets", echo().await, "").await;
    let mut clients = Vec::new();
    for _ in 0..50 {
        clients.push(connected(&gateway).await);
    }

    for round in 0..5 {
        for (number, client) in clients.iter_mut().enumerate() {
            echoed(client, Message::text(format!("{round} of {number}"))).await;
        }
    }
}

#[tokio::test]
async fn a_drain_closes_it_with_1001_and_the_gateway_ends() {
    let gateway = Gateway::in_front_of("websocket-drain", echo().await, "").await;
    let mut client = connected(&gateway).await;
    echoed(&mut client, Message::text("hello")).await;

    gateway.signal("TERM");

    let close = soon("the close", client.next()).await.unwrap().unwrap();
    let Message::Close(Some(frame)) = close else { panic!("{close}") };
    assert_eq!(frame.code, CloseCode::Away);
    // Its own Close goes out as it reads on, and the gateway ends the connection.
    while soon("the end", client.next()).await.is_some_and(|more| more.is_ok()) {}
    drop(client);
    let (status, notes) = gateway.ended().await;
    assert_eq!(status.code(), Some(0), "{notes}");
    assert!(!notes.contains("cut off"), "{notes}");
}
