//! What a certificate says, beyond what rustls asks it.

use buttress_core::Clock;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::X509Certificate;

use crate::tls::{parsed, valid};
use crate::{TlsError, TlsErrorKind};

const FIELD: &str = "certificate";

/// The hosts that a certificate is for, in lower case; an error when its time is not now.
pub(super) fn hosts(der: &[u8], clock: &Clock) -> Result<Vec<String>, TlsError> {
    let certificate = valid(der, clock)?;
    let mut hosts = Vec::new();
    each_name(&certificate, |name| {
        if let GeneralName::DNSName(host) = name {
            hosts.push(host.to_ascii_lowercase());
        }
    })?;
    Ok(hosts)
}

/// Whom a client's certificate names.
#[derive(Debug, Default)]
pub(super) struct Names {
    pub(super) subject: String,
    pub(super) dns: Vec<String>,
    pub(super) uris: Vec<String>,
    pub(super) emails: Vec<String>,
}

pub(super) fn names(der: &[u8]) -> Result<Names, TlsError> {
    let certificate = parsed(der)?;
    let mut names = Names { subject: certificate.subject().to_string(), ..Names::default() };
    each_name(&certificate, |name| match name {
        GeneralName::DNSName(host) => names.dns.push((*host).to_owned()),
        GeneralName::URI(uri) => names.uris.push((*uri).to_owned()),
        GeneralName::RFC822Name(email) => names.emails.push((*email).to_owned()),
        _ => {}
    })?;
    Ok(names)
}

fn each_name(
    certificate: &X509Certificate<'_>,
    mut see: impl FnMut(&GeneralName<'_>),
) -> Result<(), TlsError> {
    let names = certificate.subject_alternative_name().map_err(|error| invalid(&error))?;
    names.iter().flat_map(|names| &names.value.general_names).for_each(&mut see);
    Ok(())
}

fn invalid(error: &dyn std::error::Error) -> TlsError {
    TlsError::new(FIELD, TlsErrorKind::Invalid, format!("is no X.509: {error}"))
}
