//! The tokens of a data directory, in `tokens.json`.

use std::{
    fs::{DirBuilder, File, OpenOptions, Permissions},
    io::{self, Write as _},
    os::unix::fs::{
        DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _, fchown,
    },
    path::{Path, PathBuf},
};

use pointsman_api::Sha256Hex;
use pointsman_core::CustomerId;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

use super::Role;

const FILE: &str = "tokens.json";
/// Held by who changes the tokens.
const LOCK: &str = "tokens.lock";
/// So that a token is recognized where it does not belong.
const PREFIX: &str = "pm_";

/// What is kept of a token: not the token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenRecord {
    pub name: String,
    pub role: Role,
    /// Sees only this customer's jobs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub customer: Option<CustomerId>,
    /// A `view` token that may see payloads, results and pictures.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub payloads: bool,
    /// Lowercase hex.
    pub sha256: String,
}

/// A token to be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewToken {
    pub name: String,
    pub role: Role,
    pub customer: Option<CustomerId>,
    pub payloads: bool,
}

/// Why the tokens could not be read or changed.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    #[error("a token named {0:?} exists: revoke it first, or use another name")]
    Exists(String),
    #[error("token name {0:?} is not valid: use 1 to 100 bytes without control characters")]
    Name(String),
    #[error(
        "a worker's token cannot be of one customer: a worker reads the payloads of every job that \
         it is given. Leave the customer out, and let workers say whose jobs they take: \
         `pointsman worker --customers ID`"
    )]
    CustomersWorker,
    #[error("{path} cannot be read: {why}")]
    Unreadable { path: PathBuf, why: String },
    #[error("{path} is gone")]
    Gone { path: PathBuf },
    /// The server would not be able to read what this process writes.
    #[error(
        "{path} belongs to the user {owner}, and this process may not write a file in that user's \
         name; nothing is changed. Run it as that user: sudo -u '#{owner}' …"
    )]
    Others { path: PathBuf, owner: u32 },
    #[error("{path} cannot be written")]
    Unwritable { path: PathBuf, source: io::Error },
}

/// Makes a token and keeps its SHA-256. The token itself is nowhere else: show it once.
pub fn add_token(data: &Path, new: NewToken) -> Result<String, TokenError> {
    let fine = (1..=100).contains(&new.name.len()) && !new.name.chars().any(char::is_control);
    if !fine {
        return Err(TokenError::Name(new.name));
    }
    if new.role == Role::Worker && new.customer.is_some() {
        return Err(TokenError::CustomersWorker);
    }
    let path = path(data);
    make_data_directory(data).map_err(|source| TokenError::Unwritable { path, source })?;
    let _changing = lock(data)?;
    let mut tokens = list_tokens(data)?;
    if tokens.iter().any(|token| token.name == new.name) {
        return Err(TokenError::Exists(new.name));
    }
    // 244 random bits.
    let secret = format!("{PREFIX}{}{}", Uuid::new_v4().simple(), Uuid::new_v4().simple());
    let NewToken { name, role, customer, payloads } = new;
    let sha256 = Sha256Hex::of(digest(&secret)).to_string();
    tokens.push(TokenRecord { name, role, customer, payloads, sha256 });
    write(data, &tokens)?;
    Ok(secret)
}

/// Makes a data directory where there is none, for its owner alone: payloads lie in it, too.
///
/// # Errors
/// When it cannot be made.
pub fn make_data_directory(data: &Path) -> io::Result<()> {
    let mut dir = DirBuilder::new();
    dir.mode(0o700);
    dir.recursive(true).create(data)
}

/// All tokens, in the order in which they were made.
pub fn list_tokens(data: &Path) -> Result<Vec<TokenRecord>, TokenError> {
    let path = path(data);
    let unreadable = |why: String| TokenError::Unreadable { path: path.clone(), why };
    let json = match std::fs::read(&path) {
        Ok(json) => json,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(unreadable(error.to_string())),
    };
    serde_json::from_slice(&json).map_err(|error| unreadable(error.to_string()))
}

/// Removes a token; a running server refuses it within seconds. `false`: there was none.
pub fn revoke_token(data: &Path, name: &str) -> Result<bool, TokenError> {
    let _changing = lock(data)?;
    let mut tokens = list_tokens(data)?;
    let before = tokens.len();
    tokens.retain(|token| token.name != name);
    if tokens.len() == before {
        return Ok(false);
    }
    write(data, &tokens)?;
    Ok(true)
}

pub(super) fn path(data: &Path) -> PathBuf {
    data.join(FILE)
}

pub(super) fn digest(secret: &str) -> [u8; 32] {
    Sha256::digest(secret).into()
}

/// Whose the tokens are, and who may read them: what a change must leave as it is, whoever makes it,
/// or the server cannot read them any more.
struct Owner {
    uid: u32,
    /// Of a file that was there.
    group_and_mode: Option<(u32, u32)>,
}

impl Owner {
    /// The owner of the tokens, or of the directory where there are none yet.
    fn of(data: &Path) -> Result<Self, TokenError> {
        let path = path(data);
        let found = match std::fs::metadata(&path) {
            Ok(file) => {
                let group_and_mode = Some((file.gid(), file.mode() & 0o777));
                return Ok(Self { uid: file.uid(), group_and_mode });
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => std::fs::metadata(data),
            Err(error) => Err(error),
        };
        match found {
            Ok(directory) => Ok(Self { uid: directory.uid(), group_and_mode: None }),
            Err(error) => Err(TokenError::Unreadable { path, why: error.to_string() }),
        }
    }

    /// Makes a file the owner's.
    fn give(&self, file: &File) -> io::Result<()> {
        let made = file.metadata()?;
        let uid = Some(self.uid).filter(|uid| *uid != made.uid());
        let gid = self.group_and_mode.map(|(gid, _)| gid).filter(|gid| *gid != made.gid());
        if uid.is_some() || gid.is_some() {
            fchown(file, uid, gid)?;
        }
        match self.group_and_mode {
            Some((_, mode)) => file.set_permissions(Permissions::from_mode(mode)),
            None => Ok(()),
        }
    }

    fn refused(&self, path: PathBuf, source: io::Error) -> TokenError {
        match source.kind() {
            io::ErrorKind::PermissionDenied => TokenError::Others { path, owner: self.uid },
            _ => TokenError::Unwritable { path, source },
        }
    }
}

/// One change at a time, from reading the tokens to writing them: until it is dropped.
fn lock(data: &Path) -> Result<File, TokenError> {
    let path = data.join(LOCK);
    // Only who changes the tokens opens it.
    let owner = Owner { group_and_mode: None, ..Owner::of(data)? };
    let file = options().create(true).truncate(false).open(&path);
    let unwritable = |source| TokenError::Unwritable { path: path.clone(), source };
    let file = file.map_err(unwritable)?;
    if let Err(source) = owner.give(&file) {
        // It would be in the owner's way.
        let _ = std::fs::remove_file(&path);
        return Err(owner.refused(self::path(data), source));
    }
    file.lock().map_err(unwritable)?;
    Ok(file)
}

/// To write a file that only its owner may read.
fn options() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.write(true).mode(0o600);
    options
}

/// Replaces the file in one step.
fn write(data: &Path, tokens: &[TokenRecord]) -> Result<(), TokenError> {
    let path = path(data);
    let owner = Owner::of(data)?;
    let unwritable = |source| TokenError::Unwritable { path: path.clone(), source };
    let mut json = serde_json::to_vec_pretty(tokens).map_err(|error| unwritable(error.into()))?;
    json.push(b'\n');
    let new = path.with_extension(format!("{}.new", Uuid::new_v4().simple()));
    let mut file = options().create_new(true).open(&new).map_err(unwritable)?;
    let given = owner.give(&file).map_err(|source| owner.refused(path.clone(), source));
    let written = given.and_then(|()| {
        let written = file.write_all(&json).and_then(|()| file.sync_all());
        written.and_then(|()| std::fs::rename(&new, &path)).map_err(unwritable)
    });
    if written.is_err() {
        let _ = std::fs::remove_file(&new);
    }
    written
}

#[cfg(test)]
mod tests {
    use super::*;

    fn new(name: &str) -> NewToken {
        NewToken { name: name.into(), role: Role::View, customer: None, payloads: false }
    }

    #[test]
    fn a_token_is_shown_once_and_kept_as_its_hash() {
        let dir = tempfile::tempdir().unwrap();
        let secret = add_token(dir.path(), new("ci")).unwrap();
        let stored = std::fs::read_to_string(path(dir.path())).unwrap();
        assert!(!stored.contains(&secret));
        assert_eq!(list_tokens(dir.path()).unwrap()[0].sha256.len(), 64);
        assert!(matches!(add_token(dir.path(), new("ci")), Err(TokenError::Exists(_))));
        assert!(revoke_token(dir.path(), "ci").unwrap());
        assert!(!revoke_token(dir.path(), "ci").unwrap());
        assert!(list_tokens(dir.path()).unwrap().is_empty());
    }

    #[test]
    fn a_name_has_1_to_100_bytes_without_control_characters() {
        let dir = tempfile::tempdir().unwrap();
        add_token(dir.path(), new(&"a".repeat(100))).unwrap();
        for wrong in ["", &"a".repeat(101), "a\nb"] {
            let refused = add_token(dir.path(), new(wrong));
            assert!(matches!(refused, Err(TokenError::Name(_))), "{wrong:?}");
        }
    }

    #[test]
    fn what_is_made_is_for_its_owner_alone() {
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().join("data");
        add_token(&data, new("a")).unwrap();
        let mode = |of: &Path| std::fs::metadata(of).unwrap().mode() & 0o777;
        let files = [path(&data), data.join(LOCK)];
        assert_eq!((mode(&data), files.map(|file| mode(&file))), (0o700, [0o600; 2]));
    }

    /// `sudo pointsman token revoke` must not lock the server out of its tokens.
    #[test]
    fn the_tokens_stay_their_owners_whoever_changes_them() {
        const USER: u32 = 4711;
        let dir = tempfile::tempdir().unwrap();
        // Only root may give a directory away.
        if std::os::unix::fs::chown(dir.path(), Some(USER), None).is_err() {
            return;
        }
        let owners = || {
            let files = [path(dir.path()), dir.path().join(LOCK)];
            files.map(|file| std::fs::metadata(file).unwrap().uid())
        };
        add_token(dir.path(), new("a")).unwrap();
        assert_eq!(owners(), [USER; 2], "the directory's");
        std::os::unix::fs::chown(path(dir.path()), Some(USER + 1), Some(USER + 2)).unwrap();
        std::fs::set_permissions(path(dir.path()), Permissions::from_mode(0o640)).unwrap();
        assert!(revoke_token(dir.path(), "a").unwrap());
        assert_eq!(owners(), [USER + 1; 2], "the file's");
        let kept = std::fs::metadata(path(dir.path())).unwrap();
        assert_eq!((kept.gid(), kept.mode() & 0o777), (USER + 2, 0o640));
    }

    #[test]
    fn a_customer_has_no_workers() {
        let dir = tempfile::tempdir().unwrap();
        let customer = Some(CustomerId::new("acme").unwrap());
        let worker = NewToken { role: Role::Worker, customer, ..new("w") };
        let refused = add_token(dir.path(), worker).unwrap_err();
        assert!(matches!(refused, TokenError::CustomersWorker));
        assert!(refused.to_string().contains("Leave the customer out"), "{refused}");
        assert!(list_tokens(dir.path()).unwrap().is_empty());
    }

    #[test]
    fn a_file_that_cannot_be_read_is_an_error_and_not_no_tokens() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(path(dir.path()), "[").unwrap();
        assert!(matches!(list_tokens(dir.path()), Err(TokenError::Unreadable { .. })));
    }
}
