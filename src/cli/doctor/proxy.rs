//! Checks of the proxy of deliveries: whether it can be reached from here, and variables that appear to set it.

use super::finding::Finding;
use crate::config::DeliverySettings;
use crate::http_client::HttpEndpoint;
use crate::rules::forward_proxy::ForwardProxy;

const CHECK: &str = "proxy";
/// Variables by which other programs choose a proxy.
const VARIABLES: [&str; 6] = ["HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"];

pub(super) async fn check(delivery: &DeliverySettings) -> Vec<Finding> {
    let proxy = delivery.proxy.as_ref().and_then(|url| ForwardProxy::parse(url.expose()).ok());
    let set: Vec<&str> = VARIABLES.into_iter().filter(|name| std::env::var_os(name).is_some()).collect();
    let mut findings: Vec<Finding> = variables(&set, proxy.as_ref()).into_iter().collect();
    if let Some(proxy) = proxy {
        let reached = match HttpEndpoint::parse(&proxy.url()) {
            Ok(endpoint) => endpoint.reach().await,
            Err(why) => Err(why),
        };
        findings.push(reach_finding(&proxy, &delivery.no_proxy, reached));
    }
    findings
}

fn reach_finding(proxy: &ForwardProxy, no_proxy: &[String], reached: Result<(), String>) -> Finding {
    let but = match no_proxy {
        [] => String::new(),
        entries => format!(", but not to {}", entries.join(", ")),
    };
    let way = format!("deliveries go through {proxy}{but}");
    match reached {
        Ok(()) => Finding::ok(CHECK, format!("{way}; it is reached from here")),
        Err(why) => {
            let fix = "look at the proxy and at the network between, or mend delivery.proxy and reload the daemon";
            Finding::fail(CHECK, format!("{way}; it is not reached from here: {why}"), fix)
        }
    }
}

/// The value of a variable is not shown, because it may contain a password.
fn variables(set: &[&str], proxy: Option<&ForwardProxy>) -> Option<Finding> {
    let detail = format!("{} set here, and Postrider does not use it", set.join(", "));
    match (set, proxy) {
        ([], _) => None,
        (_, Some(_)) => Some(Finding::ok(CHECK, format!("{detail}: delivery.proxy counts"))),
        (_, None) => {
            let fix = "if deliveries must go through a proxy, name it in delivery.proxy, and reload the daemon";
            Some(Finding::warn(CHECK, format!("{detail}: deliveries go directly"), fix))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::doctor::finding::Grade;
    use crate::config::SecretSetting;

    #[test]
    fn variables_are_reported_by_name_and_not_used() {
        let proxy = ForwardProxy::parse("http://u:hunter2@proxy:3128").expect("a proxy");
        assert_eq!(variables(&[], None), None);
        let found = variables(&["HTTPS_PROXY"], None).expect("a finding");
        assert!(found.grade == Grade::Warn && found.detail.starts_with("HTTPS_PROXY set here"), "{found:?}");
        let found = variables(&["HTTPS_PROXY"], Some(&proxy)).expect("a finding");
        assert_eq!((found.grade, found.fix), (Grade::Ok, None));
    }

    #[tokio::test]
    async fn the_proxy_is_connected_to_and_its_password_not_shown() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let delivery = DeliverySettings {
            proxy: Some(SecretSetting::new(format!("http://u:hunter2@{address}"))),
            no_proxy: vec!["erp".to_owned()],
            ..DeliverySettings::default()
        };
        let last = |findings: Vec<Finding>| findings.into_iter().next_back().expect("a finding");
        let up = last(check(&delivery).await);
        let way = format!("deliveries go through http://{address}, but not to erp;");
        assert!(up.grade == Grade::Ok && up.detail == format!("{way} it is reached from here"), "{up:?}");
        drop(listener);
        let down = last(check(&delivery).await);
        assert!(down.grade == Grade::Fail && down.detail.starts_with(&way), "{down:?}");
        assert!(!format!("{up:?}{down:?}").contains("hunter2"));
    }
}
