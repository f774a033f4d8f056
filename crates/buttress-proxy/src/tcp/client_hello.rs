//! The first message of TLS, read for where it wants to go and left as it is: a pure function of bytes.
//!
//! Fields are those of RFC 8446 §4.1.2, records those of §5.1, the names those of RFC 6066 §3 and RFC 7301 §3.1.

/// The most that is read of it, with the heads of its records.
pub(crate) const LONGEST: usize = 16 * 1024;

const RECORD_HEAD: usize = 5;
const HANDSHAKE: u8 = 22;
const CLIENT_HELLO: u8 = 1;
const SERVER_NAME: u16 = 0;
const ALPN: u16 = 16;

/// What a TLS client says of where it wants to go.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ClientHello {
    /// In lower case.
    pub(crate) server_name: Option<Box<str>>,
    pub(crate) alpn: Vec<Box<[u8]>>,
}

/// Why bytes are not the first message of a TLS client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ClientHelloError {
    /// They are no TLS.
    #[error("the connection does not begin with a TLS handshake")]
    NotTls,
    /// They are longer than 16 KiB.
    #[error("the ClientHello is longer than 16 KiB")]
    TooLong,
    /// A length in it points beyond it, or a part is left over.
    #[error("the ClientHello is malformed: {0}")]
    Malformed(&'static str),
    /// The server name is none: empty, longer than 253 bytes, or with other characters than letters, digits, `-`, `_`
    /// and `.`.
    #[error("the server name in the ClientHello is no host name")]
    ServerName,
}

/// What is found in the bytes that have come so far.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    Hello(ClientHello),
    /// There must be so many bytes before it is worth to look again.
    Needs(usize),
}

/// Reads the message that `bytes` begin with, be it split over records or not.
pub(crate) fn read(bytes: &[u8]) -> Result<Found, ClientHelloError> {
    let mut message = Vec::new();
    let mut at = 0;
    loop {
        let Some(head) = bytes.get(at..at + RECORD_HEAD) else {
            return begins(&bytes[at..]).and_then(|()| needs(at + RECORD_HEAD));
        };
        begins(head)?;
        let length = usize::from(u16::from_be_bytes([head[3], head[4]]));
        if length == 0 || length > 16 * 1024 {
            return Err(ClientHelloError::Malformed("the length of a record"));
        }
        let end = at + RECORD_HEAD + length;
        let there = &bytes[at + RECORD_HEAD..end.min(bytes.len())];
        // One record is the usual case, and is not copied.
        let whole = if message.is_empty() {
            handshake(there)?
        } else {
            message.extend_from_slice(there);
            handshake(&message)?
        };
        match whole {
            Whole::Body(body) => return hello(body).map(Found::Hello),
            // What is missing of the message, if it goes on in this record as far as it can.
            Whole::Missing(missing) if bytes.len() < end => return needs(end.min(bytes.len() + missing)),
            Whole::Missing(_) => {
                if message.is_empty() {
                    message.extend_from_slice(there);
                }
                at = end;
            }
        }
    }
}

fn needs(bytes: usize) -> Result<Found, ClientHelloError> {
    if bytes > LONGEST { Err(ClientHelloError::TooLong) } else { Ok(Found::Needs(bytes)) }
}

/// Whether it may be the head of a record of the handshake, as far as it is there.
fn begins(head: &[u8]) -> Result<(), ClientHelloError> {
    let (kind, major) = (head.first().copied(), head.get(1).copied());
    if kind.unwrap_or(HANDSHAKE) != HANDSHAKE || major.unwrap_or(3) != 3 {
        return Err(ClientHelloError::NotTls);
    }
    Ok(())
}

enum Whole<'a> {
    Body(&'a [u8]),
    Missing(usize),
}

/// The body of the message, if it is all there.
fn handshake(message: &[u8]) -> Result<Whole<'_>, ClientHelloError> {
    if message.first().is_some_and(|&kind| kind != CLIENT_HELLO) {
        return Err(ClientHelloError::Malformed("the first message is another one"));
    }
    let Some((&[_, a, b, c], body)) = message.split_first_chunk() else {
        return Ok(Whole::Missing(4 - message.len()));
    };
    let length = usize::try_from(u32::from_be_bytes([0, a, b, c])).unwrap_or(usize::MAX);
    if length > LONGEST {
        return Err(ClientHelloError::TooLong);
    }
    Ok(match body.get(..length) {
        Some(body) => Whole::Body(body),
        None => Whole::Missing(length - body.len()),
    })
}

fn hello(body: &[u8]) -> Result<ClientHello, ClientHelloError> {
    let mut body = Reader(body);
    body.take(2 + 32, "version and random")?;
    body.list8("session id")?;
    body.list16("cipher suites")?;
    body.list8("compression methods")?;
    let (mut hello, mut named) = (ClientHello::default(), false);
    if body.0.is_empty() {
        // Before TLS 1.3 it may have no extensions.
        return Ok(hello);
    }
    let mut extensions = Reader(body.list16("extensions")?);
    body.ends("extensions")?;
    while !extensions.0.is_empty() {
        let kind = extensions.number("type of an extension")?;
        let value = Reader(extensions.list16("extension")?);
        match kind {
            // Two could be read in two ways: by us for the route, and by the upstream.
            SERVER_NAME if std::mem::replace(&mut named, true) => {
                return Err(ClientHelloError::Malformed("a second list of server names"));
            }
            SERVER_NAME => hello.server_name = server_name(value)?,
            ALPN => hello.alpn = alpn(value)?,
            _ => {}
        }
    }
    Ok(hello)
}

fn server_name(mut value: Reader<'_>) -> Result<Option<Box<str>>, ClientHelloError> {
    let mut names = Reader(value.list16("server names")?);
    value.ends("server names")?;
    while !names.0.is_empty() {
        let kind = names.take(1, "type of a server name")?[0];
        let name = names.list16("server name")?;
        // Of the one type that is defined there is at most one.
        if kind == 0 {
            return host_name(name).map(Some);
        }
    }
    Ok(None)
}

fn host_name(name: &[u8]) -> Result<Box<str>, ClientHelloError> {
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    match std::str::from_utf8(name) {
        Ok(text) if (1..=253).contains(&name.len()) && name.iter().all(plain) => {
            Ok(text.to_ascii_lowercase().into_boxed_str())
        }
        _ => Err(ClientHelloError::ServerName),
    }
}

fn alpn(mut value: Reader<'_>) -> Result<Vec<Box<[u8]>>, ClientHelloError> {
    let mut names = Reader(value.list16("protocol names")?);
    value.ends("protocol names")?;
    let mut protocols = Vec::new();
    while !names.0.is_empty() {
        let name = names.list8("protocol name")?;
        if name.is_empty() {
            return Err(ClientHelloError::Malformed("protocol name"));
        }
        protocols.push(name.into());
    }
    Ok(protocols)
}

/// What is left to read.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, length: usize, what: &'static str) -> Result<&'a [u8], ClientHelloError> {
        let (taken, rest) = self.0.split_at_checked(length).ok_or(ClientHelloError::Malformed(what))?;
        self.0 = rest;
        Ok(taken)
    }

    fn number(&mut self, what: &'static str) -> Result<u16, ClientHelloError> {
        let bytes = self.take(2, what)?;
        Ok(u16::from_be_bytes([bytes[0], bytes[1]]))
    }

    /// What a length of one byte announces.
    fn list8(&mut self, what: &'static str) -> Result<&'a [u8], ClientHelloError> {
        let length = self.take(1, what)?[0];
        self.take(length.into(), what)
    }

    /// What a length of two bytes announces.
    fn list16(&mut self, what: &'static str) -> Result<&'a [u8], ClientHelloError> {
        let length = self.number(what)?;
        self.take(length.into(), what)
    }

    fn ends(&self, what: &'static str) -> Result<(), ClientHelloError> {
        if self.0.is_empty() { Ok(()) } else { Err(ClientHelloError::Malformed(what)) }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn list8(bytes: &[u8]) -> Vec<u8> {
        [&[u8::try_from(bytes.len()).unwrap()], bytes].concat()
    }

    fn list16(bytes: &[u8]) -> Vec<u8> {
        [&u16::try_from(bytes.len()).unwrap().to_be_bytes(), bytes].concat()
    }

    fn extension(kind: u16, value: &[u8]) -> Vec<u8> {
        [&kind.to_be_bytes()[..], &list16(value)].concat()
    }

    fn named(name: &[u8]) -> Vec<u8> {
        extension(SERVER_NAME, &list16(&[&[0], &list16(name)[..]].concat()))
    }

    fn speaks(protocols: &[&[u8]]) -> Vec<u8> {
        let names: Vec<u8> = protocols.iter().flat_map(|name| list8(name)).collect();
        extension(ALPN, &list16(&names))
    }

    /// The message with these extensions, without records.
    fn message(extensions: Option<&[u8]>) -> Vec<u8> {
        let mut body = [&[3, 3][..], &[7; 32], &list8(&[9; 32]), &list16(&[0x13, 1]), &list8(&[0])].concat();
        if let Some(extensions) = extensions {
            body.extend(list16(extensions));
        }
        let length = u32::try_from(body.len()).unwrap().to_be_bytes();
        [&[CLIENT_HELLO], &length[1..], &body].concat()
    }

    /// The message in records of at most `most` bytes.
    fn records(message: &[u8], most: usize) -> Vec<u8> {
        message.chunks(most).flat_map(|part| [&[HANDSHAKE, 3, 1], &list16(part)[..]].concat()).collect()
    }

    fn hello(name: &str, protocols: &[&[u8]]) -> Found {
        let server_name = (!name.is_empty()).then(|| name.into());
        Found::Hello(ClientHello { server_name, alpn: protocols.iter().map(|&name| name.into()).collect() })
    }

    #[test]
    fn the_name_and_the_protocols_are_found_among_other_extensions() {
        let extensions =
            [extension(43, &[2, 3, 4]), named(b"Shop.Example"), speaks(&[b"h2", b"http/1.1"])].concat();
        let bytes = records(&message(Some(&extensions)), 16 * 1024);

        assert_eq!(read(&bytes), Ok(hello("shop.example", &[b"h2", b"http/1.1"])));
        // What follows it is not looked at.
        assert_eq!(
            read(&[&bytes[..], b"early data"].concat()),
            Ok(hello("shop.example", &[b"h2", b"http/1.1"]))
        );
    }

    #[test]
    fn one_without_a_name_or_without_extensions_has_none() {
        assert_eq!(read(&records(&message(None), 16 * 1024)), Ok(hello("", &[])));
        assert_eq!(read(&records(&message(Some(&speaks(&[b"imap"]))), 16 * 1024)), Ok(hello("", &[b"imap"])));
    }

    #[test]
    fn what_is_no_tls_is_refused_at_its_first_byte() {
        assert_eq!(read(b"G"), Err(ClientHelloError::NotTls));
        assert_eq!(read(&[HANDSHAKE, 2]), Err(ClientHelloError::NotTls));
        assert_eq!(read(&[]), Ok(Found::Needs(5)));
        // The second record of a message may not be another thing.
        let mut bytes = records(&message(None), 20);
        bytes[25] = 23;
        assert_eq!(read(&bytes), Err(ClientHelloError::NotTls));
    }

    #[test]
    fn one_that_is_too_long_is_refused_by_the_length_it_announces() {
        assert_eq!(read(&[HANDSHAKE, 3, 1, 0, 10, CLIENT_HELLO, 1, 0, 0]), Err(ClientHelloError::TooLong));
        assert_eq!(
            read(&[HANDSHAKE, 3, 1, 0x40, 1]),
            Err(ClientHelloError::Malformed("the length of a record"))
        );
        // In records of one byte it is six times as long.
        let long = records(&message(Some(&extension(21, &[0; 4000]))), 1);
        let mut outcomes = (0..long.len()).step_by(101).map(|cut| read(&long[..cut]));
        assert_eq!(outcomes.find_map(Result::err), Some(ClientHelloError::TooLong));
    }

    #[test]
    fn a_broken_one_is_refused_with_what_is_broken() {
        for (extensions, what) in [
            (&[0, 0][..], "extension"),
            (&[0], "type of an extension"),
            (&extension(SERVER_NAME, &[0, 9, 0]), "server names"),
            (&extension(SERVER_NAME, &[0, 2, 0, 0]), "server name"),
            (&[named(b"a.example"), named(b"b.example")].concat(), "a second list of server names"),
            (&extension(ALPN, &[0, 3, 9, 1, 2]), "protocol name"),
            (&extension(ALPN, &[0, 1, 0]), "protocol name"),
            (&extension(ALPN, &[0, 2, 1, 1, 1]), "protocol names"),
        ] {
            let bytes = records(&message(Some(extensions)), 16 * 1024);
            assert_eq!(read(&bytes), Err(ClientHelloError::Malformed(what)), "{extensions:?}");
        }
        let mut other = records(&message(None), 16 * 1024);
        other[5] = 2;
        assert_eq!(read(&other), Err(ClientHelloError::Malformed("the first message is another one")));
        assert_eq!(
            read(&[HANDSHAKE, 3, 1, 0, 0]),
            Err(ClientHelloError::Malformed("the length of a record"))
        );
    }

    #[test]
    fn a_name_that_is_no_host_name_is_refused() {
        for name in [&b""[..], b"a b", b"a/b", b"shop.example\0", "\u{fc}".as_bytes(), &[b'a'; 254]] {
            let bytes = records(&message(Some(&named(name))), 16 * 1024);
            assert_eq!(read(&bytes), Err(ClientHelloError::ServerName));
        }
    }

    proptest! {
        #[test]
        fn records_and_reads_may_split_it_anywhere(most in 1_usize..400, name in "[a-z]{1,20}\\.example") {
            let extensions = [named(name.as_bytes()), speaks(&[b"h2"])].concat();
            let bytes = records(&message(Some(&extensions)), most);

            prop_assert_eq!(read(&bytes), Ok(hello(&name, &[b"h2"])));
            let mut there = 0;
            while let Found::Needs(needed) = read(&bytes[..there]).unwrap() {
                // It never asks for more than there is, nor for nothing.
                prop_assert!(there < needed && needed <= bytes.len(), "{needed} after {there}");
                there = needed;
            }
            for cut in 0..bytes.len() {
                prop_assert!(matches!(read(&bytes[..cut]), Ok(Found::Needs(needed)) if needed > cut));
            }
        }

        #[test]
        fn nothing_makes_it_panic(
            extensions in proptest::collection::vec(any::<u8>(), 0..100),
            most in 1_usize..200,
            flips in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
            tail in proptest::collection::vec(any::<u8>(), 0..100),
        ) {
            let mut bytes = records(&message(Some(&extensions)), most);
            for (place, value) in flips {
                let place = place.index(bytes.len());
                bytes[place] = value;
            }
            for cut in 0..=bytes.len() {
                if let Ok(Found::Needs(needed)) = read(&bytes[..cut]) {
                    prop_assert!(needed > cut && needed <= LONGEST);
                }
            }
            let _ = read(&tail);
        }
    }
}
