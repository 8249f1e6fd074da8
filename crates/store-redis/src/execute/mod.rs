//! Carrying out commands: decide on what is seen, commit, and begin anew where something changed
//! meanwhile.

pub mod around;
pub mod piecemeal;
pub mod sight;
pub mod together;
pub mod turns;

use std::{sync::Arc, time::Instant};

use pointsman_core::{
    Answer, Command, Record, RecordKey, Rejected, Transition,
    command::{Exchange, Op, Reconcile},
    decide::{self, Intake, Side, Stop},
};
use pointsman_store::{Done, Health, StoreError};

use crate::{
    commit::verdict::Verdict,
    encoding::keys,
    execute::{
        around::{copy_statuses, hear, look_ahead, look_at_statuses, shown_with, spare_unreadable},
        sight::Sight,
        together::{TOGETHER, may_share_calls},
    },
    link::text,
    plan::{ClaimPlan, Plan},
    store::Inner,
    wake::Wake,
};

/// A decision that loses against others so often is given up.
const TRIES: usize = 64;

/// A decision that is ready to be committed.
pub struct Decided {
    pub transition: Transition,
    /// With what belongs to it behind it.
    pub plan: Vec<Vec<u8>>,
    /// The plan only sets scores.
    only_hears: bool,
    pub claim: Option<ClaimPlan>,
}

impl Inner {
    /// Carries out commands in their order.
    pub async fn carry_out(
        self: &Arc<Self>,
        mut commands: Vec<Command>,
    ) -> Result<Vec<Result<Done, Rejected>>, StoreError> {
        if self.link.is_closed() {
            return Err(StoreError::Closed);
        }
        let takes_work =
            commands.iter().any(|c| matches!(c, Command::Submit(_) | Command::Retry { .. }));
        if let (true, Health::Full(why)) = (takes_work, self.link.health()) {
            return Err(StoreError::Full(why));
        }
        Wake::settle(self).await;
        // Before the first write: after it, it may be that of a history which has none of it.
        let epoch = self.link.epoch();
        let asked: Vec<Asked> = commands.iter().map(Asked::of).collect();
        let share_calls = self.import.lock().is_none() && may_share_calls(&commands);
        let mut done = if !share_calls {
            let mut done = Vec::with_capacity(commands.len());
            for command in &commands {
                let one = self.carry_out_one(command).await;
                done.push(one.map_err(|error| after(is_any_done(&done), error))?);
            }
            done
        } else if let [Command::Submit(_)] = &commands[..]
            && let Some(command) = commands.pop()
        {
            vec![self.submit(command).await?]
        } else {
            let mut done = Vec::with_capacity(commands.len());
            for commands in commands.chunks(TOGETHER) {
                let some = self.carry_out_together(commands).await;
                let stands = is_any_done(&done) || some.iter().flatten().any(Result::is_ok);
                for one in some {
                    done.push(one.map_err(|error| after(stands, error))?);
                }
            }
            done
        };
        // What is refused is written nowhere.
        let mut written = Vec::new();
        for (asked, done) in asked.iter().zip(&mut done) {
            if let Ok(done) = done
                && asked.is_in(done)
            {
                written.push(done);
            }
        }
        if !written.is_empty() {
            let unconfirmed = self.link.acked(&epoch).await?;
            written.into_iter().for_each(|done| done.unconfirmed.clone_from(&unconfirmed));
        }
        Ok(done)
    }

    /// Carries out one command. Where it meets damage, nothing is changed, and it is its own failure.
    pub async fn carry_out_one(
        &self,
        command: &Command,
    ) -> Result<Result<Done, Rejected>, StoreError> {
        match (self.carry_out_whole(command).await, command) {
            (Err(StoreError::Damaged(why)), Command::Exchange(exchange)) => {
                self.exchange_in_parts(exchange, why).await
            }
            (Err(StoreError::Damaged(why)), _) => Ok(Err(Rejected::Damaged(why))),
            (done, _) => done,
        }
    }

    async fn carry_out_whole(
        &self,
        command: &Command,
    ) -> Result<Result<Done, Rejected>, StoreError> {
        if let (true, Err(why)) = (self.import.lock().is_some(), Intake::Importing.admits(command))
        {
            return Ok(Err(why));
        }
        let _turn = match command {
            Command::Exchange(exchange) => Some(self.turns.of(&exchange.worker).await),
            Command::Renew(renew) => Some(self.turns.of(&renew.worker).await),
            _ => None,
        };
        if let Command::Exchange(exchange) = command
            && let Some(nothing) = self.look_in_passing(exchange).await?
        {
            return Ok(Ok(nothing));
        }
        let mut fresh = false;
        for attempt in 0..TRIES {
            let epoch = self.link.epoch();
            let sight = Sight::new(&self.link, &self.memory, &epoch, fresh);
            let decided = match self.decide(command, sight).await? {
                Ok(decided) => decided,
                // Refused on what may be out of date: look before saying so.
                Err((_, true)) => {
                    fresh = true;
                    continue;
                }
                Err((why, false)) => return Ok(Err(why)),
            };
            let verdict = match command {
                Command::Renew(renew) if decided.only_hears => {
                    self.hear(&renew.worker, &epoch, &decided.plan).await?
                }
                _ => self.commit_all(&epoch, &[&decided.plan], false).await?.pop(),
            };
            match verdict {
                Some(Verdict::Applied { stamped, picks }) => {
                    let Decided { transition, claim, .. } = decided;
                    let done = self.done(transition, claim.as_ref(), &epoch, stamped, picks);
                    if let Command::Register(register) = command {
                        // Its claims wait anew, with what it has now.
                        self.looks.wake(&register.worker);
                    }
                    return Ok(Ok(done));
                }
                Some(Verdict::Rejected(why)) => return Ok(Err(why)),
                Some(Verdict::Conflict) | None => {
                    self.forget(&decided.transition);
                    fresh = attempt > 0;
                }
                Some(Verdict::ClassesChanged) => {
                    if let Some(claim) = &decided.claim {
                        self.definitions.work_out(&self.link, claim.digest()).await?;
                    }
                }
                Some(Verdict::Corrupt(why)) => return Err(StoreError::Damaged(why)),
            }
        }
        Err(StoreError::Failed(format!("others were faster {TRIES} times in a row")))
    }

    /// A claim of an idle worker that nobody woke mostly finds nothing: two cheap questions tell so,
    /// or its last renewal, which asked the same. `None`: it has to be looked at in earnest.
    async fn look_in_passing(&self, exchange: &Exchange) -> Result<Option<Done>, StoreError> {
        let services = exchange.claim.as_ref().map(|claim| &claim.services[..]).unwrap_or_default();
        let looked = |in_passing| self.looks.looked(&exchange.worker, services, in_passing);
        if !exchange.ops.is_empty() || self.wake.take_woken(&exchange.worker) {
            looked(false);
            return Ok(None);
        }
        let nothing = || {
            let (ops, claimed) = (Vec::new(), Vec::new());
            let answer = Answer::Exchanged { ops, claimed, claim_refused: None };
            Ok(Some(Done::new(answer, None)))
        };
        let key = RecordKey::Worker(exchange.worker.clone());
        let Some(Record::Worker(worker)) = self.memory.get(&self.link.epoch(), &key) else {
            return Ok(None);
        };
        let is_idle = worker.current_job_ids.is_empty();
        let are_registered = services.iter().all(|service| worker.slots(service) > 0);
        if !is_idle
            || !are_registered
            || worker.is_offline()
            || worker.incarnation != exchange.incarnation
        {
            looked(false);
            return Ok(None);
        }
        if self.looks.spare(&worker, services) {
            return nothing();
        }
        let asked = Instant::now();
        let mut ask = redis::pipe();
        ask.cmd("HGET").arg(self.key(&keys::record(&key))).arg("rev");
        ask.cmd("EXISTS").arg(self.heads(&worker));
        let answers = self.link.send_each(&ask).await?;
        let is_nothing = matches!(answers.as_slice(), [Ok(rev), Ok(heads)]
            if text(rev) == worker.rev.to_string() && text(heads) == "0");
        looked(is_nothing);
        if !is_nothing {
            return Ok(None);
        }
        self.looks.saw(&worker, asked, false);
        nothing()
    }

    /// Decides a command on what is seen. A refusal comes with whether it was decided on something
    /// that may be out of date.
    pub async fn decide(
        &self,
        command: &Command,
        mut sight: Sight<'_>,
    ) -> Result<Result<Decided, (Rejected, bool)>, StoreError> {
        look_ahead(command, &mut sight).await?;
        let mut transition = loop {
            // Which jobs a claim takes is chosen in Redis.
            match decide::decide(&sight, command, self.link.now()) {
                Ok(transition) => break transition,
                Err(Stop::Unread(unread)) => sight.look_at([unread.0]).await?,
                Err(Stop::Rejected(why)) => return Ok(Err((why, sight.is_guessed()))),
            }
        };
        spare_unreadable(&mut transition, &sight);
        let claims = match command {
            Command::Exchange(exchange) if exchange.claim.is_some() => Some(&exchange.worker),
            _ => None,
        };
        let workers = shown_with(&transition, claims);
        look_at_statuses(&workers, &transition, &mut sight).await?;
        let before = sight.before();
        let mut plan = Plan::of(&transition, &before);
        copy_statuses(&workers, &transition, &before, &mut plan);
        hear(command, &transition, &sight, &mut plan);
        let is_moved = matches!(command, Command::Reconcile(Reconcile::Moved { .. }));
        plan.during_import = is_moved.then_some("moved");
        let claim = match command {
            Command::Exchange(exchange) => {
                let now = self.link.now();
                loop {
                    match ClaimPlan::of(&sight, exchange, &transition, &before, now) {
                        Ok(claim) => break claim,
                        Err(Stop::Unread(unread)) => sight.look_at([unread.0]).await?,
                        Err(Stop::Rejected(why)) => return Ok(Err((why, sight.is_guessed()))),
                    }
                }
            }
            _ => None,
        };
        for side in &transition.sides {
            if let Side::Capabilities { digest, capabilities } = side {
                self.definitions.know_profile(*digest, capabilities);
            }
        }
        let only_hears = plan.only_hears();
        let plan = plan.pack(claim.as_ref(), self.link.keys());
        Ok(Ok(Decided { transition, plan, only_hears, claim }))
    }
}

fn is_any_done(done: &[Result<Done, Rejected>]) -> bool {
    done.iter().any(Result::is_ok)
}

/// A failure after which some of what was asked for together may stand.
fn after(stands: bool, error: StoreError) -> StoreError {
    match error {
        StoreError::Failed(why) | StoreError::Full(why) if stands => {
            StoreError::Unknown(format!("some of it was, then: {why}"))
        }
        StoreError::Newer { .. } if stands => {
            StoreError::Unknown(format!("some of it was, then: {error}"))
        }
        error => error,
    }
}

/// What of a command replicas should have before it counts as done.
#[derive(PartialEq)]
enum Asked {
    Nothing,
    All,
    /// Of an exchange, the ends of jobs: whether each of its operations is one.
    Ends(Vec<bool>),
}

impl Asked {
    fn of(command: &Command) -> Self {
        match command {
            Command::Submit(_) | Command::Retry { .. } | Command::Cancel { .. } => Self::All,
            Command::Exchange(exchange) => {
                let is_end = |op: &Op| matches!(op, Op::Finish(_) | Op::Late(_));
                Self::Ends(exchange.ops.iter().map(|op| is_end(&op.op)).collect())
            }
            _ => Self::Nothing,
        }
    }

    /// Whether any of that was accepted. An exact repeat is, and asks again.
    fn is_in(&self, done: &Done) -> bool {
        match (self, &done.answer) {
            (Self::Nothing, _) => false,
            (Self::All, _) => true,
            (Self::Ends(ends), Answer::Exchanged { ops, .. }) => {
                ends.iter().zip(ops).any(|(is_end, op)| *is_end && op.is_ok())
            }
            (Self::Ends(_), _) => false,
        }
    }
}
