//! States as pages show them: icon, colour class and word of webhooks, deliveries and attempts.

use maud::Markup;

use crate::api::native::webhook_live::QueueHead;
use crate::api::{ApiContext, RequestContext};
use crate::model::webhook::{DisabledReason, Webhook, WebhookState, WebhookStatus};
use crate::model::{Attempt, AttemptMade, AttemptOutcome, DeliveryStatus, Time};
use crate::rules::circuit;
use crate::rules::diagnosis::{self, Diagnosis, Failure};
use crate::rules::hold::{self, HoldReason};
use crate::rules::ranking;

use super::{format, frame};

/// The reader of a page. A tenant learns nothing of the operator's machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PageReader {
    Operator,
    Tenant,
}

impl PageReader {
    pub fn of(request: &RequestContext<'_>) -> PageReader {
        if request.principal.portal_link.is_some() { PageReader::Tenant } else { PageReader::Operator }
    }
}

/// Failed attempts in a row from which a webhook whose queue waits counts as failing, and no more as blocked.
const FAILURES_IN_A_ROW_MIN: u32 = 2;

/// How a webhook does. The order is that of trouble: the worst is the greatest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum WebhookMood {
    Enabled,
    Disabled,
    /// Disabled because of its attempts.
    SwitchedOff,
    Paused,
    HeldBack,
    /// The first delivery of its queue failed, and the others wait behind it.
    Blocked,
    Failing,
}

impl WebhookMood {
    /// The mood of a webhook whose state is `shown`, as `circuit::shown` gives it, without a look at its queue.
    pub fn of(webhook: &Webhook, shown: &WebhookState) -> WebhookMood {
        let is_trouble = ranking::is_in_trouble(ranking::severity(webhook, shown));
        match webhook.status {
            WebhookStatus::Disabled if is_trouble => WebhookMood::SwitchedOff,
            WebhookStatus::Disabled => WebhookMood::Disabled,
            WebhookStatus::Paused => WebhookMood::Paused,
            WebhookStatus::Enabled => match hold::of(webhook, shown).map(|hold| hold.reason) {
                Some(HoldReason::Receiver) => WebhookMood::HeldBack,
                _ if is_trouble => WebhookMood::Failing,
                _ => WebhookMood::Enabled,
            },
        }
    }

    /// The mood of a webhook now.
    pub fn now(context: &ApiContext<'_>, webhook: &Webhook) -> WebhookMood {
        let shown = circuit::shown(context.store.state(webhook.id), context.now);
        let mood = WebhookMood::of(webhook, &shown);
        let is_first_failure = mood == WebhookMood::Failing
            && hold::of(webhook, &shown).is_none()
            && shown.consecutive_failures < FAILURES_IN_A_ROW_MIN;
        if is_first_failure && blocking(context, webhook).is_some() { WebhookMood::Blocked } else { mood }
    }

    pub fn is_failing(self) -> bool {
        matches!(self, WebhookMood::Failing | WebhookMood::SwitchedOff)
    }

    /// Whether the webhook is in trouble by `ranking::is_in_trouble`, as in the API.
    pub fn is_trouble(self) -> bool {
        !matches!(self, WebhookMood::Enabled | WebhookMood::Disabled | WebhookMood::Paused)
    }

    /// Whether a person should look at it: it is in trouble, or a pause lets its deliveries wait.
    pub fn needs_person(self) -> bool {
        self.is_trouble() || self == WebhookMood::Paused
    }

    const fn parts(self) -> (&'static str, &'static str, &'static str) {
        match self {
            WebhookMood::Enabled => ("ok", "ok", "Enabled"),
            WebhookMood::Disabled => ("off", "off", "Disabled"),
            WebhookMood::SwitchedOff => ("bad", "off", "Disabled"),
            WebhookMood::Paused => ("held", "held", "Paused"),
            WebhookMood::HeldBack => ("retry", "retry", "Held back"),
            WebhookMood::Blocked => ("retry", "held", "Blocked"),
            WebhookMood::Failing => ("bad", "bad", "Failing"),
        }
    }

    /// The state of a row, of which a narrow screen shows the icon only.
    pub fn folded(self) -> Markup {
        let (class, icon, word) = self.parts();
        frame::state(&format!("{class} fold"), icon, word)
    }

    pub fn tag(self) -> Markup {
        let (class, icon, word) = self.parts();
        frame::tag(class, icon, word)
    }
}

/// The first delivery of an ordered webhook's queue, if others stand behind it until its next attempt.
pub fn blocking(context: &ApiContext<'_>, webhook: &Webhook) -> Option<QueueHead> {
    QueueHead::of(context.store, webhook, context.now).filter(|head| head.until.is_some())
}

/// Why a webhook of this mood is in trouble, in a few words. Empty if it is not. `last` is its newest attempt.
pub fn reason(
    webhook: &Webhook,
    (mood, shown): (WebhookMood, &WebhookState),
    last: Option<&AttemptMade>,
    reader: PageReader,
) -> String {
    let last_words = last.filter(|made| !made.success).map(|made| answer(made, reader)).unwrap_or_default();
    match mood {
        WebhookMood::Enabled => String::new(),
        WebhookMood::Disabled => "switched off by hand: what is published makes no delivery".to_owned(),
        WebhookMood::SwitchedOff => match webhook.disabled_reason {
            Some(DisabledReason::Gone) => "the receiver answered 410: it wants no deliveries any more".to_owned(),
            _ if reader == PageReader::Tenant => "no attempt succeeded for too long".to_owned(),
            _ => "no attempt succeeded for as long as disable_after_s allows".to_owned(),
        },
        WebhookMood::Paused => "paused by hand: what is published waits".to_owned(),
        WebhookMood::HeldBack => format!("the receiver asked to be left alone: {last_words}"),
        WebhookMood::Blocked => format!("the others wait behind a delivery that failed: {last_words}"),
        WebhookMood::Failing if last_words.is_empty() => {
            format!("{} failed attempts in a row", format::count(u64::from(shown.consecutive_failures)))
        }
        WebhookMood::Failing => last_words,
    }
}

/// The answer of an attempt in a few words: `500 Internal Server Error`, `connection refused`.
pub fn answer(made: &AttemptMade, reader: PageReader) -> String {
    let error = made.error.as_deref().unwrap_or_default();
    answer_of(made.status_code, Some(made.outcome), error, reader)
}

/// Whether a failure lies in the operator's network, whose errors name its parts.
pub fn is_hidden(outcome: AttemptOutcome, reader: PageReader) -> bool {
    let of_operator =
        matches!(outcome, AttemptOutcome::BlockedAddress | AttemptOutcome::DnsError | AttemptOutcome::ProxyError);
    reader == PageReader::Tenant && of_operator
}

/// The same of a status code, an outcome and an error.
pub fn answer_of(status_code: Option<u16>, outcome: Option<AttemptOutcome>, error: &str, reader: PageReader) -> String {
    match (status_code, outcome) {
        (_, Some(AttemptOutcome::ProxyError)) if reader == PageReader::Tenant => "Not sent".to_owned(),
        (_, Some(outcome)) if is_hidden(outcome, reader) => outcome.phrase().to_owned(),
        (Some(code), _) => {
            let phrase = http::StatusCode::from_u16(code).ok().and_then(|status| status.canonical_reason());
            format!("{code} {}", phrase.unwrap_or_default()).trim_end().to_owned()
        }
        (None, Some(outcome)) if error.is_empty() => outcome.phrase().to_owned(),
        (None, _) => error.to_owned(),
    }
}

/// The cause of a failed attempt and its cure, as two sentences, on a page that shows the answer too.
pub fn meaning(made: &AttemptMade, reader: PageReader) -> String {
    meaning_by(made, reader, Diagnosis::beside_answer)
}

/// The same of a stored attempt, on a page that does not show its answer.
pub fn meaning_of(attempt: &Attempt, reader: PageReader) -> String {
    meaning_by(&attempt.made, reader, |explained| explained.of_attempt(attempt.id))
}

fn meaning_by(made: &AttemptMade, reader: PageReader, named: impl FnOnce(Diagnosis) -> Diagnosis) -> String {
    let Some(failure) = Failure::of_attempt(made) else {
        return "Delivered: the receiver has taken it.".to_owned();
    };
    let explained = match reader {
        PageReader::Operator => diagnosis::of_failure(&failure),
        PageReader::Tenant => diagnosis::for_tenant(&failure),
    };
    let Diagnosis { words, fix } = named(explained);
    format!("{}. {}.", sentence(&words), sentence(&fix))
}

/// A text with a capital letter at its start, and without a full stop.
pub fn sentence(text: &str) -> String {
    let mut letters = text.trim_end_matches('.').chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}

/// The status of a delivery, of which a narrow screen shows the icon only.
pub fn delivery(status: DeliveryStatus) -> Markup {
    let (class, icon, word) = delivery_parts(status);
    frame::state(&format!("{class} fold"), icon, word)
}

pub fn delivery_tag(status: DeliveryStatus) -> Markup {
    let (class, icon, word) = delivery_parts(status);
    frame::tag(class, icon, word)
}

const fn delivery_parts(status: DeliveryStatus) -> (&'static str, &'static str, &'static str) {
    match status {
        DeliveryStatus::Pending => ("wait", "wait", "Pending"),
        DeliveryStatus::Retrying => ("retry", "retry", "Retrying"),
        DeliveryStatus::Delivered => ("ok", "ok", "Delivered"),
        DeliveryStatus::Failed => ("bad", "bad", "Failed"),
        DeliveryStatus::Cancelled => ("off", "off", "Cancelled"),
    }
}

/// The colour class and the icon of an attempt. 429 is the receiver's wish and no fault.
pub fn attempt_parts(made: &AttemptMade) -> (&'static str, &'static str) {
    match (made.success, made.status_code) {
        (true, _) => ("ok", "ok"),
        (false, Some(429)) => ("retry", "bad"),
        (false, _) => ("bad", "bad"),
    }
}

/// The distance to a time in words: `in 29 m`, `now`.
pub fn until(at: Time, now: Time) -> String {
    match at.since(now) {
        ..1_000 => "now".to_owned(),
        left => format!("in {}", format::age(left)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Id;
    use crate::model::webhook::CircuitState;

    #[test]
    fn trouble_is_the_same_as_in_the_api() {
        let fine = WebhookState::default();
        let failing = WebhookState { failing_since: Some(Time(5)), consecutive_failures: 1, ..fine };
        let open = WebhookState { circuit: CircuitState::Open, hold_until: Some(Time(9)), ..failing };
        let asked = WebhookState { retry_after: Some(Time(99)), ..failing };
        let reasons = [None, Some(DisabledReason::Manual), Some(DisabledReason::Failures), Some(DisabledReason::Gone)];
        for status in [WebhookStatus::Enabled, WebhookStatus::Paused, WebhookStatus::Disabled] {
            for (state, disabled_reason) in
                [fine, failing, open, asked].into_iter().flat_map(|state| reasons.map(|reason| (state, reason)))
            {
                let webhook = Webhook { status, disabled_reason, ..Webhook::new(Id::MIN, Id::MIN) };
                let mood = WebhookMood::of(&webhook, &state);
                let in_api = ranking::is_in_trouble(ranking::severity(&webhook, &state));
                assert_eq!(mood.is_trouble(), in_api, "{status:?} {disabled_reason:?} {state:?}");
            }
        }
    }

    #[test]
    fn a_webhook_that_an_earlier_version_disabled_without_a_reason_is_not_failing() {
        let status = WebhookStatus::Disabled;
        let webhook = Webhook { status, disabled_reason: None, ..Webhook::new(Id::MIN, Id::MIN) };
        let shown = WebhookState::default();
        let mood = WebhookMood::of(&webhook, &shown);
        assert!(!mood.is_failing() && !mood.is_trouble());
        let words = reason(&webhook, (mood, &shown), None, PageReader::Operator);
        assert!(words.starts_with("switched off by hand"), "{words}");
    }
}
