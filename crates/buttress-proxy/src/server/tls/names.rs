use std::collections::HashMap;
use std::sync::Arc;

use rustls::SignatureScheme;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

/// The certificates by the host that a client asks for: exactly that one, else one of `*.` and what follows the first
/// label, else the first of all.
#[derive(Clone, Debug, Default)]
pub(super) struct Certificates {
    by_host: HashMap<String, Vec<Arc<CertifiedKey>>>,
    first: Vec<Arc<CertifiedKey>>,
}

impl Certificates {
    /// Several for one host are chosen from by the kinds of keys that the client takes; of one kind the first.
    pub(super) fn add(&mut self, certificate: &Arc<CertifiedKey>, hosts: Vec<String>) {
        if self.first.is_empty() {
            self.first.push(Arc::clone(certificate));
        }
        for host in hosts {
            self.by_host.entry(host).or_default().push(Arc::clone(certificate));
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.first.is_empty()
    }

    fn choose(&self, host: Option<&str>, schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        let host = host.unwrap_or_default();
        let exact = self.by_host.get(host);
        let any = || {
            let (_, parent) = host.split_once('.')?;
            self.by_host.get(&format!("*.{parent}"))
        };
        let certificates = exact.or_else(any).unwrap_or(&self.first);
        let fits = |certificate: &&Arc<CertifiedKey>| certificate.key.choose_scheme(schemes).is_some();
        certificates.iter().find(fits).or_else(|| certificates.first()).cloned()
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        // rustls hands host names over in lower case.
        self.choose(hello.server_name(), hello.signature_schemes())
    }
}
