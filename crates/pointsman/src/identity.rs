//! Who this machine is, and which store it works for: ids kept in the data directory from the first
//! start on, or what stays the same of a store elsewhere.

use std::{
    fmt::Display,
    fs,
    io::{ErrorKind, Write as _},
    path::Path,
    sync::Arc,
};

use anyhow::{Context as _, anyhow};
use pointsman_core::{MachineId, Timestamp};
use uuid::Uuid;

/// The machine's id: the one given, else the one kept in `data`, else the host's name; kept from
/// then on.
pub fn machine_id(data: &Path, given: Option<MachineId>) -> anyhow::Result<MachineId> {
    let file = data.join("machine-id");
    let kept = match kept(&file)? {
        Some(text) => Some(
            MachineId::new(text.trim())
                .with_context(|| format!("{} is damaged: write the id into it", file.display()))?,
        ),
        None => None,
    };
    let id = match (given, &kept) {
        (Some(given), _) => given,
        (None, Some(kept)) => kept.clone(),
        (None, None) => host_name()?,
    };
    if kept.as_ref() != Some(&id) {
        keep(&file, &id)?;
    }
    Ok(id)
}

/// The host's name as a machine id.
pub fn host_name() -> anyhow::Result<MachineId> {
    let name = rustix::system::uname().nodename().to_string_lossy().to_lowercase();
    let fits = |c: char| if c.is_ascii_alphanumeric() || ".-_".contains(c) { c } else { '-' };
    let name: String = name.chars().map(fits).take(64).collect();
    MachineId::new(name.trim_start_matches(['.', '-', '_']))
        .map_err(|error| anyhow!("the host's name is no machine id ({error}): give --machine"))
}

/// What tells a worker's store from all others, as far as is known at that moment.
pub type StoreId = Arc<dyn Fn() -> String + Send + Sync>;

/// What tells the store that lies in `data` from others; drawn and kept at the first start.
pub fn own_store(data: &Path) -> anyhow::Result<String> {
    let file = data.join("store-id");
    let Some(text) = kept(&file)? else {
        let id = Uuid::new_v4();
        keep(&file, id)?;
        return Ok(id.to_string());
    };
    let id = Uuid::try_parse(text.trim());
    Ok(id.with_context(|| format!("{} is damaged: delete it", file.display()))?.to_string())
}

/// What is in a file, if there is one.
fn kept(file: &Path) -> anyhow::Result<Option<String>> {
    match fs::read_to_string(file) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| format!("cannot read {}", file.display())),
    }
}

/// Writes a file in one step: one that a crash left half written would be taken for damaged.
fn keep(file: &Path, id: impl Display) -> anyhow::Result<()> {
    let new = file.with_extension("new");
    let write = || {
        let mut writing = fs::File::create(&new)?;
        writeln!(writing, "{id}")?;
        writing.sync_all()?;
        fs::rename(&new, file)?;
        // Its name is on the disk with it.
        fs::File::open(file)?.sync_all()
    };
    write().with_context(|| format!("cannot write {}", file.display()))
}

/// What tells a fleet on a Redis from others, on this one and on others.
pub fn shared_store(fleet: &str, made_at: Option<Timestamp>) -> anyhow::Result<String> {
    let made_at = made_at.context("the store does not say when it was made")?;
    Ok(format!("{fleet}.{}", made_at.as_millis()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_keeps_the_id_that_it_was_given_last() {
        let data = tempfile::tempdir().unwrap();
        let id = |given: Option<&str>| {
            let given = given.map(|id| id.parse().unwrap());
            machine_id(data.path(), given).map(|id| id.to_string())
        };
        for given in ["a", "b"] {
            assert_eq!(id(Some(given)).unwrap(), given);
            assert_eq!(id(None).unwrap(), given);
        }
        assert_eq!(fs::read_dir(data.path()).unwrap().count(), 1, "what it was written as is gone");
        fs::write(data.path().join("machine-id"), "").unwrap();
        let why = id(None).unwrap_err().to_string();
        assert!(why.contains("machine-id is damaged: write the id into it"), "{why}");
    }

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
}
