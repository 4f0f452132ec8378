//! The pure rules: the cost of an event without input and output.

use std::sync::Arc;

use postrider::model::id::{AppId, AttemptId, EventId, OrganizationId, WebhookId};
use postrider::model::webhook::{ContentType, FieldSet, SignatureScheme, SigningSecret, Webhook, WebhookMethod};
use postrider::model::{Event, Time};
use postrider::rules::body::{BodyInput, BodyShape, render};
use postrider::rules::fanout::Fanout;
use postrider::rules::signing::{SignedIds, Signer};

use crate::rounds::Rounds;

const NOW: Time = Time(1_772_704_800_000);
const SECRET: &str = "whsec_cG9zdHJpZGVyIGJlbmNobWFyayBzZWNyZXQu";
const WEBHOOKS: usize = 1_000;

pub fn run(rounds: &mut Rounds) {
    bodies(rounds);
    signatures(rounds);
    fanouts(rounds);
}

fn bodies(rounds: &mut Rounds) {
    let event = event();
    for (field_set, said) in [(FieldSet::Standard, "standard"), (FieldSet::Raw, "raw"), (FieldSet::Legacy, "legacy")] {
        for kib in [1, 64] {
            let data = data(kib * 1024);
            let shape = BodyShape {
                method: WebhookMethod::Post,
                content_type: ContentType::Json,
                field_set,
                include_html: false,
            };
            let attempt_id = AttemptId::from_u128(7);
            let timestamp_s = NOW.seconds();
            let facts = BodyInput { event: &event, data: &data, attempt_id, number: 1, retry_of: None, timestamp_s };
            rounds.pure(&format!("body: {said}, {kib} KiB"), || render(shape, &facts));
        }
    }
}

fn signatures(rounds: &mut Rounds) {
    let ids = SignedIds { event_id: EventId::from_u128(7), webhook_id: WebhookId::from_u128(8) };
    for (schemes, said) in [(vec![SignatureScheme::Standard], "standard"), (vec![SignatureScheme::Ed25519], "ed25519")]
    {
        let signer = Signer::new(&schemes, [SECRET]).expect("a secret");
        for kib in [1, 64] {
            let body = data(kib * 1024);
            rounds.pure(&format!("sign: {said}, {kib} KiB"), || signer.headers(ids, NOW.seconds(), &body));
        }
    }
    rounds.pure("sign: making a signer ready, standard", || Signer::new(&[SignatureScheme::Standard], [SECRET]));
}

fn fanouts(rounds: &mut Rounds) {
    let data = data(1024);
    let sets: [(&str, Types); 4] = [
        ("one of 1,000 by exact type", |number| vec![format!("order.t{number}")]),
        ("none of 1,000 patterns", |number| vec![format!("invoice.t{number}.*")]),
        ("all of 1,000 by pattern", |_| vec!["order.*".into()]),
        ("all of 1,000 without a filter", |_| vec![]),
    ];
    for (said, types) in sets {
        let hooks: Vec<Arc<Webhook>> =
            (0..WEBHOOKS).map(|number| Arc::new(webhook(number as u128, types(number)))).collect();
        let fanout = Fanout::of(hooks.iter());
        rounds.pure(&format!("fanout: {said}"), || fanout.wanted("order.t500", &[], &data).count());
    }
    let filtered: Vec<Arc<Webhook>> = (0..WEBHOOKS)
        .map(|number| {
            let filter = serde_json::json!({ "all": [{ "path": "/amount", "gte": number }, { "path": "/pad", "exists": true }] });
            Arc::new(Webhook { filter: Some(filter.to_string()), ..webhook(number as u128, vec![]) })
        })
        .collect();
    let fanout = Fanout::of(filtered.iter());
    rounds.pure("fanout: half of 1,000 by a filter on data", || fanout.wanted("order.t500", &[], &data).count());
    rounds.pure("fanout: making 1,000 webhooks ready", || Fanout::of(filtered.iter()));
}

/// The event types of the webhook with a number.
type Types = fn(usize) -> Vec<String>;

/// An object of about `bytes` bytes.
fn data(bytes: usize) -> Vec<u8> {
    let pad: String = ('a'..='z').cycle().take(bytes.saturating_sub(40)).collect();
    format!("{{\"id\":42,\"amount\":500,\"pad\":\"{pad}\"}}").into_bytes()
}

fn event() -> Event {
    let mut event = Event { id: EventId::from_u128(7), occurred_at: NOW, received_at: NOW, ..Event::default() };
    event.attributes.event_type = "order.paid".into();
    event
}

/// A webhook with default settings.
pub fn webhook(number: u128, event_types: Vec<String>) -> Webhook {
    Webhook {
        id: WebhookId::from_u128(number + 1),
        name: "hook".into(),
        url: "https://hooks.example.com/in".into(),
        event_types,
        retry_schedule_s: vec![5, 300, 1800, 7200, 18_000, 36_000, 50_400, 72_000, 86_400],
        secrets: vec![SigningSecret { text: SECRET.into(), created_at: NOW, expires_at: None }],
        created_at: NOW,
        updated_at: NOW,
        ..Webhook::new(OrganizationId::MIN, AppId::MIN)
    }
}
