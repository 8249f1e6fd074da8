//! What the log says became of the jobs.

use std::collections::BTreeMap;

use pointsman_api::ErrorCode;
use pointsman_client::{Client, ClientError};
use pointsman_core::{EventName, JobId};
use tokio::time::Instant;

use super::fleet::SOON;

/// What the log holds about one job.
#[derive(Debug, Clone, Copy, Default)]
pub struct Told {
    pub assigned: u32,
    pub completed: u32,
    /// Failed or cancelled.
    pub ended_otherwise: u32,
    pub late: u32,
}

impl Told {
    pub fn ended(&self) -> u32 {
        self.completed + self.ended_otherwise
    }
}

/// A log read from its beginning, and on.
#[derive(Default)]
pub struct Judge {
    epoch: String,
    after: String,
    pub jobs: BTreeMap<JobId, Told>,
}

impl Judge {
    /// Reads on to the end of the log; from its beginning in another epoch.
    async fn read(&mut self, client: &Client) {
        let epoch = match client.snapshot().await {
            // The server has not heard of its store again yet.
            Err(why) if why.is_transient() => return,
            snapshot => snapshot.expect("a snapshot").epoch,
        };
        if epoch != self.epoch {
            *self = Self { after: format!("{epoch}.0"), epoch, jobs: BTreeMap::new() };
        }
        loop {
            let page = match client.log(&self.after, 1_000).await {
                // The store is in a new epoch, which the server's view has not seen yet.
                Err(ClientError::Problem(why)) if why.is(ErrorCode::LogCut) => return,
                page => page.expect("the log is kept"),
            };
            for event in &page.events {
                self.take(event.event, &event.id);
            }
            if page.next == self.after {
                return;
            }
            self.after = page.next;
        }
    }

    fn take(&mut self, event: EventName, id: &str) {
        let mut told = |change: fn(&mut Told)| {
            change(self.jobs.entry(id.parse().expect("a job id")).or_default());
        };
        match event {
            EventName::JobAssigned => told(|job| job.assigned += 1),
            EventName::JobCompleted => told(|job| job.completed += 1),
            EventName::JobFailed | EventName::JobCancelled => told(|job| job.ended_otherwise += 1),
            EventName::JobLateResult => told(|job| job.late += 1),
            _ => {}
        }
    }

    /// Waits until all of these have ended, each completed once; nothing at all ended twice. Says
    /// what it counted.
    pub async fn each_completed_once<'a>(
        client: &Client,
        name: &str,
        acknowledged: impl IntoIterator<Item = &'a JobId>,
    ) -> Self {
        let acknowledged: Vec<&JobId> = acknowledged.into_iter().collect();
        let mut judge = Self::default();
        let deadline = Instant::now() + SOON * 2;
        let open = |judge: &Self| {
            let ended = |id: &&&JobId| judge.jobs.get(**id).is_none_or(|job| job.ended() == 0);
            acknowledged.iter().filter(ended).count()
        };
        loop {
            judge.read(client).await;
            let open = open(&judge);
            if open == 0 {
                break;
            }
            let of = acknowledged.len();
            assert!(Instant::now() < deadline, "{open} of {of} acknowledged jobs have not ended");
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        }
        judge.print(name, acknowledged.len());
        for (id, job) in &judge.jobs {
            assert!(job.ended() <= 1, "{id} ended more than once: {job:?}");
        }
        for id in acknowledged {
            assert_eq!(judge.jobs[id].completed, 1, "{id}: {:?}", judge.jobs[id]);
        }
        judge
    }

    fn print(&self, name: &str, acknowledged: usize) {
        let sum = |count: fn(&Told) -> u32| self.jobs.values().map(count).sum::<u32>();
        println!(
            "{name}: acknowledged {acknowledged}, completed {}, otherwise ended {}, attempts {}, \
             jobs with more than one {}, late {}",
            sum(|job| job.completed),
            sum(|job| job.ended_otherwise),
            sum(|job| job.assigned),
            self.jobs.values().filter(|job| job.assigned > 1).count(),
            sum(|job| job.late),
        );
    }
}
