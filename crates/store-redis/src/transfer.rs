//! Moving the store: its intake, what an export reads, and what an import writes.

use std::collections::BTreeMap;

use async_trait::async_trait;
use pointsman_core::{
    JobId, Record, RecordKind, WorkerId,
    command::IdempotencyKey,
    decide::{KeptIdempotency, KeptResult},
};
use pointsman_store::{
    Epoch, Health, Intake, StoreError, Transfer, TransferError,
    transfer::{Header, Item},
};
use redis::Value;

use crate::{
    RedisStore,
    encoding::keys,
    execute::sight::kept,
    link::{OpenError, bytes, count, list, odd, surely, text},
    plan::{Plan, status, statuses},
    store::Inner,
};

/// Items in one call of the function.
const TOGETHER: usize = 250;
/// Keys deleted in one go.
const CLEARED: usize = 1_000;

#[async_trait]
impl Transfer for RedisStore {
    async fn intake(&self) -> Result<Intake, StoreError> {
        self.inner.intake().await.map_err(StoreError::of_read)
    }

    async fn set_intake(&self, open: bool) -> Result<(), TransferError> {
        let link = &self.inner.link;
        let word = if open { "1" } else { "0" };
        self.inner.step("set_intake", &[&link.epoch().to_string() as &str, word]).await?;
        Ok(surely(link.acked(&link.epoch()).await?)?)
    }

    async fn results(&self, job: JobId) -> Result<Vec<KeptResult>, StoreError> {
        self.inner.results(job, 0).await.map_err(StoreError::of_read)
    }

    async fn idempotency(
        &self,
        after: Option<(IdempotencyKey, KeptIdempotency)>,
        limit: usize,
    ) -> Result<Vec<(IdempotencyKey, KeptIdempotency)>, StoreError> {
        let kept = self.inner.kept_idempotency(after.map(|(key, _)| key), limit).await;
        kept.map_err(StoreError::of_read)
    }

    async fn begin_import(&self, header: &Header) -> Result<(), TransferError> {
        let (inner, epoch) = (&self.inner, Epoch::mint());
        let begin = [header.seq, header.last_ended_no].map(|n| n.to_string());
        let before = inner.link.epoch().to_string();
        inner.step("begin_import", &[&before, &epoch.to_string(), &begin[0], &begin[1]]).await?;
        inner.enter(epoch.clone(), header.seq);
        *inner.import.lock() = Some(epoch);
        Ok(())
    }

    async fn import(&self, items: Vec<Item>) -> Result<(), TransferError> {
        let epoch = self.inner.importing()?;
        for items in items.chunks(TOGETHER) {
            if let Health::Full(why) = self.inner.link.health() {
                return Err(StoreError::Full(why).into());
            }
            self.inner.put(&epoch, Plan::of_items(items, self.inner.link.now())).await?;
        }
        Ok(())
    }

    async fn finish_import(&self, header: &Header) -> Result<Epoch, TransferError> {
        let inner = &self.inner;
        let (import, epoch) = (inner.importing()?, Epoch::mint());
        let copies = inner.statuses().await?;
        for copies in copies.chunks(TOGETHER) {
            inner.put(&import, Plan::of_statuses(copies)).await?;
        }
        let time = inner.link.given_time();
        inner.step("finish_import", &[&import.to_string(), &epoch.to_string(), &time]).await?;
        *inner.import.lock() = None;
        inner.enter(epoch.clone(), inner.link.seq());
        surely(inner.link.acked(&epoch).await?)?;
        if header.at > inner.link.now() {
            tracing::warn!(exported_at = %header.at, "Redis' clock is behind the old store's");
        }
        Ok(epoch)
    }

    async fn clear_import(&self) -> Result<(), TransferError> {
        let epoch = self.inner.importing()?;
        self.inner.clear(Some(&epoch)).await
    }
}

impl Inner {
    pub async fn intake(&self) -> Result<Intake, StoreError> {
        let mut get = redis::cmd("HMGET");
        get.arg(self.link.keys().meta()).arg("importing").arg("closed");
        let found = self.link.send(&get).await?;
        Ok(match list(&found) {
            [Value::Nil, Value::Nil] => Intake::Open,
            [Value::Nil, _] => Intake::Closed,
            [_, _] => Intake::Importing,
            _ => return Err(StoreError::Unknown(odd(&found))),
        })
    }

    async fn kept_idempotency(
        &self,
        after: Option<IdempotencyKey>,
        limit: usize,
    ) -> Result<Vec<(IdempotencyKey, KeptIdempotency)>, StoreError> {
        let mut after = after.as_ref().map(keys::idempotency_member).unwrap_or_default();
        loop {
            let limit = limit.to_string();
            let args = [after.as_bytes(), limit.as_bytes()];
            let found = self.link.call("idempotency", &args).await?;
            let members: Vec<String> = list(&found).iter().map(text).collect();
            let Some(last) = members.last() else { return Ok(Vec::new()) };
            let page = self.kept_of(&members).await?;
            if !page.is_empty() {
                return Ok(page);
            }
            // All of these are over: what follows may not be.
            after.clone_from(last);
        }
    }

    /// The epoch of the import that this store began.
    fn importing(&self) -> Result<Epoch, TransferError> {
        self.import.lock().clone().ok_or(TransferError::NotImporting)
    }

    /// Calls one of the functions that move a store.
    async fn step<A: AsRef<[u8]>>(
        &self,
        function: &str,
        args: &[A],
    ) -> Result<Vec<Value>, TransferError> {
        let args: Vec<&[u8]> = args.iter().map(AsRef::as_ref).collect();
        let answer = self.call_in_import(function, &args).await?;
        let parts = list(&answer);
        match parts.first().map(text).unwrap_or_default().as_str() {
            "ok" => Ok(parts.to_vec()),
            "importing" => Err(TransferError::Importing),
            "not_importing" => Err(TransferError::NotImporting),
            "not_empty" => {
                let seq = parts.get(1).and_then(count);
                Err(TransferError::NotEmpty(seq.unwrap_or_default()))
            }
            _ => Err(StoreError::Unknown(odd(&answer)).into()),
        }
    }

    async fn call_in_import(&self, function: &str, args: &[&[u8]]) -> Result<Value, StoreError> {
        let answer = self.link.call(function, args).await?;
        if self.link.is_of_another_epoch(&answer) {
            let why = "another import began, or Redis has another history now: try again";
            return Err(StoreError::Failed(why.into()));
        }
        Ok(answer)
    }

    /// Writes what belongs to an import.
    async fn put(&self, epoch: &Epoch, plan: Plan) -> Result<(), TransferError> {
        let (time, epoch) = (self.link.given_time(), epoch.to_string());
        let plan = plan.pack(None, self.link.keys());
        let mut args = vec![time.as_bytes(), epoch.as_bytes()];
        args.extend(plan.iter().map(Vec::as_slice));
        let answer = self.call_in_import("commit", &args).await?;
        let parts = list(&answer);
        let reply = match parts.first().map(text).as_deref() {
            Some("ok") => parts.get(2).and_then(|replies| list(replies).first()),
            _ => return Err(StoreError::Unknown(odd(&answer)).into()),
        };
        let reply = reply.map(list).unwrap_or_default();
        match reply.first().map(text).as_deref() {
            Some("ok") => Ok(()),
            Some("not_importing") => Err(TransferError::NotImporting),
            Some("corrupt") => {
                let why = reply.get(1).map(text).unwrap_or_default();
                Err(StoreError::Damaged(why).into())
            }
            _ => Err(StoreError::Unknown(odd(&answer)).into()),
        }
    }

    /// Takes away what an import left that broke off, if one did.
    pub async fn clear_half_import(&self) -> Result<(), OpenError> {
        match self.clear(None).await {
            Ok(()) => {
                tracing::info!("what an import had put in is deleted");
                Ok(())
            }
            Err(TransferError::NotImporting) => Ok(()),
            Err(error) => Err(OpenError::Odd(error.to_string())),
        }
    }

    /// Deletes every key of a fleet that an import fills (of this epoch, or whichever it is), and
    /// makes the fleet anew.
    pub async fn clear(&self, import: Option<&Epoch>) -> Result<(), TransferError> {
        let (seized, epoch) = (Epoch::mint().to_string(), Epoch::mint());
        let import = import.map(Epoch::to_string).unwrap_or_default();
        self.step("seize_import", &[&import, &seized]).await?;
        self.delete_keys(&seized).await?;
        let (fleet, replid) = (self.link.fleet(), self.link.info().replid);
        let (new, time) = (epoch.to_string(), self.link.given_time());
        self.step("reset", &[&seized, fleet, &replid, &new, &time]).await?;
        *self.import.lock() = None;
        self.enter(epoch, 0);
        Ok(())
    }

    /// All but `meta`: as long as that stands, the import is known to be one. Where another import has
    /// begun meanwhile, what lies there is its own.
    async fn delete_keys(&self, seized: &str) -> Result<(), TransferError> {
        let meta = self.link.keys().meta();
        let mut scan = self.link.scan("*");
        while let Some(some) = scan.next().await? {
            let keys: Vec<&[u8]> =
                some.iter().filter_map(bytes).filter(|key| *key != meta.as_bytes()).collect();
            for keys in keys.chunks(CLEARED) {
                self.step("clear_import", &[&[seized.as_bytes()], keys].concat()).await?;
            }
        }
        Ok(())
    }

    /// Another log begins here: nothing that is remembered counts.
    fn enter(&self, epoch: Epoch, seq: u64) {
        self.link.enter(epoch, seq);
        self.memory.clear();
        self.gone.clear();
        self.definitions.clear();
        self.claimed_payloads.lock().clear();
    }

    /// What is kept of these idempotency keys, those whose time is not over.
    async fn kept_of(
        &self,
        members: &[String],
    ) -> Result<Vec<(IdempotencyKey, KeptIdempotency)>, StoreError> {
        let wrong = |member: &String| StoreError::Damaged(format!("key {member:?}"));
        let known = members
            .iter()
            .map(|member| keys::parse_idempotency_member(member).ok_or_else(|| wrong(member)));
        let known: Vec<IdempotencyKey> = known.collect::<Result<_, _>>()?;
        let mut values = redis::pipe();
        for key in &known {
            values.cmd("GET").arg(self.key(&keys::idempotency(key)));
        }
        let (values, now) = (self.link.send_all(&values).await?, self.link.now());
        let mut page = Vec::with_capacity(known.len());
        for ((key, member), value) in known.into_iter().zip(members).zip(values) {
            if value != Value::Nil {
                let kept = kept(&text(&value)).ok_or_else(|| wrong(member))?;
                page.extend((kept.until > now).then_some((key, kept)));
            }
        }
        Ok(page)
    }

    /// The copies of connectors' statuses that the workers' hashes show.
    async fn statuses(&self) -> Result<Vec<(WorkerId, String)>, StoreError> {
        let none = || StoreError::Damaged(format!("{} is no set", self.key("connectors")));
        let keys = self.listed(RecordKind::Connector).await?.ok_or_else(none)?;
        let mut of_worker: BTreeMap<WorkerId, Vec<String>> = BTreeMap::new();
        for record in self.records(&keys).await? {
            if let Record::Connector(connector) = record {
                let of_it = of_worker.entry(connector.id.worker.clone()).or_default();
                of_it.push(status(&connector));
            }
        }
        let copies = of_worker.into_iter();
        Ok(copies.map(|(worker, each)| (worker, statuses(&each))).collect())
    }
}
