//! Turns an answer that is not 2xx into an error message: the problem's text (RFC 9457), each wrong field, and a hint.

use http::{HeaderMap, StatusCode, header};
use serde::Deserialize;

use super::{Exit, table::one_line};
use crate::rules::durations;
use crate::rules::target::ADDRESS_REFUSED;

/// Maximum characters that are shown of an answer that is no problem document.
const EXCERPT_CHARS_MAX: usize = 300;
const DETAIL_CHARS_MAX: usize = 4_000;

/// [`ADDRESS_REFUSED`] without its cure, which [`ALLOW_ADDRESS`] holds.
const REFUSED: &str = "the address is private or reserved, and deliveries to it are not allowed";
const ALLOW_ADDRESS: &str = "to try things on this machine, start the daemon with `postrider serve --dev`; else name the \
    network in delivery.allow of the daemon's postrider.toml, or in its variable POSTRIDER_DELIVERY__ALLOW; addresses of \
    cloud metadata stay refused";

/// The members of `application/problem+json` that are read. Each may be missing.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Problem {
    title: Option<String>,
    detail: Option<String>,
    code: Option<String>,
    request_id: Option<String>,
    errors: Vec<FieldError>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct FieldError {
    pointer: String,
    detail: String,
}

/// The end of a verb whose request was answered with `status`.
pub fn exit(status: StatusCode, headers: &HeaderMap, body: &[u8], from: &str) -> Exit {
    let problem = serde_json::from_slice::<Problem>(body).ok();
    let known = problem.as_ref().filter(|problem| problem.title.is_some());
    let message = match known {
        Some(problem) => words(problem),
        None => foreign(status, body, from),
    };
    let code = known.and_then(|problem| problem.code.as_deref()).unwrap_or_default();
    let exit = Exit::failed(message).with_status(status.as_u16());
    let is_refused_address =
        known.is_some_and(|problem| problem.errors.iter().any(|error| error.detail == ADDRESS_REFUSED));
    if is_refused_address {
        return exit.hint(ALLOW_ADDRESS);
    }
    match hint(status, code, headers) {
        Some(hint) => exit.hint(hint),
        None => exit,
    }
}

fn words(problem: &Problem) -> String {
    let shown = |text: &Option<String>| {
        text.as_deref().filter(|text| !text.is_empty()).map(|text| one_line(text, DETAIL_CHARS_MAX))
    };
    // The detail of a single wrong field says no more than the field does.
    let detail = shown(&problem.detail).filter(|_| problem.errors.len() != 1);
    let mut message = [shown(&problem.title), detail].into_iter().flatten().collect::<Vec<_>>().join(": ");
    for error in &problem.errors {
        let said = if error.detail == ADDRESS_REFUSED { REFUSED } else { &error.detail };
        let line = format!("{}: {said}", error.pointer);
        message.push_str(&format!("\n  {}", one_line(&line, DETAIL_CHARS_MAX)));
    }
    if let Some(id) = shown(&problem.request_id) {
        message.push_str(&format!("\n  (request {id})"));
    }
    message
}

/// The message for an answer of another program, such as a proxy or another server on that port.
fn foreign(status: StatusCode, body: &[u8], from: &str) -> String {
    let excerpt = one_line(String::from_utf8_lossy(body).trim(), EXCERPT_CHARS_MAX);
    match excerpt.is_empty() {
        true => format!("{from} answered {status}"),
        false => format!("{from} answered {status}: {excerpt}"),
    }
}

fn hint(status: StatusCode, code: &str, headers: &HeaderMap) -> Option<String> {
    let text = match (status.as_u16(), code) {
        (401, _) => {
            "give an API key with --token or POSTRIDER_TOKEN; the first start of a new store leaves one in the file \
             first-key of its data directory, which the user of the daemon and root can read"
        }
        (403, _) => "this key may not do that; `postrider key create --scope …` makes one that may",
        (404, _) => "an object of another organization or app is not found either",
        (409, "event_id_conflict") => "this event_id was used for another event; choose a new one",
        (409, "webhook_disabled") => "`postrider webhook enable` enables it",
        (409, "answer_expired") => "the first answer held a secret and is no longer kept; use a new idempotency key",
        (413, _) => "the daemon's setting max_event_bytes is the limit of one event",
        (421, _) => "use a loopback name, or list the name in the daemon's setting server.allowed_hosts",
        (507, _) => {
            "the daemon's disk is nearly full; free space, or lower min_free_bytes; `postrider doctor` says how full"
        }
        (429 | 503, _) => return headers.get(header::RETRY_AFTER).and_then(retry_after),
        _ => return None,
    };
    Some(text.to_owned())
}

fn retry_after(value: &header::HeaderValue) -> Option<String> {
    let seconds: u32 = value.to_str().ok()?.trim().parse().ok()?;
    Some(format!("try again in {}", durations::rough(i64::from(seconds) * 1_000)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text_of(status: u16, body: &str) -> String {
        let status = StatusCode::from_u16(status).expect("a status");
        exit(status, &HeaderMap::new(), body.as_bytes(), "http://h").text()
    }

    #[test]
    fn a_problem_is_shown_with_its_fields() {
        let body = r#"{"type":"about:blank","title":"Invalid values","status":422,"detail":"2 fields are wrong",
            "code":"invalid","request_id":"r-1","errors":[{"pointer":"/url","detail":"no host"},{"pointer":"/a","detail":"b"}]}"#;
        assert_eq!(
            text_of(422, body),
            "error: Invalid values: 2 fields are wrong\n  /url: no host\n  /a: b\n  (request r-1)\n"
        );
    }

    #[test]
    fn a_private_address_is_explained_once_with_its_three_cures() {
        let body = format!(
            r#"{{"title":"Unprocessable Entity","detail":"/url {ADDRESS_REFUSED}",
            "errors":[{{"pointer":"/url","detail":"{ADDRESS_REFUSED}"}}]}}"#
        );
        let text = text_of(422, &body);
        assert_eq!(text.matches("/url").count(), 1, "{text}");
        for (cure, count) in [("delivery.allow", 1), ("POSTRIDER_DELIVERY__ALLOW", 1), ("serve --dev", 1)] {
            assert_eq!(text.matches(cure).count(), count, "{cure}: {text}");
        }
    }

    #[test]
    fn failed_answers_have_a_hint() {
        assert!(text_of(401, r#"{"title":"Unauthorized"}"#).contains("hint: give an API key with --token"));
        assert!(text_of(409, r#"{"title":"Conflict","code":"event_id_conflict"}"#).contains("choose a new one"));
        let mut headers = HeaderMap::new();
        headers.insert(header::RETRY_AFTER, header::HeaderValue::from_static("3"));
        let exit = exit(StatusCode::SERVICE_UNAVAILABLE, &headers, b"{}", "http://h");
        assert_eq!((exit.code(), exit.status), (1, Some(503)));
        assert!(exit.text().contains("hint: try again in 3s"), "{}", exit.text());
    }

    #[test]
    fn an_answer_of_another_program_is_shown_as_such_and_harmless() {
        let text = text_of(502, "<html>\u{1b}[31mBad\ngateway</html>");
        assert!(text.starts_with("error: http://h answered 502 Bad Gateway: <html>"), "{text}");
        assert!(!text.contains('\u{1b}'));
        assert_eq!(text_of(500, ""), "error: http://h answered 500 Internal Server Error\n");
    }
}
