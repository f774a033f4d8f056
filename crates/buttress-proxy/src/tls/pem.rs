use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

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
