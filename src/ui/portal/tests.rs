//! Snapshots of the portal, and the facts that it hides.

use super::{event_types, help, home};
use crate::model::portal::PortalLink;
use crate::model::time::MINUTE_MS;
use crate::model::webhook::{FieldSet, SignatureScheme, WebhookStatus};
use crate::model::{AttemptOutcome, DeliveryStatus, Scope, Webhook};
use crate::store::{EventTypeCount, EventTypePage};
use crate::ui::frame::{Frame, PortalFrame, Section};
use crate::ui::pages::tests::{NOW, delivery_row, frame, hook, key, made, rows, same};
use crate::ui::pages::{apps, test_result};

/// A frame of the portal, as a link with these scopes has it.
fn tenant(section: Section, scopes: &[Scope]) -> Frame {
    let mut frame = Frame::fixed(section, key(scopes), NOW);
    frame.portal = Some(PortalFrame {
        operator: "Halden <Freight>".to_owned(),
        has_logo: true,
        app: "Acme GmbH".to_owned(),
        expires_at: NOW.plus_ms(60 * MINUTE_MS),
        return_url: Some("https://halden.example/settings?a=1&b=2".to_owned()),
        preset: None,
    });
    frame
}

#[test]
fn the_portal_in_its_states() {
    let writer = tenant(Section::Webhooks, &PortalLink::SCOPES);
    let view = |webhooks, deliveries| home::PortalHomeView { webhooks, deliveries, tab: "failed" };
    let failed = || vec![delivery_row(1, DeliveryStatus::Failed)];
    same("portal", &writer, &home::page(&view(rows(), failed()), &writer));
    same("portal-empty", &writer, &home::page(&view(Vec::new(), Vec::new()), &writer));
    let reader = tenant(Section::Webhooks, &[Scope::EventsRead, Scope::WebhooksRead]);
    same("portal-reader", &reader, &home::page(&view(rows(), failed()), &reader));
    let mut types = tenant(Section::EventTypes, &[Scope::EventsRead]);
    types.theme = Some("dark");
    let rows = vec![EventTypeCount { event_type: "order.shipped".to_owned(), last_24h: 1_204, last_seen: NOW }];
    let page = EventTypePage { rows, next: Some("order.shipped".to_owned()), indexed_from: None };
    same("portal-event-types", &types, &event_types::page(&page, &types));
    let help = tenant(Section::Help, &[Scope::WebhooksRead]);
    let webhook = hook(11, "erp-invoices", WebhookStatus::Enabled);
    same("portal-help", &help, &help::page(&help::RequestForm::of(std::iter::once(&*webhook), false)));
    let mut renamed = Webhook::clone(&webhook);
    (renamed.signature, renamed.field_set) = (vec![SignatureScheme::Svix], FieldSet::Raw);
    renamed.name = "erp <orders>".to_owned();
    let page = help::page(&help::RequestForm::of(std::iter::once(&renamed), false));
    let shown = page.clone().into_string();
    assert!(shown.contains("from svix.webhooks import") && !shown.contains("standardwebhooks"), "{shown}");
    assert!(!shown.contains("hand them the three values"), "{shown}");
    same("portal-help-of-a-vendor", &help, &page);
    let page = help::page(&help::RequestForm::of(std::iter::once(&renamed), true)).into_string();
    assert!(page.contains("standardwebhooks"), "the setting gives standard headers: {page}");
    let both = [&*webhook, &renamed];
    same("portal-help-two-forms", &help, &help::page(&help::RequestForm::of(both.into_iter(), false)));
    assert_eq!(
        help::RequestForm::of(both.into_iter(), true)[1].headers,
        ["webhook-id", "webhook-timestamp", "webhook-signature"]
    );
    let frame = frame(Section::Apps);
    let link = apps::PortalLinkText {
        id: "0195a000-0000-7000-8000-000000000000".to_owned(),
        url: "https://ops.example/ui/portal/enter?t=x".to_owned(),
        expires_at: "2026-11-29T00:00:00.000Z".to_owned(),
    };
    same("app-portal-link", &frame, &apps::portal_link_page("Acme <GmbH>", &link, &frame));
}

#[test]
fn a_tenant_learns_no_addresses() {
    let tenant = tenant(Section::Webhooks, &PortalLink::SCOPES);
    let webhook = hook(11, "erp-invoices", WebhookStatus::Enabled);
    let arrived = made(Some(200), AttemptOutcome::Success, "");
    let shown = |frame: &Frame| test_result::page(&webhook, &arrived, 3, frame).into_string();
    assert!(!shown(&tenant).contains("203.0.113.40"));
    assert!(shown(&frame(Section::Webhooks)).contains("203.0.113.40"));
}

#[test]
fn a_tenant_reads_no_cure_of_the_operator() {
    let tenant = tenant(Section::Webhooks, &PortalLink::SCOPES);
    let webhook = hook(11, "erp-invoices", WebhookStatus::Enabled);
    for (outcome, error) in [
        (AttemptOutcome::BlockedAddress, "10.0.0.7 is private"),
        (AttemptOutcome::ProxyError, "10.0.0.7:3128 refused"),
        (AttemptOutcome::DnsError, "10.0.0.53 answered SERVFAIL"),
    ] {
        let failed = made(None, outcome, error);
        let shown = |frame: &Frame| test_result::page(&webhook, &failed, 3, frame).into_string();
        let of_tenant = shown(&tenant);
        for hidden in ["10.0.0.", "delivery.", "/etc/", "proxy"] {
            assert!(!of_tenant.contains(hidden), "{outcome:?} shows {hidden}: {of_tenant}");
        }
        assert!(shown(&frame(Section::Webhooks)).contains("10.0.0."));
    }
}
