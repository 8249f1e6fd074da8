//! A certificate authority, and certificates for one server and its clients.

use std::path::{Path, PathBuf};

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};

use crate::HarnessError;

pub fn ca(directory: &Path) -> PathBuf {
    directory.join("ca.crt")
}

pub fn certificate(directory: &Path) -> PathBuf {
    directory.join("redis.crt")
}

pub fn key(directory: &Path) -> PathBuf {
    directory.join("redis.key")
}

pub fn client_certificate(directory: &Path) -> PathBuf {
    directory.join("client.crt")
}

pub fn client_key(directory: &Path) -> PathBuf {
    directory.join("client.key")
}

/// The files of another server: its certificate holds for this one too.
pub fn copy(from: &Path, to: &Path) -> Result<(), HarnessError> {
    for file in [ca, certificate, key, client_certificate, client_key] {
        std::fs::copy(file(from), file(to))?;
    }
    Ok(())
}

/// Writes the files; the server's certificate holds for `127.0.0.1` and `localhost`.
pub fn make(directory: &Path) -> Result<(), HarnessError> {
    let mut authority = CertificateParams::new(Vec::new())?;
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    authority.distinguished_name.push(DnType::CommonName, "CA of a test's redis-server");
    let authority_key = KeyPair::generate()?;
    let authority_certificate = authority.self_signed(&authority_key)?;
    let issuer = Issuer::new(authority, authority_key);
    let server_key = KeyPair::generate()?;
    let names = vec!["127.0.0.1".to_owned(), "localhost".to_owned()];
    let server = CertificateParams::new(names)?.signed_by(&server_key, &issuer)?;
    std::fs::write(ca(directory), authority_certificate.pem())?;
    std::fs::write(certificate(directory), server.pem())?;
    std::fs::write(key(directory), server_key.serialize_pem())?;
    let client = KeyPair::generate()?;
    let certificate = CertificateParams::new(Vec::new())?.signed_by(&client, &issuer)?;
    std::fs::write(client_certificate(directory), certificate.pem())?;
    std::fs::write(client_key(directory), client.serialize_pem())?;
    Ok(())
}
