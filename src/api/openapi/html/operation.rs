//! One operation as HTML: its scope, its parameters and body, its answers, and an example request.

use serde_json::Value;

use super::text::{block, code, escape, example, paragraphs};
use super::{items, members, schema, string};

/// Where the shared responses of the document are.
const RESPONSE: &str = "#/components/responses/";

/// An operation with its place.
pub struct Operation<'a> {
    pub path: &'a str,
    pub verb: &'a str,
    pub value: &'a Value,
}

impl<'a> Operation<'a> {
    /// All operations in the order of the document.
    pub fn all(document: &'a Value) -> Vec<Operation<'a>> {
        let paths = members(&document["paths"]);
        paths.flat_map(|(path, verbs)| members(verbs).map(|(verb, value)| Operation { path, verb, value })).collect()
    }

    pub fn tag(&self) -> &'a str {
        string(&self.value["tags"][0])
    }

    fn id(&self) -> &'a str {
        string(&self.value["operationId"])
    }

    /// The method and the path, linked to the operation.
    pub fn link(&self) -> String {
        let (id, verb, path) = (escape(self.id()), escape(self.verb), escape(self.path));
        format!("<a href=\"#{id}\"><span class=\"verb {verb}\">{}</span> <code>{path}</code></a>", verb.to_uppercase())
    }

    pub fn write(&self, out: &mut String, document: &Value) {
        out.push_str(&format!("<article id=\"{}\">\n<h3>{}</h3>\n", escape(self.id()), self.link()));
        out.push_str(&format!("<p><strong>{}.</strong></p>\n", code(string(&self.value["summary"]))));
        out.push_str(&paragraphs(string(&self.value["description"])));
        self.parameters(out);
        let body = &self.value["requestBody"];
        if !body.is_null() {
            let word = if body["required"] == true { "Request body" } else { "Request body, optional" };
            out.push_str(&format!("<h4>{word}</h4>\n"));
            contents(out, &body["content"]);
        }
        block(out, "With curl", &self.curl(document));
        self.responses(out);
        out.push_str("</article>\n");
    }

    fn parameters(&self, out: &mut String) {
        let mut all = items(&self.value["parameters"]).peekable();
        if all.peek().is_none() {
            return;
        }
        out.push_str("<h4>Parameters</h4>\n<dl>\n");
        for parameter in all {
            let required = if parameter["required"] == true { " <em>required</em>" } else { "" };
            out.push_str(&format!(
                "<dt><code>{}</code> <small>{}</small>{required}</dt>\n<dd>{}</dd>\n",
                escape(string(&parameter["name"])),
                escape(string(&parameter["in"])),
                schema::described_as(&parameter["schema"], string(&parameter["description"])),
            ));
        }
        out.push_str("</dl>\n");
    }

    /// The operation's own responses in full, and the shared ones as links.
    fn responses(&self, out: &mut String) {
        let mut shared = Vec::new();
        for (status, response) in members(&self.value["responses"]) {
            let status = escape(status);
            if let Some(name) = response["$ref"].as_str().and_then(|at| at.strip_prefix(RESPONSE)) {
                shared.push(format!("<a href=\"#response-{}\">{status}</a>", escape(name)));
                continue;
            }
            let about = code(string(&response["description"]));
            out.push_str(&format!("<h4>Answer {status}</h4>\n<p>{about}</p>\n"));
            contents(out, &response["content"]);
        }
        if !shared.is_empty() {
            out.push_str(&format!("<p>Errors: {}.</p>\n", shared.join(", ")));
        }
    }

    /// The operation as a command, with the example of its body.
    pub fn curl(&self, document: &Value) -> String {
        let segments = self.path.split('/').map(|segment| {
            let name = segment.strip_prefix('{').and_then(|rest| rest.strip_suffix('}'));
            name.map_or_else(|| segment.to_owned(), str::to_uppercase)
        });
        let path = segments.collect::<Vec<_>>().join("/");
        let verb = match self.verb {
            "get" => String::new(),
            verb => format!(" -X {}", verb.to_uppercase()),
        };
        let mut command = format!("curl{verb} http://127.0.0.1:8080{path}");
        for (name, _) in members(&self.value["security"][0]) {
            command.push_str(" \\\n  ");
            command.push_str(&credential(&document["components"]["securitySchemes"][name]));
        }
        if let Some((media_type, content)) = members(&self.value["requestBody"]["content"]).next() {
            let body = content["example"].to_string().replace('\'', "'\\''");
            command.push_str(&format!(" \\\n  -H 'Content-Type: {media_type}' \\\n  -d '{body}'"));
        }
        command
    }
}

/// The argument of curl that sends the key.
fn credential(scheme: &Value) -> String {
    match (scheme["scheme"].as_str(), scheme["name"].as_str()) {
        (Some("bearer"), _) => "-H \"Authorization: Bearer $POSTRIDER_TOKEN\"".to_owned(),
        (Some(_), _) => "-u \"user:$POSTRIDER_TOKEN\"".to_owned(),
        (None, name) => format!("-H \"{}: $POSTRIDER_TOKEN\"", name.unwrap_or_default()),
    }
}

/// The schema and the example of each media type.
pub fn contents(out: &mut String, content: &Value) {
    for (media_type, content) in members(content) {
        out.push_str(&format!(
            "<p><code>{}</code>: {}</p>\n",
            escape(media_type),
            schema::described(&content["schema"]).trim_end()
        ));
        if !content["example"].is_null() {
            example(out, "Example", &content["example"]);
        }
    }
}
