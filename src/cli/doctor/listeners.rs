//! Checks of the listeners: whether keys cross the network in clear.

use super::finding::Finding;
use crate::config::{ListenSetting, Settings};

const CHECK: &str = "listener";

pub(super) fn check(settings: &Settings) -> Vec<Finding> {
    let has_tls = settings.server.tls_cert.is_some();
    let api = match settings.listen.is_open_to_others() && !has_tls {
        true => Finding::warn(
            CHECK,
            format!(
                "listen is {}, in plain HTTP: other machines may reach it, and keys and events cross the network in clear",
                settings.listen
            ),
            "set server.tls_cert and server.tls_key; or listen on 127.0.0.1 or a unix socket, behind a proxy that speaks TLS",
        ),
        false => Finding::ok(CHECK, format!("listen is {}, {}", settings.listen, reach(&settings.listen, has_tls))),
    };
    let metrics = settings.metrics.listen.as_ref().map(|listen| match listen.is_open_to_others() {
        true => {
            let key = if settings.metrics.key.is_some() { "the figures and metrics.key" } else { "the figures" };
            let detail = format!(
                "metrics.listen is {listen}, in plain HTTP: other machines may reach it, and {key} cross the network in clear"
            );
            Finding::warn(CHECK, detail, "listen on an address of a network that only Prometheus is in, or on 127.0.0.1")
        }
        false => Finding::ok(CHECK, format!("metrics.listen is {listen}, {}", reach(listen, false))),
    });
    let pages = settings.ui.listen.as_ref().filter(|_| settings.ui.enabled).map(|listen| {
        match listen.is_open_to_others() && !has_tls {
            true => Finding::warn(
                CHECK,
                format!(
                    "ui.listen is {listen}, in plain HTTP: other machines may reach it, and sessions and keys cross the \
                     network in clear"
                ),
                "set server.tls_cert and server.tls_key, which hold for the pages too; or listen on 127.0.0.1, behind a \
                 proxy that speaks TLS",
            ),
            false => Finding::ok(CHECK, format!("ui.listen is {listen}, {}", reach(listen, has_tls))),
        }
    });
    std::iter::once(api).chain(metrics).chain(pages).collect()
}

fn reach(listen: &ListenSetting, has_tls: bool) -> &'static str {
    match listen {
        ListenSetting::Unix(_) => "a socket of this machine",
        ListenSetting::Tcp(_) if listen.is_loopback() => "for this machine alone",
        ListenSetting::Tcp(_) if has_tls => "with TLS",
        ListenSetting::Tcp(_) => "in plain HTTP",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::doctor::finding::Grade;
    use crate::config::SecretSetting;

    fn grades(listen: &str, change: impl FnOnce(&mut Settings)) -> Vec<Grade> {
        let mut settings = Settings { listen: listen.parse().expect("an address"), ..Settings::default() };
        change(&mut settings);
        check(&settings).iter().map(|finding| finding.grade).collect()
    }

    #[test]
    fn the_pages_own_listener_is_checked_as_the_api_is() {
        let pages = |listen: &'static str| {
            move |settings: &mut Settings| {
                settings.ui.enabled = true;
                settings.ui.listen = Some(listen.parse().expect("an address"));
            }
        };
        assert_eq!(grades("127.0.0.1:8080", pages("0.0.0.0:8081")), [Grade::Ok, Grade::Warn]);
        assert_eq!(grades("127.0.0.1:8080", pages("127.0.0.1:8081")), [Grade::Ok, Grade::Ok]);
        let secured = |settings: &mut Settings| {
            pages("0.0.0.0:8081")(settings);
            settings.server.tls_cert = Some("/cert.pem".into());
        };
        assert_eq!(grades("127.0.0.1:8080", secured), [Grade::Ok, Grade::Ok]);
    }

    #[test]
    fn plain_http_that_other_machines_reach_is_a_warning() {
        for listen in ["0.0.0.0:8080", "[::]:8080", "10.0.0.7:8080", "[::ffff:10.0.0.7]:8080"] {
            assert_eq!(grades(listen, |_| {}), [Grade::Warn], "{listen}");
            let with_tls = |settings: &mut Settings| settings.server.tls_cert = Some("/cert.pem".into());
            assert_eq!(grades(listen, with_tls), [Grade::Ok], "{listen}");
        }
        for listen in ["127.0.0.1:8080", "[::1]:8080", "127.9.9.9:1", "[::ffff:127.0.0.1]:8080", "unix:/run/a"] {
            assert_eq!(grades(listen, |_| {}), [Grade::Ok], "{listen}");
        }
    }

    #[test]
    fn a_listener_of_metrics_is_looked_at_as_well() {
        let open = |settings: &mut Settings| {
            settings.metrics.listen = Some("0.0.0.0:9100".parse().expect("an address"));
            settings.metrics.key = Some(SecretSetting::new("k"));
        };
        assert_eq!(grades("127.0.0.1:8080", open), [Grade::Ok, Grade::Warn]);
        let near =
            |settings: &mut Settings| settings.metrics.listen = Some("127.0.0.1:9100".parse().expect("an address"));
        assert_eq!(grades("127.0.0.1:8080", near), [Grade::Ok, Grade::Ok]);
    }
}
