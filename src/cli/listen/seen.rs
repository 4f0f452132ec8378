//! A received request as one line: a summary for people, and all of it for machines.

use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use http::{HeaderMap, Method};
use serde_json::{Value, json};

use super::verify::SignatureCheck;
use crate::cli::{moment::rfc3339, paint::Paint, table::one_line};

/// JSON Pointers to the event's type in the bodies that Postrider sends. The first one present counts.
const TYPE_POINTERS: [&str; 4] = ["/type", "/event/event_type", "/event_type", "/kind"];

/// One complete request.
pub struct Seen {
    pub at_ms: i64,
    pub method: Method,
    /// Path and query.
    pub target: String,
    pub headers: HeaderMap,
    pub body: Bytes,
    pub signature_check: SignatureCheck,
    /// The status of the answer.
    pub status: u16,
}

impl Seen {
    fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    fn event_type(&self) -> Option<String> {
        let body: Value = serde_json::from_slice(&self.body).ok()?;
        let found = TYPE_POINTERS.iter().find_map(|pointer| body.pointer(pointer)?.as_str());
        found.map(str::to_owned)
    }

    fn attempt(&self) -> Option<u64> {
        self.header("postrider-attempt")?.parse().ok()
    }

    fn signature_check(&self) -> (&'static str, Option<&'static str>) {
        match self.signature_check {
            SignatureCheck::Verified => ("verified", None),
            SignatureCheck::Bad(why) => ("bad", Some(why)),
            SignatureCheck::NotChecked => ("not checked", None),
        }
    }

    /// Time, event type, webhook-id, attempt, signature, answer, and as much of the body as fits `width`, if there is one.
    pub fn for_people(&self, width: Option<usize>, paint: Paint) -> String {
        let or_none = |text: Option<String>| {
            text.map_or_else(|| "-".to_owned(), |text| one_line(&text, width.unwrap_or(usize::MAX)))
        };
        let (word, why) = self.signature_check();
        let signature = match why {
            Some(why) => format!("{} ({why})", paint.word(word)),
            None => paint.word(word),
        };
        let attempt = self.attempt().map_or_else(String::new, |number| format!(" #{number}"));
        let head = format!(
            "{}  {}  {}{attempt}  {signature}  -> {}",
            &rfc3339(self.at_ms)[11..19],
            paint.strong(&or_none(self.event_type())),
            or_none(self.header("webhook-id").map(str::to_owned)),
            self.status
        );
        let body = String::from_utf8_lossy(&self.body);
        let width = width.unwrap_or(usize::MAX);
        match self.body.is_empty() {
            true => format!("{head}\n  {} {}", self.method, one_line(&self.target, width)),
            false => format!("{head}\n  {}", one_line(&body, width.saturating_sub(2))),
        }
    }

    /// The line for machines, with every value. `body_base64` replaces a body that is not UTF-8.
    pub fn for_machines(&self) -> String {
        let headers = self
            .headers
            .iter()
            .map(|(name, value)| (name.to_string(), String::from_utf8_lossy(value.as_bytes()).into_owned().into()));
        let (word, why) = self.signature_check();
        let body = std::str::from_utf8(&self.body).ok();
        json!({
            "kind": "request",
            "at": rfc3339(self.at_ms),
            "method": self.method.as_str(),
            "target": self.target,
            "event_type": self.event_type(),
            "webhook_id": self.header("webhook-id"),
            "delivery_id": self.header("postrider-delivery-id"),
            "attempt": self.attempt(),
            "signature": word.replace(' ', "_"),
            "signature_problem": why,
            "status": self.status,
            "headers": headers.collect::<serde_json::Map<String, Value>>(),
            "body": body,
            "body_base64": body.is_none().then(|| STANDARD.encode(&self.body)),
        })
        .to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(body: &'static [u8]) -> Seen {
        let mut headers = HeaderMap::new();
        headers.insert("webhook-id", http::HeaderValue::from_static("0191d5c8"));
        headers.insert("postrider-attempt", http::HeaderValue::from_static("3"));
        Seen {
            at_ms: 1_795_318_140_000,
            method: Method::POST,
            target: "/in?a=1".into(),
            headers,
            body: Bytes::from_static(body),
            signature_check: SignatureCheck::Bad("no signature"),
            status: 500,
        }
    }

    #[test]
    fn people_get_two_lines_that_cannot_steer_the_terminal() {
        let text =
            seen(b"{\"type\":\"order\\u001b.made\",\n\"x\":\"\xe2\x80\xae\"}").for_people(Some(40), Paint::when(false));
        let lines: Vec<&str> = text.lines().collect();
        let head = "03:29:00  order\u{fffd}.made  0191d5c8 #3  bad (no signature)  -> 500";
        assert_eq!((lines.len(), lines[0]), (2, head));
        assert!(lines[1].chars().count() <= 40 && !lines[1].contains('\u{202e}'), "{lines:?}");
        let whole = seen(&[b'x'; 500]).for_people(None, Paint::when(false));
        assert!(whole.ends_with(&"x".repeat(500)), "a pipe is never cut: {whole}");
        assert!(seen(b"").for_people(Some(80), Paint::when(false)).ends_with("  POST /in?a=1"));
    }

    #[test]
    fn machines_get_everything() {
        let value: Value = serde_json::from_str(&seen(b"\xff").for_machines()).expect("JSON");
        assert_eq!((&value["body"], &value["body_base64"]), (&Value::Null, &json!("/w==")));
        assert_eq!((&value["attempt"], &value["signature"]), (&json!(3), &json!("bad")));
        let legacy: Value =
            serde_json::from_str(&seen(b"{\"event\":{\"event_type\":\"sent\"}}").for_machines()).expect("JSON");
        assert_eq!((&legacy["event_type"], &legacy["at"]), (&json!("sent"), &json!("2026-11-22T03:29:00.000Z")));
    }
}
