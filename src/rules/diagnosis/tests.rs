//! Tests of the words for a failure.

use std::collections::BTreeSet;

use super::*;
use crate::model::{Id, Time};

const OPERATOR: DiagnosisReader = DiagnosisReader::Operator;

fn failure(outcome: AttemptOutcome, error: &str) -> Failure {
    let url = Some("https://hooks.example.com/x".to_owned());
    Failure { outcome, status_code: Some(500), error: error.to_owned(), url, addresses: None }
}

#[test]
fn every_outcome_has_a_fix_of_its_own() {
    let failed = AttemptOutcome::ALL.iter().filter(|outcome| **outcome != AttemptOutcome::Success);
    let fixes: BTreeSet<String> =
        failed.clone().map(|outcome| of_failure(&failure(*outcome, outcome.phrase())).fix).collect();
    assert_eq!(fixes.len(), failed.count());
}

#[test]
fn a_tenant_reads_nothing_of_the_operator() {
    let of_operator = [
        "delivery.",
        "postrider",
        "/etc",
        "setting",
        "daemon",
        "prox",
        "ca_pem",
        "timeout_ms",
        "rate_limit",
        "10.0.0.7",
    ];
    for outcome in AttemptOutcome::ALL {
        for status in [200, 302, 401, 404, 410, 413, 414, 429, 431, 500] {
            for code in ["certificate_unknown_authority", "client_certificate", HANDSHAKE_REFUSED, TARGET_TOO_LONG, ""]
            {
                let error = &format!("it is bad [{code}]");
                let addresses = Some("10.0.0.7".to_owned());
                let failure = Failure { status_code: Some(status), addresses, ..failure(outcome, error) };
                let Diagnosis { words, fix } = for_tenant(&failure);
                let said = format!("{words}. {fix}").to_lowercase();
                assert!(!fix.is_empty() && !of_operator.iter().any(|word| said.contains(word)), "{said}");
            }
        }
    }
    let hidden = failure(AttemptOutcome::ProxyError, "10.0.0.7:3128 refused");
    assert!(!format!("{:?}", for_tenant(&hidden)).contains("3128"));
}

#[test]
fn a_success_that_the_rule_does_not_count_names_the_rule() {
    let failure = Failure { status_code: Some(204), ..failure(AttemptOutcome::HttpStatus, "No Content") };
    assert!(of_failure(&failure).fix.contains("success_rule"));
    assert!(for_tenant(&failure).fix.contains("success rule"));
}

#[test]
fn a_refused_address_is_named_where_it_is_known() {
    let at = |url: &str, addresses: Option<&str>| {
        let url = Some(url.to_owned());
        let addresses = addresses.map(str::to_owned);
        of_failure(&Failure { url, addresses, ..failure(AttemptOutcome::BlockedAddress, "Address not allowed") })
    };
    let named = at("http://erp/x", Some("10.0.0.7"));
    assert_eq!(named.words, "Address not allowed. erp is 10.0.0.7, which is private or denied");
    assert!(named.fix.contains("add erp to delivery.allow"), "{}", named.fix);
    assert_eq!(at("http://10.0.0.7/x", Some("10.0.0.7")).words, "Address not allowed. 10.0.0.7 is private or denied");
    assert_eq!(at("http://erp/x", None).words, "Address not allowed. erp is private or denied");
}

#[test]
fn a_certificate_is_explained_in_plain_words() {
    let codes = ["expired", "not_valid_yet", "other_name", "not_for_servers", "unknown_authority", "revoked"];
    let said: BTreeSet<_> = codes
        .iter()
        .map(|code| {
            let explained = of_failure(&failure(AttemptOutcome::TlsError, &format!("it is bad [certificate_{code}]")));
            assert!(explained.words.ends_with("at hooks.example.com"), "{}", explained.words);
            explained.fix
        })
        .collect();
    assert_eq!(said.len(), codes.len());
}

#[test]
fn a_receiver_that_wants_a_client_certificate_is_answered_with_the_fields_for_it() {
    use rustls::{AlertDescription as Alert, Error};
    for alert in [Alert::CertificateRequired, Alert::BadCertificate, Alert::UnknownCA] {
        let error = format!("TLS error: {}", crate::rules::tls_words::words(&Error::AlertReceived(alert)));
        let failure = failure(AttemptOutcome::TlsError, &error);
        let fix = of_failure(&failure).fix;
        assert!(fix.contains("tls.client_cert_pem") && fix.contains("tls.client_key_pem"), "{alert:?}: {fix}");
        assert!(for_tenant(&failure).fix.contains("client certificate"), "{alert:?}");
    }
    let other = crate::rules::tls_words::words(&Error::AlertReceived(Alert::ProtocolVersion));
    assert!(!of_failure(&failure(AttemptOutcome::TlsError, &other)).fix.contains("client_cert_pem"), "{other}");
}

#[test]
fn a_request_that_is_never_made_has_a_cure_of_its_own() {
    for (code, of_operator, of_tenant) in [
        (HANDSHAKE_REFUSED, "set handshake of the webhook to false", "turn the handshake"),
        (TARGET_TOO_LONG, "set another method", "set another method"),
        (NUMBER_CHANGED, "as strings", "set another shape"),
    ] {
        let failure = failure(AttemptOutcome::RequestError, &format!("it is bad [{code}]"));
        let (operator, tenant) = (of_failure(&failure), for_tenant(&failure));
        assert!(operator.fix.contains(of_operator) && !operator.fix.contains("port"), "{operator:?}");
        assert!(tenant.fix.contains(of_tenant) && !tenant.fix.contains("port"), "{tenant:?}");
        assert!(!operator.words.contains("no HTTP") && !tenant.words.contains("no HTTP"), "{operator:?}, {tenant:?}");
    }
}

#[test]
fn a_status_with_a_cure_of_its_own_is_explained_by_it() {
    let explained = |status| Failure { status_code: Some(status), ..failure(AttemptOutcome::HttpStatus, "") };
    let fixes: BTreeSet<String> =
        [401, 404, 410, 413, 414, 429, 431, 302, 500].map(|status| of_failure(&explained(status)).fix).into();
    assert_eq!(fixes.len(), 9);
    assert_eq!(of_failure(&explained(503)).words, "it answered 503");
}

#[test]
fn success_has_no_reason_and_a_failure_has_one() {
    let mut made = AttemptMade { success: true, outcome: AttemptOutcome::Success, ..AttemptMade::default() };
    assert_eq!(Failure::of_attempt(&made), None);
    (made.success, made.outcome) = (false, AttemptOutcome::Timeout);
    assert_eq!(Failure::of_attempt(&made).map(|failure| failure.outcome), Some(AttemptOutcome::Timeout));
    let mut delivery = Delivery::default();
    assert_eq!(Failure::of_delivery(&delivery), None, "no attempt was made");
    delivery.last_outcome = Some(AttemptOutcome::Success);
    assert_eq!(Failure::of_delivery(&delivery), None);
    delivery.last_outcome = Some(AttemptOutcome::Expired);
    let explained = Failure::of_delivery(&delivery).map(|failure| of_failure(&failure).fix);
    assert_eq!(explained.as_deref(), Some("mend the receiver, then replay the failed deliveries"));
}

#[test]
fn a_webhook_says_why_it_waits_and_its_cure() {
    let hook = Webhook::new(Id::MIN, Id::MIN);
    let status = |status| Webhook { status, ..hook.clone() };
    let well = WebhookState::default();
    let failed = failure(AttemptOutcome::ConnectRefused, "Connection refused");
    assert_eq!(of_webhook(OPERATOR, &hook, &well, None), None);
    let paused = of_webhook(OPERATOR, &status(WebhookStatus::Paused), &well, Some(&failed)).unwrap();
    assert!(paused.words.starts_with("Paused") && paused.fix.starts_with("postrider webhook resume"), "{paused:?}");
    let disabled = of_webhook(OPERATOR, &status(WebhookStatus::Disabled), &well, None).unwrap();
    assert!(disabled.words.starts_with("Disabled") && disabled.fix.contains("webhook enable"), "{disabled:?}");
    let failing = of_webhook(OPERATOR, &hook, &well, Some(&failed)).unwrap();
    assert_eq!(failing.words, "The last attempt failed: Connection refused. Nothing listens there");
    assert_eq!(failing.fix, "start the receiver, or mend the port of the URL");
    let held = WebhookState { retry_after: Some(Time(9)), ..well };
    let held = of_webhook(OPERATOR, &hook, &held, Some(&failed)).unwrap();
    assert!(held.words.contains("Retry-After") && held.words.contains("Nothing listens"), "{held:?}");
    assert!(held.fix.contains("webhook resume"), "{held:?}");
    let names_it = |explained: &Diagnosis| explained.fix.contains(&format!("whk_{}", hook.id));
    assert!(names_it(&paused) && names_it(&disabled) && names_it(&held), "a command can be typed as it stands");
}

#[test]
fn a_tenant_reads_no_command_about_a_webhook() {
    let hook = Webhook::new(Id::MIN, Id::MIN);
    let held = WebhookState { retry_after: Some(Time(9)), ..WebhookState::default() };
    for status in [WebhookStatus::Enabled, WebhookStatus::Paused, WebhookStatus::Disabled] {
        for outcome in [AttemptOutcome::ProxyError, AttemptOutcome::BlockedAddress, AttemptOutcome::HttpStatus] {
            let hook = Webhook { status, ..hook.clone() };
            let explained = of_webhook(DiagnosisReader::Tenant, &hook, &held, Some(&failure(outcome, ""))).unwrap();
            let said = format!("{}. {}", explained.words, explained.fix);
            assert!(
                !["postrider ", "delivery.a", "delivery.p", "prox"].iter().any(|word| said.contains(word)),
                "{said}"
            );
        }
    }
}

#[test]
fn a_cure_names_the_attempt_if_it_is_known() {
    let explained = of_failure(&failure(AttemptOutcome::HttpStatus, ""));
    assert!(explained.fix.ends_with(": postrider attempt list --failed --from 24h"), "{}", explained.fix);
    let seen = explained.clone().beside_answer();
    assert!(seen.fix.ends_with("at the body of its answer"), "{}", seen.fix);
    let named = explained.of_attempt(Id::from_u128(7));
    assert!(named.fix.ends_with(": postrider attempt get att_00000000-0000-0000-0000-000000000007"), "{}", named.fix);
}

#[test]
fn a_failure_of_the_network_or_the_name_server_blames_no_receiver() {
    for (outcome, error, of_operator, of_tenant) in [
        (AttemptOutcome::ConnectRefused, attempt_words::NO_ROUTE, "ip route", "no route"),
        (AttemptOutcome::ConnectRefused, attempt_words::HOST_UNREACHABLE, "routes between", "cannot be reached"),
        (AttemptOutcome::ConnectTimeout, attempt_words::TLS_TIMEOUT, "TLS is spoken", "TLS handshake"),
        (AttemptOutcome::DnsError, attempt_words::DNS_TIMEOUT, "/etc/resolv.conf", "in time"),
    ] {
        let failure = failure(outcome, error);
        let said = |Diagnosis { words, fix }| format!("{words}. {fix}");
        let (operator, tenant) = (said(of_failure(&failure)), said(for_tenant(&failure)));
        assert!(operator.contains(of_operator) && !operator.contains("Nothing listens"), "{operator}");
        assert!(tenant.contains(of_tenant) && !tenant.contains("Nothing listens"), "{tenant}");
        let plain = of_failure(&Failure { error: outcome.phrase().to_owned(), ..failure.clone() });
        assert_ne!(of_failure(&failure).fix, plain.fix);
    }
}
