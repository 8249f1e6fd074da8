//! Stands between a connector and the simulator, and does to its connections what networks do.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, copy},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};

pub struct Proxy {
    addr: SocketAddr,
    manners: Arc<Manners>,
    task: JoinHandle<()>,
}

#[derive(Default)]
struct Manners {
    socket_delay_ms: AtomicU64,
    loses_submissions: AtomicBool,
    loses_submission_answers: AtomicBool,
}

impl Proxy {
    pub async fn start(to: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let manners = Arc::new(Manners::default());
        let shared = manners.clone();
        let task = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let manners = shared.clone();
                tokio::spawn(async move { drop(manners.pass(client, to).await) });
            }
        });
        Self { addr, manners, task }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.addr)
    }

    pub fn delay_sockets(&self, by: Duration) {
        let ms = u64::try_from(by.as_millis()).unwrap();
        self.manners.socket_delay_ms.store(ms, Ordering::SeqCst);
    }

    pub fn lose_submissions(&self) {
        self.manners.loses_submissions.store(true, Ordering::SeqCst);
    }

    pub fn lose_submission_answers(&self) {
        self.manners.loses_submission_answers.store(true, Ordering::SeqCst);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Manners {
    async fn pass(&self, client: TcpStream, to: SocketAddr) -> std::io::Result<()> {
        let server = TcpStream::connect(to).await?;
        let (mut from_client, mut to_client) = client.into_split();
        let (mut from_server, mut to_server) = server.into_split();
        let answers = tokio::spawn(async move {
            let mut chunk = vec![0; 64 << 10];
            loop {
                let read = from_server.read(&mut chunk).await?;
                if read == 0 {
                    return Ok::<_, std::io::Error>(());
                }
                to_client.write_all(&chunk[..read]).await?;
            }
        });
        let mut chunk = vec![0; 64 << 10];
        loop {
            let read = from_client.read(&mut chunk).await?;
            if read == 0 {
                break;
            }
            let head = &chunk[..read];
            if head.starts_with(b"GET /ws") {
                let ms = self.socket_delay_ms.load(Ordering::SeqCst);
                tokio::time::sleep(Duration::from_millis(ms)).await;
            }
            let submits = head.starts_with(b"POST /prompt");
            if submits && self.loses_submissions.load(Ordering::SeqCst) {
                return Ok(());
            }
            if submits && self.loses_submission_answers.load(Ordering::SeqCst) {
                answers.abort();
                to_server.write_all(head).await?;
                // Whatever of the body is still to come arrives too; the answer does not.
                let rest = copy(&mut from_client, &mut to_server);
                drop(tokio::time::timeout(Duration::from_millis(100), rest).await);
                return Ok(());
            }
            to_server.write_all(head).await?;
        }
        answers.abort();
        Ok(())
    }
}
