//! Limits of requests, used by the readers and by the OpenAPI schemas.

/// Rows of a page if `limit` is absent.
pub const LIMIT_DEFAULT: u32 = 50;
/// Maximum of `limit`.
pub const LIMIT_MAX: u32 = 250;
/// Maximum length of `search`.
pub const SEARCH_CHARS_MAX: usize = 256;
/// Maximum time that a request for a feed waits for new deliveries.
pub const WAIT_S_MAX: u32 = 30;
/// Maximum length of an `Idempotency-Key`.
pub const KEY_CHARS_MAX: usize = 255;

/// Maximum size of a configuration body.
pub const CONFIG_BODY_BYTES_MAX: usize = 1024 * 1024;
/// Maximum size of a batch of events.
pub const BATCH_BODY_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Maximum size of a body that the route ignores.
pub const IGNORED_BODY_BYTES_MAX: usize = 64 * 1024;

/// Maximum length of the name of an app, a key, an organization or a webhook.
pub const NAME_CHARS_MAX: usize = 100;
/// Maximum length of the `uid` of an app or a webhook.
pub const UID_CHARS_MAX: usize = 256;
/// Maximum length of the `metadata` of an app or a webhook, as JSON.
pub const METADATA_BYTES_MAX: usize = 4_096;

/// Maximum number of events in a batch.
pub const BATCH_EVENTS_MAX: usize = 1_000;
/// Maximum length of an `event_id`.
pub const EVENT_ID_CHARS_MAX: usize = 256;
/// Maximum length of a `subject`.
pub const SUBJECT_CHARS_MAX: usize = 512;
/// Maximum length of an `ordering_key`.
pub const ORDERING_KEY_CHARS_MAX: usize = 255;
/// Maximum number of channels of an event or a webhook.
pub const CHANNELS_MAX: usize = 100;
/// Maximum length of a channel.
pub const CHANNEL_CHARS_MAX: usize = 128;
/// Maximum number of entries of `metadata`.
pub const METADATA_ENTRIES_MAX: usize = 50;
/// Maximum length of a name in `metadata`.
pub const METADATA_NAME_CHARS_MAX: usize = 128;
/// Maximum length of a value in `metadata`.
pub const METADATA_VALUE_CHARS_MAX: usize = 1_024;

/// Maximum number of rows of a series of figures.
pub const SERIES_ROWS_MAX: i64 = 1_500;
/// Maximum length of a webhook's description.
pub const DESCRIPTION_CHARS_MAX: usize = 2_000;
/// Maximum number of a webhook's headers, and of its secret headers.
pub const HEADERS_MAX: usize = 50;
/// Maximum length of the value of a webhook's header.
pub const HEADER_VALUE_BYTES_MAX: usize = 4_096;
/// Maximum length of a webhook's user name, password or token.
pub const CREDENTIAL_CHARS_MAX: usize = 4_096;
/// Minimum time of access by a portal link.
pub const PORTAL_LINK_S_MIN: u64 = 60;
/// Maximum time of access by a portal link.
pub const PORTAL_LINK_S_MAX: u64 = 86_400;
/// Maximum length of the URL that a portal leads back to.
pub const RETURN_URL_BYTES_MAX: usize = 512;
/// Maximum number of status codes and classes that one replay names.
pub const STATUS_CODES_MAX: usize = 50;
/// Maximum number of deliveries that one request sends again.
pub const RETRY_IDS_MAX: usize = 250;
/// Maximum number of a webhook's event types.
pub const EVENT_TYPES_MAX: usize = 500;
/// Maximum length of a certificate chain or a private key in PEM.
pub const PEM_BYTES_MAX: usize = 64 * 1024;
/// Maximum number of retries in a schedule.
pub const SCHEDULE_STEPS_MAX: usize = 1_000;
/// Maximum wait before a retry.
pub const SCHEDULE_STEP_S_MAX: u64 = 30 * 86_400;
/// Minimum timeout of a request to a webhook.
pub const TIMEOUT_MS_MIN: u64 = 1_000;
/// Maximum timeout of a request to a webhook.
pub const TIMEOUT_MS_MAX: u64 = 120_000;
/// Maximum of a webhook's `max_in_flight`.
pub const IN_FLIGHT_MAX: u64 = 1_000;
/// Minimum rate of requests.
pub const RATE_PER_S_MIN: f64 = 0.001;
/// Maximum rate of requests.
pub const RATE_PER_S_MAX: f64 = 100_000.0;
/// Maximum time of failing after which a webhook is disabled.
pub const DISABLE_AFTER_S_MAX: u64 = 366 * 86_400;
/// Maximum time that an old secret signs after a rotation.
pub const OVERLAP_S_MAX: u64 = 30 * 86_400;
