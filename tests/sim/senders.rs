//! The nodes of a cluster as senders: one sends at a time, except for at most a tenure after another has taken over.

use std::collections::HashMap;
use std::net::IpAddr;

use postrider::rules::tenure::SERVED;

use super::expectations::{Expectations, Seen};
use super::plan::Order;

/// Time of a request on its way.
const WAY_MS: i64 = 1_500;

/// The nodes that have served, by their addresses.
#[derive(Debug, Default)]
pub struct Senders {
    /// The last term in which each node served.
    terms: HashMap<IpAddr, u64>,
    /// The newest term, and when its node began to serve.
    newest: (u64, i64),
    /// Until when requests arrive that a node had sent before it stood still.
    waking: HashMap<IpAddr, i64>,
}

impl Expectations {
    /// A node begins to serve in a term.
    pub fn serves(&mut self, node: IpAddr, term: u64, at_ms: i64) {
        self.senders.terms.insert(node, term);
        if term > self.senders.newest.0 {
            self.senders.newest = (term, at_ms);
        }
    }

    /// A node that stood still goes on. Its requests from before arrive until then.
    pub fn wakes(&mut self, node: IpAddr, until_ms: i64) {
        self.senders.waking.insert(node, until_ms);
    }

    /// Whether a request is of the node that owns the store. Another node may send for a tenure at most after that took over.
    /// Its requests are repetitions by then, whose outcomes are not recorded.
    pub fn is_of_owner(&mut self, seen: &Seen, key: &str) -> bool {
        let (newest, since) = self.senders.newest;
        let term = self.senders.terms.get(&seen.sender).copied().unwrap_or(newest);
        if term == newest {
            return true;
        }
        self.outrun += 1;
        let hook = &self.hooks[seen.hook];
        let is_waking = self.senders.waking.get(&seen.sender).is_some_and(|until| seen.at_ms <= *until);
        if hook.order != Order::No && !is_waking && seen.at_ms - since > SERVED.as_millis() as i64 + WAY_MS {
            let words = format!(
                "{} got {key} from the node of term {term}, and {newest} serves since {since} ms: two send at once",
                hook.name
            );
            self.fault(seen.at_ms, words);
        }
        false
    }
}
