//! Each rule of the scanner by the bytes that break it.

use buttress_proxy::server::wire::Violation::{self, *};
use buttress_proxy::server::wire::{Limits, Phase, Scanner, Step};

use crate::framing::{framed, framed_in_pieces};

#[track_caller]
fn refuses(stream: impl AsRef<[u8]>, violation: Violation) {
    let stream = stream.as_ref();
    assert_eq!(framed(stream).refused, Some(violation), "{}", shown(stream));
}

fn shown(stream: &[u8]) -> String {
    stream[..stream.len().min(200)].escape_ascii().to_string()
}

#[track_caller]
fn takes(stream: impl AsRef<[u8]>) {
    let stream = stream.as_ref();
    let framed = framed(stream);
    assert_eq!(framed.refused, None, "{}", shown(stream));
    assert!(framed.whole && framed.passed() == stream, "{}", shown(stream));
}

/// A GET with these lines behind its Host.
fn with(lines: &str) -> String {
    format!("GET / HTTP/1.1\r\nHost: a\r\n{lines}\r\n")
}

/// A chunked POST with this body.
fn chunked(body: &str) -> String {
    format!("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n{body}")
}

#[test]
fn a_request_line_has_three_parts_with_one_space_between_them() {
    for line in [
        "GET  / HTTP/1.1",
        "GET /  HTTP/1.1",
        "GET / HTTP/1.1 ",
        " GET / HTTP/1.1",
        "GET\t/ HTTP/1.1",
        "GET /",
        "GET",
        "GET / http/1.1",
        "GET / HTTP/1.1x",
        "GET / HTTP/11",
        "GET / HTTP/1.10",
        "GET / a HTTP/1.1",
        "GET  HTTP/1.1",
    ] {
        refuses(format!("{line}\r\nHost: a\r\n\r\n"), RequestLine);
    }
    refuses("GET /\tHTTP/1.1\r\nHost: a\r\n\r\n", RequestLine);
    refuses("GET /a\tb HTTP/1.1\r\nHost: a\r\n\r\n", Target);
}

#[test]
fn a_method_is_a_token_and_not_too_long() {
    for method in ["G(T", "G/T", "G\"T", "G:T", "G\u{e9}T", "{}"] {
        refuses(format!("{method} / HTTP/1.1\r\nHost: a\r\n\r\n"), Method);
    }
    takes(format!("{} / HTTP/1.1\r\nHost: a\r\n\r\n", "A".repeat(32)));
    refuses(format!("{} / HTTP/1.1\r\nHost: a\r\n\r\n", "A".repeat(33)), MethodTooLong);
    refuses("A".repeat(9000), MethodTooLong);
}

#[test]
fn only_http_1_1_and_1_0_are_read() {
    for version in ["HTTP/0.9", "HTTP/1.2", "HTTP/2.0", "HTTP/9.9"] {
        refuses(format!("GET / {version}\r\nHost: a\r\n\r\n"), Version);
    }
    refuses("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", Version);
}

#[test]
fn a_target_has_the_form_for_its_method() {
    for target in [
        "*",
        "a",
        "a/b",
        "example.com:80",
        "ftp://a/",
        "http:/a",
        "http://",
        "http:///a",
        "http://u@a/",
        "http://a:b/",
        "http://a,b/",
        "?a",
        "http://a/b#c",
        "//#",
    ] {
        refuses(format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n"), Target);
    }
    for target in [
        "/",
        "//a",
        "/?a=/?",
        "/a\u{e9}",
        "/{a}|\\^",
        "http://a",
        "http://a:",
        "http://a:80?b",
        "https://[::1]:8443/b",
        "/%00",
    ] {
        takes(format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n"));
    }
    for target in ["/", "*", "a", "a:", "http://a/", "a:80/", "a:65536"] {
        refuses(format!("CONNECT {target} HTTP/1.1\r\nHost: a\r\n\r\n"), Target);
    }
    takes("CONNECT a:443 HTTP/1.1\r\nHost: a\r\n\r\n");
    takes("OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n");
}

#[test]
fn a_target_has_no_bytes_that_a_uri_has_not() {
    for byte in (0..=0x20).chain([b'#', b'<', b'>', 0x7f, 0xff]) {
        for before in ["/", "/?"] {
            let stream = [b"GET ", before.as_bytes(), &[byte], b"b HTTP/1.1\r\nHost: a\r\n\r\n"].concat();
            assert!(framed(&stream).refused.is_some(), "{byte:#x} behind {before}");
        }
    }
    refuses("GET /` HTTP/1.1\r\nHost: a\r\n\r\n", Target);
    refuses("GET /?\" HTTP/1.1\r\nHost: a\r\n\r\n", Target);
    refuses("GET /\0 HTTP/1.1\r\nHost: a\r\n\r\n", Nul);
    refuses("GET /\u{1} HTTP/1.1\r\nHost: a\r\n\r\n", ControlByte);
    refuses(b"GET /\xff HTTP/1.1\r\nHost: a\r\n\r\n", Target);
}

#[test]
fn http_1_1_has_one_host_and_http_1_0_at_most_one() {
    refuses("GET / HTTP/1.1\r\n\r\n", HostMissing);
    refuses("GET http://a/ HTTP/1.1\r\n\r\n", HostMissing);
    refuses(with("Host: a\r\n"), HostRepeated);
    refuses(with("hOST: b\r\n"), HostRepeated);
    takes("GET / HTTP/1.0\r\n\r\n");
    refuses("GET / HTTP/1.0\r\nHost: a\r\nHost: a\r\n\r\n", HostRepeated);
}

#[test]
fn a_host_is_one_name_or_address_with_or_without_a_port() {
    for host in [
        "",
        " ",
        ":80",
        "a,b",
        "a, b",
        "a b",
        "a/b",
        "a?b",
        "a#b",
        "u@a",
        "http://a",
        "a:b",
        "a:80:80",
        "a:65536",
        "a:-1",
        "a:+1",
        "a%20b",
        "a\\b",
        "a;b",
        "[::1",
        "::1",
        "[::1]a",
        "[]",
        "[::g]",
        "[fe80::1%25eth0]",
        "[1.2.3.4]",
        "\u{e9}",
        "a\"",
    ] {
        refuses(format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n"), HostInvalid);
    }
    for host in [
        "a",
        "A.example",
        "a.",
        "xn--bcher-kva.example",
        "a_b",
        "127.0.0.1:8080",
        "[::1]",
        "[::ffff:1.2.3.4]:80",
        "a:",
        "a:65535",
        "a:080",
    ] {
        takes(format!("GET / HTTP/1.1\r\nHost:\t {host} \t\r\n\r\n"));
    }
}

#[test]
fn a_field_line_is_a_token_and_a_colon() {
    refuses(with("X-A : b\r\n"), SpaceBeforeColon);
    refuses(with("X-A\t: b\r\n"), SpaceBeforeColon);
    refuses(with("Content-Length : 5\r\n"), SpaceBeforeColon);
    refuses(with(" folded\r\n"), Folding);
    refuses(with("X-A: b\r\n\tfolded\r\n"), Folding);
    refuses("GET / HTTP/1.1\r\n Host: a\r\n\r\n", Folding);
    for line in ["X-A", ": b", "X A: b", "X(A): b", "X\u{e9}: b", "\"X\": b", "X,Y: b", "X=Y"] {
        refuses(with(&format!("{line}\r\n")), FieldName);
    }
    takes(with("!#$%&'*+-.^_`|~09azAZ: b\r\nX-Empty:\r\nX-Colon: a:b::\r\n"));
}

#[test]
fn a_line_ends_with_crlf_and_has_no_control_bytes() {
    refuses(with("X-A: a\rb\r\n"), BareCr);
    refuses(with("X-A: a\r\rb\r\n"), BareCr);
    refuses(with("X-A: a\nX-B: b\r\n"), BareLf);
    refuses("GET / HTTP/1.1\nHost: a\n\n", BareLf);
    refuses("\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", BareLf);
    refuses(with("X-A: a\0b\r\n"), Nul);
    refuses(with("X-\0A: b\r\n"), Nul);
    for byte in (1..0x20_u8).filter(|byte| !b"\t\r\n".contains(byte)).chain([0x7f]) {
        refuses(with(&format!("X-A: a{}b\r\n", char::from(byte))), ControlByte);
    }
    let mut stream = b"GET / HTTP/1.1\r\nHost: a\r\nX-A: a\tb".to_vec();
    stream.extend(0x80..=0xff);
    stream.extend(b"\r\n\r\n");
    takes(stream);
}

#[test]
fn a_transfer_encoding_is_exactly_chunked_once() {
    let with = |value: &str| with(&format!("Transfer-Encoding: {value}\r\n"));
    for value in ["gzip, chunked", "x, gzip,chunked", "identity, chunked"] {
        refuses(with(value), TransferCoding);
    }
    for value in [
        "",
        "gzip",
        "identity",
        "chunked, gzip",
        "chunked, chunked",
        "chunked,",
        ",chunked",
        "chunked;a=b",
        "xchunked",
        "chunked x",
        "\"chunked\"",
        "chunke",
        "gzip, , chunked",
        "chunked, identity",
    ] {
        refuses(with(value), TransferEncodingInvalid);
    }
    refuses(with("chunked\r\nTransfer-Encoding: chunked"), TransferEncodingRepeated);
    refuses(with("chunked\u{b}"), ControlByte);
    refuses(
        "POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        TransferEncodingInHttp10,
    );
    takes(with("\t CHUNKED ") + "0\r\n\r\n");
}

#[test]
fn a_content_length_is_one_number_and_stands_alone() {
    let with = |lines: &str| with(&format!("{lines}\r\n"));
    refuses(with("Content-Length: 5\r\nTransfer-Encoding: chunked"), LengthBesideTransferEncoding);
    refuses(with("Transfer-Encoding: chunked\r\nContent-Length: 0"), LengthBesideTransferEncoding);
    for value in [
        "",
        "+5",
        "-5",
        "5a",
        "0x5",
        "5 5",
        "5;5",
        "5.0",
        "\"5\"",
        "9223372036854775808",
        "18446744073709551616",
        "\u{b2}",
    ] {
        refuses(with(&format!("Content-Length: {value}")), LengthInvalid);
    }
    for value in ["5, 5", "5,6", "5,", ","] {
        refuses(with(&format!("Content-Length: {value}")), LengthRepeated);
    }
    refuses(with("Content-Length: 5\r\nContent-Length: 5"), LengthRepeated);
    refuses(with("Content-Length: 5\r\ncontent-length: 6"), LengthRepeated);
    takes(with("Content-Length: 0005") + "hello");
    assert_eq!(framed(with("Content-Length: 9223372036854775807").as_bytes()).refused, None);
}

#[test]
fn a_connect_has_no_body() {
    refuses("CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\nContent-Length: 0\r\n\r\n", ConnectBody);
    refuses("CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\nTransfer-Encoding: chunked\r\n\r\n", ConnectBody);
}

#[test]
fn empty_lines_before_a_request_are_left_out_and_bounded() {
    let request = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    assert_eq!(
        framed(format!("\r\n\r\n{request}\r\n{request}").as_bytes()).passed(),
        request.repeat(2).as_bytes()
    );
    refuses(format!("\r\n\r\n\r\n{request}"), EmptyLines);
    refuses(format!("\r{request}"), BareCr);
}

#[test]
fn a_chunk_size_is_hexadecimal_digits_alone() {
    for size in [
        "",
        " 5",
        "+5",
        "-5",
        "0x5",
        "g",
        "5g",
        "5 5",
        "5,",
        "\t5",
        ";a",
        "00000000000000005",
        "8000000000000000",
        "ffffffffffffffff0",
        "5 ",
    ] {
        refuses(chunked(&format!("{size}\r\nhello\r\n0\r\n\r\n")), ChunkSize);
    }
    takes(chunked("0000000000000005\r\nhello\r\n0\r\n\r\n"));
    takes(chunked("aB\r\n") + &"x".repeat(0xab) + "\r\n000\r\n\r\n");
}

#[test]
fn chunks_end_with_crlf_and_their_sizes_too() {
    refuses(chunked("5\nhello\r\n0\r\n\r\n"), ChunkSize);
    refuses(chunked("5\rhello\r\n0\r\n\r\n"), BareCr);
    refuses(chunked("5\r\nhello\n0\r\n\r\n"), ChunkEnd);
    refuses(chunked("5\r\nhello\r0\r\n\r\n"), ChunkEnd);
    refuses(chunked("5\r\nhello!\r\n0\r\n\r\n"), ChunkEnd);
    refuses(chunked("5\r\nhell\r\n0\r\n\r\n"), ChunkEnd);
    refuses(chunked("0\r\n\n"), BareLf);
    refuses(chunked("0\r\n\rX"), BareCr);
}

#[test]
fn chunk_extensions_are_read_over_and_bounded() {
    takes(chunked("5;a=b;c=\"d;e\" ;f\r\nhello\r\n0 \t;z\r\n\r\n"));
    refuses(chunked("5;a\nb\r\nhello\r\n0\r\n\r\n"), BareLf);
    refuses(chunked("5;a\0\r\nhello\r\n0\r\n\r\n"), Nul);
    refuses(chunked("5;a\u{1}\r\nhello\r\n0\r\n\r\n"), ChunkExtension);
    refuses(chunked("5;a\rb\r\nhello\r\n0\r\n\r\n"), BareCr);
    takes(chunked(&format!("1;{}\r\na\r\n0\r\n\r\n", "x".repeat(16 * 1024 - 1))));
    refuses(chunked(&format!("1;{}\r\na\r\n0\r\n\r\n", "x".repeat(16 * 1024))), ChunkExtension);
    refuses(chunked(&format!("1{};\r\na\r\n0\r\n\r\n", " ".repeat(16 * 1024))), ChunkExtension);
    let chunk = format!("1;{}\r\na\r\n", "x".repeat(1000));
    refuses(chunked(&chunk.repeat(17)), ChunkExtension);
}

#[test]
fn trailer_fields_are_checked_as_fields_are_and_bounded() {
    let trailer = |lines: &str| chunked(&format!("0\r\n{lines}\r\n"));
    takes(trailer("X-Sum: 1\r\nServer-Timing: a\r\n"));
    for name in [
        "Content-Length",
        "Transfer-Encoding",
        "host",
        "Authorization",
        "Cookie",
        "TE",
        "Trailer",
        "Content-Type",
        "If-Match",
        "Connection",
    ] {
        refuses(trailer(&format!("{name}: 1\r\n")), TrailerForbidden);
    }
    refuses(trailer("X : 1\r\n"), SpaceBeforeColon);
    refuses(trailer(" X: 1\r\n"), Folding);
    refuses(trailer("X: \0\r\n"), Nul);
    refuses(trailer(&"X: 1\r\n".repeat(101)), TooManyFields);
    refuses(trailer(&format!("X: {}\r\n", "x".repeat(8 * 1024))), TrailersTooLarge);
}

#[test]
fn a_head_is_bounded_by_bytes_fields_and_target() {
    let limits = Limits::new().head_bytes(300).fields(4).target_bytes(20);
    let refused = |stream: &str| framed_in_pieces(stream.as_bytes(), limits, &[stream.len()]).refused;

    assert_eq!(refused(&with(&"X: y\r\n".repeat(3))), None);
    assert_eq!(refused(&with(&"X: y\r\n".repeat(4))), Some(TooManyFields));
    assert_eq!(refused(&format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "x".repeat(19))), None);
    assert_eq!(refused(&format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "x".repeat(20))), Some(TargetTooLong));
    assert_eq!(refused(&format!("GET /{}", "x".repeat(200))), Some(TargetTooLong));
    let fits = with(&format!("X: {}\r\n", "x".repeat(300 - with("X: \r\n").len())));
    assert_eq!((fits.len(), refused(&fits)), (300, None));
    assert_eq!(refused(&fits.replace("X: ", "X:  ")), Some(HeadTooLarge));
    assert_eq!(refused(&with(&format!("X: {}", "x".repeat(1000)))), Some(HeadTooLarge));
}

#[test]
fn what_follows_a_request_for_an_upgrade_is_held_until_it_is_known_what_it_is() {
    let mut scanner = Scanner::new(Limits::new());
    let request = b"POST /ws HTTP/1.1\r\nHost: a\r\nUpgrade: x\r\nContent-Length: 2\r\n\r\n";
    assert_eq!(scanner.scan(request), Step::Pass(request.len()));
    assert_eq!(scanner.scan(b"hi\0\0"), Step::Pass(2));

    assert_eq!(scanner.scan(b"\0\0"), Step::Hold);
    assert_eq!(scanner.phase(), Phase::Held);

    let mut declined = scanner.clone();
    declined.resume();
    assert_eq!(declined.scan(b"\0\0"), Step::Refused(Nul));
    scanner.tunnel();
    assert_eq!(scanner.scan(b"\0\0"), Step::Pass(2));
}

#[test]
fn a_refusal_stays() {
    let mut scanner = Scanner::new(Limits::new());
    assert_eq!(scanner.scan(b"\n"), Step::Refused(BareLf));
    assert_eq!(scanner.scan(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"), Step::Refused(BareLf));
}
