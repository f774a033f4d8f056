//! What the parts of one connection share.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use buttress_http::Peer;
use http::Extensions;

use super::options::Options;
use super::stage::{House, Stage};
use crate::Draining;
#[cfg(feature = "tls")]
use crate::{ClientCertificate, Scheme};

/// What TLS says of the client, where it is spoken.
#[cfg(feature = "tls")]
pub(super) type Secured = Option<(super::TlsSession, Option<ClientCertificate>)>;
#[cfg(not(feature = "tls"))]
pub(super) type Secured = Option<std::convert::Infallible>;

pub(super) struct Shared {
    pub(super) options: Arc<Options>,
    pub(super) house: Arc<House>,
    pub(super) peer: Peer,
    pub(super) is_http2: bool,
    draining: Draining,
    secured: Secured,
    /// How many requests have begun: it wraps round, and is compared for being the same only.
    begun: AtomicU32,
    open: AtomicU32,
}

impl Shared {
    pub(super) fn new(
        options: Arc<Options>,
        house: Arc<House>,
        peer: Peer,
        secured: Secured,
        is_http2: bool,
    ) -> Self {
        let draining = house.draining();
        Self {
            options,
            house,
            peer,
            is_http2,
            draining,
            secured,
            begun: AtomicU32::new(0),
            open: AtomicU32::new(0),
        }
    }

    /// What each request says about its connection.
    pub(super) fn mark(&self, extensions: &mut Extensions) {
        extensions.insert(self.peer);
        extensions.insert(self.draining.clone());
        #[cfg(not(feature = "tls"))]
        if let Some(never) = self.secured {
            match never {}
        }
        #[cfg(feature = "tls")]
        if let Some((session, certificate)) = &self.secured {
            extensions.insert(Scheme::Https);
            extensions.insert(session.clone());
            if let Some(certificate) = certificate {
                extensions.insert(certificate.clone());
            }
        }
    }

    pub(super) fn stage(&self) -> Stage {
        self.house.stage()
    }

    /// How many exchanges have begun and not ended.
    pub(super) fn open(&self) -> u32 {
        self.open.load(Ordering::Acquire)
    }

    #[cfg(feature = "http2")]
    pub(super) fn begun(&self) -> u32 {
        self.begun.load(Ordering::Relaxed)
    }

    pub(super) fn begin(self: &Arc<Self>) -> Exchange {
        self.begun.fetch_add(1, Ordering::Relaxed);
        self.open.fetch_add(1, Ordering::Relaxed);
        Exchange(Arc::clone(self))
    }
}

/// One request and its answer, to the end of the answer's body.
pub(super) struct Exchange(Arc<Shared>);

impl Exchange {
    pub(super) fn shared(&self) -> &Arc<Shared> {
        &self.0
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::Release);
    }
}
