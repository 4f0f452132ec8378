//! The pages for browsers: no page and no form without a session, its scope, its app, its origin and its token.

use http::Method;
use postrider::api::route::{RouteAccess, RouteMethod};
use postrider::model::Scope;
use postrider::ui;
use serde_json::{Value, json};

use crate::security::support::{Answer, Client, Instance, echo, text};

pub const FORM: (&str, &str) = ("content-type", "application/x-www-form-urlencoded");
const SAME_ORIGIN: (&str, &str) = ("sec-fetch-site", "same-origin");
/// An id that no row has.
pub const NO_ROW: &str = "0195a000-0000-7000-8000-000000000000";

/// A browser: a client without a key that keeps one cookie.
pub struct Browser {
    pub client: Client,
    pub cookie: String,
}

impl Browser {
    pub fn new(instance: &Instance) -> Browser {
        Browser { client: instance.client(""), cookie: String::new() }
    }

    /// A browser that has logged in with this key.
    pub async fn with_key(instance: &Instance, key: &str) -> Browser {
        let mut browser = Browser::new(instance);
        let answer = browser.log_in(key).await;
        assert_eq!(answer.status, 303, "{}", answer.body);
        browser
    }

    async fn log_in(&mut self, key: &str) -> Answer {
        let answer = self.client.call(Method::POST, "/ui/login", &[FORM, SAME_ORIGIN], &format!("key={key}")).await;
        if let Some(set) = answer.headers.get("set-cookie") {
            self.cookie = set.to_str().expect("text").split(';').next().expect("a value").to_owned();
        }
        answer
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.client.call(Method::GET, path, &[("cookie", &self.cookie)], "").await
    }

    pub async fn post(&self, path: &str, body: &str) -> Answer {
        let headers = [FORM, SAME_ORIGIN, ("cookie", self.cookie.as_str())];
        self.client.call(Method::POST, path, &headers, body).await
    }

    /// Posts a form with the token that `page` has for it.
    pub async fn submit(&self, page: &str, action: &str, fields: &str) -> Answer {
        let shown = self.get(page).await;
        assert_eq!(shown.status, 200, "{page}: {}", shown.body);
        let token = token_of(&shown.body, action);
        self.post(&format!("/ui/{action}"), &format!("token={token}&{fields}")).await
    }
}

/// The token of the form that posts to `action`.
pub fn token_of(page: &str, action: &str) -> String {
    let form =
        page.split("<form").find(|form| form.contains(&format!("{action}\"")) && form.contains("name=\"token\""));
    let form = form.unwrap_or_else(|| panic!("no form for {action}"));
    let (_, after) = form.split_once("name=\"token\" value=\"").expect("a token");
    after.split('"').next().expect("its end").to_owned()
}

fn paths() -> Vec<(RouteMethod, String, Option<Scope>)> {
    let mut paths = Vec::new();
    // The portal has a session of its own: see `portal.rs`.
    for route in ui::mount().routes().iter().filter(|route| !route.path.starts_with("/ui/portal/")) {
        let path = route.path.replace("{id}", NO_ROW);
        match route.access {
            RouteAccess::Scope(scope, _) => paths.push((route.verb, path, Some(scope))),
            RouteAccess::Authorized(..) => paths.push((route.verb, path, None)),
            _ => {}
        }
    }
    assert!(paths.len() > 40, "{}", paths.len());
    paths
}

fn method(verb: RouteMethod) -> Method {
    verb.as_str().parse().expect("a method")
}

pub async fn make_webhook(instance: &Instance, name: &str) -> Value {
    let url = format!("http://{}/", echo().await);
    instance.first.post("/v1/webhooks", json!({ "url": url, "name": name })).await.expect(201)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_session_every_page_leads_to_the_login_and_no_form_is_taken() {
    let instance = Instance::start().await;
    let webhook = make_webhook(&instance, "secret-name").await;
    let forged = format!("pr_session={}", "A".repeat(118));
    for cookie in ["", "pr_session=", "pr_session=x", &forged] {
        let browser = Browser { cookie: cookie.to_owned(), ..Browser::new(&instance) };
        for (verb, path, _) in paths() {
            let path = path.replace(NO_ROW, text(&webhook, "id"));
            let answer = match verb {
                RouteMethod::Get => browser.get(&path).await,
                _ => browser.post(&path, "token=x").await,
            };
            let expected = if verb == RouteMethod::Get { 303 } else { 401 };
            assert_eq!(answer.status, expected, "{path}");
            assert!(!answer.body.contains("secret-name"), "{path}");
            if verb == RouteMethod::Get {
                let to = answer.headers["location"].to_str().expect("text");
                assert!(to.trim_start_matches("../").starts_with("login"), "{path}: {to}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_page_and_form_refuses_a_session_without_its_scope() {
    let instance = Instance::start().await;
    let mut refused = 0;
    for scope in Scope::ALL.into_iter().filter(|scope| *scope != Scope::Admin) {
        let key = instance
            .first
            .post("/v1/keys", json!({ "name": format!("key of {}", scope.as_str()), "scopes": [scope.as_str()] }))
            .await
            .expect(201);
        let browser = Browser::with_key(&instance, text(&key, "key")).await;
        instance.clock.advance_ms(60 * 1_000);
        for (verb, path, needed) in paths() {
            let Some(needed) = needed.filter(|needed| !scope.contains(*needed)) else { continue };
            let answer = match verb {
                RouteMethod::Get => browser.get(&path).await,
                _ => browser.post(&path, "token=x").await,
            };
            assert_eq!(answer.status, 403, "{} on {path} ({})", scope.as_str(), needed.as_str());
            let said = format!("This key, key of {}, does not have the scope {}", scope.as_str(), needed.as_str());
            assert!(answer.body.to_lowercase().contains(&said.to_lowercase()), "{path}: {}", answer.body);
            refused += 1;
        }
    }
    assert!(refused > 300, "{refused}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_form_is_taken_without_its_token_or_from_another_site() {
    let instance = Instance::start().await;
    let webhook = make_webhook(&instance, "hook").await;
    let id = text(&webhook, "id");
    let browser = Browser::with_key(&instance, &instance.first.key).await;
    let page = browser.get(&format!("/ui/webhooks/{id}")).await.body;
    let token = token_of(&page, &format!("webhooks/{id}/pause"));
    for (verb, path, _) in paths().into_iter().filter(|(verb, _, _)| *verb == RouteMethod::Post) {
        let path = path.replace(NO_ROW, id);
        for body in ["", "token=", "token=AAAAAAAAAAAAAAAAAAAAAA"] {
            let answer = browser.post(&path, body).await;
            assert_eq!(answer.status, 403, "{} {path} {body}", method(verb));
        }
    }
    let (path, body) = (format!("/ui/webhooks/{id}/pause"), format!("token={token}"));
    let others =
        [("sec-fetch-site", "cross-site"), ("sec-fetch-site", "same-site"), ("sec-fetch-site", "none"), ("x-none", "")];
    for other in others {
        let headers = [FORM, other, ("cookie", browser.cookie.as_str())];
        let answer = browser.client.call(Method::POST, &path, &headers, &body).await;
        assert_eq!(answer.status, 403, "{other:?}");
    }
    let resume = browser.post(&format!("/ui/webhooks/{id}/resume"), &body).await;
    assert_eq!(resume.status, 403, "the token of another form");
    let shown = instance.first.get(&format!("/v1/webhooks/{id}")).await.expect(200);
    assert_eq!(shown["status"], "enabled", "nothing was changed");
    let answer = browser.post(&path, &body).await;
    assert_eq!(answer.status, 303, "{}", answer.body);
    assert_eq!(instance.first.get(&format!("/v1/webhooks/{id}")).await.expect(200)["status"], "paused");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_of_one_app_sees_nothing_of_another() {
    let instance = Instance::start().await;
    let webhook = make_webhook(&instance, "foreign-hook").await;
    let event = instance.first.post("/v1/events", json!({ "type": "foreign.event", "data": {} })).await.expect(202);
    let app = instance.first.post("/v1/apps", json!({ "name": "own" })).await.expect(201);
    let made = json!({ "name": "of app", "scopes": ["admin"], "app_id": app["id"] });
    let key = instance.first.post("/v1/keys", made).await.expect(201);
    let browser = Browser::with_key(&instance, text(&key, "key")).await;
    let lists =
        ["", "webhooks", "deliveries", "deliveries?status=failed", "deliveries?status=waiting", "events", "live"];
    for path in lists.into_iter().chain(["live-rows", "replays", "apps", "keys", "audit", "find?q=foreign-hook"]) {
        let answer = browser.get(&format!("/ui/{path}")).await;
        assert_eq!(answer.status, 200, "{path}");
        assert!(!answer.body.replace("foreign-hook\"", "").contains(text(&webhook, "id")), "{path}");
        assert!(!answer.body.contains("foreign.event"), "{path}");
    }
    for path in [format!("webhooks/{}", text(&webhook, "id")), format!("events/{}", text(&event, "id"))] {
        assert_eq!(browser.get(&format!("/ui/{path}")).await.status, 404, "{path}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_ends_with_its_key_and_with_its_time() {
    let instance = Instance::start().await;
    let key = instance.first.post("/v1/keys", json!({ "name": "k", "scopes": ["admin"] })).await.expect(201);
    let browser = Browser::with_key(&instance, text(&key, "key")).await;
    assert_eq!(browser.get("/ui/").await.status, 200);
    let audit = instance.first.get("/v1/audit?action=ui.login").await.expect(200);
    assert_eq!(audit["data"][0]["target"], key["id"], "{audit}");
    assert_eq!(audit["data"][0]["remote_addr"], "127.0.0.1");
    instance.first.delete(&format!("/v1/keys/{}", text(&key, "id"))).await.expect(204);
    assert_eq!(browser.get("/ui/").await.status, 303, "revoked");
    let browser = Browser::with_key(&instance, &instance.first.key).await;
    instance.clock.advance_ms(1_800 * 1_000);
    let renewed = browser.get("/ui/").await;
    assert!(renewed.headers.contains_key("set-cookie"), "after a quarter of the idle time");
    instance.clock.advance_ms(1_800 * 1_000);
    assert_eq!(browser.get("/ui/").await.status, 303, "idle");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_listener_of_their_own_has_the_pages_and_the_api_has_none() {
    let instance =
        Instance::with(|settings| settings.ui.listen = Some("127.0.0.1:0".parse().expect("an address"))).await;
    let url = instance.daemon.pages_url().expect("pages");
    let authority = url.strip_prefix("http://").and_then(|rest| rest.strip_suffix("/ui/")).expect("an address");
    let pages = Client::new(authority.parse().expect("an address"), "");
    assert_ne!(pages.address, instance.address);
    let mut browser = Browser { client: pages.clone(), cookie: String::new() };
    assert_eq!(browser.log_in(&instance.first.key).await.status, 303);
    for path in ["/ui/", "/ui/webhooks", "/ui/system"] {
        assert_eq!(browser.get(path).await.status, 200, "{path}");
    }
    let front = pages.call(Method::GET, "/", &[("accept", "text/html")], "").await;
    assert_eq!((front.status.as_u16(), front.headers["location"].to_str().expect("text")), (303, "ui/"));
    let with_key = Client::new(pages.address, &instance.first.key);
    for path in ["/v1/events", "/v1/webhooks", "/metrics", "/healthz", "/openapi.json"] {
        assert_eq!(with_key.get(path).await.status, 404, "{path} on the listener of the pages");
        assert_eq!(browser.get(path).await.status, 404, "{path} on the listener of the pages");
    }
    for path in ["/ui/", "/ui/login", "/ui/portal/", "/ui/enter?t=x"] {
        assert_eq!(instance.first.get(path).await.status, 404, "{path} on the listener of the API");
    }
    instance.first.get("/v1/webhooks").await.expect(200);
    instance.first.post("/v1/apps", serde_json::json!({ "name": "acme", "uid": "acme" })).await.expect(201);
    let link = instance.first.post("/v1/portal-links", serde_json::json!({ "app_id": "acme" })).await.expect(201);
    let path = text(&link, "url").strip_prefix(&format!("http://{authority}")).expect("the pages' address").to_owned();
    assert_eq!(pages.call(Method::GET, &path, &[], "").await.status, 200);
    let own = serde_json::json!({ "url": format!("http://{authority}/"), "name": "own" });
    instance.first.post("/v1/webhooks", own).await.expect(422);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tries_to_log_in_are_few_and_a_link_works_once() {
    let instance = Instance::start().await;
    let mut browser = Browser::new(&instance);
    for _ in 0..10 {
        let answer = browser.log_in("pr_wrong").await;
        assert_eq!((answer.status.as_u16(), answer.headers.contains_key("set-cookie")), (401, false));
    }
    let answer = browser.log_in(&instance.first.key).await;
    assert_eq!(answer.status, 429);
    assert!(answer.headers.contains_key("retry-after"));
    let link = instance.daemon.login_link().expect("a link");
    let path = link.strip_prefix(&instance.daemon.url()).expect("its own address").to_owned();
    let entered = browser.get(&path).await;
    assert_eq!(entered.status, 200);
    let cookie = entered.headers["set-cookie"].to_str().expect("text");
    assert!(
        cookie.contains("HttpOnly; SameSite=Strict") && !cookie.contains("Path") && !cookie.contains("Secure"),
        "{cookie}"
    );
    browser.cookie = cookie.split(';').next().expect("a value").to_owned();
    assert_eq!(browser.get("/ui/").await.status, 200);
    let again = Browser::new(&instance).get(&path).await;
    assert_eq!((again.status.as_u16(), again.headers.contains_key("set-cookie")), (403, false));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_answer_keeps_to_itself_and_links_are_relative() {
    let instance = Instance::start().await;
    let browser = Browser::with_key(&instance, &instance.first.key).await;
    let mut assets = Vec::new();
    for path in ["/ui/", "/ui/webhooks", "/ui/webhooks/new", "/ui/login", "/ui/nothing", "/ui/webhooks/x", "/ui"] {
        let answer = browser.get(path).await;
        let policy = answer.headers["content-security-policy"].to_str().expect("text");
        assert!(policy.starts_with("default-src 'none'; script-src 'self';"), "{path}");
        assert_eq!(answer.headers["cache-control"], "no-store", "{path}");
        for name in ["href=\"/", "action=\"/", "src=\"/", "content=\"0;url=/"] {
            assert!(!answer.body.contains(name), "{path} has {name}");
        }
        assert!(!answer.body.contains("style=") && !answer.body.contains("onclick"), "{path}");
        assets.extend(answer.body.split('"').filter(|part| part.starts_with("assets/")).map(str::to_owned));
    }
    assets.sort();
    assets.dedup();
    assert_eq!(assets.len(), 3, "{assets:?}");
    let mut sent = browser.get("/ui/").await.body.len();
    for asset in assets {
        let answer = browser.get(&format!("/ui/{asset}")).await;
        assert_eq!(answer.status, 200);
        assert_eq!(answer.headers["cache-control"], "public, max-age=31536000, immutable");
        sent += answer.body.len();
    }
    assert!(sent <= 60_000, "the first page sends {sent} bytes");
    assert_eq!(browser.get("/ui").await.headers["location"], "ui/");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_browser_at_the_front_door_is_shown_in_and_a_program_is_not() {
    let instance = Instance::start().await;
    let browser = instance.client("");
    let html = ("accept", "text/html,application/xhtml+xml,*/*;q=0.8");
    let answer = browser.call(Method::GET, "/", &[html], "").await;
    assert_eq!((answer.status.as_u16(), answer.headers["location"].to_str().expect("text")), (303, "ui/"));
    for accept in [&[][..], &[("accept", "*/*")], &[("accept", "application/json")]] {
        assert_eq!(browser.call(Method::GET, "/", accept, "").await.status, 401);
    }
    assert_eq!(instance.first.call(Method::GET, "/", &[html], "").await.status, 404, "a key is for the API");
    let off = Instance::with(|settings| settings.ui.enabled = false).await;
    assert_eq!(off.client("").call(Method::GET, "/", &[html], "").await.status, 401);
    assert_eq!(off.first.get("/ui/").await.status, 404);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_webhook_is_made_with_a_mistake_first_tested_and_its_secret_shown_once() {
    let instance = Instance::start().await;
    let browser = Browser::with_key(&instance, &instance.first.key).await;
    let wrong = browser.submit("/ui/webhooks/new", "webhooks/new", "url=ftp%3A%2F%2Fx&timeout_ms=soon").await;
    assert_eq!(wrong.status, 422);
    assert!(
        wrong.body.contains("id=\"wrong-url\"") && wrong.body.contains("id=\"wrong-timeout_ms\""),
        "{}",
        wrong.body
    );
    assert!(wrong.body.contains("value=\"ftp://x\""), "the typed text stays");
    let url = format!("http%3A%2F%2F{}%2F", echo().await);
    let made =
        browser.submit("/ui/webhooks/new", "webhooks/new", &format!("url={url}&name=hook&event_types=a.*")).await;
    assert_eq!(made.status, 201, "{}", made.body);
    assert!(made.body.contains("whsec_"));
    let list = instance.first.get("/v1/webhooks").await.expect(200);
    let id = text(&list["data"][0], "id");
    let page = format!("/ui/webhooks/{id}");
    assert!(!browser.get(&page).await.body.contains("whsec_"));
    let tested = browser.submit(&page, &format!("webhooks/{id}/test"), "").await;
    assert!(tested.body.contains("The test arrived."), "{}", tested.body);
    let shown = browser.submit(&page, &format!("webhooks/{id}/secret"), "").await;
    assert!(shown.body.contains("whsec_"), "{}", shown.body);
    let audit = instance.first.get("/v1/audit?action=webhook.read_secret").await.expect(200);
    assert_eq!(audit["data"].as_array().expect("rows").len(), 1);
    let action = format!("webhooks/{id}/secret");
    let token = token_of(&browser.get(&page).await.body, &action);
    let form = format!("token={token}&once=reveal-1");
    assert!(browser.post(&format!("/ui/{action}"), &form).await.body.contains("whsec_"));
    let again = browser.post(&format!("/ui/{action}"), &form).await;
    assert!(again.status == 409 && !again.body.contains("whsec_"), "{}", again.body);
    assert!(again.body.contains("had been sent before"), "{}", again.body);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hostile_texts_make_no_elements() {
    let instance = Instance::start().await;
    let browser = Browser::with_key(&instance, &instance.first.key).await;
    let hostile = "\"'></td></pre><script>alert(1)</script><img src=x onerror=alert(1)>\u{202e}";
    make_webhook(&instance, hostile).await;
    let event = json!({ "type": "a.b", "subject": hostile, "event_id": hostile, "metadata": { hostile: hostile },
        "data": { hostile: [hostile, hostile] } });
    let made = instance.first.post("/v1/events", event).await.expect(202);
    let id = text(&made, "id");
    let delivery = crate::security::support::eventually("the delivery", async || {
        let list = instance.first.get("/v1/deliveries?status=delivered").await.expect(200);
        list["data"][0]["id"].as_str().map(str::to_owned)
    })
    .await;
    let query = "search=%22%3E%3Cscript%3Ealert(1)%3C/script%3E&%3Cscript%3E=1";
    let pages = [
        String::new(),
        "webhooks".to_owned(),
        "deliveries".to_owned(),
        format!("deliveries?{query}"),
        format!("webhooks?{query}"),
        "find?q=%3Cscript%3Ealert(2)".to_owned(),
        format!("events/{id}"),
        format!("deliveries/{delivery}"),
        "events".to_owned(),
        "live".to_owned(),
        "audit".to_owned(),
    ];
    for path in pages {
        let body = browser.get(&format!("/ui/{path}")).await.body;
        assert_eq!(body.matches("<script").count(), 1, "{path}: only the module");
        assert!(!body.contains("<img") && !body.contains('\u{202e}'), "{path}");
    }
}
