//! Matches events against a webhook's event types, type patterns and channels.
//!
//! Invariant: types of the daemon itself (`postrider.*`) reach only a webhook with a pattern that names them.

/// Longest event type and longest pattern, in bytes.
pub const TYPE_BYTES_MAX: usize = 256;

/// Prefix of the types that the daemon publishes about itself.
pub const SYSTEM_PREFIX: &str = "postrider.";

/// Whether `text` is an event type: 1 to 256 of `[a-zA-Z0-9_.-]`.
pub fn is_type(text: &str) -> bool {
    (1..=TYPE_BYTES_MAX).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-'))
}

/// Whether `pattern` is one of the four documented forms: an exact type, `stem.*`, `stem.**` or `*`.
pub fn is_pattern(pattern: &str) -> bool {
    if pattern.len() > TYPE_BYTES_MAX {
        return false;
    }
    match Pattern::of(pattern) {
        Pattern::All => true,
        Pattern::One(stem) | Pattern::Deep(stem) => is_type(stem),
        Pattern::Exact(text) => is_type(text),
    }
}

/// Whether a pattern covers the type. `*` covers all but the daemon's own types. `order.*` covers exactly one further
/// segment, and `order.**` one or more. Neither covers `order` itself.
pub fn matches(pattern: &str, event_type: &str) -> bool {
    match Pattern::of(pattern) {
        Pattern::All => !is_system(event_type),
        Pattern::Exact(text) => text == event_type,
        Pattern::One(stem) => below(stem, event_type).is_some_and(|rest| !rest.contains('.')),
        Pattern::Deep(stem) => below(stem, event_type).is_some(),
    }
}

/// Whether a webhook with these patterns wants the type. An empty list means the same as `*`.
pub fn wants(patterns: &[String], event_type: &str) -> bool {
    if patterns.is_empty() {
        return !is_system(event_type);
    }
    patterns.iter().any(|pattern| matches(pattern, event_type))
}

/// Whether a webhook on these channels gets an event on those. A webhook without channels gets all events. Any other
/// one needs a channel in common.
pub fn wants_channels(webhook: &[String], event: &[String]) -> bool {
    webhook.is_empty() || webhook.iter().any(|channel| event.contains(channel))
}

/// Whether the daemon makes events of this type about itself.
pub fn is_system(event_type: &str) -> bool {
    event_type.starts_with(SYSTEM_PREFIX)
}

/// The parts of a pattern. The borrowed text is the part before the star.
enum Pattern<'a> {
    All,
    Exact(&'a str),
    One(&'a str),
    Deep(&'a str),
}

impl<'a> Pattern<'a> {
    fn of(pattern: &'a str) -> Self {
        if pattern == "*" {
            Pattern::All
        } else if let Some(stem) = pattern.strip_suffix(".**") {
            Pattern::Deep(stem)
        } else if let Some(stem) = pattern.strip_suffix(".*") {
            Pattern::One(stem)
        } else {
            Pattern::Exact(pattern)
        }
    }
}

/// The rest of the type after `stem.`. `None` if the rest is empty or the type has no such prefix.
fn below<'t>(stem: &str, event_type: &'t str) -> Option<&'t str> {
    event_type.strip_prefix(stem)?.strip_prefix('.').filter(|rest| !rest.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(items: &[&str]) -> Vec<String> {
        items.iter().map(|item| item.to_string()).collect()
    }

    #[test]
    fn which_texts_are_types() {
        let longest = "a".repeat(TYPE_BYTES_MAX);
        for good in ["a", "invoice.paid", "A-1_b.c", longest.as_str()] {
            assert!(is_type(good), "{good}");
        }
        let long = "a".repeat(TYPE_BYTES_MAX + 1);
        for bad in ["", "a b", "a*", "größe", "a/b", "a\n", long.as_str()] {
            assert!(!is_type(bad), "{bad}");
        }
    }

    #[test]
    fn which_texts_are_patterns() {
        for good in ["*", "order.paid", "order.*", "order.**", "a.b.*", "a.b.**"] {
            assert!(is_pattern(good), "{good}");
        }
        let long = format!("{}.**", "a".repeat(TYPE_BYTES_MAX));
        for bad in ["", "**", ".*", "*.paid", "a.*.b", "a*", "a.***", "a. *", long.as_str()] {
            assert!(!is_pattern(bad), "{bad}");
        }
    }

    #[test]
    fn stars_cover_their_documented_types() {
        assert!(matches("order.*", "order.paid"));
        assert!(!matches("order.*", "order.paid.late"));
        assert!(!matches("order.*", "order"));
        assert!(!matches("order.*", "order."));
        assert!(!matches("order.*", "orders.paid"));
        assert!(matches("order.**", "order.paid"));
        assert!(matches("order.**", "order.paid.late"));
        assert!(!matches("order.**", "order"));
        assert!(!matches("order.**", "orders.paid"));
        assert!(matches("order.paid", "order.paid"));
        assert!(!matches("order.paid", "order.paid.late"));
        assert!(!matches("order.paid", "Order.paid"));
        assert!(matches("*", "a.b.c"));
    }

    #[test]
    fn own_events_reach_only_webhooks_that_name_them() {
        let own = "postrider.webhook.failing";
        for deaf in [&[][..], &["*"], &["order.**"], &["postrider.*"]] {
            assert!(!wants(&list(deaf), own), "{deaf:?}");
        }
        for keen in ["postrider.**", "postrider.webhook.*", own] {
            assert!(wants(&list(&["order.*", keen]), own), "{keen}");
        }
        assert!(wants(&[], "order.paid"));
        assert!(wants(&[], "postriders.paid"));
        assert!(wants(&list(&["x", "order.*"]), "order.paid"));
        assert!(!wants(&list(&["x"]), "order.paid"));
    }

    #[test]
    fn channels_need_one_in_common() {
        assert!(wants_channels(&[], &[]));
        assert!(wants_channels(&[], &list(&["eu"])));
        assert!(wants_channels(&list(&["eu", "us"]), &list(&["us"])));
        assert!(!wants_channels(&list(&["eu"]), &list(&["us"])));
        assert!(!wants_channels(&list(&["eu"]), &[]));
    }
}
