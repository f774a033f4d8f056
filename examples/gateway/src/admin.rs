//! The port for operators: `/metrics`, and the pages that orchestrators and load balancers ask.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use buttress::{
    Clock, Problem,
    health::{HealthEndpoints, Readiness},
    reject::Form,
};
use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
};
use tower::ServiceExt;

use crate::{config::Config, metrics::Metrics, print::note, watch::Watch};

/// So many connections at once: those who scrape and probe are few.
const CONNECTIONS: usize = 64;
/// How long a connection may take for the head of a request, and be idle.
const HEAD: Duration = Duration::from_secs(30);
const PAGE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Takes the admin port, where the configuration asks for one, and answers there from now on: its address.
pub(crate) async fn start(config: &Config, watch: &Watch) -> io::Result<Option<SocketAddr>> {
    let (Some(admin), Some(metrics)) = (config.admin(), watch.metrics()) else { return Ok(None) };
    let wanted = admin.listen();
    let listener = TcpListener::bind(wanted).await.map_err(|error| {
        let message = format!("cannot listen on {wanted} for the admin port: {error}");
        io::Error::new(error.kind(), message)
    })?;
    let address = listener.local_addr()?;
    tokio::spawn(serve(listener, metrics.clone(), watch.readiness().clone()));
    Ok(Some(address))
}

/// Answers for as long as the future lives. It answers through the drain as well, when it says that this is not the place for
/// more requests.
async fn serve(listener: TcpListener, metrics: Metrics, readiness: Readiness) {
    let clock = Clock::default();
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let place = Arc::clone(&places).acquire_owned().await.expect("never closed");
        match listener.accept().await {
            Ok((stream, _)) => {
                let connection = connection(stream, metrics.clone(), HealthEndpoints::new(&readiness));
                tokio::spawn(async move {
                    connection.await;
                    drop(place);
                });
            }
            Err(error) => {
                note(format_args!("admin: cannot accept a connection: {error}"));
                clock.sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

/// Ends with the connection. Its errors are the client's.
async fn connection(stream: TcpStream, metrics: Metrics, health: HealthEndpoints) {
    let service = service_fn(move |request: Request<Incoming>| {
        let (metrics, health) = (metrics.clone(), health.clone());
        async move {
            match request.uri().path() {
                "/metrics" => Ok(page(&metrics, &request)),
                _ => health.oneshot(request).await,
            }
        }
    });
    let mut server = http1::Builder::new();
    server.timer(TokioTimer::new()).header_read_timeout(HEAD).max_buf_size(16 * 1024);
    let _ = server.serve_connection(TokioIo::new(stream), service).await;
}

fn page(metrics: &Metrics, request: &Request<Incoming>) -> Response<Full<Bytes>> {
    if request.method() != Method::GET && request.method() != Method::HEAD {
        let mut answer = Problem::new(StatusCode::METHOD_NOT_ALLOWED).reply(Form::of(request));
        answer.headers_mut().insert(header::ALLOW, HeaderValue::from_static("GET, HEAD"));
        return answer;
    }
    let mut answer = Response::new(Full::from(metrics.page()));
    answer.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(PAGE));
    answer.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    answer
}
