//! A name server on loopback, which says what it is told to.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};

use hickory_proto::op::{Message, OpCode, ResponseCode};
use hickory_proto::rr::rdata::{A, AAAA, CNAME, SRV};
use hickory_proto::rr::{Name, RData, Record, RecordType};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, UdpSocket};

#[derive(Clone)]
pub(crate) enum Reply {
    /// These records, which last for so many seconds.
    Records(u32, Vec<RData>),
    /// An alias, which lasts for so many seconds, and the records of what it stands for.
    Alias(u32, u32, Vec<RData>),
    /// That these are too many for UDP; over TCP, the records.
    Long(u32, Vec<RData>),
    NoRecords,
    NoName,
    ServFail,
    Garbage,
    Silence,
}

#[derive(Default)]
struct Zone {
    replies: HashMap<(String, RecordType), Reply>,
    asked: Vec<(String, RecordType)>,
}

/// What is not in its zone has no records.
#[derive(Clone)]
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    zone: Arc<Mutex<Zone>>,
}

impl Server {
    pub(crate) async fn start() -> Self {
        let tcp = TcpListener::bind("127.0.0.1:0").await.expect("loopback has a free port");
        let address = tcp.local_addr().expect("it is bound");
        let udp = UdpSocket::bind(address).await.expect("the port is free for UDP too");
        let server = Self { address, zone: Arc::default() };
        tokio::spawn(server.clone().over_udp(udp));
        tokio::spawn(server.clone().over_tcp(tcp));
        server
    }

    pub(crate) fn set(&self, name: &str, kind: RecordType, reply: Reply) {
        self.zone().replies.insert((name.to_owned(), kind), reply);
    }

    pub(crate) fn a(&self, name: &str, ttl: u32, addresses: &[&str]) {
        self.set(
            name,
            RecordType::A,
            Reply::Records(ttl, addresses.iter().map(|address| a(address)).collect()),
        );
    }

    pub(crate) fn aaaa(&self, name: &str, ttl: u32, addresses: &[&str]) {
        let records = addresses.iter().map(|address| RData::AAAA(AAAA(address.parse().expect("an address"))));
        self.set(name, RecordType::AAAA, Reply::Records(ttl, records.collect()));
    }

    /// Records of priority, weight, port and target.
    pub(crate) fn srv(&self, name: &str, ttl: u32, records: &[(u16, u16, u16, &str)]) {
        let record = |&(priority, weight, port, target): &(u16, u16, u16, &str)| {
            RData::SRV(SRV::new(priority, weight, port, target.parse().expect("a name")))
        };
        self.set(name, RecordType::SRV, Reply::Records(ttl, records.iter().map(record).collect()));
    }

    /// How often it was asked for these records.
    pub(crate) fn asked(&self, name: &str, kind: RecordType) -> usize {
        self.zone().asked.iter().filter(|(asked, of)| asked == name && *of == kind).count()
    }

    /// Returns once everything that was sent before has been seen, as far as others were given their turn to send it.
    pub(crate) async fn settle(&self) {
        for _ in 0..200 {
            tokio::task::yield_now().await;
        }
        let socket = UdpSocket::bind("127.0.0.1:0").await.expect("loopback has a free port");
        let mut query = Message::query();
        query.add_query(hickory_proto::op::Query::query("settle.".parse().expect("a name"), RecordType::A));
        let query = query.to_vec().expect("it is a message");
        socket.send_to(&query, self.address).await.expect("loopback takes it");
        socket.recv(&mut [0; 512]).await.expect("it is answered");
    }

    fn zone(&self) -> MutexGuard<'_, Zone> {
        self.zone.lock().expect("no one panics")
    }

    async fn over_udp(self, socket: UdpSocket) {
        let mut buffer = [0; 4096];
        while let Ok((length, from)) = socket.recv_from(&mut buffer).await {
            if let Some(answer) = self.answer(&buffer[..length], false) {
                let _ = socket.send_to(&answer, from).await;
            }
        }
    }

    async fn over_tcp(self, listener: TcpListener) {
        while let Ok((mut stream, _)) = listener.accept().await {
            let server = self.clone();
            tokio::spawn(async move {
                while let Ok(length) = stream.read_u16().await {
                    let mut query = vec![0; length.into()];
                    stream.read_exact(&mut query).await.expect("a whole query");
                    if let Some(answer) = server.answer(&query, true) {
                        stream.write_u16(answer.len() as u16).await.expect("it is open");
                        stream.write_all(&answer).await.expect("it is open");
                    }
                }
            });
        }
    }

    fn answer(&self, query: &[u8], over_tcp: bool) -> Option<Vec<u8>> {
        let query = Message::from_vec(query).expect("a query");
        let asked = query.queries.first().expect("a question").clone();
        let slot = (asked.name().to_ascii(), asked.query_type());
        let reply = {
            let mut zone = self.zone();
            zone.asked.push(slot.clone());
            zone.replies.get(&slot).cloned().unwrap_or(Reply::NoRecords)
        };

        let mut message = Message::response(query.id, OpCode::Query);
        message.metadata.recursion_available = true;
        message.add_query(asked.clone());
        let records = |ttl: u32, name: &Name, records: Vec<RData>| {
            let record = |data| Record::from_rdata(name.clone(), ttl, data);
            records.into_iter().map(record).collect::<Vec<_>>()
        };
        match reply {
            Reply::Records(ttl, list) => drop(message.add_answers(records(ttl, asked.name(), list))),
            Reply::Long(ttl, list) if over_tcp => drop(message.add_answers(records(ttl, asked.name(), list))),
            Reply::Long(..) => message.metadata.truncation = true,
            Reply::Alias(alias_ttl, ttl, list) => {
                let real: Name = "real.test.".parse().expect("a name");
                let alias = RData::CNAME(CNAME(real.clone()));
                message.add_answers(records(alias_ttl, asked.name(), vec![alias]));
                message.add_answers(records(ttl, &real, list));
            }
            Reply::NoRecords => {}
            Reply::NoName => message.metadata.response_code = ResponseCode::NXDomain,
            Reply::ServFail => message.metadata.response_code = ResponseCode::ServFail,
            Reply::Garbage => {
                let id = query.id.to_be_bytes();
                return Some([&id[..], b"\x81\x80\xff\xff\xff\xffnonsense"].concat());
            }
            Reply::Silence => return None,
        }
        Some(message.to_vec().expect("it is a message"))
    }
}

pub(crate) fn a(address: &str) -> RData {
    RData::A(A(address.parse().expect("an address")))
}
