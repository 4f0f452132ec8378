//! sent.dm v3 in the description: everything in one envelope, but for 401 and 403, which have no body.

use serde_json::Map;

use crate::api::params::{self, Param, ParamValues};

use crate::api::dialects::doc::DialectDoc;
use crate::api::doc::schema::AnswerSchema;

pub static DOC: DialectDoc = DialectDoc {
    prefix: "Sent",
    description: "sent.dm's API v3: an event is one delivery. Answered unless `dialects.sentdm` is off; what is below `/v3` fails in its words.",
    credentials: &[&["apiKey"]],
    headers: &[PROFILE_ID],
    forms: Map::new,
    error: AnswerSchema::of::<super::SentdmFailure>(),
    // An unknown profile is reported as an unknown webhook.
    failures: |_| vec![404],
    empty: &[401, 403],
    answers_carry: &[("X-API-Version", "ApiVersion"), ("X-Profile-Id", "ProfileId")],
    errors_carry: &[("X-API-Version", "ApiVersion"), ("X-Error-Code", "ErrorCode")],
    examples: include_str!("examples.json"),
};

pub const PROFILE_ID: Param = Param::new(
    "x-profile-id",
    ParamValues::Id,
    "The app to read as, for a key of the whole organization; 403 from a key of one app.",
);
pub const ID: Param = Param::new("id", ParamValues::Id, "The webhook's id.");
/// The vendor's page numbers are int32.
pub const PAGE: Param = Param::whole("page", 1, i32::MAX as u32, "The page, from 1.").required();
pub const PAGE_SIZE: Param = Param::whole("page_size", 1, 100, "Rows of a page.").required();
pub const IS_ACTIVE: Param = Param::new("is_active", ParamValues::Boolean, "Only webhooks that are on, or off.");
/// `Params::search` reads it, so it has the name and length of `params::SEARCH`.
pub const SEARCH: Param = Param {
    description: "Part of the name or URL; of events: of the type or error, or an exact id or status code.",
    ..params::SEARCH
};
