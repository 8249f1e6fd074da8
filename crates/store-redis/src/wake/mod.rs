//! Waiting workers of this process, and the wake-ups that Redis has for them.
//!
//! A process says for which profile and service somebody of it waits; a new job pushes one wake-up
//! for one able profile. One connection of the process blocks on the lists of its profiles. A
//! wake-up is a hint: whoever waits also looks by itself.

pub mod looks;

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use pointsman_core::{
    ConnectorId, Outage, Record, RecordKey, ServiceName, WorkerId,
    decide::{accepts, free_slots},
    matching::{CapabilitiesDigest, ClassKey, able, excludes},
};
use pointsman_store::StoreError;
use redis::aio::MultiplexedConnection;
use tokio::{
    sync::{Notify, oneshot},
    time::timeout,
};

use crate::{
    encoding::keys,
    link::{CallError, answered, list, text},
    store::Inner,
};

/// A process's word that somebody waits holds so long. A claim waits for half of it at most, and one
/// that begins to wait renews a word that is older than a third.
const WORD: Duration = Duration::from_secs(60);
/// Workers that were woken and have not looked yet.
const MAX_WOKEN: usize = 10_000;
/// One blocking call.
const BLOCK: Duration = Duration::from_secs(40);
/// What is cut off does not answer at all.
const BLOCK_ANSWERED: Duration = Duration::from_secs(45);
const AGAIN_AFTER: Duration = Duration::from_millis(500);
const UNBLOCK_EVERY: Duration = Duration::from_millis(20);

/// A profile and one of its services: what somebody waits with, and for.
type Waited = (CapabilitiesDigest, ServiceName);

/// Somebody who can be woken once, by whichever of its services comes first.
pub struct Wakeable(Mutex<Option<oneshot::Sender<()>>>);

impl Wakeable {
    pub fn new(wake: oneshot::Sender<()>) -> Arc<Self> {
        Arc::new(Self(Mutex::new(Some(wake))))
    }

    /// It was woken, or waits no longer.
    pub fn is_gone(&self) -> bool {
        self.0.lock().as_ref().is_none_or(oneshot::Sender::is_closed)
    }

    pub fn wake(&self) -> bool {
        self.0.lock().take().is_some_and(|wake| wake.send(()).is_ok())
    }
}

struct Waiter {
    worker: WorkerId,
    wake: Arc<Wakeable>,
}

#[derive(Default)]
struct Waiting {
    /// Oldest first.
    waiters: Vec<Waiter>,
    said_at: Option<Instant>,
    /// The blocking call waits on its list.
    is_listened_to: bool,
}

type New = (WorkerId, Vec<ServiceName>, Arc<Wakeable>);

/// The waiting workers of this process.
pub struct Wake {
    /// Names this process among those that wait.
    process: String,
    new: Mutex<Vec<New>>,
    /// Redis has not been told of everybody.
    is_unsettled: AtomicBool,
    /// One settles at a time: whoever comes next finds all of it done.
    settling: tokio::sync::Mutex<()>,
    waited: Mutex<BTreeMap<Waited, Waiting>>,
    /// Workers that were woken and have not looked since.
    woken: Mutex<HashSet<WorkerId>>,
    changed: Notify,
    listening: AtomicBool,
}

impl Wake {
    pub fn new() -> Self {
        Self {
            process: uuid::Uuid::new_v4().simple().to_string(),
            new: Mutex::default(),
            is_unsettled: AtomicBool::new(false),
            settling: tokio::sync::Mutex::default(),
            waited: Mutex::default(),
            woken: Mutex::default(),
            changed: Notify::new(),
            listening: AtomicBool::new(false),
        }
    }

    /// Whether the worker looks because it was woken.
    pub fn take_woken(&self, worker: &WorkerId) -> bool {
        self.woken.lock().remove(worker)
    }

    /// Notes a waiting worker; [`settle`](Self::settle) tells Redis.
    pub fn add(&self, worker: WorkerId, services: Vec<ServiceName>, wake: Arc<Wakeable>) {
        // Noted under the lock under which it is found settled.
        let mut new = self.new.lock();
        new.push((worker, services, wake));
        self.is_unsettled.store(true, Ordering::Release);
    }

    /// Tells Redis of everybody who began to wait: called before anything is looked at, so that
    /// what comes after that look wakes somebody. Whoever finds another at it waits for its end.
    pub async fn settle(inner: &Arc<Inner>) {
        if inner.wake.is_unsettled.load(Ordering::Acquire) {
            let telling = inner.clone();
            // Who asked may leave before its end; those who wait may not be forgotten for that.
            let told = inner.spawn(async move { telling.wake.tell_of_new(&telling).await });
            if let Err(error) = told.await {
                tracing::error!(%error, "nobody could be told who waits");
            }
        }
    }

    pub async fn tell_of_new(&self, inner: &Inner) {
        let _one = self.settling.lock().await;
        let new = std::mem::take(&mut *self.new.lock());
        if !new.is_empty()
            && let Err(error) = self.say(inner, new).await
        {
            // Whoever waits looks by itself, too.
            tracing::debug!(%error, "Redis does not know that somebody waits");
        }
        let new = self.new.lock();
        self.is_unsettled.store(!new.is_empty(), Ordering::Release);
    }

    async fn say(&self, inner: &Inner, new: Vec<New>) -> Result<(), StoreError> {
        let (mut is_unknown, mut is_unheard) = (false, false);
        for (worker, services, wake) in new {
            let key = RecordKey::Worker(worker.clone());
            let known = match inner.memory.get(&inner.link.epoch(), &key) {
                Some(record) => Some(record),
                // One that cannot be looked at looks by itself.
                None => inner.records(&[key]).await.unwrap_or_default().pop(),
            };
            // A worker that the store does not know is woken at once.
            let Some(Record::Worker(record)) = known else { continue };
            let all = record.services.iter().map(|slots| slots.name.clone());
            let services = if services.is_empty() { all.collect() } else { services };
            let mut waited = self.waited.lock();
            for service in services {
                let waiting = waited.entry((record.capabilities_digest, service)).or_default();
                waiting.waiters.retain(|waiter| !waiter.wake.is_gone());
                is_unknown |= waiting.said_at.is_none_or(|at| at.elapsed() > WORD / 3);
                is_unheard |= !waiting.is_listened_to;
                waiting.waiters.push(Waiter { worker: worker.clone(), wake: wake.clone() });
            }
        }
        if is_unheard {
            self.changed.notify_one();
        }
        if is_unknown { self.renew_word(inner).await } else { Ok(()) }
    }

    /// Says of each profile and service whether somebody waits.
    async fn renew_word(&self, inner: &Inner) -> Result<(), StoreError> {
        let mut args = vec![inner.link.given_time(), self.process.clone()];
        {
            let mut waited = self.waited.lock();
            for ((digest, service), waiting) in waited.iter_mut() {
                waiting.waiters.retain(|waiter| !waiter.wake.is_gone());
                let word = WORD.as_millis().to_string();
                let waits = !waiting.waiters.is_empty();
                waiting.said_at = waits.then(Instant::now);
                args.extend([service.to_string(), digest.to_string()]);
                args.push(if waits { word } else { String::new() });
            }
            waited.retain(|_, waiting| waiting.said_at.is_some());
        }
        let told = self.tell(inner, &args).await;
        if told.is_err() {
            self.waited.lock().values_mut().for_each(|waiting| waiting.said_at = None);
        }
        told
    }

    async fn tell(&self, inner: &Inner, args: &[String]) -> Result<(), StoreError> {
        if args.len() > 2 {
            let args: Vec<&[u8]> = args.iter().map(|arg| arg.as_bytes()).collect();
            inner.link.call("wait", &args).await?;
        }
        Ok(())
    }

    /// Takes the word back: nobody of this process waits any more.
    pub async fn leave(&self, inner: &Inner) -> Result<(), StoreError> {
        let mut args = vec![inner.link.given_time(), self.process.clone()];
        for ((digest, service), waiting) in std::mem::take(&mut *self.waited.lock()) {
            if waiting.said_at.is_some() {
                args.extend([service.to_string(), digest.to_string(), String::new()]);
            }
        }
        self.tell(inner, &args).await
    }

    /// Starts the task that blocks on the wake-ups, once.
    pub fn listen(&self, inner: &Arc<Inner>) {
        if self.listening.swap(true, Ordering::AcqRel) {
            return;
        }
        let all = inner.clone();
        inner.spawn(async move {
            let mut outage = Outage::default();
            while !all.link.is_closed() {
                if let Err(why) = all.wake.hear(&all, &mut outage).await {
                    if all.link.is_news(&mut outage, &why) {
                        tracing::warn!(why, "wake-ups are not heard; workers look by themselves");
                    }
                    tokio::time::sleep(AGAIN_AFTER).await;
                }
            }
        });
    }

    async fn hear(&self, inner: &Arc<Inner>, outage: &mut Outage) -> Result<(), String> {
        let mut generations = inner.link.generations();
        let generation = *generations.borrow();
        let mut connection = inner.link.another().await.map_err(|error| error.to_string())?;
        self.say_the_unsaid(inner).await;
        let id = redis::cmd("CLIENT").arg("ID").query_async(&mut connection).await;
        let id: i64 = id.map_err(|error| error.to_string())?;
        if let Some(away) = outage.works(Instant::now()) {
            tracing::info!(?away, "wake-ups are heard again");
        }
        tokio::select! {
            heard = self.hear_on(inner, &mut connection, generation, id) => heard,
            // A primary that froze says nothing, and ends nothing either.
            _ = generations.changed() => Ok(()),
        }
    }

    /// What could not be said while Redis was away.
    async fn say_the_unsaid(&self, inner: &Inner) {
        // In turns with who says something else of the same profiles.
        let _one = self.settling.lock().await;
        let is_unsaid = self.waited.lock().values().any(|waiting| waiting.said_at.is_none());
        if is_unsaid && let Err(error) = self.renew_word(inner).await {
            tracing::debug!(%error, "Redis does not know that somebody waits");
        }
    }

    async fn hear_on(
        &self,
        inner: &Arc<Inner>,
        connection: &mut MultiplexedConnection,
        generation: u64,
        id: i64,
    ) -> Result<(), String> {
        while !inner.link.is_closed() {
            let waited = self.waited_for();
            if waited.is_empty() {
                tokio::select! {
                    () = self.changed.notified() => {}
                    () = inner.link.closing() => return Ok(()),
                }
                continue;
            }
            let mut pop = redis::cmd("BLPOP");
            let mut names: HashMap<String, Waited> = HashMap::new();
            for waited in waited {
                let name = inner.key(&keys::wake(&waited.0, &waited.1));
                pop.arg(&name);
                names.insert(name, waited);
            }
            pop.arg(BLOCK.as_secs());
            let mut popped = pin!(timeout(BLOCK_ANSWERED, connection.send_packed_command(&pop)));
            let popped = tokio::select! {
                biased;
                popped = &mut popped => popped,
                () = inner.link.closing() => return Ok(()),
                failed = self.interrupt(inner, id) => return Err(failed.to_string()),
            };
            let popped = answered(popped.map_err(|_| "no answer".to_owned())?);
            let popped = popped.map_err(|error| {
                inner.link.was_answered(generation, &error);
                error.to_string()
            })?;
            let [name, class] = list(&popped) else { continue };
            if let Some(waited) = names.get(&text(name)) {
                let delivered = self.deliver(inner, waited, &text(class)).await;
                delivered.map_err(|error| error.to_string())?;
            }
        }
        Ok(())
    }

    /// Makes the blocking call end once somebody waits with what it does not listen to, so that it
    /// begins anew with that. Asked again and again, as the call may not be there yet. Answers
    /// only why that is not possible.
    async fn interrupt(&self, inner: &Inner, id: i64) -> CallError {
        self.changed.notified().await;
        loop {
            if let Err(error) = inner.link.send(redis::cmd("CLIENT").arg("UNBLOCK").arg(id)).await {
                return error;
            }
            tokio::time::sleep(UNBLOCK_EVERY).await;
        }
    }

    fn waited_for(&self) -> Vec<Waited> {
        let mut waited = self.waited.lock();
        for waiting in waited.values_mut() {
            waiting.waiters.retain(|waiter| !waiter.wake.is_gone());
            waiting.is_listened_to = !waiting.waiters.is_empty();
        }
        let listened_to = waited.iter().filter(|(_, waiting)| waiting.is_listened_to);
        listened_to.map(|(waited, _)| waited.clone()).collect()
    }

    /// Before it is woken: it may look at once.
    fn note_woken(&self, worker: &WorkerId) {
        let mut woken = self.woken.lock();
        // Of those that never came to look. To forget one costs it two cheap questions.
        if woken.len() >= MAX_WOKEN {
            woken.clear();
        }
        woken.insert(worker.clone());
    }

    /// Hands a wake-up to a worker that would not look in vain, or back to Redis for another
    /// process.
    async fn deliver(&self, inner: &Inner, waited: &Waited, token: &str) -> Result<(), StoreError> {
        let (class, hops) = token.split_once(' ').unwrap_or((token, "0"));
        let waiting: Vec<(WorkerId, Arc<Wakeable>)> = {
            let all = self.waited.lock();
            let waiters = all.get(waited).map(|waiting| &waiting.waiters[..]).unwrap_or_default();
            let there = waiters.iter().filter(|waiter| !waiter.wake.is_gone());
            there.map(|waiter| (waiter.worker.clone(), waiter.wake.clone())).collect()
        };
        for (worker, wake) in waiting {
            if !takes(inner, &worker, waited, class).await? {
                continue;
            }
            self.note_woken(&worker);
            if wake.wake() {
                return Ok(());
            }
            self.take_woken(&worker);
        }
        // Of a class that is new Redis does not know yet whether the profile is able.
        let is_able = is_able(inner, waited, class).await?;
        let time = inner.link.given_time();
        let profile = waited.0.to_string();
        let is_able = if is_able { "1" } else { "" };
        let args = [&time, class, waited.1.as_str(), hops, &self.process, &profile, is_able];
        let args = args.map(str::as_bytes);
        inner.link.call("pass_on", &args).await?;
        Ok(())
    }
}

/// Whether a profile's workers can run jobs of a class that is there.
async fn is_able(inner: &Inner, waited: &Waited, class: &str) -> Result<bool, StoreError> {
    let Ok(key) = class.parse::<ClassKey>() else { return Ok(false) };
    let classes = inner.definitions.classes(&inner.link, &[key]).await?;
    let profile = inner.definitions.profile(&inner.link, waited.0).await?;
    let both = classes.get(&key).zip(profile);
    Ok(both.is_some_and(|(class, profile)| able(class, &profile)))
}

/// Whether the worker would get a job of the class now.
async fn takes(
    inner: &Inner,
    worker: &WorkerId,
    (digest, service): &Waited,
    class: &str,
) -> Result<bool, StoreError> {
    let Ok(key) = class.parse::<ClassKey>() else { return Ok(true) };
    let classes = inner.definitions.classes(&inner.link, &[key]).await?;
    // Of a class that vanished meanwhile there is nothing left.
    let (Some(class), Some(profile)) =
        (classes.get(&key), inner.definitions.profile(&inner.link, *digest).await?)
    else {
        return Ok(false);
    };
    if !able(class, &profile) || excludes(class, worker) {
        return Ok(false);
    }
    let connector = ConnectorId::new(worker.clone(), service.clone());
    let keys = [RecordKey::Worker(worker.clone()), RecordKey::Connector(connector)];
    let has_room = |records: &[Record]| {
        matches!(records, [Record::Worker(worker), Record::Connector(connector)]
            if accepts(worker, inner.link.now()) && free_slots(worker, service, connector) > 0)
    };
    // What is remembered is nearly always so, and a hint may be wrong.
    let epoch = inner.link.epoch();
    let remembered = keys.iter().filter_map(|key| inner.memory.get(&epoch, key));
    let remembered: Vec<Record> = remembered.collect();
    Ok(has_room(&remembered) || has_room(&inner.records(&keys).await?))
}
