//! The page against the document that it shows.

use std::collections::BTreeSet;

use serde_json::json;

use super::*;
use crate::api::openapi::{document, document_of};

/// The values of an attribute, in the order of the page.
fn attributes<'a>(page: &'a str, name: &str) -> Vec<&'a str> {
    let start = format!(" {name}=\"");
    page.split(start.as_str()).skip(1).filter_map(|rest| rest.split('"').next()).collect()
}

#[test]
fn every_operation_schema_and_shared_response_has_an_anchor_and_every_link_leads_to_one() {
    for document in [document(), document_of(|_| false)] {
        let page = page(&document);
        let ids = attributes(&page, "id");
        let set: BTreeSet<&str> = ids.iter().copied().collect();
        assert_eq!(ids.len(), set.len(), "an id stands twice");
        for operation in Operation::all(&document) {
            assert!(set.contains(string(&operation.value["operationId"])), "{}", operation.link());
        }
        for (kind, prefix) in [("schemas", "schema"), ("responses", "response"), ("securitySchemes", "auth")] {
            for (name, _) in members(&document["components"][kind]) {
                assert!(set.contains(format!("{prefix}-{name}").as_str()), "{name}");
            }
        }
        for link in attributes(&page, "href") {
            let target = link.strip_prefix('#').unwrap_or(link);
            assert!(link == "openapi.json" || set.contains(target), "{link} leads nowhere");
        }
    }
}

#[test]
fn the_page_loads_nothing_and_runs_nothing() {
    let page = page(&document());
    for outside in ["<script", "<link", "<img", "<iframe", "@import", "url(", " src=", " style=\"", " onclick"] {
        assert!(!page.contains(outside), "{outside}");
    }
}

#[test]
fn every_example_of_the_document_stands_on_the_page() {
    let document = document();
    let page = page(&document);
    for operation in Operation::all(&document) {
        let responses = members(&operation.value["responses"]).map(|(_, response)| &response["content"]);
        for (_, content) in responses.chain([&operation.value["requestBody"]["content"]]).flat_map(members) {
            if content["example"].is_object() {
                let shown = serde_json::to_string_pretty(&content["example"]).unwrap();
                assert!(page.contains(&*escape(&shown)), "{} {}", operation.verb, operation.path);
            }
        }
    }
}

#[test]
fn text_of_the_description_cannot_become_markup() {
    let hostile = "<script>alert('&\"')</script> `<b>`";
    let page = page(&json!({
        "info": { "title": hostile, "version": "1", "description": hostile },
        "tags": [{ "name": "a", "description": hostile }],
        "paths": { "/<b>": { "get": {
            "operationId": "x", "tags": ["a"], "summary": hostile, "description": hostile,
            "parameters": [{ "name": "<b>", "in": "query", "description": hostile, "schema": { "pattern": "<b>" } }],
            "responses": { "200": { "description": hostile, "content": { "text/<b>": {
                "schema": { "enum": ["<b>"] }, "example": "<b>" } } } },
        } } },
        "components": { "schemas": { "A": { "properties": { "<b>": { "const": "<b>", "description": hostile } } } } },
    }));
    assert!(!page.contains("<b>") && !page.contains("<script"), "{page}");
    assert!(page.contains("&lt;script&gt;alert(&#39;&amp;&quot;&#39;)&lt;/script&gt; <code>&lt;b&gt;</code>"));
}

#[test]
fn a_schema_is_described_in_words() {
    let mut out = String::new();
    let described = schema::described(&json!({ "anyOf": [
        { "type": "array", "items": { "type": "string", "maxLength": 9 }, "maxItems": 3, "description": "Its `words`." },
        { "type": "null" },
    ] }));
    assert_eq!(
        described,
        "list of string or null, at most 3 items, each at most 9 characters. Its <code>words</code>.\n"
    );
    schema::write(
        &mut out,
        &json!({
            "type": "object", "required": ["id"],
            "properties": {
                "id": { "type": "string", "format": "uuid" },
                "event": { "$ref": "#/components/schemas/Event" },
                "n": { "type": ["integer", "null"], "minimum": 1, "maximum": 5, "default": 2 },
            },
        }),
    );
    assert_eq!(
        out,
        "<dl>\n<dt><code>id</code> <em>required</em></dt>\n<dd>uuid\n</dd>\n\
         <dt><code>event</code></dt>\n<dd><a href=\"#schema-Event\">Event</a>\n</dd>\n\
         <dt><code>n</code></dt>\n<dd>integer or null, 1 to 5, default <code>2</code>\n</dd>\n</dl>\n"
    );
}

#[test]
fn the_example_request_is_a_command_with_the_key_and_the_body() {
    let document = document();
    let find = |id: &str| Operation::all(&document).into_iter().find(|one| one.value["operationId"] == id).unwrap();
    assert_eq!(find("getAlive").curl(&document), "curl http://127.0.0.1:8080/healthz");
    assert_eq!(
        find("pauseWebhook").curl(&document).lines().take(2).collect::<Vec<_>>(),
        [
            "curl -X POST http://127.0.0.1:8080/v1/webhooks/ID/pause \\",
            "  -H \"Authorization: Bearer $POSTRIDER_TOKEN\" \\",
        ]
    );
    assert!(find("publishEvent").curl(&document).contains("-d '{\"type\":\"invoice.paid\",\"data\":{\"id\":42}"));
}
