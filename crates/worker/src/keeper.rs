//! The one renewal for everything that a worker has, and what its answer orders.

use std::sync::Arc;

use pointsman_connectors::StopReason;
use pointsman_core::{
    JobId, LossReason, Outage,
    command::{AttemptOp, ConnectorReport, Held, Renew, Renewed},
    decide::limits::{self, MAX_OPS},
    record::Progress,
};
use tokio::time::Instant;

use crate::{
    WorkerError,
    attempt::{Attempt, Phase},
    backoff::Backoff,
    broker::InEpoch,
    calls::Fault,
    reclaim::reclaim,
    shared::{Shared, fitting},
};

/// Keeps the worker known to the store: renews the leases of all its attempts in one call, carries
/// statuses and progress, and follows what the answer orders.
pub(crate) struct Keeper {
    shared: Arc<Shared>,
    backoff: Backoff,
    renew_at: Instant,
    /// When something runs, renewals come sooner than when nothing does.
    renew_running_at: Instant,
    full_report_at: Instant,
    /// Progress is not sent before.
    progress_at: Instant,
    /// The next progress that is sent is that of every attempt, also what was sent before. Servers
    /// keep it in memory alone: one that is new, or missed some, shows none until it is told again.
    repeat_progress: bool,
    outage: Outage,
}

impl Keeper {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        let now = Instant::now();
        Self {
            backoff: Backoff::new(&shared.config.timings),
            renew_at: now,
            renew_running_at: now,
            full_report_at: now,
            progress_at: now,
            repeat_progress: false,
            outage: Outage::default(),
            shared,
        }
    }

    /// Runs until the worker must end.
    pub(crate) async fn run(mut self) -> Result<(), WorkerError> {
        let shared = self.shared.clone();
        loop {
            self.until_due().await;
            let _renewing = shared.renewing.lock().await;
            if self.reclaim().await? {
                self.renew().await?;
                self.run_errands().await?;
            }
        }
    }

    /// In a new epoch, takes everything back before the store is told of it as held: it would
    /// answer that it is lost. False when that did not work yet.
    async fn reclaim(&mut self) -> Result<bool, WorkerError> {
        self.shared.kept.lock().forget_old(self.shared.last_contact());
        if !self.shared.is_reclaim_due() {
            return Ok(true);
        }
        // Before it, so that an epoch that comes meanwhile is not missed.
        self.shared.set_reclaim_due(false);
        let Err(fault) = reclaim(&self.shared).await else { return Ok(true) };
        self.shared.set_reclaim_due(true);
        self.out_of_contact(fault).await?;
        Ok(false)
    }

    /// Waits for the next renewal: sooner for new progress and when something begins to run, at
    /// once for a new status.
    async fn until_due(&self) {
        let mut due = self.renew_at;
        loop {
            tokio::select! {
                biased;
                () = self.shared.urgent.notified() => return,
                () = tokio::time::sleep_until(due) => return,
                () = self.shared.progress.notified() => due = due.min(self.progress_at),
                () = self.shared.busy.notified() => due = due.min(self.renew_running_at),
            }
        }
    }

    async fn renew(&mut self) -> Result<(), WorkerError> {
        let now = Instant::now();
        let is_full = now >= self.full_report_at || self.may_be_called_silent();
        let connectors = self.reports(is_full);
        let held = self.held();
        let timings = &self.shared.config.timings;
        let is_idle = held.is_empty() && self.shared.ours.all_kept().is_empty();
        let pause = if is_idle { timings.heartbeat } else { timings.renew };
        // A report is full also where what was sent may not have arrived.
        self.repeat_progress |= is_full;
        let progress = self.progress(now);
        match self.call(held, connectors.clone(), progress).await {
            Ok(InEpoch { epoch, answer }) => {
                self.backoff.reset();
                if let Some(away) = self.outage.works(Instant::now().into_std()) {
                    let worker = &self.shared.config.worker;
                    tracing::info!(%worker, ?away, "in contact again");
                }
                self.renew_at = now + pause;
                self.renew_running_at = now + self.shared.config.timings.renew;
                if is_full {
                    self.full_report_at = now + self.shared.config.timings.full_report;
                }
                self.confirm(connectors);
                self.shared.see_epoch(epoch);
                // What a new epoch calls lost may only be unknown to it: the next answer tells. Nor
                // is anything claimed before that: it could be what this worker runs.
                if self.shared.is_reclaim_due() {
                    self.shared.lose_contact();
                    self.renew_at = now;
                } else {
                    self.shared.renewed(now);
                    self.follow(answer);
                }
                Ok(())
            }
            Err(fault) => self.out_of_contact(fault).await,
        }
    }

    /// The store may have declared this worker silent, and its connectors unknown: it was out of
    /// contact, or this process stood still so that no call could fail.
    fn may_be_called_silent(&self) -> bool {
        let contact = self.shared.last_contact();
        self.shared.is_contact_lost()
            || contact.is_some_and(|contact| contact.elapsed() >= limits::SILENT_WITH_LEASE)
    }

    /// Tries again after a pause.
    async fn out_of_contact(&mut self, fault: Fault) -> Result<(), WorkerError> {
        self.shared.lose_contact();
        self.renew_at = Instant::now() + self.backoff.pause();
        self.renew_running_at = self.renew_at;
        self.progress_at = self.renew_at;
        self.endure(fault).await
    }

    /// Renews in as many calls as it takes, one at least.
    async fn call(
        &self,
        mut held: Vec<Held>,
        mut connectors: Vec<ConnectorReport>,
        mut progress: Vec<(JobId, Progress)>,
    ) -> Result<InEpoch<Renewed>, Fault> {
        let shared = &self.shared;
        let mut all = Renewed::default();
        loop {
            let renew = Renew {
                worker: shared.config.worker.clone(),
                incarnation: shared.incarnation,
                held: take_part(&mut held),
                connectors: std::mem::take(&mut connectors),
                stopping: shared.is_stopping(),
            };
            let call = shared.broker.renew(renew, take_part(&mut progress));
            let renewed = shared.within(shared.call_limit(), call).await;
            let InEpoch { epoch, answer } = renewed.map_err(|error| shared.fault(error))?;
            all.lost.extend(answer.lost);
            all.cancel.extend(answer.cancel);
            all.unknown_to_you.extend(answer.unknown_to_you);
            all.orders = answer.orders;
            all.refused.extend(answer.refused);
            if held.is_empty() && progress.is_empty() {
                return Ok(InEpoch { epoch, answer: all });
            }
        }
    }

    /// Every attempt whose executor lives, those on their way here, and those that wait for their
    /// service after a restart.
    fn held(&self) -> Vec<Held> {
        let alive = |attempt: &Arc<Attempt>| attempt.is_alive().then(|| attempt.held());
        self.shared.ours.all(alive, Some, |claimed| Some(claimed.held))
    }

    fn reports(&self, all: bool) -> Vec<ConnectorReport> {
        let services = self.shared.services.iter();
        let reports = services.map(|service| (service, service.report()));
        reports
            .filter(|(service, report)| all || service.is_news(report))
            .map(|(_, report)| report)
            .collect()
    }

    fn confirm(&self, reports: Vec<ConnectorReport>) {
        for report in reports {
            let service = self.shared.services.iter().find(|s| s.name == report.service);
            if let Some(service) = service {
                service.confirm(report);
            }
        }
    }

    /// The newest progress of every attempt that has some to send, not more often than the period
    /// allows.
    fn progress(&mut self, now: Instant) -> Vec<(JobId, Progress)> {
        if now < self.progress_at {
            // Whatever woke the keeper early must not lose the hint that progress waits.
            self.shared.progress.notify_one();
            return Vec::new();
        }
        let again = std::mem::take(&mut self.repeat_progress);
        let attempts = self.shared.ours.all_kept().into_iter();
        let progress: Vec<_> = attempts
            .filter_map(|attempt| Some((attempt.held().job, attempt.progress_to_send(again)?)))
            .collect();
        if !progress.is_empty() {
            self.progress_at = now + self.shared.config.timings.progress;
        }
        progress
    }

    fn has_ended(&self, held: Held) -> bool {
        let attempt = self.shared.ours.kept(held.token);
        attempt.is_some_and(|attempt| attempt.phase() == Phase::Over)
    }

    fn follow(&self, renewed: Renewed) {
        let Renewed { lost, unknown_to_you, cancel, orders, refused } = renewed;
        for why in refused {
            tracing::warn!(worker = %self.shared.config.worker, %why, "a status is not taken");
        }
        for held in lost {
            // What has ended is not listed as running any more once its end is taken, which may be
            // before the answer to it is here: that answer tells what became of it.
            if !self.has_ended(held) {
                self.shared.lost(held);
            }
        }
        for held in cancel {
            self.shared.stop(held, StopReason::Cancel);
            self.shared.ours.cancel(held);
        }
        for held in unknown_to_you {
            if self.shared.ours.expect(held) {
                // Much of its lease is over.
                self.shared.urgent.notify_one();
            } else {
                let message = "its claim's answer never arrived";
                self.shared.give_back(held, LossReason::Unstarted, message);
            }
        }
        self.shared.set_orders(orders.drain);
    }

    /// Gives back what no lane has; what goes into no exchange any more, after the next renewal.
    async fn run_errands(&mut self) -> Result<(), WorkerError> {
        let mut errands = self.shared.ours.errands();
        let rest = errands.split_off(fitting(errands.iter().map(|errand| &errand.op)));
        if errands.is_empty() {
            return Ok(());
        }
        match self.shared.send(self.shared.exchange_of(errands.clone())).await {
            Ok(answer) => {
                log_refusals(&errands, &answer.ops);
                self.shared.ours.errands_answered(&errands);
                if !rest.is_empty() {
                    self.shared.urgent.notify_one();
                }
                Ok(())
            }
            Err(fault) => self.endure(fault).await,
        }
    }

    async fn endure(&mut self, fault: Fault) -> Result<(), WorkerError> {
        match fault {
            Fault::Fatal(error) => Err(error),
            Fault::Unregistered => self.shared.register_again().await,
            Fault::Again(why) => {
                if self.outage.failed(&why, Instant::now().into_std()) {
                    tracing::warn!(worker = %self.shared.config.worker, why, "out of contact");
                }
                Ok(())
            }
        }
    }
}

/// Takes out what one renewal may carry.
fn take_part<T>(all: &mut Vec<T>) -> Vec<T> {
    all.drain(..all.len().min(MAX_OPS)).collect()
}

/// An attempt that is not this worker's any more needs no giving back.
fn log_refusals<T>(errands: &[AttemptOp], answers: &[Result<T, pointsman_core::Rejected>]) {
    for (errand, answer) in errands.iter().zip(answers) {
        if let Err(why) = answer {
            tracing::debug!(job = %errand.job, %why, "not given back");
        }
    }
}
