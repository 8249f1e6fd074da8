//! Whether a request on loopback comes from here, or from elsewhere through a proxy, or from a page
//! of another site: by a name that was made to point to this machine (`Host`), or across sites
//! (`Origin`).

use std::net::IpAddr;

use axum::http::{HeaderMap, Version, header};
use pointsman_api::{ErrorCode, Problem};

use crate::extract::header_text;

/// What proxies add to the requests that they pass on.
const ADDED_BY_PROXIES: [&str; 6] =
    ["Forwarded", "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto", "X-Real-IP", "Via"];

/// What shows that a proxy passed the request on, so that it may come from anywhere. One that adds
/// nothing may still speak HTTP/1.0, as nginx does unless it is told otherwise.
pub(super) fn proxy_sign(headers: &HeaderMap, version: Version) -> Option<&'static str> {
    let added = ADDED_BY_PROXIES.into_iter().find(|name| headers.contains_key(*name));
    added.or_else(|| (version <= Version::HTTP_10).then_some("HTTP/1.0"))
}

pub(super) fn check(headers: &HeaderMap) -> Result<(), Problem> {
    for (name, code) in [("Host", ErrorCode::ForeignHost), ("Origin", ErrorCode::ForeignOrigin)] {
        if headers.get_all(name).iter().nth(1).is_some() {
            let detail = format!("the header {name} stands more than once");
            return Err(Problem::new(code, detail).at(name).cure("send it once"));
        }
    }
    let host = header_text(headers, header::HOST);
    let Some(host) = host.filter(|host| is_loopback(host)) else {
        let said = host.unwrap_or("none");
        let detail = format!("the Host header says {said:?}, and this server serves this machine");
        return Err(Problem::new(ErrorCode::ForeignHost, detail).at("Host"));
    };
    let Some(origin) = headers.get(header::ORIGIN) else { return check_site(headers, host) };
    let origin = origin.to_str().unwrap_or("unreadable");
    let own = origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://"));
    if own.is_some_and(|own| own.eq_ignore_ascii_case(host)) {
        return Ok(());
    }
    let detail = format!("the page is of {origin}, and this server is {host}");
    Err(Problem::new(ErrorCode::ForeignOrigin, detail).at("Origin"))
}

/// Where a browser sends no `Origin`, for a picture, a script or a question whose answer its page may
/// not read, it says so itself (Fetch Metadata, <https://www.w3.org/TR/fetch-metadata/>). Who follows a
/// link to here, in a window of its own, comes from anywhere.
fn check_site(headers: &HeaderMap, host: &str) -> Result<(), Problem> {
    let said = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let is_elsewhere = matches!(said("sec-fetch-site"), Some("cross-site" | "same-site"));
    let is_link = said("sec-fetch-mode") == Some("navigate")
        && said("sec-fetch-dest").is_none_or(|dest| dest == "document");
    if !is_elsewhere || is_link {
        return Ok(());
    }
    let detail = format!("the page is of another origin, and this server is {host}");
    let cure = "open it by itself, or let the site's own server fetch it";
    Err(Problem::new(ErrorCode::ForeignOrigin, detail).at("Sec-Fetch-Site").cure(cure))
}

/// Whether `HOST[:PORT]` names this machine.
fn is_loopback(host: &str) -> bool {
    let (name, port) = match host.strip_prefix('[') {
        Some(rest) => rest.split_once(']').unwrap_or_default(),
        None => host.split_at(host.find(':').unwrap_or(host.len())),
    };
    let is_port = |port: &str| port.bytes().all(|byte| byte.is_ascii_digit());
    if !(port.is_empty() || port.strip_prefix(':').is_some_and(is_port)) {
        return false;
    }
    name.eq_ignore_ascii_case("localhost")
        || name.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(host: Option<&str>, origin: Option<&str>) -> Result<(), String> {
        let mut headers = HeaderMap::new();
        if let Some(host) = host {
            headers.insert(header::HOST, host.parse().unwrap());
        }
        if let Some(origin) = origin {
            headers.insert(header::ORIGIN, origin.parse().unwrap());
        }
        check(&headers).map_err(|problem| problem.code.to_string())
    }

    #[test]
    fn only_pages_of_this_server_on_this_machine() {
        for host in
            ["localhost", "LOCALHOST:1", "127.0.0.1:7780", "127.1.2.3", "[::1]:7780", "[::1]"]
        {
            assert_eq!(verdict(Some(host), None), Ok(()), "{host}");
            assert_eq!(verdict(Some(host), Some(&format!("http://{host}"))), Ok(()), "{host}");
        }
        for host in [
            None,
            Some("evil.example"),
            Some("127.0.0.1.evil.example"),
            Some("10.0.0.1:7780"),
            Some("[::1].evil.example"),
            Some("[::1]x"),
            Some("127.0.0.1:evil.example"),
            Some("localhost:1:2"),
            Some(""),
        ] {
            assert_eq!(verdict(host, None), Err("foreign_host".into()), "{host:?}");
        }
        for origin in
            ["http://evil.example", "null", "http://localhost", "http://localhost:7781", "file://"]
        {
            let found = verdict(Some("localhost:7780"), Some(origin));
            assert_eq!(found, Err("foreign_origin".into()), "{origin}");
        }
    }

    #[test]
    fn a_header_that_stands_twice_is_not_believed() {
        for (name, own) in [("host", "localhost"), ("origin", "http://localhost")] {
            let mut headers = HeaderMap::new();
            headers.insert("host", "localhost".parse().unwrap());
            headers.insert(name, own.parse().unwrap());
            assert_eq!(check(&headers), Ok(()));
            headers.append(name, "http://evil.example".parse().unwrap());
            let problem = check(&headers).unwrap_err();
            assert!(problem.detail.contains("more than once"), "{problem}");
        }
    }

    #[test]
    fn what_another_sites_page_loads_without_an_origin_is_refused() {
        let verdict = |site: &str, mode: &str| {
            let mut headers = HeaderMap::new();
            headers.insert("host", "127.0.0.1:7780".parse().unwrap());
            headers.insert("sec-fetch-site", site.parse().unwrap());
            headers.insert("sec-fetch-mode", mode.parse().unwrap());
            check(&headers).map_err(|problem| problem.code.to_string())
        };
        for mode in ["no-cors", "cors", "navigate", "websocket"] {
            assert_eq!(verdict("same-origin", mode), Ok(()), "{mode}");
            assert_eq!(verdict("none", mode), Ok(()), "{mode}");
            let links_in = mode == "navigate";
            assert_eq!(verdict("cross-site", mode).is_ok(), links_in, "{mode}");
            assert_eq!(verdict("same-site", mode).is_ok(), links_in, "{mode}");
        }
        assert_eq!(verdict("cross-site", "no-cors"), Err("foreign_origin".into()));
        for (dest, may) in [("document", true), ("iframe", false), ("object", false)] {
            let mut headers = HeaderMap::new();
            for (name, value) in [
                ("host", "127.0.0.1:7780"),
                ("sec-fetch-site", "cross-site"),
                ("sec-fetch-mode", "navigate"),
                ("sec-fetch-dest", dest),
            ] {
                headers.insert(name, value.parse().unwrap());
            }
            assert_eq!(check(&headers).is_ok(), may, "{dest}");
        }
    }
}
