//! The OpenAPI 3.1 description of the native API, in step with its route table.

use serde_json::{Value, json};

/// The document that `GET /openapi.json` and `postrider openapi` give.
pub fn document() -> Value {
    json!({})
}
