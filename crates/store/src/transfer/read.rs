//! Reading a stream, and holding it to what its header and footer say.

use pointsman_core::{JobId, Record, decide::Side, hex};
use serde::Deserialize;
use sha2::{Digest, Sha256};
use tokio::io::{AsyncBufRead, AsyncBufReadExt, AsyncReadExt};

use super::{Counts, FORMAT, Footer, Header, Item, TransferError, lines::Line};

/// Bytes of one line at most. Bodies of requests have 64 MB, and Base64 makes them a third longer.
const MAX_LINE: u64 = 256 << 20;

/// A stream that is read line by line.
pub struct Stream<R> {
    from: R,
    header: Header,
    counts: Counts,
    sha256: Sha256,
    line: Vec<u8>,
    number: u64,
    /// The job that payloads and results now belong to.
    job: Option<JobId>,
    ended: bool,
}

/// The part of a header that no format may change.
#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum AnyHeader {
    Header { format: u32 },
}

impl<R: AsyncBufRead + Unpin + Send> Stream<R> {
    /// Reads the header.
    ///
    /// # Errors
    /// When it is none, or of a newer format.
    pub async fn open(mut from: R) -> Result<Self, TransferError> {
        let mut line = Vec::new();
        read_line(&mut from, &mut line, 1).await?;
        let found: Result<AnyHeader, _> = serde_json::from_slice(&line);
        match found {
            Err(_) => return Err(TransferError::NotAnExport),
            Ok(AnyHeader::Header { format }) if format > FORMAT => {
                return Err(TransferError::NewerFormat(format));
            }
            Ok(_) => {}
        }
        let header = match serde_json::from_slice(&line) {
            Ok(Line::Header(header)) => header,
            Ok(_) => return Err(TransferError::NotAnExport),
            Err(error) => return Err(TransferError::Line { line: 1, why: error.to_string() }),
        };
        let mut sha256 = Sha256::new();
        sha256.update(&line);
        let counts = Counts::default();
        Ok(Self { from, header, counts, sha256, line, number: 1, job: None, ended: false })
    }

    pub fn header(&self) -> &Header {
        &self.header
    }

    /// What was read so far.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// The next item; none after the footer, which is then known to fit.
    pub async fn next(&mut self) -> Result<Option<Item>, TransferError> {
        if self.ended {
            return Ok(None);
        }
        read_line(&mut self.from, &mut self.line, self.number + 1).await?;
        if self.line.last() != Some(&b'\n') {
            return Err(TransferError::Cut(self.number));
        }
        self.number += 1;
        let line: Line<'_> =
            serde_json::from_slice(&self.line).map_err(|error| self.wrong(error.to_string()))?;
        if let Line::Footer(footer) = line {
            self.check_footer(&footer).await?;
            self.ended = true;
            return Ok(None);
        }
        let item = line.item().map_err(|why| self.wrong(why))?;
        let item = item.ok_or_else(|| self.wrong("a second header".to_owned()))?;
        self.check_place(&item)?;
        self.sha256.update(&self.line);
        self.counts.add(&item);
        Ok(Some(item))
    }

    fn wrong(&self, why: String) -> TransferError {
        TransferError::Line { line: self.number, why }
    }

    /// A record is not beyond its log, and what belongs to a job follows it.
    fn check_place(&mut self, item: &Item) -> Result<(), TransferError> {
        match item {
            Item::Record(record) if record.rev() > self.header.seq => {
                Err(self.wrong("the record's rev is beyond the header's seq".to_owned()))
            }
            Item::Record(Record::Job(job)) => {
                let last = self.header.last_ended_no;
                if job.ended().is_some_and(|ended| ended.ended_no > last) {
                    let why = "the job's ended_no is beyond the header's last_ended_no";
                    return Err(self.wrong(why.to_owned()));
                }
                self.job = Some(job.id);
                Ok(())
            }
            Item::Side(Side::Payload { job, .. } | Side::Result { job, .. })
                if self.job != Some(*job) =>
            {
                Err(self.wrong(format!("it belongs to job {job}, which does not stand before it")))
            }
            _ => Ok(()),
        }
    }

    async fn check_footer(&mut self, footer: &Footer) -> Result<(), TransferError> {
        if footer.counts != self.counts {
            return Err(TransferError::Altered("its footer counts other lines"));
        }
        if footer.sha256 != hex::encode(self.sha256.clone().finalize()) {
            return Err(TransferError::Altered("its footer has another SHA-256"));
        }
        match self.from.fill_buf().await?.is_empty() {
            true => Ok(()),
            false => Err(TransferError::Altered("something follows its footer")),
        }
    }
}

/// Reads one line with its end; without one at the end of the stream.
async fn read_line<R: AsyncBufRead + Unpin + Send>(
    from: &mut R,
    line: &mut Vec<u8>,
    number: u64,
) -> Result<(), TransferError> {
    line.clear();
    from.take(MAX_LINE).read_until(b'\n', line).await?;
    if line.len() as u64 == MAX_LINE {
        let why = format!("it is longer than {MAX_LINE} bytes");
        return Err(TransferError::Line { line: number, why });
    }
    Ok(())
}

/// Reads a whole stream and changes nothing.
///
/// # Errors
/// When it could not be imported: it is none, is newer, was cut off or altered.
pub async fn check<R: AsyncBufRead + Unpin + Send>(
    from: R,
) -> Result<(Header, Counts), TransferError> {
    let mut stream = Stream::open(from).await?;
    while stream.next().await?.is_some() {}
    Ok((stream.header, stream.counts))
}
