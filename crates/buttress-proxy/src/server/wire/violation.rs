use std::error::Error;
use std::{fmt, io};

use buttress_http::Problem;
use http::StatusCode;

macro_rules! violations {
    ($($(#[doc = $doc:literal])+ $name:ident = $status:ident, $section:literal, $id:literal, $text:literal;)+) => {
        /// Why a request is refused before any service sees it.
        ///
        /// Each names a rule of an RFC, whose breach two readers of the same bytes could understand differently, or a
        /// bound of ours.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum Violation {
            $(
                $(#[doc = $doc])+
                #[doc = concat!("\n\n", $section, ".")]
                $name,
            )+
        }

        impl Violation {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$name),+];

            /// The status that the client gets.
            #[must_use]
            pub const fn status(self) -> StatusCode {
                match self { $(Self::$name => StatusCode::$status,)+ }
            }

            /// Where the rule is written.
            #[must_use]
            pub const fn section(self) -> &'static str {
                match self { $(Self::$name => $section,)+ }
            }

            /// A short name that stays the same, for counters and logs.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$name => $id,)+ }
            }

            /// The rule in words.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$name => $text,)+ }
            }
        }
    };
}

violations! {
    /// 400: more empty lines before the request line than one client's bug explains.
    EmptyLines = BAD_REQUEST, "RFC 9112 §2.2", "empty-lines",
        "too many empty lines before the request line";
    /// 400: the request line is not three parts with one space between them.
    RequestLine = BAD_REQUEST, "RFC 9112 §3", "request-line",
        "the request line is not a method, a target and a version with one space between them";
    /// 400: the method is not a token.
    Method = BAD_REQUEST, "RFC 9112 §3.1", "method",
        "the method is not a token";
    /// 501: the method is longer than any that is known.
    MethodTooLong = NOT_IMPLEMENTED, "RFC 9112 §3", "method-too-long",
        "the method is too long";
    /// 400: the target has none of the four forms for its method, or has bytes that no URI has.
    Target = BAD_REQUEST, "RFC 9112 §3.2", "target",
        "the request target is not valid for this method";
    /// 414: the target is longer than allowed.
    TargetTooLong = URI_TOO_LONG, "RFC 9112 §3", "target-too-long",
        "the request target is too long";
    /// 505: a version other than HTTP/1.1 and HTTP/1.0.
    Version = HTTP_VERSION_NOT_SUPPORTED, "RFC 9110 §15.6.6", "version",
        "only HTTP/1.1 and HTTP/1.0 are understood on this connection";
    /// 400: HTTP/1.1 without `Host`.
    HostMissing = BAD_REQUEST, "RFC 9112 §3.2", "host-missing",
        "the request has no Host field";
    /// 400: more than one `Host` line.
    HostRepeated = BAD_REQUEST, "RFC 9112 §3.2", "host-repeated",
        "the request has more than one Host field";
    /// 400: `Host` is not one host with or without a port: empty, a list, or with bytes that no host name has.
    HostInvalid = BAD_REQUEST, "RFC 9112 §3.2", "host-invalid",
        "the Host field is not one host with or without a port";
    /// 400: a field name that is empty or not a token, or a line without a colon.
    FieldName = BAD_REQUEST, "RFC 9112 §5", "field-name",
        "a field line does not begin with a name and a colon";
    /// 400: a space or tab between a field name and its colon.
    SpaceBeforeColon = BAD_REQUEST, "RFC 9112 §5.1", "space-before-colon",
        "white space between a field name and its colon";
    /// 400: a line that begins with white space, which was once the continuation of the line before it.
    Folding = BAD_REQUEST, "RFC 9112 §5.2", "folding",
        "a field line begins with white space";
    /// 400: a NUL in the head, a trailer or a chunk extension.
    Nul = BAD_REQUEST, "RFC 9110 §5.5", "nul",
        "a NUL byte in a line";
    /// 400: a CR that no LF follows.
    BareCr = BAD_REQUEST, "RFC 9112 §2.2", "bare-cr",
        "a CR without LF in a line";
    /// 400: an LF that no CR precedes. RFC 9112 allows a recipient to take it for the end of a line; other readers do
    /// not, and no client sends it, so it is refused.
    BareLf = BAD_REQUEST, "RFC 9112 §2.2", "bare-lf",
        "an LF without CR in a line";
    /// 400: another control byte.
    ControlByte = BAD_REQUEST, "RFC 9110 §5.5", "control-byte",
        "a control byte in a line";
    /// 431: the head has more bytes than allowed.
    HeadTooLarge = REQUEST_HEADER_FIELDS_TOO_LARGE, "RFC 6585 §5", "head-too-large",
        "the head of the request is too large";
    /// 431: the head, or the trailer section, has more fields than allowed.
    TooManyFields = REQUEST_HEADER_FIELDS_TOO_LARGE, "RFC 6585 §5", "too-many-fields",
        "the request has too many fields";
    /// 501: `chunked` after a coding that is not understood, as in `gzip, chunked`.
    TransferCoding = NOT_IMPLEMENTED, "RFC 9112 §6.1", "transfer-coding",
        "no transfer coding but chunked is understood";
    /// 400: a `Transfer-Encoding` that does not end in `chunked`, so that nobody knows where the body ends, or has it
    /// more than once.
    TransferEncodingInvalid = BAD_REQUEST, "RFC 9112 §6.3", "transfer-encoding-invalid",
        "Transfer-Encoding is not exactly chunked";
    /// 400: more than one `Transfer-Encoding` line.
    TransferEncodingRepeated = BAD_REQUEST, "RFC 9112 §6.3", "transfer-encoding-repeated",
        "the request has more than one Transfer-Encoding field";
    /// 400: `Transfer-Encoding` in HTTP/1.0, which does not know it.
    TransferEncodingInHttp10 = BAD_REQUEST, "RFC 9112 §6.1", "transfer-encoding-in-http-1.0",
        "Transfer-Encoding in an HTTP/1.0 request";
    /// 400: `Content-Length` beside `Transfer-Encoding`: the classic of request smuggling.
    LengthBesideTransferEncoding = BAD_REQUEST, "RFC 9112 §6.1", "length-beside-transfer-encoding",
        "Content-Length beside Transfer-Encoding";
    /// 400: a `Content-Length` that is not digits alone, or more than 2⁶³ - 1.
    LengthInvalid = BAD_REQUEST, "RFC 9110 §8.6", "length-invalid",
        "Content-Length is not one decimal number";
    /// 400: more than one `Content-Length`, on several lines or in a list, equal or not.
    LengthRepeated = BAD_REQUEST, "RFC 9110 §8.6", "length-repeated",
        "the request has more than one Content-Length";
    /// 400: a `CONNECT` with `Content-Length` or `Transfer-Encoding`: what follows its head is the tunnel's.
    ConnectBody = BAD_REQUEST, "RFC 9110 §9.3.6", "connect-body",
        "a CONNECT request with a body";
    /// 400: a chunk size that is not 1 to 16 hexadecimal digits, or more than 2⁶³ - 1.
    ChunkSize = BAD_REQUEST, "RFC 9112 §7.1", "chunk-size",
        "a chunk size is not a hexadecimal number";
    /// 400: chunk extensions with control bytes, or more of them than 16 KiB in one body.
    ChunkExtension = BAD_REQUEST, "RFC 9112 §7.1.1", "chunk-extension",
        "a chunk extension is not valid or too long";
    /// 400: a chunk that CRLF does not follow.
    ChunkEnd = BAD_REQUEST, "RFC 9112 §7.1", "chunk-end",
        "a chunk is longer than its size";
    /// 431: the trailer section has more bytes than allowed.
    TrailersTooLarge = REQUEST_HEADER_FIELDS_TOO_LARGE, "RFC 6585 §5", "trailers-too-large",
        "the trailer section is too large";
    /// 400: a trailer field that changes framing, routing, authentication or the meaning of the content.
    TrailerForbidden = BAD_REQUEST, "RFC 9110 §6.5.1", "trailer-forbidden",
        "a field that may not be a trailer field";
    /// 408: the head was not there in time after its first byte.
    HeadTimeout = REQUEST_TIMEOUT, "RFC 9110 §15.5.9", "head-timeout",
        "the head of the request took too long";
    /// 408: nothing came of a body for too long.
    BodyTimeout = REQUEST_TIMEOUT, "RFC 9110 §15.5.9", "body-timeout",
        "the body of the request stopped coming";
}

impl Violation {
    /// The violation that is to blame for an error of a request's body, as hyper hands it on.
    #[must_use]
    pub fn of(error: &(dyn Error + 'static)) -> Option<Self> {
        std::iter::successors(Some(error), |&error| error.source()).find_map(|error| {
            let error = error.downcast_ref::<io::Error>()?.get_ref()?;
            error.downcast_ref().copied()
        })
    }

    /// What the client is told.
    ///
    /// ```
    /// use buttress_proxy::server::wire::Violation;
    ///
    /// let problem = Violation::HostMissing.problem();
    /// assert_eq!(problem.status(), 400);
    /// ```
    #[must_use]
    pub fn problem(self) -> Problem {
        Problem::new(self.status())
            .with_detail(self.as_str())
            .with_member("rule", self.name())
            .with_member("section", self.section())
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Error for Violation {}
