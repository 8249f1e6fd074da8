//! The tokens as a running server knows them, read again when the file changes.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};

use parking_lot::Mutex;
use pointsman_api::Sha256Hex;
use subtle::{Choice, ConstantTimeEq as _};
use tokio::time::Instant;

use super::{
    Caller, TokenError, list_tokens,
    tokens::{digest, path},
};

/// How often the file is looked at: so long a revoked token may still be taken.
pub(super) const LOOK_EVERY: Duration = Duration::from_secs(1);

/// A token's hash and whose it is.
type Entry = (String, Caller);
/// What changes when the file does.
type Stamp = Option<(SystemTime, u64)>;

pub(crate) struct Book {
    data: PathBuf,
    pages: Mutex<Pages>,
}

struct Pages {
    entries: Arc<[Entry]>,
    stamp: Stamp,
    looked: Instant,
    /// Why the file cannot be read now.
    trouble: Option<String>,
}

impl Book {
    pub fn open(data: &Path) -> Result<Self, TokenError> {
        let stamp = stamp(data);
        let pages = Pages { entries: read(data)?, stamp, looked: Instant::now(), trouble: None };
        Ok(Self { data: data.to_owned(), pages: Mutex::new(pages) })
    }

    pub fn is_empty(&self) -> bool {
        self.pages.lock().entries.is_empty()
    }

    /// Whose token it is. Every entry is compared, whichever matches.
    pub fn find(&self, secret: &str) -> Option<Caller> {
        let hash = Sha256Hex::of(digest(secret));
        let entries = self.entries();
        let mut found = None;
        for (expected, caller) in entries.iter() {
            let equal: Choice = expected.as_bytes().ct_eq(hash.as_str().as_bytes());
            if bool::from(equal) {
                found = Some(caller);
            }
        }
        found.cloned()
    }

    /// Whether the caller's token is still what it was when it was found.
    pub fn knows(&self, caller: &Caller) -> bool {
        self.entries().iter().any(|(_, known)| known == caller)
    }

    fn entries(&self) -> Arc<[Entry]> {
        let mut pages = self.pages.lock();
        if pages.looked.elapsed() >= LOOK_EVERY {
            pages.looked = Instant::now();
            let stamp = stamp(&self.data);
            if stamp != pages.stamp || pages.trouble.is_some() {
                let read = self.read_anew(stamp, !pages.entries.is_empty());
                pages.turn(read, stamp);
            }
        }
        pages.entries.clone()
    }

    /// A file that is gone revokes nothing: nobody deletes it to that end, and a mount that went away
    /// would lock everybody out.
    fn read_anew(&self, stamp: Stamp, had_tokens: bool) -> Result<Arc<[Entry]>, TokenError> {
        let entries = read(&self.data)?;
        match had_tokens && entries.is_empty() && stamp.is_none() {
            true => Err(TokenError::Gone { path: path(&self.data) }),
            false => Ok(entries),
        }
    }
}

impl Pages {
    /// What was read counts from now on; what cannot be read is said once, however often it is tried.
    fn turn(&mut self, read: Result<Arc<[Entry]>, TokenError>, stamp: Stamp) {
        match read {
            Ok(entries) => {
                if self.trouble.take().is_some() {
                    tracing::info!("the tokens can be read again");
                }
                self.entries = entries;
                self.stamp = stamp;
            }
            Err(error) => {
                let trouble = Some(error.to_string());
                if trouble != self.trouble {
                    let cure = match error {
                        TokenError::Gone { .. } => {
                            "put it back; `[]` in its place revokes all of them"
                        }
                        _ => {
                            "this server could not start again: let the user that it runs as read \
                             the file"
                        }
                    };
                    tracing::error!(
                        %error,
                        "the tokens read before stay valid, revoked ones too; {cure}"
                    );
                }
                self.trouble = trouble;
            }
        }
    }
}

fn read(data: &Path) -> Result<Arc<[Entry]>, TokenError> {
    let tokens = list_tokens(data)?;
    Ok(tokens.iter().map(|token| (token.sha256.clone(), Caller::with_token(token))).collect())
}

fn stamp(data: &Path) -> Stamp {
    let meta = std::fs::metadata(path(data)).ok()?;
    Some((meta.modified().ok()?, meta.len()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::{NewToken, Role, add_token, revoke_token};

    fn add_a(dir: &Path) -> String {
        let new = NewToken { name: "a".into(), role: Role::View, customer: None, payloads: false };
        add_token(dir, new).unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn a_token_made_or_revoked_meanwhile_counts() {
        let dir = tempfile::tempdir().unwrap();
        let book = Book::open(dir.path()).unwrap();
        assert!(book.is_empty());
        let secret = add_a(dir.path());
        tokio::time::advance(LOOK_EVERY).await;
        let caller = book.find(&secret).unwrap();
        assert!(book.knows(&caller));
        assert!(book.find(&format!("{secret}x")).is_none());
        assert!(book.find("").is_none());
        revoke_token(dir.path(), "a").unwrap();
        tokio::time::advance(LOOK_EVERY).await;
        assert!(book.find(&secret).is_none() && !book.knows(&caller));
        let again = add_a(dir.path());
        tokio::time::advance(LOOK_EVERY).await;
        assert!(book.find(&again).is_some());
        assert!(!book.knows(&caller), "another token of its name");
    }

    #[tokio::test(start_paused = true)]
    async fn what_cannot_be_read_changes_nothing_until_it_can_be_read_again() {
        let dir = tempfile::tempdir().unwrap();
        let secret = add_a(dir.path());
        let book = Book::open(dir.path()).unwrap();
        let file = path(dir.path());
        let looks = async |json: &str| {
            std::fs::write(&file, json).unwrap();
            tokio::time::advance(LOOK_EVERY).await;
            let found = book.find(&secret).is_some();
            (found, book.pages.lock().trouble.is_some())
        };
        assert_eq!(looks("[").await, (true, true));
        assert_eq!(looks("[").await, (true, true), "still, and it is not said again");
        assert_eq!(looks("[]").await, (false, false));
    }

    #[tokio::test(start_paused = true)]
    async fn a_file_that_is_gone_revokes_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let secret = add_a(dir.path());
        let book = Book::open(dir.path()).unwrap();
        let (file, away) = (path(dir.path()), dir.path().join("away"));
        let looks = async || {
            tokio::time::advance(LOOK_EVERY).await;
            (book.find(&secret).is_some(), book.pages.lock().trouble.clone())
        };
        std::fs::rename(&file, &away).unwrap();
        let (found, trouble) = looks().await;
        assert!(found && trouble.unwrap().ends_with("tokens.json is gone"));
        std::fs::rename(&away, &file).unwrap();
        assert_eq!(looks().await, (true, None), "it is the same file");
        revoke_token(dir.path(), "a").unwrap();
        assert_eq!(looks().await, (false, None));
        std::fs::remove_file(&file).unwrap();
        assert_eq!(looks().await, (false, None), "there was none that it could keep");
    }
}
