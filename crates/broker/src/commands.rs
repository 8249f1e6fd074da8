//! What changes something: submissions, commands, renewals.

use std::{collections::HashMap, sync::Arc};

use pointsman_core::{
    Answer, Command, JobId, Record, RecordKey,
    command::{Renew, Renewed, Submit},
    record::{Job, Progress},
};
use pointsman_store::{Done, Store, StoreError, ToldProgress};

use crate::{Broker, BrokerError};

/// A submission that was accepted.
#[derive(Debug, Clone, PartialEq)]
pub struct Submitted {
    pub job: Arc<Job>,
    /// The same submission was here before; this is its job.
    pub existed: bool,
}

impl Broker {
    /// Submits jobs, each accepted or refused by itself.
    ///
    /// # Errors
    /// [`StoreError`] about all of them: none was taken, or it is not known which.
    pub async fn submit(
        &self,
        submits: Vec<Submit>,
    ) -> Result<Vec<Result<Submitted, BrokerError>>, StoreError> {
        let commands = submits.into_iter().map(Command::Submit).collect();
        let done = self.store().execute(commands).await?;
        let each = done.into_iter().map(|done| match done {
            Ok(done) => Ok(submitted(done.confirmed()?)?),
            Err(why) => {
                self.hub().refused(&why);
                Err(why.into())
            }
        });
        Ok(each.collect())
    }

    /// Carries out one command.
    pub async fn execute(&self, command: Command) -> Result<Done, BrokerError> {
        let done = execute(&**self.store(), command).await;
        done.inspect_err(|error| {
            if let BrokerError::Rejected(why) = error {
                self.hub().refused(why);
            }
        })
    }

    /// A worker's sign of life; with it may come progress of the attempts it runs. Progress is
    /// taken only for the attempt that the record shows, of this worker, and with a higher `n`.
    pub async fn renew(
        &self,
        renew: Renew,
        progress: Vec<(JobId, Progress)>,
    ) -> Result<Renewed, BrokerError> {
        let worker = renew.worker.clone();
        let done = self.execute(Command::Renew(renew)).await?;
        let Answer::Renewed(renewed) = done.answer else {
            return Err(odd_answer(&done.answer).into());
        };
        if progress.is_empty() {
            return Ok(renewed);
        }
        let keys = progress.iter().map(|(job, _)| RecordKey::Job(*job)).collect();
        // The renewal was accepted, and its answer counts, whether its progress can be shown or not.
        let records = match self.store().records(keys).await {
            Ok(records) => records,
            Err(error) => {
                tracing::warn!(%worker, %error, "progress is not shown");
                return Ok(renewed);
            }
        };
        let mut progress: HashMap<_, _> = progress.into_iter().collect();
        let mut told = Vec::with_capacity(progress.len());
        for record in records {
            let Record::Job(job) = record else { continue };
            // The renewal was accepted, so its process is the worker's: also for attempts that it
            // adopted from the one before.
            let its = job.assignment().is_some_and(|a| a.worker_id == worker);
            if let Some(progress) = progress.remove(&job.id).filter(|_| its) {
                self.hub().take_progress(&job, progress.clone());
                told.push(ToldProgress { worker: worker.clone(), job: job.id, progress });
            }
        }
        // The renewal was accepted whether others hear of the progress or not.
        if let Err(error) = self.store().tell_progress(told).await {
            tracing::debug!(%error, "progress is shown here only");
        }
        Ok(renewed)
    }
}

fn submitted(done: Done) -> Result<Submitted, StoreError> {
    let Answer::Submitted { id, existing } = &done.answer else {
        return Err(odd_answer(&done.answer));
    };
    if let Some(job) = existing {
        return Ok(Submitted { job: job.clone(), existed: true });
    }
    let job = done.group.as_ref().and_then(|group| group.job(id)).cloned();
    let job = job.ok_or_else(|| StoreError::Failed(format!("job {id} was not written")))?;
    Ok(Submitted { job, existed: false })
}

/// Carries out one command on a store.
pub async fn execute(store: &dyn Store, command: Command) -> Result<Done, BrokerError> {
    let mut done = store.execute(vec![command]).await?;
    let done = done.pop().ok_or_else(|| StoreError::Failed("no answer".into()))??;
    match done.answer {
        // A worker goes on: it keeps what it handed in until that is confirmed.
        Answer::Exchanged { .. } => Ok(done),
        _ => Ok(done.confirmed()?),
    }
}

/// The store answered something else than what was asked.
pub fn odd_answer(answer: &Answer) -> StoreError {
    StoreError::Failed(format!("an answer that does not belong to the command: {answer:?}"))
}
