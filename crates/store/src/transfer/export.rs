//! Writing a store as a stream.

use std::{collections::BTreeSet, sync::Arc};

use pointsman_core::{Record, decide::Side, hex, record::Job};
use sha2::{Digest, Sha256};
use tokio::io::{AsyncWrite, AsyncWriteExt};

use super::{
    Counts, FORMAT, Footer, Header, Item, Transfer, TransferError,
    lines::{footer_line, header_line, item_line},
};
use crate::{Depth, JobFilter, LogPage, Mend, Seed};

/// Records read at once.
const PAGE: usize = 1_000;
/// Bytes of payloads read at once; a single one may be larger.
const PAYLOADS: u64 = 8 << 20;

/// How an export is made.
#[derive(Debug, Clone)]
pub struct ExportOptions {
    /// The version of the program that makes it.
    pub made_by: String,
    /// Take running jobs along, instead of refusing.
    pub with_running: bool,
}

/// Closes a store's intake and writes everything that is in it. `told` hears after each page how
/// much was written.
///
/// # Errors
/// When something is wrong with what is stored, when jobs run and are not to be taken along, when the
/// store changes meanwhile, or when the store or the writing fails. What was written so far is of no
/// use then, and the intake stays closed.
pub async fn export<W: AsyncWrite + Unpin + Send>(
    store: &dyn Transfer,
    options: &ExportOptions,
    to: W,
    told: &mut (dyn FnMut(&Counts) + Send),
) -> Result<(Header, Counts), TransferError> {
    store.set_intake(false).await?;
    sound(store).await?;
    let seed = store.seed().await?;
    let running = seed.records.iter().filter(|r| matches!(r, Record::Job(job) if job.is_running()));
    match running.count() {
        0 => {}
        _ if options.with_running => {}
        running => return Err(TransferError::Running(running)),
    }
    let header = Header {
        format: FORMAT,
        made_by: options.made_by.clone(),
        epoch: seed.position.epoch.clone(),
        seq: seed.position.seq,
        last_ended_no: seed.last_ended_no,
        at: seed.now,
    };
    let mut out = Out { to, sha256: Sha256::new(), counts: Counts::default() };
    out.line(&header_line(&header)?).await?;
    fleet(store, seed, &mut out).await?;
    jobs(store, &header, &mut out, told).await?;
    idempotency(store, &mut out).await?;
    unchanged(store, &header).await?;
    let counts = out.finish().await?;
    told(&counts);
    Ok((header, counts))
}

/// What an index lost would be left out without a word, so what a repair can make right comes first.
async fn sound(store: &dyn Transfer) -> Result<(), TransferError> {
    let findings = store.examine(Depth::Everything).await?.findings;
    for finding in findings.iter().filter(|finding| finding.mend == Mend::None) {
        tracing::warn!(
            id = finding.id,
            problem = finding.problem,
            "it is moved as it is, or not at all"
        );
    }
    let mut mendable = findings.iter().filter(|finding| finding.mend != Mend::None);
    let Some(first) = mendable.next() else { return Ok(()) };
    let first = format!("{}: {}", first.subject, first.problem);
    Err(TransferError::Unsound { count: mendable.count() + 1, first })
}

struct Out<W> {
    to: W,
    sha256: Sha256,
    counts: Counts,
}

impl<W: AsyncWrite + Unpin + Send> Out<W> {
    async fn line(&mut self, line: &[u8]) -> Result<(), TransferError> {
        self.sha256.update(line);
        Ok(self.to.write_all(line).await?)
    }

    async fn item(&mut self, item: &Item) -> Result<(), TransferError> {
        self.counts.add(item);
        self.line(&item_line(item)?).await
    }

    async fn finish(mut self) -> Result<Counts, TransferError> {
        let sha256 = hex::encode(self.sha256.finalize());
        let footer = Footer { counts: self.counts, sha256 };
        self.to.write_all(&footer_line(&footer)?).await?;
        self.to.flush().await?;
        Ok(self.counts)
    }
}

/// The log says whether anything happened since the header.
async fn unchanged(store: &dyn Transfer, header: &Header) -> Result<(), TransferError> {
    let to = match store.log(header.seq, 1).await? {
        LogPage::Groups(groups) => groups.first().map(|group| group.seq),
        LogPage::Cut { oldest } => Some(oldest),
    };
    match to {
        None => Ok(()),
        Some(to) => Err(TransferError::Changed { from: header.seq, to }),
    }
}

/// All but the jobs, each before what refers to it.
async fn fleet<W: AsyncWrite + Unpin + Send>(
    store: &dyn Transfer,
    seed: Seed,
    out: &mut Out<W>,
) -> Result<(), TransferError> {
    let mut records = seed.records;
    records.retain(|record| !matches!(record, Record::Job(_)));
    records.sort_by_key(|record| match record {
        Record::Machine(_) => 0,
        Record::Worker(_) => 1,
        Record::Connector(_) => 2,
        Record::Alert(_) | Record::Job(_) => 3,
    });
    let mut digests = BTreeSet::new();
    for record in records {
        if let Record::Worker(worker) = &record
            && digests.insert(worker.capabilities_digest)
        {
            let digest = worker.capabilities_digest;
            if let Some(capabilities) = store.capabilities(digest).await? {
                out.item(&Item::Side(Side::Capabilities { digest, capabilities })).await?;
            }
        }
        out.item(&Item::Record(record)).await?;
    }
    Ok(())
}

async fn jobs<W: AsyncWrite + Unpin + Send>(
    store: &dyn Transfer,
    header: &Header,
    out: &mut Out<W>,
    told: &mut (dyn FnMut(&Counts) + Send),
) -> Result<(), TransferError> {
    let mut before = None;
    loop {
        let page = store.jobs(JobFilter::default(), before, PAGE).await?;
        let mut rest = &page.jobs[..];
        while !rest.is_empty() {
            let (some, more) = rest.split_at(fitting(rest));
            with_payloads(store, some, out).await?;
            rest = more;
        }
        unchanged(store, header).await?;
        told(&out.counts);
        match page.next {
            Some(next) => before = Some(next),
            None => return Ok(()),
        }
    }
}

/// So many jobs that their payloads are not too much at once; one at least.
fn fitting(jobs: &[Arc<Job>]) -> usize {
    let mut bytes = 0;
    let fit = jobs.iter().take_while(|job| {
        bytes += job.spec.payload_bytes;
        bytes <= PAYLOADS
    });
    fit.count().max(1)
}

async fn with_payloads<W: AsyncWrite + Unpin + Send>(
    store: &dyn Transfer,
    jobs: &[Arc<Job>],
    out: &mut Out<W>,
) -> Result<(), TransferError> {
    let payloads = store.payloads(jobs.iter().map(|job| job.id).collect()).await?;
    for (job, payload) in jobs.iter().zip(payloads) {
        out.item(&Item::Record(Record::Job(job.clone()))).await?;
        if let Some(payload) = payload {
            out.item(&Item::Side(Side::Payload { job: job.id, payload })).await?;
        }
        if job.result_bytes > 0 {
            for result in store.results(job.id).await? {
                out.item(&Item::Side(Side::Result { job: job.id, result })).await?;
            }
        }
    }
    Ok(())
}

async fn idempotency<W: AsyncWrite + Unpin + Send>(
    store: &dyn Transfer,
    out: &mut Out<W>,
) -> Result<(), TransferError> {
    let mut after = None;
    loop {
        let page = store.idempotency(after, PAGE).await?;
        let Some(last) = page.last().cloned() else { return Ok(()) };
        for (key, kept) in page {
            out.item(&Item::Side(Side::Idempotency { key, kept })).await?;
        }
        after = Some(last);
    }
}
