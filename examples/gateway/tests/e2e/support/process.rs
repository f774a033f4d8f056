use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use buttress::health::{HealthEndpoints, Readiness, Shutdown};

use axum::{
    Router,
    extract::Request,
    response::{IntoResponse, Response},
};
use tokio::{
    net::TcpListener,
    process::{Child, Command},
};

use super::{pause, soon};

/// An upstream that is a process of its own, so that it can be killed: this test program once more. Dropping it ends it.
pub(crate) struct Process {
    child: Child,
    pub(crate) address: SocketAddr,
    log: PathBuf,
}

const ADDRESS: &str = "GATEWAY_TEST_UPSTREAM";
const LOG: &str = "GATEWAY_TEST_LOG";

impl Process {
    /// Starts one on a free port. Into `log` it writes a line for each request of an unsafe method that it carries out.
    pub(crate) async fn start(log: &Path) -> Self {
        let free = TcpListener::bind(("127.0.0.1", 0)).await.expect("loopback has free ports");
        let address = free.local_addr().expect("bound");
        drop(free);
        let child = Self::spawn(address, log);
        let process = Self { child, address, log: log.to_owned() };
        process.listens().await;
        process
    }

    fn spawn(address: SocketAddr, log: &Path) -> Child {
        let program = std::env::current_exe().expect("this program");
        let mut command = Command::new(program);
        command.args(["--exact", "support::process::serve_as_an_upstream", "--ignored", "--nocapture"]);
        command.env(ADDRESS, address.to_string()).env(LOG, log);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true);
        command.spawn().expect("this program can be run")
    }

    async fn listens(&self) {
        soon("an upstream that listens", async {
            while tokio::net::TcpStream::connect(self.address).await.is_err() {
                pause(Duration::from_millis(10)).await;
            }
        })
        .await;
    }

    /// Ends it at once, as a crash does (SIGKILL).
    pub(crate) async fn kill(&mut self) {
        self.child.kill().await.expect("it runs");
    }

    /// Ends it in order, as an orchestrator does (SIGTERM), and waits until it has ended.
    pub(crate) async fn end(&mut self) {
        let kill = format!("kill -TERM {}", self.child.id().expect("it runs"));
        let status = std::process::Command::new("sh").args(["-c", &kill]).status().expect("sh can be run");
        assert!(status.success(), "{kill}");
        soon("an upstream that ends", self.child.wait()).await.expect("a child can be waited for");
    }

    /// Starts it again at its address.
    pub(crate) async fn revive(&mut self) {
        self.child = Self::spawn(self.address, &self.log);
        self.listens().await;
    }
}

/// Says who it is; carries out what is not safe only after it has written that down.
async fn answer(name: String, log: Option<PathBuf>, request: Request) -> Response {
    if let (false, Some(log)) = (request.method().is_safe(), log) {
        let id = request.uri().path().to_owned();
        let line = format!("{id}\n");
        let mut options = std::fs::OpenOptions::new();
        let file = options.append(true).create(true).open(log);
        let written = file.and_then(|mut file| std::io::Write::write_all(&mut file, line.as_bytes()));
        written.expect("the log can be written");
    }
    name.into_response()
}

/// No test: what [`Process`] runs. After SIGTERM it is not ready for half a second, and then ends in order.
#[tokio::test]
#[ignore = "the other side of the tests that kill upstreams"]
async fn serve_as_an_upstream() {
    let Ok(address) = std::env::var(ADDRESS) else { return };
    let log = std::env::var_os(LOG).map(PathBuf::from);
    let listener = TcpListener::bind(&address).await.expect("the address is free");
    let readiness = Readiness::new();
    let shutdown =
        Shutdown::new(&readiness).pre_drain(Duration::from_millis(500)).grace(Duration::from_secs(5));
    shutdown.on_signals().expect("signals can be caught");
    let service = Router::new()
        .route_service("/readyz", HealthEndpoints::new(&readiness))
        .fallback(move |request| answer(address.clone(), log.clone(), request));
    let serve = axum::serve(listener, service).with_graceful_shutdown(shutdown.stopping());
    shutdown.run(serve.into_future()).await.expect("it ends in time").expect("it serves until it is ended");
}
