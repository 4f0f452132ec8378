//! The nouns: plain data without behaviour beyond its own form. They are the lowest floor of the domain.

pub mod app;
pub mod attempt;
pub mod attempt_front;
pub mod delivery;
pub mod event;
pub mod event_type;
pub mod feed_consumer;
pub mod feed_topic;
pub mod figures;
pub mod headers;
pub mod id;
pub mod job;
pub mod key;
pub mod ksuid;
pub mod machine;
pub mod organization;
pub mod portal;
mod row;
pub mod status_codes;
pub mod time;
pub mod webhook;

pub use app::App;
pub use attempt::{Attempt, AttemptMade, AttemptOutcome, Timings, Trigger};
pub use attempt_front::AttemptFront;
pub use delivery::{Delivery, DeliveryStatus};
pub use event::{Event, EventAttributes};
pub use event_type::EventType;
pub use headers::Headers;
pub use id::{AppId, AttemptId, DeliveryId, EventId, Id, KeyId, OrganizationId, WebhookId};
pub use job::{Job, JobId, JobSpec, JobStatus, LastDeliveryFilter};
pub use key::{ApiKey, MakerRate, Scope};
pub use organization::Organization;
pub use status_codes::StatusCodes;
pub use time::Time;
pub use webhook::Webhook;
