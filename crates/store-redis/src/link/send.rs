//! What is sent over the connection, and why it may bring no answer.

use pointsman_store::StoreError;
use redis::{Cmd, Pipeline, RedisError, Value};

use super::{
    Link, OpenError, answered, list,
    refusals::{Means, means, other_format},
    text,
};
use crate::link::library;

/// Why a call brought no answer that means what it should.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// It was not sent.
    #[error("{0}")]
    Unreachable(String),
    /// It was sent, and the answer was lost.
    #[error("{0}")]
    Lost(String),
    /// Redis refused it.
    #[error("{0}")]
    Refused(String),
    /// It was not carried out: a newer version has taken the store over.
    #[error("the store was written by a newer version (format {format}): use that version")]
    Newer { format: String },
}

/// What a function says before what is wrong in the store (lua/head.lua).
const DAMAGED: &str = "what is stored is damaged, nothing was changed: ";

impl From<OpenError> for CallError {
    fn from(error: OpenError) -> Self {
        match error {
            OpenError::Newer { format } => Self::Newer { format },
            error => Self::Unreachable(error.to_string()),
        }
    }
}

impl From<CallError> for StoreError {
    fn from(error: CallError) -> Self {
        match error {
            CallError::Unreachable(why) => Self::Failed(format!("the store is away: {why}")),
            CallError::Lost(why) => Self::Unknown(format!("Redis did not answer: {why}")),
            CallError::Refused(why) => match why.split_once(DAMAGED) {
                Some((_, why)) => Self::Damaged(why.to_owned()),
                None => Self::Failed(format!("Redis refused it: {why}")),
            },
            CallError::Newer { format } => Self::Newer { format },
        }
    }
}

impl Link {
    /// Sends one command.
    pub async fn send(&self, command: &Cmd) -> Result<Value, CallError> {
        Ok(self.ask(command).await?.0)
    }

    /// The answer, and the generation of the connection that it came by.
    pub(super) async fn ask(&self, command: &Cmd) -> Result<(Value, u64), CallError> {
        let mut live = self.live().await?;
        let answer = answered(live.connection.send_packed_command(command).await);
        let answer = answer.map_err(|error| self.failed(live.generation, &error))?;
        Ok((answer, live.generation))
    }

    /// Sends several commands in one go; they are no one step.
    pub async fn send_all(&self, pipeline: &Pipeline) -> Result<Vec<Value>, CallError> {
        let count = pipeline.len();
        if count == 0 {
            return Ok(Vec::new());
        }
        let mut live = self.live().await?;
        let answered = live.connection.send_packed_commands(pipeline, 0, count).await;
        let answers = answered.map_err(|error| self.failed(live.generation, &error))?;
        answers
            .into_iter()
            .map(|value| value.extract_error().map_err(|e| self.failed(live.generation, &e)))
            .collect()
    }

    /// The same, where each may be refused by itself.
    pub async fn send_each(
        &self,
        pipeline: &Pipeline,
    ) -> Result<Vec<Result<Value, String>>, CallError> {
        if pipeline.is_empty() {
            return Ok(Vec::new());
        }
        let mut live = self.live().await?;
        let answered = live.connection.send_packed_commands(pipeline, 0, pipeline.len()).await;
        let answers = answered.map_err(|error| self.failed(live.generation, &error))?;
        let each = answers.into_iter().map(|v| v.extract_error().map_err(|e| e.to_string()));
        Ok(each.collect())
    }

    /// Calls one of our functions.
    pub async fn call(&self, function: &str, args: &[&[u8]]) -> Result<Value, CallError> {
        let answered = self.ask(&self.command(function, args)).await;
        if let Err(CallError::Refused(why)) = &answered {
            self.0.standing.was_denied(function, why);
        }
        let (answer, generation) = answered?;
        self.0.standing.was_called(function);
        let why = match list(&answer) {
            [state, format] if text(state) == "newer" && !text(format).is_empty() => {
                let why = other_format(self.keys(), text(format));
                self.drop_live(generation, &why.to_string());
                self.0.standing.is_away(&why);
                return Err(why.into());
            }
            // Somebody emptied it: opened anew it is made anew.
            [state, none]
                if ["epoch", "newer"].contains(&&*text(state)) && text(none).is_empty() =>
            {
                "the store is gone".to_owned()
            }
            _ => return Ok(answer),
        };
        self.drop_live(generation, &why);
        Err(CallError::Unreachable(why))
    }

    pub fn command(&self, function: &str, args: &[&[u8]]) -> Cmd {
        let mut command = redis::cmd("FCALL");
        command.arg(library::name(function)).arg(1).arg(self.0.keys.meta());
        for arg in args {
            command.arg(*arg);
        }
        command
    }

    fn failed(&self, generation: u64, error: &RedisError) -> CallError {
        let why = error.to_string();
        match means(error) {
            Means::Broken => {
                self.drop_live(generation, &why);
                CallError::Lost(why)
            }
            Means::ElseWhere => {
                self.drop_live(generation, &why);
                CallError::Unreachable(why)
            }
            Means::Refused => {
                self.0.standing.was_refused(error);
                CallError::Refused(why)
            }
        }
    }

    /// Sends several commands in one go, as [`send_all`](Link::send_all); none for those whose key
    /// holds another type of value: what somebody did to one key keeps nobody from the others.
    pub async fn send_typed(&self, pipeline: &Pipeline) -> Result<Vec<Option<Value>>, CallError> {
        match self.send_all(pipeline).await {
            Err(CallError::Refused(_)) => {}
            answers => return Ok(answers?.into_iter().map(Some).collect()),
        }
        let answers = self.send_each(pipeline).await?.into_iter();
        let typed = answers.map(|answer| match answer {
            Ok(value) => Ok(Some(value)),
            Err(why) if why.contains("WRONGTYPE") => Ok(None),
            Err(why) => Err(CallError::Refused(why)),
        });
        typed.collect()
    }

    /// The same, with nil in the place of those.
    pub async fn send_passing(&self, pipeline: &Pipeline) -> Result<Vec<Value>, CallError> {
        let answers = self.send_typed(pipeline).await?.into_iter();
        Ok(answers.map(|answer| answer.unwrap_or(Value::Nil)).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_reached_is_not_called_unreachable() {
        let lacking = OpenError::NotLoaded { library: "pointsman_4".into() };
        let told = StoreError::from(CallError::from(lacking)).to_string();
        assert!(told.contains("lacks the functions"), "{told}");
        assert!(!told.contains("not reachable"), "{told}");
    }
}
