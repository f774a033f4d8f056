//! A port whose connections are forwarded as they are.

use std::{collections::BTreeMap, net::SocketAddr, time::Duration};

use buttress::{
    key::Net,
    proxy::tcp::{ByServerName, Connect, ProxyProtocol, Server, Version},
};
use serde::Deserialize;
use toml::Spanned;

use super::{
    Config, Finding, said,
    value::{Count, Text},
};

/// See `gateway.toml` for what each key of the file means.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub(crate) struct TcpPort {
    address: Spanned<Text<SocketAddr>>,
    upstream: Spanned<String>,
    #[serde(default)]
    server_names: BTreeMap<String, Spanned<String>>,
    idle_timeout: Option<Spanned<Text<Duration>>>,
    max_connections: Option<Count>,
    #[serde(default)]
    proxy_protocol_from: Vec<Text<Net>>,
    send_proxy_protocol: Option<SentVersion>,
}

#[derive(Clone, Copy, Debug, Deserialize, PartialEq)]
#[serde(rename_all = "lowercase")]
enum SentVersion {
    V1,
    V2,
}

impl TcpPort {
    pub(crate) fn address(&self) -> SocketAddr {
        self.address.get_ref().0
    }

    pub(super) fn span(&self) -> std::ops::Range<usize> {
        self.address.span()
    }

    /// The upstream for what no name leads elsewhere, then those of the names, in their order.
    pub(crate) fn upstreams(&self) -> impl Iterator<Item = &str> {
        std::iter::once(&self.upstream).chain(self.server_names.values()).map(|name| name.get_ref().as_str())
    }

    /// The names of servers by which TLS is routed.
    pub(crate) fn server_names(&self) -> impl Iterator<Item = &str> {
        self.server_names.keys().map(String::as_str)
    }

    /// The version of the PROXY protocol that upstreams are spoken to in.
    pub(crate) fn send_proxy_protocol(&self) -> Option<Version> {
        self.send_proxy_protocol.map(|version| match version {
            SentVersion::V1 => Version::V1,
            SentVersion::V2 => Version::V2,
        })
    }

    /// A server like this: what the file does not say is as the server has it.
    pub(crate) fn serve(&self, mut server: Server) -> Server {
        if let Some(time) = said(self.idle_timeout.as_ref()) {
            server = server.idle_timeout(time);
        }
        if let Some(count) = self.max_connections {
            server = server.max_connections(usize::try_from(count.0).unwrap_or(usize::MAX));
        }
        if !self.proxy_protocol_from.is_empty() {
            server = server
                .proxy_protocol(ProxyProtocol::required(self.proxy_protocol_from.iter().map(|net| net.0)));
        }
        if self.server_names.is_empty() { server } else { server.read_client_hello() }
    }

    pub(super) fn check(&self, config: &Config) -> Result<(), Finding> {
        super::check::wait("idle_timeout", self.idle_timeout.as_ref())?;
        for name in self.server_names() {
            ByServerName::otherwise(())
                .route(name, ())
                .map_err(|error| (Some(self.span()), error.to_string()))?;
        }
        for name in std::iter::once(&self.upstream).chain(self.server_names.values()) {
            let wrong = |message: String| Err((Some(name.span()), message));
            let Some(upstream) = config.upstream(name.get_ref()) else {
                return wrong(format!(
                    "no [[upstream]] is called {:?}; add one with name and url",
                    name.get_ref()
                ));
            };
            if !upstream.split().is_empty() {
                return wrong(format!(
                    "{:?} has no addresses of its own; name an upstream that has",
                    name.get_ref()
                ));
            }
            for url in upstream.urls() {
                if url.text.starts_with("https:") || Connect::to(url.text.as_str()).is_err() {
                    return wrong(format!(
                        "TCP is forwarded as it is, so {:?} cannot be spoken to over TLS",
                        url.text
                    ));
                }
            }
        }
        Ok(())
    }
}
