//! Cursors: opaque positions, bound to the kind of list that they came from.
//!
//! A cursor is four letters for the kind and base64url of the 16 bytes of an id. A position gives access to nothing, so
//! it is not signed, and `pattern` describes its form.

use std::cmp::Reverse;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::model::{DeliveryId, Id, Time, WebhookId};
use crate::store::{FailedPosition, WaitingPosition};

/// Which list a cursor belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CursorKind {
    Events,
    Deliveries,
    Attempts,
    Webhooks,
    Apps,
    Keys,
    Organizations,
    Replays,
    Audit,
    Feed,
    AttemptStream,
}

impl CursorKind {
    /// The letters of the kind. Issued cursors contain them, so they never change.
    const fn letters(self) -> &'static str {
        match self {
            CursorKind::Events => "evnt",
            CursorKind::Deliveries => "dlvr",
            CursorKind::Attempts => "atmp",
            CursorKind::Webhooks => "hook",
            CursorKind::Apps => "apps",
            CursorKind::Keys => "keys",
            CursorKind::Organizations => "orgs",
            CursorKind::Replays => "rply",
            CursorKind::Audit => "audt",
            CursorKind::Feed => "feed",
            CursorKind::AttemptStream => "atst",
        }
    }

    /// The regular expression that matches the cursors of this kind and no other texts. 128 bits in 22 characters leave
    /// four bits of the last one unused.
    pub fn pattern(self) -> String {
        format!("^{}[A-Za-z0-9_-]{{21}}[AQgw]$", self.letters())
    }
}

/// The cursor of a position.
pub fn write(kind: CursorKind, position: u128) -> String {
    let mut text = kind.letters().to_owned();
    URL_SAFE_NO_PAD.encode_string(position.to_be_bytes(), &mut text);
    text
}

/// The position of a cursor of this kind. `None` for any other text.
pub fn read(kind: CursorKind, text: &str) -> Option<u128> {
    let bytes = URL_SAFE_NO_PAD.decode(text.strip_prefix(kind.letters())?).ok()?;
    bytes.try_into().ok().map(u128::from_be_bytes)
}

/// The letters of cursors in the list of failed deliveries, which has an order of its own.
const FAILED_LETTERS: &str = "fail";

/// The regular expression of cursors in lists of deliveries: of all of them, or of failed ones by the time of their end.
pub fn deliveries_pattern() -> String {
    let plain = CursorKind::Deliveries.pattern();
    format!("({plain})|(^{FAILED_LETTERS}[A-Za-z0-9_-]{{32}}$)")
}

/// The cursor of a position in the list of failed deliveries.
pub fn write_failed(position: FailedPosition) -> String {
    match position {
        FailedPosition::Indexed(at, id) => written(FAILED_LETTERS, at.0.to_be_bytes(), id),
        FailedPosition::Walked(below) => write(CursorKind::Deliveries, below),
    }
}

/// The position of a cursor in the list of failed deliveries. `None` for any other text.
pub fn read_failed(text: &str) -> Option<FailedPosition> {
    let Some(encoded) = text.strip_prefix(FAILED_LETTERS) else {
        return read(CursorKind::Deliveries, text).map(FailedPosition::Walked);
    };
    read_pair(encoded).map(|(at, id)| FailedPosition::Indexed(Time(i64::from_be_bytes(at)), id))
}

/// The letters of cursors in the list of waiting deliveries: in the due index, and in the ordered queues.
const DUE_LETTERS: &str = "wait";
const QUEUED_LETTERS: &str = "queu";

/// The regular expression of cursors in the list of waiting deliveries.
pub fn waiting_pattern() -> String {
    format!("^({DUE_LETTERS}|{QUEUED_LETTERS})[A-Za-z0-9_-]{{32}}$")
}

/// The cursor of a position in the list of waiting deliveries.
pub fn write_waiting(position: WaitingPosition) -> String {
    match position {
        WaitingPosition::Due(at, id) => written(DUE_LETTERS, at.0.to_be_bytes(), id),
        WaitingPosition::Queued(hash, id) => written(QUEUED_LETTERS, hash.to_be_bytes(), id),
    }
}

/// The position of a cursor in the list of waiting deliveries. `None` for any other text.
pub fn read_waiting(text: &str) -> Option<WaitingPosition> {
    if let Some(encoded) = text.strip_prefix(DUE_LETTERS) {
        return read_pair(encoded).map(|(at, id)| WaitingPosition::Due(Time(i64::from_be_bytes(at)), id));
    }
    let (hash, id) = read_pair(text.strip_prefix(QUEUED_LETTERS)?)?;
    Some(WaitingPosition::Queued(u64::from_be_bytes(hash), id))
}

/// The letters of cursors in the list of webhooks, by its order.
pub const NEWEST_LETTERS: &str = CursorKind::Webhooks.letters();
pub const NAME_LETTERS: &str = "name";
pub const WORST_LETTERS: &str = "wrst";
pub const BUSIEST_LETTERS: &str = "busy";

/// The position of a webhook in a list, by the order of the list. Webhooks of the same rank or name are ordered newest
/// first.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum RankedPosition {
    Newest(Reverse<WebhookId>),
    /// The name in lower case.
    Name(String, Reverse<WebhookId>),
    Worst(Reverse<u64>, Reverse<WebhookId>),
    Busiest(Reverse<u64>, Reverse<WebhookId>),
}

impl RankedPosition {
    /// The letters of the cursors of its order.
    pub const fn letters(&self) -> &'static str {
        match self {
            RankedPosition::Newest(_) => NEWEST_LETTERS,
            RankedPosition::Name(..) => NAME_LETTERS,
            RankedPosition::Worst(..) => WORST_LETTERS,
            RankedPosition::Busiest(..) => BUSIEST_LETTERS,
        }
    }
}

/// The regular expression of cursors in the list of webhooks.
pub fn webhooks_pattern() -> String {
    let plain = CursorKind::Webhooks.pattern();
    let named = format!("^{NAME_LETTERS}[A-Za-z0-9_-]{{22,}}$");
    format!("({plain})|(^({WORST_LETTERS}|{BUSIEST_LETTERS})[A-Za-z0-9_-]{{32}}$)|({named})")
}

/// The cursor of a position in the list of webhooks.
pub fn write_ranked(position: &RankedPosition) -> String {
    let mut text = position.letters().to_owned();
    match position {
        RankedPosition::Newest(Reverse(id)) => return write(CursorKind::Webhooks, id.as_u128()),
        RankedPosition::Name(name, Reverse(id)) => {
            URL_SAFE_NO_PAD.encode_string([id.as_bytes().as_slice(), name.as_bytes()].concat(), &mut text);
        }
        RankedPosition::Worst(Reverse(rank), Reverse(id)) | RankedPosition::Busiest(Reverse(rank), Reverse(id)) => {
            URL_SAFE_NO_PAD.encode_string([rank.to_be_bytes().as_slice(), id.as_bytes()].concat(), &mut text);
        }
    }
    text
}

/// The position of a cursor in the list of webhooks. `None` for any other text.
pub fn read_ranked(text: &str) -> Option<RankedPosition> {
    let (letters, encoded) = text.split_at_checked(NAME_LETTERS.len())?;
    match letters {
        NAME_LETTERS => {
            let bytes = URL_SAFE_NO_PAD.decode(encoded).ok()?;
            let (id, name) = bytes.split_first_chunk::<16>()?;
            let name = std::str::from_utf8(name).ok()?;
            Some(RankedPosition::Name(name.to_owned(), Reverse(Id::from_bytes(*id))))
        }
        WORST_LETTERS | BUSIEST_LETTERS => {
            let (rank, id) = read_pair(encoded)?;
            let (rank, id) = (Reverse(u64::from_be_bytes(rank)), Reverse(Id::from_u128(id.as_u128())));
            let is_worst = letters == WORST_LETTERS;
            Some(if is_worst { RankedPosition::Worst(rank, id) } else { RankedPosition::Busiest(rank, id) })
        }
        _ => read(CursorKind::Webhooks, text).map(|id| RankedPosition::Newest(Reverse(Id::from_u128(id)))),
    }
}

fn written(letters: &str, first: [u8; 8], id: DeliveryId) -> String {
    let mut text = letters.to_owned();
    URL_SAFE_NO_PAD.encode_string([first.as_slice(), id.as_bytes()].concat(), &mut text);
    text
}

fn read_pair(encoded: &str) -> Option<([u8; 8], DeliveryId)> {
    let bytes: [u8; 24] = URL_SAFE_NO_PAD.decode(encoded).ok()?.try_into().ok()?;
    let (first, id) = bytes.split_first_chunk::<8>()?;
    Some((*first, Id::from_bytes(id.try_into().ok()?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_of_failed_deliveries_reads_back_on_their_list_only() {
        for at in [0, 1, i64::MAX] {
            let position = FailedPosition::Indexed(Time(at), Id::from_u128(77));
            let text = write_failed(position);
            assert_eq!(read_failed(&text), Some(position));
            assert_eq!(read(CursorKind::Deliveries, &text), None);
        }
        assert_eq!(read_failed(&write(CursorKind::Deliveries, 77)), Some(FailedPosition::Walked(77)));
        assert_eq!(read_failed("fail"), None);
        assert_eq!(read_failed(&write(CursorKind::Events, 77)), None);
    }

    #[test]
    fn a_cursor_reads_back_on_its_own_list_only() {
        for position in [0, 1, u128::MAX, 0x019c_bd70_9d78_7320_aa3a_de34_9796_4cb8] {
            let text = write(CursorKind::Events, position);
            assert_eq!(read(CursorKind::Events, &text), Some(position));
            assert_eq!(read(CursorKind::Deliveries, &text), None);
        }
    }

    #[test]
    fn a_cursor_of_waiting_deliveries_reads_back_on_their_list_only() {
        let id = Id::from_u128(77);
        for position in [WaitingPosition::Due(Time(5), id), WaitingPosition::Queued(u64::MAX, id)] {
            let text = write_waiting(position);
            assert_eq!(read_waiting(&text), Some(position));
            assert_eq!(read_failed(&text), None);
        }
        assert_eq!(read_waiting(&write_failed(FailedPosition::Indexed(Time(5), id))), None);
    }

    #[test]
    fn a_cursor_of_webhooks_reads_back_and_names_its_order() {
        let id = Reverse(Id::from_u128(77));
        for position in [
            RankedPosition::Newest(id),
            RankedPosition::Name("Größe".to_lowercase(), id),
            RankedPosition::Name(String::new(), id),
            RankedPosition::Worst(Reverse(u64::MAX), id),
            RankedPosition::Busiest(Reverse(0), id),
        ] {
            let text = write_ranked(&position);
            assert!(text.starts_with(position.letters()));
            assert_eq!(read_ranked(&text), Some(position));
            assert_eq!(read_failed(&text), None);
        }
        for bad in ["", "wrst", "nam", "name", "nameAAAA", "ä", &write(CursorKind::Apps, 77)] {
            assert_eq!(read_ranked(bad), None, "{bad}");
        }
    }

    #[test]
    fn any_other_text_is_no_cursor() {
        let good = write(CursorKind::Events, 77);
        let unused_bits = format!("{}B", &good[..good.len() - 1]);
        for bad in ["", "x", "evnt", "%%%", &good[1..], &format!("{good}A"), &format!("{good}="), &unused_bits] {
            assert_eq!(read(CursorKind::Events, bad), None, "{bad}");
        }
    }
}
