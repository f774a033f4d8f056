//! A tunnel between two sockets of the kernel.

use tokio::net::TcpStream;

use crate::Draining;
use crate::tunnel::{Ended, Limits, tunnel};

pub(super) async fn between(
    client: &mut TcpStream,
    upstream: &mut TcpStream,
    limits: &Limits,
    draining: Draining,
) -> Ended {
    tunnel(client, upstream, limits, Some(draining)).await
}
