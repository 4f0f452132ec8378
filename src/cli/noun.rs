//! The nouns that have ids, as the command line names them: the prefix of their ids, their word and their verb.

use serde_json::{Map, Value};

use super::Exit;
use crate::model::id::IdKind;
use crate::model::{self, delivery::ReplayJob, portal::PortalLink};

/// Characters of a UUID in its hyphenated form.
const UUID_CHARS: usize = 36;

/// A noun with ids.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Noun {
    Event,
    Webhook,
    Delivery,
    Attempt,
    Key,
    App,
    Organization,
    Replay,
    PortalLink,
}

impl Noun {
    pub const ALL: [Noun; 9] = [
        Noun::Event,
        Noun::Webhook,
        Noun::Delivery,
        Noun::Attempt,
        Noun::Key,
        Noun::App,
        Noun::Organization,
        Noun::Replay,
        Noun::PortalLink,
    ];

    /// The prefix of its ids.
    pub const fn prefix(self) -> &'static str {
        match self {
            Noun::Event => model::Event::PREFIX,
            Noun::Webhook => model::Webhook::PREFIX,
            Noun::Delivery => model::Delivery::PREFIX,
            Noun::Attempt => model::Attempt::PREFIX,
            Noun::Key => model::ApiKey::PREFIX,
            Noun::App => model::App::PREFIX,
            Noun::Organization => model::Organization::PREFIX,
            Noun::Replay => ReplayJob::PREFIX,
            Noun::PortalLink => PortalLink::PREFIX,
        }
    }

    /// The noun with its article.
    pub const fn word(self) -> &'static str {
        match self {
            Noun::Event => "an event",
            Noun::Webhook => "a webhook",
            Noun::Delivery => "a delivery",
            Noun::Attempt => "an attempt",
            Noun::Key => "a key",
            Noun::App => "an app",
            Noun::Organization => "an organization",
            Noun::Replay => "a replay",
            Noun::PortalLink => "a portal link",
        }
    }

    /// The command whose verbs take its ids.
    pub const fn command(self) -> &'static str {
        match self {
            Noun::Event => "event",
            Noun::Webhook => "webhook",
            Noun::Delivery => "delivery",
            Noun::Attempt => "attempt",
            Noun::Key => "key",
            Noun::App => "app",
            Noun::Organization => "org",
            Noun::Replay => "replay",
            Noun::PortalLink => "app",
        }
    }

    /// The collection below `/v1`.
    pub const fn collection(self) -> &'static str {
        match self {
            Noun::Event => "events",
            Noun::Webhook => "webhooks",
            Noun::Delivery => "deliveries",
            Noun::Attempt => "attempts",
            Noun::Key => "keys",
            Noun::App => "apps",
            Noun::Organization => "organizations",
            Noun::Replay => "replays",
            Noun::PortalLink => "portal-links",
        }
    }

    /// The noun that a text's prefix names, and the rest of the text.
    pub fn of_text(text: &str) -> Option<(Noun, &str)> {
        Self::ALL.into_iter().find_map(|noun| Some((noun, text.strip_prefix(noun.prefix())?)))
    }

    /// The noun of the objects on which an action of the audit acts. `None` if they have no id.
    pub fn of_action(action: &str) -> Option<Noun> {
        match action.split_once('.')?.0 {
            "organization" => Some(Noun::Organization),
            "portal_link" => Some(Noun::PortalLink),
            word => Self::ALL.into_iter().find(|noun| *noun != Noun::PortalLink && noun.command() == word),
        }
    }

    /// The noun whose id a member holds in an object of `self`.
    fn of_member(self, name: &str) -> Option<Noun> {
        match name {
            "id" => Some(self),
            // An event's own `event_id` is the producer's.
            "event_id" if self != Noun::Event => Some(Noun::Event),
            "webhook_id" => Some(Noun::Webhook),
            "delivery_id" | "replay_of" => Some(Noun::Delivery),
            "attempt_id" | "retry_of" => Some(Noun::Attempt),
            "app_id" => Some(Noun::App),
            "organization_id" => Some(Noun::Organization),
            "replay_id" => Some(Noun::Replay),
            _ => None,
        }
    }
}

/// Whether the text is a whole id.
pub fn is_id(text: &str) -> bool {
    let is_right = |(i, c): (usize, char)| if matches!(i, 8 | 13 | 18 | 23) { c == '-' } else { c.is_ascii_hexdigit() };
    text.len() == UUID_CHARS && text.chars().enumerate().all(is_right)
}

/// An id as people read it. Other texts stay as they are.
pub fn shown(prefix: &str, text: String) -> String {
    if is_id(&text) { format!("{prefix}{text}") } else { text }
}

/// An object with the ids of its members as people read them. Payloads stay as they are.
pub fn with_prefixes(value: Value, of: Noun) -> Value {
    let Value::Object(members) = value else { return value };
    let member = |(name, value): (String, Value)| {
        let value = match value {
            Value::String(text) => match of.of_member(&name) {
                Some(noun) => shown(noun.prefix(), text).into(),
                None => Value::String(text),
            },
            // The lists inside an answer are of other nouns, which have no id of their own.
            Value::Array(entries) if name == "webhooks" => {
                entries.into_iter().map(|entry| with_prefixes(entry, Noun::Webhook)).collect()
            }
            other => other,
        };
        (name, value)
    };
    Value::Object(members.into_iter().map(member).collect::<Map<_, _>>())
}

/// The error for a text that is an id, or the beginning of one, of another noun.
pub fn of_another_kind(text: &str, wanted: Noun, is: Noun) -> Exit {
    let exit = Exit::usage(format!("{text} is {}, and {} is needed here", is.word(), wanted.word()));
    match is {
        Noun::Key | Noun::Organization | Noun::PortalLink => exit,
        _ => exit.hint(format!("`postrider {} get {text}` shows it", is.command())),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const ID: &str = "019cbd70-9d78-7320-aa3a-de3497964cb8";

    #[test]
    fn every_prefix_names_its_noun() {
        for noun in Noun::ALL {
            let text = format!("{}{ID}", noun.prefix());
            assert_eq!(Noun::of_text(&text), Some((noun, ID)));
        }
        assert_eq!(Noun::of_text(ID), None);
    }

    #[test]
    fn ids_get_their_prefix_and_payloads_stay() {
        let event = json!({"id": ID, "event_id": ID, "app_id": ID, "replay_of": null, "data": {"webhook_id": ID},
            "webhooks": [{"webhook_id": ID, "reason": "filter"}]});
        let expected = json!({"id": format!("evt_{ID}"), "event_id": ID, "app_id": format!("app_{ID}"),
            "replay_of": null, "data": {"webhook_id": ID},
            "webhooks": [{"webhook_id": format!("whk_{ID}"), "reason": "filter"}]});
        assert_eq!(with_prefixes(event, Noun::Event), expected);
        let delivery = with_prefixes(json!({"id": ID, "event_id": ID}), Noun::Delivery);
        assert_eq!(delivery, json!({"id": format!("dlv_{ID}"), "event_id": format!("evt_{ID}")}));
        let request = with_prefixes(json!({"attempt_id": ID}), Noun::Attempt);
        assert_eq!(request, json!({"attempt_id": format!("att_{ID}")}));
        let link = with_prefixes(json!({"id": ID, "app_id": ID}), Noun::PortalLink);
        assert_eq!(link, json!({"id": format!("lnk_{ID}"), "app_id": format!("app_{ID}")}));
    }

    #[test]
    fn only_a_whole_uuid_is_an_id() {
        assert!(is_id(ID) && !is_id(&ID[1..]) && !is_id("019cbd70x9d78-7320-aa3a-de3497964cb8"));
        assert_eq!(shown("evt_", "-".into()), "-");
    }
}
