//! What is wrong with what is stored, and mending it.

use std::sync::Arc;

use axum::{Json, extract::State};
use pointsman_api::{ErrorCode, MendRequest, MendResult, Problem};
use pointsman_core::doctor::{Examination, Finding};

use super::Errors;
use crate::{
    app::App,
    extract,
    refusal::{Answer, Refusal},
};

/// Everything that is wrong with what is stored, each with its consequence and its cure. Looks at
/// every record and every index: one at a time, and those who wait meanwhile share the next one.
#[utoipa::path(
    get, path = "/api/v1/doctor", tag = "fleet",
    responses((status = 200, body = Examination), Errors),
)]
pub(crate) async fn examine(State(app): State<App>) -> Answer<Json<Arc<Examination>>> {
    let broker = app.broker.clone();
    let examined = app.examinations.get(async move { broker.examine().await.map(Arc::new) });
    let panicked = || Refusal::new(ErrorCode::Internal, "the examination panicked");
    Ok(Json(examined.await.ok_or_else(panicked)??))
}

/// Mend findings: those with the given ids, or all of them. What no repair can make right is left
/// as it is. An id that is of no finding now, as it is mended already, is answered as not found.
#[utoipa::path(
    post, path = "/api/v1/doctor/repair", tag = "fleet",
    request_body = MendRequest,
    responses((status = 200, body = MendResult), Errors),
)]
pub(crate) async fn repair(
    State(app): State<App>,
    extract::Json(MendRequest { ids }, _share): extract::Json<MendRequest>,
) -> Answer<Json<MendResult>> {
    let (given, max) = (ids.as_ref().map_or(0, Vec::len), Examination::MAX);
    if given > max {
        let detail = format!("{given} ids are too many: {max} is the most");
        return Err(Problem::new(ErrorCode::TooLong, detail).at("/ids").into());
    }
    let mut not_found = ids.clone().unwrap_or_default();
    if let Some((n, id)) = not_found.iter().enumerate().find(|(_, id)| !Finding::is_id(id)) {
        let detail = format!("{id:?} is the id of no finding: it would be RULE:SUBJECT");
        let problem = Problem::new(ErrorCode::InvalidId, detail).at(format!("/ids/{n}"));
        return Err(problem.cure("copy `id` of a finding of GET /api/v1/doctor").into());
    }
    let mended = app.broker.mend(ids).await?;
    not_found.retain(|id| !mended.iter().any(|mended| mended.finding.id == *id));
    Ok(Json(MendResult { mended, not_found }))
}
