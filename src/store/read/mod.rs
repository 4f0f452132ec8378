//! Reads of the store: lists, details, due deliveries, counts and figures.
pub mod audit;
pub mod counts;
pub mod details;
pub mod due;
pub mod expired;
pub mod failed;
pub mod feed;
pub mod figures;
pub mod jobs;
pub mod lists;
pub mod lookup;
pub mod named;
pub mod newest_first;
pub mod query;
pub mod replay_scope;
pub mod waiting;
