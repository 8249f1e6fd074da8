//! A connection that passes through the test, which cuts it or leads it elsewhere.

use std::sync::Arc;

use parking_lot::Mutex;
use pointsman_redis_testing::{Aof, RedisOptions, RedisServer};
use tokio::{
    net::{TcpListener, TcpStream},
    task::JoinSet,
};

use super::{
    fleet::{Fleet, SOON, becomes, running},
    judge::Judge,
    load::Load,
    viewer::Viewer,
};

/// Passes connections on to a port of this machine; gone when dropped.
pub struct Proxy {
    pub port: u16,
    to: Arc<Mutex<u16>>,
    links: Arc<Mutex<JoinSet<()>>>,
    listening: tokio::task::AbortHandle,
}

impl Proxy {
    pub async fn to(port: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let own = listener.local_addr().expect("its own address").port();
        let to = Arc::new(Mutex::new(port));
        let links: Arc<Mutex<JoinSet<()>>> = Arc::default();
        let listening = tokio::spawn(listen(listener, to.clone(), links.clone())).abort_handle();
        Self { port: own, to, links, listening }
    }

    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// Breaks every connection that is there.
    pub fn cut(&self) -> usize {
        let links = std::mem::take(&mut *self.links.lock());
        links.len()
    }

    /// New connections lead there; those that are there break.
    pub fn lead_to(&self, port: u16) {
        *self.to.lock() = port;
        self.cut();
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.listening.abort();
    }
}

async fn listen(listener: TcpListener, to: Arc<Mutex<u16>>, links: Arc<Mutex<JoinSet<()>>>) {
    while let Ok((mut near, _)) = listener.accept().await {
        let port = *to.lock();
        let mut links = links.lock();
        while links.try_join_next().is_some() {}
        links.spawn(async move {
            if let Ok(mut far) = TcpStream::connect(("127.0.0.1", port)).await {
                // Either end may break it: that is what it is for.
                let _ = tokio::io::copy_bidirectional(&mut near, &mut far).await;
            }
        });
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn cut_connections_cost_neither_a_worker_nor_a_server_anything() {
    let redis = RedisServer::start(RedisOptions::with_aof(Aof::EverySec)).await.expect("a Redis");
    let to_server = Proxy::to(redis.port()).await;
    let to_worker = Proxy::to(redis.port()).await;
    let fleet = Fleet::on(to_server.url());
    let server = fleet.server("one").await;
    let viewer = Viewer::of(&[&server.client]).await;
    let _direct = fleet.direct_through(&server, "cut", 4, &to_worker.url()).await;
    let _over_http = server.worker("over-http", 4).await;
    let jobs = running(&server.client, 4, 5_000).await;
    let epoch = viewer.seen().epoch().to_owned();
    let load = Load::on(&[&server.client]);
    let mut cut = [0, 0];
    for _ in 0..4 {
        load.goes_on(25).await;
        for (proxy, cut) in [&to_server, &to_worker].into_iter().zip(&mut cut) {
            *cut += becomes("a connection", SOON, async || {
                Some(proxy.cut()).filter(|connections| *connections > 0)
            })
            .await;
        }
    }
    load.goes_on(25).await;
    let (acknowledged, failures) = load.stop().await;
    let all = acknowledged.keys().chain(&jobs);
    let judge = Judge::each_completed_once(&server.client, "cut connections", all).await;
    assert!(jobs.iter().all(|job| judge.jobs[job].assigned == 1), "{:?}", judge.jobs);
    let seen = viewer.caught_up(&server.client).await;
    println!(
        "cut connections: {cut:?} of server and worker cut, failed submissions {failures}, \
         resyncs {}",
        seen.resyncs
    );
    assert_eq!((seen.epoch(), seen.resyncs), (epoch.as_str(), 0), "the store was there all along");
}
