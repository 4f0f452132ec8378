//! Shares of the request slots: how many requests a group of webhooks may have in flight.
//!
//! A group is an origin (scheme, host and port) or an app. The first two fifths of the slots are free to all. Above
//! them, a group may have the more requests in flight, the more of them its receivers answer. So a silent origin or app
//! leaves slots to the others, and a busy one that answers within a second is not limited. Of many silent groups each has
//! a slot, so the last slots are reserved for webhooks that were answered.

/// Slots below which nothing is divided.
pub const DIVIDED_SLOTS_MIN: usize = 100;
/// Parts of the slots in use from which a group is limited, and the part that a silent group may have then.
const STAGES: [(f64, usize); 4] = [(0.97, 1_000), (0.9, 64), (0.75, 16), (0.4, 4)];
/// Requests in flight for each answer of the last second.
const IN_FLIGHT_PER_ANSWER: usize = 2;
/// Part of the slots in use up to which a webhook whose last request was answered is not held to the share of its groups.
const PROVEN_PART: f64 = 0.9;
/// The same part for the first request of a webhook, so that a new one at a silent app shows whether it answers.
const UNTRIED_PART: f64 = 0.75;

/// Part of the slots in use from which the rest is reserved for webhooks whose last request was answered.
const RESERVED_PART: f64 = 0.98;

/// Part of the bytes of bodies up to which a webhook may send whose last request was not answered.
const UNPROVEN_BODIES_PART: f64 = 0.875;

/// Maximum requests in flight of a group that got `answers` in the last second, with `taken` of `slots` in use.
pub fn group_limit(answers: usize, taken: usize, slots: usize) -> usize {
    let part = taken as f64 / slots.max(1) as f64;
    let stage = STAGES.iter().find(|(from, _)| part >= *from);
    match stage {
        Some((_, parts)) if slots >= DIVIDED_SLOTS_MIN => (slots / parts).max(1).max(answers * IN_FLIGHT_PER_ANSWER),
        _ => usize::MAX,
    }
}

/// Whether an app that has `own` bytes of bodies in flight may send one more body, with `taken` of `bytes` in use. An app
/// without any may always. Answers do not raise the share: two fifths of the bytes are more than a fast receiver needs.
pub fn has_body_share(own: usize, taken: usize, bytes: usize) -> bool {
    own == 0 || own < group_limit(0, taken, bytes)
}

/// Whether the bytes of all bodies leave room for one more, with `taken` of `bytes` in use. The last of them are reserved
/// for webhooks whose last request was answered.
pub fn has_body_room(was_answered: Option<bool>, taken: usize, bytes: usize) -> bool {
    let part = if was_answered == Some(true) { 1.0 } else { UNPROVEN_BODIES_PART };
    (taken as f64) < part * bytes as f64
}

/// Whether a webhook may send past the limits of its groups, because its last request was answered, or because it sends
/// its first. `was_answered` is `None` if no request has ended.
pub fn is_exempt(was_answered: Option<bool>, in_flight: usize, taken: usize, slots: usize) -> bool {
    let part = match (was_answered, in_flight) {
        (Some(true), _) => PROVEN_PART,
        (None, 0) => UNTRIED_PART,
        _ => return false,
    };
    (taken as f64) < part * slots as f64
}

/// Whether a slot that is free is reserved for other webhooks than this one. `was_answered` is `None` if no request of it
/// has ended.
pub fn is_reserved(was_answered: Option<bool>, taken: usize, slots: usize) -> bool {
    slots >= DIVIDED_SLOTS_MIN && was_answered != Some(true) && taken as f64 >= RESERVED_PART * slots as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silent_groups_one_after_another_leave_slots() {
        let slots = 1_000;
        let mut taken = 0;
        let shares: Vec<usize> = (0..12)
            .map(|_| {
                let mut own = 0;
                while taken < slots && own < group_limit(0, taken, slots) {
                    (own, taken) = (own + 1, taken + 1);
                }
                own
            })
            .collect();
        assert_eq!(shares, [400, 250, 100, 62, 62, 26, 15, 15, 15, 15, 10, 1]);
        assert!(taken < slots);
    }

    #[test]
    fn a_group_that_answers_has_the_slots_that_it_uses() {
        assert_eq!(group_limit(0, 399, 1_000), usize::MAX);
        assert_eq!(group_limit(400, 600, 1_000), 800);
        assert_eq!(group_limit(2_000, 990, 1_000), 4_000);
        assert_eq!(group_limit(0, 600, 1_000), 250);
    }

    #[test]
    fn bodies_of_silent_apps_leave_bytes_to_others() {
        let (bytes, body) = (240 << 20, 4 << 20);
        let mut taken = 0;
        let apps: Vec<usize> = (0..40)
            .map(|_| {
                let mut own = 0;
                while has_body_room(Some(false), taken, bytes) && has_body_share(own, taken, bytes) {
                    (own, taken) = (own + body, taken + body);
                }
                own / body
            })
            .collect();
        assert_eq!(apps[..4], [24, 15, 6, 4], "{apps:?}");
        assert!(!has_body_room(None, taken, bytes) && has_body_room(Some(true), taken, bytes));
        assert!(has_body_share(0, taken, bytes) && !has_body_share(24 * body, taken, bytes));
    }

    #[test]
    fn few_slots_are_not_divided() {
        assert_eq!(group_limit(0, 99, 99), usize::MAX);
    }

    #[test]
    fn a_webhook_that_answers_is_exempt_until_slots_are_scarce() {
        assert!(is_exempt(Some(true), 5, 899, 1_000));
        assert!(!is_exempt(Some(true), 5, 900, 1_000));
        assert!(!is_exempt(Some(false), 0, 0, 1_000));
        assert!(is_exempt(None, 0, 749, 1_000) && !is_exempt(None, 0, 750, 1_000) && !is_exempt(None, 1, 0, 1_000));
    }

    #[test]
    fn the_last_slots_are_reserved_for_webhooks_that_were_answered() {
        assert!(is_reserved(None, 980, 1_000) && is_reserved(Some(false), 980, 1_000));
        assert!(!is_reserved(Some(true), 999, 1_000) && !is_reserved(None, 979, 1_000));
        assert!(!is_reserved(None, 99, 99));
    }
}
