//! Records that were corrupted are found, mended by changes in the log, and sound again; what is
//! sound is never touched.

use std::sync::Arc;

use pointsman_core::{
    Command, ConnectorId, Event, EventName, JobId, MachineId, Record, RecordKey, ServiceName,
    command::Held,
    doctor::{MendOutcome, Mended},
    matching::digest,
    record::{Connector, ConnectorStatus, Job, JobState, Machine, Worker, WorkerStatus},
    view::{ENDED_IN_VIEW, View},
};

use super::{
    Open,
    fleet::{Fleet, Hand, completed, service, spec},
};
use crate::{Depth, Seed};

/// A fleet with a worker that runs one of its jobs, has completed two, and has one waiting.
struct Ward {
    fleet: Fleet,
    hand: Hand,
    held: Held,
    ended: [JobId; 2],
    waiting: JobId,
    worker: Worker,
    connector: Connector,
    machine: Arc<Machine>,
}

impl Ward {
    async fn new(open: &Open) -> Self {
        let fleet = Fleet::new(open);
        let hand = fleet.worker("w", 1, &[]).await;
        let mut ended = [JobId::from_uuid(uuid::Uuid::nil()); 2];
        for id in &mut ended {
            let held = fleet.running(&hand).await;
            fleet.act(&hand, held, completed()).await.expect("a valid ending");
            *id = held.job;
        }
        let held = fleet.running(&hand).await;
        let waiting = fleet.submit(spec(50)).await;
        let worker = (*fleet.worker_record(&hand).await).clone();
        let connector = (*fleet.connector_record(&hand).await).clone();
        let machine = fleet.machine_record(&hand).await;
        Self { fleet, hand, held, ended, waiting, worker, connector, machine }
    }

    fn with_worker(&self, change: impl FnOnce(&mut Worker)) -> Event {
        let mut worker = self.worker.clone();
        change(&mut worker);
        Event::put(EventName::WorkerStatusChanged, Record::Worker(worker.into()))
    }

    fn with_connector(&self, change: impl FnOnce(&mut Connector)) -> Event {
        let mut connector = self.connector.clone();
        change(&mut connector);
        Event::put(EventName::ConnectorStatusChanged, Record::Connector(connector.into()))
    }

    async fn with_job(&self, id: JobId, change: impl FnOnce(&mut Job)) -> Event {
        let mut job = (*self.fleet.job(id).await).clone();
        change(&mut job);
        Event::put(EventName::JobUpdated, Record::Job(job.into()))
    }

    fn without_machine(&self) -> Event {
        let key = RecordKey::Machine(self.machine.id.clone());
        Event::removed(EventName::MachineRemoved, key)
    }

    /// Corrupts, and looks: exactly this is wrong. Mends, and looks: nothing is.
    async fn treat(&self, changes: Vec<Event>, expected: &[String]) -> Vec<Mended> {
        self.fleet.corrupt(changes).await;
        let mut found = self.fleet.findings().await;
        found.sort();
        let mut expected = expected.to_vec();
        expected.sort();
        assert_eq!(found, expected);
        let mended = self.fleet.store.mend(None).await.expect("the store works");
        assert_eq!(mended.len(), expected.len(), "{mended:?}");
        for Mended { finding, outcome } in &mended {
            assert_eq!(*outcome, MendOutcome::Repaired, "{finding:?}");
        }
        self.fleet.check().await.expect("sound again");
        mended
    }

    /// What a server shows that begins now.
    async fn view(&self) -> View {
        let Seed { position, last_ended_no, records, .. } =
            self.fleet.store.seed().await.expect("the store works");
        View::restore(position.seq, last_ended_no, records)
    }

    /// So many jobs complete.
    async fn end(&self, count: u64) {
        let hand = self.fleet.worker("other", 1_000, &[]).await;
        let submits = (0..count).map(|_| Command::Submit(self.fleet.submission(spec(100))));
        self.fleet.store.execute(submits.collect()).await.expect("the store works");
        let tokens = (0..count).map(|_| self.fleet.token()).collect();
        let held = self.fleet.claim_with(&hand, tokens).await;
        let ops: Vec<_> = held.into_iter().map(|held| Fleet::op(held, completed())).collect();
        assert_eq!(ops.len() as u64, count);
        let exchange = Fleet::exchange(&hand, ops, Vec::new());
        self.fleet.run(Command::Exchange(exchange)).await.expect("valid endings");
    }

    /// Mending what is sound changes nothing.
    async fn is_left_alone(&self) {
        let seq = self.fleet.seq().await;
        assert_eq!(self.fleet.store.mend(None).await.expect("the store works"), []);
        assert_eq!(self.fleet.seq().await, seq);
    }
}

fn machine(name: &str) -> MachineId {
    MachineId::new(name).expect("a valid name")
}

pub async fn all_are_found_and_mended(open: &Open) {
    Ward::new(open).await.is_left_alone().await;
    machines(open).await;
    statuses(open).await;
    lists(open).await;
    connectors(open).await;
    jobs(open).await;
    what_no_repair_can_mend(open).await;
}

async fn machines(open: &Open) {
    // The seed's worker: its machine is the one that its connectors name.
    let ward = Ward::new(open).await;
    let corrupt = ward.with_worker(|worker| worker.machine_id = machine("unknown"));
    let expected = ["unknown_machine:worker/w", "contradiction:connector/w:simulation"];
    ward.treat(vec![corrupt], &expected.map(str::to_owned)).await;
    assert_eq!(ward.fleet.worker_record(&ward.hand).await.machine_id, ward.hand.machine);
    assert_eq!(ward.fleet.machine_record(&ward.hand).await, ward.machine, "left as it was");
    assert!(ward.fleet.act(&ward.hand, ward.held, completed()).await.is_ok(), "it works on");

    let ward = Ward::new(open).await;
    let corrupt = ward.with_connector(|connector| connector.machine_id = machine("other"));
    ward.treat(vec![corrupt], &["contradiction:connector/w:simulation".into()]).await;

    // The machine's own record is lost.
    let ward = Ward::new(open).await;
    ward.treat(vec![ward.without_machine()], &["unknown_machine:worker/w".into()]).await;
    ward.is_left_alone().await;
}

async fn statuses(open: &Open) {
    let ward = Ward::new(open).await;
    let worker = ward.with_worker(|worker| worker.status = WorkerStatus::Idle);
    let connector = ward.with_connector(|connector| connector.status = ConnectorStatus::Error);
    let expected = ["wrong_status:worker/w", "wrong_status:connector/w:simulation"];
    ward.treat(vec![worker, connector], &expected.map(str::to_owned)).await;
    assert_eq!(ward.fleet.worker_record(&ward.hand).await.status, WorkerStatus::Busy);
}

async fn lists(open: &Open) {
    let expected = ["wrong_list:worker/w", "wrong_list:connector/w:simulation"];
    let expected = expected.map(str::to_owned);
    let ward = Ward::new(open).await;
    let waiting = ward.waiting;
    let worker = ward.with_worker(|worker| worker.current_job_ids.extend([waiting]));
    let connector = ward.with_connector(|connector| connector.job_ids.extend([waiting]));
    ward.treat(vec![worker, connector], &expected).await;
    let own = ward.fleet.worker_record(&ward.hand).await.current_job_ids.clone();
    assert_eq!(own.into_iter().collect::<Vec<_>>(), [ward.held.job]);

    let ward = Ward::new(open).await;
    let worker = ward.with_worker(|worker| {
        worker.current_job_ids.clear();
        worker.status = WorkerStatus::Idle;
    });
    let connector = ward.with_connector(|connector| {
        connector.job_ids.clear();
        connector.status = ConnectorStatus::Idle;
    });
    ward.treat(vec![worker, connector], &expected).await;
    assert_eq!(ward.fleet.worker_record(&ward.hand).await.status, WorkerStatus::Busy);
    assert_eq!(ward.fleet.connector_record(&ward.hand).await.status, ConnectorStatus::Active);
}

async fn connectors(open: &Open) {
    let ward = Ward::new(open).await;
    let key = RecordKey::Connector(ward.connector.id.clone());
    let removed = Event::removed(EventName::ConnectorStatusChanged, key);
    ward.treat(vec![removed], &["missing_connector:connector/w:simulation".into()]).await;
    ward.fleet.report(&ward.hand, ConnectorStatus::Idle).await;
    let connector = ward.fleet.connector_record(&ward.hand).await;
    assert_eq!(connector.status, ConnectorStatus::Active, "it has its job again");

    let ward = Ward::new(open).await;
    let surplus = ward.with_connector(|connector| {
        let service = ServiceName::new("comfyui").expect("a valid name");
        connector.id = ConnectorId::new(ward.hand.worker.clone(), service.clone());
        connector.service_type = service;
        connector.job_ids.clear();
        connector.status = ConnectorStatus::Idle;
    });
    ward.treat(vec![surplus], &["unknown_worker:connector/w:comfyui".into()]).await;
    assert_eq!(*ward.fleet.connector_record(&ward.hand).await, ward.connector);

    let ward = Ward::new(open).await;
    let foreign = ward.with_connector(|connector| {
        connector.service_type = ServiceName::new("comfyui").expect("a valid name");
    });
    ward.treat(vec![foreign], &["contradiction:connector/w:simulation".into()]).await;
    assert_eq!(ward.fleet.connector_record(&ward.hand).await.service_type, service());
}

async fn jobs(open: &Open) {
    let ward = Ward::new(open).await;
    let key = RecordKey::Worker(ward.hand.worker.clone());
    let expected = [
        format!("unknown_worker:job/{}", ward.held.job),
        "unknown_worker:connector/w:simulation".to_owned(),
    ];
    ward.treat(vec![Event::removed(EventName::WorkerRemoved, key)], &expected).await;
    let job = ward.fleet.job(ward.held.job).await;
    assert_eq!((job.is_pending(), job.losses), (true, 1), "given back, as a loss");

    let ward = Ward::new(open).await;
    let corrupt = ward.with_job(ward.held.job, |job| job.token = None).await;
    ward.fleet.corrupt(vec![corrupt]).await;
    // A store that reads its records back cannot hold this one at all.
    let job = RecordKey::Job(ward.held.job);
    if ward.fleet.store.records(vec![job]).await.is_ok() {
        ward.treat(Vec::new(), &[format!("contradiction:job/{}", ward.held.job)]).await;
        assert!(ward.fleet.job(ward.held.job).await.is_pending());
    }

    for wrong in [99, 1] {
        let ward = Ward::new(open).await;
        let mut live = ward.view().await;
        let id = ward.ended[1];
        let corrupt = ward.with_job(id, |job| {
            if let JobState::Completed(ended) = &mut job.state {
                ended.ended_no = wrong;
            }
        });
        ward.fleet.corrupt(vec![corrupt.await]).await;
        let found = ward.fleet.findings().await;
        assert!(found.iter().all(|id| id.starts_with("unknown_number:job/")), "{found:?}");
        assert_eq!(found.len(), 1);
        let mended = ward.fleet.store.mend(None).await.expect("the store works");
        assert_eq!(mended[0].outcome, MendOutcome::Repaired);
        ward.fleet.check().await.expect("sound again");
        let numbers = [ward.fleet.job(ward.ended[0]).await, ward.fleet.job(id).await];
        let numbers = numbers.map(|job| job.ended().map(|ended| ended.ended_no));
        assert_ne!(numbers[0], numbers[1]);
        // Also when all of them leave it, a live view shows what one shows that begins now.
        for endings in [ENDED_IN_VIEW - 2, 1, 1, 1] {
            ward.end(endings).await;
            let seen = usize::try_from(live.seq).expect("few groups");
            for group in ward.fleet.log().await.iter().skip(seen) {
                live.fold(group);
            }
            assert_eq!(live.jobs, ward.view().await.jobs, "number {wrong}, {endings} endings on");
        }
    }
}

async fn what_no_repair_can_mend(open: &Open) {
    let ward = Ward::new(open).await;
    let mut other = Fleet::registration(&ward.hand, 1, &["other"]).capabilities;
    other.labels.clear();
    other.services.clear();
    let digest = digest(&other);
    ward.fleet.corrupt(vec![ward.with_worker(|w| w.capabilities_digest = digest)]).await;
    let seq = ward.fleet.seq().await;
    let mended = ward.fleet.store.mend(None).await.expect("the store works");
    let [Mended { finding, outcome: MendOutcome::Left { .. } }] = &mended[..] else {
        panic!("{mended:?}");
    };
    assert_eq!(finding.id, "unknown_capabilities:worker/w");
    assert_eq!(ward.fleet.findings().await, std::slice::from_ref(&finding.id), "it stays shown");
    assert_eq!(ward.fleet.seq().await, seq, "nothing was changed");
    // Its process comes back, and brings them.
    let register = Fleet::registration(&ward.hand, 1, &[]);
    let register = Command::Register(register);
    ward.fleet.run(register).await.expect("a valid registration");
    ward.fleet.check().await.expect("sound again");
}

pub async fn only_the_named_are_mended(open: &Open) {
    let ward = Ward::new(open).await;
    let other = ward.fleet.worker("v", 1, &[]).await;
    let mut wrong = (*ward.fleet.worker_record(&other).await).clone();
    wrong.status = WorkerStatus::Offline;
    let wrong = Event::put(EventName::WorkerStatusChanged, Record::Worker(wrong.into()));
    let corrupt = ward.with_worker(|worker| worker.status = WorkerStatus::Offline);
    ward.fleet.corrupt(vec![wrong, corrupt]).await;
    let fleet = ward.fleet.store.examine(Depth::Fleet).await.expect("the store works");
    assert_eq!(fleet.findings.len(), 2, "workers are looked at often");
    let named = vec!["wrong_status:worker/v".to_owned(), "wrong_status:worker/no-more".to_owned()];
    let mended = ward.fleet.store.mend(Some(named)).await.expect("the store works");
    assert_eq!(mended.len(), 1, "what is gone already is not told: {mended:?}");
    assert_eq!(ward.fleet.findings().await, ["wrong_status:worker/w"]);
    ward.fleet.store.mend(None).await.expect("the store works");
    ward.is_left_alone().await;
}
