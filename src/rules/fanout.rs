//! Selects the webhooks of an app that receive an event.
//!
//! Invariant: `wanted` gives exactly the webhooks for which `decide` says `Wanted`, in the order of their ids.

use std::collections::HashMap;
use std::sync::Arc;

use crate::model::webhook::{Webhook, WebhookStatus};

use super::filter::Filter;
use super::patterns;

/// Outcome of the fan-out of an event for one webhook.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    Wanted,
    /// Disabled webhooks get no deliveries.
    Disabled,
    Type,
    Channel,
    Filter,
}

/// The compiled webhooks of one app: exact types are looked up, and only patterns are walked.
#[derive(Debug, Default)]
pub struct Fanout {
    members: Vec<FanoutWebhook>,
    by_type: HashMap<String, Vec<u32>>,
    by_pattern: Vec<u32>,
}

#[derive(Debug)]
struct FanoutWebhook {
    webhook: Arc<Webhook>,
    gate: CompiledFilter,
}

/// A webhook's compiled filter. A filter is parsed before it is stored. If a stored filter does not parse, no event
/// passes.
#[derive(Debug)]
enum CompiledFilter {
    Open,
    Match(Box<Filter>),
    Shut,
}

impl Fanout {
    /// Compiles an app's webhooks, given oldest first.
    pub fn of<'a>(webhooks: impl Iterator<Item = &'a Arc<Webhook>>) -> Fanout {
        let mut fanout = Fanout::default();
        for webhook in webhooks {
            let number = fanout.members.len() as u32;
            if webhook.event_types.is_empty() || webhook.event_types.iter().any(|p| p.contains('*')) {
                fanout.by_pattern.push(number);
            } else {
                for exact in &webhook.event_types {
                    let of_type = fanout.by_type.entry(exact.clone()).or_default();
                    if of_type.last() != Some(&number) {
                        of_type.push(number);
                    }
                }
            }
            fanout.members.push(FanoutWebhook { webhook: webhook.clone(), gate: CompiledFilter::of(webhook) });
        }
        fanout
    }

    /// The webhooks that get the event.
    pub fn wanted<'a>(
        &'a self,
        event_type: &'a str,
        channels: &'a [String],
        data: &'a [u8],
    ) -> impl Iterator<Item = &'a Arc<Webhook>> {
        let exact = self.by_type.get(event_type).map(Vec::as_slice).unwrap_or_default();
        merged(exact, &self.by_pattern)
            .map(|number| &self.members[number as usize])
            .filter(move |member| member.decide(event_type, channels, data) == Decision::Wanted)
            .map(|member| &member.webhook)
    }
}

/// Decides the outcome of an event for one webhook, to explain it afterwards.
pub fn decide(webhook: &Arc<Webhook>, event_type: &str, channels: &[String], data: &[u8]) -> Decision {
    FanoutWebhook { webhook: webhook.clone(), gate: CompiledFilter::of(webhook) }.decide(event_type, channels, data)
}

impl FanoutWebhook {
    fn decide(&self, event_type: &str, channels: &[String], data: &[u8]) -> Decision {
        if !patterns::wants(&self.webhook.event_types, event_type) {
            Decision::Type
        } else if !patterns::wants_channels(&self.webhook.channels, channels) {
            Decision::Channel
        } else if !self.gate.passes(data) {
            Decision::Filter
        } else if self.webhook.status == WebhookStatus::Disabled {
            Decision::Disabled
        } else {
            Decision::Wanted
        }
    }
}

impl CompiledFilter {
    fn of(webhook: &Webhook) -> CompiledFilter {
        match webhook.filter.as_deref().map(|text| Filter::parse_text(text.as_bytes())) {
            None => CompiledFilter::Open,
            Some(Ok(filter)) => CompiledFilter::Match(Box::new(filter)),
            Some(Err(_)) => CompiledFilter::Shut,
        }
    }

    fn passes(&self, data: &[u8]) -> bool {
        match self {
            CompiledFilter::Open => true,
            CompiledFilter::Match(filter) => filter.matches(data),
            CompiledFilter::Shut => false,
        }
    }
}

/// Merges two ascending lists, each number once.
fn merged<'a>(a: &'a [u32], b: &'a [u32]) -> impl Iterator<Item = u32> + 'a {
    let (mut a, mut b) = (a.iter().copied().peekable(), b.iter().copied().peekable());
    std::iter::from_fn(move || match (a.peek(), b.peek()) {
        (Some(x), Some(y)) if x == y => {
            b.next();
            a.next()
        }
        (Some(x), Some(y)) if x < y => a.next(),
        (_, Some(_)) => b.next(),
        (Some(_), None) => a.next(),
        (None, None) => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn merging_keeps_order_and_drops_numbers_in_both() {
        assert_eq!(merged(&[1, 4, 9], &[0, 4, 5]).collect::<Vec<_>>(), [0, 1, 4, 5, 9]);
        assert_eq!(merged(&[], &[2]).collect::<Vec<_>>(), [2]);
        assert_eq!(merged(&[2], &[]).collect::<Vec<_>>(), [2]);
    }
}
