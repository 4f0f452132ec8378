//! Instantly, API v2: webhooks, and a webhook event is one attempt (developer.instantly.ai, "Webhook", "Webhook Event").

mod docs;
mod webhooks;

use jiff::civil::Date;
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use crate::api::auth::{self, Principal};
use crate::api::context::ApiContext;
use crate::api::doc::answer;
use crate::api::error::{ApiError, FieldError};
use crate::api::media::BodyRule;
use crate::api::params::{self, Param, Params};
use crate::api::request_context::RequestContext;
use crate::api::response::HttpResponse;
use crate::api::route::RouteAccess::Authorized;
use crate::api::route::{ErrorContext, Route, RouteMethod};
use crate::api::step::Step;
use crate::model::time::{DAY_MS, HOUR_MS};
use crate::model::{Attempt, AttemptId, DeliveryId, OrganizationId, Scope, Time};
use crate::rules::health;
use crate::store::{AttemptDetails, AttemptFilter, AttemptQuery, HourCount, ListWindow};

use crate::api::dialects::derived::{self, ok};
use crate::api::dialects::doc::doc;
use crate::api::dialects::{Dialect, get};

use webhooks::{InstantlyEventTypes, InstantlyTested, InstantlyWebhook, InstantlyWebhookPage};

pub static DIALECT: Dialect = Dialect {
    name: "instantly",
    prefix: "/api/v2",
    routes: ROUTES,
    identify: auth::by_key,
    render,
    doc: &docs::DOC,
    lenient: None,
    preset: None,
    read_id: |_| None,
};

static ROUTES: &[Route] = &[
    get(
        "/api/v2/webhook-events",
        Authorized(Scope::EventsRead, may_read, list),
        doc(
            "listInstantlyWebhookEvents",
            "List webhook events: attempts, newest first",
            &[answer::<InstantlyList>(200, "A page; `next_starting_after` is left out at the end.")],
        ),
    )
    .with_query(&[docs::LIMIT, docs::STARTING_AFTER, docs::SUCCESS, docs::FROM, docs::TO, docs::SEARCH]),
    get(
        "/api/v2/webhook-events/summary",
        Authorized(Scope::EventsRead, may_read, summary),
        doc("getInstantlySummary", "Count attempts by outcome", &[answer::<InstantlySummary>(200, "The sums.")]),
    )
    .with_query(&[docs::FROM, docs::TO]),
    get(
        "/api/v2/webhook-events/summary-by-date",
        Authorized(Scope::EventsRead, may_read, summary_by_date),
        doc(
            "getInstantlySummaryByDate",
            "Count attempts by outcome and day of UTC",
            &[answer::<InstantlyDays>(200, "The days on which something was sent, oldest first.")],
        ),
    )
    .with_query(&[docs::FROM, docs::TO]),
    get(
        "/api/v2/webhook-events/{id}",
        Authorized(Scope::EventsRead, may_read, read),
        doc(
            "getInstantlyWebhookEvent",
            "Read a webhook event: one attempt",
            &[answer::<InstantlyWebhookEvent>(200, "The attempt.")],
        ),
    )
    .with_segments(&[docs::ID]),
    get(
        WEBHOOKS,
        Authorized(Scope::WebhooksRead, may_list, webhooks::list),
        doc(
            "listInstantlyWebhooks",
            "List webhooks (`webhooks:read`), newest first",
            &[answer::<InstantlyWebhookPage>(200, "A page; `next_starting_after` is left out at the end.")],
        ),
    )
    .with_query(&[docs::LIMIT, docs::AFTER_WEBHOOK, docs::CAMPAIGN, docs::EVENT_TYPE]),
    get(
        "/api/v2/webhooks/event-types",
        Authorized(Scope::WebhooksRead, may_list, webhooks::event_types),
        doc(
            "listInstantlyEventTypes",
            "List the event types that webhooks name, and Postrider's own (`webhooks:read`)",
            &[answer::<InstantlyEventTypes>(200, "By name.")],
        ),
    ),
    get(
        WEBHOOK,
        Authorized(Scope::WebhooksRead, may_list, webhooks::read),
        doc(
            "getInstantlyWebhook",
            "Read a webhook (`webhooks:read`)",
            &[answer::<InstantlyWebhook>(200, "The webhook, credentials in its headers masked.")],
        ),
    )
    .with_segments(&[docs::WEBHOOK_ID]),
    Route::new(
        RouteMethod::Post,
        WEBHOOKS,
        Authorized(Scope::WebhooksWrite, may_create, webhooks::create),
        BodyRule::Json,
        doc(
            "createInstantlyWebhook",
            "Make a webhook (`webhooks:create`)",
            &[answer::<InstantlyWebhook>(200, "The webhook.")],
        )
        .takes("NewInstantlyWebhook"),
    ),
    Route::new(
        RouteMethod::Patch,
        WEBHOOK,
        Authorized(Scope::WebhooksWrite, may_update, webhooks::update),
        BodyRule::MergePatch,
        doc(
            "updateInstantlyWebhook",
            "Change a webhook (`webhooks:update`); null clears a field",
            &[answer::<InstantlyWebhook>(200, "The webhook as it is now.")],
        )
        .may_take("InstantlyWebhookPatch"),
    )
    .with_key()
    .with_segments(&[docs::WEBHOOK_ID]),
    Route::new(
        RouteMethod::Delete,
        WEBHOOK,
        Authorized(Scope::WebhooksWrite, may_delete, webhooks::remove),
        BodyRule::None,
        doc(
            "deleteInstantlyWebhook",
            "Remove a webhook (`webhooks:delete`)",
            &[answer::<InstantlyWebhook>(200, "The webhook as it was.")],
        ),
    )
    .with_key()
    .with_segments(&[docs::WEBHOOK_ID]),
    Route::new(
        RouteMethod::Post,
        "/api/v2/webhooks/{id}/test",
        Authorized(Scope::WebhooksWrite, may_update, webhooks::test),
        BodyRule::OptionalJson,
        doc(
            "testInstantlyWebhook",
            "Send one request now and store nothing (`webhooks:update`)",
            &[answer::<InstantlyTested>(200, "What happened.")],
        )
        .takes("Nothing"),
    )
    .with_segments(&[docs::WEBHOOK_ID]),
    Route::new(
        RouteMethod::Post,
        "/api/v2/webhooks/{id}/resume",
        Authorized(Scope::WebhooksWrite, may_update, webhooks::resume),
        BodyRule::OptionalJson,
        doc(
            "resumeInstantlyWebhook",
            "Turn a disabled or paused webhook on (`webhooks:update`)",
            &[answer::<InstantlyWebhook>(200, "The webhook as it is now.")],
        )
        .takes("Nothing"),
    )
    .with_segments(&[docs::WEBHOOK_ID]),
];

const WEBHOOKS: &str = "/api/v2/webhooks";
const WEBHOOK: &str = "/api/v2/webhooks/{id}";

/// Maximum distance of an attempt's id from its `started_at`. The id is drawn just before the start, or when the
/// outcome is stored.
const STAMP_MS_MAX: i64 = HOUR_MS;

/// One attempt.
#[derive(Serialize, JsonSchema)]
struct InstantlyWebhookEvent<'a> {
    id: AttemptId,
    timestamp_created: Time,
    #[schemars(extend("format" = "date"))]
    timestamp_created_date: String,
    organization_id: OrganizationId,
    success: bool,
    retry_count: u32,
    will_retry: bool,
    webhook_url: &'a str,
    /// The body that the attempt carried.
    #[schemars(with = "Map<String, Value>")]
    payload: Box<RawValue>,
    #[schemars(with = "Option<i64>")]
    status_code: Option<u16>,
    error_message: Option<&'a str>,
    timestamp_next_retry: Option<Time>,
    retry_group_id: Option<DeliveryId>,
    retry_successful: Option<bool>,
    lead_email: Option<&'a str>,
    response_time_ms: Option<u32>,
}

impl<'a> InstantlyWebhookEvent<'a> {
    fn new(facts: &'a AttemptDetails) -> Result<Self, ApiError> {
        let attempt = &facts.attempt;
        let next = derived::next_retry(attempt, &facts.delivery);
        let is_retry = attempt.made.number > 1;
        Ok(InstantlyWebhookEvent {
            id: attempt.id,
            timestamp_created: attempt.made.started_at,
            timestamp_created_date: date_of(attempt.made.started_at),
            organization_id: attempt.org_id,
            success: attempt.made.success,
            retry_count: attempt.made.number.saturating_sub(1),
            will_retry: next.is_some(),
            webhook_url: &attempt.made.url,
            payload: derived::payload(facts)?,
            status_code: attempt.made.status_code,
            error_message: attempt.made.error.as_deref(),
            timestamp_next_retry: next,
            retry_group_id: (is_retry || next.is_some()).then_some(attempt.delivery_id),
            retry_successful: is_retry.then_some(attempt.made.success),
            lead_email: facts.event.attributes.subject.as_deref(),
            response_time_ms: attempt.made.response_time_ms,
        })
    }
}

/// `GET /api/v2/webhook-events/{id}`.
fn read(context: &mut ApiContext<'_>, request: &RequestContext<'_>) -> Result<Step, ApiError> {
    let bad = |_| ApiError::bad_request("invalid_id", "params/id must match format \"uuid\"");
    let id: AttemptId = request.path.get("id").parse().map_err(bad)?;
    let found = context.store.attempt_details(request.tenant(), id, context.now)?;
    ok(&InstantlyWebhookEvent::new(&found.ok_or_else(|| ApiError::not_found("Resource"))?)?)
}

/// A page of attempts.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "InstantlyWebhookEvents")]
struct InstantlyList<'a> {
    items: Vec<InstantlyWebhookEvent<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "AttemptId")]
    next_starting_after: Option<AttemptId>,
}

/// `GET /api/v2/webhook-events`.
fn list(context: &mut ApiContext<'_>, request: &RequestContext<'_>) -> Result<Step, ApiError> {
    let days = DayRange::read(&request.query)?;
    let started = (days.from.is_some() || days.to.is_some())
        .then(|| (days.from.unwrap_or(Time::ZERO), days.to.unwrap_or(Time::MAX)));
    let query = AttemptQuery {
        tenant: request.tenant(),
        webhook: None,
        delivery: None,
        event: None,
        success: request.query.boolean(&docs::SUCCESS)?,
        status: None,
        event_type: None,
        status_code: None,
        outcome: None,
        search: None,
        window: ListWindow {
            from: days.from.map(|from| from.minus_ms(STAMP_MS_MAX)),
            to: days.to.map(|to| to.plus_ms(STAMP_MS_MAX)),
            before: request.query.id::<Attempt>(&docs::STARTING_AFTER)?.map(|id| id.as_u128()),
            ..ListWindow::newest(request.query.number_or_default(&docs::LIMIT)? as usize)
        },
    };
    let filter = AttemptFilter { started, about: request.query.text(&docs::SEARCH).map(str::to_owned) };
    let page = context.store.attempts_details(&query, &filter, context.now)?;
    ok(&InstantlyList {
        items: page.rows.iter().map(InstantlyWebhookEvent::new).collect::<Result<_, _>>()?,
        next_starting_after: page.next.map(AttemptId::from_u128),
    })
}

/// Sums of attempts.
#[derive(Serialize, JsonSchema)]
struct InstantlySummary {
    total_events: u64,
    successful_events: u64,
    failed_events: u64,
    #[schemars(range(min = 0, max = 100))]
    success_rate: f64,
    #[schemars(range(min = 0, max = 100))]
    failure_rate: f64,
}

/// Sums of attempts, by day.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "InstantlySummaryByDate")]
struct InstantlyDays {
    items: Vec<InstantlyDaySummary>,
}

#[derive(Serialize, JsonSchema)]
#[schemars(inline)]
struct InstantlyDaySummary {
    #[schemars(extend("format" = "date"))]
    date: String,
    total_events: u64,
    successful_events: u64,
    failed_events: u64,
    #[schemars(range(min = 0, max = 100))]
    success_rate: f64,
}

impl InstantlySummary {
    fn new(counts: impl IntoIterator<Item = HourCount>) -> Self {
        let (mut total, mut failed) = (0, 0);
        for count in counts {
            total += count.attempts;
            failed += count.failures;
        }
        let successful = total - failed;
        // The vendor's page has numbers here and never null, so both rates are 0 % if nothing was sent.
        let rate = health::success_rate(successful, failed);
        let rest = rate.map(|rate| (1_000.0 - (rate * 10.0).round()) / 10.0);
        InstantlySummary {
            total_events: total,
            successful_events: successful,
            failed_events: failed,
            success_rate: rate.unwrap_or(0.0),
            failure_rate: rest.unwrap_or(0.0),
        }
    }
}

/// `GET /api/v2/webhook-events/summary`.
fn summary(context: &mut ApiContext<'_>, request: &RequestContext<'_>) -> Result<Step, ApiError> {
    ok(&InstantlySummary::new(hours(context, request)?.into_values()))
}

/// `GET /api/v2/webhook-events/summary-by-date`: the days on which something was sent, oldest first.
fn summary_by_date(context: &mut ApiContext<'_>, request: &RequestContext<'_>) -> Result<Step, ApiError> {
    let hours: Vec<(u32, HourCount)> = hours(context, request)?.into_iter().filter(|(_, c)| c.attempts > 0).collect();
    let days = hours.chunk_by(|(a, _), (b, _)| a / 24 == b / 24).map(|day| {
        let all = InstantlySummary::new(day.iter().map(|(_, count)| *count));
        InstantlyDaySummary {
            date: date_of(Time(i64::from(day[0].0) * HOUR_MS)),
            total_events: all.total_events,
            successful_events: all.successful_events,
            failed_events: all.failed_events,
            success_rate: all.success_rate,
        }
    });
    ok(&InstantlyDays { items: days.collect() })
}

type Hours = std::collections::BTreeMap<u32, HourCount>;

fn hours(context: &ApiContext<'_>, request: &RequestContext<'_>) -> Result<Hours, ApiError> {
    let days = DayRange::read(&request.query)?;
    let from = days.from.unwrap_or(Time::ZERO).hour();
    let to = days.to.map_or(u32::MAX, |to| to.minus_ms(1).hour());
    Ok(context.store.attempts_by_hour(request.tenant(), from, to, context.now)?)
}

/// `from` and `to` are days of UTC, both inclusive: the first moment, and the first moment after.
struct DayRange {
    from: Option<Time>,
    to: Option<Time>,
}

impl DayRange {
    fn read(query: &Params) -> Result<DayRange, ApiError> {
        let day = |param: &Param| match query.text(param) {
            None => Ok(None),
            Some(text) => {
                first_moment(text).map(Some).ok_or_else(|| params::wrong(param.name, "must be a date YYYY-MM-DD"))
            }
        };
        let (from, to) = (day(&docs::FROM)?, day(&docs::TO)?.map(|to| to.plus_ms(DAY_MS)));
        if from.zip(to).is_some_and(|(from, to)| to <= from) {
            return Err(params::wrong(docs::TO.name, "must not lie before from"));
        }
        Ok(DayRange { from, to })
    }
}

/// The first moment of a day. `None` for a day before 1970.
fn first_moment(text: &str) -> Option<Time> {
    let is_plain = text.len() == 10 && text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'-');
    let date: Date = text.parse().ok().filter(|_| is_plain)?;
    Some(Time::of_utc(date.at(0, 0, 0, 0))).filter(|at| *at >= Time::ZERO)
}

fn date_of(time: Time) -> String {
    let mut text = time.to_string();
    text.truncate(10);
    text
}

fn may_read(principal: &Principal) -> Result<(), ApiError> {
    may(principal, Scope::EventsRead, "webhook_events:read")
}

fn may_list(principal: &Principal) -> Result<(), ApiError> {
    may(principal, Scope::WebhooksRead, "webhooks:read")
}

fn may_create(principal: &Principal) -> Result<(), ApiError> {
    may(principal, Scope::WebhooksWrite, "webhooks:create")
}

fn may_update(principal: &Principal) -> Result<(), ApiError> {
    may(principal, Scope::WebhooksWrite, "webhooks:update")
}

fn may_delete(principal: &Principal) -> Result<(), ApiError> {
    may(principal, Scope::WebhooksWrite, "webhooks:delete")
}

fn may(principal: &Principal, scope: Scope, own_name: &str) -> Result<(), ApiError> {
    match principal.key.may(scope) {
        true => Ok(()),
        false => {
            let detail = format!("This API key does not have the scope {own_name}");
            Err(ApiError::forbidden("scope_missing", detail))
        }
    }
}

/// An error.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct InstantlyError<'a> {
    #[schemars(with = "i64")]
    status_code: u16,
    error: &'a str,
    message: &'a str,
}

/// Wrong values are 400 here.
fn render(api_error: &ApiError, _: &ErrorContext<'_>) -> HttpResponse {
    let status = derived::wrong_values_as_400(api_error.status);
    let wrong = api_error.errors.iter().map(in_body).collect::<Vec<_>>().join(", ");
    let message = match api_error.code {
        "credentials_missing" => "Missing Authorization header",
        "credentials_malformed" | "credentials_wrong" | "key_expired" => "Invalid API key",
        "invalid_fields" => &wrong,
        _ => &api_error.detail,
    };
    let title = status.canonical_reason().unwrap_or("Error");
    HttpResponse::json(status, &InstantlyError { status_code: status.as_u16(), error: title, message })
}

/// A mistake in the vendor's words, which are those of a JSON Schema: `body/name must …`. A property that is missing or not
/// known is a mistake of the object that it is in.
fn in_body(field_error: &FieldError) -> String {
    let FieldError { pointer, detail } = field_error;
    let (object, property) = pointer.rsplit_once('/').unwrap_or(("", pointer));
    match detail.as_str() {
        "is required" => format!("body{object} must have required property '{property}'"),
        "is not a known field" => format!("body{object} must NOT have additional properties: '{property}'"),
        // One text here is a list of one natively.
        _ if matches!(object, "/event_type" | "/campaign") => format!("body{object} {detail}"),
        _ => format!("body{pointer} {detail}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_is_written_one_way_only() {
        assert_eq!(first_moment("2026-03-05"), Some(Time(1_772_668_800_000)));
        assert_eq!(first_moment("9999-12-31").map(date_of).as_deref(), Some("9999-12-31"));
        for text in ["", "2026-3-5", "20260305", "2026-02-30", "2026-03-05T00:00:00Z", "1969-12-31", "+002026-03"] {
            assert_eq!(first_moment(text), None, "{text}");
        }
        assert_eq!(date_of(Time(1_772_668_799_999)), "2026-03-04");
    }

    #[test]
    fn the_two_rates_add_up_and_nothing_sent_is_zero() {
        let count = |attempts, failures| HourCount { attempts, failures };
        let one = InstantlySummary::new([count(3, 1), count(0, 0)]);
        assert_eq!((one.total_events, one.successful_events, one.failed_events), (3, 2, 1));
        assert_eq!((one.success_rate, one.failure_rate), (66.7, 33.3));
        let none = InstantlySummary::new([]);
        assert_eq!((none.total_events, none.success_rate, none.failure_rate), (0, 0.0, 0.0));
    }
}
