//! Streams of requests: right ones, and what becomes of them by mutation.

use proptest::prelude::*;
use proptest::sample::{Index, select};

/// Requests that are right, each whole.
pub(crate) const RIGHT: [&str; 19] = [
    "GET / HTTP/1.1\r\nHost: shop.example\r\n\r\n",
    "GET /a?b=c HTTP/1.1\r\nhost:shop.example:8080\r\nAccept: */*\r\nCookie: a=b; c=d\r\n\r\n",
    "POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello",
    "POST /a HTTP/1.1\r\nContent-Length: 0\r\nHost: a\r\n\r\n",
    "PUT /b HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    "PUT /b HTTP/1.1\r\nTRANSFER-ENCODING: Chunked\r\nHost: a\r\n\r\nA;x=\"y\"\r\n0123456789\r\n03 ; z\r\nabc\r\n00\r\n\r\n",
    "PUT /c HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n1\r\n\n\r\n0\r\nX-Sum: 1\r\nX-B:\r\n\r\n",
    "GET http://other.example/x HTTP/1.1\r\nHost: a\r\n\r\n",
    "GET HTTPS://other.example?q HTTP/1.1\r\nHost: [::1]:443\r\n\r\n",
    "OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n",
    "DELETE /d HTTP/1.1\r\nHost: a\r\nContent-Length: 12\r\n\r\nGET / HTTP/1",
    "HEAD /e HTTP/1.1\r\nHost: a\r\nX-Empty:\r\nX-Tab:\ta\tb\t\r\n\r\n",
    "M-SEARCH /f HTTP/1.1\r\nHost: a\r\nX-Latin: \u{e9}\r\n\r\n",
    "GET /ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
    "GET /{a}|\\^[]\"%zz?`{}|\\^[]/? HTTP/1.1\r\nHost: a_b.\r\n\r\n",
    "GET //\u{e9}?\u{e9} HTTP/1.1\r\nHost: [::ffff:1.2.3.4]:80\r\n\r\n",
    "GET http://a.example:?x HTTP/1.1\r\nHost: a:\r\n\r\n",
    "GET /old HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
    "\r\nGET /g HTTP/1.1\r\nHost: a\r\n\r\n",
];

/// Pieces that parsers differ about.
const PIECES: [&str; 40] = [
    "\r",
    "\n",
    "\r\n",
    "\r\n\r\n",
    " ",
    "\t",
    "\0",
    "\u{b}",
    "\u{7f}",
    ":",
    ",",
    ";",
    "#",
    "%",
    "/",
    "?",
    "@",
    "0",
    "1",
    "a",
    "5\r\nhello\r\n",
    "0\r\n\r\n",
    "0x",
    "+",
    "-",
    "ffffffffffffffff",
    "GET ",
    "HTTP/1.0",
    "HTTP/1.1",
    "HTTP/2.0",
    "Host: b\r\n",
    "Content-Length: 5\r\n",
    "Content-Length: 0\r\n",
    "Transfer-Encoding: chunked\r\n",
    "Transfer-Encoding: identity\r\n",
    "Connection: close\r\n",
    "Expect: 100-continue\r\n",
    "X-A: b\r\n",
    "chunked, ",
    "\u{e9}",
];

/// Some requests, one behind the other.
pub(crate) fn right() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(select(RIGHT.to_vec()), 1..4).prop_map(|requests| requests.concat().into_bytes())
}

/// Some requests with up to four faults in them.
pub(crate) fn mutated() -> impl Strategy<Value = Vec<u8>> {
    (right(), prop::collection::vec(mutation(), 0..4)).prop_map(|(mut stream, mutations)| {
        for mutation in mutations {
            mutation.apply(&mut stream);
        }
        stream
    })
}

#[derive(Clone, Debug)]
enum Mutation {
    Insert(Index, &'static str),
    /// Where a line begins.
    InsertLine(Index, &'static str),
    Replace(Index, u8),
    Remove(Index, usize),
    Repeat(Index, usize),
    Swap(Index, Index),
    Case(Index),
}

fn mutation() -> impl Strategy<Value = Mutation> {
    let at = any::<Index>;
    prop_oneof![
        3 => (at(), select(PIECES.to_vec())).prop_map(|(at, piece)| Mutation::Insert(at, piece)),
        3 => (at(), select(PIECES.to_vec())).prop_map(|(at, piece)| Mutation::InsertLine(at, piece)),
        2 => (at(), any::<u8>()).prop_map(|(at, byte)| Mutation::Replace(at, byte)),
        2 => (at(), 1..4_usize).prop_map(|(at, length)| Mutation::Remove(at, length)),
        1 => (at(), 1..40_usize).prop_map(|(at, length)| Mutation::Repeat(at, length)),
        1 => (at(), at()).prop_map(|(a, b)| Mutation::Swap(a, b)),
        1 => at().prop_map(Mutation::Case),
    ]
}

impl Mutation {
    fn apply(&self, stream: &mut Vec<u8>) {
        if stream.is_empty() {
            return;
        }
        let length = stream.len();
        match self {
            Self::Insert(at, piece) => {
                let at = at.index(length + 1);
                stream.splice(at..at, piece.bytes());
            }
            Self::InsertLine(at, piece) => {
                let lines: Vec<usize> = stream
                    .windows(2)
                    .enumerate()
                    .filter(|(_, pair)| pair == b"\r\n")
                    .map(|(at, _)| at + 2)
                    .collect();
                let at = if lines.is_empty() { 0 } else { lines[at.index(lines.len())] };
                stream.splice(at..at, piece.bytes());
            }
            Self::Replace(at, byte) => stream[at.index(length)] = *byte,
            Self::Remove(at, count) => {
                let at = at.index(length);
                stream.drain(at..(at + count).min(length));
            }
            Self::Repeat(at, count) => {
                let at = at.index(length);
                let piece = stream[at..(at + count).min(length)].to_vec();
                stream.splice(at..at, piece);
            }
            Self::Swap(a, b) => stream.swap(a.index(length), b.index(length)),
            Self::Case(at) => {
                let at = at.index(length);
                stream[at] ^= 0x20;
            }
        }
    }
}

/// How many cases a property plays: many with `BUTTRESS_FULL_PROPERTIES=1`.
pub(crate) fn cases(quick: u32, full: u32) -> ProptestConfig {
    let full_run = std::env::var_os("BUTTRESS_FULL_PROPERTIES").is_some_and(|value| value == "1");
    ProptestConfig { cases: if full_run { full } else { quick }, ..ProptestConfig::default() }
}
