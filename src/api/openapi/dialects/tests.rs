//! The pages against the dialects' own tables, and their examples against the golden files.

use std::sync::Arc;

use super::*;
use crate::api::Principal;
use crate::api::dialects::DIALECTS;
use crate::api::request::HttpRequest;
use crate::model::{ApiKey, Id, Scope};

#[test]
fn a_dialect_describes_a_body_where_the_route_accepts_one() {
    for dialect in DIALECTS {
        for route in dialect.routes {
            assert_eq!(route.doc.request.is_some(), !route.body.is_none(), "{}", route.path);
        }
    }
}

fn caller(scope: Scope) -> Principal {
    let key = ApiKey {
        id: Id::MIN,
        org_id: Id::MIN,
        app_id: None,
        name: String::new(),
        scopes: vec![scope],
        hash: [0; 32],
        created_at: Time::ZERO,
        expires_at: None,
        rate_per_s: None,
        installation: false,
        makers: Vec::new(),
        feature_flags: Vec::new(),
        portal: false,
    };
    let http_request = HttpRequest {
        method: http::Method::GET,
        path: "/".to_owned(),
        query: None,
        headers: http::HeaderMap::new(),
        body: Default::default(),
        remote: None,
        request_id: String::new(),
    };
    Principal::new(Arc::new(key), &http_request)
}

#[test]
fn a_dialect_shows_the_scope_that_its_route_requires() {
    for dialect in DIALECTS {
        for route in dialect.routes {
            let (shown, authorize) = match route.access {
                RouteAccess::Authorized(shown, authorize, _) => (shown, authorize),
                RouteAccess::Open(_) => continue,
                _ => panic!("{} has another access", route.path),
            };
            let enough: Vec<Scope> =
                Scope::ALL.into_iter().filter(|scope| authorize(&caller(*scope)).is_ok()).collect();
            let holders: Vec<Scope> = Scope::ALL.into_iter().filter(|scope| caller(*scope).key.may(shown)).collect();
            assert_eq!(enough, holders, "{}", route.path);
        }
    }
}

/// The cases of a golden file by name. Empty for a vendor without one.
fn golden(vendor: &str) -> Map<String, Value> {
    let file = match vendor {
        "svix" => return Map::new(),
        "instantly" => "000_instantly",
        "dfns" => "001_dfns",
        "everlytic" => "002_everlytic",
        "sentdm" => "003_sentdm",
        _ => "004_devdraft",
    };
    let path = format!("{}/tests/golden/{file}.json", env!("CARGO_MANIFEST_DIR"));
    let file: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let cases = file["cases"].as_array().unwrap().iter();
    cases.map(|case| (case["name"].as_str().unwrap().to_owned(), case.clone())).collect()
}

#[test]
fn examples_are_those_of_the_golden_files() {
    for dialect in DIALECTS {
        let golden = golden(dialect.name);
        let mut seen = 0;
        for (operation, statuses) in dialect.doc.examples().as_object().unwrap() {
            for (status, examples) in statuses.as_object().unwrap() {
                for (name, example) in examples.as_object().unwrap() {
                    let Some(case) = golden.get(name) else {
                        assert!(name.starts_with("own_"), "{} {operation}: {name} is no golden case", dialect.name);
                        continue;
                    };
                    // The text, so that the order of members counts.
                    assert_eq!(example.to_string(), case["body"].to_string(), "{} {name}", dialect.name);
                    assert_eq!(*status, case["status"].to_string(), "{} {name}", dialect.name);
                    seen += 1;
                }
            }
        }
        assert!(seen > 2 || golden.is_empty(), "{}", dialect.name);
    }
}

#[test]
fn every_example_belongs_to_something_and_every_answer_has_one() {
    for dialect in DIALECTS {
        let examples = dialect.doc.examples();
        let responses = dialect.responses();
        for (id, statuses) in examples.as_object().unwrap() {
            let route = dialect.routes.iter().find(|route| route.doc.id == id);
            for status in statuses.as_object().unwrap().keys() {
                let status: u16 = status.parse().unwrap();
                let known = match route {
                    Some(route) => route.doc.answers.iter().any(|answer| answer.status == status),
                    None => {
                        id == "errors"
                            && responses.contains_key(&format!("{}{}", dialect.doc.prefix, errors::name(status)))
                    }
                };
                assert!(known, "{} {id} {status}", dialect.name);
            }
        }
        for route in dialect.routes {
            for answer in route.doc.answers.iter().filter(|answer| answer.schema.is_some()) {
                let status = answer.status.to_string();
                assert!(examples[route.doc.id][status].is_object(), "{}", route.doc.id);
            }
        }
    }
}

#[test]
fn every_error_with_a_body_shows_one() {
    for dialect in DIALECTS {
        for (name, response) in dialect.responses() {
            let Some(own) = response["content"].get("application/json") else { continue };
            let one = own.get("example").into_iter();
            let named = own["examples"].as_object().into_iter().flat_map(|named| named.values());
            let shown: Vec<&Value> = one.chain(named.map(|example| &example["value"])).collect();
            assert!(!shown.is_empty() && shown.iter().all(|example| example.is_object()), "{name}: {own}");
        }
    }
}
