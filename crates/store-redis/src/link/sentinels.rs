//! What Sentinels tell of a fail-over while it comes about. They leave a former primary that is well
//! a primary for some ten seconds more: what it takes meanwhile is lost.

use std::{
    convert::Infallible,
    time::{Duration, Instant},
};

use futures::StreamExt as _;
use parking_lot::Mutex;
use pointsman_core::Outage;
use redis::{RedisError, aio::PubSub};
use tokio::time::{sleep, timeout};

use super::{
    Link, Place, list,
    nodes::{As, CONNECT_WITHIN, Host, ask, client, no_answer},
    refusals::{OpenError, failure},
    text,
};
use crate::link::address::Topology;

/// A Sentinel has chosen a replica, and promotes it some 50 ms later.
const CHOSEN: &str = "+selected-slave";
/// The replica is the primary now, says the Sentinel that promoted it.
const PROMOTED: &str = "+promoted-slave";
/// Another is the primary, says each Sentinel once it knows.
const SWITCHED: &str = "+switch-master";

/// By then a former primary that is well has been made a replica, and a fail-over that nothing was
/// heard of since has failed.
const LEFT_FOR: Duration = Duration::from_secs(15);
const AGAIN_AFTER: Duration = Duration::from_secs(1);

/// The node that was left last, as Sentinels replace it.
#[derive(Default)]
pub struct Left(Mutex<Option<(Host, Instant)>>);

impl Left {
    /// Why no connection is made to this node now.
    pub fn refusal(&self, place: &Place, node: &Host) -> Option<OpenError> {
        let left = self.0.lock();
        let (_, at) = left.as_ref().filter(|(left, _)| left == node)?;
        let why = replaced(node);
        let address = place.address.to_string();
        (at.elapsed() < LEFT_FOR).then_some(OpenError::Unreachable { address, why })
    }
}

fn replaced((host, port): &Host) -> String {
    format!("the Sentinels put another in the place of {host}:{port}")
}

/// The primary that a message is about, if it is the one of this name. `+switch-master` begins with
/// it; the others name a replica and, behind an `@`, its primary.
fn primary_of(master: &str, told: &str) -> Option<Host> {
    let primary = told.split_once(" @ ").map_or(told, |(_, primary)| primary);
    let mut words = primary.split(' ');
    (words.next()? == master).then_some(())?;
    Some((words.next()?.to_owned(), words.next()?.parse().ok()?))
}

impl Link {
    /// Follows what each Sentinel of the address tells, until the link is closed.
    pub fn follow_sentinels(&self) {
        let Topology::Sentinel { master } = &self.0.place.address.topology else { return };
        for sentinel in &self.0.place.address.hosts {
            let (link, sentinel, master) = (self.clone(), sentinel.clone(), master.clone());
            self.0.runtime.spawn(async move {
                link.0.closed.run_until_cancelled(link.follow(&sentinel, &master)).await;
            });
        }
    }

    async fn follow(&self, sentinel: &Host, master: &str) {
        let (host, port) = sentinel;
        let mut outage = Outage::default();
        loop {
            let Err(why) = self.hear(sentinel, master, &mut outage).await;
            if outage.failed(&why, Instant::now()) {
                tracing::warn!(
                    sentinel = format!("{host}:{port}"),
                    why,
                    "this Sentinel is not heard; a fail-over that no other one tells of is noticed \
                     late"
                );
            }
            sleep(AGAIN_AFTER).await;
        }
    }

    /// Answers why nothing is heard any more.
    async fn hear(
        &self,
        sentinel: &Host,
        master: &str,
        outage: &mut Outage,
    ) -> Result<Infallible, String> {
        let (host, port) = sentinel;
        let place = &self.0.place;
        let mut told = subscribed(place, sentinel).await.map_err(|error| error.to_string())?;
        let named =
            ask_sentinel(place, sentinel, master).await.map_err(|error| error.to_string())?;
        if let Some(away) = outage.works(Instant::now()) {
            tracing::info!(
                sentinel = format!("{host}:{port}"),
                ?away,
                "this Sentinel is heard again"
            );
        }
        // It may have told of another before it was heard.
        self.drop_live_if(|node| *node != named, "a Sentinel names another primary");
        let mut messages = told.on_message();
        while let Some(message) = messages.next().await {
            let payload = message.get_payload::<String>().map_err(|error| error.to_string())?;
            let Some(primary) = primary_of(master, &payload) else { continue };
            self.leave(primary);
            // Who is idle would look for the other one only with its next call.
            if message.get_channel_name() != CHOSEN
                && let Err(error) = self.live().await
            {
                tracing::debug!(%error, "the new primary is not found yet");
            }
        }
        Err("it ended the connection".to_owned())
    }

    /// Sentinels put another in this node's place.
    pub(super) fn leave(&self, node: Host) {
        // Noted first: a connection to it that is just being made is given up then.
        *self.0.left.0.lock() = Some((node.clone(), Instant::now()));
        self.drop_live_if(|live| *live == node, &replaced(&node));
    }

    fn drop_live_if(&self, leads_astray: impl Fn(&Host) -> bool, why: &str) {
        let live = self.0.live.read().clone();
        if let Some(live) = live.filter(|live| leads_astray(live.node.host())) {
            self.drop_live(live.generation, why);
        }
    }
}

/// What a Sentinel publishes of fail-overs.
async fn subscribed(place: &Place, sentinel: &Host) -> Result<PubSub, OpenError> {
    match subscribed_as(place, sentinel, As::Anyone).await {
        Err(OpenError::Denied { .. }) if place.address.password.is_some() => {
            subscribed_as(place, sentinel, As::UserOfSentinel).await
        }
        subscribed => subscribed,
    }
}

async fn subscribed_as(place: &Place, sentinel: &Host, who: As) -> Result<PubSub, OpenError> {
    let failed = |error: RedisError| failure(place, sentinel, &error);
    let client = client(place, sentinel, who)?;
    let subscribed = async {
        let mut told = client.get_async_pubsub().await?;
        told.subscribe(&[CHOSEN, PROMOTED, SWITCHED]).await?;
        Ok(told)
    };
    timeout(CONNECT_WITHIN, subscribed).await.unwrap_or_else(|_| Err(no_answer())).map_err(failed)
}

/// The node that a Sentinel calls the primary.
pub(super) async fn ask_sentinel(
    place: &Place,
    sentinel: &Host,
    master: &str,
) -> Result<Host, OpenError> {
    let (host, port) = sentinel;
    let mut command = redis::cmd("SENTINEL");
    command.arg("GET-MASTER-ADDR-BY-NAME").arg(master);
    let mut found = ask(place, sentinel, As::Anyone, &command).await;
    if let (Err(OpenError::Denied { .. }), Some(_)) = (&found, &place.address.password) {
        found = ask(place, sentinel, As::UserOfSentinel, &command).await;
    }
    let found = found.map_err(|error| match error {
        OpenError::Denied { why, .. } => OpenError::Denied {
            address: format!("{host}:{port}"),
            why,
            cure: "it is a Sentinel: let it ask for no password, or for the address's",
        },
        error => error,
    })?;
    let unknown = || OpenError::Unreachable {
        address: place.address.to_string(),
        why: format!("the Sentinel at {host}:{port} knows no master {master:?}"),
    };
    match list(&found) {
        [host, port] => Ok((text(host), text(port).parse().map_err(|_| unknown())?)),
        _ => Err(unknown()),
    }
}

#[cfg(test)]
mod tests {
    use pointsman_redis_testing::{RedisOptions, RedisServer};

    use super::*;
    use crate::link::{CallError, Opening};

    #[test]
    fn of_what_sentinels_tell_the_primary_of_this_name_is_read() {
        let primary = |told| primary_of("main", told);
        let of = |host: &str, port| Some((host.to_owned(), port));
        assert_eq!(
            primary("slave 10.0.0.2:6379 10.0.0.2 6379 @ main 10.0.0.1 6380"),
            of("10.0.0.1", 6380)
        );
        assert_eq!(primary("main redis-0 6379 redis-1 6379"), of("redis-0", 6379));
        for other in
            ["slave main main 1 @ other 10.0.0.1 6380", "other a 1 b 2", "main", "main a b", ""]
        {
            assert_eq!(primary(other), None, "{other:?}");
        }
    }

    #[tokio::test]
    async fn a_node_that_was_left_takes_no_more_calls_though_it_is_well() {
        let server = RedisServer::start(RedisOptions::default()).await.unwrap();
        let (address, fleet) = (server.url().parse().unwrap(), "test".to_owned());
        let place = Place { address, fleet, acks: 0, clock: None, opening: Opening::Serve };
        let link = Link::open(place).await.unwrap();
        link.leave(("127.0.0.1".into(), 1));
        assert!(link.send(&redis::cmd("PING")).await.is_ok(), "another one was left");
        link.leave(("127.0.0.1".into(), server.port()));
        let why = link.send(&redis::cmd("PING")).await.unwrap_err();
        assert!(
            matches!(&why, CallError::Unreachable(why) if why.contains("in the place of")),
            "{why}"
        );
    }
}
