use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Stdio,
};

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
                pause(std::time::Duration::from_millis(10)).await;
            }
        })
        .await;
    }

    /// Ends it at once, as a crash does (SIGKILL).
    pub(crate) async fn kill(&mut self) {
        self.child.kill().await.expect("it runs");
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

/// No test: what [`Process`] runs.
#[tokio::test]
#[ignore = "the other side of the tests that kill upstreams"]
async fn serve_as_an_upstream() {
    let Ok(address) = std::env::var(ADDRESS) else { return };
    let log = std::env::var_os(LOG).map(PathBuf::from);
    let listener = TcpListener::bind(&address).await.expect("the address is free");
    let service = Router::new().fallback(move |request| answer(address.clone(), log.clone(), request));
    axum::serve(listener, service).await.expect("it serves until it is killed");
}
