//! What attempts handed in: one element of the job's list each, `ATTEMPT TOKEN LATE JSON`, in the
//! order in which they came.

use pointsman_core::{JobId, decide::KeptResult};
use pointsman_store::StoreError;

use crate::{
    link::{bytes, list},
    store::Inner,
};

pub fn key(job: JobId) -> String {
    format!("results:{job}")
}

pub fn element(result: &KeptResult) -> Vec<u8> {
    let KeptResult { attempt, token, late, json } = result;
    let mut element = format!("{attempt} {token} {} ", u8::from(*late)).into_bytes();
    element.extend_from_slice(json);
    element
}

fn read(element: &[u8]) -> Option<KeptResult> {
    let mut parts = element.splitn(4, |byte| *byte == b' ');
    let mut word = || std::str::from_utf8(parts.next()?).ok();
    let (attempt, token, late) = (word()?.parse().ok()?, word()?.parse().ok()?, word()?);
    let late = match late {
        "0" => false,
        "1" => true,
        _ => return None,
    };
    Some(KeptResult { attempt, token, late, json: parts.next()?.into() })
}

impl Inner {
    /// The results of a job from one on; from the end where that is negative.
    pub async fn results(&self, job: JobId, from: i64) -> Result<Vec<KeptResult>, StoreError> {
        let mut range = redis::cmd("LRANGE");
        range.arg(self.key(&key(job))).arg(from).arg(-1);
        let found = self.link.send(&range).await?;
        let found = list(&found).iter().map(|element| bytes(element).and_then(read));
        found
            .collect::<Option<_>>()
            .ok_or_else(|| StoreError::Damaged(format!("a result of job {job}")))
    }
}

#[cfg(test)]
mod tests {
    use pointsman_core::Token;

    use super::*;

    #[test]
    fn a_result_keeps_every_byte() {
        let token = Token::from_uuid(uuid::Uuid::from_u128(7));
        for json in [&b"{\"a\": 1 }"[..], b"", b" ", b"\xff \n"] {
            let kept = KeptResult { attempt: 3, token, late: true, json: json.into() };
            assert_eq!(read(&element(&kept)), Some(kept));
        }
        for wrong in ["", "3", "3 x 1 {}", "3 00000000-0000-0000-0000-000000000007 2 {}"] {
            assert_eq!(read(wrong.as_bytes()), None, "{wrong}");
        }
    }
}
