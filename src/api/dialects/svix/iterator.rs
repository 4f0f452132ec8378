//! The pages of Svix's lists, which are walked in both directions.
//!
//! Invariant: a page begins strictly behind the item that its iterator names, in the direction of travel. It shows the
//! list's order in either direction. So a walk has no gap and no repetition while items arrive at one end.

use std::cmp::Ordering;

use crate::model::{EventId, Time};

/// The position from which a page goes on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Travel<K> {
    /// The page after this item, in list order.
    Next(K),
    /// The page before this item.
    Previous(K),
}

impl<K> Travel<K> {
    /// Reads an iterator: a key, or `-` and a key. `None` if `read` refuses the key.
    pub fn read(text: &str, read: impl Fn(&str) -> Option<K>) -> Option<Travel<K>> {
        match text.strip_prefix('-') {
            Some(key) => read(key).map(Travel::Previous),
            None => read(text).map(Travel::Next),
        }
    }
}

/// A page of items in list order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IteratorPage<T> {
    pub rows: Vec<T>,
    /// Whether no further item follows in the direction of travel.
    pub done: bool,
}

/// The page of items that are all in memory. `items` are in list order, and `compare` says where an item stands beside
/// a key in that order.
pub fn item_page<T, K>(
    items: impl DoubleEndedIterator<Item = T>,
    travel: Option<&Travel<K>>,
    limit: usize,
    compare: impl Fn(&T, &K) -> Ordering,
) -> IteratorPage<T> {
    let (mut rows, is_back): (Vec<T>, bool) = match travel {
        None => (items.take(limit + 1).collect(), false),
        Some(Travel::Next(key)) => (items.filter(|item| compare(item, key).is_gt()).take(limit + 1).collect(), false),
        Some(Travel::Previous(key)) => {
            (items.rev().filter(|item| compare(item, key).is_lt()).take(limit + 1).collect(), true)
        }
    };
    let done = rows.len() <= limit;
    rows.truncate(limit);
    if is_back {
        rows.reverse();
    }
    IteratorPage { rows, done }
}

/// The rows of a page among rising ids, of a list that shows the newest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IdWindow {
    /// The smallest id.
    pub from: u128,
    /// Ids are smaller than this.
    pub to: u128,
    /// Whether the page has the smallest ids of the window. Otherwise it has the greatest ones.
    pub is_rising: bool,
}

/// The window of a page. `after` is inclusive and `before` exclusive. With `after` alone the oldest items come first.
pub fn window(travel: Option<&Travel<u128>>, after: Option<Time>, before: Option<Time>) -> IdWindow {
    let floor = |at: Time| EventId::floor(at).as_u128();
    let whole = IdWindow { from: after.map_or(0, floor), to: before.map_or(u128::MAX, floor), is_rising: false };
    match travel {
        None => IdWindow { is_rising: after.is_some() && before.is_none(), ..whole },
        Some(Travel::Next(id)) => IdWindow { to: whole.to.min(*id), ..whole },
        Some(Travel::Previous(id)) => IdWindow { from: whole.from.max(id.saturating_add(1)), is_rising: true, ..whole },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(travel: Option<Travel<u32>>, limit: usize) -> (Vec<u32>, bool) {
        let page = item_page((1..=7).map(|n| n * 10), travel.as_ref(), limit, |item, key| item.cmp(key));
        (page.rows, page.done)
    }

    #[test]
    fn pages_go_forward_and_back_over_the_same_items() {
        assert_eq!(page(None, 3), (vec![10, 20, 30], false));
        assert_eq!(page(Some(Travel::Next(30)), 3), (vec![40, 50, 60], false));
        assert_eq!(page(Some(Travel::Next(60)), 3), (vec![70], true));
        assert_eq!(page(Some(Travel::Next(70)), 3), (vec![], true));
        assert_eq!(page(Some(Travel::Previous(70)), 3), (vec![40, 50, 60], false));
        assert_eq!(page(Some(Travel::Previous(40)), 3), (vec![10, 20, 30], true));
        assert_eq!(page(Some(Travel::Previous(10)), 3), (vec![], true));
        assert_eq!(page(None, 7), ((1..=7).map(|n| n * 10).collect(), true), "a full page may be the last one");
        assert_eq!(page(Some(Travel::Next(35)), 1), (vec![40], false), "the item itself need not exist");
    }

    #[test]
    fn an_iterator_with_a_hyphen_goes_back() {
        let read = |text: &str| Travel::read(text, |key| key.parse::<u32>().ok());
        assert_eq!(read("7"), Some(Travel::Next(7)));
        assert_eq!(read("-7"), Some(Travel::Previous(7)));
        assert_eq!((read("x"), read("-"), read("--7"), read("")), (None, None, None, None));
    }

    #[test]
    fn times_bound_a_window_and_after_alone_turns_it_round() {
        let at = |ms: i64| EventId::floor(Time(ms)).as_u128();
        let plain = window(None, None, None);
        assert_eq!(plain, IdWindow { from: 0, to: u128::MAX, is_rising: false });
        let after = window(None, Some(Time(5)), None);
        assert_eq!(after, IdWindow { from: at(5), to: u128::MAX, is_rising: true });
        let both = window(None, Some(Time(5)), Some(Time(9)));
        assert_eq!(both, IdWindow { from: at(5), to: at(9), is_rising: false });
        let next = window(Some(&Travel::Next(at(7))), Some(Time(5)), Some(Time(9)));
        assert_eq!(next, IdWindow { from: at(5), to: at(7), is_rising: false });
        let back = window(Some(&Travel::Previous(at(7))), Some(Time(5)), Some(Time(9)));
        assert_eq!(back, IdWindow { from: at(7) + 1, to: at(9), is_rising: true });
    }
}
