//! Payloads that are gone, or are none: nothing else has them, so they cannot be made anew.

use pointsman_core::{
    JobId, Record, RecordKey,
    doctor::{Examination, Finding, FindingRule, Mend},
    record::JobStatus,
};
use pointsman_store::StoreError;

use super::records::Look;
use crate::{link::text, store::Inner};

impl Inner {
    /// Payloads of a wrong type.
    pub fn tell_payloads(&self, look: &mut Look) {
        let wrong = look.wrong.iter().filter(|(key, _)| key.starts_with("payload:"));
        let mut findings: Vec<Finding> = wrong.map(|(key, is)| self.wrong_type(key, is)).collect();
        for finding in &mut findings {
            let id = finding.subject.trim_start_matches("index/payload:");
            let is_its =
                |record: &&Record| matches!(record, Record::Job(job) if job.id.to_string() == id);
            if look.records.iter().any(|record| is_its(&record)) {
                finding.mend = Mend::None;
            } else {
                finding.consequence = "nothing: its job is gone".to_owned();
                finding.cure = "repair it: the key is set aside".to_owned();
            }
        }
        for finding in findings {
            look.found.add(finding);
        }
    }

    /// Live jobs whose payload is gone. What was submitted since the keys were listed is asked for.
    pub async fn tell_lost_payloads(&self, look: &mut Look) -> Result<(), StoreError> {
        let without = look.records.iter().filter_map(|record| match record {
            Record::Job(job) if !job.is_ended() && !look.payloads.contains(&job.id) => Some(job.id),
            _ => None,
        });
        let without: Vec<JobId> = without.take(Examination::MAX).collect();
        let mut ask = redis::pipe();
        for id in &without {
            ask.cmd("HGET").arg(self.key(&format!("job:{id}"))).arg("status");
            ask.cmd("EXISTS").arg(self.key(&format!("payload:{id}")));
        }
        let answers = self.link.send_all(&ask).await?;
        for (id, answer) in without.iter().zip(answers.chunks_exact(2)) {
            let status = serde_json::from_value::<JobStatus>(text(&answer[0]).into());
            let is_live = status.is_ok_and(|status| !status.is_ended());
            if is_live && text(&answer[1]) == "0" {
                let problem = format!("{} is gone", self.key(&format!("payload:{id}")));
                let key = RecordKey::Job(*id);
                look.found.add(Finding::about(FindingRule::LostPayload, &key, problem));
            }
        }
        Ok(())
    }
}
