//! An exchange that meets damage: each operation by itself, so that what cannot be done keeps back
//! neither the others nor the claim.

use pointsman_core::{Answer, Command, Rejected, command::Exchange};
use pointsman_store::{Done, StoreError};

use crate::{execute::together::Submitted, store::Inner};

impl Inner {
    /// `why` it cannot be done as a whole.
    pub async fn exchange_in_parts(&self, exchange: &Exchange, why: String) -> Submitted {
        let damaged = Rejected::Damaged(why);
        let mut ops = Vec::with_capacity(exchange.ops.len());
        match (&exchange.ops[..], &exchange.claim) {
            ([], _) => return Ok(Err(damaged)),
            ([_], None) => ops.push(Err(damaged)),
            (all, _) => {
                for op in all {
                    let one = Exchange { ops: vec![op.clone()], claim: None, ..exchange.clone() };
                    match self.part(one).await?.map(|done| done.answer) {
                        Ok(Answer::Exchanged { ops: answer, .. }) => ops.extend(answer),
                        Ok(other) => return Err(odd(&other)),
                        Err(why) => return Ok(Err(why)),
                    }
                }
            }
        }
        let (claimed, mut claim_refused) = (Vec::new(), None);
        if exchange.claim.is_some() {
            let rest = Exchange { ops: Vec::new(), ..exchange.clone() };
            match self.part(rest).await? {
                Ok(mut done) => {
                    match &mut done.answer {
                        Answer::Exchanged { ops: of_all, .. } => *of_all = ops,
                        other => return Err(odd(other)),
                    }
                    return Ok(Ok(done));
                }
                // What was done stands; a claim that is refused brings nothing.
                Err(why) => claim_refused = Some(why),
            }
        }
        Ok(Ok(Done::new(Answer::Exchanged { ops, claimed, claim_refused }, None)))
    }

    async fn part(&self, part: Exchange) -> Submitted {
        Box::pin(self.carry_out_one(&Command::Exchange(part))).await
    }
}

fn odd(answer: &Answer) -> StoreError {
    StoreError::Unknown(format!("an exchange was answered {answer:?}"))
}
