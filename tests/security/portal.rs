//! The portal: a tenant enters by a link and sees its app only, for a time, as far as the link allows.

use http::Method;
use postrider::api::route::{RouteAccess, RouteMethod};
use postrider::model::Scope;
use postrider::model::portal::PortalLink;
use postrider::ui;
use serde_json::{Value, json};

use crate::security::pages::{Browser, FORM, NO_ROW, make_webhook, token_of};
use crate::security::support::{Answer, Instance, echo, eventually, text};

async fn make_app(instance: &Instance, name: &str) -> Value {
    instance.first.post("/v1/apps", json!({ "name": name, "uid": name })).await.expect(201)
}

async fn make_link(instance: &Instance, fields: Value) -> Value {
    instance.first.post("/v1/portal-links", fields).await.expect(201)
}

async fn open(instance: &Instance, link: &Value) -> Answer {
    let path = text(link, "url").strip_prefix(&instance.daemon.url()).expect("its own address").to_owned();
    instance.client("").call(Method::GET, &path, &[], "").await
}

/// A browser that has entered by the link.
async fn enter(instance: &Instance, link: &Value) -> Browser {
    let answer = open(instance, link).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    assert_eq!(answer.headers["referrer-policy"], "no-referrer");
    let cookie = answer.headers["set-cookie"].to_str().expect("text");
    assert!(cookie.starts_with("pr_portal=") && cookie.contains("HttpOnly; SameSite=Strict"), "{cookie}");
    assert!(answer.body.contains("content=\"0;url=./\""), "{}", answer.body);
    Browser { client: instance.client(""), cookie: cookie.split(';').next().expect("a value").to_owned() }
}

async fn webhook_of(instance: &Instance, app: &str, name: &str) -> Value {
    let url = format!("http://{}/", echo().await);
    instance.first.post("/v1/webhooks", json!({ "url": url, "name": name, "app_id": app })).await.expect(201)
}

/// The members of a webhook that a caller sets.
fn settings_of(webhook: &Value) -> Value {
    let mut settings = webhook.clone();
    for of_its_life in ["id", "created_at", "updated_at", "status_since", "last_attempt_at", "last_success_at"] {
        settings.as_object_mut().expect("an object").remove(of_its_life);
    }
    settings
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_webhook_that_a_tenant_of_the_svix_api_makes_is_as_that_api_makes_it() {
    let instance = Instance::start().await;
    make_app(&instance, "acme").await;
    let access = instance.first.post("/api/v1/auth/app-portal-access/acme", json!({})).await.expect(200);
    let browser = enter(&instance, &access).await;
    let help = async || browser.get("/ui/portal/help").await.body;
    assert!(help().await.contains("<code>svix-id</code>"), "the help of a tenant without a webhook");
    let url = format!("http://{}/", echo().await);
    let by_api = instance.first.post("/api/v1/app/acme/endpoint", json!({ "url": url })).await.expect(201);
    let shown = browser.get("/ui/portal/webhooks/new").await;
    for preset in [r#"<option value="svix" selected>"#, r#"<option value="raw" selected>"#, r#"value="30000""#] {
        assert!(shown.body.contains(preset), "{preset}: {}", shown.body);
    }
    let form = url::form_urlencoded::Serializer::new(String::new())
        .append_pair("token", &token_of(&shown.body, "webhooks/new"))
        .extend_pairs([("url", url.as_str()), ("retry_schedule_s", ""), ("signature", "svix")])
        .finish();
    let made = browser.post("/ui/portal/webhooks/new", &form).await;
    assert_eq!(made.status, 201, "{}", made.body);
    let rows = instance.first.get("/v1/webhooks?app_id=acme").await.expect(200);
    assert_eq!(rows["data"].as_array().expect("rows").len(), 2);
    assert_eq!(settings_of(&rows["data"][0]), settings_of(&rows["data"][1]), "{by_api}");
    let message = json!({ "eventType": "a.b", "payload": { "n": 1 } });
    let sent = instance.first.post("/api/v1/app/acme/msg", message).await.expect(202);
    for row in rows["data"].as_array().expect("rows") {
        let attempt = eventually("an attempt", async || {
            let list = instance.first.get(&format!("/v1/webhooks/{}/attempts", text(row, "id"))).await.expect(200);
            list["data"][0]["id"].as_str().map(str::to_owned)
        })
        .await;
        let request = instance.first.get(&format!("/v1/attempts/{attempt}/request")).await.expect(200);
        assert!(request.to_string().contains(text(&sent, "id")), "{request}");
        assert!(!request.to_string().contains("webhook-id"), "{request}");
        assert_eq!(request["body"], r#"{"n":1}"#, "{request}");
    }
    let help = help().await;
    assert!(help.contains("<code>svix-signature</code>") && help.contains("the data of the event alone"), "{help}");
    // A link of the native API makes native webhooks.
    let browser = enter(&instance, &make_link(&instance, json!({ "app_id": "acme" })).await).await;
    assert!(!browser.get("/ui/portal/webhooks/new").await.body.contains("svix"));
}

/// The routes of the portal that need a session.
fn paths() -> Vec<(RouteMethod, String, Option<Scope>)> {
    let mut paths = Vec::new();
    for route in ui::mount().routes().iter().filter(|route| route.path.starts_with("/ui/portal/")) {
        let path = route.path.replace("{id}", NO_ROW).replace("{*rest}", "nothing");
        match route.access {
            RouteAccess::Scope(scope, _) => paths.push((route.verb, path, Some(scope))),
            RouteAccess::Authorized(..) => paths.push((route.verb, path, None)),
            _ => {}
        }
    }
    assert!(paths.len() > 25, "{}", paths.len());
    paths
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tenant_enters_by_a_link_and_sees_nothing_of_others() {
    let instance = Instance::start().await;
    make_app(&instance, "acme").await;
    let foreign = make_webhook(&instance, "foreign-hook").await;
    let event = json!({ "type": "foreign.event", "data": {} });
    let foreign_event = instance.first.post("/v1/events", event).await.expect(202);
    let own = webhook_of(&instance, "acme", "own-hook").await;
    instance.first.post("/v1/events", json!({ "type": "own.event", "app_id": "acme", "data": {} })).await.expect(202);
    let delivery = eventually("the delivery", async || {
        let path = format!("/v1/deliveries?status=delivered&webhook_id={}", text(&own, "id"));
        let list = instance.first.get(&path).await.expect(200);
        list["data"][0]["id"].as_str().map(str::to_owned)
    })
    .await;
    let others = instance.first.get(&format!("/v1/events/{}/deliveries", text(&foreign_event, "id"))).await.expect(200);
    let browser = enter(&instance, &make_link(&instance, json!({ "app_id": "acme" })).await).await;
    let own_page = format!("webhooks/{}", text(&own, "id"));
    let delivery_page = format!("deliveries/{delivery}");
    let lists =
        ["", "?status=failed", "webhooks", "deliveries", "deliveries?status=failed", "deliveries?status=waiting"];
    let pages = lists.into_iter().chain(["event-types", "help", "webhooks/new", "replays", "replays/new"]);
    for path in pages.chain([own_page.as_str(), delivery_page.as_str()]) {
        let answer = browser.get(&format!("/ui/portal/{path}")).await;
        assert_eq!(answer.status, 200, "{path}: {}", answer.body);
        for hidden in ["foreign", text(&foreign, "id"), "127.0.0.1:", ">Audit", ">System<", "Not ready", "· Postrider"]
        {
            let body = answer.body.replace(text(&own, "url"), "");
            assert!(!body.contains(hidden), "{path} shows {hidden}");
        }
        assert!(answer.body.len() <= 45_000, "{path} has {} bytes", answer.body.len());
        assert!(!answer.body.contains("style=") && !answer.body.contains("href=\"/"), "{path}");
    }
    assert!(browser.get("/ui/portal/").await.body.contains("own-hook"));
    assert!(browser.get("/ui/portal/event-types").await.body.contains("own.event"));
    let foreign_delivery = text(&others["data"][0], "id");
    for path in [format!("webhooks/{}", text(&foreign, "id")), format!("deliveries/{foreign_delivery}")] {
        assert_eq!(browser.get(&format!("/ui/portal/{path}")).await.status, 404, "{path}");
    }
    for path in ["events", "keys", "audit", "system", "apps", "live"] {
        assert_eq!(browser.get(&format!("/ui/portal/{path}")).await.status, 404, "{path}");
        assert_eq!(browser.get(&format!("/ui/{path}")).await.status, 303, "the dashboard's {path}");
    }
    assert_eq!(browser.get("/v1/webhooks").await.status, 401, "the cookie is no key");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tenant_makes_a_webhook_sends_again_and_the_audit_names_the_link() {
    let instance = Instance::with(|settings| settings.portal.webhooks_max = 1).await;
    make_app(&instance, "acme").await;
    let link = make_link(&instance, json!({ "app_id": "acme", "return_url": "https://app.example/set" })).await;
    let browser = enter(&instance, &link).await;
    assert!(browser.get("/ui/portal/").await.body.contains("href=\"https://app.example/set\""));
    let submit = async |page: &str, action: &str, fields: &str| {
        let shown = browser.get(page).await;
        let token = token_of(&shown.body, action);
        browser.post(&format!("/ui/portal/{action}"), &format!("token={token}&{fields}")).await
    };
    let token = token_of(&browser.get("/ui/portal/").await.body, "leave");
    let wrong = browser.post("/ui/portal/webhooks/new", &format!("token={token}&url=http%3A%2F%2Fx")).await;
    assert_eq!(wrong.status, 403, "the token of another form");
    let url = format!("http%3A%2F%2F{}%2F", echo().await);
    let made = submit("/ui/portal/webhooks/new", "webhooks/new", &format!("url={url}&name=of-tenant")).await;
    assert_eq!(made.status, 201, "{}", made.body);
    assert!(made.body.contains("whsec_"));
    let again = submit("/ui/portal/webhooks/new", "webhooks/new", &format!("url={url}")).await;
    assert_eq!(again.status, 409, "more than portal.webhooks_max: {}", again.body);
    let list = instance.first.get("/v1/webhooks?app_id=acme").await.expect(200);
    assert_eq!(list["data"].as_array().expect("rows").len(), 1, "{list}");
    instance.first.post("/v1/events", json!({ "type": "a.b", "app_id": "acme", "data": {} })).await.expect(202);
    let delivery = eventually("the delivery", async || {
        let list = instance.first.get("/v1/deliveries?status=delivered").await.expect(200);
        list["data"][0]["id"].as_str().map(str::to_owned)
    })
    .await;
    let page = format!("/ui/portal/deliveries/{delivery}");
    let sent = submit(&page, &format!("deliveries/{delivery}/retry"), "").await;
    assert_eq!(sent.status, 303, "{}", sent.body);
    for action in ["portal_link.create", "portal.enter", "webhook.create", "delivery.retry"] {
        let audit = instance.first.get(&format!("/v1/audit?action={action}")).await.expect(200);
        let by = if action == "portal_link.create" { &Value::Null } else { &link["id"] };
        assert_eq!(&audit["data"][0]["portal_link_id"], by, "{action}: {audit}");
    }
    let left = submit("/ui/portal/", "leave", "").await;
    assert!(left.headers["set-cookie"].to_str().expect("text").contains("Max-Age=0"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_repeated_form_makes_and_shows_nothing_and_forms_at_once_keep_to_the_limit() {
    let instance = Instance::with(|settings| settings.portal.webhooks_max = 2).await;
    make_app(&instance, "acme").await;
    let browser = enter(&instance, &make_link(&instance, json!({ "app_id": "acme" })).await).await;
    let token = token_of(&browser.get("/ui/portal/webhooks/new").await.body, "webhooks/new");
    let url = format!("http%3A%2F%2F{}%2F", echo().await);
    let post = async |once: &str| {
        let form = format!("token={token}&once={once}&url={url}&name={once}");
        browser.post("/ui/portal/webhooks/new", &form).await
    };
    let names = ["a", "b", "c", "d", "e", "f"];
    let (a, b, c, d, e, f) = tokio::join!(post("a"), post("b"), post("c"), post("d"), post("e"), post("f"));
    let answers = [a, b, c, d, e, f];
    let made: Vec<_> = names.iter().zip(&answers).filter(|(_, answer)| answer.status == 201).collect();
    assert_eq!(made.len(), 2, "{:?}", answers.iter().map(|answer| answer.status).collect::<Vec<_>>());
    for (once, first) in made {
        let again = post(once).await;
        assert_eq!(again.status, 409, "nothing is made: {}", again.body);
        assert!(first.body.contains("whsec_") && !again.body.contains("whsec_"), "{}", again.body);
    }
    let refused = post("g").await;
    assert_eq!(refused.status, 409, "{}", refused.body);
    assert!(refused.body.contains("which is the most"), "{}", refused.body);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn visitors_of_the_portal_have_a_rate_of_their_own() {
    let instance = Instance::start().await;
    make_app(&instance, "acme").await;
    let fields = json!({ "name": "maker", "scopes": ["apps:write", "webhooks:read"], "rate_per_s": 2.0 });
    let key = instance.first.post("/v1/keys", fields).await.expect(201);
    let maker = instance.client(text(&key, "key"));
    let link = maker.post("/v1/portal-links", json!({ "app_id": "acme" })).await.expect(201);
    let browser = enter(&instance, &link).await;
    let mut pages = 0;
    let refused = loop {
        let answer = browser.get("/ui/portal/").await;
        match answer.status.as_u16() {
            200 => pages += 1,
            _ => break answer,
        }
    };
    assert_eq!((refused.status.as_u16(), pages), (429, 50));
    assert!(refused.body.contains("wait a moment") && !refused.body.contains("this key"), "{}", refused.body);
    maker.get("/v1/webhooks").await.expect(200);
    assert_eq!(maker.get("/v1/webhooks").await.status, 429, "the rate of the key");
    instance.clock.advance_ms(1_000);
    assert_eq!(browser.get("/ui/portal/").await.status, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tenant_reads_causes_and_cures_in_words_of_its_own() {
    let instance = Instance::with(|settings| settings.delivery.allow.clear()).await;
    make_app(&instance, "acme").await;
    let browser = enter(&instance, &make_link(&instance, json!({ "app_id": "acme" })).await).await;
    let token = token_of(&browser.get("/ui/portal/webhooks/new").await.body, "webhooks/new");
    let refused = browser.post("/ui/portal/webhooks/new", &format!("token={token}&url=http%3A%2F%2F10.0.0.7%2F")).await;
    assert_eq!(refused.status, 422, "{}", refused.body);
    assert!(refused.body.contains("this address is not allowed"), "{}", refused.body);
    assert!(!refused.body.contains("delivery.allow"), "{}", refused.body);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_page_of_the_portal_needs_a_link_with_its_scope_and_every_form_its_token() {
    let instance = Instance::start().await;
    make_app(&instance, "acme").await;
    for cookie in ["", "pr_portal=", "pr_portal=x", &format!("pr_portal={}", "A".repeat(160))] {
        let browser = Browser { client: instance.client(""), cookie: cookie.to_owned() };
        for (verb, path, _) in paths() {
            let answer = match verb {
                RouteMethod::Get => browser.get(&path).await,
                _ => browser.post(&path, "token=x").await,
            };
            assert_eq!(answer.status, 401, "{path}");
            assert!(!answer.body.contains("login"), "{path}");
        }
    }
    let own = Browser::with_key(&instance, &instance.first.key).await;
    assert_eq!(own.get("/ui/portal/").await.status, 401, "a session of the dashboard is none of the portal");
    for scope in PortalLink::SCOPES.map(Scope::as_str) {
        // The visitors of an app share a rate.
        instance.clock.advance_ms(1_000);
        let browser =
            enter(&instance, &make_link(&instance, json!({ "app_id": "acme", "scopes": [scope] })).await).await;
        for (verb, path, needed) in paths() {
            let own = Scope::parse(scope).expect("a scope");
            let is_allowed = needed.is_none_or(|needed| own.contains(needed));
            let answer = match verb {
                RouteMethod::Get if is_allowed => continue,
                RouteMethod::Get => browser.get(&path).await,
                _ => browser.post(&path, "token=x").await,
            };
            assert_eq!(answer.status, 403, "{scope} on {path}");
        }
        let headers = [FORM, ("sec-fetch-site", "cross-site"), ("cookie", browser.cookie.as_str())];
        let answer = browser.client.call(Method::POST, "/ui/portal/leave", &headers, "").await;
        assert_eq!(answer.status, 403, "a form of another site");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_maker_that_may_send_again_and_not_cancel_gives_its_tenant_the_same() {
    let instance = Instance::start().await;
    make_app(&instance, "acme").await;
    let fields = json!({ "name": "maker", "scopes": ["apps:write", "events:read", "deliveries:retry"] });
    let key = instance.first.post("/v1/keys", fields).await.expect(201);
    let maker = instance.client(text(&key, "key"));
    let link = maker.post("/v1/portal-links", json!({ "app_id": "acme" })).await.expect(201);
    assert_eq!(link["scopes"], json!(["events:read", "deliveries:retry"]));
    let browser = enter(&instance, &link).await;
    assert_eq!(browser.get("/ui/portal/replays").await.status, 200);
    let link = make_link(&instance, json!({ "app_id": "acme" })).await;
    assert_eq!(link["scopes"], json!(["events:read", "events:write", "webhooks:read", "webhooks:write"]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_link_ends_with_its_times_its_key_its_app_and_by_being_revoked() {
    let instance = Instance::start().await;
    let app = make_app(&instance, "acme").await;
    let link = make_link(&instance, json!({ "app_id": "acme", "expires_in_s": 600, "enter_within_s": 60 })).await;
    let browser = enter(&instance, &link).await;
    let altered = format!("{}x", text(&link, "url"));
    assert_eq!(open(&instance, &json!({ "url": altered })).await.status, 403);
    instance.clock.advance_ms(60_000);
    assert_eq!(open(&instance, &link).await.status, 403, "too late to enter");
    assert_eq!(browser.get("/ui/portal/").await.status, 200);
    instance.clock.advance_ms(540_000);
    assert_eq!(browser.get("/ui/portal/").await.status, 401, "expired");
    let link = make_link(&instance, json!({ "app_id": "acme" })).await;
    let browser = enter(&instance, &link).await;
    assert_eq!(browser.get("/ui/portal/").await.status, 200);
    let path = format!("/v1/portal-links/{}", text(&link, "id"));
    instance.first.delete(&path).await.expect(204);
    assert_eq!(browser.get("/ui/portal/").await.status, 401, "revoked");
    assert_eq!(open(&instance, &link).await.status, 403);
    instance.first.delete(&path).await.expect(204);
    instance.first.delete(&format!("/v1/portal-links/{NO_ROW}")).await.expect(404);
    let made = json!({ "name": "maker", "scopes": ["apps:write", "webhooks:read", "events:read"] });
    let key = instance.first.post("/v1/keys", made).await.expect(201);
    let maker = instance.client(text(&key, "key"));
    let link = maker.post("/v1/portal-links", json!({ "app_id": "acme" })).await.expect(201);
    assert_eq!(link["scopes"], json!(["events:read", "webhooks:read"]), "no scopes beyond those of the maker");
    maker.post("/v1/portal-links", json!({ "app_id": "acme", "scopes": ["events:write"] })).await.expect(403);
    for wrong in [
        json!({}),
        json!({ "app_id": "acme", "scopes": ["admin"] }),
        json!({ "app_id": "acme", "scopes": [] }),
        json!({ "app_id": "acme", "expires_in_s": 59 }),
        json!({ "app_id": "acme", "expires_in_s": 86_401 }),
        json!({ "app_id": "acme", "return_url": "javascript:alert(1)" }),
    ] {
        instance.first.post("/v1/portal-links", wrong).await.expect(422);
    }
    instance.first.post("/v1/portal-links", json!({ "app_id": "missing" })).await.expect(404);
    let browser = enter(&instance, &link).await;
    instance.first.delete(&format!("/v1/keys/{}", text(&key, "id"))).await.expect(204);
    assert_eq!(browser.get("/ui/portal/").await.status, 401, "the key of the maker is revoked");
    let browser = enter(&instance, &make_link(&instance, json!({ "app_id": "acme" })).await).await;
    instance.first.delete(&format!("/v1/apps/{}", text(&app, "id"))).await.expect(204);
    assert_eq!(browser.get("/ui/portal/").await.status, 401, "the app of the link is removed");
    let off = Instance::with(|settings| settings.portal.enabled = false).await;
    make_app(&off, "acme").await;
    off.first.post("/v1/portal-links", json!({ "app_id": "acme" })).await.expect(409);
    assert_eq!(off.client("").call(Method::GET, "/ui/portal/enter?t=x", &[], "").await.status, 404);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_access_of_the_svix_shape_opens_the_portal_with_its_own_rights() {
    let instance = Instance::start().await;
    make_app(&instance, "acme").await;
    webhook_of(&instance, "acme", "own-hook").await;
    let access = async |body: Value| instance.first.post("/api/v1/auth/app-portal-access/acme", body).await.expect(200);
    let whole = enter(&instance, &access(json!({})).await).await;
    let page = whole.get("/ui/portal/webhooks").await;
    assert!(page.body.contains("own-hook") && page.body.contains("webhooks/new"), "{}", page.body);
    assert_eq!(whole.get("/ui/portal/replays").await.status, 200);
    let reader = enter(&instance, &access(json!({ "readOnly": true })).await).await;
    assert_eq!(reader.get("/ui/portal/webhooks").await.status, 200);
    assert_eq!(reader.get("/ui/portal/webhooks/new").await.status, 403);
    assert_eq!(reader.get("/ui/portal/replays").await.status, 403);
    instance.first.post("/api/v1/auth/app/acme/expire-all", json!({})).await.expect(204);
    assert_eq!(whole.get("/ui/portal/webhooks").await.status, 401, "expire-all ends the links too");
    let nothing = access(json!({ "capabilities": [] })).await;
    assert_eq!(text(&nothing, "url"), instance.daemon.url(), "a link without rights would open nothing");
}
