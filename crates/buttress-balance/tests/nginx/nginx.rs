//! A real nginx on free ports of the loopback, which ends with its value.

use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;
use std::{env, fs, process, thread};

/// Debian keeps it where an ordinary user does not look.
const PLACES: [&str; 3] = ["nginx", "/usr/sbin/nginx", "/usr/local/sbin/nginx"];

fn program() -> Option<&'static str> {
    PLACES.into_iter().find(|program| {
        Command::new(program).arg("-v").stderr(Stdio::null()).status().is_ok_and(|status| status.success())
    })
}

/// Whether nginx is there. A missing one is a failure where everything is required, else said aloud.
pub(crate) fn have_nginx() -> bool {
    let found = program().is_some();
    let required = env::var_os("BUTTRESS_REQUIRE_SERVICES").is_some_and(|value| value == "1");
    assert!(found || !required, "nginx is required and cannot be run");
    if !found {
        eprintln!(
            "SKIPPED: nginx cannot be run; install it, or set BUTTRESS_REQUIRE_SERVICES=1 to fail here"
        );
    }
    found
}

/// One `server` of the upstream.
#[derive(Clone, Debug)]
pub(crate) struct Server {
    /// As nginx has it behind `server`.
    pub(crate) name: String,
    pub(crate) weight: u32,
    /// Where the backend listens, if there is one.
    listen: Option<String>,
}

impl Server {
    /// `name` with a free port, where a backend listens at `address`.
    pub(crate) fn at(name: &str, address: &str) -> Self {
        let port = free_port(address);
        Self { name: format!("{name}:{port}"), weight: 1, listen: Some(format!("{address}:{port}")) }
    }

    /// `address` alone: nginx takes it for port 80, where not everyone may listen, so no one does.
    pub(crate) fn without_port(address: &str) -> Self {
        Self { name: address.to_owned(), weight: 1, listen: None }
    }

    pub(crate) fn at_socket(file: &str) -> Self {
        let path = folder().join(file);
        let name = format!("unix:{}", path.display());
        Self { listen: Some(name.clone()), name, weight: 1 }
    }

    pub(crate) fn weight(mut self, weight: u32) -> Self {
        self.weight = weight;
        self
    }
}

/// A port that is free now, and by all odds is still free when nginx asks for it.
fn free_port(address: &str) -> u16 {
    let listener = TcpListener::bind(format!("{address}:0")).expect("a loopback port is free");
    listener.local_addr().expect("a bound socket has an address").port()
}

/// The folder of this process, short enough for the path of a socket.
fn folder() -> PathBuf {
    let folder = env::temp_dir().join(format!("buttress-nginx-{}", process::id()));
    fs::create_dir_all(&folder).expect("the folder for temporary files is writable");
    folder
}

pub(crate) struct Nginx {
    connection: BufReader<TcpStream>,
    _process: Process,
}

/// Ends nginx and cleans up behind it.
struct Process {
    child: Child,
    folder: PathBuf,
    sockets: Vec<PathBuf>,
}

impl Nginx {
    pub(crate) fn start(servers: &[Server]) -> Self {
        static STARTED: AtomicU32 = AtomicU32::new(0);
        let folder = folder().join(STARTED.fetch_add(1, Ordering::Relaxed).to_string());
        fs::create_dir_all(&folder).expect("the folder for temporary files is writable");
        let port = free_port("127.0.0.1");
        let file = folder.join("nginx.conf");
        fs::write(&file, configuration(&folder, port, servers)).expect("the configuration is written");
        let sockets = servers
            .iter()
            .filter_map(|server| server.name.strip_prefix("unix:").map(PathBuf::from))
            .collect();
        let child = Command::new(program().expect("nginx was found"))
            .arg("-p")
            .arg(&folder)
            .arg("-c")
            .arg(&file)
            .args(["-e", "stderr"])
            .spawn()
            .expect("nginx starts");
        let mut process = Process { child, folder, sockets };
        let connection = connect(port, &mut process.child);
        Self { connection: BufReader::new(connection), _process: process }
    }

    /// The name of the server that nginx sends a request with this key to.
    pub(crate) fn owner(&mut self, key: &str) -> String {
        let request = format!("GET / HTTP/1.1\r\nHost: front\r\nX-Key: {key}\r\n\r\n");
        self.connection.get_mut().write_all(request.as_bytes()).expect("nginx reads");
        let (mut length, mut upstream) = (0, String::new());
        loop {
            let mut line = String::new();
            self.connection.read_line(&mut line).expect("nginx answers");
            let Some((name, value)) = line.trim_end().split_once(": ") else {
                assert!(!line.is_empty(), "nginx has closed the connection");
                if line == "\r\n" {
                    break;
                }
                continue;
            };
            match &*name.to_ascii_lowercase() {
                "content-length" => length = value.parse().expect("a length is a number"),
                "x-upstream" => value.clone_into(&mut upstream),
                _ => {}
            }
        }
        let mut body = vec![0; length];
        self.connection.read_exact(&mut body).expect("nginx sends the whole answer");
        let body = String::from_utf8(body).expect("an answer is text");
        // Where no backend answered with its name, nginx says whom it asked.
        match body.strip_prefix("owner ") {
            Some(name) => name.to_owned(),
            None => upstream.strip_suffix(":80").expect("only port 80 has no backend").to_owned(),
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // One process, as the master is off. Nothing more can be done where any of this fails.
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_dir_all(&self.folder);
        for socket in &self.sockets {
            let _ = fs::remove_file(socket);
        }
        // The folder of all tests goes with the last of them.
        let _ = fs::remove_dir(folder());
    }
}

fn configuration(folder: &Path, port: u16, servers: &[Server]) -> String {
    let folder = folder.display();
    let mut text = format!(
        "daemon off; master_process off; pid {folder}/pid; error_log stderr emerg;
events {{ worker_connections 256; }}
http {{
    access_log off; keepalive_requests 1000000; server_names_hash_bucket_size 256;
    client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
    server {{
        listen 127.0.0.1:{port};
        location / {{
            proxy_pass http://ring; proxy_http_version 1.1; proxy_set_header Connection \"\";
            proxy_next_upstream off; add_header X-Upstream $upstream_addr always;
        }}
    }}
    upstream ring {{
        hash $http_x_key consistent;
"
    );
    for Server { name, weight, .. } in servers {
        writeln!(text, "        server {name} weight={weight} max_fails=0;").expect("a string takes all");
    }
    text.push_str("        keepalive 16;\n    }\n");
    for (server, listen) in
        servers.iter().filter_map(|server| server.listen.as_ref().map(|listen| (server, listen)))
    {
        let name = &server.name;
        writeln!(text, "    server {{ listen {listen}; return 200 'owner {name}'; }}")
            .expect("a string takes all");
    }
    text.push_str("}\n");
    text
}

/// Connects as soon as nginx listens.
#[expect(clippy::disallowed_methods, reason = "another process starts in real time")]
fn connect(port: u16, child: &mut Child) -> TcpStream {
    for _ in 0..3000 {
        if let Ok(connection) = TcpStream::connect(("127.0.0.1", port)) {
            return connection;
        }
        let ended = child.try_wait().expect("a child can be waited for");
        assert!(ended.is_none(), "nginx has ended: {ended:?}");
        thread::sleep(Duration::from_millis(10));
    }
    panic!("nginx does not listen after 30 s");
}
