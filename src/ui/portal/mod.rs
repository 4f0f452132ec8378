//! The portal: the pages of one app for its tenant, who enters by a link and has no key.
//!
//! The pages of webhooks, deliveries and replays are those of the dashboard in another frame. Their caller is the key
//! that made the link, confined to the link's app and scopes.

pub mod enter;
pub mod event_types;
pub mod help;
pub mod home;
pub mod logo;

#[cfg(test)]
mod tests;
