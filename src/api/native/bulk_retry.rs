//! `POST /v1/deliveries/retry`: sends several deliveries again, each with its own result.
//!
//! Invariant: with an `Idempotency-Key` no delivery is sent again twice, also if the daemon ends between two
//! partitions. The deliveries of a partition are one command, whose answer is stored under a key of its own.

use std::collections::{BTreeMap, HashMap, VecDeque};

use http::StatusCode;
use schemars::JsonSchema;
use serde::Serialize;

use crate::api::auth::sha256;
use crate::api::context::ApiContext;
use crate::api::error::{ApiError, FieldError};
use crate::api::fields::{self, FieldErrors};
use crate::api::limits::RETRY_IDS_MAX;
use crate::api::request_context::RequestContext;
use crate::api::response::HttpResponse;
use crate::api::step::Step;
use crate::api::stored_answers;
use crate::model::DeliveryId;
use crate::rules::diagnosis::DiagnosisReader;
use crate::store::{IdempotencyKey, PartitionCommand, Receipt, RetriedDelivery, WriteRequest};

use super::deliveries::DeliveryView;

/// The result for each delivery of the request.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "RetriedMany")]
pub struct RetriedManyView<'a> {
    /// In the order of `ids`.
    data: Vec<BulkRetriedView<'a>>,
}

/// The result for one delivery of the request.
#[derive(Serialize, JsonSchema)]
#[schemars(inline)]
struct BulkRetriedView<'a> {
    /// The delivery that was asked for.
    id: DeliveryId,
    /// The delivery that is sent: the same, or a new one if that was final. Null if none is.
    delivery: Option<DeliveryView<'a>>,
    /// Why none is sent, as `code` and `detail` of a problem.
    error: Option<RetryErrorView<'a>>,
}

#[derive(Serialize, JsonSchema)]
#[schemars(inline)]
struct RetryErrorView<'a> {
    code: &'a str,
    detail: &'a str,
}

/// The commands that are left, and the results so far.
struct Retries {
    reader: DiagnosisReader,
    ids: Vec<DeliveryId>,
    left: VecDeque<WriteRequest>,
    done: HashMap<DeliveryId, RetriedDelivery>,
}

/// `POST /v1/deliveries/retry`. A delivery that is not there has its own result.
pub fn retry(context: &mut ApiContext<'_>, request: &RequestContext<'_>) -> Result<Step, ApiError> {
    let ids = read_ids(request)?;
    if let Some(stored) = stored_answers::response(context, request)? {
        return Ok(Step::Reply(stored));
    }
    let mut done = HashMap::new();
    let mut groups: BTreeMap<u128, Vec<DeliveryId>> = BTreeMap::new();
    let partitions = context.store.partitions();
    for &id in &ids {
        match context.store.delivery(request.tenant(), id, context.now)? {
            Some(delivery) => {
                let event = delivery.event_id.as_u128();
                let home = partitions.iter().map(|(first, _)| *first).take_while(|first| *first <= event).last();
                groups.entry(home.unwrap_or(0)).or_default().push(id);
            }
            None => {
                let rejection = Some(("not_found".to_owned(), "delivery not found".to_owned()));
                done.insert(id, RetriedDelivery { id, sent: None, rejection });
            }
        }
    }
    let idempotency = request.idempotency_key()?;
    let write = |(home, ids): (u128, Vec<DeliveryId>)| WriteRequest {
        caller: Some(request.principal.caller()),
        idempotency: idempotency.as_ref().map(|key| of_partition(key, home)),
        command: PartitionCommand::RetryMany { ids }.into(),
    };
    let retries = Retries { reader: request.reader(), ids, left: groups.into_iter().map(write).collect(), done };
    run(retries, Box::new(stored_answers::storing(request)?))
}

/// The key under which the answer of one partition is stored.
fn of_partition(whole: &IdempotencyKey, home: u128) -> IdempotencyKey {
    IdempotencyKey { key: sha256(&[&whole.key, &home.to_be_bytes()]), ..whole.clone() }
}

fn read_ids(request: &RequestContext<'_>) -> Result<Vec<DeliveryId>, ApiError> {
    let mut object = request.object()?;
    let mut field_errors = FieldErrors::new();
    let mut ids: Vec<DeliveryId> = Vec::new();
    let is_given = object.has("ids");
    for (at, raw) in object.array("ids", &mut field_errors, RETRY_IDS_MAX).unwrap_or_default() {
        match fields::text(raw).ok().and_then(|text| text.parse().ok()) {
            Some(id) if ids.contains(&id) => field_errors.push(FieldError::new(at, "is given twice")),
            Some(id) => ids.push(id),
            None => field_errors.push(FieldError::new(at, "must be a UUID")),
        }
    }
    if ids.is_empty() && field_errors.is_empty() {
        let detail = if is_given { "must have at least one item" } else { "is required" };
        field_errors.push(FieldError::new("/ids", detail));
    }
    object.finish(&mut field_errors);
    fields::into_result(field_errors)?;
    Ok(ids)
}

/// Answers once all commands are applied.
fn run(mut retries: Retries, answer: Box<dyn FnOnce(HttpResponse) -> Step + Send>) -> Result<Step, ApiError> {
    let Some(write_request) = retries.left.pop_front() else {
        let rows = retries.ids.iter().filter_map(|id| retries.done.get(id));
        let view = RetriedManyView { data: rows.map(|row| shown(retries.reader, row)).collect() };
        return Ok(answer(HttpResponse::json(StatusCode::OK, &view)));
    };
    Ok(Step::Apply {
        write_request: Box::new(write_request),
        then: Box::new(move |applied| {
            let Receipt::Retried(retried) = applied?.receipt else { return Err(super::unexpected()) };
            retries.done.extend(retried.into_iter().map(|one| (one.id, one)));
            run(retries, answer)
        }),
    })
}

fn shown(reader: DiagnosisReader, retried: &RetriedDelivery) -> BulkRetriedView<'_> {
    BulkRetriedView {
        id: retried.id,
        delivery: retried.sent.as_deref().map(|sent| DeliveryView::new(reader, sent)),
        error: retried.rejection.as_ref().map(|(code, detail)| RetryErrorView { code, detail }),
    }
}
