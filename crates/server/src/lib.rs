//! The HTTP server: routes, access, events, files, metrics, and the embedded pages.
//!
//! The routes stand as one list in `router.rs`; each group of endpoints is one file under
//! `routes/`. Every error is a problem document with a stable code, a pointer and a cure.
//!
//! Architecture invariant: nothing reaches a handler before `access` has let it through, and a
//! refused request has changed nothing.

mod access;
mod app;
mod body;
mod explain;
mod extract;
mod files;
mod finish;
mod metrics;
mod one_at_a_time;
mod openapi;
mod parameter;
mod patient;
mod reading;
mod refusal;
mod router;
mod routes;
mod said;
mod server;
mod services;
mod streams;
mod submission;
mod waiting;
mod workflow;
mod written;

pub use access::{
    NewToken, Role, TokenError, TokenRecord, add_token, list_tokens, make_data_directory,
    revoke_token,
};
pub use files::{ByteStream, FileReader, Files, FilesError, Owner, StoredFile};
pub use openapi::openapi_json;
pub use server::{Limits, Reserved, Server, ServerConfig, ServerError};
