//! The permissions of a key: its scopes on every route, its expiry, and no access without one.

use http::Method;
use postrider::api::native;
use postrider::api::route::{Route, RouteAccess};
use postrider::daemon;
use postrider::model::Scope;
use serde_json::{Value, json};

use crate::security::support::{Client, Instance, START, text};

/// An id that no row has.
const NOBODY: &str = "0195a000-0000-7000-8000-000000000000";

async fn ask(client: &Client, route: &Route) -> crate::security::support::Answer {
    let path = route.path.split('/').map(|part| if part.starts_with('{') { NOBODY } else { part });
    let path = path.collect::<Vec<_>>().join("/");
    let method: Method = route.verb.as_str().parse().expect("a method");
    let body = if ["POST", "PUT", "PATCH"].contains(&route.verb.as_str()) { "{}" } else { "" };
    client.call(method, &path, &[], body).await
}

async fn make(instance: &Instance, body: Value) -> Value {
    instance.first.post("/v1/keys", body).await.expect(201)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_route_refuses_every_key_without_its_scope() {
    let instance = Instance::start().await;
    let mut refused = 0;
    for scope in Scope::ALL {
        let made = make(&instance, json!({ "name": "k", "scopes": [scope.as_str()] })).await;
        let client = instance.client(text(&made, "key"));
        for route in native::mount().routes() {
            let what = format!("{} on {:?} {}", scope.as_str(), route.verb, route.path);
            let answer = ask(&client, route).await;
            let status = answer.status.as_u16();
            match &route.access {
                RouteAccess::Scope(needed, _) if !scope.contains(*needed) => {
                    assert_eq!((status, answer.code().as_str()), (403, "scope_missing"), "{what}");
                    refused += 1;
                }
                RouteAccess::Scope(..) => assert!(![401, 403].contains(&status), "{what}: {}", answer.body),
                RouteAccess::Installation(_) => assert_eq!(status, 403, "{what}: {}", answer.body),
                _ => assert_eq!(status, 200, "{what}: {}", answer.body),
            }
        }
    }
    assert!(refused > 300, "{refused}");
}

/// The dialects have their own words for permissions. A key without them gets no access.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_for_something_else_gets_nothing_of_the_dialects() {
    let instance = Instance::start().await;
    let made = make(&instance, json!({ "name": "k", "scopes": ["keys:read"] })).await;
    let client = instance.client(text(&made, "key"));
    let mounts = daemon::dialect_mounts(&instance.settings);
    assert_eq!(mounts.len(), 6);
    for mount in &mounts {
        let client = client.on(mount, &instance).await;
        for route in mount.routes().iter().filter(|route| !matches!(route.access, RouteAccess::Open(_))) {
            let answer = ask(&client, route).await;
            let status = answer.status.as_u16();
            assert_eq!(status, 403, "{:?} {}: {}", route.verb, route.path, answer.body);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_live_key_no_route_says_anything() {
    let instance = Instance::start().await;
    let end = START.plus_ms(60_000).to_string();
    let ends = make(&instance, json!({ "name": "ends", "scopes": ["admin"], "expires_at": end })).await;
    let revoked = make(&instance, json!({ "name": "revoked", "scopes": ["admin"] })).await;
    let app = instance.first.post("/v1/apps", json!({ "name": "app" })).await.expect(201);
    let of_app = make(&instance, json!({ "name": "of app", "scopes": ["admin"], "app_id": app["id"] })).await;
    let dead = [&ends, &revoked, &of_app].map(|made| instance.client(text(made, "key")));
    for client in &dead {
        client.get("/v1/events").await.expect(200);
    }
    instance.clock.advance_ms(59_999);
    dead[0].get("/v1/events").await.expect(200);
    instance.clock.advance_ms(1);
    assert_eq!(instance.first.delete(&format!("/v1/keys/{}", text(&revoked, "id"))).await.status, 204);
    assert_eq!(instance.first.delete(&format!("/v1/apps/{}", text(&app, "id"))).await.status, 204);

    let alive = instance.first.key.as_str();
    let almost = format!("{}x", &alive[..alive.len() - 1]);
    let mut callers = vec![instance.client(""), instance.client("pr_nobody"), instance.client(&almost)];
    callers.extend(dead);
    let mut mounts = daemon::dialect_mounts(&instance.settings);
    mounts.push(native::mount());
    for route in mounts.iter().flat_map(|mount| mount.routes()) {
        if matches!(route.access, RouteAccess::Open(_) | RouteAccess::Metrics(_)) {
            continue;
        }
        for client in &callers {
            let answer = ask(client, route).await;
            assert_eq!(answer.status, 401, "{:?} {}: {}", route.verb, route.path, answer.body);
            assert!(answer.headers.contains_key("www-authenticate"), "{}", route.path);
            if !client.key.is_empty() {
                assert!(!answer.body.contains(&client.key));
            }
        }
    }
    // Paths and methods cannot be probed either.
    for (method, path) in [(Method::GET, "/v1/nothing"), (Method::PUT, "/v1/events"), (Method::GET, "/nope")] {
        assert_eq!(instance.client("").call(method, path, &[], "").await.status, 401, "{path}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn credentials_in_any_other_form_are_none() {
    let instance = Instance::start().await;
    let keyless = instance.client("");
    let key = &instance.first.key;
    let basic = {
        use base64::Engine as _;
        format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(format!("user:{key}")))
    };
    for value in [basic.as_str(), key, &format!("Bearer  {key} x"), "Bearer", "Bearer ", &format!("Token {key}")] {
        let answer = keyless.call(Method::GET, "/v1/events", &[("authorization", value)], "").await;
        assert_eq!(answer.status, 401, "{value:.12}");
    }
    let in_query = keyless.get(&format!("/v1/events?access_token={key}")).await;
    assert_eq!(in_query.status, 401);
    assert!(!in_query.body.contains(key.as_str()));
    let free = keyless.call(Method::GET, "/v1/events", &[("authorization", &format!("bEARER {key}"))], "").await;
    assert_eq!(free.status, 200, "the scheme's case is free");
}
