//! The two exchanges of a lane: what they carry, and what their answers change.

use std::{sync::Arc, time::Duration};

use futures::FutureExt as _;
use pointsman_connectors::StopReason;
use pointsman_core::{
    LossReason, Rejected, Token,
    command::{AttemptOp, Claim, Exchange, Op, OpAnswer},
};
use tokio::time::Instant;

use super::Lane;
use crate::{
    attempt::{Attempt, Phase},
    broker::{Claimed, Exchanged},
    reclaim::is_unknown_yet,
    settle::{self, Settled},
    shared::{fitting, op_of},
};

/// A claim that comes back empty sooner than this was not waited for; the next one pauses first.
const EMPTY_TOO_SOON: Duration = Duration::from_secs(1);

/// An exchange of operations that was answered.
pub(super) struct HandedIn {
    attempts: Vec<Arc<Attempt>>,
    /// The tokens that it began to claim with.
    tokens: Vec<Token>,
    exchange: Exchange,
    answer: Exchanged,
}

/// A claim that waited for jobs.
pub(super) struct Waited {
    since: Instant,
    /// None when nobody answered.
    answer: Option<Exchanged>,
}

impl Lane {
    /// Sends all operations that are ready, with a claim for the free slots.
    pub(super) fn hand_in(&mut self) {
        self.ops.extend(self.service.take_outbox());
        let due = self.put_off.take_due();
        self.put_off.take_followers(&mut self.ops);
        self.ops.splice(0..0, due);
        if self.handing_in.is_some() || self.ops.is_empty() {
            return;
        }
        let rest = self.ops.split_off(fitting(self.ops.iter().map(|(_, op)| op)));
        let (attempts, ops): (Vec<_>, Vec<_>) = std::mem::replace(&mut self.ops, rest)
            .into_iter()
            .map(|(attempt, op)| {
                let op = op_of(attempt.held(), op);
                (attempt, op)
            })
            .unzip();
        let mut exchange = self.shared.exchange_of(ops);
        if self.may_claim() && !self.tokens.is_empty() {
            exchange.claim = Some(self.claim_of_tokens());
        }
        let tokens = exchange.claim.iter().flat_map(|claim| claim.tokens.clone()).collect();
        let shared = self.shared.clone();
        let call = async move {
            let answer = shared.exchange(&mut exchange).await?;
            Ok(HandedIn { attempts, tokens, exchange, answer })
        };
        self.handing_in = Some(call.boxed());
    }

    /// Waits for jobs for the slots that are free.
    pub(super) fn claim(&mut self) {
        if self.shared.is_stopping() {
            self.claiming = None;
            self.tokens.append(&mut self.claiming_for);
        }
        if self.shared.refuses_jobs() || !self.service.is_able() || self.rests() {
            // A job that a claim without an answer brought is unknown to this worker: it is given
            // back for it.
            self.shared.ours.asked(&self.tokens);
        }
        let idle = self.handing_in.is_none() && self.claiming.is_none();
        let due = idle && !self.tokens.is_empty() && Instant::now() >= self.claim_not_before;
        if !due || !self.may_claim() {
            return;
        }
        let claim = self.claim_of_tokens();
        self.claiming_for = claim.tokens.clone();
        let mut exchange = self.shared.exchange_of(Vec::new());
        exchange.claim = Some(claim);
        let shared = self.shared.clone();
        let since = Instant::now();
        let call = async move {
            let answer = shared.poll(&exchange).await?;
            Ok(Waited { since, answer })
        };
        self.claiming = Some(call.boxed());
    }

    /// When a claim for free slots, which pauses, goes out.
    pub(super) fn claims_again_at(&self) -> Option<Instant> {
        let at = self.claim_not_before.max(self.rests_until);
        let pauses = !self.tokens.is_empty() && self.claiming.is_none() && Instant::now() < at;
        pauses.then_some(at)
    }

    pub(super) fn claim_of_tokens(&mut self) -> Claim {
        let tokens = std::mem::take(&mut self.tokens);
        self.shared.ours.ask(&tokens);
        Claim { tokens, services: vec![self.service.name.clone()] }
    }

    pub(super) fn handed_in(&mut self, done: HandedIn) {
        let HandedIn { attempts, tokens, exchange, answer } = done;
        let is_sure = answer.unconfirmed.is_none();
        if let Some(why) = answer.unconfirmed {
            tracing::warn!(worker = %self.shared.config.worker, why, "handed in, not confirmed");
        }
        for ((attempt, sent), result) in attempts.into_iter().zip(exchange.ops).zip(answer.ops) {
            self.answered(attempt, sent, result, is_sure);
        }
        self.put_off.answered();
        self.claimed(tokens, exchange.claim.map(|_| answer.claimed));
    }

    /// The store answered an operation.
    fn answered(
        &mut self,
        attempt: Arc<Attempt>,
        sent: AttemptOp,
        result: Result<OpAnswer, Rejected>,
        is_sure: bool,
    ) {
        let held = attempt.held();
        let goes_on = matches!(sent.op, Op::Start | Op::Reclaim { .. });
        let why = match result {
            Ok(_) if goes_on => return,
            Ok(_) => {
                self.shared.keep_end(sent, is_sure);
                return self.forget(&attempt);
            }
            Err(why) if why.may_pass() => return self.put_off.add(attempt, sent.op, &why),
            Err(why) => why,
        };
        if self.take_back(&attempt, &sent.op, &why) {
            return;
        }
        if goes_on {
            tracing::info!(job = %held.job, attempt = held.attempt, %why, "lost");
            return self.shared.lost(held);
        }
        match settle::refused(sent.op, &why) {
            Settled::Tell(op) => self.ops.push((attempt, op)),
            Settled::Nothing | Settled::Keep { .. } => {
                tracing::info!(job = %held.job, attempt = held.attempt, %why, "end not taken");
                self.forget(&attempt);
            }
        }
    }

    /// Nothing more is to be said of it; of one that was given back while the service still has it
    /// something may be.
    fn forget(&self, attempt: &Attempt) {
        if attempt.phase() == Phase::Over {
            self.shared.ours.forget(attempt.held().token);
        }
    }

    /// Whether a start or an end was refused because the store came back from before the attempt's
    /// claim: then the attempt is taken back first, once, and it is said again.
    fn take_back(&mut self, attempt: &Arc<Attempt>, op: &Op, why: &Rejected) -> bool {
        let is_lost = attempt.signal().reason() == Some(StopReason::Lost);
        let needs_it = matches!(op, Op::Start | Op::Finish(_));
        if is_lost || !needs_it || !is_unknown_yet(attempt.held(), why) {
            return false;
        }
        let started = attempt.has_started();
        self.ops.push((attempt.clone(), Op::Reclaim { started }));
        if *op != Op::Start {
            self.ops.push((attempt.clone(), op.clone()));
        }
        true
    }

    pub(super) fn waited(&mut self, waited: Waited) {
        let Waited { since, answer } = waited;
        match &answer {
            Some(answer) if !answer.claimed.is_empty() => self.backoff.reset(),
            Some(_) if since.elapsed() >= EMPTY_TOO_SOON => self.backoff.reset(),
            _ => self.claim_not_before = Instant::now() + self.backoff.pause(),
        }
        let tokens = std::mem::take(&mut self.claiming_for);
        self.claimed(tokens, answer.map(|answer| answer.claimed));
    }

    /// Jobs came under some of the tokens; the other slots stay free. A claim without an answer may
    /// have brought some too: the next one with its tokens tells.
    pub(super) fn claimed(&mut self, mut tokens: Vec<Token>, claimed: Option<Vec<Claimed>>) {
        let Some(claimed) = claimed else { return self.tokens.append(&mut tokens) };
        for job in claimed {
            let used = tokens.iter().position(|token| *token == job.held.token);
            match used {
                Some(at) => drop(tokens.swap_remove(at)),
                None => {
                    tracing::warn!(job = %job.held.job, "a job under a token that asked for none");
                    let reason = LossReason::Unstarted;
                    self.shared.give_back(job.held, reason, "claimed under an unknown token");
                    continue;
                }
            }
            self.start(job, false);
        }
        // Not before the jobs are kept: they would be nobody's meanwhile.
        self.shared.ours.asked(&tokens);
        self.tokens.append(&mut tokens);
    }
}
