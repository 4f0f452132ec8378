//! A client of Svix's API, for the source of an import and for the same API of this daemon.
//!
//! Invariant: a request is tried at most `TRIES_MAX` times, and a list is walked page by page without repetition.

use std::time::Duration;

use bytes::Bytes;
use http::{Method, Response, StatusCode, header};
use serde_json::Value;

use crate::cli::{
    Exit,
    client::{Call, Client, SEGMENT},
    screen::note,
    table::one_line,
};
use crate::rules::durations;

/// The paths of the API begin with this.
pub const PREFIX: &str = "/api/v1";
/// Tries of one request whose answer may be another one later (`is_passing`), or that has none.
const TRIES_MAX: u32 = 6;
/// The wait before the second try. Each later one is twice as long.
const FIRST_WAIT: Duration = Duration::from_millis(500);
/// The longest `Retry-After` that is heeded.
const WAIT_S_MAX: u64 = 60;
/// Items of a page.
const PAGE_ITEMS: usize = 100;
const DETAIL_CHARS_MAX: usize = 500;

/// One server of Svix's API.
pub struct SvixApi {
    client: Client,
    /// The server in messages.
    name: &'static str,
    /// The cure if the server has no such API.
    cure: &'static str,
}

/// An answer that is not 2xx.
#[derive(Debug)]
pub struct Refused {
    pub status: StatusCode,
    /// The server's sentence.
    pub detail: String,
}

impl SvixApi {
    pub fn new(client: Client, name: &'static str, cure: &'static str) -> Self {
        SvixApi { client, name, cure }
    }

    /// The JSON of a 2xx answer, which is null without a body. `Err` of the inside for any other answer.
    ///
    /// # Errors
    /// There is no answer, the token is not accepted, or the server is busy or fails after all tries.
    pub async fn call(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Result<Value, Refused>, Exit> {
        let bytes = body.map(|body| Bytes::from(body.to_string()));
        let mut wait = FIRST_WAIT;
        for left in (0..TRIES_MAX).rev() {
            let call = Call::at(method.clone(), format!("{PREFIX}{path}"), bytes.clone());
            let failure = match self.client.answer(call).await {
                Ok(answer) if is_passing(answer.status()) => {
                    wait = asked_wait(&answer).unwrap_or(wait);
                    format!("{}: {}", answer.status(), detail(answer.body()))
                }
                Ok(answer) => return self.outcome_of(method.as_str(), path, &answer),
                // A POST that was not answered may have been done.
                Err(why) if method == Method::GET => why,
                Err(why) => return Err(self.unreachable(&why)),
            };
            if left == 0 {
                return Err(self.unreachable(&format!("{failure}, {TRIES_MAX} times")));
            }
            note(&format!("{}: {failure}; trying again in {}\n", self.name, durations::exact(wait.as_millis() as i64)));
            tokio::time::sleep(wait).await;
            wait *= 2;
        }
        Err(self.unreachable("no answer"))
    }

    fn unreachable(&self, why: &str) -> Exit {
        Exit::unreachable(format!("{}: {why}", self.name))
    }

    fn outcome_of(&self, method: &str, path: &str, answer: &Response<Bytes>) -> Result<Result<Value, Refused>, Exit> {
        let (status, body) = (answer.status(), answer.body());
        if status.is_success() {
            let value = if body.is_empty() { Ok(Value::Null) } else { serde_json::from_slice(body) };
            let wrong = |_| Exit::failed(format!("{}: the answer to {method} {path} is no JSON", self.name));
            return value.map(Ok).map_err(wrong);
        }
        let detail = detail(body);
        if matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) {
            let exit = Exit::failed(format!("{}: the token may not {method} {path}: {detail}", self.name));
            return Err(exit.with_status(status.as_u16()));
        }
        Ok(Err(Refused { status, detail }))
    }

    /// The object at a path. `None` if there is none.
    pub async fn find(&self, path: &str) -> Result<Option<Value>, Exit> {
        match self.call(Method::GET, path, None).await? {
            Ok(value) => Ok(Some(value)),
            Err(refused) if refused.status == StatusCode::NOT_FOUND => Ok(None),
            Err(refused) => Err(self.failed(path, &refused)),
        }
    }

    /// The object at a path, which is there.
    pub async fn get(&self, path: &str) -> Result<Value, Exit> {
        self.call(Method::GET, path, None).await?.map_err(|refused| self.failed(path, &refused))
    }

    fn failed(&self, path: &str, refused: &Refused) -> Exit {
        let exit = Exit::failed(format!("{}: {path} answered {}: {}", self.name, refused.status, refused.detail));
        match refused.status {
            StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED | StatusCode::NOT_IMPLEMENTED => {
                exit.hint(self.cure)
            }
            _ => exit,
        }
    }

    /// All items of a list. `query` has parameters besides the iterator.
    pub async fn list(&self, path: &str, query: &str) -> Result<Vec<Value>, Exit> {
        let (mut items, mut iterator) = (Vec::new(), None::<String>);
        loop {
            let from = iterator.as_deref().map_or_else(String::new, |from| format!("&iterator={}", encoded(from)));
            let mut page = self.get(&format!("{path}?limit={PAGE_ITEMS}{query}{from}")).await?;
            let Some(Value::Array(data)) = page.get_mut("data").map(Value::take) else {
                return Err(Exit::failed(format!("{}: {path} is no list of Svix's API", self.name)));
            };
            items.extend(data);
            let next = page["iterator"].as_str().map(str::to_owned);
            if page["done"].as_bool().unwrap_or(next.is_none()) || next.is_none() {
                return Ok(items);
            }
            if next == iterator {
                return Err(Exit::failed(format!("{}: {path} repeats a page without end", self.name)));
            }
            iterator = next;
        }
    }

    /// A POST or PATCH. The sentence of the refusal if it is refused.
    pub async fn write(&self, method: Method, path: &str, body: Value) -> Result<Result<Value, String>, Exit> {
        Ok(self.call(method, path, Some(&body)).await?.map_err(|refused| refused.detail))
    }
}

/// Whether the same request may succeed later. The other statuses of 5xx, such as 501, name a lack of the server.
fn is_passing(status: StatusCode) -> bool {
    matches!(status.as_u16(), 429 | 500 | 502..=504)
}

/// The wait that `Retry-After` asks for in seconds.
fn asked_wait(answer: &Response<Bytes>) -> Option<Duration> {
    let text = answer.headers().get(header::RETRY_AFTER)?.to_str().ok()?;
    Some(Duration::from_secs(text.trim().parse::<u64>().ok()?.min(WAIT_S_MAX)))
}

/// The sentence of an error: `detail`, or the wrong values in it.
fn detail(body: &[u8]) -> String {
    let value: Value = serde_json::from_slice(body).unwrap_or_default();
    let text = match &value["detail"] {
        Value::String(text) => text.clone(),
        Value::Array(wrong) => {
            let one = |wrong: &Value| {
                let place: Vec<&str> =
                    wrong["loc"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
                format!("{} {}", place.join("."), wrong["msg"].as_str().unwrap_or_default())
            };
            wrong.iter().map(one).collect::<Vec<_>>().join("; ")
        }
        _ => String::from_utf8_lossy(body).into_owned(),
    };
    one_line(&text, DETAIL_CHARS_MAX)
}

/// A text as one segment of a path, or as the value of a parameter.
pub fn encoded(text: &str) -> String {
    percent_encoding::utf8_percent_encode(text, SEGMENT).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_has_the_words_of_the_server() {
        assert_eq!(detail(br#"{"code":"conflict","detail":"taken"}"#), "taken");
        let wrong = br#"{"detail":[{"loc":["body","url"],"msg":"refused","type":"value_error"}]}"#;
        assert_eq!(detail(wrong), "body.url refused");
        assert_eq!(detail(b"<html>"), "<html>");
    }

    #[test]
    fn only_an_answer_that_may_pass_is_waited_for() {
        let passing = (400..600).filter(|status| is_passing(StatusCode::from_u16(*status).unwrap()));
        assert_eq!(passing.collect::<Vec<_>>(), [429, 500, 502, 503, 504]);
    }

    #[test]
    fn a_wait_is_asked_for_in_seconds() {
        let answer = |value: &str| Response::builder().header("retry-after", value).body(Bytes::new()).unwrap();
        assert_eq!(asked_wait(&answer("3")), Some(Duration::from_secs(3)));
        assert_eq!(asked_wait(&answer("86400")), Some(Duration::from_secs(WAIT_S_MAX)));
        assert_eq!(asked_wait(&answer("Fri, 31 Dec 1999 23:59:59 GMT")), None);
    }
}
