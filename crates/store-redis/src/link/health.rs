//! Whether the store takes work, as far as the connection, Redis' memory and its answers say.

use std::time::{Duration, Instant};

use parking_lot::Mutex;
use pointsman_core::Outage;
use pointsman_store::{Health, Judgement, Setting};
use redis::RedisError;

use super::{Link, OpenError, Opening};
use crate::link::settings::{FULL_AT, Info, ROOM_AT};

/// Functions that Redis refuses while it takes no writes. Servers call `contact` all the time.
const WRITERS: [&str; 3] = ["commit", "contact", "hear"];

/// Why Redis takes no writes: its disk (MISCONF), too few replicas (NOREPLICAS). It answers reads.
const NO_WRITES: [&str; 2] = ["MISCONF", "NOREPLICAS"];

/// A connection that broke after so long was well.
const WELL_AFTER: Duration = Duration::from_secs(5);

#[derive(Default)]
pub struct Standing(Mutex<Inner>);

/// Why there is no connection.
enum Away {
    Unreachable(String),
    Newer(String),
}

#[derive(Default)]
struct Inner {
    info: Info,
    away: Option<Away>,
    /// When the connection was made.
    here_since: Option<Instant>,
    /// Connections that broke one after the other.
    broken: Outage,
    /// Why the last write was refused.
    refused: Option<String>,
    is_full: bool,
    /// An import fills the store.
    is_importing: bool,
}

impl Inner {
    /// What was known before.
    fn see(&mut self, info: Info) -> Info {
        let info = info.after(&self.info);
        let used = info.memory_used().unwrap_or_default();
        // In between it stays as it was: what is submitted must not make and end it every second.
        let is_full = used >= if self.is_full { ROOM_AT } else { FULL_AT };
        let name = info.name();
        match std::mem::replace(&mut self.is_full, is_full) {
            false if is_full => tracing::warn!("{}", full(name)),
            true if !is_full => tracing::info!("{name} has room again: new work is taken"),
            _ => {}
        }
        let before = std::mem::replace(&mut self.info, info);
        for changed in self.info.changed_since(&before) {
            match changed.judgement {
                Judgement::AtRisk(risk) => tracing::warn!("{risk}"),
                Judgement::Sound => {
                    tracing::info!("the {} of {name} is as it should be again", changed.name);
                }
                Judgement::NotKnown => {}
            }
        }
        before
    }
}

fn full(name: &str) -> String {
    format!(
        "{name} used {:.0} % of its maxmemory or more; new work is taken below {:.0} %",
        FULL_AT * 100.0,
        ROOM_AT * 100.0
    )
}

impl Standing {
    pub fn is_away(&self, why: &OpenError) {
        let text = why.to_string();
        self.0.lock().away = Some(match why {
            OpenError::Newer { .. } => Away::Newer(text),
            _ => Away::Unreachable(text),
        });
    }

    /// The connection is no good any more: whether that is news. While a cluster moves the fleet's
    /// slot, each that is made is as bad as the one before.
    pub fn broke(&self, why: &str, now: Instant) -> bool {
        let mut inner = self.0.lock();
        inner.away = Some(Away::Unreachable(why.to_owned()));
        if inner.here_since.is_some_and(|since| now.saturating_duration_since(since) >= WELL_AFTER)
        {
            inner.broken.works(now);
        }
        inner.broken.failed(why, now)
    }

    /// A connection was made, by a call that writes.
    pub fn is_here(&self, info: Info, now: Instant) {
        let mut inner = self.0.lock();
        inner.here_since = Some(now);
        inner.see(info);
        (inner.away, inner.refused) = (None, None);
    }

    /// Answers what was known before.
    pub fn saw(&self, info: Info) -> Info {
        self.0.lock().see(info)
    }

    pub fn saw_import(&self, is_importing: bool) {
        self.0.lock().is_importing = is_importing;
    }

    /// An error that Redis gave as its answer.
    pub fn was_refused(&self, error: &RedisError) {
        if error.code().is_some_and(|code| NO_WRITES.contains(&code)) {
            self.refuses(error.to_string());
        }
    }

    /// One of our functions was refused: nothing is written while its user lacks a right.
    pub fn was_denied(&self, function: &str, why: &str) {
        if is_denial(why) && WRITERS.contains(&function) {
            self.refuses(why.to_owned());
        }
    }

    fn refuses(&self, why: String) {
        let mut inner = self.0.lock();
        if inner.refused.replace(why.clone()).is_none() {
            tracing::error!(why, "{} refuses writes", inner.info.name());
        }
    }

    /// A function was called, and Redis let it.
    pub fn was_called(&self, function: &str) {
        if !WRITERS.contains(&function) {
            return;
        }
        let mut inner = self.0.lock();
        // A renewal needs one right alone: that it may be made says nothing of the others.
        if function == "hear" && inner.refused.as_deref().is_some_and(is_denial) {
            return;
        }
        if inner.refused.take().is_some() {
            tracing::info!("{} takes writes again", inner.info.name());
        }
    }
}

/// Whether it is a right that is missing.
fn is_denial(why: &str) -> bool {
    ["NoPerm", "can't run this command"].iter().any(|said| why.contains(said))
}

impl Link {
    pub fn info(&self) -> Info {
        self.0.standing.0.lock().info.clone()
    }

    pub fn settings(&self) -> Vec<Setting> {
        self.0.standing.0.lock().info.judged(self.0.place.acks)
    }

    /// Whether a failure of what is tried again and again is to be told: while Redis is away all the
    /// log says so.
    pub fn is_news(&self, outage: &mut Outage, why: &str) -> bool {
        !self.health().is_away() && outage.failed(why, Instant::now())
    }

    pub fn health(&self) -> Health {
        let inner = self.0.standing.0.lock();
        match &inner.away {
            Some(Away::Unreachable(why)) => {
                return Health::Failed(format!("the store is away: {why}"));
            }
            Some(Away::Newer(why)) => return Health::Newer(why.clone()),
            None => {}
        }
        if let Some(why) = &inner.refused {
            return Health::Failed(format!("{} refuses writes: {why}", inner.info.name()));
        }
        // The import itself goes by whether there is room.
        if inner.is_importing && self.0.place.opening != Opening::Import {
            return Health::Importing;
        }
        if inner.is_full {
            return Health::Full(full(inner.info.name()));
        }
        Health::Ready
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_that_break_at_once_for_the_same_reason_are_told_of_once() {
        let standing = Standing::default();
        let begin = Instant::now();
        let (soon, later) = (begin + WELL_AFTER / 5, begin + WELL_AFTER);
        let broke = |why, made, now| {
            standing.is_here(Info::default(), made);
            standing.broke(why, now)
        };
        assert!(broke("Ask: 4014", begin, soon));
        assert!(!broke("Ask: 4014", begin, soon));
        assert!(broke("Moved: 4014", begin, soon));
        assert!(broke("Moved: 4014", begin, later), "it was well meanwhile");
    }

    #[test]
    fn full_from_80_percent_until_below_75() {
        let standing = Standing::default();
        let seen: Vec<bool> = [74, 79, 80, 79, 75, 74, 79]
            .into_iter()
            .map(|used_memory| {
                standing.saw(Info { used_memory, maxmemory: 100, ..Info::default() });
                standing.0.lock().is_full
            })
            .collect();
        assert_eq!(seen, [false, false, true, true, true, false, false]);
        // The limit was taken away.
        standing.saw(Info { used_memory: 90, maxmemory: 100, ..Info::default() });
        standing.saw(Info { used_memory: 90, ..Info::default() });
        assert!(!standing.0.lock().is_full);
    }
}
