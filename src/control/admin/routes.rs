//! The list of routes: what is served, what may be asked by whom, and what is described.
//!
//! Each line adds a handler to the router and to the OpenAPI document alike. What all handlers of a kind may answer is added in one
//! place, so that no answer is left out of the description: 401 and 403 behind the token, 400 and 422 to what makes no sense,
//! 404 where a path names something, 413 and 415 where a body comes, 500 and 503.

use super::caller::{Scope, allowed};
use super::problem::{Details, Problem};
use super::{
    Api, actions, alerts, at_rest, audit, backup, configuration, doctor, domains, drill, machine, metrics,
    orders, outages, provision, queue, recipients, record, replay, restore, revisions, serve, status,
    support, tokens, trace, update,
};
use axum::extract::DefaultBodyLimit;
use axum::middleware::{from_fn, from_fn_with_state};
use axum::routing::get;
use axum::{Json, Router};
use std::sync::Arc;
use utoipa::openapi::path::Operation;
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme};
use utoipa::openapi::{ContentBuilder, OpenApi, Ref, ResponseBuilder};
use utoipa::{OpenApi as _, ToSchema as _};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

type Routes = OpenApiRouter<Arc<Api>>;

/// The head of the document.
#[derive(utoipa::OpenApi)]
#[openapi(
    info(
        title = "StrataMX admin API",
        description = "What a secondary MX keeps, and what becomes of it. Errors are problem details (RFC 9457)."
    ),
    components(schemas(Details))
)]
struct Head;

/// All routes, guarded.
pub(super) fn router(api: &Arc<Api>) -> Router {
    let (routes, document) = all(api).split_for_parts();
    let document = Arc::new(described(document));
    let routes = routes.route("/api/openapi.json", get(async move || Json(OpenApi::clone(&document))));
    guarded(routes, api).with_state(Arc::clone(api))
}

fn all(api: &Arc<Api>) -> Routes {
    let recorded = || from_fn_with_state(Arc::clone(api), record::recorded);
    let imported = || from_fn_with_state(Arc::clone(api), record::recorded_import);
    let open = OpenApiRouter::with_openapi(Head::openapi())
        .routes(routes!(status::healthz))
        .routes(routes!(status::readyz));
    let measured = OpenApiRouter::new().routes(routes!(metrics::metrics));
    let traced = OpenApiRouter::new()
        .routes(routes!(trace::list))
        .routes(routes!(trace::show))
        .route_layer(recorded());
    let content = OpenApiRouter::new().routes(routes!(queue::export)).route_layer(recorded());
    let operate = OpenApiRouter::new()
        .routes(routes!(orders::hold))
        .routes(routes!(orders::release))
        .routes(routes!(orders::redirect))
        .routes(routes!(orders::direct))
        .routes(routes!(actions::flush))
        .routes(routes!(actions::thaw))
        .routes(routes!(replay::replay))
        .routes(routes!(actions::bounce_many))
        .routes(routes!(actions::hold_many))
        .routes(routes!(actions::release_many))
        .routes(routes!(actions::discard_many))
        .routes(routes!(actions::delete_many))
        .routes(routes!(actions::act_on_one))
        .routes(routes!(alerts::acknowledge))
        .routes(routes!(doctor::examined))
        .routes(routes!(drill::drill))
        .route_layer(recorded());
    let provision = OpenApiRouter::new()
        .routes(routes!(provision::create))
        .routes(routes!(provision::put, provision::patch, provision::remove))
        .routes(routes!(recipients::remove))
        .route_layer(recorded());
    let import = OpenApiRouter::new()
        .routes(routes!(recipients::replace, recipients::add))
        .route_layer(imported())
        .layer(DefaultBodyLimit::disable());
    let groups = [
        (Scope::Metrics, measured),
        (Scope::Read, read().merge(traced)),
        (Scope::Content, content),
        (Scope::Operate, operate),
        (Scope::Provision, provision.merge(import)),
        (Scope::Admin, administer(api)),
    ];
    groups
        .into_iter()
        .fold(open, |all, (scope, routes)| all.merge(routes.route_layer(from_fn_with_state(scope, allowed))))
}

/// What an administrator alone may do, and look into.
fn administer(api: &Arc<Api>) -> Routes {
    let updated = OpenApiRouter::new()
        .routes(routes!(update::install))
        .routes(routes!(restore::begin))
        .route_layer(from_fn_with_state(Arc::clone(api), record::recorded_import))
        .layer(DefaultBodyLimit::disable());
    let configured = OpenApiRouter::new()
        .routes(routes!(revisions::apply))
        .route_layer(from_fn_with_state(Arc::clone(api), record::recorded_configuration))
        .layer(DefaultBodyLimit::disable());
    let taken = OpenApiRouter::new()
        .routes(routes!(backup::backup))
        .routes(routes!(support::bundle))
        .route_layer(from_fn_with_state(Arc::clone(api), record::recorded));
    let looked_into = OpenApiRouter::new()
        .routes(routes!(tokens::list))
        .routes(routes!(audit::list))
        .routes(routes!(alerts::contacts));
    let changed = OpenApiRouter::new()
        .routes(routes!(tokens::make))
        .routes(routes!(tokens::revoke))
        .routes(routes!(alerts::add_contact))
        .routes(routes!(alerts::remove_contact))
        .routes(routes!(alerts::try_contact))
        .routes(routes!(at_rest::unlock))
        .routes(routes!(at_rest::passphrase))
        .routes(routes!(at_rest::recovery_key))
        .routes(routes!(configuration::reload))
        .routes(routes!(revisions::revert))
        .routes(routes!(revisions::confirm))
        .routes(routes!(revisions::differences))
        .routes(routes!(revisions::file))
        .route_layer(from_fn_with_state(Arc::clone(api), record::recorded));
    looked_into.merge(changed).merge(configured).merge(updated).merge(taken)
}

/// Looks that change nothing, and are not written down.
fn read() -> Routes {
    OpenApiRouter::new()
        .routes(routes!(status::status))
        .routes(routes!(domains::list))
        .routes(routes!(domains::show))
        .routes(routes!(recipients::list))
        .routes(routes!(queue::list))
        .routes(routes!(queue::show))
        .routes(routes!(alerts::list))
        .routes(routes!(alerts::events))
        .routes(routes!(outages::list))
        .routes(routes!(outages::show))
        .routes(routes!(outages::page))
        .routes(routes!(configuration::show))
        .routes(routes!(machine::show))
        .routes(routes!(configuration::check))
        .routes(routes!(revisions::list))
        .routes(routes!(update::show))
        .routes(routes!(restore::show))
        .routes(routes!(at_rest::show))
}

/// The same for every path, known or not.
pub(super) fn guarded(routes: Router<Arc<Api>>, api: &Arc<Api>) -> Router<Arc<Api>> {
    routes
        .fallback(async || Problem::not_found("there is nothing at this path"))
        .method_not_allowed_fallback(async || Problem::method())
        .layer(from_fn(serve::told_as_problem))
        .layer(from_fn_with_state(Arc::clone(api), serve::guard))
}

/// The document with what holds for all.
fn described(mut document: OpenApi) -> OpenApi {
    env!("CARGO_PKG_VERSION").clone_into(&mut document.info.version);
    let bearer = SecurityScheme::Http(HttpBuilder::new().scheme(HttpAuthScheme::Bearer).build());
    document.components.get_or_insert_default().security_schemes.insert("bearer".to_owned(), bearer.into());
    document.security = Some(vec![SecurityRequirement::new("bearer", Vec::<String>::new())]);
    for (path, item) in &mut document.paths.paths {
        let operations = [&mut item.get, &mut item.post, &mut item.put, &mut item.patch, &mut item.delete];
        for operation in operations.into_iter().flatten() {
            complete(path, operation);
        }
    }
    document
}

fn complete(path: &str, operation: &mut Operation) {
    let is_open = operation.security.is_some();
    let takes_body = operation.request_body.is_some();
    let names = path.contains('{');
    let takes_query = operation.parameters.is_some();
    for (status, what, holds) in [
        ("400", "The request makes no sense", takes_body || takes_query),
        ("401", "No token, or one that is not known", !is_open),
        ("403", "A token without the scope", !is_open),
        ("404", "There is no such thing", names || takes_body),
        ("409", "Not in this state", takes_body && !is_open),
        ("413", "The body is too large", takes_body),
        ("415", "The body is of another media type", takes_body),
        ("422", "It can be read, and is refused", takes_body),
        ("500", "Our fault", true),
        ("503", "Later perhaps", true),
        ("507", "The disk is full; nothing has changed", !is_open),
    ] {
        let known = &mut operation.responses.responses;
        if holds && !known.contains_key(status) {
            known.insert(status.to_owned(), ResponseBuilder::new().description(what).into());
        }
        if let Some(utoipa::openapi::RefOr::T(response)) = known.get_mut(status) {
            let content = ContentBuilder::new().schema(Some(Ref::from_schema_name(Details::name()))).build();
            response.content.insert("application/problem+json".to_owned(), content.into());
        }
    }
}
