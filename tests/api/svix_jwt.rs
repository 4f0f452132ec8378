//! Tokens of a Svix server in place of keys: which ones are taken, and for which organization and app.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::Method;
use ring::hmac;
use serde_json::{Value, json};

use postrider::config::{ForeignTokenSettings, SecretSetting};

use super::svix::{app, call, endpoint, get, ids, message, post};
use crate::support::daemon::text;
use crate::support::{Receiver, START, TestDaemon};

const SECRET: &str = "a secret of a Svix server";
const ORG: &str = "org_23rb8YdGqMT0qIzpgGwdXfHirMu";
/// An id that an application had at Svix.
const OLD_APP: &str = "app_1srOrx2ZWZBpBUvZwXKQmoEYga2";

async fn daemon() -> TestDaemon {
    TestDaemon::with(|settings| {
        let secret = Some(SecretSetting::new(SECRET.to_owned()));
        settings.foreign_tokens =
            ForeignTokenSettings { secret, org: ORG.to_owned(), ..ForeignTokenSettings::default() };
    })
    .await
}

fn signed(header: &Value, claims: &Value, secret: &str) -> String {
    let signed = [header, claims].map(|part| URL_SAFE_NO_PAD.encode(part.to_string())).join(".");
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
    let signature = hmac::sign(&key, signed.as_bytes());
    format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
}

/// A token as `svix-server jwt generate` makes it.
fn token(claims: Value) -> String {
    let now_s = START.0 / 1_000;
    let mut all = json!({ "iat": now_s, "exp": now_s + 3_600, "nbf": now_s, "iss": "svix-server" });
    all.as_object_mut().unwrap().extend(claims.as_object().unwrap().clone());
    signed(&json!({ "alg": "HS256", "typ": "JWT" }), &all, SECRET)
}

#[tokio::test]
async fn a_token_of_the_organization_does_everything_of_the_shape() {
    let daemon = daemon().await;
    let receiver = Receiver::start().await;
    let caller = daemon.with_key(&token(json!({ "sub": ORG })));
    let acme = app(&caller, "acme").await;
    endpoint(&caller, "acme", &receiver).await;
    message(&caller, "acme", 1).await;
    receiver.next().await;
    assert_eq!(ids(&get(&caller, "/app").await), ids(&get(&daemon, "/app").await));
    post(&caller, "/event-type", json!({ "name": "a.b", "description": "" }), 201).await;
    let access = post(&caller, "/auth/app-portal-access/acme", json!({}), 200).await;
    let portal = daemon.with_key(text(&access, "token"));
    assert_eq!(get(&portal, "/app/acme").await["id"], acme["id"]);
    let who = |app: &Value, source: &str| json!({ "appId": app, "permissionSource": source });
    assert_eq!(get(&caller, "/auth/whoami").await, who(&Value::Null, "SvixJwt"));
    assert_eq!(get(&daemon, "/auth/whoami").await, who(&Value::Null, "RegionalAuthToken"));
    assert_eq!(get(&portal, "/auth/whoami").await, who(&acme["id"], "RegionalAuthToken"));
    let keys = daemon.get("/v1/keys").await;
    let made = keys["data"].as_array().unwrap().iter().find(|key| key["name"] == "portal").unwrap().clone();
    assert_eq!(made["expires_at"], START.plus_ms(3_600_000).to_string(), "not longer than the token that made it");
    assert_eq!(call(&caller, Method::POST, "/auth/logout", Value::Null).await.status, 400);
    // The native API and the other shapes take keys only.
    for path in ["/v1/apps", "/v1/webhooks", "/api/v2/webhooks", "/webhooks"] {
        assert_eq!(caller.try_get(path).await.status, 401, "{path}");
    }
}

#[tokio::test]
async fn a_token_of_an_application_reads_that_app_and_sends_nothing() {
    let daemon = daemon().await;
    let acme = app(&daemon, "acme").await;
    let old = post(&daemon, "/app", json!({ "name": "old", "uid": "old", "alias": OLD_APP }), 201).await;
    for (sub, own, other) in [(text(&acme, "id"), "acme", "old"), (OLD_APP, "old", "acme")] {
        let caller = daemon.with_key(&token(json!({ "org": ORG, "sub": sub })));
        get(&caller, &format!("/app/{own}")).await;
        get(&caller, &format!("/app/{own}/endpoint")).await;
        get(&caller, &format!("/app/{own}/msg")).await;
        for path in ["", "/endpoint", "/msg"] {
            let refused = call(&caller, Method::GET, &format!("/app/{other}{path}"), Value::Null).await;
            assert_eq!(refused.expect(404)["code"], "not_found");
        }
        for (method, path) in [
            (Method::GET, "/app".to_owned()),
            (Method::DELETE, format!("/app/{own}")),
            (Method::POST, format!("/app/{own}/msg")),
            (Method::POST, format!("/auth/app-portal-access/{own}")),
            (Method::GET, "/operational-webhook/endpoint".to_owned()),
        ] {
            let body = if method == Method::POST { json!({}) } else { Value::Null };
            assert_eq!(call(&caller, method, &path, body).await.status, 403, "{path}");
        }
    }
    let old_id = text(&old, "id");
    let caller = daemon.with_key(&token(json!({ "org": ORG, "sub": old_id })));
    call(&daemon, Method::DELETE, "/app/old", Value::Null).await.expect(204);
    assert_eq!(
        call(&caller, Method::GET, "/app/old", Value::Null).await.status,
        401,
        "the app of the token is removed"
    );
}

#[tokio::test]
async fn feature_flags_of_a_token_choose_the_event_types() {
    let daemon = daemon().await;
    let acme = app(&daemon, "acme").await;
    for (name, flag) in [("a.open", Value::Null), ("b.beta", json!("beta")), ("c.other", json!("other"))] {
        post(&daemon, "/event-type", json!({ "name": name, "description": "", "featureFlag": flag }), 201).await;
    }
    let names = |page: Value| -> Vec<String> {
        page["data"].as_array().unwrap().iter().map(|one| text(one, "name").to_owned()).collect()
    };
    let claims = json!({ "org": ORG, "sub": acme["id"], "feature_flags": ["beta"] });
    assert_eq!(names(get(&daemon.with_key(&token(claims)), "/event-type").await), ["a.open", "b.beta"]);
    let claims = json!({ "org": ORG, "sub": acme["id"] });
    assert_eq!(names(get(&daemon.with_key(&token(claims)), "/event-type").await), ["a.open"]);
}

#[tokio::test]
async fn every_other_token_is_refused() {
    let daemon = daemon().await;
    let acme = app(&daemon, "acme").await;
    // Another organization of the same installation, whose app no token reaches.
    let other = daemon.post("/v1/organizations", json!({ "name": "other" })).await;
    let foreign_app = app(&daemon.with_key(text(&other, "key")), "foreign").await;
    let head = json!({ "alg": "HS256", "typ": "JWT" });
    let now_s = START.0 / 1_000;
    let good = token(json!({ "sub": ORG }));
    get(&daemon.with_key(&good), "/app").await;
    let (start, signature) = good.rsplit_once('.').unwrap();
    let none = signed(&json!({ "alg": "none" }), &json!({ "sub": ORG }), SECRET);
    let org_id = text(&other, "id");
    for (wrong, why) in [
        (signed(&head, &json!({ "sub": ORG }), "another secret"), "another signature"),
        (signed(&head, &json!({ "sub": ORG }), ""), "an empty secret"),
        (format!("{start}."), "no signature"),
        (format!("{}.", none.rsplit_once('.').unwrap().0), "alg none"),
        (none, "alg none, signed"),
        (signed(&json!({ "alg": "HS512" }), &json!({ "sub": ORG }), SECRET), "another algorithm"),
        (format!("{}.{signature}", none_of(&json!({ "sub": "org_2" }))), "claims that were changed"),
        (token(json!({ "sub": ORG, "exp": now_s })), "expired"),
        (token(json!({ "sub": ORG, "nbf": now_s + 3_600 })), "not begun"),
        (token(json!({ "sub": "org_1srOrx2ZWZBpBUvZwXKQmoEYga2" })), "another organization"),
        (token(json!({ "sub": org_id })), "a native id"),
        (
            token(json!({ "org": "org_1srOrx2ZWZBpBUvZwXKQmoEYga2", "sub": acme["id"] })),
            "an app of another organization",
        ),
        (token(json!({ "org": ORG, "sub": foreign_app["id"] })), "an app of another organization here"),
        (token(json!({ "org": ORG, "sub": "acme" })), "a uid"),
        (token(json!({ "org": ORG, "sub": ORG })), "no app"),
        (token(json!({ "sub": acme["id"] })), "an app without its organization"),
        (token(json!({})), "no subject"),
        (SECRET.replace(' ', ""), "the secret itself"),
    ] {
        let refused = call(&daemon.with_key(&wrong), Method::GET, "/app/acme", Value::Null).await;
        assert_eq!(refused.status, 401, "{why}");
        assert_eq!(refused.json(), json!({ "code": "authentication_failed", "detail": "Invalid token" }), "{why}");
    }
    daemon.advance_s(3_600);
    assert_eq!(
        call(&daemon.with_key(&good), Method::GET, "/app", Value::Null).await.status,
        401,
        "the token has expired"
    );
}

/// The signed part of a token with these claims.
fn none_of(claims: &Value) -> String {
    token(claims.clone()).rsplit_once('.').unwrap().0.to_owned()
}

#[tokio::test]
async fn without_the_setting_no_token_is_taken() {
    let daemon = TestDaemon::start().await;
    let caller = daemon.with_key(&token(json!({ "sub": ORG })));
    assert_eq!(call(&caller, Method::GET, "/app", Value::Null).await.status, 401);
}
