//! Points at which a mutant build breaks one promise, chosen by the environment.
//!
//! Invariant: without the feature `mutants` every point is the constant `false`, so a normal build contains no mutant.

/// Mutants that exist: a name for each `mutant!` point, and the promise it breaks.
pub const MUTANTS: [(&str, &str); 27] = [
    ("ack_before_commit", "An acknowledgement precedes durability: the write-ahead log is written and not synced."),
    ("answer_before_append", "A commit of a cluster is answered before the log has it."),
    ("blob_after_record", "The record that names a large payload is synced before the payload."),
    ("cancel_keeps_lane", "A delivery that is cancelled stays in its lane."),
    ("clock_step_taken", "A step of the wall clock is taken at once."),
    ("due_before_outcome", "The due entry of a fresh delivery is removed at dispatch, before its outcome is recorded."),
    ("erase_keeps_data", "Erasing an event leaves the last chunk of its payload."),
    ("expiry_ignored", "A delivery is sent after its `expires_at`."),
    ("failure_blocks_others", "One webhook's open circuit blocks every webhook."),
    ("follower_misses_state", "A follower is not told of commits to `state.redb`."),
    ("gap_unread", "A start does not read the fingerprints that no run's file covers."),
    ("idempotency_after_event", "The row that recognises an `event_id` is committed after its event."),
    ("in_flight_unbounded", "A webhook's `max_in_flight` does not bound its requests."),
    ("lost_wake_up", "A due time before the one a lane waits for does not wake the lane."),
    ("merge_misplaces", "Two runs of fingerprints merge without renumbering the blocks of the second."),
    ("narrowed_before_commit", "A partition is listed as sealed before its write-ahead log is in its file."),
    ("outcome_twice", "An outcome that met a full disk is recorded twice once there is space."),
    ("rate_ignored", "A webhook's `rate_limit_per_s` does not bound its rate."),
    ("removed_still_counts", "The outcome of a request to a removed webhook decides about its delivery."),
    ("renew_after_expiry", "An owner goes on with a lease that had run out."),
    ("retention_drops_live", "Retention counts from the first event of a partition instead of its last."),
    ("serve_after_tenure", "An owner begins deliveries after the end of its tenure, until a heartbeat ends it."),
    ("stop_forgets_records", "A stop says that the write-ahead log is not needed, and leaves its records there."),
    ("take_without_fence", "A node of a cluster becomes the owner without a fence in the log."),
    ("taken_counts_as_ours", "A number of the log that another owner has counts as this owner's."),
    ("trim_unapplied", "A trim of the log removes commits that a node which lives has not applied."),
    ("unreadable_is_absent", "An event in a file that fails is told to be missing."),
];

/// The mutants that the random walk over the protocol of a cluster finds (`tests/store/tenure_walk.rs`).
pub const FOUND_BY_WALK: [&str; 5] =
    ["renew_after_expiry", "serve_after_tenure", "take_without_fence", "taken_counts_as_ours", "trim_unapplied"];

/// The mutants that the oracle of the store finds. The simulation finds those that neither finds.
pub const FOUND_BY_ORACLE: [&str; 9] = [
    "answer_before_append",
    "blob_after_record",
    "cancel_keeps_lane",
    "erase_keeps_data",
    "follower_misses_state",
    "gap_unread",
    "merge_misplaces",
    "narrowed_before_commit",
    "removed_still_counts",
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
