use http::{Method, Request};

/// Whether a request only looks, or may change something: where data lives in several places, the two go different ways.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(clippy::exhaustive_enums, reason = "read or write: there is no third")]
pub enum Access {
    /// It changes nothing, so any place that has the data can serve it.
    Read,
    /// It may change something, so it belongs to the place that owns the data.
    Write,
}

impl Access {
    /// What a method stands for: the safe ones of RFC 9110, section 9.2.1 (GET, HEAD, OPTIONS, TRACE) read, and all others,
    /// unknown ones among them, write.
    ///
    /// ```
    /// use buttress_core::Access;
    /// use http::Method;
    ///
    /// assert_eq!(Access::of_method(&Method::HEAD), Access::Read);
    /// assert_eq!(Access::of_method(&Method::PUT), Access::Write);
    /// ```
    #[inline]
    #[must_use]
    pub fn of_method(method: &Method) -> Self {
        if method.is_safe() { Self::Read } else { Self::Write }
    }

    /// Whether it is a read.
    #[inline]
    #[must_use]
    pub const fn is_read(self) -> bool {
        matches!(self, Self::Read)
    }
}

/// Tells reads from writes.
///
/// [`BySafety`] is the default and goes by the method of an HTTP request. A closure that gives an [`Access`] serves for other
/// requests, and for HTTP services that read by POST. Its argument needs its type written out:
///
/// ```
/// use buttress_core::{Access, AccessOf};
///
/// let command = |line: &String| if line.starts_with("GET ") { Access::Read } else { Access::Write };
/// # fn check<A: AccessOf<String>>(_: A) {}
/// # check(command);
/// ```
///
/// Where it cannot be told, say [`Access::Write`]: a write that is taken for a read may be lost, and a read that is taken
/// for a write is only served by a place with more to do.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot tell whether a `{Req}` reads or writes",
    note = "`BySafety` knows `http::Request`; for others a closure tells when its argument's type is written out: \
            `|req: &Command| if req.is_get() {{ Access::Read }} else {{ Access::Write }}`"
)]
pub trait AccessOf<Req> {
    /// Whether `req` reads or writes.
    fn access(&self, req: &Req) -> Access;
}

impl<Req, F> AccessOf<Req> for F
where
    F: Fn(&Req) -> Access,
{
    #[inline]
    fn access(&self, req: &Req) -> Access {
        self(req)
    }
}

/// Goes by the method of an HTTP request, as [`Access::of_method`] says: the default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "a word: there is nothing to add to it")]
pub struct BySafety;

impl<B> AccessOf<Request<B>> for BySafety {
    #[inline]
    fn access(&self, req: &Request<B>) -> Access {
        Access::of_method(req.method())
    }
}
