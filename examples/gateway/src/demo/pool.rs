//! Several servers of one service, each of which can be killed and revived.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex, PoisonError},
};

use axum::{
    Router,
    extract::{Path, State},
    http::{HeaderName, HeaderValue, StatusCode},
    middleware::map_response,
    response::{IntoResponse, Response},
    routing::{get, post},
};
use tokio::runtime::Runtime;

const SERVED_BY: HeaderName = HeaderName::from_static("x-served-by");

/// The servers; dropping them ends them.
#[derive(Clone)]
pub(super) struct Pool(Arc<[Server]>);

struct Server {
    name: &'static str,
    address: SocketAddr,
    service: Router,
    /// A runtime of its own, so that all its connections end with it; `None` while it is dead.
    alive: Mutex<Option<Runtime>>,
}

impl Pool {
    /// Starts a server of this service for each name. What it answers says which one it was.
    pub(super) fn start(names: [&'static str; 3], service: &Router) -> io::Result<Self> {
        let server = |name| {
            let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
            let address = listener.local_addr()?;
            let who = HeaderValue::from_static(name);
            let sign = map_response(move |mut response: Response| {
                response.headers_mut().insert(SERVED_BY, who.clone());
                std::future::ready(response)
            });
            let who = get(move || std::future::ready(format!("{name}\n")));
            let service = service.clone().route("/users/who", who).layer(sign);
            let alive = Mutex::new(Some(serve(listener, service.clone())?));
            Ok(Server { name, address, service, alive })
        };
        Ok(Self(names.into_iter().map(server).collect::<io::Result<_>>()?))
    }

    pub(super) fn addresses(&self) -> impl Iterator<Item = SocketAddr> {
        self.0.iter().map(|server| server.address)
    }

    /// The service that kills and revives them.
    pub(super) fn control(&self) -> Router {
        Router::new()
            .route("/demo/kill/{name}", post(kill))
            .route("/demo/revive/{name}", post(revive))
            .with_state(self.clone())
    }

    fn server(&self, name: &str) -> Option<&Server> {
        self.0.iter().find(|server| server.name == name)
    }
}

fn serve(listener: std::net::TcpListener, service: Router) -> io::Result<Runtime> {
    listener.set_nonblocking(true)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    runtime.spawn(async move { axum::serve(tokio::net::TcpListener::from_std(listener)?, service).await });
    Ok(runtime)
}

impl Server {
    /// As a crash does: its connections break off, and its port refuses.
    fn kill(&self) {
        if let Some(runtime) = self.alive.lock().unwrap_or_else(PoisonError::into_inner).take() {
            runtime.shutdown_background();
        }
    }

    fn revive(&self) -> io::Result<()> {
        let mut alive = self.alive.lock().unwrap_or_else(PoisonError::into_inner);
        if alive.is_none() {
            // The standard library lets a port be taken again while old connections linger.
            *alive = Some(serve(std::net::TcpListener::bind(self.address)?, self.service.clone())?);
        }
        Ok(())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

async fn kill(State(pool): State<Pool>, Path(name): Path<String>) -> Response {
    let Some(server) = pool.server(&name) else { return StatusCode::NOT_FOUND.into_response() };
    server.kill();
    format!("{name} is gone\n").into_response()
}

async fn revive(State(pool): State<Pool>, Path(name): Path<String>) -> Response {
    let Some(server) = pool.server(&name) else { return StatusCode::NOT_FOUND.into_response() };
    match server.revive() {
        Ok(()) => format!("{name} is back\n").into_response(),
        Err(error) => (StatusCode::SERVICE_UNAVAILABLE, format!("{name}: {error}\n")).into_response(),
    }
}
