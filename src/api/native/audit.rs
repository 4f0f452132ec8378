//! `GET /v1/audit`: who did what, when and from where.

use serde::Serialize;
use serde_json::value::RawValue;

use crate::api::ask::Ask;
use crate::api::context::Context;
use crate::api::cursor::Kind;
use crate::api::fault::Fault;
use crate::api::step::Step;
use crate::model::{Id, KeyId, Time};
use crate::store::AuditRow;

use super::page;

#[derive(Serialize)]
struct AuditView<'a> {
    id: Id<AuditRow>,
    at: Time,
    key_id: Option<KeyId>,
    action: &'a str,
    target: &'a str,
    remote_addr: Option<&'a str>,
    request_id: Option<&'a str>,
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
            changes: row.changes.as_deref().and_then(|text| serde_json::from_str(text).ok()),
        }
    }
}

pub fn list(context: &mut Context<'_>, ask: &Ask<'_>) -> Result<Step, Fault> {
    let page = context.store.audit(ask.reach(), ask.query.window(Kind::Audit)?)?;
    Ok(Step::Reply(page::reply(Kind::Audit, &page, AuditView::new)))
}
