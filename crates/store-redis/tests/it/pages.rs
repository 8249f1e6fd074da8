//! Pages of jobs, while these change, and where nothing is to be shown of many.

use pointsman_core::{
    Command, JobId,
    command::{Held, Op},
};
use pointsman_store::{
    JobFilter, Store as _,
    conformance::fleet::{Fleet, completed, spec},
};
use pointsman_store_redis::Options;
use uuid::Uuid;

use crate::{
    between,
    support::{block_on, connection, fleet_on, open_with, prefix, redis_url},
};

/// It stands at its new place, and would be listed twice.
#[tokio::test]
async fn a_job_that_ends_anew_meanwhile_is_not_at_its_old_place() {
    let (fleet, options) = fleet_on();
    let hand = fleet.worker("w", 1, &[]).await;
    let mut ended = Vec::new();
    for _ in 0..3 {
        ended.push(fleet.completed(&hand).await);
    }
    let [first, second, last] = ended[..] else { panic!("three jobs") };
    let held = Held { job: first, attempt: 2, token: fleet.token() };
    let claim = Fleet::exchange(&hand, Vec::new(), vec![held.token]);
    let ends = [Op::Start, completed()].map(|op| Fleet::op(held, op)).to_vec();
    let mut again = vec![
        Command::Retry { job: first, run: None },
        Command::Exchange(claim),
        Command::Exchange(Fleet::exchange(&hand, ends, Vec::new())),
    ];
    let store = fleet.store.clone();
    // The list is known, and its first job is about to be read.
    let key = format!("{}job:{last}", prefix(&options));
    let way = between::before(&redis_url(), &["HGETALL", &key], move || {
        for done in block_on(store.execute(std::mem::take(&mut again))).expect("the store works") {
            done.expect("accepted");
        }
    });
    let looking = open_with(Options { address: way.parse().expect("a valid address"), ..options });
    let listed = async || -> Vec<JobId> {
        let page = looking.ended_jobs(JobFilter::default(), None, 10).await;
        page.expect("the store works").jobs.iter().map(|job| job.id).collect()
    };
    assert_eq!(listed().await, [last, second]);
    assert_eq!(listed().await, [first, last, second]);
}

/// It is short then, and the next one goes on behind what was looked at.
#[tokio::test]
async fn a_page_ends_where_so_many_jobs_were_looked_at() {
    let (fleet, options) = fleet_on();
    let oldest = fleet.submit(spec(50)).await;
    let mut nameless = redis::cmd("ZADD");
    nameless.arg(format!("{}jobs", prefix(&options)));
    for n in 0..21_000_u128 {
        nameless.arg(0).arg(Uuid::from_u128((0x0191 << 112) | n).to_string());
    }
    nameless.exec(&mut connection()).expect("they are listed");
    let page = async |before| {
        let page = fleet.store.jobs(JobFilter::default(), before, 10).await;
        let page = page.expect("the store works");
        (page.jobs.iter().map(|job| job.id).collect::<Vec<_>>(), page.next)
    };
    let (none, next) = page(None).await;
    assert_eq!(none, []);
    assert!(next.is_some(), "more may follow");
    assert_eq!(page(next).await, (vec![oldest], None));
}
