//! The connection to the primary. A broken one is made anew before the next call, and each new one
//! is looked at first: is it a primary, can a fleet live there, is it the same data (the epoch)?

mod acks;
pub mod address;
mod connect;
mod health;
pub mod library;
mod nodes;
mod refusals;
mod reply;
mod send;
mod sentinels;
pub mod settings;
pub mod tls;

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use futures::{
    FutureExt as _,
    future::{BoxFuture, Shared},
};
use parking_lot::{Mutex, RwLock};
use pointsman_core::Timestamp;
use pointsman_store::{Clock, Epoch};
use redis::{RedisError, Value, aio::MultiplexedConnection};
use refusals::{Means, means};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

pub use acks::surely;
pub use refusals::{OpenError, lost_meta};
pub use reply::{answered, bytes, count, list, number, odd, text, whole};
pub use send::CallError;

use crate::{
    encoding::keys::Keys,
    link::{address::Address, settings::Info},
};

/// A call is given up after this long.
pub const ANSWER_WITHIN: Duration = Duration::from_secs(5);

/// Where a store is, and whose.
#[derive(Clone)]
pub struct Place {
    pub address: Address,
    pub fleet: String,
    /// Replicas that must have a submission or an ending before it is answered.
    pub acks: u32,
    /// Instead of Redis' clock: for tests.
    pub clock: Option<Arc<dyn Clock>>,
    pub opening: Opening,
}

impl Place {
    /// The time that functions are given: none, so that they read Redis' own, except in tests.
    fn given_time(&self) -> String {
        let clock = self.clock.as_ref();
        clock.map(|clock| clock.now().as_millis().to_string()).unwrap_or_default()
    }
}

/// What is done where there is no store yet, where it is of an older version, or where an import fills
/// it or broke off.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Opening {
    /// One is made where there is none, and one of an older version taken over: its format is raised.
    /// One that an import fills is refused.
    #[default]
    Serve,
    /// All are refused. The one of an older version may have servers that this one would end if it
    /// raised the format, and nobody else would look after the jobs then.
    Work,
    /// None is made, and one that an import fills is refused. Its format is left: who reads, or moves
    /// the intake, writes nothing that those of an older version cannot read, and they serve it on.
    Visit,
    /// One is made where there is none; what an import has put in is deleted. The format is raised
    /// once the import begins: one that is refused leaves the store to its servers.
    Import,
}

impl Opening {
    /// Whether it makes a store where there is none, and takes over one of an older version.
    fn makes(self) -> bool {
        matches!(self, Self::Serve | Self::Import)
    }

    /// As the function `open` takes it.
    fn word(self) -> &'static str {
        match self {
            Self::Serve => "",
            Self::Work | Self::Visit => "visit",
            Self::Import => "import",
        }
    }
}

#[derive(Clone)]
struct Live {
    connection: MultiplexedConnection,
    node: Arc<connect::Node>,
    generation: u64,
}

type Connecting = Shared<BoxFuture<'static, Result<Live, OpenError>>>;

/// The connection, and what is known through it. Cheap to clone; all clones are one.
#[derive(Clone)]
pub struct Link(Arc<Inner>);

struct Inner {
    place: Place,
    keys: Keys,
    live: RwLock<Option<Live>>,
    /// While a connection is made: what comes of it.
    connecting: Mutex<Option<Connecting>>,
    runtime: tokio::runtime::Handle,
    epoch: Mutex<Epoch>,
    /// How many connections there were.
    generations: watch::Sender<u64>,
    /// Redis' time when it was last told, and when that was here.
    time: Mutex<(Timestamp, Instant)>,
    made_at: Mutex<Option<Timestamp>>,
    standing: health::Standing,
    seq: AtomicU64,
    acks: acks::Acks,
    left: sentinels::Left,
    closed: CancellationToken,
}

impl Link {
    /// Connects; nothing is touched where a fleet cannot live.
    pub async fn open(place: Place) -> Result<Self, OpenError> {
        let link = Self::new(place);
        link.connect().await?;
        Ok(link)
    }

    fn new(place: Place) -> Self {
        let keys = Keys::of_fleet(&place.fleet);
        let inner = Inner {
            place,
            keys,
            live: RwLock::new(None),
            connecting: Mutex::default(),
            runtime: tokio::runtime::Handle::current(),
            epoch: Mutex::new(Epoch::mint()),
            generations: watch::Sender::new(0),
            time: Mutex::new((Timestamp::default(), Instant::now())),
            made_at: Mutex::new(None),
            standing: health::Standing::default(),
            seq: AtomicU64::new(0),
            acks: acks::Acks::default(),
            left: sentinels::Left::default(),
            closed: CancellationToken::new(),
        };
        Self(Arc::new(inner))
    }

    pub fn keys(&self) -> &Keys {
        &self.0.keys
    }

    pub fn fleet(&self) -> &str {
        &self.0.place.fleet
    }

    pub fn epoch(&self) -> Epoch {
        self.0.epoch.lock().clone()
    }

    /// Does it if the epoch is that one, and stays that one until it is done. Answers whether it was.
    pub fn while_in(&self, epoch: &Epoch, it: impl FnOnce()) -> bool {
        let current = self.0.epoch.lock();
        let is_current = *current == *epoch;
        if is_current {
            it();
        }
        is_current
    }

    /// When the store was made.
    pub fn made_at(&self) -> Option<Timestamp> {
        *self.0.made_at.lock()
    }

    /// The newest seq that anything told.
    pub fn seq(&self) -> u64 {
        self.0.seq.load(Ordering::Acquire)
    }

    pub fn saw_seq(&self, seq: u64) {
        self.0.seq.fetch_max(seq, Ordering::AcqRel);
    }

    /// Redis' time, as far as it is known here.
    pub fn now(&self) -> Timestamp {
        if let Some(clock) = &self.0.place.clock {
            return clock.now();
        }
        let (told, at) = *self.0.time.lock();
        told + at.elapsed()
    }

    pub fn saw_time(&self, millis: i64) {
        *self.0.time.lock() = (Timestamp::from_millis(millis), Instant::now());
    }

    /// See [`Place::given_time`].
    pub fn given_time(&self) -> String {
        self.0.place.given_time()
    }

    pub fn close(&self) {
        self.0.closed.cancel();
        *self.0.live.write() = None;
    }

    pub fn is_closed(&self) -> bool {
        self.0.closed.is_cancelled()
    }

    /// Ends once the link is closed.
    pub async fn closing(&self) {
        self.0.closed.cancelled().await;
    }

    async fn live(&self) -> Result<Live, CallError> {
        if let Some(live) = &*self.0.live.read() {
            return Ok(live.clone());
        }
        Ok(self.connect().await?)
    }

    /// Waits for the connection that is being made. A task of its own makes it: who gives up waiting
    /// ends it for nobody, and all who wait share what comes of it.
    async fn connect(&self) -> Result<Live, OpenError> {
        let connecting = {
            let mut connecting = self.0.connecting.lock();
            if let Some(live) = &*self.0.live.read() {
                return Ok(live.clone());
            }
            if self.is_closed() {
                return Err(OpenError::Closed);
            }
            connecting.get_or_insert_with(|| self.begin_to_connect()).clone()
        };
        connecting.await
    }

    fn begin_to_connect(&self) -> Connecting {
        let link = self.clone();
        let attempt = self.0.runtime.spawn(async move {
            let _over = Over(&link);
            tokio::select! {
                made = link.make() => made,
                () = link.closing() => Err(OpenError::Closed),
            }
        });
        // Its runtime ends.
        attempt.map(|made| made.unwrap_or(Err(OpenError::Closed))).boxed().shared()
    }

    async fn make(&self) -> Result<Live, OpenError> {
        let Inner { place, keys, left, .. } = &*self.0;
        let is_first = *self.0.generations.borrow() == 0;
        let made = connect::connect(place, keys, left, is_first).await;
        let made = made.inspect_err(|error| self.0.standing.is_away(error))?;
        let before = std::mem::replace(&mut *self.0.epoch.lock(), made.epoch.clone());
        let generation = *self.0.generations.borrow() + 1;
        if generation > 1 && before != made.epoch {
            tracing::warn!(%before, epoch = %made.epoch, "Redis has another history now");
            self.0.seq.store(made.seq, Ordering::Release);
        }
        self.saw_seq(made.seq);
        self.saw_time(made.now);
        *self.0.made_at.lock() = Some(Timestamp::from_millis(made.made_at));
        self.0.standing.is_here(made.info, Instant::now());
        let live = Live { connection: made.connection, node: made.node.into(), generation };
        *self.0.live.write() = Some(live.clone());
        self.0.generations.send_replace(generation);
        // It was left while it was looked at.
        if let Some(refusal) = left.refusal(place, live.node.host()) {
            self.drop_live(generation, &refusal.to_string());
            return Err(refusal);
        }
        Ok(live)
    }

    /// The connection is no good any more: the next call makes another.
    fn drop_live(&self, generation: u64, why: &str) {
        let mut live = self.0.live.write();
        if live.as_ref().is_some_and(|live| live.generation == generation) {
            if self.0.standing.broke(why, Instant::now()) {
                tracing::warn!(why, "the connection to Redis is made anew");
            }
            *live = None;
        }
    }

    /// This process began another log itself.
    pub fn enter(&self, epoch: Epoch, seq: u64) {
        *self.0.epoch.lock() = epoch;
        self.0.seq.store(seq, Ordering::Release);
    }

    /// Whether a function answers that the store is in another epoch than the one it was called for.
    /// Then the connection stays, what is known does not.
    pub fn is_of_another_epoch(&self, answer: &Value) -> bool {
        match list(answer) {
            [state, epoch] if text(state) == "epoch" => {
                self.saw_epoch(&text(epoch));
                true
            }
            _ => false,
        }
    }

    fn saw_epoch(&self, epoch: &str) {
        if let Ok(epoch) = epoch.parse::<Epoch>() {
            let before = std::mem::replace(&mut *self.0.epoch.lock(), epoch.clone());
            if before != epoch {
                self.0.seq.store(0, Ordering::Release);
            }
        }
    }

    /// Looks at the settings, whether an import fills the store, and the replication id, and makes the
    /// connection anew when that is another: the same process may have become a copy of another one.
    pub async fn look(&self) -> Result<(), CallError> {
        let mut both = redis::pipe();
        both.add_command(Info::sections()).cmd("HGET").arg(self.keys().meta()).arg("importing");
        // A `meta` of a wrong type says nothing.
        let mut found =
            self.send_typed(&both).await?.into_iter().map(|found| found.unwrap_or(Value::Nil));
        let info = Info::parse(&found.next().as_ref().map(text).unwrap_or_default());
        self.0.standing.saw_import(found.next().is_some_and(|importing| importing != Value::Nil));
        let generation = self.0.live.read().as_ref().map(|live| live.generation);
        let before = self.0.standing.saw(info.clone());
        if before.replid != info.replid || info.role != "master" {
            if let Some(generation) = generation {
                self.drop_live(generation, "another replication id, or no primary any more");
            }
            self.live().await?;
        }
        Ok(())
    }

    /// Looks again and again, until the link is closed.
    pub async fn keep_looking(self, every: Duration) {
        while !self.is_closed() {
            tokio::select! {
                () = tokio::time::sleep(every) => {}
                () = self.closing() => return,
            }
            if let Err(error) = self.look().await {
                tracing::debug!(%error, "Redis could not be looked at");
            }
        }
    }

    /// A connection of its own, for calls that block. To the same process: what others call the
    /// primary by now may have another history, though nobody has told it so yet.
    pub async fn another(&self) -> Result<MultiplexedConnection, CallError> {
        let live = self.live().await?;
        let made = connect::blocking(&self.0.place, &live.node).await?;
        made.ok_or_else(|| {
            let why = "another Redis answers at its address";
            self.drop_live(live.generation, why);
            CallError::Unreachable(why.to_owned())
        })
    }

    /// An answer to one that [`another`](Self::another) made: where that process is no primary any
    /// more, the connection is made anew for all.
    pub fn was_answered(&self, generation: u64, error: &RedisError) {
        // What blocks on a primary that becomes a replica gets an answer of its own.
        if matches!(means(error), Means::ElseWhere) || error.code() == Some("UNBLOCKED") {
            self.drop_live(generation, &error.to_string());
        }
    }

    /// Tells when the connection was made anew: the primary may be another.
    pub fn generations(&self) -> watch::Receiver<u64> {
        self.0.generations.subscribe()
    }

    /// A connection that hears what is published.
    pub async fn pubsub(&self) -> Result<redis::aio::PubSub, CallError> {
        let live = self.live().await?;
        Ok(connect::pubsub(&self.0.place, &live.node).await?)
    }
}

/// An attempt to connect is over: who comes later makes another.
struct Over<'a>(&'a Link);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        *self.0.0.connecting.lock() = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A host that takes connections and never says a word.
    fn silent_host() -> std::net::TcpListener {
        let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        silent.set_nonblocking(true).unwrap();
        silent
    }

    fn link_to(address: &str) -> Link {
        let (address, fleet) = (address.parse().unwrap(), "test".to_owned());
        Link::new(Place { address, fleet, acks: 0, clock: None, opening: Opening::Serve })
    }

    fn attempts(at: &std::net::TcpListener) -> usize {
        std::iter::from_fn(|| at.accept().ok()).count()
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_for_an_attempt_shares_its_failure() {
        let silent = silent_host();
        let link = link_to(&format!("redis://{}", silent.local_addr().unwrap()));
        let begun = tokio::time::Instant::now();
        let calls: Vec<_> = (0..12)
            .map(|_| {
                let link = link.clone();
                tokio::spawn(async move { link.live().await.map(drop) })
            })
            .collect();
        for call in calls {
            let why = call.await.unwrap().unwrap_err();
            assert!(matches!(why, CallError::Unreachable(_)), "{why}");
        }
        let took = begun.elapsed();
        assert!(took < 2 * nodes::CONNECT_WITHIN, "{took:?}");
        assert_eq!(attempts(&silent), 1);
        // Who comes later makes an attempt of its own.
        assert!(link.live().await.is_err());
        assert_eq!(attempts(&silent), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn who_gives_up_waiting_ends_no_attempt() {
        let silent = silent_host();
        let link = link_to(&format!("redis://{}", silent.local_addr().unwrap()));
        for _ in 0..2 {
            let patience = nodes::CONNECT_WITHIN * 2 / 5;
            assert!(tokio::time::timeout(patience, link.live()).await.is_err());
        }
        assert!(link.live().await.is_err());
        assert_eq!(attempts(&silent), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn hosts_that_say_nothing_are_waited_for_together() {
        for topology in ["sentinel", "cluster"] {
            let silent: Vec<_> = (0..5).map(|_| silent_host()).collect();
            let hosts: Vec<_> =
                silent.iter().map(|host| host.local_addr().unwrap().to_string()).collect();
            let main = if topology == "sentinel" { "/main" } else { "" };
            let link = link_to(&format!("redis+{topology}://{}{main}", hosts.join(",")));
            let begun = tokio::time::Instant::now();
            assert!(link.live().await.is_err());
            let took = begun.elapsed();
            assert!(took < 2 * nodes::CONNECT_WITHIN, "{took:?}");
            assert!(silent.iter().all(|host| attempts(host) == 1), "each was asked");
        }
    }
}
