use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use buttress_http::key::Net;

use crate::Proxy;
use crate::policy::Via;

/// What becomes of the fields of requests and answers.
impl<B> Proxy<B> {
    /// Whether the upstream gets the `Host` that the client asked for, or the upstream's own address. Default: the
    /// client's.
    ///
    /// The authority of an absolute-form target and of an HTTP/2 request counts as the client's `Host`.
    #[must_use]
    pub fn preserve_host(self, preserve: bool) -> Self {
        self.with(|options| options.fields.preserve_host = preserve)
    }

    /// What happens to `X-Forwarded-For`, `-Proto` and `-Host`, and to `Forwarded` and `X-Real-IP`. Default:
    /// [`XForwarded::Keep`].
    ///
    /// The peer is the request's [`Peer`](buttress_http::Peer); where there is none the entry is `unknown`. The scheme
    /// is `http`.
    #[must_use]
    pub fn x_forwarded(self, mode: XForwarded) -> Self {
        self.with(|options| options.fields.x_forwarded = Forwarding::Same(mode))
    }

    /// [`Append`](XForwarded::Append)s for a peer in one of `nets`, which are the proxies in front, and
    /// [`Replace`](XForwarded::Replace)s for every other, and where the peer is not known.
    ///
    /// It takes the place of [`x_forwarded`](Self::x_forwarded): the one called last counts. With no networks at all
    /// it is `Replace`.
    ///
    /// # Panics
    ///
    /// When one of `nets` is not a network. Parse [`Net`]s for those that come from a file.
    #[must_use]
    pub fn x_forwarded_behind<N>(self, nets: impl IntoIterator<Item = N>) -> Self
    where
        N: TryInto<Net, Error: fmt::Display>,
    {
        let parse = |net: N| net.try_into().unwrap_or_else(|error| panic!("x_forwarded_behind: {error}"));
        let nets = nets.into_iter().map(parse).collect();
        self.with(|options| options.fields.x_forwarded = Forwarding::Behind(nets))
    }

    /// The name of this proxy in `Via`, in requests and in answers. Default: `buttress`.
    ///
    /// # Panics
    ///
    /// When `name` is neither a token (RFC 9110 §5.6.2) nor a host with a port.
    #[must_use]
    pub fn via(self, name: &str) -> Self {
        let via = Via::new(name);
        assert!(via.is_some(), "via must be a token or a host with a port, not `{name}`");
        self.with(|options| options.fields.via = via)
    }

    /// Leaves `Via` as it came. RFC 9110 wants one in requests; some upstreams answer without compression when they
    /// see it.
    #[must_use]
    pub fn without_via(self) -> Self {
        self.with(|options| options.fields.via = None)
    }
}

/// What happens to the fields that say on whose behalf a request comes.
///
/// | | `X-Forwarded-For`, `-Proto`, `-Host` | `Forwarded`, `X-Real-IP` |
/// |---|---|---|
/// | [`Keep`](Self::Keep) | sent on | sent on |
/// | [`Append`](Self::Append) | our entry is added at the end | sent on: the proxy in front answers for them |
/// | [`Replace`](Self::Replace) | ours alone | removed |
///
/// An upstream reads one of them: the one that the outermost proxy writes. `Forwarded` is never written here, so
/// behind `Append` its last entry names the client of the proxy in front, not that proxy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum XForwarded {
    /// They are end-to-end fields like any other: what the client sent is sent on. The default, since only the
    /// operator knows whether a trusted proxy stands in front.
    #[default]
    Keep,
    /// The peer's address, scheme and host are appended to what the client sent. For a proxy behind another one;
    /// upstreams read the lists from the right.
    Append,
    /// What the client sent is removed first, `Forwarded` and `X-Real-IP` too. For the outermost proxy.
    Replace,
}

/// Which [`XForwarded`] a request gets.
#[derive(Clone, Debug)]
pub(crate) enum Forwarding {
    Same(XForwarded),
    /// `Append` for a peer in one of these networks, `Replace` for all others.
    Behind(Arc<[Net]>),
}

impl Forwarding {
    pub(crate) fn of(&self, peer: Option<IpAddr>) -> XForwarded {
        match self {
            Self::Same(mode) => *mode,
            Self::Behind(nets) => {
                let trusted = peer.is_some_and(|peer| nets.iter().any(|net| net.contains(peer)));
                if trusted { XForwarded::Append } else { XForwarded::Replace }
            }
        }
    }
}

/// What is done with the fields of a message.
#[derive(Clone, Debug)]
pub(crate) struct Fields {
    pub(crate) preserve_host: bool,
    pub(crate) x_forwarded: Forwarding,
    pub(crate) via: Option<Via>,
}

impl Default for Fields {
    fn default() -> Self {
        Self {
            preserve_host: true,
            x_forwarded: Forwarding::Same(XForwarded::Keep),
            via: Some(Via::new("buttress").expect("the name is a token")),
        }
    }
}
