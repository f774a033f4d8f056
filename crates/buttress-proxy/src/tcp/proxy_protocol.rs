//! The PROXY protocol, versions 1 and 2, as the specification of HAProxy has it
//! (<https://www.haproxy.org/download/2.9/doc/proxy-protocol.txt>): pure functions of bytes.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// The most that is read of a header. Version 1 has 107 bytes at most; what version 2 carries beside the addresses is a
/// few names, or a certificate's.
pub(crate) const LONGEST: usize = 4096;

const V1: &[u8] = b"PROXY ";
/// With the end of the line.
const LONGEST_V1: usize = 107;
const V2: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
/// Signature, command, family, length.
const FIXED_V2: usize = 16;
const CRC32C: u8 = 3;

/// Which form of the PROXY protocol is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(clippy::exhaustive_enums, reason = "there are two versions")]
pub enum Version {
    /// A line of text: `PROXY TCP4 192.0.2.7 198.51.100.1 50123 443`.
    V1,
    /// Binary: shorter, and quicker to read.
    V2,
}

/// What a header says of the connection it came on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Header {
    /// It is sent on for somebody else.
    Proxied { source: SocketAddr, destination: SocketAddr },
    /// It is the proxy's own, or the proxy does not say for whom it is: the socket's addresses count.
    Local,
}

/// Why bytes are no header of the PROXY protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ProxyProtocolError {
    /// They begin in another way.
    #[error("the connection does not begin with a PROXY protocol header")]
    Missing,
    /// A line that is no header of version 1.
    #[error("PROXY protocol v1: {0}")]
    Line(&'static str),
    /// A version other than 2, or a command other than LOCAL and PROXY.
    #[error("PROXY protocol v2: version and command {0:#04x}, where 0x20 and 0x21 are known")]
    Command(u8),
    /// A family of addresses, or a transport, that TCP forwarding does not have.
    #[error("PROXY protocol v2: family and transport {0:#04x} is none of a TCP connection")]
    Family(u8),
    /// The length of version 2 is too small for the addresses, or above 4 KiB with the header.
    #[error("PROXY protocol v2: a length of {0} does not fit the addresses, or is above 4080")]
    Length(u16),
    /// What follows the addresses is not a list of types, lengths and values.
    #[error("PROXY protocol v2: the list after the addresses is broken")]
    List,
    /// The checksum is not that of the header.
    #[error("PROXY protocol v2: the checksum is wrong")]
    Checksum,
}

/// Reads the header that `bytes` begin with, and how long it is; `None` while it is not whole.
///
/// What cannot become a header any more is refused at the first byte that says so.
pub(crate) fn read(bytes: &[u8]) -> Result<Option<(Header, usize)>, ProxyProtocolError> {
    if starts(bytes, V1) {
        read_line(bytes)
    } else if starts(bytes, V2) {
        read_binary(bytes)
    } else {
        Err(ProxyProtocolError::Missing)
    }
}

/// Whether `bytes` begin with `signature`, as far as they are there.
fn starts(bytes: &[u8], signature: &[u8]) -> bool {
    let length = bytes.len().min(signature.len());
    bytes[..length] == signature[..length]
}

fn read_line(bytes: &[u8]) -> Result<Option<(Header, usize)>, ProxyProtocolError> {
    let wrong = |rule| Err(ProxyProtocolError::Line(rule));
    let seen = &bytes[..bytes.len().min(LONGEST_V1)];
    let Some(end) = seen.iter().position(|&byte| byte == b'\n') else {
        return if seen.len() < LONGEST_V1 { Ok(None) } else { wrong("no end of the line in 107 bytes") };
    };
    let Some(line) = seen[..end].strip_suffix(b"\r") else {
        return wrong("a line feed without a carriage return");
    };
    let Ok(line) = std::str::from_utf8(line) else { return wrong("the line is not ASCII") };
    let mut words = line.split(' ').skip(1);
    let family = words.next();
    if family == Some("UNKNOWN") {
        // What follows it is not to be looked at.
        return Ok(Some((Header::Local, end + 1)));
    }
    let (Some(source), Some(destination), Some(source_port), Some(port), None) =
        (words.next(), words.next(), words.next(), words.next(), words.next())
    else {
        return wrong("it must be a family, two addresses and two ports");
    };
    let (Some(source_port), Some(port)) = (number(source_port), number(port)) else {
        return wrong("a port must be a number up to 65535, without leading zeros");
    };
    let addresses = match family {
        Some("TCP4") => source
            .parse::<Ipv4Addr>()
            .ok()
            .map(IpAddr::from)
            .zip(destination.parse::<Ipv4Addr>().ok().map(IpAddr::from)),
        Some("TCP6") => source
            .parse::<Ipv6Addr>()
            .ok()
            .map(IpAddr::from)
            .zip(destination.parse::<Ipv6Addr>().ok().map(IpAddr::from)),
        _ => return wrong("the family must be TCP4, TCP6 or UNKNOWN"),
    };
    let Some((source, destination)) = addresses else { return wrong("an address is not one of its family") };
    let source = SocketAddr::new(source, source_port);
    let destination = SocketAddr::new(destination, port);
    Ok(Some((Header::Proxied { source, destination }, end + 1)))
}

fn number(text: &str) -> Option<u16> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    if digits && (text == "0" || !text.starts_with('0')) { text.parse().ok() } else { None }
}

fn read_binary(bytes: &[u8]) -> Result<Option<(Header, usize)>, ProxyProtocolError> {
    let Some(&[command, family, high, low]) = bytes.get(V2.len()..FIXED_V2) else { return Ok(None) };
    let local = match command {
        0x20 => true,
        0x21 => false,
        other => return Err(ProxyProtocolError::Command(other)),
    };
    let length = u16::from_be_bytes([high, low]);
    let whole = FIXED_V2 + usize::from(length);
    // What the addresses take, of which those of UNIX sockets say nothing here.
    let addresses = match family {
        // Of the proxy's own connection not even the family is looked at.
        _ if local => 0,
        0x00 | 0x01 | 0x10 | 0x20 | 0x30 => 0,
        0x11 => 12,
        0x21 => 36,
        0x31 => 216,
        other => return Err(ProxyProtocolError::Family(other)),
    };
    if whole > LONGEST || usize::from(length) < addresses {
        return Err(ProxyProtocolError::Length(length));
    }
    let Some(header) = bytes.get(..whole) else { return Ok(None) };
    let (block, list) = header[FIXED_V2..].split_at(addresses);
    // Of an unspecified family it is not known where a list would begin.
    if !block.is_empty() {
        check_list(header, list)?;
    }
    let said = match family {
        _ if local => Header::Local,
        0x11 => proxied(
            IpAddr::from(array::<4>(&block[..4])),
            IpAddr::from(array::<4>(&block[4..8])),
            &block[8..],
        ),
        0x21 => proxied(
            IpAddr::from(array::<16>(&block[..16])),
            IpAddr::from(array::<16>(&block[16..32])),
            &block[32..],
        ),
        _ => Header::Local,
    };
    Ok(Some((said, whole)))
}

fn proxied(source: IpAddr, destination: IpAddr, ports: &[u8]) -> Header {
    Header::Proxied {
        source: SocketAddr::new(source, u16::from_be_bytes(array(&ports[..2]))),
        destination: SocketAddr::new(destination, u16::from_be_bytes(array(&ports[2..4]))),
    }
}

fn array<const N: usize>(bytes: &[u8]) -> [u8; N] {
    bytes.try_into().expect("the slice was cut to this length")
}

/// Walks over types, lengths and values; the checksum, where there is one, must be right.
fn check_list(header: &[u8], mut list: &[u8]) -> Result<(), ProxyProtocolError> {
    while !list.is_empty() {
        let Some((&[kind, high, low], rest)) = list.split_first_chunk() else {
            return Err(ProxyProtocolError::List);
        };
        let length = usize::from(u16::from_be_bytes([high, low]));
        let Some((value, rest)) = rest.split_at_checked(length) else { return Err(ProxyProtocolError::List) };
        if kind == CRC32C {
            let at = header.len() - rest.len() - length;
            let said = u32::from_be_bytes(value.try_into().map_err(|_| ProxyProtocolError::List)?);
            // It was taken over the header with zeros in its own place.
            let sum = crc32c(crc32c(crc32c(0, &header[..at]), &[0; 4]), &header[at + 4..]);
            if sum != said {
                return Err(ProxyProtocolError::Checksum);
            }
        }
        list = rest;
    }
    Ok(())
}

/// CRC-32C (Castagnoli, RFC 9260 appendix A), continued from `sum`.
fn crc32c(sum: u32, bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!sum, |sum, &byte| {
        (0..8).fold(
            sum ^ u32::from(byte),
            |sum, _| if sum & 1 == 1 { (sum >> 1) ^ 0x82f6_3b78 } else { sum >> 1 },
        )
    })
}

/// Writes the header of a connection from `source` to `destination`.
pub(crate) fn write(version: Version, source: SocketAddr, destination: SocketAddr) -> Vec<u8> {
    let (from, to) = (source.ip().to_canonical(), destination.ip().to_canonical());
    let (from, to) = match (from, to) {
        (IpAddr::V4(_), IpAddr::V4(_)) | (IpAddr::V6(_), IpAddr::V6(_)) => (from, to),
        // There is one family for both.
        _ => (IpAddr::V6(mapped(from)), IpAddr::V6(mapped(to))),
    };
    match version {
        Version::V1 => {
            let family = if from.is_ipv4() { "TCP4" } else { "TCP6" };
            format!("PROXY {family} {from} {to} {} {}\r\n", source.port(), destination.port()).into_bytes()
        }
        Version::V2 => {
            let mut header = Vec::with_capacity(FIXED_V2 + 36);
            header.extend_from_slice(V2);
            header.extend_from_slice(if from.is_ipv4() {
                &[0x21, 0x11, 0, 12]
            } else {
                &[0x21, 0x21, 0, 36]
            });
            for address in [from, to] {
                match address {
                    IpAddr::V4(address) => header.extend_from_slice(&address.octets()),
                    IpAddr::V6(address) => header.extend_from_slice(&address.octets()),
                }
            }
            header.extend_from_slice(&source.port().to_be_bytes());
            header.extend_from_slice(&destination.port().to_be_bytes());
            header
        }
    }
}

fn mapped(address: IpAddr) -> Ipv6Addr {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped(),
        IpAddr::V6(address) => address,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn proxied(source: &str, destination: &str) -> Header {
        Header::Proxied { source: source.parse().unwrap(), destination: destination.parse().unwrap() }
    }

    fn v2(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
        let length = u16::try_from(rest.len()).unwrap().to_be_bytes();
        [V2, &[command, family], &length, rest].concat()
    }

    const V4: [u8; 12] = [192, 0, 2, 7, 198, 51, 100, 1, 0xc3, 0xcb, 1, 0xbb];

    #[test]
    fn a_line_names_both_ends() {
        let line = b"PROXY TCP4 192.0.2.7 198.51.100.1 50123 443\r\nhello";
        assert_eq!(read(line), Ok(Some((proxied("192.0.2.7:50123", "198.51.100.1:443"), line.len() - 5))));

        let line = b"PROXY TCP6 2001:db8::7 2001:db8::1 50123 443\r\n";
        assert_eq!(read(line), Ok(Some((proxied("[2001:db8::7]:50123", "[2001:db8::1]:443"), line.len()))));

        let line = b"PROXY UNKNOWN ffff:f...f:ffff ffff:f...f:ffff 65535 65535\r\n";
        assert_eq!(read(line), Ok(Some((Header::Local, line.len()))));
        assert_eq!(read(b"PROXY UNKNOWN\r\n"), Ok(Some((Header::Local, 15))));
    }

    #[test]
    fn a_line_that_breaks_a_rule_is_refused() {
        for (line, rule) in [
            (&b"PROXY TCP4 192.0.2.7 198.51.100.1 50123 443\n"[..], "a line feed without a carriage return"),
            (
                b"PROXY TCP4 192.0.2.7 198.51.100.1 50123\r\n",
                "it must be a family, two addresses and two ports",
            ),
            (
                b"PROXY TCP4 192.0.2.7  198.51.100.1 5 443\r\n",
                "it must be a family, two addresses and two ports",
            ),
            (
                b"PROXY TCP4 192.0.2.7 198.51.100.1 +5 443\r\n",
                "a port must be a number up to 65535, without leading zeros",
            ),
            (
                b"PROXY TCP4 192.0.2.7 198.51.100.1 05 443\r\n",
                "a port must be a number up to 65535, without leading zeros",
            ),
            (
                b"PROXY TCP4 192.0.2.7 198.51.100.1 5 65536\r\n",
                "a port must be a number up to 65535, without leading zeros",
            ),
            (b"PROXY TCP4 2001:db8::7 198.51.100.1 5 443\r\n", "an address is not one of its family"),
            (b"PROXY TCP4 192.0.2.300 198.51.100.1 5 443\r\n", "an address is not one of its family"),
            (b"PROXY UDP4 192.0.2.7 198.51.100.1 5 443\r\n", "the family must be TCP4, TCP6 or UNKNOWN"),
            (b"PROXY \xff\xff\r\n", "the line is not ASCII"),
            (&[&b"PROXY UNKNOWN "[..], &[b'x'; 200]].concat(), "no end of the line in 107 bytes"),
        ] {
            assert_eq!(read(line), Err(ProxyProtocolError::Line(rule)), "{}", line.escape_ascii());
        }
    }

    #[test]
    fn what_cannot_become_a_header_is_refused_at_once() {
        assert_eq!(read(b"G"), Err(ProxyProtocolError::Missing));
        assert_eq!(read(b"PRI "), Err(ProxyProtocolError::Missing));
        assert_eq!(read(b"\r\n\r\n\0\r\nQUIX"), Err(ProxyProtocolError::Missing));
        assert_eq!(read(b""), Ok(None));
        assert_eq!(read(b"PROX"), Ok(None));
    }

    #[test]
    fn the_binary_form_names_both_ends_or_says_that_it_does_not_know_them() {
        let header = v2(0x21, 0x11, &V4);
        assert_eq!(read(&header), Ok(Some((proxied("192.0.2.7:50123", "198.51.100.1:443"), 28))));

        // LOCAL, UNSPEC, and the addresses of UNIX sockets: the socket's own addresses count.
        for header in [
            v2(0x20, 0x00, &[]),
            v2(0x20, 0x11, &[]),
            v2(0x20, 0x21, &[7; 3]),
            v2(0x20, 0x99, &[1, 2]),
            v2(0x21, 0x00, &[7; 9]),
            v2(0x21, 0x31, &[0; 216]),
        ] {
            assert_eq!(read(&header), Ok(Some((Header::Local, header.len()))));
        }
    }

    #[test]
    fn the_binary_form_is_refused_where_it_breaks_a_rule() {
        assert_eq!(read(&v2(0x11, 0x11, &V4)), Err(ProxyProtocolError::Command(0x11)));
        assert_eq!(read(&v2(0x22, 0x11, &V4)), Err(ProxyProtocolError::Command(0x22)));
        assert_eq!(read(&v2(0x21, 0x12, &V4)), Err(ProxyProtocolError::Family(0x12)));
        assert_eq!(read(&v2(0x21, 0x11, &V4[..11])), Err(ProxyProtocolError::Length(11)));
        assert_eq!(read(&v2(0x21, 0x11, &[0; 4081])), Err(ProxyProtocolError::Length(4081)));
        // The length alone is enough: nobody has to send what would be refused.
        assert_eq!(read(&v2(0x21, 0x11, &[0; 65535])[..16]), Err(ProxyProtocolError::Length(65535)));
        assert_eq!(read(&v2(0x21, 0x11, &[&V4[..], &[4, 0]].concat())), Err(ProxyProtocolError::List));
        assert_eq!(read(&v2(0x21, 0x11, &[&V4[..], &[4, 0, 2, 0]].concat())), Err(ProxyProtocolError::List));
        assert_eq!(
            read(&v2(0x21, 0x11, &[&V4[..], &[3, 0, 3, 0, 0, 0]].concat())),
            Err(ProxyProtocolError::List)
        );
    }

    #[test]
    fn values_beside_the_addresses_are_passed_over() {
        let header = v2(0x21, 0x11, &[&V4[..], &[2, 0, 3, b'a', b'.', b'b'], &[4, 0, 0]].concat());
        assert_eq!(read(&header).unwrap().unwrap().1, header.len());
    }

    #[test]
    fn a_checksum_must_be_right_where_there_is_one() {
        // The check value of CRC-32C.
        assert_eq!(crc32c(0, b"123456789"), 0xe306_9283);
        let mut header =
            v2(0x21, 0x11, &[&V4[..], &[4, 0, 1, 9], &[3, 0, 4, 0, 0, 0, 0], &[2, 0, 1, b'x']].concat());
        let sum = crc32c(0, &header);
        header[35..39].copy_from_slice(&sum.to_be_bytes());

        assert_eq!(read(&header).unwrap().unwrap().1, header.len());
        header[16] ^= 1;
        assert_eq!(read(&header), Err(ProxyProtocolError::Checksum));
    }

    #[test]
    fn ends_of_two_families_are_written_as_one() {
        let (source, destination) = ("192.0.2.7:1".parse().unwrap(), "[2001:db8::1]:2".parse().unwrap());
        assert_eq!(
            write(Version::V1, source, destination),
            b"PROXY TCP6 ::ffff:192.0.2.7 2001:db8::1 1 2\r\n"
        );
        let mapped = "[::ffff:192.0.2.7]:1".parse().unwrap();
        assert_eq!(write(Version::V1, mapped, source), b"PROXY TCP4 192.0.2.7 192.0.2.7 1 1\r\n");
    }

    fn address() -> impl Strategy<Value = SocketAddr> {
        prop_oneof![
            (any::<[u8; 4]>(), any::<u16>()).prop_map(|(ip, port)| (ip, port).into()),
            (any::<[u8; 16]>(), any::<u16>()).prop_map(|(ip, port)| (ip, port).into()),
        ]
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_and_no_part_of_it_is_taken_for_the_whole(
            source in address(), destination in address(), v1: bool, tail: Vec<u8>
        ) {
            let version = if v1 { Version::V1 } else { Version::V2 };
            let header = write(version, source, destination);
            let bytes = [&header[..], &tail].concat();

            let (said, length) = read(&bytes).unwrap().unwrap();

            prop_assert_eq!(length, header.len());
            let Header::Proxied { source: from, destination: to } = said else { panic!("it names both ends") };
            prop_assert_eq!(from.ip().to_canonical(), source.ip().to_canonical());
            prop_assert_eq!(to.ip().to_canonical(), destination.ip().to_canonical());
            prop_assert_eq!((from.port(), to.port()), (source.port(), destination.port()));
            for cut in 0..header.len() {
                prop_assert_eq!(read(&header[..cut]), Ok(None));
            }
        }

        #[test]
        fn nothing_makes_it_panic_or_read_beyond_what_is_there(
            v1: bool, fixed: [u8; 4], tail in proptest::collection::vec(any::<u8>(), 0..300)
        ) {
            let bytes = if v1 { [V1, &tail].concat() } else { [V2, &fixed, &tail].concat() };
            if let Ok(Some((_, length))) = read(&bytes) {
                prop_assert!(length <= bytes.len());
            }
            let _ = read(&tail);
        }

        #[test]
        fn a_list_of_any_bytes_is_read_or_refused(tail in proptest::collection::vec(any::<u8>(), 0..64)) {
            let header = v2(0x21, 0x11, &[&V4[..], &tail].concat());
            match read(&header) {
                Ok(Some((_, length))) => prop_assert_eq!(length, header.len()),
                Ok(None) => panic!("it is whole"),
                Err(error) => prop_assert!(matches!(error, ProxyProtocolError::List | ProxyProtocolError::Checksum)),
            }
        }
    }
}
