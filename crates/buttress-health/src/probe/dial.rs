//! Connections to endpoints.

use std::net::IpAddr;
#[cfg(feature = "probe-tls")]
use std::sync::Arc;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

use super::lookup::look_up;
use crate::Failure;

/// How endpoints are connected to.
#[derive(Clone, Debug, Default)]
pub(crate) struct Dial {
    pub(crate) port: Option<u16>,
    #[cfg(feature = "probe-tls")]
    pub(crate) tls: Option<Tls>,
}

#[cfg(feature = "probe-tls")]
#[derive(Clone, Debug)]
pub(crate) struct Tls {
    pub(crate) config: Arc<tokio_rustls::rustls::ClientConfig>,
    /// The name that the certificate must be of; `None` is the host of the endpoint's address.
    pub(crate) name: Option<tokio_rustls::rustls::pki_types::ServerName<'static>>,
}

/// A connection: plain, of a UNIX socket, or with TLS.
pub(crate) trait Io: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

impl Dial {
    #[cfg(feature = "probe-grpc")]
    pub(crate) const fn is_tls(&self) -> bool {
        #[cfg(feature = "probe-tls")]
        {
            self.tls.is_some()
        }
        #[cfg(not(feature = "probe-tls"))]
        false
    }

    /// What is asked for when the endpoint's address has no port.
    const fn default_port(&self) -> u16 {
        #[cfg(feature = "probe-tls")]
        if self.tls.is_some() {
            return 443;
        }
        80
    }

    pub(crate) async fn connect(&self, address: &str) -> Result<Box<dyn Io>, Failure> {
        #[cfg(unix)]
        if let Some(path) = address.strip_prefix("unix:") {
            let stream = tokio::net::UnixStream::connect(path).await.map_err(|error| io(&error))?;
            return self.secure(stream, "localhost").await;
        }
        let (host, port) = split(address).ok_or(Failure::Address)?;
        let port = self.port.or(port).unwrap_or_else(|| self.default_port());
        let connected = match host.parse::<IpAddr>() {
            Ok(ip) => TcpStream::connect((ip, port)).await,
            Err(_) => {
                let addresses = look_up(host, port).await?;
                TcpStream::connect(&addresses[..]).await
            }
        };
        let stream = connected.map_err(|error| io(&error))?;
        // One that cannot be set makes a slow probe at worst.
        let _ = stream.set_nodelay(true);
        self.secure(stream, host).await
    }

    #[cfg(not(feature = "probe-tls"))]
    #[expect(clippy::unused_async, reason = "with TLS there is a handshake to wait for")]
    async fn secure(&self, stream: impl Io + 'static, _: &str) -> Result<Box<dyn Io>, Failure> {
        Ok(Box::new(stream))
    }

    #[cfg(feature = "probe-tls")]
    async fn secure(&self, stream: impl Io + 'static, host: &str) -> Result<Box<dyn Io>, Failure> {
        use tokio_rustls::rustls::pki_types::ServerName;

        let Some(Tls { config, name }) = &self.tls else { return Ok(Box::new(stream)) };
        let name = match name {
            Some(name) => name.clone(),
            None => ServerName::try_from(host.to_owned()).map_err(|_| Failure::Address)?,
        };
        let connector = tokio_rustls::TlsConnector::from(Arc::clone(config));
        let stream = connector.connect(name, stream).await.map_err(|_| Failure::Tls)?;
        Ok(Box::new(stream))
    }
}

#[cfg(feature = "probe-tls")]
pub(crate) fn speaking(
    mut config: tokio_rustls::rustls::ClientConfig,
    protocols: &[&str],
) -> tokio_rustls::rustls::ClientConfig {
    if !protocols.is_empty() {
        config.alpn_protocols = protocols.iter().map(|&protocol| protocol.into()).collect();
    }
    config
}

pub(crate) fn io(error: &std::io::Error) -> Failure {
    // Of the process, and on Unix of the machine.
    const OUT_OF_FILES: &[i32] = if cfg!(windows) { &[10_024] } else { &[23, 24] };
    match error.raw_os_error() {
        Some(code) if OUT_OF_FILES.contains(&code) => Failure::OutOfFiles,
        _ => Failure::Io(error.kind()),
    }
}

/// The host, bare of brackets, and the port of `host:port`, `host`, or either of them in an `http` or `https` URL.
pub(crate) fn split(address: &str) -> Option<(&str, Option<u16>)> {
    let rest = address.strip_prefix("http://").or_else(|| address.strip_prefix("https://"));
    let rest = rest.map_or(address, |rest| rest.strip_suffix('/').unwrap_or(rest));
    if rest.parse::<IpAddr>().is_ok() {
        return Some((rest, None));
    }
    let (host, port) = match rest.strip_prefix('[') {
        Some(rest) => {
            let (host, port) = rest.split_once(']')?;
            (host, if port.is_empty() { None } else { Some(port.strip_prefix(':')?) })
        }
        None => rest.split_once(':').map_or((rest, None), |(host, port)| (host, Some(port))),
    };
    let port = port.map(|port| port.parse().ok().filter(|&port| port > 0).ok_or(()));
    let valid = !host.is_empty() && !host.contains(['/', '@', ' ']);
    valid.then_some((host, port.transpose().ok()?))
}

/// Gives a kind of probe that has a field `dial` the methods about connections.
macro_rules! dialing {
    ($kind:ty) => {
        impl crate::HealthCheck<$kind> {
            /// Probes this port, and not that of the endpoint's address.
            #[must_use]
            pub fn port(mut self, port: std::num::NonZeroU16) -> Self {
                self.probe.dial.port = Some(port.get());
                self
            }
        }
    };
    ($kind:ty, tls $(, $alpn:literal)?) => {
        crate::probe::dialing!($kind);

        #[cfg(feature = "probe-tls")]
        #[cfg_attr(docsrs, doc(cfg(feature = "probe-tls")))]
        impl crate::HealthCheck<$kind> {
            /// Probes over TLS, as `config` has it: its roots, its client certificate, its crypto provider. The
            /// application protocol (ALPN) is set as the probe needs it. Without it endpoints are asked in plain,
            /// whatever the scheme of their addresses.
            ///
            /// The certificate must be of the host of the endpoint's address, or of
            /// [`tls_server_name`](Self::tls_server_name).
            #[must_use]
            pub fn tls(mut self, config: tokio_rustls::rustls::ClientConfig) -> Self {
                let config = crate::probe::dial::speaking(config, &[$($alpn)?]);
                let name = self.probe.dial.tls.take().and_then(|tls| tls.name);
                self.probe.dial.tls = Some(crate::probe::dial::Tls { config: config.into(), name });
                self
            }

            /// The name that certificates must be of, whatever the endpoints' addresses: say so after
            /// [`tls`](Self::tls), without which it changes nothing.
            #[must_use]
            pub fn tls_server_name(
                mut self,
                name: tokio_rustls::rustls::pki_types::ServerName<'static>,
            ) -> Self {
                if let Some(tls) = &mut self.probe.dial.tls {
                    tls.name = Some(name);
                }
                self
            }
        }
    };
}
pub(crate) use dialing;

#[cfg(test)]
mod tests {
    use std::io;

    use super::{io, split};
    use crate::Failure;

    #[cfg(unix)]
    #[test]
    fn what_fails_for_want_of_files_is_no_fault_of_the_endpoint() {
        for code in [23, 24] {
            assert_eq!(io(&io::Error::from_raw_os_error(code)), Failure::OutOfFiles);
        }
        assert_eq!(
            io(&io::ErrorKind::ConnectionRefused.into()),
            Failure::Io(io::ErrorKind::ConnectionRefused)
        );
    }

    #[test]
    fn an_address_is_a_host_and_perhaps_a_port() {
        assert_eq!(split("10.0.0.1:80"), Some(("10.0.0.1", Some(80))));
        assert_eq!(split("10.0.0.1"), Some(("10.0.0.1", None)));
        assert_eq!(split("[::1]:80"), Some(("::1", Some(80))));
        assert_eq!(split("[::1]"), Some(("::1", None)));
        assert_eq!(split("::1"), Some(("::1", None)));
        assert_eq!(split("users.internal:9000"), Some(("users.internal", Some(9000))));
        assert_eq!(split("http://users.internal/"), Some(("users.internal", None)));
    }

    #[test]
    fn what_is_no_address_is_none() {
        for text in [
            "",
            ":80",
            "host:0",
            "host:port",
            "host:65536",
            "[::1",
            "[::1]80",
            "a:b:c",
            "a b",
            "http://a/b",
            "u@h:1",
        ] {
            assert_eq!(split(text), None, "{text}");
        }
    }
}
