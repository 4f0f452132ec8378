//! Walks the surface of the Svix shape with Svix's Rust SDK. svix_sdks.sh calls it with the daemon's URL and a token of an
//! organization.

mod receiver;

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use chrono::Utc;
use js_option::JsOption;
use serde_json::{Value, json};
use svix::api::*;
use svix::models::*;
use svix::{Error, Result};

use receiver::Receiver;

/// Messages of the list that is walked while more arrive.
const LISTED: usize = 600;

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let mut arguments = std::env::args().skip(1);
    let (url, token) = (arguments.next().expect("a URL"), arguments.next().expect("a token"));
    let mut walk = Walk::new(url, token).await;
    walk.applications().await;
    walk.event_types().await;
    walk.operational().await;
    walk.endpoints().await;
    walk.messages().await;
    walk.attempts().await;
    walk.acting().await;
    walk.portal().await;
    walk.long_list().await;
    walk.end().await;
}

struct Walk {
    svix: Svix,
    url: String,
    token: String,
    /// A name that no other run has.
    run: String,
    uid: String,
    event_type: String,
    endpoint: String,
    secret: String,
    receiver: Receiver,
    operator: Receiver,
}

/// A step that ended well.
fn done(step: &str) {
    println!("ok      {step}");
}

/// The code of an error of the API with this status.
fn refused<T: std::fmt::Debug>(status: u16, result: Result<T>) -> String {
    match result {
        Err(Error::Http(error)) => {
            let body = error.payload.expect("a JSON body");
            assert_eq!(error.status.as_u16(), status, "{body:?}");
            assert!(!body.code.is_empty() && !body.detail.is_empty(), "{body:?}");
            body.code
        }
        Err(Error::Validation(error)) => {
            let body = error.payload.expect("a JSON body");
            assert_eq!(422, status, "{body:?}");
            assert!(!body.detail.is_empty());
            "validation".to_owned()
        }
        other => panic!("not refused with {status}: {other:?}"),
    }
}

/// Repeats a look until it finds something.
macro_rules! eventually {
    ($look:expr) => {{
        let mut rounds = 0;
        loop {
            if let Some(found) = $look {
                break found;
            }
            rounds += 1;
            assert!(rounds < 300, "the condition never became true");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }};
}

/// All ids of a list by its iterator, after a look back by its previous iterator over the same ids.
macro_rules! pages {
    ($id:ident, $ask:expr) => {{
        let (mut forward, mut iterator) = (Vec::new(), None);
        loop {
            let page = $ask(iterator).await.expect("a page");
            forward.extend(page.data.iter().map(|one| one.$id.clone()));
            if page.done {
                break;
            }
            iterator = page.iterator;
        }
        let (mut back, mut iterator) = (Vec::new(), Some(format!("-{}", forward.last().expect("an item"))));
        loop {
            let page = $ask(iterator).await.expect("a page");
            back.splice(0..0, page.data.iter().map(|one| one.$id.clone()));
            if page.done {
                break;
            }
            iterator = page.prev_iterator;
        }
        assert_eq!(back, forward[..forward.len() - 1]);
        forward
    }};
}

fn set(items: &[&str]) -> Option<BTreeSet<String>> {
    Some(items.iter().map(|item| (*item).to_owned()).collect())
}

fn map(items: &[(&str, &str)]) -> BTreeMap<String, String> {
    items.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

impl Walk {
    async fn new(url: String, token: String) -> Walk {
        let run = SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock").as_nanos().to_string();
        let svix = client(&url, &token);
        let (uid, event_type) = (format!("rust-{run}"), format!("invoice.paid.{run}"));
        let (receiver, operator) = (Receiver::start().await, Receiver::start().await);
        let (endpoint, secret) = (String::new(), String::new());
        Walk { svix, url, token, run, uid, event_type, endpoint, secret, receiver, operator }
    }

    fn app(&self) -> String {
        self.uid.clone()
    }

    async fn applications(&self) {
        let api = self.svix.application();
        let mut input = ApplicationIn::new("Acme".into());
        input.uid = Some(self.app());
        input.metadata = Some(map(&[("plan", "pro")]));
        input.throttle_rate = Some(50);
        let app = api.create(input.clone(), None).await.expect("an application");
        assert_eq!((app.uid.as_deref(), app.name.as_str()), (Some(self.uid.as_str()), "Acme"));
        assert_eq!((&app.metadata, app.throttle_rate), (&map(&[("plan", "pro")]), Some(50)));
        assert_eq!(api.get(app.id.clone()).await.expect("by id").id, api.get(self.app()).await.expect("by uid").id);
        assert_eq!(api.get_or_create(input.clone(), None).await.expect("the same").id, app.id);
        assert_eq!(refused(409, api.create(input, None).await), "conflict");
        let patch = ApplicationPatch { name: Some("Acme 2".into()), ..ApplicationPatch::new() };
        assert_eq!(api.patch(self.app(), patch).await.expect("patched").name, "Acme 2");
        let clear = ApplicationPatch { throttle_rate: JsOption::Null, ..ApplicationPatch::new() };
        assert_eq!(api.patch(self.app(), clear).await.expect("cleared").throttle_rate, None);
        assert_eq!(refused(404, api.get("no-such-app".into()).await), "not_found");
        let mut others = Vec::new();
        for n in 0..3 {
            others.push(api.create(ApplicationIn::new(format!("other {n}")), None).await.expect("another").id);
        }
        let options = |at| ApplicationListOptions { limit: Some(2), iterator: at, ..Default::default() };
        let listed = pages!(id, |at| api.list(Some(options(at))));
        assert!(others.iter().all(|other| listed.contains(other)));
        for other in others.clone() {
            api.delete(other).await.expect("deleted");
        }
        refused(404, api.get(others[0].clone()).await);
        let wrong = ApplicationIn { uid: Some("a b".into()), ..ApplicationIn::new("x".into()) };
        refused(422, api.create(wrong, None).await);
        let stranger = client(&self.url, "pr_nobody");
        assert_eq!(refused(401, stranger.application().get(app.id).await), "authentication_failed");
        done("applications");
    }

    async fn event_types(&self) {
        let api = self.svix.event_type();
        let schemas = json!({ "1": { "type": "object", "examples": [{ "id": 7 }] } });
        let mut input = EventTypeIn::new(self.event_type.clone(), "An invoice was paid".into());
        input.schemas = Some(schemas.clone());
        let made = api.create(input.clone(), None).await.expect("an event type");
        assert_eq!(
            (made.name.as_str(), made.archived, made.deprecated),
            (self.event_type.as_str(), Some(false), false)
        );
        assert_eq!(refused(409, api.create(input, None).await), "event_type_exists");
        assert_eq!(api.get(self.event_type.clone()).await.expect("read").schemas, Some(schemas));
        let patch = EventTypePatch { description: Some("Paid".into()), ..EventTypePatch::new() };
        assert_eq!(api.patch(self.event_type.clone(), patch).await.expect("patched").description, "Paid");
        let other = format!("other.{}", self.run);
        api.create(EventTypeIn::new(other.clone(), String::new()), None).await.expect("another");
        let options = |at| EventTypeListOptions { limit: Some(2), iterator: at, ..Default::default() };
        let names = pages!(name, |at| api.list(Some(options(at))));
        assert!(names.is_sorted() && names.contains(&self.event_type) && names.contains(&other), "{names:?}");
        api.delete(other.clone(), None).await.expect("archived");
        assert_eq!(api.get(other.clone()).await.expect("an archived one").archived, Some(true));
        api.delete(other.clone(), Some(EventTypeDeleteOptions { expunge: Some(true) })).await.expect("expunged");
        refused(404, api.get(other).await);
        done("event_types");
    }

    async fn operational(&mut self) {
        let operational = self.svix.operational_webhook();
        let api = operational.endpoint();
        let mut input = OperationalWebhookEndpointIn::new(self.operator.url.clone());
        input.event_types = set(&["endpoint.created", "endpoint.updated"]);
        input.metadata = Some(map(&[("a", "b")]));
        let made = api.create(input.clone(), None).await.expect("an operational webhook");
        assert_eq!((&made.event_types, &made.metadata), (&input.event_types, &map(&[("a", "b")])));
        assert_eq!(api.get(made.id.clone()).await.expect("read").url, self.operator.url);
        let mut put = OperationalWebhookEndpointUpsertIn::new(self.operator.url.clone());
        put.event_types = set(&["endpoint.created"]);
        assert_eq!(api.upsert(made.id.clone(), put.clone()).await.expect("replaced").event_types, put.event_types);
        put.event_types = set(&["no.such.type"]);
        refused(422, api.upsert(made.id.clone(), put).await);
        api.set_headers(made.id.clone(), OperationalWebhookEndpointHeadersIn::new(map(&[("x-one", "1")])))
            .await
            .expect("headers");
        assert_eq!(api.get_headers(made.id.clone()).await.expect("headers").headers, map(&[("x-one", "1")]));
        api.rotate_secret(made.id.clone(), OperationalWebhookEndpointSecretIn::new(), None).await.expect("rotated");
        let secret = api.get_secret(made.id.clone()).await.expect("a secret").key;
        let more = OperationalWebhookEndpointIn::new(self.operator.url.clone());
        let more = OperationalWebhookEndpointIn { event_types: set(&["endpoint.disabled"]), ..more };
        let more = api.create(more, None).await.expect("another").id;
        let options = |at| OperationalWebhookEndpointListOptions { limit: Some(1), iterator: at, ..Default::default() };
        let listed = pages!(id, |at| api.list(Some(options(at))));
        assert!(listed.contains(&made.id) && listed.contains(&more));
        api.delete(more).await.expect("deleted");
        let endpoints = self.svix.endpoint();
        let told = endpoints.create(self.app(), EndpointIn::new(self.receiver.url.clone()), None).await.expect("one");
        let (headers, notice) = self.operator.verified(&secret).await;
        assert_eq!((&notice["type"], &notice["data"]["endpointId"]), (&json!("endpoint.created"), &json!(told.id)));
        assert_eq!((&notice["data"]["appUid"], headers["x-one"].to_str().ok()), (&json!(self.uid), Some("1")));
        endpoints.delete(self.app(), told.id).await.expect("deleted");
        api.delete(made.id.clone()).await.expect("deleted");
        refused(404, api.get(made.id).await);
        done("operational");
    }

    async fn endpoints(&mut self) {
        let api = self.svix.endpoint();
        let mut input = EndpointIn::new(self.receiver.url.clone());
        input.event_types = set(&[&self.event_type]);
        input.uid = Some("ep-1".into());
        input.metadata = Some(map(&[("a", "b")]));
        input.headers = Some(map(&[("X-One", "1")]));
        let made = api.create(self.app(), input, None).await.expect("an endpoint");
        self.endpoint = made.id.clone();
        assert_eq!((made.url.as_str(), made.uid.as_deref()), (self.receiver.url.as_str(), Some("ep-1")));
        assert_eq!(api.get(self.app(), "ep-1".into()).await.expect("by uid").id, made.id);
        assert_eq!(made.event_types, set(&[&self.event_type]));
        let mut put = EndpointUpsertIn::new(self.receiver.url.clone());
        put.uid = Some("ep-1".into());
        put.description = Some("d".into());
        put.event_types = set(&[&self.event_type]);
        let put = api.upsert(self.app(), made.id.clone(), put).await.expect("replaced");
        assert_eq!((put.description.as_str(), put.metadata.len()), ("d", 0));
        let patch = EndpointPatch { description: Some("e".into()), ..EndpointPatch::new() };
        assert_eq!(api.patch(self.app(), made.id.clone(), patch).await.expect("patched").description, "e");
        let headers = map(&[("X-One", "1"), ("Authorization", "x")]);
        api.set_headers(self.app(), made.id.clone(), EndpointHeadersIn::new(headers)).await.expect("headers");
        let patch = EndpointHeadersPatchIn::new(map(&[("X-Two", "2")]));
        api.patch_headers(self.app(), made.id.clone(), patch).await.expect("merged");
        let headers = api.get_headers(self.app(), made.id.clone()).await.expect("headers");
        assert_eq!(headers.headers, map(&[("X-One", "1"), ("X-Two", "2")]));
        assert_eq!(headers.sensitive.into_iter().collect::<Vec<_>>(), ["Authorization"]);
        let rotated = api.rotate_secret(self.app(), made.id.clone(), EndpointSecretRotateIn::new(), None).await;
        self.secret = api.get_secret(self.app(), made.id.clone()).await.expect("a secret").key;
        assert_eq!(rotated.expect("rotated").key, self.secret);
        refused(422, api.create(self.app(), EndpointIn::new("ftp://example.com".into()), None).await);
        let mut more = Vec::new();
        for _ in 0..3 {
            let mut input = EndpointIn::new(self.receiver.url.clone());
            input.channels = set(&["nowhere"]);
            more.push(api.create(self.app(), input, None).await.expect("another").id);
        }
        let options = |at| EndpointListOptions { limit: Some(2), iterator: at, ..Default::default() };
        let listed = pages!(id, |at| api.list(self.app(), Some(options(at))));
        more.reverse();
        assert_eq!(listed[..3], more);
        for one in more.clone() {
            api.delete(self.app(), one).await.expect("deleted");
        }
        refused(404, api.get(self.app(), more[0].clone()).await);
        done("endpoints");
    }

    async fn send(&self, payload: Value) -> MessageOut {
        let input = MessageIn::new(self.event_type.clone(), payload);
        self.svix.message().create(self.app(), input, None).await.expect("a message")
    }

    async fn messages(&mut self) {
        let mut input = MessageIn::new(self.event_type.clone(), json!({ "n": 1 }));
        input.event_id = Some("e-1".into());
        input.channels = set(&["eu"]);
        let made = self.svix.message().create(self.app(), input.clone(), None).await.expect("a message");
        let (headers, payload) = self.receiver.verified(&self.secret).await;
        assert_eq!(payload, json!({ "n": 1 }));
        assert_eq!(
            (headers["svix-id"].to_str().ok(), headers["x-one"].to_str().ok()),
            (Some(made.id.as_str()), Some("1"))
        );
        let api = self.svix.message();
        assert_eq!(refused(409, api.create(self.app(), input, None).await), "conflict");
        for name in [made.id.clone(), "e-1".into()] {
            assert_eq!(api.get(self.app(), name, None).await.expect("a message").id, made.id);
        }
        for n in 0..5 {
            self.send(json!({ "n": n })).await;
            self.receiver.verified(&self.secret).await;
        }
        let api = self.svix.message();
        let options = |at| MessageListOptions { limit: Some(2), iterator: at, ..Default::default() };
        assert_eq!(pages!(id, |at| api.list(self.app(), Some(options(at)))).len(), 6);
        let options = MessageListOptions {
            after: Some(Utc::now() - Duration::from_secs(3_600)),
            event_types: set(&[&self.event_type]),
            ..Default::default()
        };
        assert_eq!(api.list(self.app(), Some(options)).await.expect("a page").data.len(), 6);
        api.expunge_content(self.app(), "e-1".into()).await.expect("erased");
        let options = MessageListOptions { channel: Some("eu".into()), with_content: Some(true), ..Default::default() };
        let page = api.list(self.app(), Some(options)).await.expect("a page").data;
        assert_eq!((page.len(), &page[0].payload), (1, &json!({ "expired": true })));
        done("messages");
    }

    async fn attempts(&mut self) {
        self.receiver.statuses.lock().expect("a lock").push_back(500);
        let made = self.send(json!({ "n": "fails" })).await;
        self.receiver.verified(&self.secret).await;
        let api = self.svix.message_attempt();
        let app = self.app();
        let of_message = || async { api.list_by_msg(app.clone(), made.id.clone(), None).await.expect("a page").data };
        let failed = eventually!(of_message().await.pop());
        assert_eq!((failed.status, failed.response_status_code), (MessageStatus::Fail, 500));
        assert_eq!(failed.endpoint_id, self.endpoint);
        let read = api.get(self.app(), made.id.clone(), failed.id.clone(), None).await.expect("an attempt");
        assert_eq!(read.id, failed.id);
        let options = MessageAttemptListByEndpointOptions { status: Some(MessageStatus::Fail), ..Default::default() };
        let page = api.list_by_endpoint(self.app(), self.endpoint.clone(), Some(options)).await.expect("a page");
        assert_eq!(page.data.iter().map(|one| &one.id).collect::<Vec<_>>(), [&failed.id]);
        let options = |at| MessageAttemptListByEndpointOptions { limit: Some(2), iterator: at, ..Default::default() };
        assert_eq!(
            pages!(id, |at| api.list_by_endpoint(self.app(), self.endpoint.clone(), Some(options(at)))).len(),
            7
        );
        let options =
            |at| MessageAttemptListAttemptedMessagesOptions { limit: Some(2), iterator: at, ..Default::default() };
        let at_endpoint =
            pages!(id, |at| api.list_attempted_messages(self.app(), self.endpoint.clone(), Some(options(at))));
        assert_eq!(at_endpoint.len(), 7);
        let rows = api.list_attempted_messages(self.app(), self.endpoint.clone(), None).await.expect("a page").data;
        assert_eq!(rows.iter().find(|row| row.id == made.id).expect("the row").status, MessageStatus::Sending);
        let rows = api.list_attempted_destinations(self.app(), made.id.clone(), None).await.expect("a page").data;
        assert_eq!((rows[0].id.as_str(), rows[0].status), (self.endpoint.as_str(), MessageStatus::Fail));
        api.resend(self.app(), made.id.clone(), self.endpoint.clone(), None).await.expect("resent");
        assert_eq!(self.receiver.verified(&self.secret).await.1, json!({ "n": "fails" }));
        let resent =
            eventually!(of_message().await.into_iter().find(|attempt| attempt.status == MessageStatus::Success));
        assert_eq!(resent.trigger_type, MessageAttemptTriggerType::Manual);
        api.expunge_content(self.app(), made.id.clone(), failed.id.clone()).await.expect("erased");
        let options = MessageAttemptListByMsgOptions { with_content: Some(true), ..Default::default() };
        let page = api.list_by_msg(self.app(), made.id.clone(), Some(options)).await.expect("a page").data;
        assert_eq!(page.iter().find(|one| one.id == failed.id).expect("the attempt").response, "EXPUNGED");
        let stats = self.svix.endpoint().get_stats(self.app(), self.endpoint.clone(), None).await.expect("counts");
        assert!(stats.success >= 7 && stats.fail == 1, "{stats:?}");
        done("attempts");
    }

    async fn acting(&mut self) {
        let api = self.svix.endpoint();
        let example = EventExampleIn::new(self.event_type.clone());
        let example = api.send_example(self.app(), self.endpoint.clone(), example, None).await.expect("an example");
        let (headers, payload) = self.receiver.verified(&self.secret).await;
        assert_eq!(payload, json!({ "id": 7 }));
        assert_eq!(headers["svix-id"], example.id.as_str());
        let since = Utc::now() - Duration::from_secs(3_600);
        let task = api.recover(self.app(), self.endpoint.clone(), RecoverIn::new(since), None).await.expect("a task");
        assert_eq!(task.status.to_string(), "running");
        let replay = ReplayIn::new(since);
        let missing = api.replay_missing(self.app(), self.endpoint.clone(), replay, None).await.expect("a task");
        let tasks = self.svix.background_task();
        eventually!({
            let task = tasks.get(missing.id.clone()).await.expect("a task");
            (task.status.to_string() == "finished").then_some(())
        });
        let listed = tasks.list(None).await.expect("a page").data;
        assert!(listed.iter().any(|one| one.id == missing.id));
        let precheck = MessagePrecheckIn::new(self.event_type.clone());
        assert!(self.svix.message().precheck(self.app(), precheck, None).await.expect("an answer").active);
        done("acting");
    }

    async fn portal(&self) {
        let api = self.svix.authentication();
        let access = api.app_portal_access(self.app(), AppPortalAccessIn::new(), None).await.expect("a token");
        let portal = client(&self.url, &access.token);
        assert_eq!(
            portal.application().get(self.app()).await.expect("its app").uid.as_deref(),
            Some(self.uid.as_str())
        );
        portal.endpoint().get(self.app(), self.endpoint.clone()).await.expect("its endpoint");
        assert_eq!(refused(403, portal.application().list(None).await), "insufficient access");
        let message = MessageIn::new(self.event_type.clone(), json!({}));
        assert_eq!(refused(403, portal.message().create(self.app(), message, None).await), "insufficient access");
        portal.authentication().logout(None).await.expect("logged out");
        refused(401, portal.application().get(self.app()).await);
        let capabilities = Some([AppPortalCapability::ViewBase].into());
        let read_only = AppPortalAccessIn { capabilities, ..AppPortalAccessIn::new() };
        let access = api.app_portal_access(self.app(), read_only, None).await.expect("a token");
        let reader = client(&self.url, &access.token);
        refused(403, reader.endpoint().get_secret(self.app(), self.endpoint.clone()).await);
        api.expire_all(self.app(), ApplicationTokenExpireIn::new(), None).await.expect("expired");
        refused(401, reader.application().get(self.app()).await);
        done("portal");
    }

    /// A list of many pages has no gap and no repetition in either direction while messages arrive.
    async fn long_list(&self) {
        let uid = format!("{}-long", self.uid);
        let input = ApplicationIn { uid: Some(uid.clone()), ..ApplicationIn::new(uid.clone()) };
        self.svix.application().create(input, None).await.expect("an application");
        let made = send_many(&self.svix, &uid, &self.event_type, LISTED).await;
        let (other, app, event_type) = (client(&self.url, &self.token), uid.clone(), self.event_type.clone());
        let arriving = tokio::spawn(async move { send_many(&other, &app, &event_type, LISTED / 10).await });
        let api = self.svix.message();
        let options = |at| MessageListOptions { limit: Some(100), iterator: at, ..Default::default() };
        let (mut forward, mut iterator) = (Vec::new(), None);
        loop {
            let page = api.list(uid.clone(), Some(options(iterator))).await.expect("a page");
            forward.extend(page.data.into_iter().map(|message| message.id));
            if page.done {
                break;
            }
            iterator = page.iterator;
        }
        let (mut back, mut iterator) = (Vec::new(), Some(format!("-{}", forward.last().expect("a message"))));
        loop {
            let page = api.list(uid.clone(), Some(options(iterator))).await.expect("a page");
            back.extend(page.data.into_iter().rev().map(|message| message.id));
            if page.done {
                break;
            }
            iterator = page.prev_iterator;
        }
        arriving.await.expect("the sender");
        assert!(forward.windows(2).all(|two| two[0] > two[1]), "newest first, none twice");
        assert!(made.iter().all(|id| forward.contains(id)), "no gap");
        assert!(back.windows(2).all(|two| two[0] < two[1]), "oldest first, none twice");
        let older: Vec<_> = forward[..forward.len() - 1].iter().rev().cloned().collect();
        assert_eq!(back[..older.len()], older);
        self.svix.application().delete(uid).await.expect("deleted");
        done("long_list");
    }

    async fn end(&self) {
        self.svix.health().get().await.expect("healthy");
        refused(404, self.svix.connector().get("none".into()).await);
        self.svix.application().delete(self.app()).await.expect("deleted");
        refused(404, self.svix.endpoint().list(self.app(), None).await);
        done("end");
    }
}

fn client(url: &str, token: &str) -> Svix {
    let options = SvixOptions { server_url: Some(url.to_owned()), ..SvixOptions::default() };
    Svix::new(token.to_owned(), Some(options))
}

/// The ids of new messages.
async fn send_many(svix: &Svix, app: &str, event_type: &str, count: usize) -> Vec<String> {
    let mut made = Vec::new();
    for n in 0..count {
        let message = MessageIn::new(event_type.to_owned(), json!({ "n": n }));
        made.push(svix.message().create(app.to_owned(), message, None).await.expect("a message").id);
    }
    made
}
