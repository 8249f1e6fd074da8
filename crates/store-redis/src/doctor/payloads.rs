//! Payloads that are gone, or are none: nothing else has them, so they cannot be made anew.

use std::collections::HashSet;

use pointsman_core::{
    JobId, Record, RecordKey,
    doctor::{Examination, Finding, FindingRule, Mend},
    record::JobStatus,
};
use pointsman_store::StoreError;

use super::records::Look;
use crate::{
    encoding::{keys, results},
    link::text,
    store::Inner,
};

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

    /// Payloads and results of jobs that are nowhere: not even set aside, so nothing removes them.
    pub async fn tell_stray_payloads(&self, look: &mut Look) -> Result<(), StoreError> {
        let jobs = look.records.iter().filter_map(|record| match record {
            Record::Job(job) => Some(job.id),
            _ => None,
        });
        let known: HashSet<JobId> = jobs.collect();
        let stray = look.payloads.union(&look.results).filter(|id| !known.contains(id));
        let mut stray: Vec<JobId> = stray.copied().collect();
        stray.sort_unstable();
        stray.truncate(Examination::MAX);
        let mut ask = redis::pipe();
        let gone = self.gone_for_good(&stray).await?;
        for id in &gone {
            ask.cmd("EXISTS").arg(self.beside(*id).as_slice());
        }
        let answers = self.link.send_all(&ask).await?;
        for (id, answer) in gone.into_iter().zip(answers) {
            let [payload, results] = self.beside(id);
            // Of a wrong type it is told already, and set aside.
            let is_wrong = beside(id).iter().any(|key| look.wrong.contains_key(key));
            if is_wrong || text(&answer) == "0" {
                continue;
            }
            let problem = format!("{payload} or {results} is there, and job {id} is not");
            let subject = format!("index/payload:{id}");
            let finding = Finding::new(FindingRule::IndexWithoutRecord, subject, problem);
            look.stray.insert(finding.id.clone(), id);
            look.found.add(Finding {
                consequence: "nothing removes it; it takes up memory".to_owned(),
                cure: format!(
                    "submit the job again with what is in {payload}, if it is still wanted; then \
                     repair it: both keys are deleted"
                ),
                ..finding
            });
        }
        Ok(())
    }

    /// Deletes them, if the job is still nowhere.
    pub async fn delete_stray(&self, job: JobId) -> Result<(), StoreError> {
        if !self.gone_for_good(&[job]).await?.is_empty() {
            self.link.send(redis::cmd("UNLINK").arg(self.beside(job).as_slice())).await?;
        }
        Ok(())
    }

    /// The keys, whole, of what is kept beside a job's record.
    pub fn beside(&self, job: JobId) -> [String; 2] {
        beside(job).map(|key| self.key(&key))
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
            // The job after its payload: one that was removed in between has lost nothing.
            ask.cmd("EXISTS").arg(self.key(&keys::payload(*id)));
            ask.cmd("HGET").arg(self.key(&keys::record(&RecordKey::Job(*id)))).arg("status");
        }
        let answers = self.link.send_all(&ask).await?;
        for (id, answer) in without.iter().zip(answers.chunks_exact(2)) {
            let status = JobStatus::named(&text(&answer[1]));
            let is_live = status.is_some_and(|status| !status.is_ended());
            if is_live && text(&answer[0]) == "0" {
                let problem = format!("{} is gone", self.key(&keys::payload(*id)));
                let key = RecordKey::Job(*id);
                look.found.add(Finding::about(FindingRule::LostPayload, &key, problem));
            }
        }
        Ok(())
    }
}

fn beside(job: JobId) -> [String; 2] {
    [keys::payload(job), results::key(job)]
}
