//! `pointsman token`: the tokens in a server's data directory.

use pointsman_core::CustomerId;
use pointsman_server::{NewToken, TokenError, add_token, list_tokens, revoke_token};

use super::print;
use crate::{args, exit::Exit};

pub fn token(args: &args::Token, json: bool) -> Result<(), Exit> {
    match args {
        args::Token::Add { name, role, customer, payloads, data } => {
            let customer = customer.as_deref().map(CustomerId::new).transpose().map_err(wrong)?;
            let role = role.parse().map_err(wrong)?;
            let new = NewToken { name: name.clone(), role, customer, payloads: *payloads };
            print::line(&add_token(data, new).map_err(token_error)?)
        }
        args::Token::List { data } => {
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
        args::Token::Revoke { name, data } => match revoke_token(data, name) {
            Ok(true) => Ok(()),
            Ok(false) => Err(Exit::Usage(format!("no token is named {name:?}"))),
            Err(error) => Err(token_error(error)),
        },
    }
}

fn token_error(error: TokenError) -> Exit {
    Exit::Other(error.into())
}

fn wrong(error: impl std::fmt::Display) -> Exit {
    Exit::Usage(error.to_string())
}
