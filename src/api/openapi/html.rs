//! The API reference: the OpenAPI document as one static HTML page.
//!
//! Invariant: the page loads nothing and runs no script, and every link of it to itself has its target.

mod operation;
mod schema;
mod text;

#[cfg(test)]
mod tests;

use serde_json::Value;

use operation::Operation;
use text::{code, escape, paragraphs};

const STYLE: &str = include_str!("html/style.css");

/// The page of an OpenAPI document.
pub fn page(document: &Value) -> String {
    let info = &document["info"];
    let (title, version) = (string(&info["title"]), string(&info["version"]));
    let operations = Operation::all(document);
    let mut out = String::new();
    out.push_str(&format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n<title>{title} API {version}</title>\n\
         <style>\n{STYLE}</style>\n</head>\n<body>\n",
        title = escape(title),
        version = escape(version),
    ));
    contents(&mut out, document, &operations);
    out.push_str(&format!(
        "<main>\n<h1 id=\"top\">{} API <small>{}</small></h1>\n{}",
        escape(title),
        escape(version),
        paragraphs(string(&info["description"])),
    ));
    out.push_str("<p>The same as OpenAPI 3.1: <a href=\"openapi.json\">openapi.json</a>.</p>\n");
    authentication(&mut out, document);
    for tag in items(&document["tags"]) {
        group(&mut out, document, tag, &operations);
    }
    errors(&mut out, document);
    schemas(&mut out, document);
    out.push_str("</main>\n</body>\n</html>\n");
    out
}

/// The list of all operations, beside the text on a wide screen.
fn contents(out: &mut String, document: &Value, operations: &[Operation<'_>]) {
    out.push_str("<nav aria-label=\"Contents\">\n<ul>\n<li><a href=\"#top\">Top</a></li>\n");
    out.push_str("<li><a href=\"#authentication\">Authentication</a></li>\n");
    for tag in items(&document["tags"]) {
        let name = escape(string(&tag["name"]));
        out.push_str(&format!("<li><a href=\"#tag-{name}\">{name}</a>\n"));
        index(out, operations, &name);
        out.push_str("</li>\n");
    }
    out.push_str("<li><a href=\"#errors\">Errors</a></li>\n<li><a href=\"#schemas\">Schemas</a></li>\n</ul>\n</nav>\n");
}

/// Links to the operations of a tag.
fn index(out: &mut String, operations: &[Operation<'_>], tag: &str) {
    out.push_str("<ul class=\"index\">\n");
    for operation in operations.iter().filter(|operation| operation.tag() == tag) {
        out.push_str(&format!("<li>{}</li>\n", operation.link()));
    }
    out.push_str("</ul>\n");
}

fn group(out: &mut String, document: &Value, tag: &Value, operations: &[Operation<'_>]) {
    let name = string(&tag["name"]);
    let shown = escape(name);
    out.push_str(&format!("<section id=\"tag-{shown}\">\n<h2><a href=\"#tag-{shown}\">{shown}</a></h2>\n"));
    out.push_str(&paragraphs(string(&tag["description"])));
    index(out, operations, name);
    for operation in operations.iter().filter(|operation| operation.tag() == name) {
        operation.write(out, document);
    }
    out.push_str("</section>\n");
}

fn authentication(out: &mut String, document: &Value) {
    out.push_str("<section id=\"authentication\">\n<h2><a href=\"#authentication\">Authentication</a></h2>\n<dl>\n");
    for (name, scheme) in members(&document["components"]["securitySchemes"]) {
        let way = match (scheme["scheme"].as_str(), scheme["name"].as_str()) {
            (Some("bearer"), _) => "<code>Authorization: Bearer KEY</code>".to_owned(),
            (Some("basic"), _) => "<code>Authorization: Basic base64(USER:KEY)</code>".to_owned(),
            (_, header) => format!("header <code>{}</code>", escape(header.unwrap_or_default())),
        };
        let about = code(string(&scheme["description"]));
        out.push_str(&format!("<dt id=\"auth-{0}\">{0}</dt>\n<dd>{way}. {about}</dd>\n", escape(name)));
    }
    out.push_str("</dl>\n</section>\n");
}

/// The responses that operations share.
fn errors(out: &mut String, document: &Value) {
    out.push_str("<section id=\"errors\">\n<h2><a href=\"#errors\">Errors</a></h2>\n");
    for (name, response) in members(&document["components"]["responses"]) {
        let shown = escape(name);
        out.push_str(&format!(
            "<article id=\"response-{shown}\">\n<h3><a href=\"#response-{shown}\">{shown}</a></h3>\n{}",
            paragraphs(string(&response["description"])),
        ));
        operation::contents(out, &response["content"]);
        out.push_str("</article>\n");
    }
    out.push_str("</section>\n");
}

fn schemas(out: &mut String, document: &Value) {
    out.push_str("<section id=\"schemas\">\n<h2><a href=\"#schemas\">Schemas</a></h2>\n");
    for (name, schema) in members(&document["components"]["schemas"]) {
        let shown = escape(name);
        out.push_str(&format!("<article id=\"schema-{shown}\">\n<h3><a href=\"#schema-{shown}\">{shown}</a></h3>\n",));
        schema::write(out, schema);
        for example in items(&schema["examples"]) {
            text::example(out, "Example", example);
        }
        out.push_str("</article>\n");
    }
    out.push_str("</section>\n");
}

/// The text of a value, empty if it is no string.
fn string(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn items(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn members(value: &Value) -> impl Iterator<Item = (&String, &Value)> {
    value.as_object().into_iter().flatten()
}
