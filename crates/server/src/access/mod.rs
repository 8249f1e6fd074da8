//! Who may do what. On loopback nobody needs a token, but a page of another site must not be able
//! to reach the server through the browser: a foreign `Host` or `Origin` is refused. Everywhere
//! else a token is needed; only its SHA-256 is kept, and it is compared in constant time.

mod book;
mod caller;
mod guard;
mod origin;
mod tokens;

pub(crate) use book::Book;
pub use caller::Role;
pub(crate) use caller::{Caller, Permission};
pub(crate) use guard::{Gate, authenticate, require};
pub use tokens::{
    NewToken, TokenError, TokenRecord, add_token, list_tokens, make_data_directory, revoke_token,
};
