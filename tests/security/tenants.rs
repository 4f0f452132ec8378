//! A key sees no row of another app or organization, through any route of any mount.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use http::Method;
use postrider::api::native;
use postrider::api::route::{ApiMount, Route, RouteAccess, RouteMethod};
use postrider::daemon;
use postrider::model::{Id, Webhook, ksuid};
use postrider::rules::dfns_id;
use serde_json::{Value, json};

use crate::security::support::{Answer, Client, Instance, delivered, echo, eventually, rows, text};

/// All rows of one app, and the words that identify them.
struct Tenant {
    name: &'static str,
    organization: &'static str,
    /// A key of this app alone, with every scope.
    key: Client,
    /// A text that only this tenant's rows contain.
    marker: String,
    /// Ids of its rows by their kind.
    ids: BTreeMap<&'static str, String>,
}

/// A vendor's GET that has an effect and names no object. It has a test of its own.
const REPROCESS: &str = "/transactional/email/v1/webhooks/failed/reprocess";

/// It ends the key that calls it and names no object.
const LOGOUT: &str = "/api/v1/auth/logout";

/// A calling key, and the tenants whose rows it may not see.
struct Visitor<'a> {
    key: &'a Client,
    name: String,
    foreign: Vec<&'a Tenant>,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_of_another_tenant_is_seen_or_changed_through_any_route() {
    let instance = Instance::start().await;
    let receiver = echo().await;
    let (organizations, tenants) = town(&instance, receiver).await;
    let mounts = mounts(&instance);
    let before = snapshot(&tenants).await;

    let mut asked = 0;
    for visitor in visitors(&organizations, &tenants) {
        for mount in &mounts {
            let key = visitor.key.on(mount, &instance).await;
            for route in mount.routes() {
                asked += visit(&visitor, &key, mount.name, route).await;
            }
        }
    }
    assert!(asked > 2_000, "the walk was short: {asked}");

    // Every tenant's objects are unchanged, and none was added or removed.
    for (after, before) in snapshot(&tenants).await.iter().zip(&before) {
        assert_eq!(after, before);
    }
    for (place, client) in
        [("/metrics", instance.client("")), ("/openapi.json", instance.client("")), ("/docs", instance.client(""))]
    {
        let answer = client.get(place).await;
        tenants.iter().for_each(|tenant| is_clean(&answer, tenant, &[], place));
    }

    // The owners' keys find the objects, so the routes that said 404 do work.
    reach_own(&instance, &mounts, &tenants[0]).await;
}

fn mounts(instance: &Instance) -> Vec<ApiMount> {
    let mut mounts = daemon::dialect_mounts(&instance.settings);
    mounts.push(native::mount());
    mounts
}

/// Two organizations with two apps each. Every app has all kinds of objects.
async fn town(instance: &Instance, receiver: SocketAddr) -> (Vec<(&'static str, Client)>, Vec<Tenant>) {
    let other = instance.first.post("/v1/organizations", json!({ "name": "Zwei-MARKBX" })).await.expect(201);
    let organizations = vec![("A", instance.first.clone()), ("B", instance.client(text(&other, "key")))];
    let mut tenants = Vec::new();
    for (organization, client) in &organizations {
        for number in 1..=2 {
            tenants.push(settle(instance, organization, client, number, receiver).await);
        }
    }
    (organizations, tenants)
}

async fn settle(
    instance: &Instance,
    organization: &'static str,
    admin: &Client,
    number: usize,
    receiver: SocketAddr,
) -> Tenant {
    let name = ["A1", "A2", "B1", "B2"][usize::from(organization == "B") * 2 + number - 1];
    let marker = format!("MARK{name}MARK");
    let app = admin.post("/v1/apps", json!({ "name": marker, "uid": format!("uid-{marker}") })).await.expect(201);
    let key = json!({ "name": format!("key {marker}"), "scopes": ["admin"], "app_id": app["id"] });
    let made = admin.post("/v1/keys", key).await.expect(201);
    let client = instance.client(text(&made, "key"));
    let webhook = json!({
        "url": format!("http://{receiver}/{marker}"), "name": marker, "description": marker,
        "headers": { "x-own": marker }, "auth": { "type": "bearer", "token": format!("token-{marker}") },
        "filter": { "all": [{ "path": "/mark", "eq": marker }] },
    });
    let event = json!({
        "type": format!("type.{marker}"), "data": { "mark": marker }, "event_id": format!("event-{marker}"),
        "subject": format!("{marker}@example.com"), "metadata": { "mark": marker },
    });
    let (made_things, delivery) = delivered(&client, webhook, event).await;
    let (webhook, event) = (&made_things["webhook"], &made_things["event"]);
    let attempts = rows(&client, &format!("/v1/deliveries/{}/attempts", text(&delivery, "id"))).await;
    let replay = client.post("/v1/replays", json!({ "webhook_id": webhook["id"], "missing": true })).await.expect(202);
    let replay_path = format!("/v1/replays/{}", text(&replay, "id"));
    eventually("the replay is over", async || {
        instance.clock.advance_ms(1_000);
        let job = client.get(&replay_path).await.expect(200);
        (job["status"] == "done").then_some(())
    })
    .await;
    let link = client.post("/v1/portal-links", json!({ "app_id": app["id"] })).await.expect(201);
    let audit = rows(&client, "/v1/audit").await;
    let first_line = audit.first().expect("an audit");
    let ids = [
        ("app", &app["id"]),
        ("uid", &app["uid"]),
        ("webhook", &webhook["id"]),
        ("event", &event["id"]),
        ("event_id", &event["event_id"]),
        ("delivery", &delivery["id"]),
        ("attempt", &attempts[0]["id"]),
        ("replay", &replay["id"]),
        ("key", &made["id"]),
        ("portal link", &link["id"]),
        ("audit", &first_line["id"]),
    ];
    // The ids in the form of the one mount whose paths have three of them.
    let number = |value: &Value| value.as_str().expect("an id").parse::<Id<Webhook>>().expect("an id").as_u128();
    let ksuids = [
        ("svix app", "app_", &app["id"]),
        ("svix endpoint", "ep_", &webhook["id"]),
        ("svix message", "msg_", &event["id"]),
        ("svix attempt", "atmpt_", &attempts[0]["id"]),
    ];
    let ksuids = ksuids.map(|(what, prefix, id)| (what, format!("{prefix}{}", ksuid::encode(number(id)))));
    let mut ids: BTreeMap<_, _> = ids.map(|(what, id)| (what, id.as_str().expect("an id").to_owned())).into();
    // The id in the form of one mount.
    ids.insert("webhook of dfns", dfns_id::webhook(ids["webhook"].parse().expect("an id")));
    ids.extend(ksuids);
    ids.insert("event of dfns", dfns_id::event(ids["attempt"].parse().expect("an id")));
    Tenant { name, organization, key: client, marker, ids }
}

/// Each organization's key, and each app's key.
fn visitors<'a>(organizations: &'a [(&'static str, Client)], tenants: &'a [Tenant]) -> Vec<Visitor<'a>> {
    let mut visitors = Vec::new();
    for (organization, key) in organizations {
        let foreign = tenants.iter().filter(|tenant| tenant.organization != *organization).collect();
        visitors.push(Visitor { key, name: format!("organization {organization}"), foreign });
    }
    for own in tenants {
        let foreign = tenants.iter().filter(|tenant| tenant.name != own.name).collect();
        visitors.push(Visitor { key: &own.key, name: format!("app {}", own.name), foreign });
    }
    visitors
}

/// Sends every request that one visitor can make on one route about another tenant's objects. Returns their number.
async fn visit(visitor: &Visitor<'_>, key: &Client, mount: &str, route: &Route) -> usize {
    let method: Method = route.verb.as_str().parse().expect("a method");
    let mut asked = 0;
    for tenant in &visitor.foreign {
        for (target, body, about) in requests(mount, route, tenant) {
            let what = format!("{} asks {method} {target} {body} about {}", visitor.name, tenant.name);
            let answer = key.call(method.clone(), &target, &[], &body).await;
            asked += 1;
            if route.path == "/v1/deliveries/retry" && answer.status == 200 {
                // Each delivery has a result of its own, which repeats the requested id.
                let error = json!({ "code": "not_found", "detail": "delivery not found" });
                let expected = json!({ "data": [{ "id": about[0], "delivery": null, "error": error }] });
                assert_eq!(serde_json::from_str::<Value>(&answer.body).expect("JSON"), expected, "{what}");
                continue;
            }
            is_clean(&answer, tenant, &about, &what);
            if mount == "sentdm" {
                // There an organization's key names one of its apps in a header.
                let profile = [("x-profile-id", tenant.ids["app"].as_str())];
                let answer = key.call(method.clone(), &target, &profile, &body).await;
                is_clean(&answer, tenant, &[tenant.ids["app"].clone()], &format!("{what}, as its profile"));
                let status = answer.status.as_u16();
                assert!((400..500).contains(&status), "{what}, as its profile: {status} {}", answer.body);
            }
            let status = answer.status.as_u16();
            assert!(status < 500 && status != 401, "{what}: {status} {}", answer.body);
            let names_a_thing = route.path.contains('{') || !body.is_empty() && !body.starts_with("{}");
            if names_a_thing && mount == "native" {
                assert!([404, 403].contains(&status), "{what}: {status} {}", answer.body);
            } else if names_a_thing && answer.body == r#"{"status":false}"# {
                // The removal of a webhook that is not there, in the words of one vendor.
                assert_eq!((mount, &method), ("everlytic", &Method::DELETE), "{what}");
            } else if names_a_thing {
                assert!((400..500).contains(&status), "{what}: {status} {}", answer.body);
            }
        }
    }
    asked
}

/// The target, the body and the id of every request on this route that names an object of `tenant`.
fn requests(mount: &str, route: &Route, tenant: &Tenant) -> Vec<(String, String, Vec<String>)> {
    let is_open = matches!(route.access, RouteAccess::Open(_) | RouteAccess::Metrics(_));
    // Registering a type of any name is the caller's own affair, and the answer has the name.
    let registers = route.path == "/v1/event-types/{type}" && route.verb == RouteMethod::Put;
    if is_open || registers {
        return Vec::new();
    }
    if route.path.contains('{') {
        let body = if takes_body(route) { "{}" } else { "" };
        let targets = filled(mount, route, tenant).into_iter();
        return targets.map(|(target, ids)| (target, body.to_owned(), ids)).collect();
    }
    if route.path == REPROCESS || route.path == LOGOUT {
        return Vec::new();
    }
    if takes_body(route) {
        return bodies(mount, route.path, tenant)
            .into_iter()
            .map(|(body, id)| (route.path.to_owned(), body, vec![id]))
            .collect();
    }
    let mut requests = vec![(format!("{}{}", route.path, whole_page(route)), String::new(), Vec::new())];
    for name in route.query.iter().map(|param| param.name) {
        let values: Vec<&String> = match name {
            "app_id" => vec![&tenant.ids["app"], &tenant.ids["uid"]],
            "webhook_id" | "event_id" | "target" | "key_id" => tenant.ids.values().collect(),
            "search" | "subject" | "type" => vec![&tenant.marker],
            _ => continue,
        };
        requests.extend(
            values
                .iter()
                .map(|value| (format!("{}?{name}={value}", route.path), String::new(), vec![(*value).clone()])),
        );
    }
    requests
}

fn takes_body(route: &Route) -> bool {
    ["POST", "PUT", "PATCH"].contains(&route.verb.as_str())
}

/// `path` with every id of the tenant in every place for one, and those ids.
fn filled(mount: &str, route: &Route, tenant: &Tenant) -> Vec<(String, Vec<String>)> {
    let mut filled = vec![(String::new(), Vec::new())];
    for part in route.path.split('/').skip(1) {
        let is_place = part.starts_with('{');
        let fixed = part.to_owned();
        let is_of_mount = |what: &&str| what.starts_with("svix") == (mount == "svix") || *what == "uid";
        let own = tenant.ids.iter().filter(|(what, _)| is_of_mount(what)).map(|(_, id)| id);
        let parts: Vec<&String> = if is_place { own.collect() } else { vec![&fixed] };
        let with = |(target, ids): &(String, Vec<String>), part: &String| {
            let mut ids = ids.clone();
            ids.extend(is_place.then(|| part.clone()));
            (format!("{target}/{part}"), ids)
        };
        filled = filled.iter().flat_map(|so_far| parts.iter().map(|part| with(so_far, part))).collect();
    }
    filled.iter_mut().for_each(|(target, _)| target.push_str(&whole_page(route)));
    filled
}

/// The query for the largest page.
fn whole_page(route: &Route) -> String {
    let known = [("limit", "limit=100"), ("page", "page=1"), ("page_size", "page_size=50")];
    let asked: Vec<&str> = known
        .iter()
        .filter(|(name, _)| route.query.iter().any(|param| param.name == *name))
        .map(|(_, text)| *text)
        .collect();
    if asked.is_empty() { String::new() } else { format!("?{}", asked.join("&")) }
}

/// Bodies that name an object of `tenant`. An unknown route fails the test, because its body must be added here.
fn bodies(mount: &str, path: &str, tenant: &Tenant) -> Vec<(String, String)> {
    let (app, uid, webhook) = (&tenant.ids["app"], &tenant.ids["uid"], &tenant.ids["webhook"]);
    let by_app = |body: Value| {
        let with = |id: &String| {
            let mut body = body.clone();
            body["app_id"] = json!(id);
            (body.to_string(), id.clone())
        };
        vec![with(app), with(uid)]
    };
    match path {
        "/v1/events" => by_app(json!({ "type": "a.b", "data": {} })),
        "/v1/events/batch" => {
            let items = by_app(json!({ "type": "a.b", "data": {} }));
            items.into_iter().map(|(item, id)| (format!("{{\"events\":[{item}]}}"), id)).collect()
        }
        "/v1/portal-links" => by_app(json!({})),
        "/v1/webhooks" => by_app(json!({ "url": "https://example.com/" })),
        "/v1/keys" => by_app(json!({ "name": "k", "scopes": ["events:read"] })),
        "/v1/replays" => {
            let mut bodies = by_app(json!({ "dry_run": true }));
            bodies.extend(by_app(json!({})));
            bodies.push((json!({ "webhook_id": webhook, "dry_run": true }).to_string(), webhook.clone()));
            bodies.push((json!({ "webhook_id": webhook }).to_string(), webhook.clone()));
            bodies
        }
        "/v1/deliveries/retry" => {
            let delivery = &tenant.ids["delivery"];
            vec![(json!({ "ids": [delivery] }).to_string(), delivery.clone())]
        }
        // These name no existing object, and an empty body makes nothing.
        "/v1/apps" | "/v1/organizations" | "/v1/clock/accept" | "/v1/event-types" => {
            vec![("{}".to_owned(), String::new())]
        }
        _ if mount != "native" => vec![("{}".to_owned(), String::new())],
        unknown => panic!("add a body for POST {unknown} to this test"),
    }
}

/// Checks that the answer contains no word and no id of the tenant, except the requested id.
fn is_clean(answer: &Answer, tenant: &Tenant, asked: &[String], what: &str) {
    let head = format!("{:?}", answer.headers);
    for shown in [&answer.body, &head] {
        let mut rest = shown.clone();
        if !answer.status.is_success() {
            asked.iter().filter(|asked| !asked.is_empty()).for_each(|asked| rest = rest.replace(asked, ""));
        }
        assert!(!rest.contains(&tenant.marker), "{what}: {rest}");
        for (kind, id) in &tenant.ids {
            assert!(!rest.contains(id.as_str()), "{what}: {kind} {id} in {rest}");
        }
    }
}

/// All objects of every tenant, as its own key reads them.
async fn snapshot(tenants: &[Tenant]) -> Vec<Value> {
    let mut all = Vec::new();
    for tenant in tenants {
        let webhook = &tenant.ids["webhook"];
        let lists =
            ["events", "webhooks", "deliveries", "replays", "apps", "keys", "audit"].map(|list| format!("/v1/{list}"));
        let of_webhook = ["attempts", "deliveries"].map(|list| format!("/v1/webhooks/{webhook}/{list}"));
        for list in lists.into_iter().chain(of_webhook) {
            let found = rows(&tenant.key, &list).await;
            assert!(!found.is_empty(), "{list} of {} is empty", tenant.name);
            all.push(json!({ "tenant": tenant.name, "list": list, "rows": found }));
        }
        for one in ["stats", "health"] {
            let answer = tenant.key.get(&format!("/v1/webhooks/{webhook}/{one}")).await.expect(200);
            all.push(json!({ "tenant": tenant.name, "one": one, "is": answer }));
        }
    }
    all
}

/// Checks that every route with a place for an id finds an object for one of the owner's ids. Reading comes first,
/// removing last.
async fn reach_own(instance: &Instance, mounts: &[ApiMount], tenant: &Tenant) {
    let mut routes: Vec<(&ApiMount, &Route)> = Vec::new();
    // One shape has routes for keys of organizations only. Its own tests reach everything there.
    for mount in mounts.iter().filter(|mount| mount.name != "svix") {
        // Event types are the organization's. Their own tests reach them.
        let own = mount.routes().iter().filter(|route| !route.path.starts_with("/v1/event-types"));
        routes.extend(own.filter(|route| route.path.contains('{')).map(|route| (mount, route)));
    }
    // The app comes last, because its key is removed with it.
    routes.sort_by_key(|(_, route)| {
        let verb = ["GET", "POST", "PUT", "PATCH", "DELETE"].iter().position(|verb| *verb == route.verb.as_str());
        (verb, route.path.starts_with("/v1/apps"))
    });
    // Of two routes that remove the same object, the second finds nothing.
    let mut removed = 0;
    for (mount, route) in routes {
        let key = tenant.key.on(mount, instance).await;
        let mut statuses = Vec::new();
        for (target, ids) in filled(mount.name, route, tenant) {
            if route.path == "/v1/keys/{id}" && ids.contains(&tenant.ids["key"]) {
                // The calling key is its own. Another test revokes keys.
                statuses.push((target, 204));
                continue;
            }
            let body = match route.path {
                "/v3/webhooks/{id}/test" => r#"{"event_type":"a"}"#,
                "/v3/webhooks/{id}/toggle-status" => r#"{"is_active":true}"#,
                _ if takes_body(route) => "{}",
                _ => "",
            };
            let method: Method = route.verb.as_str().parse().expect("a method");
            let answer = key.call(method, &target, &[], body).await;
            // One vendor answers so to the removal of a webhook that is not there.
            let is_nothing = answer.body == r#"{"status":false}"#;
            statuses.push((target, if is_nothing { 404 } else { answer.status.as_u16() }));
        }
        let is_found = |status: u16| ![400, 401, 403, 404].contains(&status);
        let found = statuses.iter().any(|(_, status)| is_found(*status));
        if route.verb.as_str() == "DELETE" && route.path.ends_with("webhooks/{id}") {
            removed += usize::from(found);
            continue;
        }
        assert!(found, "{:?} {} {statuses:?}", route.verb, route.path);
    }
    assert_eq!(removed, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lists_hold_every_row_of_the_caller_and_no_other() {
    let instance = Instance::start().await;
    let (organizations, tenants) = town(&instance, echo().await).await;
    // An organization sees its apps, and an app sees itself.
    let (_, admin) = &organizations[0];
    let names = |rows: &[Value]| -> Vec<String> { rows.iter().map(|row| text(row, "name").to_owned()).collect() };
    let seen = names(&rows(admin, "/v1/apps").await);
    assert_eq!(seen, ["MARKA2MARK", "MARKA1MARK", "default"]);
    for tenant in &tenants {
        assert_eq!(names(&rows(&tenant.key, "/v1/apps").await), [tenant.marker.as_str()]);
        assert_eq!(names(&rows(&tenant.key, "/v1/webhooks").await), [tenant.marker.as_str()]);
        assert_eq!(names(&rows(&tenant.key, "/v1/keys").await), [format!("key {}", tenant.marker)]);
        for (list, ids) in [("events", "event"), ("deliveries", "delivery"), ("replays", "replay")] {
            let found = rows(&tenant.key, &format!("/v1/{list}")).await;
            assert_eq!(found.len(), 1, "{list}");
            assert_eq!(text(&found[0], "id"), tenant.ids[ids]);
        }
        let stats = tenant.key.get("/v1/stats").await.expect(200);
        assert_eq!(stats["total_events"], 1);
    }
    // An app's audit contains that app only, and the organization's audit all of it.
    let own = rows(&tenants[0].key, "/v1/audit").await;
    let all = rows(admin, "/v1/audit").await;
    assert!(own.iter().all(|line| all.contains(line)));
    assert!(all.len() > 2 * own.len(), "{} and {}", all.len(), own.len());
}

/// Reprocessing covers the failed deliveries of the caller's own apps.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reprocessing_reaches_no_further_than_the_key() {
    let instance = Instance::start().await;
    let (_, tenants) = town(&instance, echo().await).await;
    let mounts = mounts(&instance);
    let mount = mounts.iter().find(|mount| mount.routes().iter().any(|route| route.path == REPROCESS));
    let client = tenants[0].key.on(mount.expect("the surface"), &instance).await;
    client.get(REPROCESS).await.expect(200);
    let mut jobs = Vec::new();
    for tenant in &tenants {
        jobs.push(rows(&tenant.key, "/v1/replays").await.len());
    }
    assert_eq!(jobs, [2, 1, 1, 1]);
}

/// The same `event_id`, `uid` and `Idempotency-Key` in two tenants have two meanings.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn names_that_callers_choose_are_theirs_alone() {
    let instance = Instance::start().await;
    let (organizations, tenants) = town(&instance, echo().await).await;
    let [a1, a2, b1, _] = &tenants[..] else { panic!("four tenants") };
    // Another app and another organization may use an `event_id` that is used elsewhere.
    for tenant in [a2, b1] {
        let event = json!({ "type": "a.b", "data": 1, "event_id": a1.ids["event_id"] });
        let made = tenant.key.post("/v1/events", event).await.expect(202);
        assert_eq!(made["duplicate"], false);
    }
    // The uid of another organization's app is free here, and means the own app.
    let (_, b) = &organizations[1];
    let made = b.post("/v1/apps", json!({ "name": "copy", "uid": a1.ids["uid"] })).await.expect(201);
    assert_eq!(b.get(&format!("/v1/apps/{}", a1.ids["uid"])).await.expect(200)["id"], made["id"]);
    // An Idempotency-Key answers its own key's requests only.
    let body = json!({ "url": "https://example.com/" }).to_string();
    let once = [("idempotency-key", "same")];
    let mut made = Vec::new();
    for client in [&a1.key, &a2.key, &b1.key] {
        let answer = client.call(Method::POST, "/v1/webhooks", &once, &body).await;
        assert!(answer.headers.get("idempotent-replayed").is_none());
        made.push(text(&answer.expect(201), "secret").to_owned());
    }
    made.sort();
    made.dedup();
    assert_eq!(made.len(), 3);
}

/// A key cannot make one with more permissions than its own, nor one for another tenant.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_gives_no_more_than_it_has() {
    let instance = Instance::start().await;
    let app = instance.first.post("/v1/apps", json!({ "name": "app" })).await.expect(201);
    let make = async |client: &Client, body: Value| client.post("/v1/keys", body).await;
    let maker = json!({ "name": "m", "scopes": ["keys:write", "keys:read", "events:read"], "app_id": app["id"] });
    let maker = instance.client(text(&make(&instance.first, maker).await.expect(201), "key"));
    for scope in ["admin", "webhooks:secret", "events:write", "apps:write"] {
        let answer = make(&maker, json!({ "name": "k", "scopes": [scope] })).await;
        assert_eq!((answer.status.as_u16(), answer.code().as_str()), (403, "scope_missing"), "{scope}");
    }
    let made = make(&maker, json!({ "name": "k", "scopes": ["events:read"] })).await.expect(201);
    assert_eq!(made["app_id"], app["id"], "a key of an app makes keys of that app");
    let all = rows(&instance.first, "/v1/keys").await;
    let first = all.iter().find(|key| key["name"] == "first").expect("the first key");
    assert_eq!(maker.delete(&format!("/v1/keys/{}", text(first, "id"))).await.status, 404);
    assert_eq!(maker.post("/v1/apps", json!({ "name": "x" })).await.status, 403);
    assert_eq!(maker.post("/v1/organizations", json!({ "name": "x" })).await.status, 403);
    // An administrator of an organization is not one of the installation.
    let admin = make(&instance.first, json!({ "name": "a", "scopes": ["admin"] })).await.expect(201);
    let admin = instance.client(text(&admin, "key"));
    for answer in [admin.get("/v1/organizations").await, admin.post("/v1/organizations", json!({ "name": "x" })).await]
    {
        assert_eq!((answer.status.as_u16(), answer.code().as_str()), (403, "installation_only"));
    }
}
