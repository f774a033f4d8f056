//! TLS: the certificates of a port, and how an upstream is spoken to.

use std::path::PathBuf;

use buttress::proxy::{ClientTls, TlsError, server::ServerTls};
use serde::Deserialize;
use toml::Spanned;

use super::{
    Finding,
    files::{Files, Made},
};

/// A certificate, with those of its issuers behind it, and its key: two files of PEM.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
struct Pair {
    certificate: PathBuf,
    key: PathBuf,
}

/// The TLS of a port; see `gateway.toml` for what each key of the file means.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub(crate) struct PortTls {
    certificates: Vec<Spanned<Pair>>,
    client_roots: Option<Spanned<PathBuf>>,
    #[serde(default)]
    clients: Clients,
}

/// Whether a client has to show a certificate.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq)]
#[serde(rename_all = "snake_case")]
enum Clients {
    #[default]
    Require,
    Ask,
}

impl PortTls {
    pub(super) fn asks_clients(&self) -> bool {
        self.client_roots.is_some()
    }

    pub(super) fn load(&self, files: &mut Files) -> Result<ServerTls, Finding> {
        let mut tls = None::<ServerTls>;
        for pair in &self.certificates {
            let at = |message: String| (Some(pair.span()), message);
            let certificate = files.read(&pair.get_ref().certificate).map_err(at)?;
            let key = files.read(&pair.get_ref().key).map_err(at)?;
            let more = match tls {
                None => ServerTls::new(certificate, key),
                Some(tls) => tls.certificate(certificate, key),
            };
            tls = Some(more.map_err(|error| at(of(&pair.get_ref().certificate, &error)))?);
        }
        let tls = tls.ok_or_else(|| (None, "certificates has none: TLS needs one".to_owned()))?;
        let Some(roots) = &self.client_roots else { return Ok(tls) };
        let at = |message: String| (Some(roots.span()), message);
        let pem = files.read(roots.get_ref()).map_err(at)?;
        let tls = match self.clients {
            Clients::Require => tls.require_clients(pem),
            Clients::Ask => tls.ask_clients(pem),
        };
        tls.map_err(|error| at(of(roots.get_ref(), &error)))
    }
}

/// How an upstream is spoken to over TLS; see `gateway.toml` for what each key of the file means.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub(crate) struct UpstreamTls {
    roots: Option<Spanned<PathBuf>>,
    certificate: Option<Spanned<PathBuf>>,
    key: Option<Spanned<PathBuf>>,
    server_name: Option<Spanned<String>>,
}

impl UpstreamTls {
    pub(super) fn names_server(&self) -> bool {
        self.server_name.is_some()
    }

    pub(super) fn load(&self, files: &mut Files) -> Result<Made<ClientTls>, Finding> {
        let mut bytes = Vec::new();
        let mut tls = ClientTls::new();
        if let Some(roots) = &self.roots {
            let at = |message: String| (Some(roots.span()), message);
            let pem = files.read(roots.get_ref()).map_err(at)?;
            tls = tls.roots(&pem).map_err(|error| at(of(roots.get_ref(), &error)))?;
            bytes.push(pem);
        }
        match (&self.certificate, &self.key) {
            (Some(certificate), Some(key)) => {
                let at = |message: String| (Some(certificate.span()), message);
                let (chain, secret) = (
                    files.read(certificate.get_ref()).map_err(at)?,
                    files.read(key.get_ref()).map_err(|message| (Some(key.span()), message))?,
                );
                tls = tls.identity(&chain, &secret).map_err(|error| at(of(certificate.get_ref(), &error)))?;
                bytes.extend([chain, secret]);
            }
            (Some(alone), None) | (None, Some(alone)) => {
                let message = "a certificate and its key go together: write both, or none";
                return Err((Some(alone.span()), message.to_owned()));
            }
            (None, None) => {}
        }
        if let Some(name) = &self.server_name {
            tls = tls.server_name(name.get_ref()).map_err(|error| (Some(name.span()), error.to_string()))?;
        }
        Ok(Made::new(bytes, tls))
    }
}

fn of(file: &std::path::Path, error: &TlsError) -> String {
    format!("{}: {error}", file.display())
}
