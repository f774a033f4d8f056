//! Where the peer's address is found, and what is said when it is nowhere.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use buttress_core::Key;
use buttress_http::{Peer, key};
use http::Request;
use tracing::field::{Field, Visit};
use tracing::span;

/// Keeps the text of every event.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<String>>>);

impl Visit for Lines {
    fn record_debug(&mut self, _: &Field, value: &dyn std::fmt::Debug) {
        self.0.lock().unwrap().push(format!("{value:?}"));
    }
}

impl tracing::Subscriber for Lines {
    fn enabled(&self, _: &tracing::Metadata<'_>) -> bool {
        true
    }
    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }
    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}
    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}
    fn event(&self, event: &tracing::Event<'_>) {
        event.record(&mut self.clone());
    }
    fn enter(&self, _: &span::Id) {}
    fn exit(&self, _: &span::Id) {}
}

fn address(last: u8) -> SocketAddr {
    ([192, 0, 2, last], 50123).into()
}

#[test]
fn a_missing_peer_is_told_once_with_the_line_to_write() {
    let lines = Lines::default();

    tracing::subscriber::with_default(lines.clone(), || {
        for _ in 0..3 {
            assert!(!key::client_ip().key(&Request::new(()), &mut Vec::new()));
        }
    });

    let lines = lines.0.lock().unwrap();
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert!(lines[0].contains("into_make_service_with_connect_info::<SocketAddr>()"), "{lines:?}");
    assert!(lines[0].contains("buttress_http::Peer"), "{lines:?}");
}

#[test]
fn the_extension_tells_the_peer() {
    let mut request = Request::new(());
    request.extensions_mut().insert(Peer(address(1)));

    assert_eq!(Peer::of(&request), Some(Peer(address(1))));
}

#[cfg(feature = "axum")]
#[test]
fn axums_connect_info_tells_the_peer_where_there_is_no_extension() {
    use axum::extract::ConnectInfo;
    use axum::extract::connect_info::MockConnectInfo;

    let mut request = Request::new(());
    request.extensions_mut().insert(MockConnectInfo(address(3)));
    assert_eq!(Peer::of(&request), Some(Peer(address(3))));
    request.extensions_mut().insert(ConnectInfo(address(2)));
    assert_eq!(Peer::of(&request), Some(Peer(address(2))));
    request.extensions_mut().insert(Peer(address(1)));
    assert_eq!(Peer::of(&request), Some(Peer(address(1))));
}

#[cfg(feature = "tonic")]
#[test]
fn tonics_connect_info_tells_the_peer() {
    use tonic::transport::server::TcpConnectInfo;

    let mut request = Request::new(());
    request.extensions_mut().insert(TcpConnectInfo { local_addr: None, remote_addr: Some(address(2)) });

    assert_eq!(Peer::of(&request), Some(Peer(address(2))));
}

#[cfg(feature = "axum")]
#[tokio::test]
async fn axum_routes_count_by_their_template() {
    use axum::{Router, body::Body, middleware, routing::get};
    use tower_service::Service;

    let seen = Arc::new(Mutex::new(Vec::new()));
    let record = {
        let seen = Arc::clone(&seen);
        move |request: Request<Body>, next: middleware::Next| {
            let mut key = Vec::new();
            let found = key::route().key(&request, &mut key);
            seen.lock().unwrap().push((found, key));
            next.run(request)
        }
    };
    let mut app = Router::new().route("/users/{id}", get(|| async {})).layer(middleware::from_fn(record));

    for uri in ["/users/1", "/users/2", "/nowhere"] {
        app.call(Request::get(uri).body(Body::empty()).unwrap()).await.unwrap();
    }

    let seen = seen.lock().unwrap();
    assert!(seen[0].0 && seen[0] == seen[1], "{seen:?}");
    assert_eq!(seen[2], (false, vec![]));
}
