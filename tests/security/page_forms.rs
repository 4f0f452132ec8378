//! Forms and filters of the pages: forms that come twice, filters that cannot be read, and filters that are kept.

use serde_json::json;

use crate::security::pages::{Browser, NO_ROW, token_of};
use crate::security::support::{Instance, echo, eventually, text};

/// A webhook that answers, and its id.
async fn webhook(instance: &Instance, name: &str) -> String {
    let body = json!({ "url": format!("http://{}/", echo().await), "name": name, "event_types": ["a.*"] });
    text(&instance.first.post("/v1/webhooks", body).await.expect(201), "id").to_owned()
}

fn location(answer: &crate::security::support::Answer) -> &str {
    answer.headers.get("location").and_then(|to| to.to_str().ok()).unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_form_that_comes_again_does_nothing_and_says_so() {
    let instance = Instance::start().await;
    let browser = Browser::with_key(&instance, &instance.first.key).await;
    let id = webhook(&instance, "hook").await;
    let page = format!("/ui/webhooks/{id}");
    let token = token_of(&browser.get(&page).await.body, &format!("webhooks/{id}/pause"));
    let form = format!("token={token}&once=form-1");
    let first = browser.post(&format!("/ui/webhooks/{id}/pause"), &form).await;
    assert!(location(&first).ends_with("?done=paused"), "{}", location(&first));
    browser.submit(&page, &format!("webhooks/{id}/resume"), "").await;
    let again = browser.post(&format!("/ui/webhooks/{id}/pause"), &form).await;
    assert!(location(&again).ends_with("?done=sent-before"), "{}", location(&again));
    let shown = browser.get(&format!("{page}?done=sent-before")).await.body;
    assert!(shown.contains("nothing was done now") && !shown.contains("Paused. "), "{shown}");
    let token = token_of(&browser.get("/ui/apps").await.body, "apps/new");
    let form = |name: &str| format!("token={token}&once=form-2&name={name}");
    browser.post("/ui/apps/new", &form("one")).await;
    let old = browser.post("/ui/apps/new", &form("two")).await;
    assert_eq!(old.status, 409, "{}", old.body);
    assert!(old.body.contains("An old form") && old.body.contains("name=\"name\" value=\"two\""), "{}", old.body);
    let (_, fresh) = old.body.split_once("name=\"once\" value=\"").expect("a value");
    let fresh = fresh.split('"').next().expect("its end");
    let sent = browser.post("/ui/apps/new", &format!("token={token}&once={fresh}&name=two")).await;
    assert_eq!(location(&sent), "../apps?done=created");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_filter_that_cannot_be_read_is_left_out_and_named() {
    let instance = Instance::start().await;
    let browser = Browser::with_key(&instance, &instance.first.key).await;
    for (list, name, value) in [
        ("deliveries?status=failed", "from", "yesterday"),
        ("deliveries?status=failed", "webhook", "garbage"),
        ("deliveries?status=failed", "outcome", "bogus"),
        ("deliveries?status=failed", "last", "99h"),
        ("events?type=a.b", "to", "tomorrow"),
        ("webhooks?search=x", "state", "odd"),
        ("live?search=x", "webhook", "garbage"),
        ("audit?action=x", "key", "garbage"),
    ] {
        let shown = browser.get(&format!("/ui/{list}&{name}={value}")).await.body;
        assert!(shown.contains(&format!("left out: <code>{name}={value}</code>")), "{list} {name}: {shown}");
        assert!(!shown.contains(&format!("<b>{value}</b>")), "{list} {name} has a chip");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_list_keeps_its_filter_over_its_forms() {
    let instance = Instance::start().await;
    let browser = Browser::with_key(&instance, &instance.first.key).await;
    let id = webhook(&instance, "hook").await;
    instance.first.post("/v1/events", json!({ "type": "a.b", "data": 1 })).await.expect(202);
    let list = "/ui/deliveries?status=delivered&type=a.b";
    eventually("the delivery", async || browser.get(list).await.body.contains("name=\"id[]\"").then_some(())).await;
    let none = browser.submit(list, "deliveries/retry", "list=%3Fstatus%3Ddelivered%26type%3Da.b").await;
    assert_eq!(location(&none), "../deliveries?status=delivered&type=a.b&done=none-chosen");
    let shown = browser.get(list).await.body;
    assert!(shown.contains("name=\"list\" value=\"?status=delivered&amp;type=a.b\""), "{shown}");
    assert!(shown.contains("<form class=\"filters\" autocomplete=\"off\">"), "{shown}");
    // The chosen ones are sent after a question.
    let (_, one) = shown.split_once("name=\"id[]\" value=\"").expect("a row");
    let fields = format!("id[]={}&list=%3Fstatus%3Ddelivered", &one[..36]);
    let asked = browser.submit(list, "deliveries/retry", &fields).await.body;
    assert!(asked.contains("Send 1 delivery again") && asked.contains("To hook, at once"), "{asked}");
    let made = async || {
        let list = instance.first.get("/v1/deliveries").await.expect(200);
        list["data"].as_array().map_or(0, Vec::len)
    };
    assert_eq!(made().await, 1, "a question sends nothing");
    let sent = browser.submit(list, "deliveries/retry", &format!("{fields}&sure=yes")).await;
    assert_eq!(location(&sent), "../deliveries?status=delivered&done=retried-many");
    assert_eq!(made().await, 2);
    // A disabled webhook gets nothing, before and after the question.
    instance.first.patch(&format!("/v1/webhooks/{id}"), json!({ "status": "disabled" })).await.expect(200);
    let asked = browser.submit(list, "deliveries/retry", &fields).await.body;
    assert!(asked.contains("hook (disabled: not sent)"), "{asked}");
    let sent = browser.submit(list, "deliveries/retry", &format!("{fields}&sure=yes")).await;
    assert_eq!(location(&sent), "../deliveries?status=delivered&done=retried-none");
    assert_eq!(made().await, 2);
    instance.first.patch(&format!("/v1/webhooks/{id}"), json!({ "status": "enabled" })).await.expect(200);
    // A replay's form shows every part of the filter, and hands it on.
    let filter = format!("webhook={id}&status=failed&outcome=timeout&last=24h");
    let form = browser.get(&format!("/ui/replays/new?{filter}")).await.body;
    assert!(form.contains("<option value=\"timeout\" selected>"), "{form}");
    let (before, _) = form.split_once("&amp;last=7d\"").expect("the last 7 days");
    let link = before.rsplit("href=\"").next().expect("a link");
    assert!(link.starts_with(&format!("?webhook={id}&amp;status=failed&amp;outcome=timeout")), "{link}");
    let fields = format!("webhook={id}&status=failed&outcome=timeout&rate=5");
    let asked = browser.submit("/ui/replays/new", "replays/count", &fields).await.body;
    let change = format!("replays/new?webhook={id}&amp;status=failed&amp;outcome=timeout&amp;rate=5");
    assert!(asked.contains(&change), "{asked}");
    // A removed webhook keeps its deliveries, which cannot be sent again.
    instance.first.delete(&format!("/v1/webhooks/{id}")).await.expect(204);
    let shown = browser.get(&format!("/ui/deliveries?webhook={id}")).await.body;
    assert!(shown.contains("name=\"id[]\""), "{shown}");
    let rows = instance.first.get("/v1/deliveries").await.expect(200);
    let one = browser.get(&format!("/ui/deliveries/{}", text(&rows["data"][0], "id"))).await.body;
    assert!(!one.contains("Send again"), "{one}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn waiting_deliveries_have_further_pages_and_their_replay_has_its_figures() {
    let instance = Instance::start().await;
    let browser = Browser::with_key(&instance, &instance.first.key).await;
    let id = webhook(&instance, "hook").await;
    instance.first.post(&format!("/v1/webhooks/{id}/pause"), json!({})).await.expect(200);
    for number in 0..45 {
        instance.first.post("/v1/events", json!({ "type": "a.b", "data": number })).await.expect(202);
    }
    let shown = browser.get("/ui/deliveries?status=waiting").await.body;
    assert!(shown.contains("1–40 of 45") && shown.contains("Older</a>"), "{shown}");
    instance.first.post(&format!("/v1/webhooks/{id}/resume"), json!({})).await.expect(200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_count_takes_the_outcome_of_the_list() {
    let instance = Instance::start().await;
    let browser = Browser::with_key(&instance, &instance.first.key).await;
    // A port that refuses, because its listener is gone.
    let closed = std::net::TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a port");
    let body =
        json!({ "url": format!("http://{closed}/"), "name": "hook", "event_types": ["a.*"], "retry_schedule_s": [] });
    let id = text(&instance.first.post("/v1/webhooks", body).await.expect(201), "id").to_owned();
    instance.first.post("/v1/events", json!({ "type": "a.b", "data": 1 })).await.expect(202);
    let outcome = eventually("the failure", async || {
        let list = instance.first.get("/v1/deliveries?status=failed").await.expect(200);
        list["data"][0]["last_outcome"].as_str().map(str::to_owned)
    })
    .await;
    for (outcome, heading) in [(outcome.as_str(), "1 event to hook"), ("tls_error", "0 events to hook")] {
        let page = format!("/ui/replays/new?webhook={id}&status=failed&outcome={outcome}&last=24h");
        let form = browser.get(&page).await.body;
        let (_, from) = form.split_once("name=\"from\" value=\"").expect("a time");
        let from = from.split('"').next().expect("its end");
        let fields = format!("webhook={id}&status=failed&outcome={outcome}&from={from}");
        let asked = browser.submit(&page, "replays/count", &fields).await.body;
        assert!(asked.contains(heading), "{outcome}: {asked}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mistake_in_a_small_form_keeps_its_input_and_the_theme_its_page() {
    let instance = Instance::start().await;
    let browser = Browser::with_key(&instance, &instance.first.key).await;
    let wrong = browser.submit("/ui/apps", "apps/new", &format!("name=kept&uid={}", "%20x%20y".repeat(200))).await;
    assert!(wrong.status == 422 && wrong.body.contains("value=\"kept\""), "{}", wrong.body);
    let wrong =
        browser.submit("/ui/keys", "keys/new", &format!("name={}&scope[]=events%3Aread", "k".repeat(2_000))).await;
    assert!(wrong.status == 422 && wrong.body.contains("value=\"events:read\" checked"), "{}", wrong.body);
    // The store finds a taken uid once it applies the change.
    browser.submit("/ui/apps", "apps/new", "name=one&uid=taken").await;
    let taken = browser.submit("/ui/apps", "apps/new", "name=two&uid=taken").await;
    assert!(taken.status == 409 && taken.body.contains("name=\"name\" value=\"two\""), "{}", taken.body);
    assert!(taken.body.contains("id=\"wrong-uid\" role=\"alert\">another app has this uid"), "{}", taken.body);
    let token = token_of(&browser.get("/ui/apps").await.body, "theme");
    let headers = [
        crate::security::pages::FORM,
        ("sec-fetch-site", "same-origin"),
        ("cookie", browser.cookie.as_str()),
        ("referer", "https://ops.example/p/ui/apps?last=1h"),
    ];
    let body = format!("token={token}&theme=dark");
    let answer = browser.client.call(http::Method::POST, "/ui/theme", &headers, &body).await;
    assert_eq!(location(&answer), "./apps?last=1h");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_form_after_the_end_of_its_session_leads_back() {
    let instance = Instance::start().await;
    let mut browser = Browser::new(&instance);
    browser.cookie = "pr_session=gone".to_owned();
    let headers = [
        crate::security::pages::FORM,
        ("sec-fetch-site", "same-origin"),
        ("referer", "https://ops.example/p/ui/webhooks/x?last=1h"),
    ];
    let path = format!("/ui/webhooks/{NO_ROW}/pause");
    let answer = browser.client.call(http::Method::POST, &path, &headers, "").await;
    assert_eq!(answer.status, 401, "{}", answer.body);
    assert!(answer.body.contains("href=\"../../login?to=webhooks%2Fx%3Flast%3D1h\""), "{}", answer.body);
}

/// A form's fields as a browser sends them.
fn encoded(fields: &[(&str, &str)]) -> String {
    url::form_urlencoded::Serializer::new(String::new()).extend_pairs(fields).finish()
}

/// The value of the hidden field of this name.
fn hidden<'a>(page: &'a str, name: &str) -> &'a str {
    let (_, value) = page.split_once(&format!("name=\"{name}\" value=\"")).expect("a hidden field");
    value.split('"').next().expect("its end")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_form_of_a_webhook_changes_the_touched_fields_only_and_an_emptied_one_to_its_default() {
    let instance = Instance::start().await;
    let browser = Browser::with_key(&instance, &instance.first.key).await;
    let id = webhook(&instance, "hook").await;
    let (path, api) = (format!("/ui/webhooks/{id}/edit"), format!("/v1/webhooks/{id}"));
    let first = json!({ "description": "a\nb", "headers": { "x-key": "1", "x-gone": "2" }, "secret_headers": ["x-key"],
        "auth": { "type": "bearer", "token": "hidden-token" }, "retry_schedule_s": [5], "metadata": { "a": "1", "b": "2" } });
    instance.first.patch(&api, first).await.expect(200);
    let save = async |fields: &[(&str, &str)]| {
        let page = browser.get(&path).await.body;
        assert!(!page.contains("hidden-token"), "{page}");
        let loaded = ["loaded", "loaded_headers", "loaded_metadata"];
        let texts = loaded.map(|name| hidden(&page, name).replace("&quot;", "\""));
        let loaded: Vec<(&str, &str)> = loaded.into_iter().zip(texts.iter().map(String::as_str)).collect();
        let fields = encoded(&[&loaded, fields].concat());
        browser.submit(&path, &format!("webhooks/{id}/edit"), &fields).await
    };
    let same = [
        ("description", "a\r\nb"),
        ("headers", "x-gone: 2\r\nx-key: ********"),
        ("auth", "bearer"),
        ("auth_name", ""),
        ("auth_secret", "********"),
        ("retry_schedule_s", "5"),
    ];
    let saved = save(&[&same[..], &[("timeout_ms", "5000")]].concat()).await;
    assert_eq!(location(&saved), format!("../{id}?done=saved"), "{}", saved.body);
    let shown = instance.first.get(&api).await.expect(200);
    assert_eq!((&shown["description"], &shown["timeout_ms"]), (&json!("a\nb"), &json!(5_000)), "{shown}");
    let changes = [("headers", "x-key: ********\r\nx-new: 3"), ("retry_schedule_s", "none"), ("name", "")];
    let saved = save(&[&changes[..], &[("metadata", "{\"a\": \"9\"}"), ("proxy", "none")]].concat()).await;
    assert_eq!(saved.status, 303, "{}", saved.body);
    let shown = instance.first.get(&api).await.expect(200);
    assert_eq!(shown["headers"], json!({ "x-key": "********", "x-new": "3" }), "{shown}");
    assert_eq!((&shown["metadata"], &shown["proxy"]), (&json!({ "a": "9" }), &json!("none")), "{shown}");
    assert_eq!((&shown["retry_schedule_s"], &shown["name"]), (&json!([]), &json!("127.0.0.1")), "{shown}");
    let saved = save(&[("retry_schedule_s", ""), ("timeout_ms", ""), ("auth", "")]).await;
    assert_eq!(saved.status, 303, "{}", saved.body);
    let shown = instance.first.get(&api).await.expect(200);
    let standard = json!([5, 300, 1_800, 7_200, 18_000, 36_000, 50_400, 72_000, 86_400]);
    assert_eq!((&shown["retry_schedule_s"], &shown["timeout_ms"]), (&standard, &json!(15_000)), "{shown}");
    assert!(shown["auth"].is_null(), "{shown}");
    let wrong = save(&[("url", "")]).await;
    assert!(wrong.status == 422 && wrong.body.contains("id=\"wrong-url\""), "{}", wrong.body);
    instance.first.post("/v1/webhooks", json!({ "url": "http://127.0.0.1:8099/", "uid": "own" })).await.expect(201);
    let taken = save(&[("uid", "own"), ("name", "kept")]).await;
    assert!(taken.status == 409 && taken.body.contains("id=\"wrong-uid\""), "{}", taken.body);
    assert!(taken.body.contains("value=\"kept\"") && taken.body.contains("name=\"loaded_metadata\""), "{}", taken.body);
    let page = browser.get(&format!("/ui/webhooks/{id}")).await.body;
    assert!(page.contains("<dt>Headers</dt><dd>x-key (secret), x-new</dd>"), "{page}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_form_that_publishes_keeps_its_input_whichever_mistake_it_has() {
    let instance = Instance::start().await;
    let browser = Browser::with_key(&instance, &instance.first.key).await;
    let publish = async |data: &str| {
        let fields = [("type", "a.b"), ("event_id", "e-1"), ("subject", "s-1"), ("data", data)];
        browser.submit("/ui/events/new", "events/new", &encoded(&fields)).await
    };
    assert_eq!(publish("{\"n\": 1}").await.status, 303);
    for (data, status, mistake) in [
        ("{\"n\": 1, \"n\": 2}", 400, "/data/n"),
        ("{\"n\":", 422, "/data"),
        // The store finds this one.
        ("\r\n{\"n\": 2}", 409, "/event_id"),
    ] {
        let page = publish(data).await;
        let input = data.replace('"', "&quot;");
        assert_eq!(page.status, status, "{}", page.body);
        assert!(page.body.contains(&format!("\n{input}</textarea>")), "{}", page.body);
        assert!(
            page.body.contains("value=\"s-1\"") && page.body.contains(&format!("<code>{mistake}</code>")),
            "{}",
            page.body
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_line_that_is_no_header_is_refused_at_its_field_and_its_group_is_open() {
    let instance = Instance::start().await;
    let browser = Browser::with_key(&instance, &instance.first.key).await;
    let fields =
        [("url", "http://127.0.0.1:8099/"), ("headers", "Authorization Bearer abc\r\nX-Ok: 1"), ("max_in_flight", "0")];
    let wrong = browser.submit("/ui/webhooks/new", "webhooks/new", &encoded(&fields)).await;
    assert_eq!(wrong.status, 422, "{}", wrong.body);
    let text = "line 1, “Authorization Bearer abc”, has no colon: write NAME: VALUE";
    assert!(wrong.body.contains(text) && !wrong.body.contains("must be an object"), "{}", wrong.body);
    assert!(wrong.body.contains("Nothing was saved: 2 values are wrong."), "{}", wrong.body);
    assert!(
        wrong.body.contains("href=\"#headers\"") && wrong.body.contains("href=\"#max_in_flight\""),
        "{}",
        wrong.body
    );
    assert_eq!(wrong.body.matches("<details open").count(), 2, "{}", wrong.body);
    let list = instance.first.get("/v1/webhooks").await.expect(200);
    assert_eq!(list["data"], json!([]), "nothing is saved");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_form_of_a_replay_lists_some_webhooks_and_takes_every_one() {
    let instance = Instance::start().await;
    let browser = Browser::with_key(&instance, &instance.first.key).await;
    let page = browser.get("/ui/replays/new").await.body;
    assert!(!page.contains("name=\"other\""), "{page}");
    let mut oldest = String::new();
    for number in 0..27 {
        let (name, uid) = (format!("hook-{number}."), format!("own-{number}"));
        let body = json!({ "url": "http://127.0.0.1:8099/", "name": name, "uid": uid });
        let made = instance.first.post("/v1/webhooks", body).await.expect(201);
        oldest = if number == 0 { text(&made, "id").to_owned() } else { oldest };
    }
    let page = browser.get("/ui/replays/new").await.body;
    assert_eq!(page.matches("hook-").count(), 25, "{page}");
    assert!(!page.contains("hook-0.") && page.contains("hook-26."), "{page}");
    assert!(browser.get(&format!("/ui/replays/new?webhook={oldest}")).await.body.contains("selected>hook-0.<"));
    for other in [oldest.as_str(), "own-0"] {
        let fields = encoded(&[("webhook", "app:x"), ("status", ""), ("other", other)]);
        let asked = browser.submit("/ui/replays/new", "replays/count", &fields).await;
        assert!(
            asked.body.contains("events to hook-0.") && asked.body.contains(&format!("value=\"{oldest}\"")),
            "{}",
            asked.body
        );
    }
    let fields = encoded(&[("webhook", "app:x"), ("other", "own-99")]);
    let wrong = browser.submit("/ui/replays/new", "replays/count", &fields).await;
    assert!(wrong.status == 422 && wrong.body.contains("name=\"other\" value=\"own-99\""), "{}", wrong.body);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replay_from_a_list_of_several_apps_asks_for_the_app() {
    let instance = Instance::start().await;
    let browser = Browser::with_key(&instance, &instance.first.key).await;
    let page = "/ui/replays/new?status=failed";
    assert!(!browser.get(page).await.body.contains("Choose…"), "there is one app");
    instance.first.post("/v1/apps", json!({ "name": "another" })).await.expect(201);
    let asked = browser.get(page).await.body;
    assert!(asked.contains("<option value=\"\" selected>Choose…</option>"), "{asked}");
    let refused = browser.submit(page, "replays/count", "webhook=&status=failed").await;
    assert!(refused.status == 422 && refused.body.contains("id=\"wrong-webhook\""), "{}", refused.body);
}
