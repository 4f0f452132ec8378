//! A dialect of the tests, to show that a dialect is one folder and one line of `DIALECTS`.

use http::{Method, StatusCode};
use postrider::api::context::ApiSettings;
use postrider::api::dialects::doc::{doc, missing_object};
use postrider::api::dialects::{DIALECT_LISTS, DIALECTS, Dialect, DialectDoc};
use postrider::api::doc::done;
use postrider::api::doc::schema::AnswerSchema;
use postrider::api::media::BodyRule;
use postrider::api::params::{Param, ParamValues};
use postrider::api::route::{Route, RouteAccess, RouteMethod};
use postrider::api::{
    ApiContext, ApiError, ErrorContext, HttpRequest, HttpResponse, Principal, RequestContext, Step, auth,
};
use postrider::model::{Scope, Time, WebhookId};
use postrider::store::Registry;
use serde_json::{Map, Value, json};

use crate::dialects::bench::{ADMIN, Bench, json as body_of, ok};

static SIXTH: Dialect = Dialect {
    name: "sixth",
    prefix: "/hooks/2026",
    routes: ROUTES,
    identify,
    render,
    doc: &DOC,
    lenient: None,
    preset: None,
    read_id: |_| None,
};

static DOC: DialectDoc = DialectDoc {
    prefix: "Sixth",
    description: "A dialect of the tests.",
    credentials: &[&["key"]],
    headers: &[],
    forms: Map::new,
    error: AnswerSchema::of::<Value>(),
    failures: missing_object,
    empty: &[],
    answers_carry: &[],
    errors_carry: &[],
    examples: "{}",
};

static ROUTES: &[Route] = &[Route::new(
    RouteMethod::Get,
    "/hooks/2026/{id}",
    RouteAccess::Authorized(Scope::WebhooksRead, may_read, read),
    BodyRule::None,
    doc("getSixthHook", "Read a hook", &[done("The hook.")]),
)
.with_segments(&[Param::new("id", ParamValues::Id, "The webhook's id.")])];

fn read(context: &mut ApiContext<'_>, request: &RequestContext<'_>) -> Result<Step, ApiError> {
    let id: WebhookId = request.path.get("id").parse().map_err(|_| ApiError::not_found("hook"))?;
    let webhook = context.registry.webhook(request.tenant(), id).ok_or_else(|| ApiError::not_found("hook"))?;
    let figures = context.store.figures(id, context.now)?;
    let shown = json!({ "hook": webhook.url, "sent": figures.sums.started });
    Ok(Step::Reply(HttpResponse::json(StatusCode::OK, &shown)))
}

fn may_read(principal: &Principal) -> Result<(), ApiError> {
    principal.need(Scope::WebhooksRead)
}

fn identify(
    http_request: &HttpRequest,
    registry: &Registry,
    _: &ApiSettings,
    now: Time,
) -> Result<Principal, ApiError> {
    let shown = http_request.headers.get("x-sixth").and_then(|value| value.to_str().ok()).unwrap_or_default();
    Ok(Principal::new(auth::key_of(shown, registry, now)?, http_request))
}

fn render(api_error: &ApiError, occasion: &ErrorContext<'_>) -> HttpResponse {
    HttpResponse::json(api_error.status, &json!({ "oops": api_error.detail, "at": occasion.now }))
}

#[test]
fn a_sixth_dialect_is_one_folder_and_one_line() {
    let mut bench = Bench::new(Time(1_772_704_800_000));
    let hook = bench.webhook(|_| {});
    bench.mount(&[DIALECTS.as_slice(), &[&SIXTH]].concat());
    let path = format!("/hooks/2026/{}", hook.id);
    let response = bench.get(&path, &[("x-sixth", ADMIN)]);
    assert_eq!(ok(&response), json!({ "hook": "https://hooks.example.com/in", "sent": 0 }));
    for (method, path, key, status) in [
        (Method::GET, path.as_str(), "", 401),
        (Method::GET, "/hooks/2026/x", ADMIN, 404),
        (Method::GET, "/hooks/2026/a/b", ADMIN, 404),
        (Method::POST, &path, ADMIN, 405),
    ] {
        let response = bench.call(method, path, &[("x-sixth", key)], "");
        assert_eq!(response.status.as_u16(), status, "{path}");
        assert!(body_of(&response)["oops"].is_string(), "{path}");
    }
    let document = postrider::api::openapi::document_with(&[DIALECTS.as_slice(), &[&SIXTH]].concat());
    assert_eq!(document["paths"]["/hooks/2026/{id}"]["get"]["operationId"], "getSixthHook");
    assert!(document["components"]["responses"]["SixthNotFound"].is_object());
    // The other dialects have not changed.
    let bearer = format!("Bearer {ADMIN}");
    assert_eq!(bench.get("/webhooks", &[("authorization", &bearer)]).status, 200);
    assert_eq!(bench.get("/v1/webhooks", &[("authorization", &bearer)]).status, 200);
}

/// The setting of the vendor's header names.
const WHITELABEL: &str = "the setting that gives the headers of the vendor's scheme their standard names";

const IMPORT: &str = "the import from the vendor's server";

/// Modules that name a vendor, and the reason besides its dialect.
const EXCEPTIONS: [(&str, &str); 21] = [
    ("src/model/webhook.rs", "the vendor's body field set and signature scheme are settings of a native webhook"),
    ("src/rules/body.rs", "the vendor's body field set"),
    ("src/rules/mod.rs", "the module of the ids in the vendor's body field set"),
    ("src/rules/retry.rs", "the vendors' retry schedules"),
    ("src/rules/signing.rs", "the vendor's signature scheme"),
    ("src/api/native/webhook_fields.rs", "the names of field sets, schemes and schedules in the native API"),
    ("src/api/native/webhook_form.rs", "the names of schemes and schedules in the native API"),
    ("src/api/request.rs", "the header by which the vendor's clients name a request"),
    ("src/cli/key.rs", "the flag that gives a key the scopes of the vendor's clients"),
    ("src/cli/import/mod.rs", IMPORT),
    ("src/cli/import/svix.rs", IMPORT),
    ("src/cli/import/svix_api.rs", IMPORT),
    ("src/api/native/webhook_schema.rs", "the names of schemes in the native API"),
    ("src/engine/compiled_webhook.rs", WHITELABEL),
    ("src/engine/mod.rs", WHITELABEL),
    ("src/engine/deliverer.rs", WHITELABEL),
    ("src/daemon/mod.rs", WHITELABEL),
    ("src/daemon/portal_logo.rs", WHITELABEL),
    ("src/config/keys.rs", WHITELABEL),
    ("src/config/mod.rs", WHITELABEL),
    ("src/config/load.rs", WHITELABEL),
];

/// The code of a file with its strings, without comments and unit tests.
fn code_of(text: &str) -> String {
    let product = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
    product.lines().map(|line| line.split("//").next().unwrap_or_default()).collect::<Vec<_>>().join("\n")
}

/// The vendors that a file names outside their folders.
fn named_outside(path: &str, text: &str) -> Vec<&'static str> {
    let code = code_of(text).to_lowercase();
    let names = DIALECTS.iter().map(|dialect| dialect.name);
    let is_own = |name: &str| path.starts_with(&format!("src/api/dialects/{name}/"));
    names.filter(|name| code.contains(name) && !is_own(name)).collect()
}

#[test]
fn no_other_file_names_a_dialect() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut folders = vec![root.join("src")];
    let (mut wrong, mut used) = (Vec::new(), Vec::new());
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.strip_prefix(root).unwrap().to_string_lossy().into_owned();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            if name == "src/api/dialects/mod.rs" || name.ends_with("tests.rs") || !name.ends_with(".rs") {
                continue;
            }
            let named = named_outside(&name, &std::fs::read_to_string(&path).unwrap());
            match EXCEPTIONS.iter().find(|(file, _)| *file == name) {
                Some((file, _)) if !named.is_empty() => used.push(*file),
                _ => wrong.extend(named.into_iter().map(|vendor| format!("{name} names {vendor}"))),
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    let unused: Vec<_> = EXCEPTIONS.iter().filter(|(file, _)| !used.contains(file)).collect();
    assert!(unused.is_empty(), "these name no vendor: {unused:?}");
}

#[test]
fn the_list_names_every_dialect_as_a_module_as_a_line_and_for_each_list_of_the_operator() {
    let list = include_str!("../../src/api/dialects/mod.rs");
    for dialect in DIALECTS {
        let lists = DIALECT_LISTS.iter().filter(|list| list.name.starts_with(dialect.name)).count();
        assert_eq!(code_of(list).matches(dialect.name).count(), 2 + lists, "{}", dialect.name);
    }
}

#[test]
fn a_file_that_names_a_dialect_is_found() {
    assert_eq!(named_outside("src/config/keys.rs", "const A: &str = \"dialects.dfns\";"), ["dfns"]);
    assert_eq!(named_outside("src/api/dialects/dfns/mod.rs", "struct Dfns; // everlytic"), Vec::<&str>::new());
    assert_eq!(named_outside("src/api/dialects/dfns/mod.rs", "use super::everlytic;"), ["everlytic"]);
}
