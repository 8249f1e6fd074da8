//! Who this machine is: its id, kept in the data directory from the first start on.

use std::{fs, io::ErrorKind, path::Path};

use anyhow::{Context as _, anyhow};
use pointsman_core::MachineId;

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
    let name = rustix::system::uname();
    let name = name.nodename().to_string_lossy().to_lowercase();
    let fits = |c: char| if c.is_ascii_alphanumeric() || ".-_".contains(c) { c } else { '-' };
    let name: String = name.chars().map(fits).take(64).collect();
    MachineId::new(name.trim_start_matches(['.', '-', '_']))
        .map_err(|error| anyhow!("the host's name is no machine id ({error}): give --machine"))
}
