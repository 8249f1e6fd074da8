//! `pointsman token`: the tokens in a server's data directory.

use std::path::Path;

use pointsman_core::CustomerId;
use pointsman_server::{NewToken, TokenError, add_token, list_tokens, revoke_token};
use pointsman_store_sqlite::SqliteStore;
use serde_json::json;

use super::print;
use crate::{args, exit::Exit};

pub fn token(args: &args::Token, json: bool) -> Result<(), Exit> {
    match args {
        args::Token::Add { name, role, customer, payloads, data } => {
            let customer = customer.as_deref().map(CustomerId::new).transpose().map_err(wrong)?;
            let new = NewToken { name: name.clone(), role: *role, customer, payloads: *payloads };
            let found = match data.is_dir() {
                false => Some("was not there and was made"),
                true if SqliteStore::is_in(data) => None,
                true => list_tokens(data)
                    .map_err(token_error)?
                    .is_empty()
                    .then_some("holds no store and had no token"),
            };
            let token = add_token(data, new).map_err(token_error)?;
            match json {
                true => print::json(&json!({"name": name, "role": role, "token": token}))?,
                false => print::line(&token)?,
            }
            if let Some(found) = found {
                tell_new(data, found);
            }
            Ok(())
        }
        args::Token::List { data } => {
            is_there(data)?;
            let tokens = list_tokens(data).map_err(token_error)?;
            if json {
                return print::json(&tokens);
            }
            let rows: Vec<Vec<String>> = tokens
                .iter()
                .map(|token| {
                    let customer = token.customer.as_ref().map(ToString::to_string);
                    vec![
                        token.name.clone(),
                        token.role.as_str().to_owned(),
                        customer.unwrap_or_default(),
                        if token.payloads { "yes" } else { "" }.to_owned(),
                    ]
                })
                .collect();
            print::table(&["NAME", "ROLE", "CUSTOMER", "PAYLOADS"], &rows)
        }
        args::Token::Revoke { name, data } => {
            is_there(data)?;
            match revoke_token(data, name).map_err(token_error)? {
                true if json => print::json(&json!({"revoked": name})),
                true => Ok(()),
                false => Err(Exit::Usage(format!("no token is named {name:?}"))),
            }
        }
    }
}

/// A first token may be made before its server makes the rest of the directory; or it is the wrong
/// directory.
fn tell_new(data: &Path, found: &str) {
    let shown = std::path::absolute(data);
    let shown = shown.as_deref().unwrap_or(data).display();
    eprintln!(
        "{shown} {found}: this token is for a server with --store sqlite:{shown}, or with --data \
         {shown}"
    );
}

fn is_there(data: &Path) -> Result<(), Exit> {
    match data.is_dir() {
        true => Ok(()),
        false => Err(Exit::Usage(format!(
            "there is no directory {}: give the server's data directory with --data",
            data.display()
        ))),
    }
}

fn token_error(error: TokenError) -> Exit {
    Exit::Other(error.into())
}

fn wrong(error: impl std::fmt::Display) -> Exit {
    Exit::Usage(error.to_string())
}
