//! Cancel, retry, explain.

use pointsman_client::Client;
use pointsman_core::{
    JobId,
    matching::{Explanation, RuleOutcome},
    record::JobRecord,
};

use super::{print, until_known};
use crate::exit::Exit;

pub async fn cancel(client: &Client, id: JobId, json: bool) -> Result<(), Exit> {
    let job = client.cancel(id).await?;
    show(&job, json, if job.status.is_ended() { "" } else { " (cancelling)" })
}

pub async fn retry(client: &Client, id: JobId, json: bool) -> Result<(), Exit> {
    let run = client.job(id).await?.run + 1;
    let job = until_known(|| client.retry(id, Some(run))).await?;
    show(&job, json, &format!(" (run {})", job.run))
}

fn show(job: &JobRecord, json: bool, more: &str) -> Result<(), Exit> {
    match json {
        true => print::json(job),
        false => print::line(&format!("{}{more}", print::job_line(job))),
    }
}

pub async fn explain(client: &Client, id: JobId, json: bool) -> Result<(), Exit> {
    let explained = client.explain(id).await?;
    if json {
        return print::json(&explained);
    }
    print::line(&explained.answer)?;
    let explanation = &explained.explanation;
    let able = explanation.able;
    print::line(&format!(
        "{} of {} workers are able: {} free, {} full, {} draining, {} stopping, {} not ready, {} offline",
        able.total,
        explanation.workers,
        able.free,
        able.full,
        able.draining,
        able.stopping,
        able.not_ready,
        able.offline
    ))?;
    let there = explanation.workers.saturating_sub(explanation.offline);
    match (explanation.offline, there) {
        (0, _) => {}
        (offline, 0) => print::line(&format!(
            "no worker is there; those that are offline are counted ({offline}):"
        ))?,
        (offline, there) => {
            print::line(&format!("of the {there} that are there ({offline} offline):"))?;
        }
    }
    let rows: Vec<Vec<String>> =
        explanation.rules.iter().map(|rule| row(rule, there, explanation)).collect();
    print::table(&["RULE", "WANTED", "PASS", "FAIL", "FAILING"], &rows)
}

/// How a rule fares with the workers that are there; with all, where none is.
fn row(rule: &RuleOutcome, there: usize, explanation: &Explanation) -> Vec<String> {
    let all_are_counted = there == 0 || explanation.offline == 0;
    let (pass, fail) = match all_are_counted {
        true => (rule.pass, rule.fail),
        false => (there.saturating_sub(rule.fail_there), rule.fail_there),
    };
    let counted = rule.failing.iter().filter(|worker| all_are_counted || !worker.offline);
    let failing = counted.take(3).map(|f| {
        let worker = f.worker.iter().map(|worker| format!("{worker}: "));
        let why = f.not_ready.iter().map(|why| format!(" (not ready: {why})"));
        worker.chain([f.found.clone()]).chain(why).collect::<String>()
    });
    // What nobody lacks of those that are counted, who is offline may.
    let wanted = match &rule.missing {
        Some(missing) if fail > 0 => format!("missing: {missing}"),
        _ => rule.wanted.clone(),
    };
    vec![
        rule.rule.to_string(),
        wanted,
        pass.to_string(),
        fail.to_string(),
        failing.collect::<Vec<_>>().join("; "),
    ]
}

#[cfg(test)]
mod tests {
    use pointsman_core::matching::{AbleWorkers, Rule};

    use super::*;

    #[test]
    fn of_what_is_wanted_the_table_shows_what_is_missing() {
        let said = |missing: Option<&str>, fail_there| {
            let rule = RuleOutcome {
                rule: Rule::NodeClasses,
                wanted: "all of the node classes A, B, C".into(),
                missing: missing.map(str::to_owned),
                pass: 1,
                fail: 2,
                fail_only_this: 2,
                fail_there,
                fail_only_this_there: fail_there,
                failing: Vec::new(),
            };
            let explanation = Explanation {
                intake_closed: false,
                calm_until: None,
                poisonous: None,
                workers: 3,
                offline: 2,
                able: AbleWorkers::default(),
                not_ready: Vec::new(),
                rules: Vec::new(),
            };
            row(&rule, 1, &explanation)[1].clone()
        };
        assert_eq!(said(Some("the node class C"), 1), "missing: the node class C");
        assert_eq!(said(None, 1), "all of the node classes A, B, C", "it is not known");
        let everything = said(Some("the node class C"), 0);
        assert_eq!(everything, "all of the node classes A, B, C", "only who is offline lacks it");
    }
}
