//! The URL of PostgreSQL, as far as it is judged without a connection.
//!
//! Invariant: no error repeats a part of the URL before its parameters, which may have a password.

/// The parameters of a URL that are read.
pub const PARAMETERS: [&str; 19] = [
    "user",
    "password",
    "dbname",
    "options",
    "application_name",
    "sslmode",
    "sslnegotiation",
    "host",
    "hostaddr",
    "port",
    "connect_timeout",
    "tcp_user_timeout",
    "keepalives",
    "keepalives_idle",
    "keepalives_interval",
    "keepalives_retries",
    "target_session_attrs",
    "channel_binding",
    "load_balance_hosts",
];

/// Checks a URL: its scheme, its hosts, the names of its parameters and the mode of TLS.
///
/// # Errors
/// A description, the second half of a sentence.
pub fn check(url: &str) -> Result<(), String> {
    const EXPECTED: &str = "is not a URL such as postgres://postrider:password@db.example.com/postrider";
    let (place, parameters) = url.split_once('?').unwrap_or((url, ""));
    let scheme = ["postgres://", "postgresql://"].into_iter().find_map(|scheme| place.strip_prefix(scheme));
    let Some(rest) = scheme else { return Err(EXPECTED.to_owned()) };
    let authority = rest.split('/').next().unwrap_or_default();
    let hosts = authority.rsplit_once('@').map_or(authority, |(_, hosts)| hosts);
    if hosts.contains(',') {
        return Err("names several hosts: give the address that leads to the primary".to_owned());
    }
    if !url::Url::parse(place).is_ok_and(|url| url.has_host()) {
        return Err(EXPECTED.to_owned());
    }
    for parameter in parameters.split('&').filter(|parameter| !parameter.is_empty()) {
        let name = parameter.split('=').next().unwrap_or_default();
        if !PARAMETERS.contains(&name) {
            return Err(format!("has the parameter {name:?}, which is not read: leave it out"));
        }
    }
    with_known_mode(url).map(drop)
}

/// The URL with `sslmode=require` in place of `verify-full`. Both mean the same here: every certificate is checked with
/// its name.
///
/// # Errors
/// A description: the mode is not one of these.
pub fn with_known_mode(url: &str) -> Result<String, String> {
    let Some((place, parameters)) = url.split_once('?') else { return Ok(url.to_owned()) };
    let known = |parameter: &str| match parameter.strip_prefix("sslmode=") {
        Some("verify-full") => Ok("sslmode=require".to_owned()),
        None | Some("disable" | "prefer" | "require") => Ok(parameter.to_owned()),
        Some(_) => {
            Err("has another sslmode than disable, prefer, require or verify-full; require checks the certificate \
                        and its name too")
        }
    };
    let parameters: Vec<String> = parameters.split('&').map(known).collect::<Result<_, _>>()?;
    Ok(format!("{place}?{}", parameters.join("&")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_judged_by_its_scheme_its_hosts_and_its_parameters() {
        for url in [
            "postgres://postrider:p%40ss@db.example.com/postrider",
            "postgresql://db.example.com:6432/postrider?sslmode=verify-full&application_name=a",
            "postgres://u@%2Fvar%2Frun%2Fpostgresql/postrider",
            "postgres://[::1]:5432/",
        ] {
            assert_eq!(check(url), Ok(()), "{url}");
        }
        for (url, word) in [
            ("http://db.example.com/", "is not a URL such as"),
            ("db.example.com", "is not a URL such as"),
            ("postgres://db.example.com:port/", "is not a URL such as"),
            ("postgres://u:secret@a.example.com,b.example.com/x", "names several hosts"),
            ("postgres://u:secret@a.example.com:1,b.example.com:2/x", "names several hosts"),
            ("postgres://u:secret@db.example.com/x?sslmode=verify-ca", "another sslmode"),
            ("postgres://u:secret@db.example.com/x?sslmode=disabled", "another sslmode"),
            ("postgres://u:secret@db.example.com/x?sslrootcert=/etc/ca.pem", "\"sslrootcert\", which is not read"),
        ] {
            let refused = check(url).unwrap_err();
            assert!(refused.contains(word) && !refused.contains("secret"), "{url}: {refused}");
        }
    }
}
