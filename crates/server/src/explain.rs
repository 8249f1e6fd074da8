//! Why a job waits, in one sentence.

use pointsman_core::{
    matching::Explanation,
    record::{HoldReason, Job, JobState},
};

pub(crate) fn sentence(job: &Job, explanation: &Explanation, ahead: Option<usize>) -> String {
    match &job.state {
        JobState::Pending { hold: Some(hold) } => {
            let why = match hold.reason {
                HoldReason::Backoff => "a failed attempt waits before the next",
                HoldReason::Schedule => "it is scheduled for later",
                HoldReason::Dependency => "it waits for other jobs",
                HoldReason::Paused => "its queue is paused",
            };
            match hold.until {
                Some(until) => format!("It is held: {why}, until {until}."),
                None => format!("It is held: {why}."),
            }
        }
        JobState::Pending { hold: None } => waiting(explanation, ahead),
        _ if job.is_ended() => format!("It does not wait: it is {}.", job.status().as_str()),
        _ => "It does not wait: a worker has it.".into(),
    }
}

fn waiting(explanation: &Explanation, ahead: Option<usize>) -> String {
    let able = &explanation.able;
    let there = able.total - able.offline;
    if explanation.workers == 0 {
        return "No worker has ever registered: start one.".into();
    }
    if there == 0 {
        return match hardest(explanation) {
            Some(rule) => format!("No worker that is there is able to run it: {rule}."),
            None => "Every worker that is able to run it is offline.".into(),
        };
    }
    let place = match ahead {
        Some(0) => "It is the first in line".into(),
        Some(1) => "One job is ahead of it".into(),
        Some(n) => format!("{n} jobs are ahead of it"),
        None => "More than 10,000 jobs are ahead of it".into(),
    };
    format!(
        "{place}. Able to run it: {there} of {} workers ({} free, {} full, {} draining, {} not ready).{}",
        explanation.workers,
        able.free,
        able.full,
        able.draining,
        able.not_ready,
        not_ready(explanation),
    )
}

/// Who is not ready, and why.
fn not_ready(explanation: &Explanation) -> String {
    let named = &explanation.not_ready;
    if named.is_empty() {
        return String::new();
    }
    let said: Vec<_> = named.iter().map(|w| format!("{}: {}", w.worker, w.why)).collect();
    let more = match explanation.able.not_ready.saturating_sub(named.len()) {
        0 => String::new(),
        more => format!("; and {more} more"),
    };
    format!(" Not ready: {}{more}.", said.join("; "))
}

/// The rule that most workers fail.
fn hardest(explanation: &Explanation) -> Option<String> {
    let failed = explanation.rules.iter().filter(|rule| rule.fail > 0);
    let worst = failed.max_by_key(|rule| (rule.fail_only_this, rule.fail))?;
    // What a service has is known only once it was reached.
    let broken = worst.failing.iter().find_map(|failing| {
        let (worker, why) = (failing.worker.as_ref()?, failing.not_ready.as_ref()?);
        Some(format!(" ({worker} is not ready: {why})"))
    });
    let (failed, all, broken) = (worst.fail, explanation.workers, broken.unwrap_or_default());
    Some(format!("{failed} of {all} workers lack {}{broken}", worst.wanted))
}
