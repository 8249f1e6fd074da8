//! The servers that a client may talk to: several stand beside each other on one Redis.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use pointsman_core::address::without_password;
use reqwest::Url;
use tokio::time::Instant;

use crate::ClientError;

/// What a client of an `https://` server is told.
const HTTPS: &str = "this build speaks plain HTTP: give the http:// address of a tunnel or a local \
                     proxy that speaks TLS to the server";

/// A request that is given up after this long without an answer, as workers do after 5 s, was one to a
/// server that hangs; one that is given up sooner may only be of no more use.
const SILENT: Duration = Duration::from_secs(4);

/// Addresses of one fleet's servers. One is talked to until it fails, then the next.
#[derive(Debug, Clone)]
pub(crate) struct Addresses {
    all: Arc<[Url]>,
    at: Arc<AtomicUsize>,
    /// `at`, plus one, of the one that answered last.
    heard: Arc<AtomicUsize>,
}

impl Addresses {
    /// # Errors
    /// [`ClientError::Address`] of the first that cannot be used.
    pub(crate) fn parse(list: &str) -> Result<Self, ClientError> {
        let all = list.split(',').map(one).collect::<Result<Arc<[Url]>, _>>()?;
        match all.iter().find(|url| beside(url, &all[0]).as_ref() != Some(*url)) {
            None => Ok(Self { all, at: Arc::default(), heard: Arc::default() }),
            Some(other) => Err(ClientError::Address {
                url: without_password(other.as_str()),
                why: "servers of one list differ in host and port only".into(),
            }),
        }
    }

    /// A request to one of them as it goes to the one that is talked to.
    pub(crate) fn turn(&self, url: &mut Url) {
        if let Some(turned) = beside(self.current(), url) {
            *url = turned;
        }
    }

    pub(crate) fn count(&self) -> usize {
        self.all.len()
    }

    /// The one that is talked to.
    pub(crate) fn current(&self) -> &Url {
        &self.all[self.at.load(Relaxed) % self.all.len()]
    }

    /// Whether the one that is talked to has answered since it is.
    pub(crate) fn is_heard(&self) -> bool {
        self.heard.load(Relaxed) == self.at.load(Relaxed).wrapping_add(1)
    }

    /// A request to this address was answered.
    fn hear(&self, answered: &Url) {
        if let Some(at) = self.at_if(answered) {
            self.heard.store(at.wrapping_add(1), Relaxed);
        }
    }

    /// A request to this address failed: the next server is talked to, unless it is already.
    pub(crate) fn leave(&self, failed: &Url) {
        if let (Some(at), 2..) = (self.at_if(failed), self.count()) {
            // Another request may have moved on meanwhile.
            let _ = self.at.compare_exchange(at, at.wrapping_add(1), Relaxed, Relaxed);
        }
    }

    /// Where it stands, if this address is the one that is talked to.
    fn at_if(&self, url: &Url) -> Option<usize> {
        let at = self.at.load(Relaxed);
        (self.all[at % self.all.len()].origin() == url.origin()).then_some(at)
    }
}

/// A request that is under way. Its server is left when it fails, and when nobody waits for the answer
/// any more that should have been there.
pub(crate) struct Asked<'a> {
    addresses: &'a Addresses,
    url: Url,
    /// From when on it is due; none once it is there.
    due: Option<Instant>,
}

impl<'a> Asked<'a> {
    /// `wait`: how long the server itself may wait before it answers.
    pub(crate) fn new(addresses: &'a Addresses, url: Url, wait: Duration) -> Self {
        Self { addresses, url, due: Some(Instant::now() + SILENT + wait) }
    }

    pub(crate) fn answered<T, E>(mut self, answer: Result<T, E>) -> Result<T, E> {
        self.due = answer.is_err().then(Instant::now);
        if answer.is_ok() {
            self.addresses.hear(&self.url);
        }
        answer
    }
}

impl Drop for Asked<'_> {
    fn drop(&mut self) {
        if self.due.is_some_and(|due| due <= Instant::now()) {
            self.addresses.leave(&self.url);
        }
    }
}

/// `url`, at the host and port of `at`.
fn beside(at: &Url, url: &Url) -> Option<Url> {
    let mut turned = url.clone();
    turned.set_host(at.host_str()).ok()?;
    turned.set_port(at.port()).ok()?;
    Some(turned)
}

fn one(address: &str) -> Result<Url, ClientError> {
    let address = address.trim();
    let invalid = |why: String| ClientError::Address { url: without_password(address), why };
    let url = Url::parse(address);
    let url = url.map_err(|error| invalid(format!("{error}: use http://HOST:PORT")))?;
    match url.scheme() {
        "http" => Ok(url),
        "https" => Err(invalid(HTTPS.into())),
        _ => Err(invalid("use http://HOST:PORT".into())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_that_is_refused_shows_no_password() {
        for address in ["https://me:secret@host:1", "ftp://me:sec/ret@host", "me:secret@host"] {
            let why = Addresses::parse(address).unwrap_err().to_string();
            assert!(!why.contains("ret") && why.contains("***@host"), "{why}");
        }
        let why = Addresses::parse("http://a:1,ftp://host").unwrap_err().to_string();
        assert!(why.contains("\"ftp://host\""), "{why}");
        assert!(Addresses::parse("http://a:1,").is_err());
        for other in ["http://b:1/fleet", "http://b/?x", "http://me@b:1"] {
            let why = Addresses::parse(&format!("http://a:1,{other}")).unwrap_err().to_string();
            assert!(why.contains("differ in host and port only"), "{why}");
        }
        assert!(Addresses::parse("http://a/fleet,http://b:7/fleet").is_ok());
    }

    #[test]
    fn one_is_left_when_it_fails_and_not_twice_for_one_failure() {
        let addresses = Addresses::parse("http://a:1, http://b:1").unwrap();
        let at = || addresses.current().host_str().unwrap().to_owned();
        let (a, b): (Url, Url) = ("http://a:1/x".parse().unwrap(), "http://b:1/y".parse().unwrap());
        assert_eq!(at(), "a");
        addresses.leave(&b);
        assert_eq!(at(), "a");
        addresses.leave(&a);
        addresses.leave(&a);
        assert_eq!(at(), "b");
        addresses.leave(&b);
        assert_eq!(at(), "a", "the first is tried again");
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_hangs_is_left_and_one_whose_answer_nobody_waits_for_is_not() {
        let addresses = Addresses::parse("http://a:1,http://b:1").unwrap();
        let at = || addresses.current().host_str().unwrap().to_owned();
        let wait = Duration::from_secs(30);
        let asked = |wait| Asked::new(&addresses, addresses.current().clone(), wait);
        let (call, claim) = (asked(Duration::ZERO), asked(wait));
        tokio::time::sleep(SILENT - Duration::from_secs(1)).await;
        drop(asked(Duration::ZERO));
        drop(call);
        let slow = asked(Duration::ZERO);
        tokio::time::sleep(wait).await;
        drop(claim);
        slow.answered::<_, ()>(Ok(())).unwrap();
        assert_eq!(at(), "a");
        let (call, claim) = (asked(Duration::ZERO), asked(wait));
        tokio::time::sleep(SILENT).await;
        drop(call);
        assert_eq!(at(), "b");
        tokio::time::sleep(wait).await;
        drop(claim);
        assert_eq!(at(), "b", "it was left before");
    }
}
