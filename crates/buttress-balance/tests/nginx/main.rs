//! The preset `NginxCrc32` has the owners of the real nginx: it runs `hash $http_x_key consistent` over backends that
//! answer with their names.

mod nginx;

use std::net::TcpListener;

use buttress_balance::{ConsistentHash, Node, Order, Ring};

use nginx::{Nginx, Server, have_nginx};

const KEYS: usize = 3000;

/// Keys as they occur: paths, numbers, names, with bytes that a linear hash could stumble over.
fn keys() -> impl Iterator<Item = String> {
    (0..KEYS).map(|number| match number % 4 {
        0 => format!("/images/{number}.png?size={}", number % 17),
        1 => number.to_string(),
        2 => format!("user-{:x}@example.com", number * 7919),
        _ => format!("{{\"tenant\":{},\"id\":{number}}}", number % 11),
    })
}

/// Asks nginx for the owner of each key, and expects ours to be the same.
fn same_owners(servers: &[Server]) {
    let nodes: Vec<Node> =
        servers.iter().map(|server| Node::new(server.name.as_str()).weight(server.weight)).collect();
    let ring =
        ConsistentHash::ring().preset(Ring::NginxCrc32).build(&nodes).expect("these endpoints make a ring");
    let mut owned = vec![0; nodes.len()];
    let mut nginx = Nginx::start(servers);
    for key in keys() {
        let owner = ring.pick(ring.hashing().of(key.as_bytes()), |_| true).expect("a ring has an owner");
        assert_eq!(nginx.owner(&key), ring.nodes()[owner].name(), "{key}");
        owned[owner] += 1;
    }
    assert!(owned.iter().all(|&keys| keys > KEYS / 100), "some endpoint has few keys: {owned:?}");
}

#[test]
fn the_owners_are_those_of_nginx_for_ipv4_addresses_with_a_port() {
    if have_nginx() {
        same_owners(&[0; 5].map(|_| Server::at("127.0.0.1", "127.0.0.1")));
    }
}

#[test]
fn the_owners_are_those_of_nginx_for_ipv6_addresses() {
    if !have_nginx() {
        return;
    }
    if TcpListener::bind("[::1]:0").is_err() {
        eprintln!("SKIPPED: there is no IPv6 loopback address");
        return;
    }
    same_owners(&[0; 5].map(|_| Server::at("[::1]", "[::1]")));
}

#[test]
fn the_owners_are_those_of_nginx_for_servers_without_a_port() {
    if have_nginx() {
        same_owners(&[1, 2, 3, 4, 5].map(|host| Server::without_port(&format!("127.77.0.{host}"))));
    }
}

#[test]
fn the_owners_are_those_of_nginx_for_host_names() {
    if have_nginx() {
        let names = ["localhost", "LOCALHOST", "LocalHost", "localhost", "localhost"];
        same_owners(&names.map(|name| Server::at(name, "127.0.0.1")));
    }
}

#[test]
fn the_owners_are_those_of_nginx_for_unix_sockets() {
    if have_nginx() {
        same_owners(&["a.sock", "b.sock", "c.sock", "other"].map(Server::at_socket));
    }
}

#[test]
fn the_owners_are_those_of_nginx_for_weighted_servers() {
    if have_nginx() {
        let weights = [1, 2, 5, 3];
        same_owners(&weights.map(|weight| Server::at("127.0.0.1", "127.0.0.1").weight(weight)));
    }
}
