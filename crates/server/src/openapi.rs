//! The OpenAPI document, generated from the code and checked in at `docs/openapi.json`.

use std::collections::HashSet;

use axum::{
    http::{Method, StatusCode, header},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use utoipa::{
    OpenApi as _,
    openapi::{
        OpenApi, PathItem, RefOr,
        path::{Operation, Parameter, ParameterIn},
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

fn operations(document: &mut OpenApi) -> impl Iterator<Item = (Method, &String, &mut Operation)> {
    document.paths.paths.iter_mut().flat_map(|(path, item)| {
        let PathItem { get, put, post, delete, .. } = item;
        let all = [(Method::GET, get), (Method::PUT, put), (Method::POST, post)];
        let all = all.into_iter().chain([(Method::DELETE, delete)]);
        all.filter_map(move |(method, operation)| Some((method, path, operation.as_mut()?)))
    })
}

/// Names every operation after its method and path, such as `post_jobs_by_id_cancel`.
fn name_operations(document: &mut OpenApi) {
    for (method, path, operation) in operations(document) {
        operation.operation_id = Some(operation_id(&method, path));
    }
}

fn operation_id(method: &Method, path: &str) -> String {
    let path = path.trim_start_matches("/api/v1").replace(['-', '.'], "_");
    let mut id = method.as_str().to_lowercase();
    for segment in path.split('/').filter(|segment| !segment.is_empty()) {
        match segment.strip_prefix('{').and_then(|name| name.strip_suffix('}')) {
            Some(name) => id.push_str(&format!("_by_{name}")),
            None => id.push_str(&format!("_{segment}")),
        }
    }
    id
}

/// Says of every answer what it is, as OpenAPI asks: where a route does not, what its status means.
fn describe_answers(document: &mut OpenApi) {
    for (_, _, operation) in operations(document) {
        for (status, response) in &mut operation.responses.responses {
            if let RefOr::T(response) = response
                && response.description.is_empty()
            {
                let status = status.parse().ok().and_then(|code| StatusCode::from_u16(code).ok());
                let reason = status.and_then(|status| status.canonical_reason());
                response.description = reason.unwrap_or("What was asked for").to_owned();
            }
        }
    }
}

/// The routes that take no parameter after the question mark.
pub(crate) fn without_parameters(document: &mut OpenApi) -> HashSet<(Method, String)> {
    let takes_none = |operation: &Operation| {
        let mut parameters = operation.parameters.iter().flatten();
        let is_query = |given: &RefOr<Parameter>| match given {
            RefOr::T(parameter) => parameter.parameter_in == ParameterIn::Query,
            RefOr::Ref(_) => true,
        };
        !parameters.any(is_query)
    };
    let routes = operations(document).filter(|(_, _, operation)| takes_none(operation));
    routes.map(|(method, path, _)| (method, path.clone())).collect()
}

/// The document as JSON text.
pub(crate) fn written(mut document: OpenApi) -> Bytes {
    name_operations(&mut document);
    describe_answers(&mut document);
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

    /// As OpenAPI 3.1 asks.
    #[test]
    fn every_answer_is_described() {
        let document: Value = serde_json::from_str(&super::openapi_json()).unwrap();
        let paths = document["paths"].as_object().unwrap();
        let operations = paths.values().flat_map(|item| item.as_object().unwrap().values());
        let answers: Vec<&Value> = operations
            .flat_map(|operation| operation["responses"].as_object().unwrap().values())
            .collect();
        assert!(answers.len() > 100, "{}", answers.len());
        let is_silent = |answer: &&&Value| answer["description"].as_str().is_none_or(str::is_empty);
        assert_eq!(answers.iter().find(is_silent), None);
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
