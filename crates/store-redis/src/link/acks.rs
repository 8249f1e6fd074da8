//! Waiting for replicas (`--acks`), on a connection of its own: while Redis waits it answers nothing
//! else there. One wait answers everybody who has written by then.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use pointsman_store::{Epoch, StoreError};
use redis::{Pipeline, Value, aio::MultiplexedConnection};
use tokio::time::timeout;

use super::{ANSWER_WITHIN, Link, answered, number, text};

/// Milliseconds in which replicas have to confirm.
const WITHIN_MS: u64 = 1_000;

/// A connection that was kept may be forgotten by a firewall since: one that does not answer within
/// this long, in which replicas should have, is made anew, and asked once more.
const KEPT_ANSWERS_WITHIN: Duration = Duration::from_millis(2 * WITHIN_MS);

/// What was written may not be part of what Redis has by now.
const ANOTHER: &str = "Redis has another history now";

/// Who waits for replicas.
pub struct Acks {
    asked: AtomicU64,
    round: tokio::sync::Mutex<Round>,
}

struct Round {
    /// With the generation of the link that it is of.
    connection: Option<(MultiplexedConnection, u64)>,
    /// Up to which question the outcome answers.
    covers: u64,
    /// Why it is not confirmed, if so.
    outcome: Option<Arc<str>>,
}

impl Default for Acks {
    fn default() -> Self {
        let round = Round { connection: None, covers: 0, outcome: None };
        Self { asked: AtomicU64::new(0), round: tokio::sync::Mutex::new(round) }
    }
}

/// For whom what is not confirmed is not done.
pub fn surely(unconfirmed: Option<Arc<str>>) -> Result<(), StoreError> {
    match unconfirmed {
        Some(why) => Err(StoreError::unconfirmed(&why)),
        None => Ok(()),
    }
}

impl Link {
    /// Waits until `--acks` replicas have everything that was written up to now, in this epoch. If
    /// they do not confirm it, answers why.
    pub async fn acked(&self, epoch: &Epoch) -> Result<Option<Arc<str>>, StoreError> {
        if self.0.place.acks == 0 {
            return Ok(None);
        }
        let asked = self.0.acks.asked.fetch_add(1, Ordering::AcqRel) + 1;
        let mut round = self.0.acks.round.lock().await;
        if round.covers < asked {
            let covers = self.0.acks.asked.load(Ordering::Acquire);
            round.outcome = self.confirmed(&mut round.connection).await.err().map(Into::into);
            round.covers = covers;
        }
        match self.epoch() == *epoch {
            true => Ok(round.outcome.clone()),
            false => Err(StoreError::Unknown(ANOTHER.into())),
        }
    }

    async fn confirmed(
        &self,
        kept: &mut Option<(MultiplexedConnection, u64)>,
    ) -> Result<(), String> {
        let generation = *self.0.generations.borrow();
        // Whatever goes wrong here, what is asked about is written.
        let lost = |why: String| format!("whether replicas have it is not known: {why}");
        // Redis waits for what the same connection wrote last.
        let mut wait = redis::pipe();
        let (time, epoch) = (self.given_time(), self.epoch().to_string());
        wait.add_command(self.command("ask_replicas", &[time.as_bytes(), epoch.as_bytes()]));
        wait.cmd("WAIT").arg(self.0.place.acks).arg(WITHIN_MS);
        let mut asked = None;
        if let Some((mut connection, of)) = kept.take()
            && of == generation
            && let Ok(answers) = ask(&mut connection, &wait, KEPT_ANSWERS_WITHIN).await
        {
            asked = Some((connection, answers));
        }
        let (connection, answers) = match asked {
            Some(asked) => asked,
            None => {
                let made = self.another().await;
                let mut connection = made.map_err(|error| lost(error.to_string()))?;
                let answers = ask(&mut connection, &wait, ANSWER_WITHIN).await.map_err(lost)?;
                (connection, answers)
            }
        };
        let mut answers = answers.into_iter();
        let mut next = || answered(answers.next().map_or(Ok(Value::Nil), Ok));
        *kept = Some((connection, generation));
        let asked = next().map_err(|error| lost(error.to_string()))?;
        if text(&asked) != "ok" {
            return Err(lost(ANOTHER.into()));
        }
        let have = next().map_err(|error| lost(error.to_string()))?;
        let (have, wanted) = (number(&have).unwrap_or(0), self.0.place.acks);
        if have >= i64::from(wanted) {
            return Ok(());
        }
        Err(format!("only {have} of {wanted} replicas have confirmed it within 1 s"))
    }
}

async fn ask(
    connection: &mut MultiplexedConnection,
    wait: &Pipeline,
    within: Duration,
) -> Result<Vec<Value>, String> {
    let answers = connection.send_packed_commands(wait, 0, 2);
    let answers = timeout(within, answers).await;
    answers.map_err(|_| "no answer to WAIT".to_owned())?.map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicU16;

    use pointsman_redis_testing::{RedisOptions, RedisServer};
    use tokio::{
        net::{TcpListener, TcpStream},
        sync::watch,
    };

    use super::*;
    use crate::{
        encoding::keys::Keys,
        link::{Opening, Place},
    };

    /// Where new connections lead to can be changed; those that are there stay.
    async fn way(to: Arc<AtomicU16>) -> u16 {
        forgetful_way(to, watch::Sender::new(())).await
    }

    /// Connections that are there when it is told to forget them lead nowhere, and nobody is told.
    async fn forgetful_way(to: Arc<AtomicU16>, forget: watch::Sender<()>) -> u16 {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move {
            while let Ok((mut near, _)) = listener.accept().await {
                let (to, mut forgotten) = (to.load(Ordering::Relaxed), forget.subscribe());
                tokio::spawn(async move {
                    let mut far = TcpStream::connect(("127.0.0.1", to)).await.unwrap();
                    tokio::select! {
                        _ = tokio::io::copy_bidirectional(&mut near, &mut far) => return,
                        Ok(()) = forgotten.changed() => {}
                    }
                    std::future::pending::<()>().await;
                });
            }
        });
        port
    }

    async fn link(port: u16) -> Link {
        let (address, fleet) = (format!("redis://127.0.0.1:{port}"), "test".to_owned());
        let (address, opening) = (address.parse().unwrap(), Opening::Serve);
        Link::open(Place { address, fleet, acks: 1, clock: None, opening }).await.unwrap()
    }

    async fn unconfirmed(link: &Link) -> Option<Arc<str>> {
        link.acked(&link.epoch()).await.unwrap()
    }

    /// What was written went to a primary that was cut off; its replica took over.
    #[tokio::test]
    async fn replicas_of_another_primary_confirm_nothing() {
        let cut_off = RedisServer::start(RedisOptions::default()).await.unwrap();
        let to = Arc::new(AtomicU16::new(cut_off.port()));
        let link = link(way(to.clone()).await).await;
        let taken = RedisServer::replica_of(&cut_off, RedisOptions::default()).await.unwrap();
        taken.promote().await.unwrap();
        let _replica = RedisServer::replica_of(&taken, RedisOptions::default()).await.unwrap();
        to.store(taken.port(), Ordering::Relaxed);
        let why = unconfirmed(&link).await.expect("its own replicas have nothing");
        assert!(why.contains("another Redis answers"), "{why}");
    }

    #[tokio::test]
    async fn a_kept_connection_that_a_firewall_forgot_leaves_nothing_unconfirmed() {
        let server = RedisServer::start(RedisOptions::default()).await.unwrap();
        let _replica = RedisServer::replica_of(&server, RedisOptions::default()).await.unwrap();
        let (to, forget) = (Arc::new(AtomicU16::new(server.port())), watch::Sender::new(()));
        let link = link(forgetful_way(to, forget.clone()).await).await;
        assert_eq!(unconfirmed(&link).await, None);
        forget.send(()).unwrap();
        assert_eq!(unconfirmed(&link).await, None);
    }

    #[tokio::test]
    async fn replicas_confirm_nothing_of_another_history() {
        let server = RedisServer::start(RedisOptions::default()).await.unwrap();
        let _replica = RedisServer::replica_of(&server, RedisOptions::default()).await.unwrap();
        let link = link(server.port()).await;
        assert_eq!(unconfirmed(&link).await, None);
        let mut begin = redis::cmd("HSET");
        begin.arg(Keys::of_fleet("test").meta()).arg("epoch").arg("another");
        begin.exec_async(&mut server.connect().await.unwrap()).await.unwrap();
        let why = unconfirmed(&link).await.expect("it was written in the one before");
        assert!(why.contains(ANOTHER), "{why}");
    }
}
