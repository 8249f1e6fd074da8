//! What processes on one store tell each other beside the records: progress, by publishing it, and
//! preview pictures, kept while their attempt runs.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use futures::StreamExt as _;
use parking_lot::Mutex;
use pointsman_core::{JobId, Outage};
use pointsman_store::{Preview, StoreError, ToldProgress};
use tokio::{sync::broadcast, time::timeout};

use crate::{
    encoding::keys,
    link::{ANSWER_WITHIN, Link, bytes, settings::NO_PREVIEWS_AT, text},
};

const CHANNEL: &str = "progress";
/// A picture goes with its attempt, or is replaced by the next one. What came too late for that goes
/// after this long, and so does that of an attempt which shows nothing new for so long.
const KEPT_FOR: Duration = Duration::from_secs(6 * 3_600);
const AGAIN_AFTER: Duration = Duration::from_millis(500);

pub async fn tell_progress(link: &Link, told: Vec<ToldProgress>) -> Result<(), StoreError> {
    let mut publish = redis::pipe();
    for told in told {
        let text = serde_json::to_string(&told)
            .map_err(|error| StoreError::Failed(format!("progress is no JSON: {error}")))?;
        publish.cmd("PUBLISH").arg(link.keys().full(CHANNEL)).arg(text);
    }
    link.send_all(&publish).await?;
    Ok(())
}

/// Hears what others tell, until the link is closed.
pub async fn hear_progress(link: Link, told: broadcast::Sender<Arc<ToldProgress>>) {
    let mut outage = Outage::default();
    while !link.is_closed() {
        if let Err(why) = hear(&link, &told, &mut outage).await
            && link.is_news(&mut outage, &why)
        {
            tracing::warn!(why, "progress of jobs is not heard, and tried again");
        }
        tokio::time::sleep(AGAIN_AFTER).await;
    }
}

/// Hears until the subscription ends. An error is why there is none.
async fn hear(
    link: &Link,
    told: &broadcast::Sender<Arc<ToldProgress>>,
    outage: &mut Outage,
) -> Result<(), String> {
    let mut generations = link.generations();
    let mut heard = link.pubsub().await.map_err(|error| error.to_string())?;
    let channel = link.keys().full(CHANNEL);
    let subscribed = timeout(ANSWER_WITHIN, heard.subscribe(channel)).await;
    subscribed.map_err(|_| "no answer".to_owned())?.map_err(|error| error.to_string())?;
    if let Some(away) = outage.works(Instant::now()) {
        tracing::info!(?away, "progress of jobs is heard again");
    }
    let mut messages = heard.on_message();
    loop {
        let message = tokio::select! {
            message = messages.next() => message,
            // A primary that froze says nothing, and ends nothing either: another one may publish.
            _ = generations.changed() => None,
            () = link.closing() => None,
        };
        let Some(message) = message else { return Ok(()) };
        match serde_json::from_slice::<ToldProgress>(message.get_payload_bytes()) {
            // Nobody listening is no error.
            Ok(progress) => drop(told.send(Arc::new(progress))),
            Err(error) => tracing::debug!(%error, "progress that cannot be read"),
        }
    }
}

/// Memory is short until so long after it was last seen so: what pictures free lets the next one in.
const SHORT_FOR: Duration = Duration::from_secs(60);

/// A time in which no pictures are kept, as memory is short; its beginning and its end are told once.
#[derive(Default)]
pub struct Shortage(Mutex<Option<Instant>>);

impl Shortage {
    /// A picture was not kept: whether that begins it.
    fn begins(&self, now: Instant) -> bool {
        self.0.lock().replace(now).is_none()
    }

    /// A picture was kept: whether it is over by that.
    fn ends(&self, now: Instant) -> bool {
        let is_over = |last: &mut Instant| now.saturating_duration_since(*last) >= SHORT_FOR;
        self.0.lock().take_if(is_over).is_some()
    }

    fn note(&self, answer: &str) {
        let part = 100.0 * NO_PREVIEWS_AT;
        match answer {
            "full" if self.begins(Instant::now()) => tracing::warn!(
                "Redis uses {part:.0} % of `maxmemory` or more: no previews are kept until it is less"
            ),
            "ok" if self.ends(Instant::now()) => {
                tracing::info!(
                    "Redis uses less than {part:.0} % of `maxmemory`: previews are kept again"
                );
            }
            _ => {}
        }
    }
}

/// A picture stands behind one line of text: attempt, number, media type.
pub async fn keep_preview(
    link: &Link,
    shortage: &Shortage,
    job: JobId,
    preview: &Preview,
) -> Result<(), StoreError> {
    let Preview { attempt, n, media_type, bytes } = preview;
    let mut value = format!("{attempt} {n} {media_type}\n").into_bytes();
    value.extend_from_slice(bytes);
    let [job, attempt, n] = [job.to_string(), attempt.to_string(), n.to_string()];
    let kept_for = KEPT_FOR.as_secs().to_string();
    let [job, attempt, n, kept_for] = [&job, &attempt, &n, &kept_for].map(|text| text.as_bytes());
    let answer = link.call("keep_preview", &[job, attempt, n, &value, kept_for]).await?;
    shortage.note(&text(&answer));
    Ok(())
}

pub async fn preview(link: &Link, job: JobId) -> Result<Option<Preview>, StoreError> {
    let mut get = redis::cmd("GET");
    get.arg(link.keys().full(&keys::preview(job)));
    let found = link.send(&get).await?;
    Ok(bytes(&found).and_then(read))
}

fn read(value: &[u8]) -> Option<Preview> {
    let end = value.iter().position(|b| *b == b'\n')?;
    let head = std::str::from_utf8(&value[..end]).ok()?;
    let mut parts = head.splitn(3, ' ');
    Some(Preview {
        attempt: parts.next()?.parse().ok()?,
        n: parts.next()?.parse().ok()?,
        media_type: parts.next()?.to_owned(),
        bytes: Bytes::copy_from_slice(&value[end + 1..]),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shortage_is_told_once_and_its_end_when_none_was_seen_for_a_while() {
        let (shortage, begin) = (Shortage::default(), Instant::now());
        let at = |seconds| begin + Duration::from_secs(seconds);
        assert!(!shortage.ends(begin), "there was none");
        assert!(shortage.begins(begin) && !shortage.begins(at(50)));
        assert!(!shortage.ends(at(60)), "it was seen 10 s ago");
        assert!(shortage.ends(at(110)) && !shortage.ends(at(111)));
        assert!(shortage.begins(at(112)), "another one");
    }
}
