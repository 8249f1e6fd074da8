//! Capabilities that cannot be read are their own workers' trouble alone.

use pointsman_core::{
    JobId,
    doctor::{Finding, Mend, MendOutcome},
    record::JobSpec,
};
use pointsman_store::{
    Depth, Store,
    conformance::fleet::{Fleet, Hand, needs, spec},
};
use pointsman_store_redis::{Options, RedisStore};

use crate::support::{by_hand, fleet_on, open_with, prefix};

/// Two workers that offer something else each; one job waits for both, one for nobody.
struct Scene {
    fleet: Fleet,
    options: Options,
    other: Hand,
    jobs: [JobId; 2],
    /// The key of the other worker's profile.
    profile: String,
}

impl Scene {
    async fn new() -> Self {
        let (fleet, options) = fleet_on();
        fleet.worker("w", 1, &[]).await;
        let other = fleet.worker("other", 1, &["y"]).await;
        let any = fleet.submit(spec(50)).await;
        let nobodys = fleet.submit(JobSpec { requirements: needs("z"), ..spec(50) }).await;
        let digest = fleet.worker_record(&other).await.capabilities_digest;
        let profile = format!("profile:{digest}");
        Self { fleet, options, other, jobs: [any, nobodys], profile }
    }

    /// Damages the other worker's capabilities in one way after the other, the last as a newer
    /// version's are to this one.
    fn damages(&self) -> [Vec<String>; 3] {
        let Self { profile, .. } = self;
        let whole = by_hand(&prefix(&self.options), &format!("HGET {profile} capabilities"));
        let whole: String = redis::from_redis_value(whole).expect("capabilities");
        let newer = whole.replacen('{', r#"{"speed":9,"#, 1);
        [
            vec![format!(r#"HSET {profile} capabilities {{"broken":1}}"#)],
            vec![format!("SET {profile} x")],
            vec![
                format!("DEL {profile}"),
                format!("HSET {profile} capabilities {newer} users 1 services simulation"),
            ],
        ]
    }

    /// A process that remembers nothing.
    fn fresh(&self) -> RedisStore {
        open_with(self.options.clone())
    }
}

async fn only_finding(store: &dyn Store) -> Finding {
    let found = store.examine(Depth::Fleet).await.expect("it is examined");
    let [finding] = &found.findings[..] else { panic!("{found:?}") };
    finding.clone()
}

#[tokio::test]
async fn they_keep_nobody_from_the_others() {
    let scene = Scene::new().await;
    let digest = scene.fleet.worker_record(&scene.other).await.capabilities_digest;
    for damage in scene.damages() {
        damage.iter().for_each(|command| drop(by_hand(&prefix(&scene.options), command)));
        let store = scene.fresh();
        assert_eq!(store.capabilities(digest).await, Ok(None), "{damage:?}");
        let queues = store.queues(10).await.expect("the others are there");
        let able: Vec<u64> = queues.classes.iter().map(|class| class.able_workers).collect();
        assert_eq!(able, [1, 0], "{damage:?}");
        for job in scene.jobs {
            let explained = store.explain(job).await.expect("the others are there");
            assert!(explained.is_some(), "{damage:?}");
        }
    }
}

/// Two servers show what they find as one alert: they must say the same of it.
#[tokio::test]
async fn who_remembers_them_says_the_same_as_who_does_not() {
    let scene = Scene::new().await;
    let damage = &scene.damages()[0][0];
    by_hand(&prefix(&scene.options), damage);
    let (known, unknown) =
        (only_finding(&*scene.fleet.store).await, only_finding(&scene.fresh()).await);
    assert_eq!(known.id, "unknown_capabilities:worker/other");
    assert_eq!((known.mend, unknown.mend), (Mend::Repair, Mend::None));
    assert_eq!(Finding { mend: known.mend, ..unknown }, known);
    let mended = scene.fleet.store.mend(None).await.expect("it is mended");
    assert_eq!(mended[0].outcome, MendOutcome::Repaired);
    scene.fleet.check().await.expect("nothing is wrong any more");
}
