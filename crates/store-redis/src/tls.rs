//! TLS to Redis.

use redis::{Client, ConnectionInfo, ErrorKind, RedisError, TlsCertificates};

use crate::address::Address;

/// A client; over TLS it trusts the system's authorities, or those of the file that the address
/// names.
pub fn client(info: ConnectionInfo, address: &Address) -> Result<Client, RedisError> {
    if !address.tls {
        return Client::open(info);
    }
    let root_cert = match &address.ca {
        Some(file) => {
            let read = std::fs::read(file);
            Some(read.map_err(|error| {
                let why = format!("{}: {error}", file.display());
                RedisError::from((
                    ErrorKind::InvalidClientConfig,
                    "the file of ca= cannot be read",
                    why,
                ))
            })?)
        }
        None => None,
    };
    Client::build_with_tls(info, TlsCertificates { client_tls: None, root_cert })
}

// The one provider that is built in is the one that rustls takes.
use rustls as _;
