//! `GET /v1/audit`: actions with their caller, time and address.

use schemars::JsonSchema;
use serde::Serialize;
use serde_json::value::RawValue;

use crate::api::context::ApiContext;
use crate::api::cursor::CursorKind;
use crate::api::error::ApiError;
use crate::api::params::{Param, ParamValues};
use crate::api::request_context::RequestContext;
use crate::api::step::Step;
use crate::model::id::{PortalLinkId, without_prefix};
use crate::model::{Id, KeyId, Time};
use crate::store::{AuditFilter, AuditRow};

use super::page;

pub const KEY_ID: Param = Param::new("key_id", ParamValues::Id, "Only actions of this key.");
pub const ACTION: Param = Param::new(
    "action",
    ParamValues::Text { chars_max: Some(AUDIT_FILTER_CHARS_MAX) },
    "Only this action, such as `webhook.update`, or with a dot at its end all that begin so: `webhook.`.",
);
pub const TARGET: Param = Param::new(
    "target",
    ParamValues::Text { chars_max: Some(AUDIT_FILTER_CHARS_MAX) },
    "Only actions on the object with exactly this id, with or without its prefix.",
);
/// Maximum length of a filter in characters.
const AUDIT_FILTER_CHARS_MAX: usize = 128;

/// One action of a caller.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "AuditRow")]
pub struct AuditView<'a> {
    id: Id<AuditRow>,
    at: Time,
    key_id: Option<KeyId>,
    action: &'a str,
    target: &'a str,
    remote_addr: Option<&'a str>,
    request_id: Option<&'a str>,
    /// The portal link by which the caller acted for the key. Null for the key itself.
    portal_link_id: Option<PortalLinkId>,
    /// The changes, without secrets. Null if the action has none to show.
    changes: Option<&'a RawValue>,
}

impl<'a> AuditView<'a> {
    fn new(row: &'a AuditRow) -> Self {
        AuditView {
            id: row.id,
            at: row.at,
            key_id: row.key_id,
            action: &row.action,
            target: &row.target,
            remote_addr: row.remote_addr.as_deref(),
            request_id: row.request_id.as_deref(),
            portal_link_id: row.portal_link,
            changes: row.changes.as_deref().and_then(|text| serde_json::from_str(text).ok()),
        }
    }
}

pub fn list(context: &mut ApiContext<'_>, request: &RequestContext<'_>) -> Result<Step, ApiError> {
    let filter = AuditFilter {
        key_id: request.query.id(&KEY_ID)?,
        action: request.query.bounded_text(&ACTION)?,
        target: request.query.bounded_text(&TARGET)?.map(|target| without_prefix(&target).to_owned()),
    };
    let page = context.store.audit(request.tenant(), &filter, request.query.window(CursorKind::Audit)?)?;
    Ok(Step::Reply(page::response(CursorKind::Audit, &page, AuditView::new)))
}
