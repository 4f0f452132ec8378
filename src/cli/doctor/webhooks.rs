//! Checks of the webhooks: those whose deliveries fail or wait, each with its cause and its cure.

use std::collections::BTreeSet;
use std::net::IpAddr;

use serde_json::Value;
use tokio::net::lookup_host;

use super::Site;
use super::finding::Finding;
use crate::cli::client::{Call, Client};
use crate::cli::list;
use crate::rules::target::{TargetPolicy, check_addrs, check_url};

/// Maximum pages of webhooks that are checked.
const PAGES_MAX: usize = 40;
const PAGE_ROWS: u16 = 250;
/// Maximum webhooks that are reported one by one.
const TOLD_MAX: usize = 50;
/// Consecutive failed attempts up to which the doctor does not warn.
const ACCIDENTS_MAX: u64 = 1;

pub(super) async fn look(client: &Client, site: &Site, findings: &mut Vec<Finding>) {
    let delivery = &site.settings.delivery;
    let policy = TargetPolicy::parse(&delivery.allow, &delivery.deny, delivery.https_only).unwrap_or_default();
    // Behind a proxy the proxy resolves names, and says itself which addresses it refuses.
    let today = Today { policy, resolves_names: delivery.proxy.is_none() };
    let webhooks = match all(client).await {
        Ok(webhooks) => webhooks,
        Err(said) => {
            let fix = "give a key with the scopes webhooks:read and events:read";
            return findings.push(Finding::warn("webhooks", said, fix));
        }
    };
    let unwell: Vec<&Value> = webhooks.iter().filter(|webhook| is_unwell(webhook)).collect();
    if unwell.is_empty() {
        return findings.push(Finding::ok("webhooks", format!("{} webhooks, none failing or held", webhooks.len())));
    }
    for webhook in unwell.iter().take(TOLD_MAX) {
        findings.push(one(client, &today, webhook).await);
    }
    if unwell.len() > TOLD_MAX {
        let more = format!("{} more webhooks fail or are held", unwell.len() - TOLD_MAX);
        findings.push(Finding::warn("webhooks", more, "mend those above first; `postrider webhook list` shows all"));
    }
}

async fn all(client: &Client) -> Result<Vec<Value>, String> {
    let call = Call::get(&["webhooks"]).query("limit", Some(PAGE_ROWS));
    let mut webhooks = Vec::new();
    let mut next = call.clone();
    for _ in 0..PAGES_MAX {
        let page = list::page(client, &next).await.map_err(|exit| exit.text().trim().to_owned())?;
        webhooks.extend(page.rows());
        match page.next_cursor {
            Some(cursor) => next = call.with_query("cursor", &cursor),
            None => break,
        }
    }
    Ok(webhooks)
}

fn is_unwell(webhook: &Value) -> bool {
    let by_hand = webhook["disabled_reason"] == "manual";
    match webhook["status"].as_str() {
        Some("paused") => true,
        Some("disabled") => !by_hand,
        _ => {
            let fails = webhook["circuit"] != "closed" || webhook["consecutive_failures"].as_u64() > Some(0);
            fails || !webhook["waiting_for"].is_null()
        }
    }
}

async fn one(client: &Client, today: &Today, webhook: &Value) -> Finding {
    let text = |name: &str| webhook[name].as_str().unwrap_or_default();
    let id = text("id");
    let who = format!("{} ({id}, {})", text("name"), text("url"));
    let health = client.value(Call::get(&["webhooks", id, "health"])).await.unwrap_or_default();
    let (state, waiting) = in_words(&health);
    if webhook["status"] == "paused" {
        let detail = format!("{who} is {state}. {waiting}");
        return Finding::warn("webhook", detail, format!("postrider webhook resume {id}"));
    }
    let last = Call::get(&["webhooks", id, "attempts"]).query("limit", Some(1));
    let last = client.value(last).await.map(|page| page["data"][0].clone()).unwrap_or_default();
    let failures = webhook["consecutive_failures"].as_u64().unwrap_or(0);
    let addresses = resolved(text("url")).await;
    let (why, mut fix) = match judged_today(&last, text("url"), &addresses, today) {
        Some(judged) => judged,
        None => explained(&last, text("url"), &in_text(&addresses)),
    };
    let what = match webhook["status"].as_str() {
        Some("disabled") => {
            fix = format!("{fix}. Then: postrider webhook enable {id}, and postrider replay --webhook {id} --missing");
            format!("is {state}")
        }
        _ if !webhook["waiting_for"].is_null() => {
            fix = format!(
                "{fix}. postrider webhook test {id} tries it; then postrider webhook resume {id} sends at once"
            );
            format!("is {state}")
        }
        _ if failures <= ACCIDENTS_MAX => {
            let detail = format!("{who}: the latest attempt failed, and will be made again. {why}");
            return Finding::warn("webhook", detail, fix);
        }
        _ => format!("fails: {failures} attempts in a row"),
    };
    Finding::fail("webhook", format!("{who} {what}. {waiting}{why}"), fix)
}

/// The state of a webhook in a sentence, and the number of its waiting deliveries. Empty
/// for members that an older daemon lacks.
fn in_words(health: &Value) -> (String, String) {
    let state = health["reasons"]["state"].as_str().unwrap_or_default().to_owned();
    let waiting = match (health["state"]["waiting"].as_u64(), health["state"]["oldest_waiting"].as_str()) {
        (Some(count), Some(since)) => format!("Deliveries that wait: {count}, the oldest since {since}. "),
        (Some(count @ 1..), None) => format!("Deliveries that wait: {count}. "),
        _ => String::new(),
    };
    (state, waiting)
}

/// The rules for targets by the settings in force.
struct Today {
    policy: TargetPolicy,
    /// Whether the addresses that this machine resolves are those that deliveries are sent to.
    resolves_names: bool,
}

/// The addresses of the URL's host as this machine resolves them now.
async fn resolved(url: &str) -> Result<BTreeSet<IpAddr>, String> {
    let none = || Ok(BTreeSet::new());
    let Ok(url) = url::Url::parse(url) else { return none() };
    let (Some(host), Some(port)) = (url.host_str(), url.port_or_known_default()) else { return none() };
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    match lookup_host((bare, port)).await {
        Ok(found) => Ok(found.map(|addr| addr.ip()).collect()),
        Err(error) => Err(error.to_string()),
    }
}

fn in_text(addresses: &Result<BTreeSet<IpAddr>, String>) -> String {
    match addresses {
        Ok(found) => found.iter().map(IpAddr::to_string).collect::<Vec<_>>().join(", "),
        Err(error) => format!("none ({error})"),
    }
}

/// The judgement of the URL by the settings in force and the resolver, if the last attempt failed under other settings.
/// `None` if the last attempt says enough.
fn judged_today(
    last: &Value,
    url: &str,
    addresses: &Result<BTreeSet<IpAddr>, String>,
    today: &Today,
) -> Option<(String, String)> {
    let was_blocked = last["outcome"] == "blocked_address";
    let target = match check_url(url, &today.policy) {
        Ok(target) => target,
        Err(_) if was_blocked => return None,
        Err(why) => {
            let words = format!("The settings of today refuse its URL: {why}. No attempt is sent");
            return Some((words, "mend the URL of the webhook, or delivery.allow of the settings".to_owned()));
        }
    };
    let found: Vec<IpAddr> = addresses.as_ref().ok().filter(|_| today.resolves_names)?.iter().copied().collect();
    match (check_addrs(&target.host, &found, target.port, &today.policy), was_blocked) {
        (Ok(()), true) => Some((
            format!("The last attempt was refused by its address. The settings of today allow {}", in_text(addresses)),
            "nothing is left to mend: the next attempt goes by the schedule".to_owned(),
        )),
        (Err(_), false) => Some((
            format!("The settings of today refuse its address: {}. No attempt is sent", in_text(addresses)),
            "if it is meant to be reached, add its host to delivery.allow of the settings and reload the daemon"
                .to_owned(),
        )),
        _ => None,
    }
}

/// The reason of the last failure, and its cure.
fn explained(attempt: &Value, url: &str, addresses: &str) -> (String, String) {
    let text = |name: &str| attempt[name].as_str().unwrap_or_default();
    let error = text("error");
    let status = attempt["status_code"].as_u64();
    let at = match text("remote_addr") {
        "" => String::new(),
        addr => format!(" at {addr}"),
    };
    let host = url::Url::parse(url).ok().and_then(|url| url.host_str().map(str::to_owned)).unwrap_or_default();
    let why = |words: &str| format!("The last attempt{at}: {words}");
    let (words, fix) = match text("outcome") {
        "tls_error" => explained_tls(error, &host),
        "blocked_address" => (
            match host.trim_matches(['[', ']']) == addresses {
                true => format!("{error}. {host} is private or denied"),
                false => format!("{error}. {host} is {addresses}, which is private or denied"),
            },
            format!("if it is meant to be reached, add {host} to delivery.allow of the settings and reload the daemon"),
        ),
        "connect_refused" => (
            format!("{error}. Nothing listens there"),
            "start the receiver, or mend the port of the URL; the waiting deliveries are sent as soon as it answers"
                .to_owned(),
        ),
        "connect_timeout" => (
            format!("{error}. No answer to the connection"),
            "look at firewalls between here and there, and whether the receiver runs".to_owned(),
        ),
        "dns_error" => (
            format!("{error}. This machine finds {addresses} for {host}"),
            "mend the host name of the URL, or the name server (/etc/resolv.conf)".to_owned(),
        ),
        "timeout" => (
            format!("{error}. It was connected, and the answer took too long"),
            "have the receiver answer first and work afterwards, or raise timeout_ms of the webhook".to_owned(),
        ),
        "connect_reset" => (
            format!("{error}. The receiver closed the connection"),
            "look at the receiver's log, and whether the URL's scheme is right".to_owned(),
        ),
        "http_status" => explained_status(status, error),
        "request_error" => (
            format!("{error}. The request could not be made, or the answer was no HTTP"),
            "look at the URL's scheme and port, and at the webhook's headers and tls".to_owned(),
        ),
        "proxy_error" => (
            format!("{error}. The proxy of the settings failed, not the receiver"),
            "look at the proxy (delivery.proxy): what it allows, its log, and the user and the password; what waits is \
             sent by the schedule"
                .to_owned(),
        ),
        "expired" => (error.to_owned(), "mend the receiver, then replay the failed deliveries".to_owned()),
        "" => ("there is none that can still be read".to_owned(), "postrider webhook test tries it".to_owned()),
        other => (format!("{other} {error}"), "look at the attempt: postrider webhook attempts".to_owned()),
    };
    (why(&words), fix)
}

/// A TLS error and its cure, by the stable code in brackets at the error's end (`engine::sender`).
fn explained_tls(error: &str, host: &str) -> (String, String) {
    const KNOWN: [(&str, &str); 6] = [
        ("certificate_expired", "have the receiver renew its certificate"),
        (
            "certificate_not_valid_yet",
            "look at the clocks here and at the receiver; else have it renew its certificate",
        ),
        (
            "certificate_other_name",
            "mend the host of the URL, or have the receiver get a certificate with that name in it",
        ),
        (
            "certificate_not_for_servers",
            "have the receiver use one that an authority signed, or set tls.ca_pem of the webhook to the receiver's own",
        ),
        (
            "certificate_unknown_authority",
            "have the receiver send its whole chain; for an authority of your own set tls.ca_pem of the webhook",
        ),
        ("certificate_revoked", "have the receiver replace its certificate, which its authority revoked"),
    ];
    let code = error.rsplit_once('[').and_then(|(_, code)| code.strip_suffix(']'));
    match KNOWN.iter().find(|(known, _)| code == Some(known)) {
        Some((_, fix)) => (format!("{error}, at {host}"), (*fix).to_owned()),
        None => (
            format!("{error}. TLS cannot be spoken with {host}"),
            "look whether TLS is spoken at that port, and at the receiver's versions and certificate; for an authority of \
             your own set tls.ca_pem of the webhook"
                .to_owned(),
        ),
    }
}

fn explained_status(status: Option<u64>, error: &str) -> (String, String) {
    let status = status.unwrap_or(0);
    let fix = match status {
        401 | 403 => "look at the webhook's auth and secret: the receiver refuses them",
        404 | 405 => "mend the URL or the method of the webhook",
        410 => "the receiver says that it is gone for good: remove the webhook, or mend its URL",
        429 => "the receiver wants less: set rate_limit_per_s or lower max_in_flight",
        300..=399 => "redirects are not followed: give the URL that it leads to",
        _ => "look at the receiver's log; the attempt has its answer's body: postrider attempt get",
    };
    (format!("it answered {status} {error}"), fix.to_owned())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::model::AttemptOutcome;

    #[test]
    fn who_is_unwell() {
        let webhook = |status: &str, reason: Value, circuit: &str, failures: u64| json!({ "status": status, "disabled_reason": reason, "circuit": circuit, "consecutive_failures": failures });
        assert!(!is_unwell(&webhook("enabled", Value::Null, "closed", 0)));
        assert!(is_unwell(&webhook("enabled", Value::Null, "closed", 1)));
        assert!(is_unwell(&webhook("enabled", Value::Null, "open", 0)));
        let mut held = webhook("enabled", Value::Null, "closed", 0);
        held["waiting_for"] = json!({ "reason": "receiver", "until": "2026-03-05T10:00:00.000Z" });
        assert!(is_unwell(&held));
        assert!(is_unwell(&webhook("paused", Value::Null, "closed", 0)));
        assert!(is_unwell(&webhook("disabled", json!("gone"), "closed", 0)));
        assert!(!is_unwell(&webhook("disabled", json!("manual"), "closed", 9)), "somebody wanted that");
    }

    #[test]
    fn every_outcome_has_a_fix_of_its_own() {
        let failed = AttemptOutcome::ALL.iter().filter(|outcome| **outcome != AttemptOutcome::Success);
        let fixes: BTreeSet<String> = failed
            .clone()
            .map(|outcome| {
                let attempt = json!({ "outcome": outcome.as_str(), "error": outcome.phrase(), "status_code": 500 });
                explained(&attempt, "https://hooks.example.com/x", "192.0.2.1").1
            })
            .collect();
        assert_eq!(fixes.len(), failed.count());
        let blocked = json!({ "outcome": "blocked_address", "error": "Address not allowed" });
        let (why, fix) = explained(&blocked, "http://erp/x", "10.0.0.7");
        assert!(why.contains("erp is 10.0.0.7") && fix.contains("add erp to delivery.allow"), "{why} {fix}");
    }

    #[test]
    fn what_is_wrong_with_a_certificate_is_told_in_plain_words() {
        let codes = ["expired", "not_valid_yet", "other_name", "not_for_servers", "unknown_authority", "revoked"];
        let said: BTreeSet<_> = codes
            .iter()
            .map(|code| {
                let attempt = json!({ "outcome": "tls_error", "error": format!("it is bad [certificate_{code}]") });
                let (why, fix) = explained(&attempt, "https://hooks.example.com/x", "192.0.2.1");
                assert!(why.ends_with("at hooks.example.com"), "{why}");
                fix
            })
            .collect();
        assert_eq!(said.len(), codes.len());
        let own = json!({ "outcome": "blocked_address", "error": "Address not allowed" });
        let (why, _) = explained(&own, "http://10.0.0.7/x", "10.0.0.7");
        assert!(why.ends_with("10.0.0.7 is private or denied"), "{why}");
    }

    #[test]
    fn a_url_is_judged_by_the_settings_of_today() {
        let policy = |allow: &[&str]| {
            let allow: Vec<String> = allow.iter().map(|entry| (*entry).to_owned()).collect();
            Today { policy: TargetPolicy::parse(&allow, &[], false).expect("a policy"), resolves_names: true }
        };
        let last = |outcome: &str| json!({ "outcome": outcome });
        let at = |address: &str| Ok(BTreeSet::from([address.parse().expect("an address")]));
        let judged = |outcome: &str, url: &str, address: &str, allow: &[&str]| {
            judged_today(&last(outcome), url, &at(address), &policy(allow)).map(|(words, _)| words)
        };
        let erp = "http://erp.example.com/x";
        assert_eq!(judged("timeout", "https://hooks.example.com/", "93.184.216.34", &[]), None);
        assert_eq!(judged("blocked_address", erp, "10.0.0.7", &[]), None, "the attempt says it");
        assert_eq!(judged("blocked_address", "http://10.0.0.7/x", "10.0.0.7", &[]), None);
        let now = judged("blocked_address", erp, "10.0.0.7", &["erp.example.com"]).expect("words");
        assert!(now.ends_with("allow 10.0.0.7"), "{now}");
        let moved = judged("http_status", erp, "10.0.0.7", &[]).expect("words");
        assert!(moved.starts_with("The settings of today refuse its address: 10.0.0.7"), "{moved}");
        let denied = judged("http_status", "http://10.0.0.7/x", "10.0.0.7", &[]).expect("words");
        assert!(denied.starts_with("The settings of today refuse its URL"), "{denied}");
        let proxied = Today { resolves_names: false, ..policy(&[]) };
        assert_eq!(judged_today(&last("http_status"), erp, &at("10.0.0.7"), &proxied), None);
        let unknown = Err("no such name".to_owned());
        assert_eq!(judged_today(&last("dns_error"), erp, &unknown, &policy(&[])), None);
    }

    #[test]
    fn statuses_that_say_what_to_do_are_told_so() {
        let fixes: BTreeSet<String> =
            [401, 404, 410, 429, 302, 500].iter().map(|s| explained_status(Some(*s), "").1).collect();
        assert_eq!(fixes.len(), 6);
    }
}
