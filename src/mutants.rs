//! Points at which a mutant build breaks one promise, chosen by the environment.
//!
//! Invariant: without the feature `mutants` every point is the constant `false`, so a normal build contains no mutant.

/// Mutants that exist: a name for each `mutant!` point, and the promise it breaks.
pub const MUTANTS: [(&str, &str); 8] = [
    ("ack_before_commit", "An acknowledgement precedes durability: the write-ahead log is written and not synced."),
    ("due_before_outcome", "The due entry of a fresh delivery is removed at dispatch, before its outcome is recorded."),
    ("failure_blocks_others", "One webhook's open circuit blocks every webhook."),
    ("idempotency_after_event", "The row that recognises an `event_id` is committed after its event."),
    ("lost_wake_up", "A due time before the one a lane waits for does not wake the lane."),
    ("narrowed_before_commit", "A partition is listed as sealed before its write-ahead log is in its file."),
    ("outcome_twice", "An outcome that met a full disk is recorded twice once there is space."),
    ("retention_drops_live", "Retention counts from the first event of a partition instead of its last."),
];

/// The environment variable that selects a mutant.
pub const MUTANT_VARIABLE: &str = "POSTRIDER_MUTANT";

/// Whether this process runs the mutant `name`. The environment is read once.
#[cfg(feature = "mutants")]
pub fn is_selected(name: &str) -> bool {
    static SELECTED: std::sync::OnceLock<Option<String>> = std::sync::OnceLock::new();
    SELECTED.get_or_init(|| std::env::var(MUTANT_VARIABLE).ok()).as_deref() == Some(name)
}

/// True in a mutant build that runs this mutant, otherwise the constant `false`.
macro_rules! mutant {
    ($name:literal) => {{
        #[cfg(feature = "mutants")]
        let is_selected = $crate::mutants::is_selected($name);
        #[cfg(not(feature = "mutants"))]
        let is_selected = false;
        is_selected
    }};
}
pub(crate) use mutant;
