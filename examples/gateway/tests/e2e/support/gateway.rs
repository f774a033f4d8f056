use std::{
    ffi::OsStr,
    net::SocketAddr,
    process::{ExitStatus, Stdio},
};

use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, BufReader},
    process::{Child, Command},
};

use super::{config_file, soon};

/// The binary, ready to take requests. Dropping it ends the process, by its id.
pub(crate) struct Gateway {
    child: Child,
    pub(crate) address: SocketAddr,
    /// All that it printed.
    pub(crate) welcome: String,
    /// What was read of its notes.
    notes: String,
}

/// The binary with `args`, not started yet.
pub(crate) fn gateway<A: AsRef<OsStr>>(args: impl IntoIterator<Item = A>) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_gateway"));
    command.args(args).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    command
}

impl Gateway {
    /// The demo on a free port.
    pub(crate) async fn demo() -> Self {
        Self::start(gateway(["--listen", "127.0.0.1:0"])).await
    }

    /// With a configuration of its own, on a free port; `name` is the test's own.
    pub(crate) async fn with(name: &str, config: &str) -> Self {
        let path = config_file(name, config);
        Self::start(gateway([
            OsStr::new("--listen"),
            "127.0.0.1:0".as_ref(),
            "--config".as_ref(),
            path.as_ref(),
        ]))
        .await
    }

    /// With one route, "/", to `upstream`; `more` is added to the route.
    pub(crate) async fn in_front_of(name: &str, upstream: SocketAddr, more: &str) -> Self {
        let config = format!(
            "[[upstream]]\nname = 'it'\nurl = 'http://{upstream}'\n[[route]]\npath = '/'\nupstream = 'it'\n{more}"
        );
        Self::with(name, &config).await
    }

    pub(crate) async fn start(mut command: Command) -> Self {
        let mut child = command.spawn().expect("the binary was built for this test");
        let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
        let mut welcome = String::new();
        while let Some(line) = soon("the welcome", lines.next_line()).await.expect("readable") {
            welcome += &line;
            welcome.push('\n');
            if line.starts_with("Ctrl-C") {
                let url = welcome.split("listening on ").nth(1).expect("an address");
                let url = url.split("://").nth(1).expect("an address");
                let address = url.split_whitespace().next().expect("an address").parse().expect("an address");
                return Self { child, address, welcome, notes: String::new() };
            }
        }
        let mut errors = String::new();
        child.stderr.take().expect("piped").read_to_string(&mut errors).await.expect("readable");
        panic!("the gateway ended before it listened: {errors}");
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// Of the admin port.
    pub(crate) fn admin_url(&self, path: &str) -> String {
        let said = self.welcome.split("for operators: http://").nth(1).expect("an admin port");
        format!("http://{}{path}", said.split('/').next().expect("an address"))
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id().expect("still running")
    }

    /// Sends a signal such as "INT".
    pub(crate) fn signal(&self, name: &str) {
        let kill = format!("kill -{name} {}", self.id());
        let status = std::process::Command::new("sh").args(["-c", &kill]).status().expect("sh can be run");
        assert!(status.success(), "{kill}");
    }

    /// Waits for the end; the status, and what went to standard error.
    pub(crate) async fn ended(mut self) -> (ExitStatus, String) {
        let status =
            soon("the end of the gateway", self.child.wait()).await.expect("a child can be waited for");
        let mut errors = self.notes;
        self.child.stderr.take().expect("piped").read_to_string(&mut errors).await.expect("readable");
        (status, errors)
    }

    /// Forgets what was read of its notes.
    pub(crate) fn forget(&mut self) {
        self.notes.clear();
    }

    /// Waits until its notes have `text`, and gives what they have so far.
    pub(crate) async fn says(&mut self, text: &str) -> &str {
        let errors = self.child.stderr.as_mut().expect("piped");
        while !self.notes.contains(text) {
            let byte = soon(text, errors.read_u8()).await.expect("it runs");
            self.notes.push(char::from(byte));
        }
        &self.notes
    }

    /// A field of /proc/PID/status in KiB; `None` where there is no /proc.
    fn status_kib(&self, field: &str) -> Option<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.id())).ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'))?;
        line.split_whitespace().next()?.parse().ok()
    }

    /// Forgets the peak of the resident memory so far, and says what is resident now.
    ///
    /// Where forgetting is not allowed, the peak counts from the start, which is the harder test.
    pub(crate) fn reset_peak_kib(&self) -> Option<u64> {
        let _ = std::fs::write(format!("/proc/{}/clear_refs", self.id()), "5");
        self.status_kib("VmRSS")
    }

    /// The most that was resident since the last reset.
    pub(crate) fn peak_kib(&self) -> Option<u64> {
        self.status_kib("VmHWM")
    }
}
