//! What the scanner says of a stream of bytes, gathered.

use buttress_proxy::server::wire::{Limits, Phase, Scanner, Step, Violation};

/// A stream as the scanner understood it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Framed {
    /// The bytes of each head, and of its body with its chunk sizes and trailers.
    pub(crate) requests: Vec<(Vec<u8>, Vec<u8>)>,
    pub(crate) refused: Option<Violation>,
    /// The violation was of a body.
    pub(crate) in_body: bool,
    /// The last body came whole.
    pub(crate) whole: bool,
}

impl Framed {
    /// All bytes that were passed on.
    pub(crate) fn passed(&self) -> Vec<u8> {
        self.requests.iter().flat_map(|(head, body)| [&head[..], body]).flatten().copied().collect()
    }
}

/// Gives the scanner `stream` in pieces of these lengths, over and over; what is left undecided comes again with the
/// next piece.
pub(crate) fn framed_in_pieces(stream: &[u8], limits: Limits, pieces: &[usize]) -> Framed {
    let mut scanner = Scanner::new(limits);
    let mut framed = Framed { whole: true, ..Framed::default() };
    let (mut at, mut end) = (0, 0);
    for piece in pieces.iter().cycle() {
        end = (end + piece.max(&1)).min(stream.len());
        while at < end {
            let in_head = scanner.phase() == Phase::Head;
            let step = scanner.scan(&stream[at..end]);
            match step {
                Step::Pass(length) => {
                    let bytes = &stream[at..at + length];
                    if in_head {
                        framed.requests.push((bytes.to_vec(), Vec::new()));
                    } else {
                        framed.requests.last_mut().expect("a body has a head").1.extend(bytes);
                    }
                    at += length;
                }
                Step::Skip(length) => at += length,
                Step::More => break,
                // As if every upgrade was declined.
                Step::Hold => scanner.resume(),
                Step::Refused(violation) => {
                    framed.refused = Some(violation);
                    framed.in_body = scanner.is_in_body();
                    framed.whole = !framed.in_body;
                    return framed;
                }
                step => panic!("a step that is not known: {step:?}"),
            }
        }
        if end == stream.len() {
            break;
        }
    }
    framed.whole = scanner.phase() != Phase::Body;
    framed
}

pub(crate) fn framed(stream: &[u8]) -> Framed {
    framed_in_pieces(stream, Limits::new(), &[stream.len()])
}

/// The content of a chunked body, read the slow way; `None` where its end is not there.
pub(crate) fn dechunked(mut body: &[u8]) -> Option<Vec<u8>> {
    let mut content = Vec::new();
    loop {
        let line = body.windows(2).position(|pair| pair == b"\r\n")?;
        let size = body[..line].split(|&byte| byte == b';').next()?.trim_ascii();
        let size = usize::from_str_radix(std::str::from_utf8(size).ok()?, 16).ok()?;
        body = &body[line + 2..];
        if size == 0 {
            return Some(content);
        }
        content.extend(body.get(..size)?);
        body = body.get(size + 2..)?;
    }
}
