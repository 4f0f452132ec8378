//! Traces by OpenTelemetry: one span for each attempt, sent as OTLP over HTTP with JSON bodies (opentelemetry.io, "OTLP
//! Specification", OTLP/HTTP and JSON Protobuf Encoding).
//!
//! Invariant: no delivery waits for a collector. Spans that it does not accept in time are dropped, which is logged
//! once.

use std::time::Duration;

use bytes::Bytes;
use http::{Request, header};
use http_body_util::Full;
use serde_json::{Value, json};
use tokio::sync::mpsc::{Receiver, Sender, channel};

use crate::engine::deliverer::AttemptObserver;
use crate::http_client::HttpEndpoint;
use crate::model::AttemptMade;
use crate::store::Dispatch;

/// Maximum spans that wait to be sent. Further ones are dropped.
const WAITING_SPANS_MAX: usize = 8_192;
/// Spans in one request.
const BATCH_SPANS_MAX: usize = 512;
/// Maximum time that a span waits for others.
const BATCH_WAIT: Duration = Duration::from_secs(2);
const SPAN_KIND_CLIENT: u8 = 3;
const STATUS_ERROR: u8 = 2;
/// Flag of a `traceparent` (W3C Trace Context, section 3.2.2.5).
const SAMPLED: u8 = 1;

/// Receives attempts and exports their spans.
pub struct SpanExporter(Sender<Value>);

impl SpanExporter {
    /// Starts the export to the collector at `endpoint`, below which `/v1/traces` receives the spans. Must be called
    /// within the runtime.
    ///
    /// # Errors
    /// `endpoint` is not a URL.
    pub fn start(endpoint: &str) -> Result<SpanExporter, String> {
        let place = HttpEndpoint::parse(endpoint)?;
        let (spans, waiting) = channel(WAITING_SPANS_MAX);
        tokio::spawn(send_on(place, waiting));
        Ok(SpanExporter(spans))
    }
}

impl AttemptObserver for SpanExporter {
    fn attempted(&self, dispatch: &Dispatch, finished: &AttemptMade) {
        if let Some(span) = span(dispatch, finished) {
            // A full channel means that the collector is too slow, which the task has logged.
            let _ = self.0.try_send(span);
        }
    }
}

/// Exports spans until the exporter is dropped.
async fn send_on(place: HttpEndpoint, mut waiting: Receiver<Value>) {
    let mut was_taken = true;
    while let Some(first) = waiting.recv().await {
        let mut spans = vec![first];
        let more = async {
            while spans.len() < BATCH_SPANS_MAX {
                match waiting.recv().await {
                    Some(span) => spans.push(span),
                    None => break,
                }
            }
        };
        // After the timeout the spans that have arrived are sent.
        let _ = tokio::time::timeout(BATCH_WAIT, more).await;
        let taken = post(&place, &request(&spans)).await;
        match (&taken, was_taken) {
            (Err(error), true) => tracing::warn!(error, "the collector does not take traces; they are dropped"),
            (Ok(()), false) => tracing::info!("the collector takes traces again"),
            _ => {}
        }
        was_taken = taken.is_ok();
    }
}

async fn post(place: &HttpEndpoint, body: &Value) -> Result<(), String> {
    let request = Request::post("/v1/traces").header(header::CONTENT_TYPE, "application/json");
    let request = request.body(Full::new(Bytes::from(body.to_string()))).map_err(|error| error.to_string())?;
    let answer = place.exchange(request).await?;
    match answer.status().is_success() {
        true => Ok(()),
        false => Err(format!("it answered {}", answer.status())),
    }
}

/// An `ExportTraceServiceRequest`.
fn request(spans: &[Value]) -> Value {
    let resource = [text("service.name", "postrider"), text("service.version", env!("CARGO_PKG_VERSION"))];
    json!({ "resourceSpans": [{
        "resource": { "attributes": resource },
        "scopeSpans": [{ "scope": { "name": "postrider" }, "spans": spans }],
    }] })
}

/// The span of an attempt, in the event's trace or in one whose id is the event's. `None` if the publisher's trace is
/// not sampled.
fn span(dispatch: &Dispatch, finished: &AttemptMade) -> Option<Value> {
    let event = &dispatch.event;
    let parent = event.attributes.traceparent.as_deref().and_then(TraceParent::read);
    if parent.as_ref().is_some_and(|parent| parent.flags & SAMPLED == 0) {
        return None;
    }
    let trace = parent.as_ref().map_or_else(|| format!("{:032x}", event.id.as_u128()), |parent| parent.trace.clone());
    // The end of a UUIDv7 is random. With the attempt's number it identifies this attempt alone.
    let id = (dispatch.delivery_id.as_u128() as u64).wrapping_add(u64::from(finished.number)).max(1);
    let nanos = |ms: i64| (i128::from(ms) * 1_000_000).to_string();
    let mut attributes = vec![
        text("http.request.method", &format!("{:?}", finished.method).to_ascii_uppercase()),
        text("url.full", &finished.url),
        text("postrider.event.id", &event.id.to_string()),
        text("postrider.event.type", &event.attributes.event_type),
        text("postrider.delivery.id", &dispatch.delivery_id.to_string()),
        text("postrider.webhook.id", &dispatch.webhook_id.to_string()),
        text("postrider.outcome", finished.outcome.as_str()),
        number("postrider.attempt", u64::from(finished.number)),
    ];
    attributes.extend(finished.status_code.map(|status| number("http.response.status_code", u64::from(status))));
    attributes.extend(finished.remote_addr.as_deref().map(|addr| text("network.peer.address", addr)));
    let status = match finished.success {
        true => json!({}),
        false => json!({ "code": STATUS_ERROR, "message": finished.error }),
    };
    Some(json!({
        "traceId": trace,
        "spanId": format!("{id:016x}"),
        "parentSpanId": parent.map(|parent| parent.span).unwrap_or_default(),
        "name": "deliver",
        "kind": SPAN_KIND_CLIENT,
        "startTimeUnixNano": nanos(finished.started_at.0),
        "endTimeUnixNano": nanos(finished.finished_at.0),
        "attributes": attributes,
        "status": status,
    }))
}

fn text(key: &str, value: &str) -> Value {
    json!({ "key": key, "value": { "stringValue": value } })
}

/// A 64-bit number, which this encoding writes as text.
fn number(key: &str, value: u64) -> Value {
    json!({ "key": key, "value": { "intValue": value.to_string() } })
}

/// A `traceparent` of version 00 (W3C Trace Context, section 3.2).
#[derive(Debug, PartialEq, Eq)]
struct TraceParent {
    trace: String,
    span: String,
    flags: u8,
}

impl TraceParent {
    fn read(text: &str) -> Option<TraceParent> {
        let mut parts = text.split('-');
        let (version, trace, span, flags) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        let is_id = |id: &str, length: usize| {
            id.len() == length && id.bytes().all(|b| b.is_ascii_hexdigit()) && id.bytes().any(|b| b != b'0')
        };
        let is_right = version == "00" && is_id(trace, 32) && is_id(span, 16) && flags.len() == 2;
        let flags = u8::from_str_radix(flags, 16).ok().filter(|_| is_right && parts.next().is_none())?;
        Some(TraceParent { trace: trace.to_owned(), span: span.to_owned(), flags })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;
    use crate::model::attempt::{AttemptOutcome, Trigger};
    use crate::model::id::{DeliveryId, EventId, WebhookId};
    use crate::model::{Event, Time};

    const TRACEPARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    fn attempt(traceparent: Option<&str>) -> (Dispatch, AttemptMade) {
        let at = Time(1_772_704_800_000);
        let mut event = Event {
            id: EventId::from_u128(0x019c_bd77_2f00_7000_8000_0000_0000_0001),
            received_at: at,
            ..Event::default()
        };
        event.attributes.event_type = "invoice.paid".to_owned();
        event.attributes.traceparent = traceparent.map(str::to_owned);
        let dispatch = Dispatch {
            webhook_id: WebhookId::from_u128(3),
            delivery_id: DeliveryId::from_u128(0x10),
            event: Arc::new(event),
            data: Bytes::new(),
            number: 2,
            due: at,
            retry_of: None,
            trigger: Trigger::Retry,
            end: Time::MAX,
        };
        let finished = AttemptMade {
            number: 2,
            started_at: at,
            finished_at: at.plus_ms(25),
            outcome: AttemptOutcome::HttpStatus,
            status_code: Some(503),
            error: Some("Service Unavailable".to_owned()),
            ..AttemptMade::default()
        };
        (dispatch, finished)
    }

    #[test]
    fn a_span_is_in_the_trace_that_its_event_came_with() {
        let (dispatch, finished) = attempt(Some(TRACEPARENT));
        let span = span(&dispatch, &finished).expect("it is sampled");
        assert_eq!(span["traceId"], "0af7651916cd43dd8448eb211c80319c");
        assert_eq!(span["parentSpanId"], "b7ad6b7169203331");
        assert_eq!(span["spanId"], "0000000000000012");
        assert_eq!(span["startTimeUnixNano"], "1772704800000000000");
        assert_eq!(span["endTimeUnixNano"], "1772704800025000000");
        assert_eq!(span["status"], json!({ "code": 2, "message": "Service Unavailable" }));
        let attributes = span["attributes"].as_array().expect("a list");
        assert!(attributes.contains(&json!({ "key": "http.response.status_code", "value": { "intValue": "503" } })));
    }

    #[test]
    fn without_one_the_event_is_its_own_trace_and_an_unsampled_one_is_left_out() {
        let (dispatch, finished) = attempt(None);
        let own = span(&dispatch, &finished).expect("a span");
        assert_eq!((&own["traceId"], &own["parentSpanId"]), (&json!("019cbd772f0070008000000000000001"), &json!("")));
        let unsampled = format!("{}00", TRACEPARENT.strip_suffix("01").expect("flags"));
        let (dispatch, finished) = attempt(Some(&unsampled));
        assert_eq!(span(&dispatch, &finished), None);
        for wrong in ["", "00-0-0-01", "01-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "x"] {
            assert_eq!(TraceParent::read(wrong), None, "{wrong}");
        }
        assert_eq!(TraceParent::read(&TRACEPARENT.replace("b7ad6b7169203331", "0000000000000000")), None);
    }

    #[tokio::test]
    async fn a_collector_receives_the_attempts() {
        let collector = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let exporter =
            SpanExporter::start(&format!("http://{}", collector.local_addr().expect("an address"))).expect("a URL");
        let (dispatch, finished) = attempt(Some(TRACEPARENT));
        exporter.attempted(&dispatch, &finished);
        // The last exporter is dropped: waiting spans are sent at once.
        drop(exporter);
        let (mut stream, _) = collector.accept().await.expect("a connection");
        let mut read = Vec::new();
        let body = loop {
            assert!(stream.read_buf(&mut read).await.expect("bytes") > 0, "{}", String::from_utf8_lossy(&read));
            let text = String::from_utf8_lossy(&read);
            let body = text.split_once("\r\n\r\n").and_then(|(_, body)| serde_json::from_str::<Value>(body).ok());
            if let Some(body) = body {
                break body;
            }
        };
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}").await.expect("answered");
        assert!(String::from_utf8_lossy(&read).starts_with("POST /v1/traces HTTP/1.1\r\n"));
        let span = &body["resourceSpans"][0]["scopeSpans"][0]["spans"][0];
        assert_eq!(span["name"], "deliver");
        assert_eq!(body["resourceSpans"][0]["resource"]["attributes"][0]["value"]["stringValue"], "postrider");
    }
}
