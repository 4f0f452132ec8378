//! The store: what is written, how it is found again, and when it goes. The only floor that knows redb; synchronous.

pub mod command;
pub mod error;
pub mod job;
pub mod query;
pub mod reads;
pub mod registry;

pub use command::{Applied, Caller, Command, Finished, Keep, NewEvent, NewKey, Order, Published, Reach, Receipt, Refusal};
pub use error::{Error, Result};
pub use query::{AttemptQuery, DeliveryQuery, EventQuery, Page, Search, Window};
pub use reads::{AuditRow, Backlog, Figures, Store};
pub use registry::Registry;
