//! All routes, as one list, each group with the permission that it asks for.

use std::{collections::HashSet, sync::Arc};

use axum::{
    Router,
    extract::{MatchedPath, Request, State},
    http::{HeaderValue, Method, header},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::get,
};
use jiff::fmt::rfc2822::DateTimePrinter;
use pointsman_api::{ErrorCode, Problem};
use pointsman_core::Timestamp;
use tokio::time::Instant;
use tower_http::catch_panic::CatchPanicLayer;
use utoipa::openapi::OpenApi;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    access::{Permission, authenticate, require},
    app::App,
    openapi,
    refusal::Refusal,
    routes::{
        artifacts, attempts, doctor, events, fleet, health, inputs, intake, job, jobs, machines,
        pages, protocol, submit, workers,
    },
};

type Routes = OpenApiRouter<App>;

/// The whole server.
pub(crate) fn router(app: App) -> Router {
    let (api, mut document) = api().split_for_parts();
    let bare: Arc<HashSet<_>> = openapi::without_parameters(&mut document).into();
    let document = openapi::written(document);
    api.route_layer(middleware::from_fn_with_state(bare, refuse_parameters))
        .route("/api/openapi.json", get(move || openapi::serve(document.clone())))
        .route("/", get(pages::monitor))
        .route("/client", get(pages::client))
        .route("/assets/{name}", get(pages::asset))
        .fallback(pages::other)
        .method_not_allowed_fallback(pages::wrong_method)
        .layer(middleware::from_fn_with_state(app.clone(), health::only_whole))
        .layer(middleware::from_fn_with_state(app.clone(), authenticate))
        .layer(CatchPanicLayer::custom(|_| panicked()))
        .layer(middleware::from_fn_with_state(app.clone(), observe))
        .with_state(app)
}

/// The document that describes all routes.
pub(crate) fn document() -> OpenApi {
    api().split_for_parts().1
}

fn api() -> Routes {
    OpenApiRouter::with_openapi(openapi::about())
        .merge(open())
        .merge(asks(Permission::View, viewing()))
        .merge(asks(Permission::Payloads, reading()))
        .merge(asks(Permission::Submit, submitting()))
        .merge(asks(Permission::Fleet, watching()))
        .merge(asks(Permission::Operate, operating()))
        .merge(asks(Permission::Work, working()))
}

fn asks(permission: Permission, routes: Routes) -> Routes {
    routes.route_layer(middleware::from_fn_with_state(permission, require))
}

fn open() -> Routes {
    OpenApiRouter::new().routes(routes!(health::livez)).routes(routes!(health::readyz))
}

fn viewing() -> Routes {
    OpenApiRouter::new()
        .routes(routes!(jobs::list))
        .routes(routes!(job::get))
        .routes(routes!(job::attempts))
        .routes(routes!(job::explain))
        .routes(routes!(job::progress))
        .routes(routes!(events::job_events))
}

fn reading() -> Routes {
    OpenApiRouter::new()
        .routes(routes!(job::payload))
        .routes(routes!(job::result))
        .routes(routes!(job::preview))
        .routes(routes!(artifacts::get))
        .routes(routes!(inputs::get))
}

fn submitting() -> Routes {
    OpenApiRouter::new()
        .routes(routes!(submit::one))
        .routes(routes!(submit::batch))
        .routes(routes!(job::cancel))
        .routes(routes!(job::retry))
        .routes(routes!(inputs::upload))
}

fn watching() -> Routes {
    OpenApiRouter::new()
        .routes(routes!(fleet::snapshot))
        .routes(routes!(events::events))
        .routes(routes!(events::log))
        .routes(routes!(workers::list))
        .routes(routes!(workers::get))
        .routes(routes!(fleet::capabilities))
        .routes(routes!(machines::list))
        .routes(routes!(machines::get))
        .routes(routes!(doctor::examine))
        .routes(routes!(health::metrics))
        .routes(routes!(intake::get))
}

fn operating() -> Routes {
    OpenApiRouter::new()
        .routes(routes!(workers::drain))
        .routes(routes!(workers::resume))
        .routes(routes!(doctor::repair))
        .routes(routes!(workers::repair))
        .routes(routes!(workers::remove))
        .routes(routes!(machines::drain))
        .routes(routes!(machines::resume))
        .routes(routes!(machines::repair))
        .routes(routes!(machines::remove))
        .routes(routes!(intake::close))
        .routes(routes!(intake::open))
}

fn working() -> Routes {
    OpenApiRouter::new()
        .routes(routes!(protocol::register))
        .routes(routes!(protocol::exchange))
        .routes(routes!(protocol::claim))
        .routes(routes!(protocol::renew))
        .routes(routes!(protocol::leave))
        .routes(routes!(attempts::start))
        .routes(routes!(attempts::finish))
        .routes(routes!(attempts::release))
        .routes(routes!(attempts::late))
        .routes(routes!(attempts::cancel_ack))
        .routes(routes!(attempts::put_artifact))
        .routes(routes!(attempts::put_preview))
}

/// A parameter that a route does not know is told, as what it should have changed is not: a list that
/// was not filtered looks like one that was. (Those who ask whether a server is there add what they
/// like.)
async fn refuse_parameters(
    State(bare): State<Arc<HashSet<(Method, String)>>>,
    route: MatchedPath,
    request: Request,
    next: Next,
) -> Response {
    let given = request.uri().query().unwrap_or_default();
    let route = (request.method().clone(), route.as_str().to_owned());
    if given.is_empty() || !route.1.starts_with("/api/") || !bare.contains(&route) {
        return next.run(request).await;
    }
    let name = given.split(['=', '&']).next().unwrap_or_default();
    let problem = Problem::new(ErrorCode::InvalidQuery, "this route takes no parameters");
    Refusal(problem.at(format!("?{name}")).cure("leave it out")).into_response()
}

/// Counts every answer, and dates it by the store's clock, which workers follow: several servers may
/// serve one store, and each has a clock of its own.
async fn observe(
    State(app): State<App>,
    route: Option<MatchedPath>,
    request: Request,
    next: Next,
) -> Response {
    let begin = Instant::now();
    let method = request.method().clone();
    let mut response = next.run(request).await;
    let route = route.as_ref().map_or("none", MatchedPath::as_str);
    let status = response.status().as_u16();
    app.metrics.answered(method.as_str(), route, status, begin.elapsed().as_secs_f64());
    if let Some(date) = http_date(app.broker.store().now()) {
        response.headers_mut().insert(header::DATE, date);
    }
    response
}

/// As RFC 9110 writes it; none of a time beyond what that can write.
fn http_date(at: Timestamp) -> Option<HeaderValue> {
    let at = jiff::Timestamp::from_millisecond(at.as_millis()).ok()?;
    let date = DateTimePrinter::new().timestamp_to_rfc9110_string(&at).ok()?;
    HeaderValue::try_from(date).ok()
}

fn panicked() -> Response {
    Refusal::new(ErrorCode::Internal, "a handler panicked").into_response()
}
