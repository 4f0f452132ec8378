//! The description against the route table, and against itself.

use std::collections::BTreeSet;

use super::*;
use crate::api::dialects::DIALECTS;
use crate::api::params::Param;

#[test]
fn the_document_equals_the_stored_one() {
    let path = format!("{}/tests/data/openapi.json", env!("CARGO_MANIFEST_DIR"));
    let mut stored: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    stored["info"]["version"] = env!("CARGO_PKG_VERSION").into();
    let mut differences = Vec::new();
    compare("", &stored, &document(), &mut differences);
    // An intended change: `cargo run -- openapi > tests/data/openapi.json`, and its reason in the commit.
    assert!(differences.is_empty(), "the document differs from tests/data/openapi.json at {differences:#?}");
    assert_eq!(document(), stored);
}

/// Adds the JSON pointers at which two values differ. The order of members does not count.
fn compare(at: &str, stored: &Value, served: &Value, differences: &mut Vec<String>) {
    match (stored, served) {
        (Value::Object(stored), Value::Object(served)) => {
            let names: BTreeSet<&String> = stored.keys().chain(served.keys()).collect();
            for name in names {
                let of = |members: &Map<String, Value>| members.get(name).cloned().unwrap_or(json!("absent"));
                compare(&format!("{at}/{}", name.replace('/', "~1")), &of(stored), &of(served), differences);
            }
        }
        (Value::Array(stored), Value::Array(served)) if stored.len() == served.len() => {
            for (index, (stored, served)) in stored.iter().zip(served).enumerate() {
                compare(&format!("{at}/{index}"), stored, served, differences);
            }
        }
        _ if stored != served => differences.push(format!("{at}: {stored} is stored, {served} served")),
        _ => {}
    }
}

/// All routes, with their paths as in the document.
fn all_routes() -> Vec<&'static Route> {
    DIALECTS.iter().flat_map(|dialect| dialect.routes).chain(ROUTES).collect()
}

#[test]
fn the_document_has_every_route_and_nothing_else() {
    let document = document();
    let mut described = BTreeSet::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        described.extend(item.as_object().unwrap().keys().map(|verb| format!("{} {path}", verb.to_uppercase())));
    }
    let all = all_routes();
    let routes: BTreeSet<_> = all.iter().map(|route| format!("{} {}", route.verb.as_str(), route.path)).collect();
    assert_eq!(described, routes);
    assert_eq!(routes.len(), all.len(), "no two mounts have a route in common");
}

#[test]
fn every_operation_has_its_own_id_a_known_tag_and_its_parameters() {
    let document = document();
    let tags: BTreeSet<&str> =
        document["tags"].as_array().unwrap().iter().filter_map(|tag| tag["name"].as_str()).collect();
    let mut ids = BTreeSet::new();
    for route in all_routes() {
        let operation = &document["paths"][route.path][route.verb.as_str().to_lowercase()];
        assert!(ids.insert(operation["operationId"].as_str().unwrap()), "{}", operation["operationId"]);
        assert!(tags.contains(operation["tags"][0].as_str().unwrap()), "{}", operation["tags"]);
        let of = |place: &str| -> Vec<&str> {
            let all = operation["parameters"].as_array().unwrap().iter();
            all.filter(|one| one["in"] == place).map(|one| one["name"].as_str().unwrap()).collect()
        };
        let names = |params: &[Param]| params.iter().map(|param| param.name).collect::<Vec<_>>();
        assert_eq!(of("query"), names(route.query), "{}", route.path);
        let in_path: Vec<&str> =
            route.path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}')).collect();
        assert_eq!(names(route.segments), in_path, "{}", route.path);
        assert_eq!(of("path"), in_path, "{}", route.path);
        assert_eq!(of("header").contains(&"Idempotency-Key"), route.takes_key, "{}", route.path);
    }
    assert_eq!(document["security"], json!([{ "key": [] }]));
}

#[test]
fn every_answer_has_an_example_with_exactly_its_members() {
    let document = document();
    for route in ROUTES {
        for answer in route.doc.answers {
            let Some(schema) = answer.schema else { continue };
            let name = (schema.name)();
            let name = name.trim_matches(['[', ']']);
            // The document itself, and the schema whose examples have their own names.
            if matches!(name, "AnyObject" | "PublishedAny") {
                continue;
            }
            let schema = &document["components"]["schemas"][name];
            let example = &schema["examples"][0];
            assert!(!example.is_null(), "{name} has no example");
            let shown = example.as_object().into_iter().flatten().map(|(name, _)| name.clone()).collect();
            assert_eq!(members(&document, schema), shown, "{name}");
        }
    }
}

#[test]
fn every_operation_shows_examples_of_request_and_answer_and_its_scope() {
    let document = document();
    for route in ROUTES {
        let operation = &document["paths"][route.path][route.verb.as_str().to_lowercase()];
        let place = format!("{} {}", route.verb.as_str(), route.path);
        assert!(operation["description"].as_str().is_some_and(|text| text.ends_with('.')), "{place}");
        let answers = operation["responses"].as_object().unwrap().iter().filter(|(status, _)| status.starts_with('2'));
        let contents = answers.map(|(_, answer)| &answer["content"]).chain([&operation["requestBody"]["content"]]);
        for (media_type, content) in contents.filter_map(serde_json::Value::as_object).flatten() {
            assert!(
                route.path == "/openapi.json" || !content["example"].is_null(),
                "{place}: no example of {media_type}"
            );
        }
    }
}

#[test]
fn a_dialect_that_is_switched_off_is_not_described_nor_are_its_own_components() {
    for off in DIALECTS {
        let document = document_of(|name| name != off.name);
        for route in off.routes {
            assert!(document["paths"][route.path].is_null(), "{}", route.path);
        }
        assert!(!document["tags"].to_string().contains(off.name), "{}", off.name);
        let others = DIALECTS.iter().filter(|dialect| dialect.name != off.name).flat_map(|dialect| dialect.routes);
        for route in ROUTES.iter().chain(others) {
            assert!(document["paths"][route.path].is_object(), "{} is gone with {}", route.path, off.name);
        }
        is_whole(&document);
    }
    let native = document_of(|_| false);
    assert_eq!(native["components"]["securitySchemes"].as_object().unwrap().len(), 1);
    is_whole(&native);
    assert_eq!(document_of(|_| true), document());
    let served = Description::of(|name| name == "dfns");
    assert_eq!(served.text(), document_of(|name| name == "dfns").to_string());
    assert_eq!(served.text().as_ptr(), served.clone().text().as_ptr(), "made once");
}

#[test]
fn every_reference_leads_somewhere_and_every_part_is_used() {
    is_whole(&document());
}

fn is_whole(document: &serde_json::Value) {
    let text = document.to_string();
    let used: BTreeSet<String> =
        text.split("\"#/components/").skip(1).filter_map(|rest| rest.split('"').next()).map(str::to_owned).collect();
    for pointer in &used {
        assert!(document.pointer(&format!("/components/{pointer}")).is_some(), "{pointer} leads nowhere");
    }
    for kind in ["schemas", "headers", "responses"] {
        for name in document["components"][kind].as_object().unwrap().keys() {
            assert!(used.contains(&format!("{kind}/{name}")), "{kind}/{name} is not used");
        }
    }
}

#[test]
fn a_body_is_described_where_the_route_accepts_one() {
    for route in ROUTES {
        let described = route.doc.request.is_some();
        assert_eq!(described, !route.body.is_none(), "{} {}", route.verb.as_str(), route.path);
    }
}

#[test]
fn every_operation_lists_its_errors() {
    let document = document();
    for route in ROUTES {
        let operation = &document["paths"][route.path][route.verb.as_str().to_lowercase()];
        let statuses: Vec<&String> = operation["responses"].as_object().unwrap().keys().collect();
        assert!(statuses.iter().any(|status| status.starts_with('2')), "{}", route.path);
        for always in ["400", "403", "413", "415", "421"] {
            assert!(statuses.iter().any(|status| *status == always), "{always} at {}", route.path);
        }
        let keyed = operation["security"] != json!([]);
        assert_eq!(statuses.iter().any(|status| *status == "429"), keyed, "{}", route.path);
    }
}

/// The described members of an answer, those of all its parts included.
fn members(document: &Value, schema: &Value) -> BTreeSet<String> {
    if let Some(name) = schema["$ref"].as_str().and_then(|at| at.strip_prefix('#')) {
        return members(document, document.pointer(name).unwrap());
    }
    let own = schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned);
    let parts = schema["allOf"].as_array().into_iter().flatten().flat_map(|part| members(document, part));
    own.chain(parts).collect()
}

#[test]
fn a_view_is_described_as_it_is_serialised() {
    use crate::api::native::webhook_live::WebhookLive;
    use crate::api::native::webhook_view::WebhookView;
    use crate::model::webhook::Webhook;
    let document = document();
    let webhook = Webhook::new(crate::model::Id::MIN, crate::model::Id::MIN);
    let shown = serde_json::to_value(WebhookView::new(&webhook, WebhookLive::default())).unwrap();
    let shown: BTreeSet<String> = shown.as_object().unwrap().keys().cloned().collect();
    assert_eq!(shown, members(&document, &parts::reference("Webhook")));
    // The ids of a test's attempt are present and null.
    let test = &document["components"]["schemas"]["TrialAttempt"]["properties"];
    assert_eq!((&test["delivery_id"]["type"], &test["webhook_id"]["type"]), (&json!("null"), &json!("string")));
}
