//! How handlers get at bodies, parameters and ids: every mistake is a problem with its place.

use std::{io, str::FromStr};

use axum::{
    body::Body,
    extract::{FromRequest, FromRequestParts, Path, Query, Request},
    http::{HeaderMap, HeaderName, request::Parts},
};
use bytes::{Bytes, BytesMut};
use percent_encoding::percent_decode_str;
use pointsman_api::{ErrorCode, MAX_BODY, MAX_SAID, Problem, read_said};
use pointsman_core::IdError;
use serde::de::DeserializeOwned;
use utoipa::IntoParams;

use crate::{
    app::App,
    body::{Incoming, Share},
    parameter,
    refusal::Refusal,
};

/// A header's text; none where it is not there, or not text.
pub(crate) fn header_text(headers: &HeaderMap, name: HeaderName) -> Option<&str> {
    headers.get(name)?.to_str().ok()
}

/// Of a body that is refused, so much is still read, so that the refusal is heard.
const READ_ON: usize = 4 * MAX_BODY;

/// A whole body of at most 64 MB, and its share of the room for bodies: held as long as the request
/// is worked on.
pub(crate) struct Whole(pub Bytes, pub Share);

impl FromRequest<App> for Whole {
    type Rejection = Refusal;

    async fn from_request(request: Request, app: &App) -> Result<Self, Refusal> {
        let mut share = app.bodies.share();
        let body = collect(request.into_body(), MAX_BODY, READ_ON, &mut share).await?;
        Ok(Self(body, share))
    }
}

/// Reads a body of at most `limit` bytes.
pub(crate) async fn collect(
    body: Body,
    limit: usize,
    read_on: usize,
    share: &mut Share,
) -> Result<Bytes, Problem> {
    let mut body = Incoming::new(body);
    let mut first: Option<Bytes> = None;
    let mut rest = BytesMut::new();
    let mut read = 0;
    let mut refused: Option<Problem> = None;
    let incomplete = |why: io::Error| Problem::new(ErrorCode::BodyIncomplete, why.to_string());
    while let Some(piece) = body.piece().await.map_err(incomplete)? {
        read += piece.len();
        if read > read_on {
            break;
        }
        if refused.is_none() {
            refused = match read > limit {
                true => Some(too_large(limit)),
                false => share.grow_to(read).await.err(),
            };
        }
        if refused.is_some() {
            (first, rest) = (None, BytesMut::new());
            share.give_back();
        } else if first.is_none() {
            // Most bodies are one piece, which is then not copied.
            first = Some(piece);
        } else {
            rest.extend_from_slice(&piece);
        }
    }
    if let Some(refused) = refused {
        return Err(refused);
    }
    Ok(match first {
        Some(first) if rest.is_empty() => first,
        Some(first) => [&first[..], &rest[..]].concat().into(),
        None => Bytes::new(),
    })
}

fn too_large(limit: usize) -> Problem {
    let detail = format!("the body has more than {limit} bytes");
    Problem::new(ErrorCode::BodyTooLarge, detail).at("")
}

/// A JSON body of at most so many values, read strictly.
pub(crate) struct Json<T, const MOST: usize = MAX_SAID>(pub T, pub Share);

impl<T: DeserializeOwned + Send + 'static, const MOST: usize> FromRequest<App> for Json<T, MOST> {
    type Rejection = Refusal;

    async fn from_request(request: Request, app: &App) -> Result<Self, Refusal> {
        let Whole(body, share) = Whole::from_request(request, app).await?;
        let read = app.reading.of(body.len(), move || read_said(&body, MOST)).await??;
        Ok(Self(read, share))
    }
}

/// The parameters after the question mark.
pub(crate) struct Params<T>(pub T);

impl<T: DeserializeOwned + IntoParams, S: Sync> FromRequestParts<S> for Params<T> {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Refusal> {
        let query = parts.uri.query().unwrap_or_default();
        check_text(query)?;
        match Query::<T>::try_from_uri(&parts.uri) {
            Ok(Query(params)) => Ok(Self(params)),
            Err(error) => Err(Refusal(parameter::problem(
                &error.body_text(),
                query,
                &T::into_params(|| None),
            ))),
        }
    }
}

/// Bytes that are no text would otherwise be read as another text.
fn check_text(query: &str) -> Result<(), Problem> {
    let is_text = |pair: &&str| percent_decode_str(pair).decode_utf8().is_ok();
    let Some(wrong) = query.split('&').find(|pair| !is_text(pair)) else { return Ok(()) };
    let name = wrong.split('=').next().unwrap_or_default();
    let detail = format!("{name}: its bytes are not UTF-8");
    Err(Problem::new(ErrorCode::InvalidQuery, detail).at(format!("?{name}")))
}

/// An id in the path, where the path has only that one.
pub(crate) struct Id<T>(pub T);

impl<T: FromStr<Err = IdError>, S: Send + Sync> FromRequestParts<S> for Id<T> {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Refusal> {
        let Path(text) = path::<String, S>(parts, state).await?;
        id(&text).map(Self)
    }
}

/// What stands in the path, as text.
pub(crate) async fn path<T: DeserializeOwned + Send, S: Send + Sync>(
    parts: &mut Parts,
    state: &S,
) -> Result<Path<T>, Refusal> {
    let path = Path::<T>::from_request_parts(parts, state).await;
    path.map_err(|error| Refusal::new(ErrorCode::InvalidId, error.body_text()))
}

pub(crate) fn id<T: FromStr<Err = IdError>>(text: &str) -> Result<T, Refusal> {
    let invalid = |error: IdError| {
        Problem::new(ErrorCode::InvalidId, error.to_string()).cure(error.rule).into()
    };
    text.parse().map_err(invalid)
}

/// One thing in the path, as text.
pub(crate) struct One(pub String);

impl<S: Send + Sync> FromRequestParts<S> for One {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Refusal> {
        let Path(text) = path::<String, S>(parts, state).await?;
        Ok(Self(text))
    }
}

/// Two things in the path, as text.
pub(crate) struct Two(pub String, pub String);

impl<S: Send + Sync> FromRequestParts<S> for Two {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Refusal> {
        let Path((first, second)) = path::<(String, String), S>(parts, state).await?;
        Ok(Self(first, second))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use futures::stream;

    use super::*;
    use crate::body::Room;

    const PIECE: usize = 100 << 10;

    /// A body of so many pieces, which counts those that were read.
    fn body(pieces: usize, read: &'static AtomicUsize) -> Body {
        let piece = move |_| {
            read.fetch_add(1, Ordering::Relaxed);
            Ok::<_, io::Error>(Bytes::from_static(&[b' '; PIECE]))
        };
        Body::from_stream(stream::iter((0..pieces).map(piece)))
    }

    #[tokio::test(start_paused = true)]
    async fn of_a_body_that_is_too_large_so_much_is_read_and_none_kept() {
        static READ: AtomicUsize = AtomicUsize::new(0);
        let room = Room::for_bodies(2 * PIECE);
        let mut share = room.share();
        let refused = collect(body(100, &READ), 2 * PIECE, 5 * PIECE, &mut share).await;
        assert!(refused.unwrap_err().is(ErrorCode::BodyTooLarge));
        assert_eq!(READ.load(Ordering::Relaxed), 6, "the last piece was too much");
        room.share().grow_to(2 * PIECE).await.unwrap();
        drop(share);
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_for_which_there_is_no_room_is_refused() {
        static READ: AtomicUsize = AtomicUsize::new(0);
        let room = Room::for_bodies(PIECE);
        let mut share = room.share();
        let refused = collect(body(3, &READ), 9 * PIECE, 9 * PIECE, &mut share).await;
        assert!(refused.unwrap_err().is(ErrorCode::TooManyBodies));
        assert_eq!(READ.load(Ordering::Relaxed), 3, "so that the refusal is heard");
    }
}
