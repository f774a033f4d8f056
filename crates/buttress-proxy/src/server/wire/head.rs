use super::bytes::{path_and_query, token, trimmed};
use super::field::{length, split, transfer_encoding};
use super::line::Lines;
use super::target::{is_authority, is_target};
use super::{Limits, Violation};

/// The longest method that is read. The registry's longest, `UPDATEREDIRECTREF`, has 17.
const METHOD_BYTES: usize = 32;
/// Two spaces and `HTTP/1.1`.
const AROUND: usize = 10;

/// What is known of a head of which a part has come.
#[derive(Clone, Copy, Debug)]
pub(super) struct Head {
    lines: Lines,
    requested: bool,
    whole: bool,
    http10: bool,
    is_head: bool,
    connect: bool,
    host: bool,
    chunked: bool,
    upgrade: bool,
    length: Option<u64>,
    fields: usize,
}

/// What one more look at a head says.
pub(super) enum Looked {
    /// Its end has not come.
    Part,
    /// There are only two bytes of an empty line before it.
    EmptyLine,
    /// It is whole and takes so many bytes.
    Whole(usize),
}

/// How the body after a head is delimited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Framing {
    None,
    Length(u64),
    Chunked,
}

impl Head {
    pub(super) const fn new() -> Self {
        Self {
            lines: Lines::new(),
            requested: false,
            whole: false,
            http10: false,
            is_head: false,
            connect: false,
            host: false,
            chunked: false,
            upgrade: false,
            length: None,
            fields: 0,
        }
    }

    /// `bytes` begin where the head does, at every call.
    #[inline]
    pub(super) fn look(&mut self, bytes: &[u8], limits: &Limits) -> Result<Looked, Violation> {
        if !self.requested && !self.usual_request_line(bytes, limits) {
            // The request line has a bound of its own. It counts from the first byte, so that where the bytes are cut
            // makes no difference.
            let most = (limits.target_bytes + METHOD_BYTES + AROUND + 2).min(limits.head_bytes);
            let bytes = &bytes[..bytes.len().min(most)];
            match self.lines.next(bytes)? {
                None if bytes.len() < most => return Ok(Looked::Part),
                None if token(bytes) > METHOD_BYTES => return Err(Violation::MethodTooLong),
                None => return Err(Violation::TargetTooLong),
                Some([]) => return Ok(Looked::EmptyLine),
                Some(line) => self.request_line(line, limits)?,
            }
        }
        let bytes = &bytes[..bytes.len().min(limits.head_bytes)];
        loop {
            while let Some((name, value)) = self.lines.field(bytes) {
                self.field(name, value, limits)?;
            }
            match self.lines.next(bytes)? {
                None if bytes.len() < limits.head_bytes => return Ok(Looked::Part),
                None => return Err(Violation::HeadTooLarge),
                Some([]) => {
                    self.end()?;
                    self.whole = true;
                    return Ok(Looked::Whole(self.lines.end()));
                }
                Some(line) => {
                    let (name, value) = split(line)?;
                    self.field(name, value, limits)?;
                }
            }
        }
    }

    /// Where the line begins that was looked at last, for who tells of it.
    pub(super) const fn line(&self) -> usize {
        self.lines.last()
    }

    /// Whether it has been read to its end.
    pub(super) const fn is_whole(&self) -> bool {
        self.whole
    }

    /// Whether the method was read, and is `HEAD`.
    pub(super) const fn is_head(&self) -> bool {
        self.is_head
    }

    /// Whether something else than HTTP/1 may follow: hyper makes an upgrade of every 101 to a request with an
    /// `Upgrade`, and of every 2xx to a `CONNECT`.
    pub(super) const fn may_upgrade(&self) -> bool {
        self.upgrade || self.connect
    }

    pub(super) const fn framing(&self) -> Framing {
        match self.length {
            _ if self.chunked => Framing::Chunked,
            None | Some(0) => Framing::None,
            Some(length) => Framing::Length(length),
        }
    }

    /// Takes a request line of HTTP/1.1 that is all there at the first look, with a path in ASCII as its target: so are
    /// nearly all. Any other is looked at by [`request_line`](Self::request_line), which would say the same of this.
    #[inline]
    fn usual_request_line(&mut self, bytes: &[u8], limits: &Limits) -> bool {
        if !self.lines.is_untouched() {
            return false;
        }
        let method = match bytes.first_chunk() {
            Some(b"GET ") => 3,
            _ => token(&bytes[..bytes.len().min(METHOD_BYTES)]),
        };
        let Some([b' ', target @ ..]) = bytes.get(method..) else {
            return false;
        };
        let end = path_and_query(target);
        if method == 0 || target.first() != Some(&b'/') || end > limits.target_bytes {
            return false;
        }
        let (target, rest) = target.split_at(end);
        if rest.first_chunk() != Some(b" HTTP/1.1\r\n")
            || !target.is_ascii()
            || &bytes[..method] == b"CONNECT"
        {
            return false;
        }
        let next = bytes.len() - rest.len() + b" HTTP/1.1\r\n".len();
        if next > limits.head_bytes {
            return false;
        }
        self.requested = true;
        self.is_head = &bytes[..method] == b"HEAD";
        self.lines.skip_to(next);
        true
    }

    fn request_line(&mut self, line: &[u8], limits: &Limits) -> Result<(), Violation> {
        self.requested = true;
        let (method, rest) = line.split_at(token(line));
        let [b' ', rest @ ..] = rest else {
            let spaces = matches!(rest, [] | [b'\t', ..]);
            return Err(if spaces { Violation::RequestLine } else { Violation::Method });
        };
        if method.is_empty() {
            return Err(Violation::RequestLine);
        }
        if method.len() > METHOD_BYTES {
            return Err(Violation::MethodTooLong);
        }
        self.is_head = method == b"HEAD";
        self.connect = method == b"CONNECT";
        let space = rest.iter().position(|&byte| byte == b' ').ok_or(Violation::RequestLine)?;
        let (target, version) = (&rest[..space], &rest[space + 1..]);
        if target.is_empty() {
            return Err(Violation::RequestLine);
        }
        if target.len() > limits.target_bytes {
            return Err(Violation::TargetTooLong);
        }
        self.http10 = match version {
            b"HTTP/1.1" => false,
            b"HTTP/1.0" => true,
            [b'H', b'T', b'T', b'P', b'/', b'0'..=b'9', b'.', b'0'..=b'9'] => return Err(Violation::Version),
            _ => return Err(Violation::RequestLine),
        };
        if is_target(method, target) { Ok(()) } else { Err(Violation::Target) }
    }

    #[inline]
    fn field(&mut self, name: &[u8], value: &[u8], limits: &Limits) -> Result<(), Violation> {
        self.fields += 1;
        if self.fields > limits.fields {
            return Err(Violation::TooManyFields);
        }
        if matches!(name.len(), 4 | 7 | 14 | 17) { self.known_field(name, value) } else { Ok(()) }
    }

    /// A field whose name is as long as one of those that are looked for.
    fn known_field(&mut self, name: &[u8], value: &[u8]) -> Result<(), Violation> {
        match name.len() {
            4 if name.eq_ignore_ascii_case(b"host") => {
                if std::mem::replace(&mut self.host, true) {
                    return Err(Violation::HostRepeated);
                }
                if !is_authority(trimmed(value), false) {
                    return Err(Violation::HostInvalid);
                }
            }
            7 if name.eq_ignore_ascii_case(b"upgrade") => self.upgrade = true,
            14 if name.eq_ignore_ascii_case(b"content-length") => {
                let length = length(value)?;
                if self.length.replace(length).is_some() {
                    return Err(Violation::LengthRepeated);
                }
            }
            17 if name.eq_ignore_ascii_case(b"transfer-encoding") => {
                if self.http10 {
                    return Err(Violation::TransferEncodingInHttp10);
                }
                transfer_encoding(value)?;
                if std::mem::replace(&mut self.chunked, true) {
                    return Err(Violation::TransferEncodingRepeated);
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn end(&self) -> Result<(), Violation> {
        if self.chunked && self.length.is_some() {
            return Err(Violation::LengthBesideTransferEncoding);
        }
        if self.connect && (self.chunked || self.length.is_some()) {
            return Err(Violation::ConnectBody);
        }
        if !self.host && !self.http10 {
            return Err(Violation::HostMissing);
        }
        Ok(())
    }
}
