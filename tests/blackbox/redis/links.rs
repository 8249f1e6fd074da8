//! A connection that passes through the test, which cuts it or leads it elsewhere.

use std::sync::Arc;

use parking_lot::Mutex;
use pointsman_redis_testing::{Aof, RedisOptions, RedisServer};
use tokio::{
    net::{TcpListener, TcpStream},
    task::JoinSet,
};

use super::{
    fleet::{Fleet, running},
    judge::Judge,
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
async fn a_cut_connection_costs_a_worker_nothing() {
    let redis = RedisServer::start(RedisOptions::with_aof(Aof::EverySec)).await.expect("a Redis");
    let proxy = Proxy::to(redis.port()).await;
    let fleet = Fleet::on(redis.url());
    let server = fleet.server("one").await;
    let viewer = Viewer::of(&[&server.client]).await;
    let _worker = fleet.direct_through(&server, "cut", 4, &proxy.url()).await;
    let jobs = running(&server.client, 4, 3_000).await;
    let epoch = viewer.seen().epoch().to_owned();
    let mut cut = 0;
    for _ in 0..4 {
        cut += super::fleet::becomes("a connection", super::fleet::SOON, async || {
            Some(proxy.cut()).filter(|cut| *cut > 0)
        })
        .await;
    }
    let judge = Judge::each_completed_once(&server.client, "cut connections", &jobs).await;
    assert!(jobs.iter().all(|job| judge.jobs[job].assigned == 1), "{:?}", judge.jobs);
    let seen = viewer.seen();
    println!("cut connections: {cut} cut, resyncs {}", seen.resyncs);
    assert_eq!((seen.epoch(), seen.resyncs), (epoch.as_str(), 0), "the store was there all along");
}
