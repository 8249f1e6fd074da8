//! What is wrong where a store cannot be opened, and what an error of Redis means.

use redis::{ErrorKind, RedisError, ServerErrorKind};

use super::{Link, Place, nodes::Host};
use crate::{
    encoding::keys::{FORMAT, Keys},
    link::settings::SettingsError,
};

/// Why a store on Redis could not be opened. Nothing was touched.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    #[error("cannot reach Redis at {address}: {why}")]
    Unreachable { address: String, why: String },
    #[error("Redis at {address} does not let us in: {why}: {cure}")]
    Denied { address: String, why: String, cure: &'static str },
    #[error("this address of Redis cannot be right: {address}: {why}")]
    Address { address: String, why: String },
    #[error(
        "this address of Redis cannot be right: {host}: what answers there does not speak as a \
         Redis does"
    )]
    NotRedis { host: String },
    #[error(transparent)]
    Settings(#[from] SettingsError),
    #[error(
        "the keys under {} are another application's ({key}): use another --fleet",
        bare(prefix)
    )]
    Foreign { prefix: String, key: String },
    #[error("the store under {} is fleet {found:?}, not {wanted:?}: check --fleet", bare(prefix))]
    OtherFleet { prefix: String, found: String, wanted: String },
    #[error("the store was written by a newer version (format {format}): use that version")]
    Newer { format: String },
    #[error(
        "the store is of format {format}, an older version's, and this version's is {FORMAT}: a \
         server of this version takes it over"
    )]
    Older { format: String },
    #[error("an import fills this store, or broke off: run `pointsman import` into it anew")]
    Importing,
    #[error("there is no store under {}: check the address and --fleet", bare(prefix))]
    Missing { prefix: String },
    #[error(
        "Redis lacks the functions of this version ({library}), and the user in the address may not \
         load them: start a server of this version, which loads them, or this worker in the servers' \
         version; `FUNCTION DUMP` at the node where the fleet was and `FUNCTION RESTORE` with \
         `REPLACE` at this one copy them"
    )]
    NotLoaded { library: String },
    #[error("{prefix}meta is gone, and without it nothing of the store can be read: {cure}")]
    Lost { prefix: String, cure: String },
    #[error("{key} {field} is {found:?}, {wanted}: {cure}")]
    Garbled { key: String, field: &'static str, found: String, wanted: &'static str, cure: String },
    #[error("Redis answered {0}, which is not understood")]
    Odd(String),
    #[error("the store is closed")]
    Closed,
}

impl OpenError {
    /// What makes up for a lost `meta`.
    pub(crate) const CURE_OF_LOST: &str = "restore the store from a backup, or make the key anew as \
                                           docs/operating.md says under Repairs";

    /// Whether waiting may mend it: Redis cannot be reached, or Sentinels have not seen a fail-over.
    pub fn may_pass(&self) -> bool {
        match self {
            Self::Unreachable { .. } => true,
            Self::Settings(SettingsError::NotPrimary { named_by, .. }) => named_by.is_some(),
            _ => false,
        }
    }

    /// Whether another Sentinel, or node of the cluster, may lead to one that is well.
    pub(super) fn is_of_one_node(&self) -> bool {
        match self {
            Self::Unreachable { .. } | Self::Denied { .. } | Self::NotRedis { .. } => true,
            Self::Settings(settings) => matches!(settings, SettingsError::NotPrimary { .. }),
            _ => false,
        }
    }
}

/// A fleet without its `meta`.
pub fn lost_meta(prefix: &str) -> OpenError {
    let cure = OpenError::CURE_OF_LOST.to_owned();
    OpenError::Lost { prefix: prefix.to_owned(), cure }
}

impl Link {
    /// Whether no connection is made because `meta` is gone.
    pub async fn lacks_meta(&self) -> bool {
        matches!(self.connect().await, Err(OpenError::Lost { .. }))
    }
}

pub(super) fn garbled_seq(keys: &Keys, found: Option<String>) -> OpenError {
    let found = found.unwrap_or_default();
    let (key, log) = (keys.meta(), keys.full("log"));
    let cure = format!(
        "set it to the number before the dash of the log's last entry (`XREVRANGE {log} + - COUNT \
         1`): `HSET {key} seq NUMBER`"
    );
    OpenError::Garbled { key, field: "seq", found, wanted: "which is no whole number", cure }
}

/// A newer version's store, unless what stands there is no format at all.
pub fn other_format(keys: &Keys, found: String) -> OpenError {
    if found.parse::<u64>().is_ok() {
        return OpenError::Newer { format: found };
    }
    let key = keys.meta();
    let cure = format!("`HSET {key} format {FORMAT}`, unless a newer version wrote the store");
    OpenError::Garbled { key, field: "format", found, wanted: "which is no whole number", cure }
}

pub(super) fn garbled_epoch(keys: &Keys, found: String) -> OpenError {
    let key = keys.meta();
    let cure = format!("`HSET {key} replid unknown`, and start again: then a new one begins");
    OpenError::Garbled { key, field: "epoch", found, wanted: "which is no epoch", cure }
}

pub(super) fn other_fleet(keys: &Keys, place: &Place, found: String) -> OpenError {
    let prefix = keys.prefix().to_owned();
    OpenError::OtherFleet { prefix, found, wanted: place.fleet.clone() }
}

pub(super) fn denied(address: String, why: String) -> OpenError {
    let cure = "give the user the rights of deploy/users.acl, with this fleet's prefix";
    OpenError::Denied { address, why, cure }
}

/// The address, with the one that answered in front of it where it names several, or where that one
/// is none of those that it names.
pub(super) fn named(place: &Place, host: &Host) -> String {
    let address = &place.address;
    match &address.hosts[..] {
        [only] if only == host => address.to_string(),
        _ => format!("{}:{}, of {address}", host.0, host.1),
    }
}

pub(super) fn failure(place: &Place, host: &Host, error: &RedisError) -> OpenError {
    let (address, why) = (named(place, host), error.to_string());
    if is_not_allowed(error) {
        return denied(address, why);
    }
    if ["NOAUTH", "WRONGPASS"].iter().any(|code| why.contains(code))
        || error.kind() == ErrorKind::AuthenticationFailed
    {
        return OpenError::Denied { address, why, cure: "check user and password" };
    }
    // Alerts of TLS, RFC 8446 section 6.2.
    if why.contains("CertificateRequired") {
        let cure = "it asks for a certificate: name one in the address, ?cert=FILE&key=FILE";
        return OpenError::Denied { address, why, cure };
    }
    if ["UnknownCA", "BadCertificate", "CertificateExpired"].iter().any(|a| why.contains(a)) {
        let cure = "let cert= name a certificate that holds, of an authority that Redis trusts";
        return OpenError::Denied { address, why, cure };
    }
    // A web server, say: what it answers is shown by nothing that may take several lines.
    if error.kind() == ErrorKind::Parse {
        let (host, port) = host;
        return OpenError::NotRedis { host: format!("{host}:{port}") };
    }
    match why.contains("DB index is out of range") {
        true => OpenError::Address { address, why },
        false => OpenError::Unreachable { address, why },
    }
}

/// A right is missing.
pub(super) fn is_not_allowed(error: &RedisError) -> bool {
    error.kind() == ErrorKind::Server(ServerErrorKind::NoPerm)
}

/// What an error says of the connection.
pub enum Means {
    /// It is gone, and whether the call was carried out is not known.
    Broken,
    /// The primary is elsewhere, or not there yet; the call was not carried out.
    ElseWhere,
    /// The connection is well; the call was refused.
    Refused,
}

/// A prefix without what parts it from a key.
fn bare(prefix: &str) -> &str {
    prefix.trim_end_matches(':')
}

/// Our functions are not there: a Redis that was emptied, or another one.
pub(super) fn is_not_loaded(error: &RedisError) -> bool {
    error.to_string().contains("Function not found")
}

pub fn means(error: &RedisError) -> Means {
    let moved = matches!(
        error.kind(),
        ErrorKind::Server(
            ServerErrorKind::ReadOnly
                | ServerErrorKind::Moved
                | ServerErrorKind::Ask
                | ServerErrorKind::BusyLoading
                | ServerErrorKind::MasterDown
                | ServerErrorKind::ClusterDown
                | ServerErrorKind::TryAgain
        )
    );
    if moved || is_not_loaded(error) {
        return Means::ElseWhere;
    }
    if error.is_io_error()
        || error.is_timeout()
        || error.is_connection_dropped()
        || error.is_unrecoverable_error()
    {
        return Means::Broken;
    }
    Means::Refused
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_is_named_without_what_parts_it_from_a_key() {
        let prefix = || "{pointsman:b}:".to_owned();
        let said = OpenError::Missing { prefix: prefix() }.to_string();
        assert!(said.starts_with("there is no store under {pointsman:b}: check"), "{said}");
        let said = OpenError::Foreign { prefix: prefix(), key: "k".into() }.to_string();
        assert!(said.starts_with("the keys under {pointsman:b} are"), "{said}");
        let (found, wanted) = ("a".into(), "b".into());
        let said = OpenError::OtherFleet { prefix: prefix(), found, wanted }.to_string();
        assert!(said.starts_with("the store under {pointsman:b} is"), "{said}");
    }
}
