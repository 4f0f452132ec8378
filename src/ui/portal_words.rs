//! Errors in the words of a tenant.
//!
//! Invariant: no text names a setting, a file, a scope or the machine of the operator.

use crate::api::{ApiError, FieldError};

/// The setting that the refusal of an address names to operators.
const ADDRESS_SETTING: &str = "delivery.allow";

/// A mistake in a field.
pub fn mistake(field_error: FieldError) -> FieldError {
    match field_error.detail.contains(ADDRESS_SETTING) {
        true => FieldError { detail: "this address is not allowed".to_owned(), ..field_error },
        false => field_error,
    }
}

/// A request that was refused.
pub fn refusal(api_error: &ApiError) -> &str {
    match api_error.code {
        "scope_missing" => "your access does not allow this",
        "quota_exceeded" => "this is more than you may have: ask the operator of these pages",
        _ if api_error.status.is_server_error() => "this did not work, and it is not your fault: try again in a while",
        _ => &api_error.detail,
    }
}

#[cfg(test)]
mod tests {
    use http::StatusCode;

    use super::*;

    #[test]
    fn errors_of_the_machine_and_its_settings_are_not_shown() {
        let error = |status, code, detail: &str| ApiError::new(status, code, detail);
        for hidden in [
            error(StatusCode::SERVICE_UNAVAILABLE, "disk_full", "/var/lib/postrider has 3 MB left"),
            error(StatusCode::INTERNAL_SERVER_ERROR, "internal", "partitions/7.redb: damaged"),
            error(StatusCode::FORBIDDEN, "scope_missing", "this key, ops, does not have the scope webhooks:write"),
            error(StatusCode::TOO_MANY_REQUESTS, "quota_exceeded", "the quota webhooks_per_app of 5 is used up"),
        ] {
            assert_ne!(refusal(&hidden), hidden.detail);
        }
        let shown = error(StatusCode::NOT_FOUND, "not_found", "no such webhook");
        assert_eq!(refusal(&shown), "no such webhook");
        let refused = mistake(FieldError::new("/url", crate::rules::target::ADDRESS_REFUSED));
        assert_eq!((refused.pointer.as_str(), refused.detail.as_str()), ("/url", "this address is not allowed"));
    }
}
