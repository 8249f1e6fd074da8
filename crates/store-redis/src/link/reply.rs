//! Reading Redis' answers.

use redis::{Pipeline, RedisResult, Value};

use super::{CallError, Link};

/// An answer, or the error that Redis gave as one.
pub fn answered(answer: RedisResult<Value>) -> RedisResult<Value> {
    match answer {
        Ok(Value::ServerError(error)) => Err(error.into()),
        answer => answer,
    }
}

/// A text; empty where there is none.
pub fn text(value: &Value) -> String {
    match value {
        Value::BulkString(bytes) => String::from_utf8_lossy(bytes).into_owned(),
        Value::SimpleString(text) | Value::VerbatimString { text, .. } => text.clone(),
        Value::Int(n) => n.to_string(),
        Value::Okay => "OK".to_owned(),
        _ => String::new(),
    }
}

pub fn bytes(value: &Value) -> Option<&[u8]> {
    match value {
        Value::BulkString(bytes) => Some(bytes),
        _ => None,
    }
}

pub fn number(value: &Value) -> Option<i64> {
    match value {
        Value::Int(n) => Some(*n),
        Value::BulkString(bytes) => std::str::from_utf8(bytes).ok()?.parse().ok(),
        Value::SimpleString(text) => text.parse().ok(),
        _ => None,
    }
}

/// The parts of a list; none where it is no list.
pub fn list(value: &Value) -> &[Value] {
    match value {
        Value::Array(values) | Value::Set(values) => values,
        _ => &[],
    }
}

impl Link {
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
}
