//! The OpenAPI document, generated from the code and checked in at `docs/openapi.json`.

use axum::{
    http::header,
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use utoipa::{
    OpenApi as _,
    openapi::{
        OpenApi, PathItem,
        security::{Http, HttpAuthScheme, SecurityRequirement, SecurityScheme},
    },
};

/// What stands over all routes.
#[derive(utoipa::OpenApi)]
#[openapi(
    info(
        title = "Pointsman",
        description = "Runs generative-AI jobs on the machines that are able to, and shows the truth about all of it. Errors are problem documents (RFC 9457) with a stable `code`, the `pointer` to the wrong field, and a `cure`.",
        license(name = "Apache-2.0"),
    ),
    tags(
        (name = "jobs", description = "Submit jobs, look at them, cancel and retry them"),
        (name = "inputs", description = "Files that jobs bring"),
        (name = "events", description = "The view and its changes, and the raw log"),
        (name = "fleet", description = "Machines and workers"),
        (name = "worker", description = "The worker protocol, for a worker in any language. Every request may be repeated exactly after a lost answer, and then gets the first answer again"),
        (name = "server", description = "Health and figures"),
    ),
    components(schemas(
        pointsman_api::ProblemDocument,
        pointsman_broker::frame::Bookmark,
        pointsman_broker::frame::NotLive,
        pointsman_broker::frame::Resync,
    )),
)]
struct About;

pub(crate) fn about() -> OpenApi {
    let mut document = About::openapi();
    let scheme = SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer));
    document.components.get_or_insert_default().add_security_scheme("token", scheme);
    // Either a token, or none: on loopback.
    document.security =
        Some(vec![SecurityRequirement::default(), SecurityRequirement::new("token", [""; 0])]);
    document
}

/// Names every operation after its method and path, such as `post_jobs_by_id_cancel`.
fn name_operations(document: &mut OpenApi) {
    for (path, item) in &mut document.paths.paths {
        let PathItem { get, put, post, delete, .. } = item;
        for (method, operation) in [("get", get), ("put", put), ("post", post), ("delete", delete)]
        {
            if let Some(operation) = operation {
                operation.operation_id = Some(operation_id(method, path));
            }
        }
    }
}

fn operation_id(method: &str, path: &str) -> String {
    let path = path.trim_start_matches("/api/v1").replace(['-', '.'], "_");
    let mut id = method.to_owned();
    for segment in path.split('/').filter(|segment| !segment.is_empty()) {
        match segment.strip_prefix('{').and_then(|name| name.strip_suffix('}')) {
            Some(name) => id.push_str(&format!("_by_{name}")),
            None => id.push_str(&format!("_{segment}")),
        }
    }
    id
}

/// The document as JSON text.
pub(crate) fn written(mut document: OpenApi) -> Bytes {
    name_operations(&mut document);
    document.to_pretty_json().expect("the document holds nothing that JSON cannot write").into()
}

/// The OpenAPI document as it is checked in at `docs/openapi.json`.
pub fn openapi_json() -> String {
    String::from_utf8_lossy(&written(crate::router::document())).into_owned()
}

pub(crate) async fn serve(document: Bytes) -> Response {
    ([(header::CONTENT_TYPE, "application/json")], document).into_response()
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    /// What a field is, in words: its own, or those of its type.
    fn is_described(field: &Value, types: &Value) -> bool {
        let named = field["$ref"].as_str().and_then(|name| name.rsplit('/').next());
        let tag = field["enum"].as_array().is_some_and(|values| values.len() == 1);
        let within = ["oneOf", "allOf", "anyOf"].iter().filter_map(|of| field[of].as_array());
        tag || field["description"].is_string()
            || named.is_some_and(|name| types[name]["description"].is_string())
            || within.flatten().any(|one| is_described(one, types))
    }

    fn undescribed(at: &str, value: &Value, types: &Value, found: &mut Vec<String>) {
        for (name, field) in value["properties"].as_object().into_iter().flatten() {
            if !is_described(field, types) {
                found.push(format!("{at}.{name}"));
            }
        }
        match value {
            Value::Object(parts) => {
                parts.values().for_each(|part| undescribed(at, part, types, found));
            }
            Value::Array(parts) => {
                parts.iter().for_each(|part| undescribed(at, part, types, found))
            }
            _ => {}
        }
    }

    #[test]
    fn every_field_is_described() {
        let document: Value = serde_json::from_str(&super::openapi_json()).unwrap();
        let types = &document["components"]["schemas"];
        let mut found = Vec::new();
        for (name, of) in types.as_object().unwrap() {
            undescribed(name, of, types, &mut found);
        }
        assert!(types["Job"]["properties"].is_object() && found.is_empty(), "{found:#?}");
    }

    #[test]
    fn the_checked_in_document_is_the_codes() {
        let checked_in =
            include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/openapi.json"));
        assert!(
            checked_in.trim_end() == super::openapi_json(),
            "docs/openapi.json is stale: run `make openapi`"
        );
    }
}
