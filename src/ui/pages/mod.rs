//! The pages. Each has a view, which its handler reads from the store, and a pure function from the view to markup.

pub mod apps;
pub mod audit;
pub mod deliveries;
pub mod delivery;
pub mod delivery_cancel;
pub mod delivery_resend;
pub mod delivery_rows;
pub mod errors;
pub mod event;
pub mod events;
pub mod find;
pub mod keys;
pub mod live;
pub mod overview;
pub mod replay_targets;
pub mod replays;
pub mod shortcuts;
pub mod system;
pub mod test_result;
pub mod webhook;
pub mod webhook_actions;
pub mod webhook_form;
pub mod webhook_health;
pub mod webhook_rows;
pub mod webhook_settings;
pub mod webhook_values;
pub mod webhooks;

use crate::store::ListWindow;

/// Rows that a filtered page examines. A page is answered within milliseconds, and offers to look further.
pub const EXAMINED_MAX: usize = 2_000;

/// The newest rows, as far as a page looks.
pub const fn newest(limit: usize) -> ListWindow {
    ListWindow { examined_max: EXAMINED_MAX, ..ListWindow::newest(limit) }
}

#[cfg(test)]
pub mod tests;
