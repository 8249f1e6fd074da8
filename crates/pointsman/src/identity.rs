//! Who this machine is, and which store it works for: ids kept in the data directory from the first
//! start on, or what stays the same of a store elsewhere.

use std::{
    fs,
    io::ErrorKind,
    net::{IpAddr, SocketAddr},
    path::Path,
};

use anyhow::{Context as _, anyhow};
use pointsman_core::{MachineId, Timestamp};
use uuid::Uuid;

/// The machine's id: the one given, else the one kept in `data`, else the host's name; kept from
/// then on.
pub fn machine_id(data: &Path, given: Option<MachineId>) -> anyhow::Result<MachineId> {
    let file = data.join("machine-id");
    let kept = match fs::read_to_string(&file) {
        Ok(text) => Some(
            MachineId::new(text.trim())
                .with_context(|| format!("{} is damaged: write the id into it", file.display()))?,
        ),
        Err(error) if error.kind() == ErrorKind::NotFound => None,
        Err(error) => return Err(error).with_context(|| format!("cannot read {}", file.display())),
    };
    let id = match (given, &kept) {
        (Some(given), _) => given,
        (None, Some(kept)) => kept.clone(),
        (None, None) => host_name()?,
    };
    if kept.as_ref() != Some(&id) {
        fs::write(&file, format!("{id}\n"))
            .with_context(|| format!("cannot write {}", file.display()))?;
    }
    Ok(id)
}

/// The host's name as a machine id.
pub fn host_name() -> anyhow::Result<MachineId> {
    let name = node_name();
    let fits = |c: char| if c.is_ascii_alphanumeric() || ".-_".contains(c) { c } else { '-' };
    let name: String = name.chars().map(fits).take(64).collect();
    MachineId::new(name.trim_start_matches(['.', '-', '_']))
        .map_err(|error| anyhow!("the host's name is no machine id ({error}): give --machine"))
}

/// What this host calls itself.
pub fn node_name() -> String {
    rustix::system::uname().nodename().to_string_lossy().to_lowercase()
}

/// What tells the store that lies in `data` from others; drawn and kept at the first start.
pub fn own_store(data: &Path) -> anyhow::Result<String> {
    let file = data.join("store-id");
    match fs::read_to_string(&file) {
        Ok(text) => {
            let id = Uuid::try_parse(text.trim());
            Ok(id.with_context(|| format!("{} is damaged: delete it", file.display()))?.to_string())
        }
        Err(error) if error.kind() == ErrorKind::NotFound => {
            let (id, new) = (Uuid::new_v4(), data.join("store-id.new"));
            fs::write(&new, format!("{id}\n"))
                .and_then(|()| fs::rename(&new, &file))
                .with_context(|| format!("cannot write {}", file.display()))?;
            Ok(id.to_string())
        }
        Err(error) => Err(error).with_context(|| format!("cannot read {}", file.display())),
    }
}

/// What tells a fleet on a Redis from others, on this one and on others.
pub fn shared_store(fleet: &str, made_at: Timestamp) -> String {
    format!("{fleet}.{}", made_at.as_millis())
}

/// What tells the store behind these servers from others, as far as a worker knows before it is
/// answered: their addresses, in whatever order, without what is secret in them. An address of
/// `this_host` alone is another's on another host.
pub fn served_store(servers: &str, this_host: &str) -> String {
    let address = |server: &str| {
        let server = server.trim().trim_end_matches('/');
        let (_, at) = server.split_once("://").unwrap_or(("", server));
        let (host, path) = at.split_once('/').unwrap_or((at, ""));
        let host = host.rsplit_once('@').map_or(host, |(_, host)| host).to_lowercase();
        let host = if is_loopback(&host) { format!("{this_host}/{host}") } else { host };
        if path.is_empty() { host } else { format!("{host}/{path}") }
    };
    let mut addresses: Vec<_> = servers.split(',').map(address).collect();
    addresses.sort();
    addresses.dedup();
    addresses.join(",")
}

/// `HOST` or `HOST:PORT` of this machine alone.
fn is_loopback(host: &str) -> bool {
    let ip = host.parse::<SocketAddr>().map(|address| address.ip()).or_else(|_| host.parse());
    let name = host.split_once(':').map_or(host, |(name, _)| name);
    name == "localhost" || ip.is_ok_and(|ip: IpAddr| ip.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_store_in_a_directory_is_the_same_after_a_restart_and_unlike_any_other() {
        let [a, b] = [(); 2].map(|()| tempfile::tempdir().unwrap());
        let first = own_store(a.path()).unwrap();
        assert_eq!(own_store(a.path()).unwrap(), first);
        assert_ne!(own_store(b.path()).unwrap(), first);
        fs::write(a.path().join("store-id"), "").unwrap();
        let why = own_store(a.path()).unwrap_err().to_string();
        assert!(why.contains("store-id is damaged: delete it"), "{why}");
    }

    #[test]
    fn a_served_store_is_named_by_its_servers_and_by_no_secret() {
        let name = served_store("http://user:secret@A.example:7780/, http://b.example/x", "h");
        assert_eq!(name, "a.example:7780,b.example/x");
        assert_eq!(served_store("http://b.example/x,http://a.example:7780", "other"), name);
        let of = |server| served_store(server, "h");
        assert_ne!(of("http://a.example:7781"), of("http://a.example:7780"));
    }

    #[test]
    fn a_server_at_loopback_is_another_one_on_each_host() {
        for server in [
            "http://127.0.0.1:7780",
            "http://localhost:7780",
            "http://[::1]:7780",
            "http://localhost",
        ] {
            assert_ne!(served_store(server, "a"), served_store(server, "b"), "{server}");
        }
        assert_eq!(served_store("http://127.0.0.1:7780", "a"), "a/127.0.0.1:7780");
    }
}
