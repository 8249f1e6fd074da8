//! What the function `commit` answers.

use std::sync::Arc;

use pointsman_core::{
    Event, EventName, JobId, Record, RecordKey, Rejected, Seq, Timestamp, decide::limits,
};
use pointsman_store::StoreError;
use redis::Value;

use crate::{
    encoding::fields::{self, Fields},
    link::{CallError, bytes, count, list, odd, text},
    plan::Pick,
};

/// What the function said of one transition.
#[derive(Debug)]
pub enum Verdict {
    Applied {
        stamped: Option<Stamped>,
        /// `None` where the job's record cannot be read: it is taken, and nobody can run it.
        picks: Vec<Option<Pick>>,
    },
    /// What it was decided on has changed.
    Conflict,
    /// Which classes the worker's profile can serve has to be worked out first.
    ClassesChanged,
    Rejected(Rejected),
    /// What stands in the store is not what it should be; nothing was changed.
    Corrupt(String),
}

/// What the store alone knows of a group.
#[derive(Debug, Clone, Copy)]
pub struct Stamped {
    pub seq: Seq,
    pub at: Timestamp,
    pub endings_before: u64,
}

/// A function that stops in its midst, say as a right was taken away, may have begun to write.
pub fn half_way(error: CallError) -> StoreError {
    match error {
        CallError::Refused(why)
            if why.contains("@user_function") && !why.contains("nothing was changed") =>
        {
            StoreError::Unknown(format!("a function stopped in its midst: {why}"))
        }
        error => error.into(),
    }
}

/// Reads the answer about one transition; `now` is the store's time.
pub fn verdict(reply: &Value, now: i64) -> Result<Verdict, String> {
    let parts = list(reply);
    Ok(match parts.first().map(text).unwrap_or_default().as_str() {
        "ok" => {
            let [_, seq, endings, told @ ..] = parts else { return Err(odd(reply)) };
            let stamped = match count(seq) {
                Some(seq) => Some(Stamped {
                    seq,
                    at: Timestamp::from_millis(now),
                    endings_before: count(endings).ok_or_else(|| odd(reply))?,
                }),
                None => None,
            };
            let read = |told| {
                let why = |why: &String| {
                    tracing::error!(why, "a job cannot be run; see `pointsman doctor`");
                };
                pick(told).inspect_err(why).ok()
            };
            let picks = told.chunks(4).map(read).collect();
            Verdict::Applied { stamped, picks }
        }
        "conflict" => Verdict::Conflict,
        "classes_changed" => Verdict::ClassesChanged,
        "not_due" => Verdict::Rejected(Rejected::NotDue),
        "too_many_classes" => Verdict::Rejected(Rejected::TooManyClasses(limits::MAX_CLASSES)),
        "closed" => Verdict::Rejected(Rejected::IntakeClosed),
        "importing" => Verdict::Rejected(Rejected::Importing),
        "corrupt" => Verdict::Corrupt(parts.get(1).map(text).unwrap_or_default()),
        _ => return Err(odd(reply)),
    })
}

fn pick(told: &[Value]) -> Result<Pick, String> {
    let [job, service, joined, payload] = told else {
        return Err(format!("an odd job: {told:?}"));
    };
    let job: JobId = text(job).parse().map_err(|error| format!("{error}"))?;
    let key = RecordKey::Job(job);
    let joined = bytes(joined).unwrap_or_default();
    let found = fields::split(joined).ok_or("its record is not joined right")?;
    let record = fields::to_record(key.kind(), &key.id(), &found);
    let Some(Record::Job(record)) = record.map_err(|error| error.to_string())? else {
        return Err(format!("job {job} has no record"));
    };
    // What was read as a record is UTF-8.
    let text_of = |bytes| std::str::from_utf8(bytes).unwrap_or_default();
    let mut fields = Fields::with_capacity(joined.len(), found.len());
    for (name, value) in found {
        fields.push(text_of(name), text_of(value));
    }
    let attempt = record.attempt;
    let event = Event { name: EventName::JobAssigned, key, record: Some(Record::Job(record)) };
    let payload = bytes(payload).map(Into::into);
    Ok(Pick { job, service: text(service), event, fields: Arc::new(fields), attempt, payload })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_function_that_stops_in_its_midst_may_have_written() {
        let refused = |why: &str| half_way(CallError::Refused(why.to_owned()));
        let stopped =
            refused("can't run this command script: pointsman_commit, on @user_function:9.");
        assert!(matches!(stopped, StoreError::Unknown(_)), "{stopped}");
        let before = refused("NoPerm: it may not use HSET, nothing was changed: @user_function:9.");
        assert!(matches!(before, StoreError::Failed(_)), "{before}");
    }
}
