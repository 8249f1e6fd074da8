//! What classes lost in a row, worked out from what jobs remember: a store that is opened has no other
//! memory of it.

use std::collections::HashMap;

use pointsman_core::{
    Timestamp,
    matching::ClassKey,
    record::{Job, JobState, JobStatus, PastOutcome},
};

use super::{State, queue::Losses};

/// When an attempt ended, and of one that was lost when it was claimed. In this order: of one moment
/// the completion comes last.
type End = (Timestamp, Lost);

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Lost {
    SinceClaimed(Timestamp),
    No,
}

impl State {
    /// Puts back which classes lost job after job. Jobs that are no longer kept do not tell.
    pub fn restore_losses(&mut self) {
        let jobs = || self.jobs.values().map(|entry| &*entry.job);
        let mut ends: HashMap<ClassKey, Vec<End>> = HashMap::new();
        for job in jobs().filter(|job| !job.past.is_empty()) {
            let mut lost = losses(job).peekable();
            if lost.peek().is_some() {
                ends.entry(base_of(job)).or_default().extend(lost);
            }
        }
        let Some(first) = ends.values().flatten().min().map(|(at, _)| *at) else { return };
        for job in jobs().filter(|job| completions(job).any(|(at, _)| at >= first)) {
            if let Some(ends) = ends.get_mut(&base_of(job)) {
                ends.extend(completions(job));
            }
        }
        let in_a_row = ends.into_iter().map(|(base, ends)| (base, in_a_row(ends)));
        let mut in_a_row: Vec<_> = in_a_row.filter(|(_, losses)| losses.in_a_row > 0).collect();
        in_a_row.sort_unstable_by_key(|(base, losses)| (losses.last_at, *base));
        for (base, losses) in in_a_row {
            self.queues.restore_losses(base, losses);
        }
    }
}

fn base_of(job: &Job) -> ClassKey {
    job.spec.class().key()
}

fn losses(job: &Job) -> impl Iterator<Item = End> {
    // The loss of a job that was being cancelled counts for nobody.
    let cancelled = match &job.state {
        JobState::Cancelled(ended) => Some(ended.at),
        _ => None,
    };
    job.past.iter().filter_map(move |past| match past.outcome {
        PastOutcome::Returned { reason, .. }
            if reason.is_suspicious() && Some(past.ended_at) != cancelled =>
        {
            Some((past.ended_at, Lost::SinceClaimed(past.assigned_at)))
        }
        _ => None,
    })
}

fn completions(job: &Job) -> impl Iterator<Item = End> {
    let now = match &job.state {
        JobState::Completed(ended) => Some(ended.at),
        _ => None,
    };
    let completed = PastOutcome::EndedRun { status: JobStatus::Completed };
    let earlier = job.past.iter().filter(move |past| past.outcome == completed);
    now.into_iter().chain(earlier.map(|past| past.ended_at)).map(|at| (at, Lost::No))
}

fn in_a_row(mut ends: Vec<End>) -> Losses {
    ends.sort_unstable();
    let mut losses = Losses::default();
    for (at, lost) in ends {
        match lost {
            Lost::SinceClaimed(claimed) => losses.note_loss(claimed, at),
            Lost::No => losses = Losses::default(),
        }
    }
    losses
}
