//! Processes of workers: those that come anew, go silent and come back.

use std::time::Duration;

use pointsman_core::{
    Answer, Command, EventName, FailureKind, MachineId, Record, RecordKey, Rejected, ServiceName,
    command::{Claim, ConnectorReport, Exchange, Held, Raise, Reconcile, RegisterMachine, Renew},
    decide::limits,
    record::{
        AlertId, AlertRule, ConnectorStatus, JobStatus, MachineStatus, Orders, Severity,
        WorkerStatus,
    },
};

use super::{
    Open,
    fleet::{Fleet, Hand, completed, failed, service, spec},
};
use crate::{Due, Retention};

pub async fn a_superseded_worker_is_told_so(open: &Open) {
    let fleet = Fleet::new(open);
    let old = fleet.worker("w", 1, &[]).await;
    let held = fleet.running(&old).await;
    let new = fleet.hand("w");
    let register = Fleet::registration(&new, 1, &[]);
    let answer = fleet.run(Command::Register(register)).await.expect("accepted").0;
    assert_eq!(answer, Answer::Registered { running: vec![held] }, "what it may adopt");
    let superseded = Rejected::Superseded(old.incarnation);
    assert_eq!(fleet.act(&old, held, completed()).await, Err(superseded.clone()));
    assert_eq!(
        fleet.renew(&old, vec![held], ConnectorStatus::Active).await,
        Err(superseded.clone())
    );
    let back = fleet.run(Command::Register(Fleet::registration(&old, 1, &[]))).await;
    assert_eq!(back.err(), Some(superseded), "it never registers again");
    fleet.act(&new, held, completed()).await.expect("the new process adopted it");
    assert_eq!(fleet.worker_record(&new).await.machine_id, new.machine);
    fleet.check().await.expect("sound");
}

/// Whether anything waits or not.
pub async fn a_claim_that_may_not_be_is_refused(open: &Open) {
    let fleet = Fleet::new(open);
    let old = fleet.worker("w", 1, &[]).await;
    let refused = async |services: Vec<ServiceName>| {
        let claim = Claim { tokens: vec![fleet.token()], services };
        let bare = Exchange { claim: Some(claim), ..Fleet::exchange(&old, vec![], vec![]) };
        fleet.run(Command::Exchange(bare)).await.err()
    };
    assert_eq!(fleet.claim(&old).await, None);
    let other = ServiceName::new("other").expect("a valid name");
    let not_registered =
        Rejected::ServiceNotRegistered { service: other.clone(), registered: vec![service()] };
    assert_eq!(refused(vec![other]).await, Some(not_registered));
    let new = fleet.worker("w", 1, &[]).await;
    assert_eq!(fleet.claim(&new).await, None);
    assert_eq!(refused(vec![]).await, Some(Rejected::Superseded(old.incarnation)));
}

pub async fn processes_that_fight_over_an_id_are_noticed(open: &Open) {
    let fleet = Fleet::new(open);
    fleet.worker("w", 1, &[]).await;
    for changes in 1..=3 {
        let hand = fleet.worker("w", 1, &[]).await;
        let flapping = fleet.worker_record(&hand).await.is_flapping(fleet.store.now());
        assert_eq!(flapping, changes == 3, "after {changes} changes");
    }
    fleet.advance(Duration::from_secs(60));
    let hand = fleet.worker("w", 1, &[]).await;
    assert!(!fleet.worker_record(&hand).await.is_flapping(fleet.store.now()), "a minute later");
}

pub async fn silence_and_its_end_are_events(open: &Open) {
    let fleet = Fleet::new(open);
    let hand = fleet.worker("w", 1, &[]).await;
    fleet.advance(limits::SILENT_AFTER);
    assert_eq!(fleet.reconcile(Due::Workers).await, 1);
    assert_eq!(fleet.reconcile(Due::Machines).await, 1);
    assert_eq!(fleet.worker_record(&hand).await.status, WorkerStatus::Offline);
    assert_eq!(fleet.connector_record(&hand).await.status, ConnectorStatus::Unknown);
    assert_eq!(fleet.machine_record(&hand).await.status, MachineStatus::Disconnected);
    fleet.report(&hand, ConnectorStatus::Idle).await;
    fleet.reconcile(Due::Machines).await;
    assert_eq!(fleet.worker_record(&hand).await.status, WorkerStatus::Idle);
    assert_eq!(fleet.connector_record(&hand).await.status, ConnectorStatus::Idle);
    assert_eq!(fleet.machine_record(&hand).await.status, MachineStatus::Ready);
}

/// However often the store was away meanwhile, and was heard of by nobody.
pub async fn machines_that_are_gone_are_removed_in_time(open: &Open) {
    let fleet = Fleet::new(open);
    let bare = fleet.worker("w", 1, &[]).await;
    let agent = fleet.hand("agent");
    let (machine, incarnation) = (agent.machine.clone(), agent.incarnation);
    let register = RegisterMachine { machine, incarnation, gpus: Vec::new() };
    fleet.run(Command::RegisterMachine(register)).await.expect("accepted");
    let (worker, incarnation) = (bare.worker.clone(), bare.incarnation);
    fleet.run(Command::Leave { worker, incarnation }).await.expect("accepted");
    fleet.advance(limits::SILENT_AFTER);
    assert_eq!(fleet.reconcile(Due::Machines).await, 1, "the agent's is silent");
    let keys = [&bare, &agent].map(|hand| RecordKey::Machine(hand.machine.clone()));
    let known = async || fleet.store.records(keys.to_vec()).await.expect("the store works").len();
    let (keep, minute) = (Retention::default(), Duration::from_secs(60));
    for _ in 0..2 {
        fleet.advance(keep.gone_for / 2 - minute);
        fleet.store.break_contact().await.expect("the store works");
        fleet.reconcile(Due::Gone(keep)).await;
        assert_eq!(known().await, 2, "not yet");
    }
    fleet.advance(3 * minute);
    // The bare worker first, then its machine.
    for _ in 0..2 {
        fleet.reconcile(Due::Gone(keep)).await;
    }
    assert_eq!(known().await, 0);
}

/// The order is the machine's: it outlives its workers, its agent's restarts and theirs.
pub async fn a_drained_machine_drains_who_comes_to_it(open: &Open) {
    let fleet = Fleet::new(open);
    let machine = MachineId::new("box").expect("a valid name");
    let hand = |name| Hand { machine: machine.clone(), ..fleet.hand(name) };
    let come = async |hand: &Hand| {
        fleet.run(Command::Register(Fleet::registration(hand, 1, &[]))).await.expect("accepted");
        fleet.report(hand, ConnectorStatus::Idle).await;
        fleet.worker_record(hand).await.orders.drain
    };
    let order =
        |drain| Command::SetMachineOrders { machine: machine.clone(), orders: Orders { drain } };
    let unknown = fleet.run(order(true)).await.err();
    assert_eq!(unknown, Some(Rejected::MachineNotFound("box".into())));

    let [first, second] = ["first", "second"].map(hand);
    assert!(!come(&first).await && !come(&second).await);
    let seq = fleet.seq().await;
    fleet.run(order(true)).await.expect("accepted");
    fleet.run(order(true)).await.expect("accepted");
    assert_eq!(fleet.seq().await, seq + 1, "one step, and an exact repeat that changes nothing");
    for hand in [&first, &second] {
        assert_eq!(fleet.worker_record(hand).await.status, WorkerStatus::Draining);
    }
    let (agent, gpus) = (fleet.hand("agent").incarnation, Vec::new());
    let register = RegisterMachine { machine: machine.clone(), incarnation: agent, gpus };
    fleet.run(Command::RegisterMachine(register)).await.expect("accepted");
    assert!(fleet.machine_record(&first).await.orders.drain, "its agent came anew");

    assert!(come(&hand("new")).await);
    let elsewhere = fleet.worker("moving", 1, &[]).await;
    let moving = Hand { machine: machine.clone(), ..elsewhere };
    assert!(come(&moving).await, "it moved here");
    fleet.submit(spec(50)).await;
    assert_eq!(fleet.claim(&moving).await, None);

    let alone = Command::SetOrders { worker: first.worker.clone(), orders: Orders::default() };
    fleet.run(alone).await.expect("accepted");
    assert!(!come(&hand("first")).await, "an operator resumed it alone, and it restarted");
    fleet.run(order(false)).await.expect("accepted");
    assert!(!fleet.worker_record(&second).await.orders.drain);
    assert!(!fleet.machine_record(&second).await.orders.drain);
    assert!(!come(&hand("newer")).await);
    assert!(fleet.claim(&moving).await.is_some());
    fleet.check().await.expect("sound");
}

pub async fn a_stale_status_comes_back(open: &Open) {
    let fleet = Fleet::new(open);
    let hand = fleet.worker("w", 1, &[]).await;
    fleet.advance(limits::STALE_AFTER);
    fleet.reconcile(Due::Connectors).await;
    let stale = fleet.connector_record(&hand).await;
    assert_eq!(stale.status, ConnectorStatus::Unknown);
    assert_eq!(stale.error_message.as_deref(), Some("Status stale (60 s old)"));
    fleet.report(&hand, ConnectorStatus::Idle).await;
    let back = fleet.connector_record(&hand).await;
    assert_eq!((back.status, back.error_message.clone()), (ConnectorStatus::Idle, None));
    let seq = fleet.seq().await;
    fleet.report(&hand, ConnectorStatus::Idle).await;
    assert_eq!(fleet.seq().await, seq, "saying the same again is no event");
}

/// What it stands beside is done: a registration may have changed what the worker has meanwhile.
pub async fn a_service_that_was_not_registered_is_refused_by_name(open: &Open) {
    let fleet = Fleet::new(open);
    let hand = fleet.worker("w", 2, &[]).await;
    let held = fleet.running(&hand).await;
    fleet.submit(spec(50)).await;
    let other = ServiceName::new("other").expect("a valid name");
    let not_registered =
        Rejected::ServiceNotRegistered { service: other.clone(), registered: vec![service()] };
    let mut renewal = Fleet::renewal(&hand, vec![held], ConnectorStatus::Idle);
    let report = ConnectorReport { service: other.clone(), ..renewal.connectors[0].clone() };
    renewal.connectors.insert(0, report);
    fleet.advance(limits::LEASE / 2);
    let Ok((Answer::Renewed(renewed), _)) = fleet.run(Command::Renew(renewal)).await else {
        panic!("the lease is renewed");
    };
    assert_eq!(renewed.refused, std::slice::from_ref(&not_registered));
    fleet.advance(limits::LEASE / 2);
    assert_eq!(fleet.reconcile(Due::Leases).await, 0, "its lease began anew");

    let seq = fleet.seq().await;
    let services = vec![service(), other];
    let claim = Claim { tokens: vec![fleet.token()], services };
    let bare = Exchange { claim: Some(claim.clone()), ..Fleet::exchange(&hand, vec![], vec![]) };
    assert_eq!(fleet.run(Command::Exchange(bare)).await.err(), Some(not_registered.clone()));
    assert_eq!(fleet.seq().await, seq, "refused means unchanged");
    let end = Fleet::op(held, completed());
    let exchange = Exchange { claim: Some(claim), ..Fleet::exchange(&hand, vec![end], vec![]) };
    let (answer, _) = fleet.run(Command::Exchange(exchange)).await.expect("the end is taken");
    let Answer::Exchanged { ops, claimed, claim_refused } = answer else { panic!("{answer:?}") };
    assert_eq!((ops.len(), claimed.len()), (1, 0));
    assert_eq!(claim_refused, Some(not_registered));
    assert_eq!(fleet.job(held.job).await.status(), JobStatus::Completed);

    // What it got before it registered without the service is still told to an exact repeat.
    let token = fleet.token();
    let claim = Claim { tokens: vec![token], services: vec![service()] };
    let repeat = Exchange { claim: Some(claim), ..Fleet::exchange(&hand, vec![], vec![]) };
    let (first, _) = fleet.run(Command::Exchange(repeat.clone())).await.expect("a job");
    let mut register = Fleet::registration(&hand, 2, &[]);
    register.services[0].name = ServiceName::new("other").expect("a valid name");
    fleet.run(Command::Register(register)).await.expect("a valid registration");
    let (again, _) = fleet.run(Command::Exchange(repeat)).await.expect("the same job");
    assert_eq!(again, first);
    fleet.check().await.expect("sound");
}

/// The answer to a claim was lost: told before the lease ends, the worker gives the job back unstarted.
pub async fn a_worker_is_told_what_it_seems_not_to_know(open: &Open) {
    let fleet = Fleet::new(open);
    let hand = fleet.worker("w", 1, &[]).await;
    fleet.submit(spec(50)).await;
    let held = fleet.claim(&hand).await.expect("a job");
    let unknown = async |listed: &[Held]| {
        let renewed = fleet.renew(&hand, listed.to_vec(), ConnectorStatus::Idle).await;
        renewed.expect("heard").unknown_to_you
    };
    let instant = Duration::from_millis(1);
    assert_eq!(unknown(&[]).await, [], "the answer may be on its way");
    fleet.advance(limits::UNKNOWN_AFTER - instant);
    assert_eq!(unknown(&[]).await, []);
    fleet.advance(instant);
    assert_eq!(unknown(&[]).await, [held]);
    assert_eq!(unknown(&[held]).await, []);
    fleet.act(&hand, held, completed()).await.expect("accepted");
    assert_eq!(unknown(&[]).await, [], "it ended");
}

/// A pause lasts no longer than it may, also when the clock that it was set by was ahead of this one.
pub async fn no_pause_outlasts_a_clock_that_was_set_back(open: &Open) {
    let fleet = Fleet::new(open);
    let hands = [fleet.worker("a", 1, &[]).await, fleet.worker("b", 1, &[]).await];
    let held = fleet.running(&hands[0]).await;
    fleet.act(&hands[0], held, failed(FailureKind::WrongWorker)).await.expect("accepted");
    for _ in 0..limits::SUSPECT_AFTER {
        let held = fleet.claim(&hands[1]).await.expect("a job");
        fleet.act(&hands[1], held, failed(FailureKind::ServiceFault)).await.expect("accepted");
        fleet.submit(spec(50)).await;
    }
    assert_eq!(fleet.claim(&hands[1]).await, None, "it is suspect");
    fleet.clock.set_back(Duration::from_secs(2 * 3600));
    for hand in &hands {
        fleet.report(hand, ConnectorStatus::Idle).await;
    }
    assert!(fleet.claim(&hands[1]).await.is_some(), "it may prove itself");
    assert_eq!(fleet.reconcile(Due::Holds).await, 3, "no backoff is so long");
    assert_eq!(fleet.reconcile(Due::Exclusions).await, 3, "nor an exclusion");
    assert_eq!(Fleet::excluded(&*fleet.job(held.job).await).len(), 0);
    fleet.check().await.expect("sound");
}

/// A clock that is set back brings nobody back, and puts off the end of nobody by more than the time
/// that everybody has after a pause.
pub async fn who_is_away_is_found_out_after_the_clock_was_set_back(open: &Open) {
    let fleet = Fleet::new(open);
    let gone = fleet.worker("gone", 1, &[]).await;
    fleet.advance(limits::SILENT_AFTER);
    assert_eq!(fleet.reconcile(Due::Workers).await, 1);
    assert_eq!(fleet.reconcile(Due::Machines).await, 1);
    let busy = fleet.worker("busy", 1, &[]).await;
    let held = fleet.running(&busy).await;
    let mute = fleet.worker("mute", 1, &[]).await;
    fleet.clock.set_back(Duration::from_secs(2 * 3600));
    for what in [Due::Leases, Due::Workers, Due::Machines, Due::Connectors] {
        fleet.reconcile(what).await;
    }
    assert!(fleet.job(held.job).await.is_running(), "its worker has the time of a lease");
    assert_eq!(fleet.machine_record(&gone).await.status, MachineStatus::Disconnected);
    assert_eq!(fleet.machine_record(&busy).await.status, MachineStatus::Ready);

    fleet.advance(limits::LEASE);
    assert_eq!(fleet.reconcile(Due::Leases).await, 2, "the job and its worker");
    assert_eq!(fleet.job(held.job).await.status(), JobStatus::Pending);
    // Its process is there, and says nothing of its service.
    let silent = Renew {
        connectors: Vec::new(),
        ..Fleet::renewal(&mute, Vec::new(), ConnectorStatus::Idle)
    };
    fleet.run(Command::Renew(silent)).await.expect("accepted");
    fleet.advance(limits::SILENT_AFTER - limits::LEASE);
    assert_eq!(fleet.reconcile(Due::Workers).await, 0);
    assert_eq!(fleet.reconcile(Due::Machines).await, 1);
    assert_eq!(fleet.worker_record(&busy).await.status, WorkerStatus::Offline);
    assert_eq!(fleet.machine_record(&busy).await.status, MachineStatus::Disconnected);
    assert_eq!(fleet.machine_record(&gone).await.status, MachineStatus::Disconnected);
    fleet.advance(limits::STALE_AFTER - limits::SILENT_AFTER);
    assert_eq!(fleet.reconcile(Due::Connectors).await, 1);
    assert_eq!(fleet.connector_record(&mute).await.status, ConnectorStatus::Unknown);
    let returned = fleet
        .log()
        .await
        .iter()
        .flat_map(|group| &group.events)
        .filter(|event| {
            event.name == EventName::MachineStateChanged
                && event.key == RecordKey::Machine(gone.machine.clone())
        })
        .count();
    assert_eq!(returned, 0, "nobody has heard of it since");
    fleet.check().await.expect("sound");
}

pub async fn the_stores_absence_is_not_the_workers_silence(open: &Open) {
    let fleet = Fleet::new(open);
    let hand = fleet.worker("w", 1, &[]).await;
    let held = fleet.running(&hand).await;
    fleet.advance(Duration::from_secs(100));
    fleet.store.break_contact().await.expect("the store works");
    for what in [Due::Leases, Due::Workers, Due::Machines, Due::Connectors] {
        assert_eq!(fleet.reconcile(what).await, 0, "{what:?}");
    }
    assert!(fleet.run(Fleet::expire(held)).await.is_err(), "the guard knows it too");
    fleet.advance(limits::LEASE);
    assert_eq!(fleet.reconcile(Due::Leases).await, 2, "the job and its worker");
    assert_eq!(fleet.job(held.job).await.status(), JobStatus::Pending);
}

pub async fn a_worker_of_which_nothing_is_heard_when_its_lease_ends_is_not_idle(open: &Open) {
    let fleet = Fleet::new(open);
    let dead = fleet.worker("dead", 1, &[]).await;
    let lost = fleet.running(&dead).await;
    let lame = fleet.worker("lame", 1, &[]).await;
    let dropped = fleet.running(&lame).await;
    let idle = fleet.worker("idle", 1, &[]).await;
    fleet.advance(limits::LEASE);
    // It is there, and does not say that it has its job.
    fleet.report(&lame, ConnectorStatus::Idle).await;
    fleet.reconcile(Due::Leases).await;
    for held in [lost, dropped] {
        assert_eq!(fleet.job(held.job).await.status(), JobStatus::Pending);
    }
    let worker = fleet.worker_record(&dead).await;
    assert_eq!(worker.status, WorkerStatus::Offline);
    assert_eq!(worker.reason.as_deref(), Some("no heartbeat for 7 s"));
    assert_eq!(fleet.connector_record(&dead).await.status, ConnectorStatus::Unknown);
    for hand in [&lame, &idle] {
        assert_eq!(fleet.worker_record(hand).await.status, WorkerStatus::Idle);
        assert_eq!(fleet.connector_record(hand).await.status, ConnectorStatus::Idle);
    }
    fleet.report(&dead, ConnectorStatus::Idle).await;
    assert_eq!(fleet.worker_record(&dead).await.status, WorkerStatus::Idle, "it is heard again");
    fleet.check().await.expect("sound");
}

pub async fn a_process_that_dies_after_its_restart_is_not_there_when_its_jobs_lease_ends(
    open: &Open,
) {
    let fleet = Fleet::new(open);
    let first = fleet.worker("w", 1, &[]).await;
    let held = fleet.running(&first).await;
    fleet.advance(limits::LEASE - limits::SILENT_WITH_LEASE);
    let second = fleet.worker("w", 1, &[]).await;
    fleet.advance(limits::SILENT_WITH_LEASE);
    fleet.reconcile(Due::Leases).await;
    assert_eq!(fleet.job(held.job).await.status(), JobStatus::Pending);
    assert_eq!(fleet.worker_record(&second).await.status, WorkerStatus::Offline);
    fleet.check().await.expect("sound");
}

pub async fn an_alert_is_told_again_where_it_says_something_else(open: &Open) {
    let fleet = Fleet::new(open);
    let alert = AlertId { rule: AlertRule::StoreFull, subject: "files".into() };
    let first = Raise {
        alert: alert.clone(),
        severity: Severity::Warning,
        message: "nearly full".into(),
        action: "make room".into(),
    };
    let raise = async |raise: &Raise| {
        fleet.advance(Duration::from_secs(1));
        let (_, group) = fleet.run(Command::Raise(raise.clone())).await.expect("accepted");
        let found = fleet.store.records(vec![RecordKey::Alert(alert.clone())]).await;
        match found.expect("the store works").pop() {
            Some(Record::Alert(alert)) => (group.is_some(), alert.raised_at),
            other => panic!("no alert: {other:?}"),
        }
    };
    let (told, raised_at) = raise(&first).await;
    assert!(told);
    assert_eq!(raise(&first).await, (false, raised_at), "it says the same");
    let others = [
        Raise { severity: Severity::Critical, ..first.clone() },
        Raise { message: "full".into(), ..first.clone() },
        Raise { action: "make much room".into(), ..first.clone() },
    ];
    for other in others {
        assert_eq!(raise(&other).await, (true, raised_at), "{other:?}");
        assert_eq!(raise(&first).await, (true, raised_at), "and back from {other:?}");
    }
}

/// Who is there, or has a job, is not removed; and with whoever is goes what was only of it.
pub async fn only_what_is_gone_is_removed_and_all_of_it(open: &Open) {
    let fleet = Fleet::new(open);
    let hand = fleet.worker("w", 1, &[]).await;
    for _ in 0..limits::SUSPECT_AFTER {
        let held = fleet.running(&hand).await;
        fleet.act(&hand, held, failed(FailureKind::ServiceFault)).await.expect("accepted");
    }
    fleet.advance(limits::SUSPECT_FOR);
    fleet.report(&hand, ConnectorStatus::Idle).await;
    let held = fleet.running(&hand).await;
    let remove = async |what: Reconcile| fleet.run(Command::Reconcile(what)).await.err();
    let worker = || Reconcile::RemoveWorker { worker: hand.worker.clone() };
    let machine = || Reconcile::RemoveMachine { machine: hand.machine.clone() };
    let is_there = |refused| matches!(refused, Some(Rejected::NotGone { .. }));
    assert!(is_there(remove(worker()).await) && is_there(remove(machine()).await));
    let Hand { machine: agent, incarnation, .. } = fleet.hand("agent");
    let register = RegisterMachine { machine: agent.clone(), incarnation, gpus: Vec::new() };
    fleet.run(Command::RegisterMachine(register)).await.expect("accepted");
    let empty = || Reconcile::RemoveMachine { machine: agent.clone() };
    assert!(is_there(remove(empty()).await), "its agent is there, if no worker");
    let job = remove(Reconcile::RemoveJob { job: held.job }).await;
    assert!(matches!(job, Some(Rejected::NotEnded { .. })), "{job:?}");
    fleet.advance(limits::SILENT_AFTER);
    assert_eq!(fleet.reconcile(Due::Workers).await, 1);
    assert!(is_there(remove(worker()).await), "its job was not given back yet");
    assert!(is_there(remove(machine()).await), "nor was it seen to be away");
    assert_eq!(fleet.reconcile(Due::Machines).await, 2);
    assert_eq!(remove(empty()).await, None);
    assert!(is_there(remove(machine()).await), "its worker still has a job");
    fleet.reconcile(Due::Leases).await;
    assert_eq!(remove(machine()).await, None);
    let seed = fleet.store.seed().await.expect("the store works");
    let left: Vec<_> = seed.records.iter().map(Record::key).collect();
    assert!(left.iter().all(|key| matches!(key, RecordKey::Job(_))), "{left:?}");
    fleet.check().await.expect("sound");
}
