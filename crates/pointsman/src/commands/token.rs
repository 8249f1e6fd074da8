//! `pointsman token`: the tokens in a server's data directory.

use pointsman_server::access;

use super::print;
use crate::{args, exit::Exit};

pub fn token(args: &args::Token, json: bool) -> Result<(), Exit> {
    let wrong = |error: access::AccessError| Exit::Usage(error.to_string());
    match args {
        args::Token::Add { name, role, customer, payloads, data } => {
            let role = role.parse().map_err(wrong)?;
            let token = access::add(data, name, role, customer.as_deref(), *payloads).map_err(wrong)?;
            print::line(&token)
        }
        args::Token::List { data } => {
            let tokens = access::list(data).map_err(wrong)?;
            if json {
                return print::json(&tokens);
            }
            let rows: Vec<Vec<String>> = tokens.iter().map(|token| token.cells()).collect();
            print::table(&["NAME", "ROLE", "CUSTOMER", "PAYLOADS"], &rows)
        }
        args::Token::Revoke { name, data } => access::revoke(data, name).map_err(wrong),
    }
}
