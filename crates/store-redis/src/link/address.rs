//! Where Redis is: one server, Sentinels that know it, or a cluster.

use std::{fmt, path::PathBuf, str::FromStr};

use percent_encoding::{AsciiSet, CONTROLS, percent_decode_str, utf8_percent_encode};

/// What stands in the place of a password where an address is shown.
const HIDDEN: &str = "***";
/// What would end a user's name, or a file.
const ESCAPED: &AsciiSet =
    &CONTROLS.add(b' ').add(b'%').add(b':').add(b'@').add(b'?').add(b'#').add(b'&');
const ESCAPED_USER: &AsciiSet = &ESCAPED.add(b'/');

/// What may follow a ?.
const FILES: [&str; 3] = ["ca", "cert", "key"];

/// How the primary is found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Topology {
    /// The one host.
    Server,
    /// The hosts are Sentinels; they know the primary by this name.
    Sentinel { master: String },
    /// The hosts are nodes of a cluster; one of them has the fleet's slot.
    Cluster,
}

/// An address of Redis, as `--store` and `--broker` take it. It is shown with `***` for its password.
#[derive(Clone, PartialEq, Eq)]
pub struct Address {
    pub topology: Topology,
    /// Host and port.
    pub hosts: Vec<(String, u16)>,
    pub user: Option<String>,
    pub password: Option<String>,
    pub db: i64,
    pub tls: bool,
    /// Certificates of the authority that signed the servers' own, PEM; else the system's.
    pub ca: Option<PathBuf>,
    /// What this side proves itself with, where servers ask for that.
    pub client: Option<ClientFiles>,
}

/// A certificate and its private key, PEM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientFiles {
    pub cert: PathBuf,
    pub key: PathBuf,
}

/// The text is no address of Redis. Quotes nothing of it: anything may be a piece of a password.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{why}: use redis://[USER:PASSWORD@]HOST:PORT[/DB], rediss://…[?ca=FILE] for TLS, \
     redis+sentinel://HOST:PORT,HOST:PORT/MASTER[/DB] or redis+cluster://HOST:PORT,HOST:PORT"
)]
pub struct AddressError {
    why: String,
}

fn wrong(why: impl Into<String>) -> AddressError {
    AddressError { why: why.into() }
}

impl Address {
    /// Whether a text is meant to be one.
    pub fn looks_like(text: &str) -> bool {
        text.split_once("://").is_some_and(|(scheme, _)| scheme.starts_with("redis"))
    }

    /// A text that may be meant as an address, without whatever may be a password in it.
    pub fn redacted(text: &str) -> String {
        let (scheme, rest) = match text.find("://") {
            Some(at) => text.split_at(at + "://".len()),
            None => ("", text),
        };
        // The last @: one that was not escaped stands in the password.
        let (user, rest) = match rest.rsplit_once('@') {
            Some((userinfo, rest)) => {
                let user = userinfo.split_once(':').map(|(user, _)| format!("{user}:"));
                (format!("{}{HIDDEN}@", user.unwrap_or_default()), rest)
            }
            None => (String::new(), rest),
        };
        match rest.split_once('?') {
            Some((rest, query)) if !scheme.is_empty() && !names_files(query) => {
                format!("{scheme}{user}{rest}?{HIDDEN}")
            }
            _ => format!("{scheme}{user}{rest}"),
        }
    }
}

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let (scheme, rest) = text.split_once("://").ok_or_else(|| wrong("there is no ://"))?;
        let (tls, kind) = match scheme {
            "redis" => (false, "server"),
            "rediss" => (true, "server"),
            "redis+sentinel" => (false, "sentinel"),
            "rediss+sentinel" => (true, "sentinel"),
            "redis+cluster" => (false, "cluster"),
            "rediss+cluster" => (true, "cluster"),
            _ => return Err(wrong("what stands before :// is not known")),
        };
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        if path.contains('@') || (query.contains('@') && !names_files(query)) {
            return Err(wrong("in a user and a password, / is written %2F and ? is written %3F"));
        }
        let (userinfo, hosts) = match authority.rsplit_once('@') {
            Some((userinfo, hosts)) => (Some(userinfo), hosts),
            None => (None, authority),
        };
        let (user, password) = credentials(userinfo)?;
        let hosts = hosts.split(',').map(host).collect::<Result<Vec<_>, _>>()?;
        let (topology, db) = match kind {
            "sentinel" => {
                let (master, db) = path.split_once('/').unwrap_or((path, ""));
                if master.is_empty() {
                    return Err(wrong("the name of the Sentinels' master is missing"));
                }
                (Topology::Sentinel { master: master.to_owned() }, db)
            }
            "cluster" if !path.is_empty() && path != "0" => {
                return Err(wrong("a cluster has no databases"));
            }
            "cluster" => (Topology::Cluster, ""),
            _ if hosts.len() > 1 => return Err(wrong("several hosts need a kind")),
            _ => (Topology::Server, path),
        };
        let db = match db {
            "" => 0,
            db => match db.parse() {
                Ok(db) if db >= 0 => db,
                _ => return Err(wrong("the database is not a number, 0 or more")),
            },
        };
        let (ca, client) = files(query, tls)?;
        Ok(Self { topology, hosts, user, password, db, tls, ca, client })
    }
}

/// Whether what follows a ? is that, or may be a piece of a password.
fn names_files(query: &str) -> bool {
    FILES.iter().any(|name| query.strip_prefix(name).is_some_and(|rest| rest.starts_with('=')))
}

/// The files of TLS: of the authority, and of this side.
fn files(query: &str, tls: bool) -> Result<(Option<PathBuf>, Option<ClientFiles>), AddressError> {
    let mut files = [const { None::<PathBuf> }; FILES.len()];
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, file) = pair.split_once('=').unwrap_or((pair, ""));
        let known = FILES.iter().position(|known| *known == name);
        let at = known.ok_or_else(|| wrong("after the ? only ca=, cert= and key= are known"))?;
        if !tls || file.is_empty() {
            return Err(wrong("ca=FILE, cert=FILE and key=FILE go with rediss://"));
        }
        files[at] = Some(decode(file)?.into());
    }
    match files {
        [ca, Some(cert), Some(key)] => Ok((ca, Some(ClientFiles { cert, key }))),
        [ca, None, None] => Ok((ca, None)),
        _ => Err(wrong("cert=FILE and key=FILE go together")),
    }
}

fn credentials(userinfo: Option<&str>) -> Result<(Option<String>, Option<String>), AddressError> {
    let Some(userinfo) = userinfo else { return Ok((None, None)) };
    let (user, password) = userinfo.split_once(':').unwrap_or((userinfo, ""));
    // Redis would be asked without either, as its user `default`.
    if password.is_empty() {
        return Err(wrong(
            "there is no password before the @ (a user that needs none takes any; without user \
             and password it is the user `default`)",
        ));
    }
    let user = if user.is_empty() { None } else { Some(decode(user)?) };
    Ok((user, Some(decode(password)?)))
}

fn decode(text: &str) -> Result<String, AddressError> {
    let decoded = percent_decode_str(text).decode_utf8();
    Ok(decoded.map_err(|_| wrong("a part is not UTF-8"))?.into_owned())
}

fn host(text: &str) -> Result<(String, u16), AddressError> {
    let (name, port) = match text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((name, port)) => (name, port.strip_prefix(':')),
        None => match text.rsplit_once(':') {
            Some((name, port)) => (name, Some(port)),
            None => (text, None),
        },
    };
    if name.is_empty() {
        return Err(wrong("a host is missing"));
    }
    let port = match port.map(str::parse) {
        Some(Ok(port)) if port > 0 => port,
        Some(_) => return Err(wrong("a port is not a number from 1 to 65535")),
        None => 6379,
    };
    Ok((name.to_owned(), port))
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tls = if self.tls { "s" } else { "" };
        let kind = match self.topology {
            Topology::Server => "",
            Topology::Sentinel { .. } => "+sentinel",
            Topology::Cluster => "+cluster",
        };
        write!(f, "redis{tls}{kind}://")?;
        if self.password.is_some() {
            let user = self.user.as_deref().unwrap_or_default();
            write!(f, "{}:{HIDDEN}@", utf8_percent_encode(user, ESCAPED_USER))?;
        }
        let hosts = self.hosts.iter().map(|(host, port)| match host.contains(':') {
            true => format!("[{host}]:{port}"),
            false => format!("{host}:{port}"),
        });
        write!(f, "{}", hosts.collect::<Vec<_>>().join(","))?;
        if let Topology::Sentinel { master } = &self.topology {
            write!(f, "/{master}")?;
        }
        if self.db != 0 {
            write!(f, "/{}", self.db)?;
        }
        let client = self.client.as_ref();
        let files = [&self.ca, &client.map(|c| c.cert.clone()), &client.map(|c| c.key.clone())];
        let named = FILES.iter().zip(files).filter_map(|(name, file)| Some((name, file.as_ref()?)));
        for (n, (name, file)) in named.enumerate() {
            let file = file.to_string_lossy();
            let sign = if n == 0 { '?' } else { '&' };
            write!(f, "{sign}{name}={}", utf8_percent_encode(&file, ESCAPED))?;
        }
        Ok(())
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_is_read() {
        let address: Address = "redis://127.0.0.1:6380/3".parse().unwrap();
        assert_eq!((address.hosts[0].1, address.db), (6380, 3));
        let address: Address = "rediss://app:p%40ss@redis.example?ca=/etc/ca.pem".parse().unwrap();
        assert_eq!(address.password.as_deref(), Some("p@ss"));
        assert_eq!((address.tls, address.hosts[0].1), (true, 6379));
        let address: Address = "redis+sentinel://:secret@a:1,b:2/main/4".parse().unwrap();
        assert_eq!(address.topology, Topology::Sentinel { master: "main".into() });
        assert_eq!((address.hosts.len(), address.db, address.user), (2, 4, None));
        let address: Address = "redis+cluster://a:1,[::1]:2".parse().unwrap();
        assert_eq!(address.hosts[1], ("::1".into(), 2));
    }

    #[test]
    fn a_password_is_never_shown() {
        let address: Address = "redis://app:secret@host:1".parse().unwrap();
        assert_eq!(format!("{address} {address:?}"), ["redis://app:***@host:1"; 2].join(" "));
        for (given, shown) in [
            ("redis://app:secret@host:99999", "redis://app:***@host:99999"),
            ("redis://app:sec/ret@host:1/0", "redis://app:***@host:1/0"),
            ("redis://app:sec@ret@host", "redis://app:***@host"),
            ("redis://app:sec?ret@host", "redis://app:***@host"),
            ("redis://secret@host?ca=/a", "redis://***@host?ca=/a"),
            ("redis://host?password=secret", "redis://host?***"),
            ("redis:app:secret@host", "redis:***@host"),
            ("redis://host:port", "redis://host:port"),
            ("sqlite:data", "sqlite:data"),
        ] {
            assert_eq!(Address::redacted(given), shown);
            if let Err(error) = given.parse::<Address>() {
                let error = error.to_string();
                assert!(!error.contains("sec") && !error.contains("ret"), "{error}");
            }
        }
    }

    #[test]
    fn what_is_shown_is_the_address_but_for_its_password() {
        for text in [
            "redis://[::1]:6380/3",
            "rediss://a%3Ab%2Fc:***@redis.example:6379?ca=/etc/a%26b.pem",
            "rediss+sentinel://:***@a:1,b:2/main/4?ca=ca.pem",
            "rediss://a:1?ca=ca.pem&cert=a%26.crt&key=a.key",
            "rediss://a:1?cert=a.crt&key=a.key",
            "redis+cluster://a:1,b:2",
        ] {
            let address: Address = text.parse().unwrap();
            assert_eq!(address.to_string(), text);
        }
    }

    #[test]
    fn a_user_without_a_password_would_be_ignored_and_is_refused() {
        for wrong in ["redis://app@host", "redis://app:@host", "redis://@host", "redis://:@host"] {
            let why = wrong.parse::<Address>().unwrap_err().to_string();
            assert!(why.contains("no password before the @"), "{why}");
        }
    }

    #[test]
    fn what_is_wrong_is_said() {
        for wrong in [
            "redis:host",
            "http://host",
            "redis://",
            "redis://host:port",
            "redis://host:0",
            "redis://host/-1",
            "redis://app:a/b@host",
            "redis://app:a?b@host",
            "redis://a:1,b:2",
            "redis://host/x",
            "redis+sentinel://a:1",
            "redis+cluster://a:1/2",
            "redis://host?ca=/x",
            "redis://host?x=1",
            "rediss://host?ca=",
            "rediss://host?cert=a",
            "rediss://host?ca=a&key=b",
            "redis://host?cert=a&key=b",
        ] {
            assert!(wrong.parse::<Address>().is_err(), "{wrong}");
        }
    }
}
