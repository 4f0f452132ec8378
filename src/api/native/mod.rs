//! The native API (docs/api.md): its routes, and its error envelope.

pub mod apps;
pub mod attempt_request;
pub mod attempt_stream;
pub mod attempts;
pub mod audit;
pub mod bulk_retry;
pub mod cloudevents;
pub mod deliveries;
pub mod event_types;
pub mod events;
pub mod feed;
pub mod health;
pub mod keys;
pub mod meta;
pub mod organizations;
pub mod owned;
pub mod page;
pub mod portal_links;
pub mod publish;
pub mod registered_types;
pub mod replays;
pub mod replication;
pub mod resend;
pub mod routes;
pub mod stats;
pub mod stats_counts;
pub mod stats_series;
pub mod system;
pub mod test_send;
mod waiting;
pub mod waiting_for;
pub mod webhook_fields;
pub mod webhook_form;
pub mod webhook_list;
pub mod webhook_live;
pub mod webhook_patch;
pub mod webhook_schema;
pub mod webhook_text;
pub mod webhook_view;
pub mod webhooks;

pub use routes::mount;

use crate::api::error::ApiError;

/// The error for a receipt that does not fit its command, which is a bug.
fn unexpected() -> ApiError {
    ApiError::internal("the store answered something else than was asked")
}
