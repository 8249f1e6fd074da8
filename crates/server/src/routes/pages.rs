//! The pages, out of the binary.

use axum::{
    http::{HeaderValue, Method, StatusCode, Uri, header},
    response::{Html, IntoResponse, Response},
};
use pointsman_api::{ErrorCode, Problem};
use rust_embed::{EmbeddedFile, RustEmbed};

use crate::{extract::One, refusal::Refusal};

#[derive(RustEmbed)]
#[folder = "../../ui/dist"]
#[allow_missing = true]
struct Pages;

/// Only this server's own code, and pictures from it.
const POLICY: &str = "default-src 'self'; img-src 'self' blob: data:; media-src 'self' blob:; \
     style-src 'self' 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

const NOT_BUILT: &str = "<!doctype html><meta charset=utf-8><title>Pointsman</title>\
    <style>body{font:1rem/1.6 system-ui;max-width:40rem;margin:4rem auto;padding:0 1rem}</style>\
    <h1>The pages are not built</h1>\
    <p>This server was compiled without its pages; the API works. To build both, run \
    <code>make build</code>, or <code>make release</code>, in the project's directory (it needs \
    Node), and start the server again.</p><p><a href=/api/openapi.json>The API</a></p>";

/// The monitor.
pub(crate) async fn monitor() -> Response {
    page("index.html")
}

/// The page that submits tests.
pub(crate) async fn client() -> Response {
    page("client.html")
}

/// What the pages are made of. The names hold a hash, so they never change.
pub(crate) async fn asset(One(name): One) -> Response {
    match Pages::get(&format!("assets/{name}")) {
        Some(file) => serve(file, "public, max-age=31536000, immutable"),
        None => nothing_at(&format!("/assets/{name}")),
    }
}

fn page(name: &str) -> Response {
    match Pages::get(name) {
        Some(file) => serve(file, "no-cache"),
        None => (StatusCode::SERVICE_UNAVAILABLE, Html(NOT_BUILT)).into_response(),
    }
}

fn serve(file: EmbeddedFile, cache: &'static str) -> Response {
    let media_type = HeaderValue::try_from(file.metadata.mimetype());
    let unknown = HeaderValue::from_static("application/octet-stream");
    let mut response = file.data.into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, media_type.unwrap_or(unknown));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static(cache));
    headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    response
}

/// Everything that has no route: a file of the pages, or nothing.
pub(crate) async fn other(method: Method, uri: Uri) -> Response {
    match Pages::get(uri.path().trim_start_matches('/')) {
        Some(file) if method == Method::GET || method == Method::HEAD => serve(file, "no-cache"),
        Some(_) => wrong_method(method, uri).await,
        None => nothing_at(uri.path()),
    }
}

fn nothing_at(path: &str) -> Response {
    let detail = format!("there is no route {path}");
    Refusal(Problem::new(ErrorCode::RouteNotFound, detail)).into_response()
}

/// A route that exists, asked with a method that it does not know.
pub(crate) async fn wrong_method(method: Method, uri: Uri) -> Response {
    let detail = format!("{} does not know {method}", uri.path());
    Refusal(Problem::new(ErrorCode::MethodNotAllowed, detail)).into_response()
}
