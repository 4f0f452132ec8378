//! Readiness: whether events are accepted and sent, with one issue for each cause and its cure.
//!
//! Invariant: an issue names no webhook and no address, because `/readyz` is public.

use crate::engine::Engine;
use crate::engine::believed_clock::CURE;
use crate::engine::metrics::WebhookCounts;
use crate::engine::proxy_health::ProxyState;
use crate::engine::write_queue::WAITING_PUBLISHES_MAX;
use crate::model::webhook::{CircuitState, DisabledReason, WebhookStatus};
use crate::rules::durations;
use crate::store::admin::Role;

/// One cause of unreadiness, or one warning.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReadinessIssue {
    /// Stable, for machines.
    pub code: &'static str,
    pub detail: String,
}

impl ReadinessIssue {
    fn new(code: &'static str, detail: impl Into<String>) -> ReadinessIssue {
        ReadinessIssue { code, detail: detail.into() }
    }
}

impl Engine {
    /// The causes of unreadiness. Empty if ready.
    pub fn unready(&self) -> Vec<ReadinessIssue> {
        let mut reasons = Vec::new();
        if self.write_queue.is_stopping() {
            reasons.push(ReadinessIssue::new("stopping", "the daemon is stopping"));
        }
        // An outcome that waits for space is written again after each look at the disk, which shows none missing meanwhile.
        if self.store.is_disk_full() || self.write_queue.lacks_space(self.clock.now()) {
            let floor = self.store.min_free_bytes();
            let free = self.store.free_bytes().unwrap_or(0);
            let why = if free < floor { format!("min_free_bytes is {floor}") } else { "a write needed more".into() };
            let detail = format!(
                "the disk is full: {free} bytes are free and {why}; publishing is refused until space is freed"
            );
            reasons.push(ReadinessIssue::new("disk_full", detail));
        }
        if self.write_queue.is_failing() {
            let detail =
                "the last write to storage failed; the log says why, and it is tried again with the next write";
            reasons.push(ReadinessIssue::new("storage_failing", detail));
        }
        if self.write_queue.is_log_stuck() {
            let detail = "the log of the cluster takes no commits, and changes are refused until it does; the log of this \
                          daemon has PostgreSQL's error";
            reasons.push(ReadinessIssue::new("log_unanswered", detail));
        }
        if self.write_queue.waiting_publishes() >= WAITING_PUBLISHES_MAX {
            let detail = "too many publishes wait to be written; further ones are refused until storage keeps up";
            reasons.push(ReadinessIssue::new("queue_full", detail));
        }
        reasons
    }

    /// Warnings: the daemon works, and an operator should look at them.
    pub fn warnings(&self) -> Vec<ReadinessIssue> {
        let mut warnings = Vec::new();
        // Events are accepted and sent all the same.
        if let Some(off_ms) = self.clock_trust.off_ms() {
            let (off, side) = (durations::nearest(off_ms.abs()), if off_ms > 0 { "ahead of" } else { "behind" });
            let detail = format!(
                "the clock is {off} {side} the time that has passed: {CURE}; receivers may refuse signatures as too \
                 old or too new"
            );
            warnings.push(ReadinessIssue::new("clock_distrusted", detail));
        } else if !self.clock_trust.is_trusted() {
            let detail = "the clock stepped: retention is stopped until the clocks have agreed for an hour, or until \
                          `postrider doctor --accept-clock` says that the clock is right";
            warnings.push(ReadinessIssue::new("clock_distrusted", detail));
        }
        match self.deliverer.proxy_health.state(self.clock.now()) {
            ProxyState::Well => {}
            ProxyState::Unreachable => {
                let detail =
                    "the proxy of deliveries cannot be reached; deliveries wait for it, and events are accepted";
                warnings.push(ReadinessIssue::new("proxy_unreachable", detail));
            }
            ProxyState::CredentialsRefused => {
                let detail =
                    "the proxy of deliveries refuses the credentials; check delivery.proxy's user and password";
                warnings.push(ReadinessIssue::new("proxy_credentials", detail));
            }
        }
        if self.store.term_and_role().is_ok_and(|term_and_role| term_and_role.role == Role::Copy) {
            let detail = "this store is a restored copy: if the store that it was copied from runs too, both send every \
                          delivery; stop that one for good, then stop this one, run `postrider promote`, and start it again";
            warnings.push(ReadinessIssue::new("restored_copy", detail));
        }
        // Reads and deliveries go on, and no other machine could take events in.
        if self.replication.is_standby_required() && !self.replication.has_standby() {
            let detail = "no standby is connected and standby.required is true: changes are refused until one is, or until \
                          the setting is false and read again (SIGHUP)";
            warnings.push(ReadinessIssue::new("standby_missing", detail));
        }
        if let Some(shortage) = self.deliverer.shortages.current(self.clock.now()) {
            let detail = format!("deliveries wait and are tried again every second, because {}", shortage.words());
            warnings.push(ReadinessIssue::new("sending_held_back", detail));
        }
        let mut warn = |code, count: i64, state: &str| {
            if count > 0 {
                let words = if count == 1 { "webhook" } else { "webhooks" };
                warnings.push(ReadinessIssue::new(
                    code,
                    format!("{count} {words} {state}; `postrider doctor` says which and why"),
                ));
            }
        };
        let webhooks = self.webhooks();
        warn("webhooks_failing", webhooks.circuit_open, "only probed, because the last attempts failed");
        warn("webhooks_paused", webhooks.paused, "paused: deliveries are made and held");
        warn("webhooks_given_up", self.given_up(), "disabled by failures or by a 410");
        warnings
    }

    /// Webhooks by their current state.
    pub(in crate::engine) fn webhooks(&self) -> WebhookCounts {
        let mut counts = WebhookCounts::default();
        for webhook in self.store.registry().webhooks() {
            match webhook.status {
                WebhookStatus::Paused => counts.paused += 1,
                WebhookStatus::Disabled => counts.disabled += 1,
                WebhookStatus::Enabled => {
                    counts.enabled += 1;
                    counts.circuit_open += i64::from(self.store.state(webhook.id).circuit != CircuitState::Closed);
                }
            }
        }
        counts
    }

    fn given_up(&self) -> i64 {
        let by_failures =
            |reason: Option<DisabledReason>| matches!(reason, Some(DisabledReason::Failures | DisabledReason::Gone));
        let registry = self.store.registry();
        registry.webhooks().filter(|webhook| by_failures(webhook.disabled_reason)).count() as i64
    }
}
