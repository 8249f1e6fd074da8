//! Stands between a connector and the simulator, and does to its connections what networks do.

use std::{
    io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, copy, sink},
    net::{TcpSocket, TcpStream, tcp::OwnedReadHalf},
    sync::Notify,
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
    loses_submission_answers: AtomicBool,
    still: AtomicBool,
    drips: Mutex<Option<&'static str>>,
    held: AtomicUsize,
    closes_sockets: AtomicBool,
    handshakes: AtomicUsize,
    breaks: Mutex<Vec<Break>>,
    let_through: Notify,
    sockets: AtomicUsize,
}

/// A websocket that is counted while it is open.
struct Socket<'a>(&'a AtomicUsize);

impl<'a> Socket<'a> {
    fn new(sockets: &'a AtomicUsize) -> Self {
        sockets.fetch_add(1, Ordering::SeqCst);
        Self(sockets)
    }
}

impl Drop for Socket<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

/// What happens to requests whose first line begins so, and to how many.
struct Break {
    head: &'static str,
    how: How,
    left: usize,
}

#[derive(Debug, Clone, Copy)]
pub enum How {
    /// The connection is closed.
    Cut,
    /// As a proxy that finds nothing behind it: with this status.
    Answer(u16),
    /// With a page for people, and this status.
    Page(u16),
    /// As what has programs log in: with this, and 200.
    Json(&'static str),
    /// With a file of no bytes.
    EmptyFile,
    /// As one that has its users go elsewhere.
    Redirect(&'static str),
    /// The connection is closed, and the request arrives when it is let through.
    Late,
    /// The answer arrives when it is let through.
    Keep,
    /// The connection stays open, and nothing comes.
    Hold,
    /// With the beginning of an answer, or a file, that is larger than anybody reads.
    Large,
}

const PAGE: &str = "<!DOCTYPE html>\n<title>The tunnel is down</title>";
const PAGES_TYPE: &str = "content-type: text/html; charset=utf-8\r\n";
const FILES_NAME: &str = "content-disposition: filename=\"lake.png\"\r\n";

/// Bytes of an answer that says little.
const SMALL: usize = 512;

/// Connections that may wait to be taken.
const BACKLOG: u32 = 16;

/// Every request from now on.
pub const ALL: usize = usize::MAX;

impl Proxy {
    pub async fn start(to: SocketAddr) -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let listener = socket.listen(BACKLOG).unwrap();
        let addr = listener.local_addr().unwrap();
        let manners = Arc::new(Manners::default());
        let shared = manners.clone();
        let task = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let manners = shared.clone();
                tokio::spawn(async move { drop(manners.pass(client, to).await) });
                shared.unless_still().await;
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

    /// The next `times` requests whose first line begins with `head` do not get through.
    pub fn breaks(&self, head: &'static str, how: How, times: usize) {
        self.manners.breaks.lock().push(Break { head, how, left: times });
    }

    /// How many of them are still to come.
    pub fn breaks_left(&self) -> usize {
        self.manners.breaks.lock().iter().map(|b| b.left).sum()
    }

    /// What waits for it arrives.
    pub fn let_through(&self) {
        self.manners.let_through.notify_one();
    }

    /// Every request gets through again.
    pub fn mend(&self) {
        self.manners.breaks.lock().clear();
    }

    /// Nothing listens any more, and on connections that are open nothing moves.
    pub fn vanish(&self) {
        self.manners.still.store(true, Ordering::SeqCst);
        self.task.abort();
    }

    /// What is large of the answers to requests whose first line begins so comes slowly: a twentieth
    /// each 150 ms.
    pub fn drip(&self, head: &'static str) {
        *self.manners.drips.lock() = Some(head);
    }

    /// How many requests were held.
    pub fn held(&self) -> usize {
        self.manners.held.load(Ordering::SeqCst)
    }

    /// As a process that is held up: nothing moves, and connections wait to be taken.
    pub fn hold_still(&self) {
        self.manners.still.store(true, Ordering::SeqCst);
    }

    /// As a process that is held up for long: nothing moves, and as many connections wait as may, so
    /// that no more are made. Answers those.
    pub async fn hold_up(&self) -> Vec<TcpStream> {
        self.hold_still();
        let mut waiting = Vec::new();
        let limit = Duration::from_millis(300);
        while let Ok(made) = tokio::time::timeout(limit, TcpStream::connect(self.addr)).await {
            waiting.push(made.unwrap());
        }
        waiting
    }

    /// Websockets are closed as soon as they are open.
    pub fn close_sockets(&self) {
        self.manners.closes_sockets.store(true, Ordering::SeqCst);
    }

    /// How many websockets were asked for.
    pub fn handshakes(&self) -> usize {
        self.manners.handshakes.load(Ordering::SeqCst)
    }

    /// How many websockets are open.
    pub fn sockets(&self) -> usize {
        self.manners.sockets.load(Ordering::SeqCst)
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
    /// What happens to a request, if anything does.
    fn broken(&self, head: &[u8]) -> Option<How> {
        let mut breaks = self.breaks.lock();
        let fits = |b: &&mut Break| b.left > 0 && head.starts_with(b.head.as_bytes());
        let found = breaks.iter_mut().find(fits)?;
        found.left -= usize::from(found.left != ALL);
        Some(found.how)
    }

    async fn unless_still(&self) {
        if self.still.load(Ordering::SeqCst) {
            std::future::pending::<()>().await;
        }
    }

    async fn pass(self: Arc<Self>, client: TcpStream, to: SocketAddr) -> io::Result<()> {
        let server = TcpStream::connect(to).await?;
        let (mut from_client, to_client) = client.into_split();
        let (mut from_server, mut to_server) = server.into_split();
        let to_client = Arc::new(tokio::sync::Mutex::new(to_client));
        let (answering, shared) = (to_client.clone(), self.clone());
        let dripping = Arc::new(AtomicBool::new(false));
        let drips = dripping.clone();
        let kept = Arc::new(AtomicBool::new(false));
        let keeps = kept.clone();
        let answers = tokio::spawn(async move {
            let mut chunk = vec![0; 64 << 10];
            loop {
                let read = from_server.read(&mut chunk).await?;
                shared.unless_still().await;
                if read == 0 {
                    return answering.lock().await.shutdown().await;
                }
                if keeps.load(Ordering::SeqCst) {
                    shared.held.fetch_add(1, Ordering::SeqCst);
                    shared.let_through.notified().await;
                }
                let slowly = read > SMALL && drips.load(Ordering::SeqCst);
                let pieces = chunk[..read].chunks(if slowly { read / 20 } else { read });
                for piece in pieces {
                    answering.lock().await.write_all(piece).await?;
                    if slowly {
                        tokio::time::sleep(Duration::from_millis(150)).await;
                    }
                }
                let is_handshake = chunk.starts_with(b"HTTP/1.1 101");
                if is_handshake && shared.closes_sockets.load(Ordering::SeqCst) {
                    return answering.lock().await.shutdown().await;
                }
            }
        });
        let mut chunk = vec![0; 64 << 10];
        let mut socket = None;
        loop {
            let read = from_client.read(&mut chunk).await?;
            self.unless_still().await;
            if read == 0 {
                break;
            }
            let head = &chunk[..read];
            if head.starts_with(b"GET /ws") {
                self.handshakes.fetch_add(1, Ordering::SeqCst);
                socket.get_or_insert_with(|| Socket::new(&self.sockets));
                let ms = self.socket_delay_ms.load(Ordering::SeqCst);
                tokio::time::sleep(Duration::from_millis(ms)).await;
            }
            let drips = self.drips.lock().is_some_and(|to| head.starts_with(to.as_bytes()));
            dripping.store(drips, Ordering::SeqCst);
            let submits = head.starts_with(b"POST /prompt");
            let how = self.broken(head);
            kept.store(matches!(how, Some(How::Keep)), Ordering::SeqCst);
            match how {
                None | Some(How::Keep) => {}
                Some(How::Cut) => return Ok(()),
                Some(How::Late) => {
                    answers.abort();
                    let request = whole_request(head, &mut from_client).await?;
                    drop((from_client, to_client));
                    self.let_through.notified().await;
                    to_server.write_all(&request).await?;
                    // Or the server would drop what it has begun.
                    return std::future::pending().await;
                }
                Some(How::Hold) => {
                    self.held.fetch_add(1, Ordering::SeqCst);
                    copy(&mut from_client, &mut sink()).await?;
                    return Ok(());
                }
                Some(how) => {
                    let (status, length, body, more) = match how {
                        How::Answer(status) => (status, 0, "", String::new()),
                        How::Page(status) => (status, PAGE.len(), PAGE, PAGES_TYPE.to_owned()),
                        How::Json(body) => (200, body.len(), body, String::new()),
                        How::EmptyFile => (200, 0, "", FILES_NAME.to_owned()),
                        How::Redirect(to) => (302, 0, "", format!("location: {to}\r\n")),
                        _ => (200, 1 << 31, "x", FILES_NAME.to_owned()),
                    };
                    let answer = format!(
                        "HTTP/1.1 {status} Broken\r\ncontent-length: {length}\r\n{more}\
                         connection: close\r\n\r\n{body}"
                    );
                    to_client.lock().await.write_all(answer.as_bytes()).await?;
                    // The body is read, or the answer is lost when the connection closes.
                    let mut nowhere = sink();
                    let rest = copy(&mut from_client, &mut nowhere);
                    drop(tokio::time::timeout(Duration::from_millis(100), rest).await);
                    return Ok(());
                }
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

/// A request to its end, as its `content-length` tells, of which this much was read.
async fn whole_request(read: &[u8], from: &mut OwnedReadHalf) -> io::Result<Vec<u8>> {
    let mut request = read.to_vec();
    while !is_whole(&request) {
        if from.read_buf(&mut request).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    Ok(request)
}

fn is_whole(request: &[u8]) -> bool {
    let text = String::from_utf8_lossy(request);
    let Some((head, _)) = text.split_once("\r\n\r\n") else { return false };
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
    let length: usize = length.expect("a request with a body says how long it is").parse().unwrap();
    request.len() >= head.len() + "\r\n\r\n".len() + length
}
