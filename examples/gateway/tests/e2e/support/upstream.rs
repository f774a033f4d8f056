use std::net::{Ipv4Addr, SocketAddr};

use axum::Router;
use tokio::{
    io::AsyncReadExt,
    net::{TcpListener, TcpSocket, TcpStream},
};

/// Its connections have small send buffers: what was written is then on its way, not in the kernel of this side.
fn listener() -> TcpListener {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.set_send_buffer_size(64 * 1024).expect("a size that every kernel has");
    socket.bind((Ipv4Addr::LOCALHOST, 0).into()).expect("loopback has free ports");
    socket.listen(1024).expect("bound")
}

/// A service on a loopback port; it lives as long as the test's runtime.
pub(crate) async fn upstream(service: Router) -> SocketAddr {
    let listener = listener();
    let address = listener.local_addr().expect("bound");
    tokio::spawn(async move { axum::serve(listener, service).await });
    address
}

/// Hands each connection to `serve`, bytes and all.
pub(crate) async fn raw_upstream<F, Fut>(serve: F) -> SocketAddr
where
    F: Fn(TcpStream) -> Fut + Send + 'static,
    Fut: Future<Output = ()> + Send + 'static,
{
    let listener = listener();
    let address = listener.local_addr().expect("bound");
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(stream));
        }
    });
    address
}

/// Reads one request's head, byte by byte, so that nothing of the body is taken.
pub(crate) async fn head_of(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let Ok(byte) = stream.read_u8().await else { break };
        head.push(byte);
    }
    String::from_utf8(head).expect("a head in ASCII")
}
