//! The endpoints, one group a file.

use std::collections::BTreeMap;

use utoipa::openapi::{Content, Ref, RefOr, Response, ResponseBuilder};

pub(crate) mod artifacts;
pub(crate) mod attempts;
pub(crate) mod doctor;
pub(crate) mod events;
pub(crate) mod fleet;
mod frames;
pub(crate) mod health;
pub(crate) mod inputs;
pub(crate) mod intake;
pub(crate) mod job;
pub(crate) mod jobs;
pub(crate) mod machines;
mod page;
pub(crate) mod pages;
pub(crate) mod protocol;
pub(crate) mod submit;
pub(crate) mod workers;

/// Every error of every route, for the OpenAPI document.
pub(crate) struct Errors;

impl utoipa::IntoResponses for Errors {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        let schema = Ref::from_schema_name("Problem");
        let content = Content::new(Some(schema));
        let response = ResponseBuilder::new()
            .description("Why the request was refused: see `code`, `pointer` and `cure`")
            .content(pointsman_api::PROBLEM_JSON, content);
        BTreeMap::from([("default".to_owned(), response.build().into())])
    }
}
