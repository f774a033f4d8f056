/// How much of a request line, a head and a trailer section is read before the request is refused.
///
/// | | default | why |
/// |---|---|---|
/// | [`head_bytes`](Self::head_bytes) | 32 KiB | as nginx (4 × 8 KiB); HAProxy and Node.js take 16 KiB |
/// | [`fields`](Self::fields) | 100 | as hyper and Envoy |
/// | [`target_bytes`](Self::target_bytes) | 8 KiB | RFC 9112 §3 asks for 8 000 at the least |
/// | [`trailer_bytes`](Self::trailer_bytes) | 8 KiB | they are checksums and states |
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    pub(super) head_bytes: usize,
    pub(super) fields: usize,
    pub(super) target_bytes: usize,
    pub(super) trailer_bytes: usize,
}

impl Limits {
    /// The defaults.
    #[must_use]
    pub const fn new() -> Self {
        Self { head_bytes: 32 * 1024, fields: 100, target_bytes: 8 * 1024, trailer_bytes: 8 * 1024 }
    }

    /// The most bytes of a head, from the method to the empty line that ends it: 256 to 1 MiB, else the nearest.
    #[must_use]
    pub fn head_bytes(mut self, bytes: usize) -> Self {
        self.head_bytes = bytes.clamp(256, 1024 * 1024);
        self
    }

    /// The most fields of a head, and of a trailer section: 1 to 1 000, else the nearest.
    #[must_use]
    pub fn fields(mut self, fields: usize) -> Self {
        self.fields = fields.clamp(1, 1000);
        self
    }

    /// The most bytes of a request target: 1 to 65 534, which is what `http::Uri` holds, else the nearest. The head has
    /// to hold it too.
    #[must_use]
    pub fn target_bytes(mut self, bytes: usize) -> Self {
        self.target_bytes = bytes.clamp(1, 65_534);
        self
    }

    /// The most bytes of a trailer section, with the empty line that ends it: 2 to 16 000, as hyper takes less than
    /// 16 KiB, else the nearest.
    #[must_use]
    pub fn trailer_bytes(mut self, bytes: usize) -> Self {
        self.trailer_bytes = bytes.clamp(2, 16_000);
        self
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self::new()
    }
}
