//! TLS to Redis.

use std::path::Path;

use redis::{Client, ClientTlsConfig, ConnectionInfo, ErrorKind, RedisError, TlsCertificates};

use crate::link::address::{Address, ClientFiles};

/// A client; over TLS it trusts the system's authorities, or those of the file that the address
/// names, and shows the certificate that the address names.
pub fn client(info: ConnectionInfo, address: &Address) -> Result<Client, RedisError> {
    if !address.tls {
        return Client::open(info);
    }
    let root_cert = address.ca.as_deref().map(|file| read("ca", file)).transpose()?;
    let client_tls = match &address.client {
        Some(ClientFiles { cert, key }) => Some(ClientTlsConfig {
            client_cert: read("cert", cert)?,
            client_key: read("key", key)?,
        }),
        None => None,
    };
    Client::build_with_tls(info, TlsCertificates { client_tls, root_cert })
}

fn read(name: &str, file: &Path) -> Result<Vec<u8>, RedisError> {
    std::fs::read(file).map_err(|error| {
        let why = format!("of {name}=: {}: {error}", file.display());
        RedisError::from((ErrorKind::InvalidClientConfig, "a file cannot be read", why))
    })
}

// The one provider that is built in is the one that rustls takes.
use rustls as _;
