//! Over real connections: a server in front, whose requests are mirrored to another by hyper's client.

use std::net::SocketAddr;

use buttress_testkit::Server;
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;

use super::*;

/// One request on a connection of its own.
async fn exchange<B>(to: SocketAddr, http2: bool, request: Request<B>) -> Result<Response<Incoming>, BoxError>
where
    B: http_body::Body<Data = Bytes, Error: Into<BoxError>> + Send + Unpin + 'static,
{
    let io = TokioIo::new(TcpStream::connect(to).await?);
    if http2 {
        let (mut sender, connection) =
            hyper::client::conn::http2::handshake(TokioExecutor::new(), io).await?;
        tokio::spawn(connection);
        Ok(sender.send_request(request).await?)
    } else {
        let (mut sender, connection) = hyper::client::conn::http1::handshake(io).await?;
        tokio::spawn(connection);
        Ok(sender.send_request(request).await?)
    }
}

#[tokio::test]
async fn requests_of_clients_reach_both_servers_over_http1_and_http2() {
    let bodies = Arc::new(Mutex::new(Vec::new()));
    let got = Arc::clone(&bodies);
    let shadow = Server::start(service_fn(move |request: Request<Incoming>| {
        let got = Arc::clone(&got);
        async move {
            let (head, body) = request.into_parts();
            let body = body.collect().await?.to_bytes();
            got.lock().unwrap().push((head.method, head.uri.path().to_owned(), body));
            Ok::<_, hyper::Error>(Response::new(Full::new(Bytes::from("nobody reads this"))))
        }
    }))
    .await;

    for http2 in [false, true] {
        let to = shadow.address();
        let layer =
            MirrorLayer::new(service_fn(move |request: Request<MirroredBody>| exchange(to, http2, request)));
        let handle = layer.handle();
        let main = service_fn(|request: Request<TeeBody<Incoming>>| async {
            let body = request.into_body().collect().await?.to_bytes();
            Ok::<_, hyper::Error>(Response::new(Full::new(body)))
        });
        let front = Server::start(layer.layer(main)).await;
        let request = |body| {
            let uri = format!("http://{}/orders", front.address());
            Request::post(uri).header("host", "example.com").body(body).unwrap()
        };

        for body in [
            ScriptedBody::new(),
            ScriptedBody::new().data("of a known length"),
            ScriptedBody::new().data("in ").data("chunks").chunked(),
        ] {
            let answer = exchange(front.address(), http2, request(body)).await.unwrap();
            let answer = answer.into_body().collect().await.unwrap().to_bytes();
            while handle.in_flight() > 0 {
                tokio::task::yield_now().await;
            }
            let expected = (http::Method::POST, "/orders".to_owned(), answer);
            assert_eq!(bodies.lock().unwrap().drain(..).collect::<Vec<_>>(), [expected], "HTTP/2: {http2}");
        }
        let counts = handle.counts();
        assert_eq!((counts.mirrored, counts.answered, counts.not_mirrored), (3, 3, 0));
    }
}

#[tokio::test]
async fn a_mirror_where_nobody_listens_fails_beside_the_call() {
    let nobody = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let layer =
        MirrorLayer::new(service_fn(move |request: Request<MirroredBody>| exchange(nobody, false, request)));

    assert_eq!(send(layer.layer(echo()), post(ScriptedBody::new().data("x"))).await.unwrap(), "x");
    while layer.handle().in_flight() > 0 {
        tokio::task::yield_now().await;
    }

    assert_eq!(layer.handle().counts().failed, 1);
}
