//! The queues: one a class, and the order of their heads.
//!
//! A claim takes the best head among the classes that the worker can serve. It walks whichever is
//! shorter, the heads in order or the worker's own classes; so its cost grows neither with the
//! jobs that wait nor, noticeably, with the classes.

mod picker;

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet, HashMap, VecDeque},
    ops::Bound,
    sync::Arc,
};

use pointsman_core::{
    JobId, Seq, ServiceName, Timestamp,
    decide::limits,
    matching::{Capabilities, CapabilitiesDigest, Class, ClassKey, PoisonousClass, able},
    record::Job,
};

/// A class's number while it lives; reused after it vanished.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClassIx(u32);

/// The one order of jobs: higher priority first, then place, then seq.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct QueueKey {
    priority: Reverse<u8>,
    place: u64,
    seq: Seq,
}

/// The best key of a class that waits.
type Head = (QueueKey, ClassIx);

impl QueueKey {
    pub fn of(job: &Job) -> Self {
        Self {
            priority: Reverse(job.spec.effective_priority()),
            place: job.place,
            seq: job.queued_seq,
        }
    }

    /// No key of its priority comes after it.
    fn last_of_priority(self) -> Self {
        Self { priority: self.priority, place: u64::MAX, seq: Seq::MAX }
    }
}

#[derive(Debug)]
pub(crate) struct ClassEntry {
    pub key: ClassKey,
    pub class: Arc<Class>,
    /// The class without exclusions: what losses are counted under.
    pub base: ClassKey,
    pub waiting: BTreeMap<QueueKey, JobId>,
    /// Pending jobs that are not in the queue.
    pub held: u64,
    /// Jobs that have not ended; the class vanishes with the last.
    live: u64,
}

impl ClassEntry {
    pub fn live(&self) -> u64 {
        self.live
    }

    /// The first waiting job of each priority.
    pub fn firsts(&self) -> impl Iterator<Item = &JobId> {
        let after = |key: &QueueKey| {
            let after = (Bound::Excluded(key.last_of_priority()), Bound::Unbounded);
            self.waiting.range(after).next()
        };
        let first = self.waiting.first_key_value();
        std::iter::successors(first, move |(key, _)| after(key)).map(|(_, id)| id)
    }
}

/// Workers with equal capabilities.
#[derive(Debug)]
struct Profile {
    capabilities: Arc<Capabilities>,
    /// The classes it can serve, by service.
    servable: HashMap<ServiceName, BTreeSet<ClassIx>>,
}

#[derive(Debug, Default)]
struct BaseStats {
    losses: Losses,
    running: u32,
    classes: u32,
}

impl BaseStats {
    fn is_poisonous(&self) -> bool {
        self.losses.in_a_row >= limits::POISONOUS_AFTER
    }
}

/// A class's losses in a row.
#[derive(Debug, Clone, Copy, Default)]
pub struct Losses {
    pub in_a_row: u32,
    pub last_at: Option<Timestamp>,
}

impl Losses {
    /// One more in a row. Attempts that ran while another was lost are of the same incident (a machine
    /// that died with many of them) and do not count again.
    pub fn note_loss(&mut self, assigned_at: Timestamp, lost_at: Timestamp) {
        if self.last_at.is_none_or(|last| assigned_at >= last) {
            self.in_a_row += 1;
            self.last_at = Some(lost_at);
        }
    }
}

/// All queues of a store.
#[derive(Debug, Default)]
pub struct ClassQueues {
    classes: Vec<Option<ClassEntry>>,
    free: Vec<ClassIx>,
    by_key: HashMap<ClassKey, ClassIx>,
    heads: HashMap<ServiceName, BTreeSet<Head>>,
    profiles: HashMap<CapabilitiesDigest, Profile>,
    bases: HashMap<ClassKey, BaseStats>,
    /// Bases without a live class whose losses are still remembered, the longest first.
    idle_bases: VecDeque<ClassKey>,
    /// Pending jobs of all classes that are not in their queues.
    held: u64,
}

impl ClassQueues {
    pub(crate) fn entry(&self, ix: ClassIx) -> Option<&ClassEntry> {
        self.classes.get(ix.0 as usize)?.as_ref()
    }

    pub(crate) fn entry_of(&self, key: &ClassKey) -> Option<&ClassEntry> {
        self.entry(*self.by_key.get(key)?)
    }

    fn entry_mut(&mut self, ix: ClassIx) -> Option<&mut ClassEntry> {
        self.classes.get_mut(ix.0 as usize)?.as_mut()
    }

    pub(crate) fn entries(&self) -> impl Iterator<Item = (ClassIx, &ClassEntry)> {
        let numbered = (0..).map(ClassIx).zip(&self.classes);
        numbered.filter_map(|(ix, entry)| Some((ix, entry.as_ref()?)))
    }

    /// Classes whose best job is not among the heads; none in sound queues.
    pub(crate) fn out_of_order(&self) -> impl Iterator<Item = ClassKey> + '_ {
        let misses = |(ix, entry): &(ClassIx, &ClassEntry)| {
            entry.waiting.first_key_value().is_some_and(|(key, _)| {
                let heads = self.heads.get(&entry.class.service);
                heads.is_none_or(|heads| !heads.contains(&(*key, *ix)))
            })
        };
        self.entries().filter(misses).map(|(_, entry)| entry.key)
    }

    pub(crate) fn profiles(
        &self,
    ) -> impl Iterator<Item = (&CapabilitiesDigest, &Arc<Capabilities>)> {
        self.profiles.iter().map(|(digest, profile)| (digest, &profile.capabilities))
    }

    /// Takes over from other queues what they know of losses.
    pub(crate) fn remember_losses(&mut self, other: &Self) {
        for (base, stats) in other.bases.iter().filter(|(_, stats)| stats.losses.in_a_row > 0) {
            self.bases.entry(*base).or_default().losses = stats.losses;
        }
        self.idle_bases.clone_from(&other.idle_bases);
    }

    /// Puts back what was known of a class without exclusions; those lost last come last.
    pub(crate) fn restore_losses(&mut self, base: ClassKey, losses: Losses) {
        let stats = self.bases.entry(base).or_default();
        stats.losses = losses;
        if stats.classes == 0 {
            self.rest_base(base);
        }
    }

    pub fn live_classes(&self) -> usize {
        self.by_key.len()
    }

    pub fn has_class(&self, key: &ClassKey) -> bool {
        self.by_key.contains_key(key)
    }

    /// The live class that is equal to this one, preferences included.
    pub fn known(&self, class: &Class) -> Option<&Arc<Class>> {
        let known = &self.entry(*self.by_key.get(&class.key())?)?.class;
        (known.requirements == class.requirements).then_some(known)
    }

    /// The class of a job that has not ended; call [`ClassQueues::leave`] for each call of this.
    pub fn join(&mut self, class: Class) -> ClassIx {
        let key = class.key();
        let ix = self.by_key.get(&key).copied().unwrap_or_else(|| self.add(key, class));
        if let Some(entry) = self.entry_mut(ix) {
            entry.live += 1;
        }
        ix
    }

    fn add(&mut self, key: ClassKey, class: Class) -> ClassIx {
        let base = class.base();
        self.bases.entry(base).or_default().classes += 1;
        let ix = self.free.pop().unwrap_or_else(|| {
            self.classes.push(None);
            ClassIx(u32::try_from(self.classes.len() - 1).unwrap_or(u32::MAX))
        });
        for profile in self.profiles.values_mut() {
            if able(&class, &profile.capabilities) {
                profile.servable.entry(class.service.clone()).or_default().insert(ix);
            }
        }
        let class = Arc::new(class);
        let waiting = BTreeMap::new();
        self.classes[ix.0 as usize] =
            Some(ClassEntry { key, class, base, waiting, held: 0, live: 0 });
        self.by_key.insert(key, ix);
        ix
    }

    pub fn leave(&mut self, ix: ClassIx) {
        let Some(entry) = self.entry_mut(ix) else { return };
        entry.live -= 1;
        if entry.live > 0 {
            return;
        }
        let Some(entry) = self.classes[ix.0 as usize].take() else { return };
        self.by_key.remove(&entry.key);
        for profile in self.profiles.values_mut() {
            if let Some(servable) = profile.servable.get_mut(&entry.class.service) {
                servable.remove(&ix);
            }
        }
        self.free.push(ix);
        self.leave_base(entry.base);
    }

    /// Losses are remembered beyond the last job, for jobs that come one by one; of so many
    /// classes at most.
    fn leave_base(&mut self, base: ClassKey) {
        let Some(stats) = self.bases.get_mut(&base) else { return };
        stats.classes -= 1;
        if stats.classes > 0 {
            return;
        }
        if stats.losses.in_a_row == 0 {
            self.bases.remove(&base);
            return;
        }
        self.rest_base(base);
    }

    fn rest_base(&mut self, base: ClassKey) {
        self.idle_bases.retain(|idle| *idle != base);
        self.idle_bases.push_back(base);
        if self.idle_bases.len() > limits::IDLE_BASES
            && let Some(oldest) = self.idle_bases.pop_front()
            && self.bases.get(&oldest).is_some_and(|stats| stats.classes == 0)
        {
            self.bases.remove(&oldest);
        }
    }

    pub fn push(&mut self, ix: ClassIx, key: QueueKey, job: JobId) {
        self.change(ix, |waiting| {
            waiting.insert(key, job);
        });
    }

    pub fn remove(&mut self, ix: ClassIx, key: &QueueKey) {
        self.change(ix, |waiting| {
            waiting.remove(key);
        });
    }

    /// Changes a class's queue and keeps the order of heads true to it.
    fn change(&mut self, ix: ClassIx, how: impl FnOnce(&mut BTreeMap<QueueKey, JobId>)) {
        let Some(Some(entry)) = self.classes.get_mut(ix.0 as usize) else { return };
        let before = entry.waiting.first_key_value().map(|(key, _)| *key);
        how(&mut entry.waiting);
        let after = entry.waiting.first_key_value().map(|(key, _)| *key);
        if before == after {
            return;
        }
        let heads = self.heads.entry(entry.class.service.clone()).or_default();
        before.map(|key| heads.remove(&(key, ix)));
        after.map(|key| heads.insert((key, ix)));
    }

    pub fn held(&mut self, ix: ClassIx, by: i64) {
        if let Some(entry) = self.entry_mut(ix) {
            entry.held = entry.held.saturating_add_signed(by);
            self.held = self.held.saturating_add_signed(by);
        }
    }

    /// Pending jobs that are not in their queues, over all classes.
    pub fn held_jobs(&self) -> u64 {
        self.held
    }

    pub fn running(&mut self, ix: ClassIx, by: i32) {
        let Some(base) = self.entry(ix).map(|entry| entry.base) else { return };
        if let Some(stats) = self.bases.get_mut(&base) {
            stats.running = stats.running.saturating_add_signed(by);
        }
    }

    /// See [`Losses::note_loss`].
    pub fn note_loss(&mut self, ix: ClassIx, assigned_at: Timestamp, lost_at: Timestamp) {
        let Some(base) = self.entry(ix).map(|entry| entry.base) else { return };
        if let Some(stats) = self.bases.get_mut(&base) {
            stats.losses.note_loss(assigned_at, lost_at);
        }
    }

    /// A completion proves the class.
    pub fn note_completion(&mut self, ix: ClassIx) {
        let Some(base) = self.entry(ix).map(|entry| entry.base) else { return };
        if let Some(stats) = self.bases.get_mut(&base) {
            stats.losses = Losses::default();
        }
    }

    /// The losses in a row of a class, to be put back by [`ClassQueues::set_losses`].
    pub fn losses(&self, ix: ClassIx) -> Option<(ClassKey, Losses)> {
        let base = self.entry(ix)?.base;
        Some((base, self.bases.get(&base)?.losses))
    }

    pub fn set_losses(&mut self, base: &ClassKey, losses: Losses) {
        if let Some(stats) = self.bases.get_mut(base) {
            stats.losses = losses;
        }
    }

    /// Live classes that lose job after job, with the losses in a row.
    pub fn poisonous(&self) -> impl Iterator<Item = (ClassKey, u32)> + '_ {
        self.bases
            .iter()
            .filter(|(_, stats)| stats.classes > 0 && stats.is_poisonous())
            .map(|(key, stats)| (*key, stats.losses.in_a_row))
    }

    /// How the class is held back, if it is poisonous.
    pub fn poisonous_class(&self, ix: ClassIx) -> Option<PoisonousClass> {
        let stats = self.bases.get(&self.entry(ix)?.base)?;
        let poisonous =
            PoisonousClass { losses: stats.losses.in_a_row, probing: stats.running > 0 };
        stats.is_poisonous().then_some(poisonous)
    }

    fn is_healthy(&self, base: &ClassKey) -> bool {
        self.bases.get(base).is_none_or(|stats| !stats.is_poisonous())
    }

    /// A poisonous class is held to one probe at a time.
    fn may_run(&self, entry: &ClassEntry) -> bool {
        self.bases.get(&entry.base).is_none_or(|stats| !stats.is_poisonous() || stats.running == 0)
    }

    pub fn add_profile(&mut self, digest: CapabilitiesDigest, capabilities: &Arc<Capabilities>) {
        if self.profiles.contains_key(&digest) {
            return;
        }
        let mut servable: HashMap<ServiceName, BTreeSet<ClassIx>> = HashMap::new();
        for (&ix, entry) in self.by_key.values().filter_map(|ix| Some((ix, self.entry(*ix)?))) {
            if able(&entry.class, capabilities) {
                servable.entry(entry.class.service.clone()).or_default().insert(ix);
            }
        }
        let capabilities = capabilities.clone();
        self.profiles.insert(digest, Profile { capabilities, servable });
    }

    pub fn drop_profile(&mut self, digest: &CapabilitiesDigest) {
        self.profiles.remove(digest);
    }

    /// Drops the profiles that no worker has.
    pub fn retain_profiles(&mut self, in_use: impl Fn(&CapabilitiesDigest) -> bool) {
        self.profiles.retain(|digest, _| in_use(digest));
    }

    pub fn capabilities(&self, digest: &CapabilitiesDigest) -> Option<&Arc<Capabilities>> {
        self.profiles.get(digest).map(|profile| &profile.capabilities)
    }

    pub fn serves(&self, digest: &CapabilitiesDigest, ix: ClassIx) -> bool {
        let Some(entry) = self.entry(ix) else { return false };
        self.profiles.get(digest).is_some_and(|profile| {
            profile.servable.get(&entry.class.service).is_some_and(|set| set.contains(&ix))
        })
    }

    pub fn serves_key(&self, digest: &CapabilitiesDigest, key: &ClassKey) -> bool {
        self.by_key.get(key).is_some_and(|ix| self.serves(digest, *ix))
    }

    /// At most `limit` classes with pending jobs, those with the oldest heads first.
    pub(crate) fn by_head(&self, limit: usize) -> Vec<&ClassEntry> {
        let age = |entry: &&ClassEntry| {
            let head = entry.waiting.first_key_value().map(|(key, _)| key.seq);
            (head.is_none(), head, entry.key)
        };
        let mut entries: Vec<&ClassEntry> =
            self.classes.iter().flatten().filter(|e| e.held > 0 || !e.waiting.is_empty()).collect();
        if limit < entries.len() {
            entries.select_nth_unstable_by_key(limit, age);
            entries.truncate(limit);
        }
        entries.sort_unstable_by_key(age);
        entries
    }

    /// The first waiting jobs over all classes, in the order of claims. Looks at no more heads
    /// than it returns jobs.
    pub fn first_waiting(&self, limit: usize) -> Vec<JobId> {
        let mut walks: Vec<_> = self.heads.values().map(|heads| heads.iter().peekable()).collect();
        let mut next: BTreeSet<Head> = BTreeSet::new();
        let mut jobs = Vec::with_capacity(limit.min(256));
        while jobs.len() < limit {
            let walk = walks.iter_mut().filter_map(|w| Some((**w.peek()?, w)));
            let walked = walk.min_by_key(|(head, _)| *head);
            let (key, ix) = match (next.first().copied(), walked) {
                (Some(head), Some((other, _))) if head < other => head,
                (_, Some((head, walk))) => {
                    walk.next();
                    head
                }
                (Some(head), None) => head,
                (None, None) => break,
            };
            next.remove(&(key, ix));
            let Some(entry) = self.entry(ix) else { continue };
            jobs.extend(entry.waiting.get(&key));
            let after = (Bound::Excluded(key), Bound::Unbounded);
            next.extend(entry.waiting.range(after).next().map(|(key, _)| (*key, ix)));
        }
        jobs
    }
}
