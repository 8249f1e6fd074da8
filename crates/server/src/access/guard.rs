//! The guards that requests pass.

use axum::{
    extract::{FromRequestParts, Request, State},
    http::{header, request::Parts},
    middleware::Next,
    response::Response,
};
use pointsman_api::{ErrorCode, Problem};

use super::{Book, Caller, Permission, book::LOOK_EVERY, origin};
use crate::{app::App, refusal::Refusal};

/// How a server is reached, and who may.
pub(crate) struct Gate {
    /// It listens on loopback: nobody on this machine needs a token, and no foreign page comes in.
    pub loopback: bool,
    pub book: Book,
}

impl Gate {
    /// Waits until the caller's token is revoked, and returns as what the caller is then refused. For
    /// whatever may outlast a token: it looks at once, and then as often as the tokens are looked at.
    pub async fn revoked(&self, caller: &Caller) -> Problem {
        if !caller.has_token() {
            return std::future::pending().await;
        }
        while self.book.knows(caller) {
            tokio::time::sleep(LOOK_EVERY).await;
        }
        unauthorized("the token was revoked")
    }
}

/// Who sent the request, if that is known.
#[derive(Clone)]
struct Identity(Option<Caller>);

/// Refuses what is foreign, and finds out who asks.
pub(crate) async fn authenticate(
    State(app): State<App>,
    mut request: Request,
    next: Next,
) -> Result<Response, Refusal> {
    let gate = &app.gate;
    // To what came through a proxy the server is one that listens for everybody.
    let is_local =
        gate.loopback && origin::proxy_sign(request.headers(), request.version()).is_none();
    if is_local {
        origin::check(request.headers())?;
    }
    let identity = match bearer(&request)? {
        Some(secret) => {
            let unknown = || unauthorized("the token is not known");
            Some(gate.book.find(secret).ok_or_else(unknown)?)
        }
        None => is_local.then(Caller::local),
    };
    request.extensions_mut().insert(Identity(identity));
    Ok(next.run(request).await)
}

fn bearer(request: &Request) -> Result<Option<&str>, Problem> {
    let Some(value) = request.headers().get(header::AUTHORIZATION) else { return Ok(None) };
    let parts = value.to_str().ok().and_then(|value| value.split_once(' '));
    // The scheme is written in any case (RFC 9110, 11.1).
    let secret = parts.filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"));
    secret
        .map(|(_, secret)| Some(secret))
        .ok_or_else(|| unauthorized("the Authorization header is not \"Bearer TOKEN\""))
}

fn unauthorized(detail: &str) -> Problem {
    Problem::new(ErrorCode::Unauthorized, detail).at("Authorization")
}

/// Lets only callers with the permission on.
pub(crate) async fn require(
    State(permission): State<Permission>,
    caller: Caller,
    request: Request,
    next: Next,
) -> Result<Response, Refusal> {
    caller.check(permission)?;
    Ok(next.run(request).await)
}

impl<S: Sync> FromRequestParts<S> for Caller {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Refusal> {
        let identity = parts.extensions.get::<Identity>().and_then(|identity| identity.0.clone());
        identity.ok_or_else(|| {
            let through = match origin::proxy_sign(&parts.headers, parts.version) {
                Some(sign) => format!(", and the request came through a proxy ({sign})"),
                None => String::new(),
            };
            unauthorized(&format!("no token was sent{through}")).into()
        })
    }
}

#[cfg(test)]
mod tests {
    use axum::body::Body;

    use super::*;

    #[test]
    fn the_scheme_is_written_in_any_case() {
        let with = |value: &str| {
            let request = Request::builder().header(header::AUTHORIZATION, value);
            let request = request.body(Body::empty()).expect("a request");
            bearer(&request)
                .map(|secret| secret.map(str::to_owned))
                .map_err(|problem| problem.status)
        };
        for value in ["Bearer pm_a", "bearer pm_a", "BEARER pm_a"] {
            assert_eq!(with(value), Ok(Some("pm_a".into())), "{value}");
        }
        for value in ["Basic pm_a", "Bearerpm_a", "Bearer"] {
            assert_eq!(with(value), Err(401), "{value}");
        }
    }
}
