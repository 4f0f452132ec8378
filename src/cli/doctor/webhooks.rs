//! Checks of the webhooks: those whose deliveries fail or wait, each with its cause and its cure.

use std::collections::BTreeSet;
use std::net::IpAddr;

use serde_json::Value;
use tokio::net::lookup_host;

use super::Site;
use super::finding::Finding;
use crate::cli::client::{Call, Client};
use crate::cli::list;
use crate::cli::noun::{Noun, shown};
use crate::model::AttemptOutcome;
use crate::rules::diagnosis::{self, Diagnosis, Failure};
use crate::rules::target::{TargetPolicy, check_addrs, check_url};

/// Maximum pages of webhooks that are checked.
const PAGES_MAX: usize = 40;
const PAGE_ROWS: u16 = 250;
/// Maximum webhooks that are reported one by one.
const REPORTED_MAX: usize = 50;
/// Consecutive failed attempts up to which the doctor does not warn.
const ACCIDENTS_MAX: u64 = 1;

pub(super) async fn check(client: &Client, site: &Site, findings: &mut Vec<Finding>) {
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
    for webhook in unwell.iter().take(REPORTED_MAX) {
        findings.push(one(client, &today, webhook).await);
    }
    if unwell.len() > REPORTED_MAX {
        let more = format!("{} more webhooks fail or are held", unwell.len() - REPORTED_MAX);
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
    match webhook["status"].as_str() {
        Some("paused") => true,
        Some("disabled") => matches!(webhook["disabled_reason"].as_str(), Some("failures" | "gone")),
        _ => {
            let fails = webhook["circuit"] != "closed" || webhook["consecutive_failures"].as_u64() > Some(0);
            fails || is_held(webhook)
        }
    }
}

/// Whether something holds every delivery. The head of an ordered queue that waits for its time holds nothing.
fn is_held(webhook: &Value) -> bool {
    webhook["waiting_for"]["reason"].as_str().is_some_and(|reason| reason != "order")
}

async fn one(client: &Client, today: &Today, webhook: &Value) -> Finding {
    let text = |name: &str| webhook[name].as_str().unwrap_or_default();
    let id = text("id");
    let shown_id = shown(Noun::Webhook.prefix(), id.to_owned());
    let who = format!("{} ({shown_id}, {})", text("name"), text("url"));
    let health = client.value(Call::get(&["webhooks", id, "health"])).await.unwrap_or_default();
    let (state, waiting) = in_words(&health);
    if webhook["status"] == "paused" {
        let detail = format!("{who} is {state}. {waiting}");
        return Finding::warn("webhook", detail, format!("postrider webhook resume {shown_id}"));
    }
    let last = Call::get(&["webhooks", id, "attempts"]).query("limit", Some(1));
    let last = client.value(last).await.map(|page| page["data"][0].clone()).unwrap_or_default();
    let failures = webhook["consecutive_failures"].as_u64().unwrap_or(0);
    let addresses = resolved(text("url")).await;
    let (why, mut fix) = match checked_today(&last, text("url"), &addresses, today) {
        Some(finding) => finding,
        None => explained(&shown_id, &last, text("url"), &in_text(&addresses)),
    };
    let state = match webhook["status"].as_str() {
        Some("disabled") => {
            fix = format!(
                "{fix}. Then: postrider webhook enable {shown_id}, and postrider replay --webhook {shown_id} --missing"
            );
            format!("is {state}")
        }
        _ if is_held(webhook) => {
            fix = format!(
                "{fix}. postrider webhook test {shown_id} tries it; \
                 then postrider webhook resume {shown_id} sends at once"
            );
            format!("is {state}")
        }
        _ if failures <= ACCIDENTS_MAX => {
            let detail = format!("{who}: the latest attempt failed, {}. {why}", retry_words(&last));
            return Finding::warn("webhook", detail, fix);
        }
        _ => format!("fails: {failures} attempts in a row"),
    };
    Finding::fail("webhook", format!("{who} {state}. {waiting}{why}"), fix)
}

/// Whether another attempt follows a failed one, in words.
fn retry_words(attempt: &Value) -> &'static str {
    match attempt["next_attempt_at"].is_string() {
        true => "and will be made again",
        false => "and no retry of it is planned",
    }
}

/// The state of a webhook in a sentence, and the number of its waiting deliveries. Empty
/// for members that an older daemon lacks.
fn in_words(health: &Value) -> (String, String) {
    let state = health["reasons"]["state"].as_str().unwrap_or_default().to_owned();
    let waiting = match (health["state"]["waiting"].as_u64(), health["state"]["oldest_waiting"].as_str()) {
        (Some(count), Some(since)) => format!("Deliveries that wait: {count}, the next one to go since {since}. "),
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

/// The check of the URL by the settings in force and the resolver, if the last attempt failed under other settings.
/// `None` if the last attempt says enough.
fn checked_today(
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
fn explained(webhook: &str, attempt: &Value, url: &str, addresses: &str) -> (String, String) {
    let text = |name: &str| attempt[name].as_str().unwrap_or_default();
    let at = match text("remote_addr") {
        "" => String::new(),
        addr => format!(" at {addr}"),
    };
    let why = |words: &str| format!("The last attempt{at}: {words}");
    let failure = Failure {
        outcome: match AttemptOutcome::ALL.into_iter().find(|outcome| outcome.as_str() == text("outcome")) {
            Some(outcome) => outcome,
            None if text("outcome").is_empty() => {
                return (
                    why("there is none that can still be read"),
                    format!("postrider webhook test {webhook} tries it"),
                );
            }
            None => {
                let words = format!("{} {}", text("outcome"), text("error"));
                return (why(&words), format!("look at the attempt: postrider webhook attempts {webhook}"));
            }
        },
        status_code: attempt["status_code"].as_u64().and_then(|status| u16::try_from(status).ok()),
        error: text("error").to_owned(),
        url: Some(url.to_owned()),
        addresses: Some(addresses.to_owned()),
    };
    let diagnosis = diagnosis::of_failure(&failure);
    let Diagnosis { words, fix } = match text("id").parse() {
        Ok(id) => diagnosis.of_attempt(id),
        Err(_) => diagnosis,
    };
    (why(&words), fix)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

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
        assert!(!is_unwell(&webhook("disabled", Value::Null, "closed", 0)), "an earlier version stored no reason");
    }

    #[test]
    fn a_failed_attempt_without_a_next_one_is_not_made_again() {
        assert_eq!(retry_words(&json!({ "next_attempt_at": "2026-03-05T10:00:00.000Z" })), "and will be made again");
        assert_eq!(retry_words(&json!({ "next_attempt_at": null })), "and no retry of it is planned");
        assert_eq!(retry_words(&Value::Null), "and no retry of it is planned");
    }

    #[test]
    fn a_last_attempt_is_explained_by_the_shared_rule() {
        let attempt = json!({ "outcome": "blocked_address", "error": "Address not allowed", "remote_addr": null });
        let (why, fix) = explained("whk_1", &attempt, "http://erp/x", "10.0.0.7");
        assert_eq!(why, "The last attempt: Address not allowed. erp is 10.0.0.7, which is private or denied");
        assert!(fix.contains("add erp to delivery.allow"), "{fix}");
        assert!(explained("whk_1", &Value::Null, "http://erp/x", "").0.ends_with("can still be read"));
        let newer = json!({ "outcome": "quantum_error", "error": "odd" });
        assert!(explained("whk_1", &newer, "http://erp/x", "").0.ends_with("quantum_error odd"));
        // Every command can be typed as it stands.
        let id = "019cbd70-9d78-7320-aa3a-de3497964cb8";
        let answered = json!({ "id": id, "outcome": "http_status", "status_code": 500, "error": "" });
        let fixes = [&answered, &Value::Null, &newer].map(|attempt| explained("whk_1", attempt, "http://erp/x", "").1);
        assert!(fixes[0].ends_with(&format!("postrider attempt get att_{id}")), "{fixes:?}");
        assert!(fixes[1].contains("test whk_1") && fixes[2].ends_with("attempts whk_1"), "{fixes:?}");
    }

    #[test]
    fn a_url_is_checked_by_the_settings_of_today() {
        let policy = |allow: &[&str]| {
            let allow: Vec<String> = allow.iter().map(|entry| (*entry).to_owned()).collect();
            Today { policy: TargetPolicy::parse(&allow, &[], false).expect("a policy"), resolves_names: true }
        };
        let last = |outcome: &str| json!({ "outcome": outcome });
        let at = |address: &str| Ok(BTreeSet::from([address.parse().expect("an address")]));
        let finding = |outcome: &str, url: &str, address: &str, allow: &[&str]| {
            checked_today(&last(outcome), url, &at(address), &policy(allow)).map(|(words, _)| words)
        };
        let erp = "http://erp.example.com/x";
        assert_eq!(finding("timeout", "https://hooks.example.com/", "93.184.216.34", &[]), None);
        assert_eq!(finding("blocked_address", erp, "10.0.0.7", &[]), None, "the attempt says it");
        assert_eq!(finding("blocked_address", "http://10.0.0.7/x", "10.0.0.7", &[]), None);
        let now = finding("blocked_address", erp, "10.0.0.7", &["erp.example.com"]).expect("words");
        assert!(now.ends_with("allow 10.0.0.7"), "{now}");
        let moved = finding("http_status", erp, "10.0.0.7", &[]).expect("words");
        assert!(moved.starts_with("The settings of today refuse its address: 10.0.0.7"), "{moved}");
        let denied = finding("http_status", "http://10.0.0.7/x", "10.0.0.7", &[]).expect("words");
        assert!(denied.starts_with("The settings of today refuse its URL"), "{denied}");
        let proxied = Today { resolves_names: false, ..policy(&[]) };
        assert_eq!(checked_today(&last("http_status"), erp, &at("10.0.0.7"), &proxied), None);
        let unknown = Err("no such name".to_owned());
        assert_eq!(checked_today(&last("dns_error"), erp, &unknown, &policy(&[])), None);
    }
}
