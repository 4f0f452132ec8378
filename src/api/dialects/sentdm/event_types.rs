//! A webhook's event types as sent.dm names them: families, with a filter of sub-types for some of them.
//!
//! A family `message` stands for `message` and every type below it. With the filter `["read"]` it stands for
//! `message.read`. Any other name stands for itself.

use serde_json::value::RawValue;
use serde_json::{Map, Value, json};

use crate::api::error::FieldError;
use crate::api::fields::{FieldErrors, FieldResult};
use crate::api::native::webhook_form;
use crate::model::Webhook;
use crate::model::webhook::FieldSet;
use crate::rules::patterns;

const ALL: &str = "*";

/// `event_types` and `event_filters`.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct EventFamilies {
    pub types: Vec<String>,
    /// Sub-types by family, in the order of the families.
    pub filters: Map<String, Value>,
    /// Names that look like families and stand for themselves only, because the webhook was made natively.
    pub exact: Vec<String>,
}

impl EventFamilies {
    /// The types that a webhook is shown with. Only a webhook with bodies of sent.dm's shape has families: any other one
    /// shows its patterns.
    pub fn of(webhook: &Webhook) -> EventFamilies {
        let own = &webhook.event_types;
        if own.is_empty() {
            return EventFamilies { types: vec![ALL.to_owned()], ..EventFamilies::default() };
        }
        if webhook.field_set != FieldSet::Sent {
            let exact = own.iter().filter(|name| !name.contains(['.', '*'])).cloned().collect();
            return EventFamilies { types: own.clone(), filters: Map::new(), exact };
        }
        let has = |pattern: &str| own.iter().any(|own| own == pattern);
        let is_whole = |family: &str| has(family) && has(&whole(family));
        let mut shown = EventFamilies::default();
        for pattern in own {
            let stem = pattern.strip_suffix(".**").unwrap_or(pattern);
            match pattern.split_once('.') {
                _ if !stem.contains('.') && is_whole(stem) => shown.name(stem),
                Some((family, sub)) if patterns::is_type(pattern) && !family.is_empty() && !has(family) => {
                    shown.name(family);
                    // A sub-type that begins with the name of its family is shown in full, as it is read.
                    let sub = if full_name(family, sub) == *pattern { sub } else { pattern };
                    let subs = shown.filters.entry(family).or_insert_with(|| json!([]));
                    subs.as_array_mut().into_iter().for_each(|subs| subs.push(sub.into()));
                }
                _ => {
                    shown.exact.extend((!pattern.contains(['.', '*'])).then(|| pattern.clone()));
                    shown.name(pattern);
                }
            }
        }
        shown
    }

    fn name(&mut self, name: &str) {
        if !self.types.iter().any(|known| known == name) {
            self.types.push(name.to_owned());
        }
    }

    /// `event_filters` as shown.
    pub fn shown_filters(&self) -> Option<&Map<String, Value>> {
        Some(&self.filters).filter(|filters| !filters.is_empty())
    }

    /// Removes the filters of families that are not named.
    pub fn drop_unnamed(&mut self) {
        let types = &self.types;
        self.filters.retain(|family, _| types.iter().any(|name| name == family));
    }

    /// The native patterns. An unnamed family and a sub-type that makes no event type are mistakes.
    pub fn patterns(&self, field_errors: &mut FieldErrors) -> Vec<String> {
        for (family, subs) in &self.filters {
            if !self.types.contains(family) || family.contains(['.', '*']) {
                field_errors.push(wrong(family, "is no family of event_types"));
            }
            for sub in strings(subs).filter(|sub| !patterns::is_type(&full_name(family, sub))) {
                field_errors.push(wrong(family, &format!("has a sub-type {sub:?} that is no part of an event type")));
            }
        }
        let mut patterns = Vec::new();
        for name in self.types.iter().filter(|_| self.types != [ALL]) {
            let subs: Vec<&str> = self.filters.get(name).into_iter().flat_map(strings).collect();
            match name.contains(['.', '*']) {
                true => patterns.push(name.clone()),
                // A name that is sent back as it is shown is not widened to a family.
                false if subs.is_empty() && self.exact.contains(name) => patterns.push(name.clone()),
                false if subs.is_empty() => patterns.extend([name.clone(), whole(name)]),
                false => patterns.extend(subs.iter().map(|sub| full_name(name, sub))),
            }
        }
        let mut seen = std::collections::HashSet::new();
        patterns.retain(|pattern| seen.insert(pattern.clone()));
        patterns
    }
}

/// A name in `event_types`: an event type, a family or a pattern.
pub fn read_name(raw: &RawValue) -> FieldResult<String> {
    let name = webhook_form::read_pattern(raw)?;
    match name.contains(['.', '*']) || patterns::is_pattern(&whole(&name)) {
        true => Ok(name),
        false => Err("is too long for a family".to_owned()),
    }
}

/// The pattern of every type below a family.
fn whole(family: &str) -> String {
    format!("{family}.**")
}

/// `message.read` for the family `message` and the sub-type `read`, or `message.read` itself.
fn full_name(family: &str, sub: &str) -> String {
    match sub.strip_prefix(family).is_some_and(|rest| rest.starts_with('.')) {
        true => sub.to_owned(),
        false => format!("{family}.{sub}"),
    }
}

fn strings(value: &Value) -> impl Iterator<Item = &str> {
    value.as_array().into_iter().flatten().filter_map(Value::as_str)
}

fn wrong(family: &str, detail: &str) -> FieldError {
    FieldError::new("/event_filters", format!("{family:?} {detail}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Id;

    fn families(types: Value, filters: Value) -> EventFamilies {
        let types = types.as_array().unwrap().iter().map(|name| name.as_str().unwrap().to_owned()).collect();
        EventFamilies { types, filters: filters.as_object().cloned().unwrap_or_default(), exact: Vec::new() }
    }

    fn webhook(types: &[&str], field_set: FieldSet) -> Webhook {
        let event_types = types.iter().map(|name| (*name).to_owned()).collect();
        Webhook { event_types, field_set, ..Webhook::new(Id::MIN, Id::MIN) }
    }

    #[test]
    fn families_and_filters_are_read_back_as_they_were_given() {
        // (event_types, event_filters, native patterns)
        for (types, filters, expected) in [
            (json!(["message"]), json!(null), json!(["message", "message.**"])),
            (
                json!(["messages", "template"]),
                json!(null),
                json!(["messages", "messages.**", "template", "template.**"]),
            ),
            (json!(["message"]), json!({"message": ["read", "sent"]}), json!(["message.read", "message.sent"])),
            (
                json!(["template", "message"]),
                json!({"message": ["read"]}),
                json!(["template", "template.**", "message.read"]),
            ),
            (json!(["*"]), json!(null), json!([])),
            (json!(["*", "message"]), json!(null), json!(["*", "message", "message.**"])),
            (json!(["order.*"]), json!(null), json!(["order.*"])),
        ] {
            let given = families(types, filters);
            let mut field_errors = FieldErrors::new();
            let patterns = given.patterns(&mut field_errors);
            assert_eq!((json!(patterns), field_errors), (expected, vec![]), "{given:?}");
            let patterns: Vec<&str> = patterns.iter().map(String::as_str).collect();
            assert_eq!(EventFamilies::of(&webhook(&patterns, FieldSet::Sent)), given);
        }
        assert_eq!(families(json!([]), json!(null)).patterns(&mut Vec::new()), Vec::<String>::new());
    }

    #[test]
    fn a_name_with_a_dot_is_one_type_and_shown_as_a_filter() {
        let given = families(json!(["message.read"]), json!(null));
        assert_eq!(given.patterns(&mut Vec::new()), ["message.read"]);
        let shown = EventFamilies::of(&webhook(&["message.read"], FieldSet::Sent));
        assert_eq!(shown, families(json!(["message"]), json!({"message": ["read"]})));
        assert_eq!(shown.patterns(&mut Vec::new()), ["message.read"]);
        let full = families(json!(["message"]), json!({"message": ["message.read"]}));
        assert_eq!(full.patterns(&mut Vec::new()), ["message.read"]);
    }

    #[test]
    fn a_name_that_is_no_family_stays_exact_when_it_is_sent_back_beside_others() {
        for field_set in [FieldSet::Sent, FieldSet::Standard] {
            let mut shown = EventFamilies::of(&webhook(&["message", "message.read"], field_set));
            shown.types.push("template".to_owned());
            let expected = ["message", "message.read", "template", "template.**"];
            assert_eq!(shown.patterns(&mut Vec::new()), expected, "{field_set:?}");
        }
    }

    #[test]
    fn a_sub_type_that_begins_with_its_family_is_read_back() {
        for pattern in ["message.message.read", "message.messages", "message.message"] {
            let shown = EventFamilies::of(&webhook(&[pattern], FieldSet::Sent));
            assert_eq!(shown.types, ["message"], "{pattern}");
            assert_eq!(shown.patterns(&mut Vec::new()), [pattern], "{shown:?}");
        }
    }

    #[test]
    fn patterns_that_are_no_family_are_shown_as_they_are() {
        for (types, field_set) in [
            (vec!["message", "message.**"], FieldSet::Standard),
            (vec!["message", "message.read"], FieldSet::Sent),
            (vec!["message.**"], FieldSet::Sent),
            (vec!["a.*", "*"], FieldSet::Sent),
            (vec![".a"], FieldSet::Sent),
        ] {
            let shown = EventFamilies::of(&webhook(&types, field_set));
            assert_eq!((shown.types.iter().map(String::as_str).collect::<Vec<_>>(), shown.filters.len()), (types, 0));
        }
    }

    #[test]
    fn a_filter_needs_its_family_and_event_types() {
        for (types, filters) in [
            (json!(["message"]), json!({"template": ["x"]})),
            (json!(["*"]), json!({"message": ["read"]})),
            (json!(["message.read"]), json!({"message.read": ["x"]})),
            (json!(["message"]), json!({"message": ["*"]})),
            (json!(["message"]), json!({"message": ["a b"]})),
        ] {
            let mut field_errors = FieldErrors::new();
            let given = families(types, filters);
            given.patterns(&mut field_errors);
            assert_eq!(field_errors.len(), 1, "{given:?}: {field_errors:?}");
            assert_eq!(field_errors[0].pointer, "/event_filters");
        }
    }
}
