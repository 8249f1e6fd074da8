//! Why a job waits, in one sentence.

use std::time::Duration;

use pointsman_core::{
    matching::Explanation,
    record::{HoldReason, Job, JobState, Progress},
};

/// `progress`: what its worker says of it, and how long ago its service was heard.
pub(crate) fn sentence(
    job: &Job,
    explanation: &Explanation,
    ahead: Option<usize>,
    progress: Option<(Progress, Option<Duration>)>,
) -> String {
    let said = match &job.state {
        JobState::Pending { hold: Some(hold) } => {
            let why = match hold.reason {
                HoldReason::Backoff => "its last attempt broke off, and it waits before the next",
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
        _ if job.is_ended() => {
            return format!("It does not wait: it is {}.", job.status().as_str());
        }
        _ => return format!("It does not wait: a worker has it{}.", said_of(progress)),
    };
    throttles(explanation).into_iter().chain([said]).collect::<Vec<_>>().join(" ")
}

/// A job that runs may wait, too: for its turn at the service, or until its files are stored.
fn said_of(progress: Option<(Progress, Option<Duration>)>) -> String {
    let Some((progress, age)) = progress else { return String::new() };
    let percent = progress.percent.map(|percent| format!("at {percent:.0} %"));
    let message = match age {
        Some(_) => progress.message_beside_silence(),
        None => progress.message.as_deref(),
    };
    let message =
        message.map(|message| format!("which says: {}", message.trim().trim_end_matches('.')));
    let age = age.map(|age| format!("its service was heard {} s ago", age.as_secs()));
    let said = [percent, message, age].into_iter().flatten();
    said.map(|said| format!(", {said}")).collect()
}

/// What holds it back whoever is free: first, for all else is idle until that is over.
fn throttles(explanation: &Explanation) -> Vec<String> {
    let closed =
        "The store was closed and gives out no job: `pointsman intake open` opens it again.";
    let closed = explanation.intake_closed.then(|| closed.to_owned());
    let calm = explanation.calm_until.map(|until| {
        format!(
            "The store was restarted, failed over or restored, and gives out no job until {}: workers \
             first take back what they run.",
            until.to_the_second()
        )
    });
    let poisonous = explanation.poisonous.map(|class| {
        let probe = if class.probing { "one runs now, and" } else { "none runs now:" };
        format!(
            "Jobs like it were lost {} times in a row, so they run one at a time until one \
             completes; {probe} the next one is claimed {}.",
            class.losses,
            if class.probing { "when that is over" } else { "as soon as a worker is free" }
        )
    });
    closed.into_iter().chain(calm).chain(poisonous).collect()
}

fn waiting(explanation: &Explanation, ahead: Option<usize>) -> String {
    let able = &explanation.able;
    let there = able.total - able.offline;
    if explanation.workers == 0 {
        return "No worker has ever registered: start one.".into();
    }
    if there == 0 {
        return nobody(explanation);
    }
    let place = match ahead {
        Some(0) => "It is the first in line".into(),
        Some(1) => "One job is ahead of it".into(),
        Some(n) => format!("{n} jobs are ahead of it"),
        None => "10,000 jobs or more are ahead of it".into(),
    };
    format!(
        "{place}. Able to run it: {there} of {} workers ({} free, {} full, {} draining, {} stopping, {} not ready).{}",
        explanation.workers,
        able.free,
        able.full,
        able.draining,
        able.stopping,
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

/// No worker that is there is able to run it.
fn nobody(explanation: &Explanation) -> String {
    let there = explanation.workers - explanation.offline;
    match (there, explanation.able.total) {
        (0, 0) => {
            let lacking = explanation.lacking();
            format!("Every worker is offline, and none of them is able to run it: {lacking}.")
        }
        (0, _) => "Every worker that is able to run it is offline.".into(),
        (_, able) => {
            let lacking = explanation.lacking();
            let offline = match able {
                0 => String::new(),
                1 => "; 1 that is able is offline".into(),
                able => format!("; {able} that are able are offline"),
            };
            format!("No worker that is there is able to run it: {lacking}{offline}.")
        }
    }
}

#[cfg(test)]
mod tests {
    use pointsman_core::{
        JobId, ServiceName, Timestamp,
        matching::{AbleWorkers, PoisonousClass, Rule, RuleOutcome},
        record::JobSpec,
    };
    use uuid::Uuid;

    use super::*;

    fn said(explanation: &Explanation) -> String {
        let spec = JobSpec::new(ServiceName::new("simulation").unwrap(), Timestamp::default());
        sentence(&Job::new(JobId::from_uuid(Uuid::nil()), spec), explanation, Some(0), None)
    }

    /// Of `workers` all fail the first rule; of those that are there, as many as `there` says.
    fn failing(workers: usize, rule: (Rule, &str), there: usize) -> RuleOutcome {
        RuleOutcome {
            rule: rule.0,
            wanted: rule.1.into(),
            missing: None,
            pass: 0,
            fail: workers,
            fail_only_this: workers,
            fail_there: there,
            fail_only_this_there: there,
            failing: Vec::new(),
        }
    }

    fn explanation(workers: usize, offline: usize, able: AbleWorkers) -> Explanation {
        Explanation {
            intake_closed: false,
            calm_until: None,
            poisonous: None,
            workers,
            offline,
            able,
            not_ready: Vec::new(),
            rules: Vec::new(),
        }
    }

    #[test]
    fn what_holds_a_job_back_from_every_worker_is_said_first() {
        let free = AbleWorkers { total: 2, free: 2, ..AbleWorkers::default() };
        let mut found = explanation(2, 0, free);
        assert!(said(&found).starts_with("It is the first in line. Able to run it: 2 of 2"));
        found.poisonous = Some(PoisonousClass { losses: 5, probing: true });
        let lost = "Jobs like it were lost 5 times in a row, so they run one at a time until one \
                    completes; one runs now, and the next one is claimed when that is over. It is";
        assert!(said(&found).starts_with(lost), "{}", said(&found));
        found.calm_until = Some(Timestamp::from_millis(1_700_000_000_000));
        let calm = "The store was restarted, failed over or restored, and gives out no job until \
                    2023-11-14T22:13:20Z: workers first take back what they run. Jobs like it";
        assert!(said(&found).starts_with(calm), "{}", said(&found));
        found.intake_closed = true;
        let closed = "The store was closed and gives out no job: `pointsman intake open` opens it \
                      again. The store was restarted";
        assert!(said(&found).starts_with(closed), "{}", said(&found));
    }

    #[test]
    fn what_a_running_job_waits_for_is_said() {
        let progress = Progress {
            percent: Some(99.6),
            message: Some("a.png is not stored yet: the disk is full.\n".into()),
            ..Progress::default()
        };
        let said = |progress, age| format!("a worker has it{}.", said_of(Some((progress, age))));
        assert_eq!(
            said(progress, Some(Duration::from_secs(12))),
            "a worker has it, at 100 %, which says: a.png is not stored yet: the disk is full, its \
             service was heard 12 s ago."
        );
        assert_eq!(said(Progress::default(), None), "a worker has it.");
        let silence = Some(Progress::silence(Duration::from_secs(30)));
        let silent = Progress { message: silence, ..Progress::default() };
        let heard = "a worker has it, its service was heard 42 s ago.";
        assert_eq!(said(silent, Some(Duration::from_secs(42))), heard, "it is said once");
    }

    #[test]
    fn who_lacks_the_service_is_said_to_lack_that() {
        let mut found = explanation(2, 1, AbleWorkers::default());
        let no_comfyui = |rule| RuleOutcome { fail_only_this_there: 0, ..failing(2, rule, 1) };
        found.rules = vec![
            no_comfyui((Rule::Service, "the service comfyui")),
            no_comfyui((Rule::NodeClasses, "all of the node classes A")),
        ];
        let service = "No worker that is there is able to run it: 1 of 1 workers lack the service \
                       comfyui.";
        assert_eq!(said(&found), service);
    }

    #[test]
    fn only_workers_that_are_there_are_held_against_the_rules() {
        let tier = || (Rule::Label("tier".into()), "tier >= 2");
        let nine = AbleWorkers { total: 9, offline: 9, ..AbleWorkers::default() };
        let mut found = explanation(10, 9, nine);
        found.rules = vec![failing(1, tier(), 1)];
        let counts = "No worker that is there is able to run it: 1 of 1 workers fail: tier >= 2; \
                      9 that are able are offline.";
        assert_eq!(said(&found), counts);
        found.offline = 10;
        assert_eq!(said(&found), "Every worker that is able to run it is offline.");
        // Most fail the first rule, but not of those that are there.
        let mut found = explanation(3, 2, AbleWorkers::default());
        found.rules = vec![failing(2, (Rule::Ram, "at least 8 GiB"), 0), failing(1, tier(), 1)];
        let there = "No worker that is there is able to run it: 1 of 1 workers fail: tier >= 2.";
        assert_eq!(said(&found), there);
        found.offline = 3;
        let all = "Every worker is offline, and none of them is able to run it: \
                   2 of 3 workers lack at least 8 GiB.";
        assert_eq!(said(&found), all);
    }
}
