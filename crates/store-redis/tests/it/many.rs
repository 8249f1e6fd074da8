//! One exchange about as many jobs as one may be about: Lua holds only so many values at once. A page
//! of a few jobs among many.

use pointsman_core::{
    Command, JobId,
    command::Held,
    record::{ConnectorStatus, JobSpec, JobStatus},
};
use pointsman_redis_testing::{RedisOptions, RedisServer};
use pointsman_store::{
    Due, JobFilter, MAX_AHEAD,
    conformance::fleet::{Fleet, Hand, completed, spec},
};
use uuid::Uuid;

use crate::support::{connection, count, fleet_at, fleet_on, prefix};

/// The most operations and the most tokens of an exchange.
const MOST: usize = 1_024;

async fn submit(fleet: &Fleet, count: usize) -> Vec<JobId> {
    let jobs: Vec<_> = (0..count).map(|_| fleet.submission(spec(50))).collect();
    let ids = jobs.iter().map(|job| job.id).collect();
    let commands = jobs.into_iter().map(Command::Submit).collect();
    for done in fleet.store.execute(commands).await.expect("the store works") {
        done.expect("a valid submission");
    }
    ids
}

/// Ends these and claims as many others.
async fn exchange(fleet: &Fleet, hand: &Hand, ended: &[Held]) -> Vec<Held> {
    let ops = ended.iter().map(|held| Fleet::op(*held, completed())).collect();
    let tokens = (0..MOST).map(|_| fleet.token()).collect();
    let exchange = Fleet::exchange(hand, ops, tokens);
    match fleet.run(Command::Exchange(exchange)).await.expect("a valid exchange").0 {
        pointsman_core::Answer::Exchanged { claimed, ops, .. } => {
            assert!(ops.iter().all(Result::is_ok), "{ops:?}");
            claimed
        }
        other => panic!("an exchange was answered {other:?}"),
    }
}

#[tokio::test]
async fn one_exchange_ends_many_jobs_and_takes_as_many() {
    let (fleet, _) = fleet_on();
    let hand = fleet.worker("w", MOST as u32, &[]).await;
    let submitted = submit(&fleet, 2 * MOST).await;
    let first = exchange(&fleet, &hand, &[]).await;
    let second = exchange(&fleet, &hand, &first).await;
    let jobs: Vec<JobId> = first.iter().chain(&second).map(|held| held.job).collect();
    assert_eq!(jobs, submitted, "all are taken, in their order");
    let payloads = fleet.store.payloads(jobs).await.expect("the store works");
    assert!(payloads.iter().all(|p| p.as_deref() == Some(b"{}".as_slice())), "{payloads:?}");
    let counts = fleet.store.queues(0).await.expect("the store works").counts;
    assert_eq!((counts.completed, counts.assigned), (MOST as u64, MOST as u64));
    fleet.check().await.expect("nothing is wrong");
    assert_eq!(exchange(&fleet, &hand, &second).await, []);
    fleet.check().await.expect("nothing is wrong");
}

/// More events in one step than one call takes.
const LEASES: usize = 4 * MOST;

#[tokio::test]
async fn a_worker_with_thousands_of_jobs_renews_and_leaves_in_one_step() {
    let (fleet, _) = fleet_on();
    let slots = u32::try_from(LEASES).expect("a small number");
    let hand = fleet.worker("w", slots, &[]).await;
    for _ in 0..LEASES / MOST {
        submit(&fleet, MOST).await;
    }
    let mut held = Vec::new();
    for _ in 0..LEASES / MOST {
        let tokens = (0..MOST).map(|_| fleet.token()).collect();
        held.extend(fleet.claim_with(&hand, tokens).await);
    }
    assert_eq!(held.len(), LEASES);
    fleet.advance(std::time::Duration::from_secs(5));
    let renewed = fleet.renew(&hand, held.clone(), ConnectorStatus::Active).await;
    assert!(renewed.expect("a valid renewal").lost.is_empty());
    fleet.advance(std::time::Duration::from_secs(6));
    assert_eq!(fleet.reconcile(Due::Leases).await, 0, "every lease was renewed");
    let leave = Command::Leave { worker: hand.worker.clone(), incarnation: hand.incarnation };
    fleet.run(leave).await.expect("it leaves");
    for held in held.iter().step_by(MOST) {
        assert!(fleet.job(held.job).await.is_waiting());
    }
    fleet.check().await.expect("the log tells what is there");
}

#[tokio::test]
async fn a_customers_page_reads_no_other_customers_records() {
    let server = RedisServer::start(RedisOptions::default()).await.expect("it starts");
    let fleet = fleet_at(&server);
    let customer = || Some("acme".parse().expect("a valid id"));
    let first = fleet.submit(JobSpec { customer_id: customer(), ..spec(50) }).await;
    submit(&fleet, 600).await;
    let second = fleet.submit(JobSpec { customer_id: customer(), ..spec(50) }).await;
    fleet.run(Command::Cancel { job: second }).await.expect("it waits");
    let service = spec(50).service.clone();
    let own = JobFilter { customer: customer(), ..JobFilter::default() };
    let waiting = JobFilter { status: Some(JobStatus::Pending), ..own.clone() };
    let of_service = JobFilter { service: Some(service), ..own.clone() };
    let of_another = JobFilter { service: Some("comfyui".parse().expect("valid")), ..own.clone() };
    let reads = || count(&server, "hgetall", "calls");
    for (filter, jobs) in [
        (own, vec![second, first]),
        (waiting, vec![first]),
        (of_service, vec![second, first]),
        (of_another, vec![]),
    ] {
        let before = reads().await;
        let page = fleet.store.jobs(filter.clone(), None, 100).await.expect("the store works");
        let found: Vec<JobId> = page.jobs.iter().map(|job| job.id).collect();
        assert_eq!((found, page.next), (jobs.clone(), None), "{filter:?}");
        assert_eq!(reads().await - before, u32::try_from(jobs.len()).expect("few"), "{filter:?}");
    }
    let all = fleet.store.jobs(JobFilter::default(), None, 100).await.expect("the store works");
    assert_eq!(all.jobs.len(), 100);
    assert_eq!(all.next, all.jobs.last().map(|job| job.id));
}

/// How many are ahead is told as long as they can be counted.
#[tokio::test]
async fn of_very_many_ahead_no_number_is_told() {
    let (fleet, options) = fleet_on();
    fleet.worker("w", 1, &[]).await;
    let last = fleet.submit(spec(50)).await;
    let class = fleet.store.queues(1).await.expect("the store works").classes[0].class;
    let mut queued = redis::cmd("ZADD");
    queued.arg(format!("{}queue:{class}", prefix(&options)));
    for n in 1..MAX_AHEAD {
        queued.arg(1).arg(format!("{n:012x}:{}", JobId::from_uuid(Uuid::nil())));
    }
    let mut redis = connection();
    queued.exec(&mut redis).expect("they wait");
    let ahead = async || {
        let explained = fleet.store.explain(last).await.expect("the store works");
        explained.expect("there is such a job").1
    };
    assert_eq!(ahead().await, Some(MAX_AHEAD - 1));
    queued.arg(1).arg("one-more").exec(&mut redis).expect("it waits");
    assert_eq!(ahead().await, None);
}
