//! Addresses as they may be shown.

/// What stands in the place of a user and a password.
const HIDDEN: &str = "***";

/// An address without the user and the password in it. A password may have a `/`, `?` or `#` that was
/// not escaped: where what stands before the first of them is no host, everything up to the last `@`
/// is hidden; where it may be one, what stands between it and that `@`.
#[must_use]
pub fn without_password(url: &str) -> String {
    let (scheme, rest) = match url.find("://") {
        Some(at) => url.split_at(at + "://".len()),
        None => ("", url),
    };
    let (authority, path) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
    let Some(last) = rest.rfind('@') else { return url.to_owned() };
    if !names_host(authority) {
        return format!("{scheme}{HIDDEN}{}", &rest[last..]);
    }
    let authority = match authority.rfind('@') {
        Some(at) => format!("{HIDDEN}{}", &authority[at..]),
        None => authority.to_owned(),
    };
    match path.rfind('@') {
        Some(at) => format!("{scheme}{authority}{}{HIDDEN}{}", &path[..1], &path[at..]),
        None => format!("{scheme}{authority}{path}"),
    }
}

/// Whether it ends with a host, or with a host and a port.
fn names_host(authority: &str) -> bool {
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    let after_brackets = host.rsplit_once(']').map_or(host, |(_, port)| port);
    after_brackets.rsplit_once(':').is_none_or(|(_, port)| {
        !port.is_empty() && port.bytes().all(|digit| digit.is_ascii_digit())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_host_is_shown_and_the_password_is_not() {
        for (url, shown) in [
            ("http://host:8188", "http://host:8188"),
            ("http://host:8188/a@b/", "http://host:8188/***@b/"),
            ("http://host?to=a@b", "http://host?***@b"),
            ("http://[::1]:8188/a@b", "http://[::1]:8188/***@b"),
            ("http://me:secret@host:8188/a@b/", "http://***@host:8188/***@b/"),
            ("http://me:12/secret@host:1", "http://me:12/***@host:1"),
            ("http://me:7#secret@host", "http://me:7#***@host"),
            ("http://me:/secret@host", "http://***@host"),
            ("http://me:p@7/secret@host", "http://***@7/***@host"),
            ("http://me:se@cret@host", "http://***@host"),
            ("http://me@host", "http://***@host"),
            ("http://me:sec/ret@host:1/x", "http://***@host:1/x"),
            ("http://me:s?cr#t@host", "http://***@host"),
            ("me:secret@host:1", "***@host:1"),
            ("", ""),
        ] {
            assert_eq!(without_password(url), shown, "{url}");
        }
    }
}
