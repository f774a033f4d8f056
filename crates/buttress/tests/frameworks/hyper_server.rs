use std::convert::Infallible;

use buttress::{ServiceBuilderExt, reject};
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{Empty, Full};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use tower::ServiceBuilder;

use crate::{limit, listen};

/// Serves connection after connection with this service.
macro_rules! serve {
    ($service:expr) => {{
        let service = TowerToHyperService::new($service);
        let (listener, address) = listen().await;
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let connection = hyper::server::conn::http1::Builder::new()
                    .serve_connection(TokioIo::new(stream), service.clone());
                tokio::spawn(connection);
            }
        });
        address
    }};
}

#[tokio::test]
async fn all_connections_spend_one_budget() {
    let (limit, _time) = limit(2);
    let service = ServiceBuilder::new().layer(limit.on_reject(reject::respond())).service_fn(
        |_: Request<Incoming>| async {
            Ok::<_, Infallible>(Response::new(Full::new(Bytes::from_static(b"hello"))))
        },
    );
    let address = serve!(service);

    let mut seen = Vec::new();
    for _ in 0..3 {
        // A client of its own is a connection of its own.
        let response = reqwest::Client::new().get(format!("http://{address}/")).send().await.unwrap();
        seen.push(response.status().as_u16());
    }

    assert_eq!(seen, [200, 200, 429]);
}

#[tokio::test]
async fn a_body_that_no_bytes_make_is_lifted_once_at_the_bottom() {
    let (limit, _time) = limit(1);
    let service = ServiceBuilder::new().layer(limit.on_reject(reject::respond())).lift_bodies().service_fn(
        |_: Request<Incoming>| async { Ok::<_, Infallible>(Response::new(Empty::<Bytes>::new())) },
    );
    let address = serve!(service);

    let ask = || reqwest::Client::new().get(format!("http://{address}/")).send();
    let (first, second) = (ask().await.unwrap(), ask().await.unwrap());

    assert_eq!((first.status().as_u16(), first.text().await.unwrap().as_str()), (200, ""));
    assert_eq!(second.status(), 429);
    assert!(second.text().await.unwrap().contains("quota"));
}
