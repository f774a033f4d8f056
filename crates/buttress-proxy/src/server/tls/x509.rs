//! What a certificate says, beyond what rustls asks it.

use buttress_core::Clock;
use std::time::UNIX_EPOCH;

use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::{TlsError, TlsErrorKind};

const FIELD: &str = "certificate";

/// The hosts that a certificate is for, in lower case; an error when its time is not now.
pub(super) fn hosts(der: &[u8], clock: &Clock) -> Result<Vec<String>, TlsError> {
    let certificate = parsed(der)?;
    let now = clock.wall().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs() as i64);
    let validity = certificate.validity();
    if now > validity.not_after.timestamp() {
        let detail = format!("has expired at {}", validity.not_after);
        return Err(TlsError::new(FIELD, TlsErrorKind::Expired, detail));
    }
    if now < validity.not_before.timestamp() {
        let detail = format!("is not valid before {}", validity.not_before);
        return Err(TlsError::new(FIELD, TlsErrorKind::NotYetValid, detail));
    }
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

fn parsed(der: &[u8]) -> Result<X509Certificate<'_>, TlsError> {
    let (_, certificate) = X509Certificate::from_der(der).map_err(|error| invalid(&error))?;
    Ok(certificate)
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
