//! An exchange that meets damage: each operation by itself, so that what cannot be done keeps back
//! neither the others nor the claim.

use pointsman_core::{
    Answer, Command, Rejected,
    command::{Claim, Exchange, OpAnswer},
};
use pointsman_store::{Done, StoreError};

use crate::store::Inner;

type Carried = Result<Result<Done, Rejected>, StoreError>;

impl Inner {
    /// `why` it cannot be done as a whole.
    pub async fn exchange_in_parts(&self, exchange: &Exchange, why: String) -> Carried {
        let damaged = Rejected::Damaged(why);
        let mut ops = Vec::with_capacity(exchange.ops.len());
        match (&exchange.ops[..], &exchange.claim) {
            ([], _) => return Ok(Err(damaged)),
            ([_], None) => ops.push(Err(damaged)),
            (all, _) => {
                for op in all {
                    let one = Exchange { ops: vec![op.clone()], claim: None, ..exchange.clone() };
                    match self.part(one).await? {
                        Ok((answers, _)) => ops.extend(answers),
                        Err(why) => return Ok(Err(why)),
                    }
                }
            }
        }
        let Some(claim) = exchange.claim.clone().filter(|claim| *claim != Claim::default()) else {
            return Ok(Ok(Done::new(Answer::Exchanged { ops, claimed: Vec::new() }, None)));
        };
        let rest = Exchange { ops: Vec::new(), claim: Some(claim), ..exchange.clone() };
        match self.part(rest).await? {
            Ok((_, mut done)) => {
                if let Answer::Exchanged { ops: of_all, .. } = &mut done.answer {
                    *of_all = ops;
                }
                Ok(Ok(done))
            }
            // What was done stands, and the claim is repeated by itself.
            Err(_) => Ok(Ok(Done::new(Answer::Exchanged { ops, claimed: Vec::new() }, None))),
        }
    }

    async fn part(
        &self,
        part: Exchange,
    ) -> Result<Result<(Vec<Result<OpAnswer, Rejected>>, Done), Rejected>, StoreError> {
        let done = Box::pin(self.carry_out_one(&Command::Exchange(part))).await?;
        Ok(done.map(|done| match &done.answer {
            Answer::Exchanged { ops, .. } => (ops.clone(), done),
            _ => (Vec::new(), done),
        }))
    }
}
