//! The log to journald by its native protocol (systemd.io/JOURNAL_NATIVE_PROTOCOL): one datagram per entry.
//!
//! Invariant: the message that `journalctl` shows contains all fields, as the text log does. Each field is also stored
//! under its own name in capitals, so that it can be searched for: `journalctl DELIVERY_ID=…`.

use std::fmt::{Debug, Write as _};
use std::io;
use std::os::unix::net::UnixDatagram;

use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;

const SOCKET: &str = "/run/systemd/journal/socket";
/// The program's name in journald, which `journalctl -t` selects.
const IDENTIFIER: &str = "postrider";
/// Maximum length of a value. A longer one is cut, because a datagram is sent in one piece.
const VALUE_BYTES_MAX: usize = 8 << 10;

/// The socket that entries are sent to.
pub struct Journal(UnixDatagram);

impl Journal {
    /// # Errors
    /// No journald listens on the socket.
    pub fn open() -> io::Result<Journal> {
        let socket = UnixDatagram::unbound()?;
        socket.send_to(&[], SOCKET)?;
        Ok(Journal(socket))
    }
}

impl<S: Subscriber> Layer<S> for Journal {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut entry = Entry::default();
        event.record(&mut entry);
        // A failed write of the log cannot be reported.
        let _ = self.0.send_to(&entry.datagram(event.metadata().level()), SOCKET);
    }
}

/// The message and the fields of one event.
#[derive(Default)]
struct Entry {
    message: String,
    fields: Vec<(&'static str, String)>,
}

impl Visit for Entry {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.take(field, value.to_owned());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.take(field, format!("{value:?}"));
    }
}

impl Entry {
    fn take(&mut self, field: &Field, mut value: String) {
        let end = (0..=VALUE_BYTES_MAX.min(value.len())).rev().find(|end| value.is_char_boundary(*end));
        value.truncate(end.unwrap_or(0));
        match field.name() {
            "message" => self.message = value,
            name => self.fields.push((name, value)),
        }
    }

    fn datagram(&self, level: &Level) -> Vec<u8> {
        let mut text = self.message.clone();
        for (name, value) in &self.fields {
            let is_word =
                !value.is_empty() && !value.contains(|c: char| c.is_whitespace() || c.is_control() || c == '"');
            let _ = if is_word { write!(text, " {name}={value}") } else { write!(text, " {name}={value:?}") };
        }
        let mut datagram = Vec::new();
        put(&mut datagram, "PRIORITY", priority(level));
        put(&mut datagram, "SYSLOG_IDENTIFIER", IDENTIFIER);
        put(&mut datagram, "MESSAGE", &text);
        for (name, value) in &self.fields {
            put(&mut datagram, &name.to_uppercase().replace('.', "_"), value);
        }
        datagram
    }
}

/// Writes `NAME=value`. If the value has line breaks, writes the name, the value's length in 64 bits, and the value.
fn put(datagram: &mut Vec<u8>, name: &str, value: &str) {
    datagram.extend(name.as_bytes());
    if value.contains('\n') {
        datagram.push(b'\n');
        datagram.extend((value.len() as u64).to_le_bytes());
    } else {
        datagram.push(b'=');
    }
    datagram.extend(value.as_bytes());
    datagram.push(b'\n');
}

/// The severity of RFC 5424: 3 is an error, 7 is a debug message.
fn priority(level: &Level) -> &'static str {
    match *level {
        Level::ERROR => "3",
        Level::WARN => "4",
        Level::INFO => "6",
        Level::DEBUG | Level::TRACE => "7",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_says_everything_in_its_message_and_each_thing_by_its_name() {
        let entry = Entry {
            message: "delivery.exhausted".into(),
            fields: vec![
                ("event_id", "0191".into()),
                ("reason", "Connection refused".into()),
                ("lines", "a\nb".into()),
            ],
        };
        let mut expected = b"PRIORITY=4\nSYSLOG_IDENTIFIER=postrider\n".to_vec();
        expected.extend(
            b"MESSAGE=delivery.exhausted event_id=0191 reason=\"Connection refused\" lines=\"a\\nb\"\nEVENT_ID=0191\n",
        );
        expected.extend(b"REASON=Connection refused\nLINES\n\x03\0\0\0\0\0\0\0a\nb\n");
        assert_eq!(String::from_utf8(entry.datagram(&Level::WARN)), String::from_utf8(expected));
    }
}
