//! Where each file lies.

use object_store::path::{Path, PathPart};
use pointsman_api::Sha256Hex;
use pointsman_core::{JobId, Token};
use sha2::{Digest as _, Sha256};

/// Files that are not whole yet.
pub const STAGING: &str = "staging";
pub const ARTIFACTS: &str = "artifacts";
pub const INPUTS: &str = "inputs";

/// Whether a file is one that `object_store` still writes, beside the place where it will be: it
/// adds `#` and a number to the name, which an escaped name has not.
pub fn is_unfinished(name: &str) -> bool {
    name.contains('#')
}

/// Bytes of an escaped name that a file system takes at most.
const MAX_ESCAPED: usize = 240;

pub fn input(sha256: &Sha256Hex) -> Path {
    let hex = sha256.as_str();
    let shard = hex.get(..2).unwrap_or(hex);
    [INPUTS, shard, hex].into_iter().collect()
}

/// All files of a job's attempts.
pub fn job(job: JobId) -> Path {
    [ARTIFACTS, &job.to_string()].into_iter().collect()
}

/// The name is checked before; here it is only escaped. One that becomes too long by that is
/// replaced by its hash.
pub fn artifact(job: JobId, token: Token, name: &str) -> Path {
    let (job, token) = (job.to_string(), token.to_string());
    let part = PathPart::from(name);
    let long = part.as_ref().len() > MAX_ESCAPED;
    let name = if long {
        format!("long-{}", Sha256Hex::of(Sha256::digest(name).into())).into()
    } else {
        part.as_ref().to_owned().into_boxed_str()
    };
    let whole = format!("{ARTIFACTS}/{job}/{token}/{name}");
    // Every part is escaped already, so this is the path as it stands.
    Path::parse(&whole).unwrap_or_else(|_| Path::from(whole))
}

pub fn staged() -> Path {
    [STAGING, &uuid::Uuid::new_v4().to_string()].into_iter().collect()
}
