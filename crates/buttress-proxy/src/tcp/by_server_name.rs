use std::collections::HashMap;
use std::sync::Arc;
use std::task::{Context, Poll};

use buttress_core::{OnCall, OnCallFuture};
use tower_service::Service;

use super::Connection;

/// Routes connections by the server name that their TLS clients ask for.
///
/// TLS goes through untouched: the upstream has the certificate, and nothing is decrypted. The server must
/// [read the ClientHello](super::Server::read_client_hello).
///
/// | a connection to | goes to |
/// |---|---|
/// | `shop.example`, which was given | its service |
/// | `a.shop.example` or `a.b.shop.example`, where `*.shop.example` was given | that of the longest such suffix |
/// | any other name, or none | the default, given first |
///
/// A clone shares the table. Each service is a clone of the one that was given, readied when it is called.
///
/// ```
/// use buttress_proxy::tcp::{ByServerName, Connect};
///
/// let routes = ByServerName::otherwise(Connect::to("10.0.0.1:443")?)
///     .route("shop.example", Connect::to("10.0.0.2:443")?)?
///     .route("*.shop.example", Connect::to("10.0.0.3:443")?)?;
/// # let _ = routes;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct ByServerName<S> {
    table: Arc<Table<S>>,
}

#[derive(Clone, Debug)]
struct Table<S> {
    exact: HashMap<Box<str>, S>,
    /// Without the `*.`.
    suffix: HashMap<Box<str>, S>,
    otherwise: S,
}

impl<S: Clone> ByServerName<S> {
    /// Sends every connection to `service` that no route takes, those without a server name included.
    #[must_use]
    pub fn otherwise(service: S) -> Self {
        let table = Table { exact: HashMap::new(), suffix: HashMap::new(), otherwise: service };
        Self { table: Arc::new(table) }
    }

    /// Sends connections to `name` to `service`: a host name, or `*.` and a host name for all that end in it.
    ///
    /// # Errors
    ///
    /// When `name` is neither, or was given before.
    pub fn route(mut self, name: &str, service: S) -> Result<Self, NameError> {
        let wrong = |rule| NameError { name: name.to_owned(), rule };
        let host = name.strip_prefix("*.").unwrap_or(name);
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
        let labels = !host.split('.').any(str::is_empty);
        if !(labels && host.len() <= 253 && host.bytes().all(plain)) {
            return Err(wrong("must be a host name, or `*.` and a host name"));
        }
        let table = Arc::make_mut(&mut self.table);
        let routes = if host.len() < name.len() { &mut table.suffix } else { &mut table.exact };
        if routes.insert(host.to_ascii_lowercase().into(), service).is_some() {
            return Err(wrong("was given before"));
        }
        Ok(self)
    }
}

impl<S> Table<S> {
    fn find(&self, name: Option<&str>) -> &S {
        let Some(name) = name else { return &self.otherwise };
        // A name may end in the dot of the root.
        let name = name.strip_suffix('.').unwrap_or(name);
        let suffixes = || name.match_indices('.').map(|(dot, _)| &name[dot + 1..]);
        self.exact
            .get(name)
            .or_else(|| suffixes().find_map(|suffix| self.suffix.get(suffix)))
            .unwrap_or(&self.otherwise)
    }
}

impl<S> Service<Connection> for ByServerName<S>
where
    S: Service<Connection> + Clone,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = OnCallFuture<S, Connection>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, connection: Connection) -> Self::Future {
        let service = self.table.find(connection.server_name()).clone();
        OnCall::new(service).call(connection)
    }
}

/// A name that no route can have.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("server name `{name}`: {rule}")]
pub struct NameError {
    name: String,
    rule: &'static str,
}

impl NameError {
    /// The name as it was given.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What a name must be, in words.
    #[must_use]
    pub const fn rule(&self) -> &'static str {
        self.rule
    }
}
