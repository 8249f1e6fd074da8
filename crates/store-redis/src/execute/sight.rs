//! What a decision sees: records that were read lately, or now. A commit compares them with the
//! store, so what is out of date costs another try and never a wrong decision.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    num::NonZeroUsize,
    sync::Arc,
};

use lru::LruCache;
use parking_lot::{Mutex, MutexGuard};
use pointsman_core::{
    Event, Record, RecordKey, Timestamp, WorkerId,
    decide::{KeptIdempotency, Key, Source, Unread, Value},
    hex,
};
use pointsman_store::{Epoch, StoreError};

use crate::{
    encoding::{
        fields::{self, Fields},
        keys,
    },
    link::{Link, bytes, list, number, odd, text},
    plan::Before,
};

/// Records remembered at most.
const REMEMBERED: usize = 20_000;

/// The records that this process read or wrote last, all of one epoch: in another one the same `rev`
/// may mean something else. Asked about another, it forgets everything.
pub struct Memory(Mutex<Remembered>);

struct Remembered {
    epoch: Option<Epoch>,
    records: LruCache<RecordKey, Known>,
}

/// A record, and the fields of its hash if they are known.
#[derive(Debug, Clone)]
pub struct Known {
    pub record: Record,
    pub fields: Option<Arc<Fields>>,
}

impl Default for Memory {
    fn default() -> Self {
        let most = NonZeroUsize::new(REMEMBERED).unwrap_or(NonZeroUsize::MIN);
        Self(Mutex::new(Remembered { epoch: None, records: LruCache::new(most) }))
    }
}

impl Remembered {
    fn put(&mut self, record: &Record) {
        let known = Known { record: record.clone(), fields: None };
        self.records.put(record.key(), known);
    }
}

impl Memory {
    fn of(&self, epoch: &Epoch) -> MutexGuard<'_, Remembered> {
        let mut memory = self.0.lock();
        if memory.epoch.as_ref() != Some(epoch) {
            memory.records.clear();
            memory.epoch = Some(epoch.clone());
        }
        memory
    }

    pub fn get(&self, epoch: &Epoch, key: &RecordKey) -> Option<Record> {
        self.known(epoch, key).map(|known| known.record)
    }

    pub fn known(&self, epoch: &Epoch, key: &RecordKey) -> Option<Known> {
        self.of(epoch).records.get(key).cloned()
    }

    pub fn put(&self, epoch: &Epoch, record: &Record) {
        self.of(epoch).put(record);
    }

    pub fn forget(&self, key: &RecordKey) {
        self.0.lock().records.pop(key);
    }

    pub fn clear(&self) {
        self.0.lock().records.clear();
    }

    /// What a transition left behind. Ended jobs are not asked for again soon.
    pub fn follow(&self, epoch: &Epoch, events: &[Event]) {
        let mut memory = self.of(epoch);
        for event in events {
            match &event.record {
                Some(Record::Job(job)) if !job.is_running() => {
                    drop(memory.records.pop(&event.key));
                }
                Some(record) => memory.put(record),
                None => drop(memory.records.pop(&event.key)),
            }
        }
    }

    /// The fields of a record that it has just been told of.
    pub fn keep_fields(&self, epoch: &Epoch, key: &RecordKey, fields: Arc<Fields>) {
        if let Some(known) = self.of(epoch).records.get_mut(key) {
            known.fields = Some(fields);
        }
    }
}

/// Everything that one decision was shown.
pub struct Sight<'a> {
    link: &'a Link,
    memory: &'a Memory,
    /// In which this is seen. What is decided on it must be committed in no other.
    epoch: &'a Epoch,
    /// Nothing is taken from memory.
    fresh: bool,
    values: BTreeMap<Key, Option<Value>>,
    fields: HashMap<RecordKey, Arc<Fields>>,
    /// Passed over; see [`look_at_readable`](Self::look_at_readable).
    unreadable: BTreeSet<RecordKey>,
    /// Something came from memory, or was guessed.
    guessed: bool,
}

impl Source for Sight<'_> {
    fn get(&self, key: &Key) -> Result<Option<Value>, Unread> {
        self.values.get(key).cloned().ok_or_else(|| Unread(key.clone()))
    }
}

impl<'a> Sight<'a> {
    pub fn new(link: &'a Link, memory: &'a Memory, epoch: &'a Epoch, fresh: bool) -> Self {
        Self {
            link,
            memory,
            epoch,
            fresh,
            values: BTreeMap::new(),
            fields: HashMap::new(),
            unreadable: BTreeSet::new(),
            guessed: false,
        }
    }

    pub fn is_guessed(&self) -> bool {
        self.guessed
    }

    /// Sees a record that was just read.
    pub fn show(&mut self, key: RecordKey, record: Option<Record>) {
        self.values.insert(Key::Record(key), record.map(Value::Record));
    }

    /// Takes something as absent without looking; what is new usually is.
    pub fn guess_absent(&mut self, key: Key) {
        if !self.fresh {
            self.guessed = true;
            self.values.insert(key, None);
        }
    }

    /// The records seen, for what follows from their change.
    pub fn before(&self) -> Before {
        let mut before = Before::default();
        for (key, value) in &self.values {
            match (key, value) {
                (Key::Record(key), Some(Value::Record(record))) => {
                    let fields = self.fields.get(key).cloned();
                    before.put(key.clone(), Some(Known { record: record.clone(), fields }));
                }
                (Key::Record(key), None) => before.put(key.clone(), None),
                _ => {}
            }
        }
        before
    }

    pub fn record(&self, key: &RecordKey) -> Option<Record> {
        match self.values.get(&Key::Record(key.clone())) {
            Some(Some(Value::Record(record))) => Some(record.clone()),
            _ => None,
        }
    }

    /// Sees these too: from memory where that may be, else from the store, all in one step.
    pub async fn look_at(&mut self, keys: impl IntoIterator<Item = Key>) -> Result<(), StoreError> {
        for (key, value) in self.look(keys).await? {
            self.values.insert(key, value?);
        }
        Ok(())
    }

    /// The same, but a record that cannot be read is as good as absent, and may change meanwhile: one
    /// that somebody broke must not keep a worker from the others.
    pub async fn look_at_readable(
        &mut self,
        keys: impl IntoIterator<Item = RecordKey>,
    ) -> Result<(), StoreError> {
        for (key, value) in self.look(keys.into_iter().map(Key::Record)).await? {
            let value = match (value, &key) {
                (Ok(value), _) => value,
                (Err(error), Key::Record(record)) => {
                    tracing::error!(%error, "a record is passed over; see `pointsman doctor`");
                    self.unreadable.insert(record.clone());
                    None
                }
                (Err(error), _) => return Err(error),
            };
            self.values.insert(key, value);
        }
        Ok(())
    }

    pub fn is_unreadable(&self, key: &RecordKey) -> bool {
        self.unreadable.contains(key)
    }

    /// What has to be read of these, and was.
    async fn look(&mut self, keys: impl IntoIterator<Item = Key>) -> Result<Values, StoreError> {
        let mut wanted = Vec::new();
        for key in keys {
            if self.values.contains_key(&key) || wanted.contains(&key) {
                continue;
            }
            let known = match &key {
                Key::Record(key) if !self.fresh => self.memory.known(self.epoch, key),
                _ => None,
            };
            match known {
                Some(Known { record, fields }) => {
                    self.guessed = true;
                    if let (Key::Record(key), Some(fields)) = (&key, fields) {
                        self.fields.insert(key.clone(), fields);
                    }
                    self.values.insert(key, Some(Value::Record(record)));
                }
                None => wanted.push(key),
            }
        }
        if wanted.is_empty() {
            return Ok(Vec::new());
        }
        let (values, epoch, _) = read(self.link, &wanted).await?;
        // Another one began meanwhile: a commit will not do, nor is a refusal worth anything.
        self.guessed |= epoch != *self.epoch;
        for (_, value) in &values {
            if let Ok(Some(Value::Record(record))) = value {
                self.memory.put(&epoch, record);
            }
        }
        Ok(values)
    }
}

/// What each key holds.
type Values = Vec<(Key, Result<Option<Value>, StoreError>)>;

/// Reads keys in one step, and the store's epoch and time then.
pub async fn read(link: &Link, wanted: &[Key]) -> Result<(Values, Epoch, Timestamp), StoreError> {
    for _ in 0..3 {
        let (time, epoch) = (link.given_time(), link.epoch());
        let mut args: Vec<String> = vec![time, epoch.to_string()];
        for key in wanted {
            let (kind, name) = match key {
                Key::Record(key) => ("hash", keys::record(key)),
                Key::Idempotency(key) => ("text", keys::idempotency(key)),
                Key::GroupPlace(group) => ("first", keys::group(group)),
                Key::WorkersOf(machine) => ("members", keys::workers_of(machine)),
            };
            args.extend([kind.to_owned(), name]);
        }
        let args: Vec<&[u8]> = args.iter().map(|arg| arg.as_bytes()).collect();
        let answer = link.call("load", &args).await?;
        if link.is_of_another_epoch(&answer) {
            continue;
        }
        let [state, now, found] = list(&answer) else {
            return Err(StoreError::Failed(odd(&answer)));
        };
        if text(state) != "ok" {
            return Err(StoreError::Failed(odd(&answer)));
        }
        let Some(now) = number(now) else {
            return Err(StoreError::Failed(odd(&answer)));
        };
        link.saw_time(now);
        let now = Timestamp::from_millis(now);
        let values = wanted.iter().zip(list(found));
        let values = values.map(|(key, found)| (key.clone(), value(key, found, now)));
        return Ok((values.collect(), epoch, now));
    }
    Err(StoreError::Failed("the store's epoch changes again and again".into()))
}

fn value(key: &Key, found: &redis::Value, now: Timestamp) -> Result<Option<Value>, StoreError> {
    let corrupt = StoreError::Damaged;
    let parts = list(found);
    let first = parts.first().and_then(bytes).and_then(|bytes| std::str::from_utf8(bytes).ok());
    Ok(match key {
        Key::Record(key) => {
            record(key, found).map_err(|error| corrupt(error.to_string()))?.map(Value::Record)
        }
        Key::Idempotency(_) => first
            .and_then(kept)
            .filter(|kept| kept.until > now)
            .map(|KeptIdempotency { job, body, .. }| Value::Idempotency { job, body }),
        Key::GroupPlace(_) => match first {
            Some(place) => {
                let place = place.parse().map_err(|_| corrupt(format!("place {place:?}")))?;
                Some(Value::GroupPlace(place))
            }
            None => None,
        },
        Key::WorkersOf(_) => {
            let workers = parts.iter().map(|id| text(id).parse::<WorkerId>());
            let mut workers: Vec<WorkerId> =
                workers.collect::<Result<_, _>>().map_err(|error| corrupt(error.to_string()))?;
            workers.sort();
            Some(Value::WorkersOf(workers))
        }
    })
}

/// A record as `HGETALL` gives it.
pub fn record(
    key: &RecordKey,
    found: &redis::Value,
) -> Result<Option<Record>, fields::FieldsError> {
    let parts: Vec<&[u8]> = match found {
        redis::Value::Map(pairs) => {
            pairs.iter().flat_map(|(k, v)| [bytes(k), bytes(v)]).flatten().collect()
        }
        found => list(found).iter().filter_map(bytes).collect(),
    };
    let pairs: Vec<(&[u8], &[u8])> = parts.chunks_exact(2).map(|pair| (pair[0], pair[1])).collect();
    fields::to_record(key.kind(), &keys::record(key), &pairs)
}

/// What is kept of an idempotency key.
pub fn kept(text: &str) -> Option<KeptIdempotency> {
    let mut parts = text.split(' ');
    let (job, body, until) = (parts.next()?, parts.next()?, parts.next()?);
    let until = Timestamp::from_millis(until.parse().ok()?);
    Some(KeptIdempotency { job: job.parse().ok()?, body: hex::decode(body)?, until })
}
