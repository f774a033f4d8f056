use rustls::crypto::ring;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;

use super::{TlsError, TlsErrorKind};

/// All certificates in `text`, which holds at least one.
pub(crate) fn certificates(
    field: &'static str,
    text: &[u8],
) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let certificates = CertificateDer::pem_slice_iter(text)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| unreadable(field, &error))?;
    if certificates.is_empty() {
        return Err(TlsError::new(field, TlsErrorKind::Missing, "must hold a `BEGIN CERTIFICATE` section"));
    }
    Ok(certificates)
}

/// The first private key in `text`.
pub(crate) fn private_key(text: &[u8]) -> Result<PrivateKeyDer<'static>, TlsError> {
    const FIELD: &str = "private key";
    PrivateKeyDer::from_pem_slice(text).map_err(|error| match error {
        pem::Error::NoItemsFound => {
            TlsError::new(FIELD, TlsErrorKind::Missing, "must hold a `BEGIN PRIVATE KEY` section")
        }
        error => unreadable(FIELD, &error),
    })
}

/// A certificate, whose issuers follow it, and its key.
pub(crate) fn certified_key(chain: &[u8], key: &[u8]) -> Result<CertifiedKey, TlsError> {
    let chain = certificates("certificate", chain)?;
    let key = private_key(key)?;
    CertifiedKey::from_der(chain, key, &ring::default_provider()).map_err(|error| match error {
        rustls::Error::InconsistentKeys(_) => {
            TlsError::new("private key", TlsErrorKind::KeyMismatch, "must be the key of the certificate")
        }
        rustls::Error::InvalidCertificate(_) => {
            TlsError::new("certificate", TlsErrorKind::Invalid, error.to_string())
        }
        error => TlsError::new("private key", TlsErrorKind::Invalid, error.to_string()),
    })
}

/// What the library says may repeat a line of what it read, and so a part of a key.
fn unreadable(field: &'static str, error: &pem::Error) -> TlsError {
    let detail = match error {
        pem::Error::MissingSectionEnd { .. } => "is no PEM: a section has no end",
        pem::Error::IllegalSectionStart { .. } => "is no PEM: a section has no valid begin",
        pem::Error::Base64Decode(_) => "is no PEM: a section is not base64",
        pem::Error::SectionTooLarge => "is no PEM: a section is too large",
        _ => "is no PEM",
    };
    TlsError::new(field, TlsErrorKind::Unreadable, detail)
}
