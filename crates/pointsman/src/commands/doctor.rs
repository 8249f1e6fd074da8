//! What is wrong with what is stored: shown, and mended when asked.

use pointsman_client::{Client, ClientError};
use pointsman_core::doctor::{Examination, Finding, Mend, MendOutcome, Mended};
use serde::Serialize;

use super::print;
use crate::exit::Exit;

/// Everything that was found, and what was done.
#[derive(Serialize)]
struct Report {
    /// What is wrong now.
    #[serde(flatten)]
    remaining: Examination,
    mended: Vec<Mended>,
}

pub async fn doctor(client: &Client, repair: bool, json: bool) -> Result<(), Exit> {
    let mended = match repair {
        true => mend_all(async || Ok(client.mend(None).await?.mended)).await?,
        false => Vec::new(),
    };
    let report = Report { remaining: client.examine().await?, mended };
    let sound = report.remaining.is_sound() && report.remaining.undecided.is_empty();
    match json {
        true => print::json(&report)?,
        false => show(&report)?,
    }
    if sound { Ok(()) } else { Err(Exit::Unsound) }
}

/// More than one answer holds may be wrong: so long as a full one mended something, there may be more.
/// A store that mends in two ways fills an answer with each.
async fn mend_all(
    mut mend: impl AsyncFnMut() -> Result<Vec<Mended>, ClientError>,
) -> Result<Vec<Mended>, ClientError> {
    let mut all: Vec<Mended> = Vec::new();
    loop {
        let mended = mend().await?;
        let more = mended.len() >= Examination::MAX;
        let progress = mended.iter().any(|m| !matches!(m.outcome, MendOutcome::Left { .. }));
        all.retain(|known| !mended.iter().any(|new| new.finding.id == known.finding.id));
        all.extend(mended);
        if !more || !progress {
            return Ok(all);
        }
    }
}

fn show(report: &Report) -> Result<(), Exit> {
    for Mended { finding, outcome } in &report.mended {
        let done = match outcome {
            MendOutcome::Repaired => "repaired".to_owned(),
            MendOutcome::Quarantined => "set aside".to_owned(),
            MendOutcome::Left { why } => format!("left as it is: {why}"),
        };
        print::line(&format!("{}: {}\n  {done}", finding.subject, finding.problem))?;
    }
    let remaining = &report.remaining;
    for Finding { id, subject, problem, consequence, cure, .. } in &remaining.findings {
        print::line(&format!("{subject}: {problem}\n  consequence: {consequence}"))?;
        print::line(&format!("  cure: {cure}\n  id: {id}"))?;
    }
    for id in &remaining.undecided {
        print::line(&format!("{id}\n  may be wrong: what it is about changed with every look"))?;
    }
    if remaining.more {
        print::line("There is more wrong than is listed here.")?;
    }
    print::line(&summary(remaining))
}

fn summary(remaining: &Examination) -> String {
    let undecided = remaining.undecided.len();
    match (remaining.is_sound(), undecided) {
        (true, 0) => return "Nothing is wrong with what is stored.".to_owned(),
        (true, _) => {
            return format!("Nothing is known to be wrong; {undecided} in doubt: look again.");
        }
        (false, _) => {}
    }
    let mendable = remaining.findings.iter().filter(|f| f.mend != Mend::None).count();
    let hint = match mendable {
        0 => "no repair can make them right; see their cures".to_owned(),
        n => format!("{n} of them `pointsman doctor --repair` can mend"),
    };
    format!("{} findings; {hint}.", remaining.findings.len())
}

#[cfg(test)]
mod tests {
    use pointsman_core::{JobId, RecordKey, doctor::FindingRule};
    use uuid::Uuid;

    use super::*;

    #[tokio::test]
    async fn it_is_asked_again_as_long_as_answers_are_full() {
        let repaired = |n: usize| -> Vec<Mended> {
            let key = || RecordKey::Job(JobId::from_uuid(Uuid::new_v4()));
            let finding = || Finding::about(FindingRule::LostPayload, &key(), "gone");
            let mended = || Mended { finding: finding(), outcome: MendOutcome::Repaired };
            (0..n).map(|_| mended()).collect()
        };
        let mut answers = [Examination::MAX + 1, Examination::MAX, 3].map(repaired).into_iter();
        let all = mend_all(async || Ok(answers.next().unwrap())).await.unwrap();
        assert_eq!(all.len(), 2 * Examination::MAX + 4);
    }
}
