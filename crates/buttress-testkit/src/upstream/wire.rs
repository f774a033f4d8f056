//! HTTP/1.1 on the wire: reads requests, and writes replies that hyper would refuse to write.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::{Buf, Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use tokio::io::{AsyncRead, AsyncReadExt};

use super::reply::{Head, Reply};

/// Bodies of requests are kept up to this many bytes.
const KEPT: usize = 64 * 1024;
const MOST_FIELDS: usize = 128;

/// A request as it came in.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Received {
    /// The method.
    pub method: Method,
    /// The request target, as it stands in the request line.
    pub target: String,
    /// The fields.
    pub fields: HeaderMap,
    /// The body's first 64 KiB.
    pub body: Bytes,
    /// The body's whole length.
    pub body_length: u64,
    /// The trailers of a chunked body.
    pub trailers: HeaderMap,
}

impl Received {
    /// The value of a field; the first one, if it came several times. Empty if it is not text.
    #[must_use]
    pub fn field(&self, name: &str) -> Option<&str> {
        self.fields.get(name).map(|value| value.to_str().unwrap_or_default())
    }
}

/// Reads one request, and adds to `received` as its body comes in; `None` when the client went away before it
/// began one.
pub(super) async fn read_request(
    from: &mut (impl AsyncRead + Unpin),
    buffer: &mut BytesMut,
    received: &AtomicU64,
) -> io::Result<Option<Received>> {
    let mut request = loop {
        if let Some((length, request)) = parse_head(buffer)? {
            buffer.advance(length);
            break request;
        }
        match from.read_buf(buffer).await {
            Ok(1..) => {}
            _ if buffer.is_empty() => return Ok(None),
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Err(error) => return Err(error),
        }
    };

    let chunked = request.field("transfer-encoding").is_some_and(|coding| coding.ends_with("chunked"));
    let length = request.field("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
    let mut body = BytesMut::new();
    if chunked {
        loop {
            let line = read_line(from, buffer).await?;
            let size = line.split(';').next().unwrap_or_default().trim();
            let size =
                u64::from_str_radix(size, 16).map_err(|_| bad("a chunk size is a hexadecimal number"))?;
            if size == 0 {
                break;
            }
            take(from, buffer, size, &mut body, received).await?;
            request.body_length += size;
            if !read_line(from, buffer).await?.is_empty() {
                return Err(bad("a chunk ends with a line break"));
            }
        }
        loop {
            let line = read_line(from, buffer).await?;
            let Some((name, value)) = line.split_once(':') else { break };
            let name: HeaderName = name.parse().map_err(|_| bad("a trailer has a name"))?;
            request.trailers.append(name, value.trim().parse().map_err(|_| bad("a trailer has a value"))?);
        }
    } else {
        take(from, buffer, length, &mut body, received).await?;
        request.body_length = length;
    }
    request.body = body.freeze();
    Ok(Some(request))
}

fn parse_head(buffer: &[u8]) -> io::Result<Option<(usize, Received)>> {
    let mut fields = [httparse::EMPTY_HEADER; MOST_FIELDS];
    let mut head = httparse::Request::new(&mut fields);
    let httparse::Status::Complete(length) = head.parse(buffer).map_err(bad)? else { return Ok(None) };
    let mut request = Received {
        method: head.method.unwrap_or_default().parse().map_err(bad)?,
        target: head.path.unwrap_or_default().to_owned(),
        fields: HeaderMap::new(),
        body: Bytes::new(),
        body_length: 0,
        trailers: HeaderMap::new(),
    };
    for field in head.headers {
        let name: HeaderName = field.name.parse().map_err(bad)?;
        request.fields.append(name, HeaderValue::from_bytes(field.value).map_err(bad)?);
    }
    Ok(Some((length, request)))
}

async fn read_line(from: &mut (impl AsyncRead + Unpin), buffer: &mut BytesMut) -> io::Result<String> {
    loop {
        if let Some(end) = buffer.windows(2).position(|bytes| bytes == b"\r\n") {
            let line = buffer.split_to(end);
            buffer.advance(2);
            return String::from_utf8(line.to_vec()).map_err(bad);
        }
        if from.read_buf(buffer).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
}

/// Reads `length` bytes and keeps the first ones.
async fn take(
    from: &mut (impl AsyncRead + Unpin),
    buffer: &mut BytesMut,
    mut length: u64,
    kept: &mut BytesMut,
    received: &AtomicU64,
) -> io::Result<()> {
    while length > 0 {
        if buffer.is_empty() && from.read_buf(buffer).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let part = buffer.split_to(buffer.len().min(usize::try_from(length).unwrap_or(usize::MAX)));
        length -= part.len() as u64;
        received.fetch_add(part.len() as u64, Ordering::AcqRel);
        kept.extend_from_slice(&part[..part.len().min(KEPT - kept.len())]);
    }
    Ok(())
}

/// The head of `reply`, to a request of `method`.
pub(super) fn head(reply: &Reply) -> Vec<u8> {
    let status = match &reply.head {
        Head::Raw(raw) => return raw.to_vec(),
        Head::Status(status) => status,
    };
    let mut out =
        format!("HTTP/1.1 {} {}\r\n", status.as_str(), status.canonical_reason().unwrap_or_default());
    let framed = ["content-length", "transfer-encoding"].iter().any(|name| reply.fields.contains_key(*name));
    let bodiless = status.is_informational() || status.as_u16() == 204 || status.as_u16() == 304;
    if reply.chunked && !framed {
        out.push_str("transfer-encoding: chunked\r\n");
    } else if !framed && !bodiless {
        out.push_str(&format!("content-length: {}\r\n", reply.body.len()));
    }
    let mut out = out.into_bytes();
    write_fields(&reply.fields, &mut out);
    out.extend_from_slice(b"\r\n");
    out
}

/// The last chunk, and the trailers.
pub(super) fn last_chunk(trailers: &HeaderMap) -> Vec<u8> {
    let mut out = b"0\r\n".to_vec();
    write_fields(trailers, &mut out);
    out.extend_from_slice(b"\r\n");
    out
}

fn write_fields(fields: &HeaderMap, out: &mut Vec<u8>) {
    for (name, value) in fields {
        out.extend_from_slice(name.as_str().as_bytes());
        out.extend_from_slice(b": ");
        out.extend_from_slice(value.as_bytes());
        out.extend_from_slice(b"\r\n");
    }
}

fn bad(why: impl Into<crate::BoxError>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}
