//! The native API (api.md): its routes, in the order of section 3, and its error envelope.

pub mod apps;
pub mod attempts;
pub mod audit;
pub mod bulk_retry;
pub mod cloudevents;
pub mod deliveries;
pub mod events;
pub mod feed;
pub mod health;
pub mod keys;
pub mod meta;
pub mod organizations;
pub mod page;
pub mod publish;
pub mod replays;
pub mod routes;
pub mod stats;
pub mod test_send;
mod waiting;
pub mod waiting_for;
pub mod webhook_fields;
pub mod webhook_form;
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
