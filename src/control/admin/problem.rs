//! Errors as problem details (RFC 9457).

use crate::control::provisioning::Refused;
use crate::control::store::StoreError;
use crate::update::{configuration, restore};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use std::io::{self, ErrorKind};
use utoipa::ToSchema;

/// An error that a client is told.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Problem {
    status: StatusCode,
    detail: String,
}

/// What went wrong (RFC 9457 3.1); no `type` means `about:blank`, whose title is that of the status.
#[derive(Serialize, ToSchema)]
#[schema(as = Problem)]
pub(super) struct Details<'a> {
    title: &'a str,
    status: u16,
    /// A sentence for people
    detail: &'a str,
}

impl Problem {
    fn new(status: StatusCode, detail: &str) -> Self {
        Self { status, detail: detail.to_owned() }
    }

    /// 400: the request makes no sense.
    pub(super) fn bad_request(detail: &str) -> Self {
        Self::new(StatusCode::BAD_REQUEST, detail)
    }

    /// 401: no token, or one that is not known.
    pub(super) fn unauthorized() -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "a bearer token that this server knows is needed")
    }

    /// 403: a token without the scope.
    pub(super) fn forbidden(detail: &str) -> Self {
        Self::new(StatusCode::FORBIDDEN, detail)
    }

    /// 404.
    pub(super) fn not_found(detail: &str) -> Self {
        Self::new(StatusCode::NOT_FOUND, detail)
    }

    /// 405.
    pub(super) fn method() -> Self {
        Self::new(StatusCode::METHOD_NOT_ALLOWED, "this path does not take the method")
    }

    /// 409: not in the state that the message is in.
    pub(super) fn conflict(detail: &str) -> Self {
        Self::new(StatusCode::CONFLICT, detail)
    }

    /// 428: what was seen is to be named.
    pub(super) fn unconditional(detail: &str) -> Self {
        Self::new(StatusCode::PRECONDITION_REQUIRED, detail)
    }

    /// 413.
    pub(super) fn too_large() -> Self {
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "the body is too large")
    }

    /// 415.
    pub(super) fn media_type(detail: &str) -> Self {
        Self::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, detail)
    }

    /// 422: it can be read, and cannot be.
    pub(super) fn unprocessable(detail: &str) -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, detail)
    }

    /// 500: our fault.
    pub(super) fn internal() -> Self {
        Self::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "the server failed over this request; its log tells more",
        )
    }

    /// What the framework says by its status alone.
    pub(super) fn of_framework(status: StatusCode) -> Self {
        Self::new(status, "the request cannot be read as this path wants it")
    }

    /// 507: the disk is full.
    pub(super) fn no_room(detail: &str) -> Self {
        Self::new(StatusCode::INSUFFICIENT_STORAGE, detail)
    }

    /// What could not be written into a file.
    pub(super) fn unwritten(error: &io::Error, detail: &str) -> Self {
        match error.kind() {
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded => Self::no_room(detail),
            _ => Self::unavailable(detail),
        }
    }

    /// What the database could not do.
    pub(super) fn of_store(error: &StoreError, detail: &str) -> Self {
        match error {
            StoreError::Full => Self::no_room(detail),
            _ => Self::unavailable(detail),
        }
    }

    /// 503: later perhaps.
    pub(super) fn unavailable(detail: &str) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, detail)
    }
}

impl From<Refused> for Problem {
    fn from(refused: Refused) -> Self {
        let detail = refused.to_string();
        let status = match refused {
            Refused::Unknown => StatusCode::NOT_FOUND,
            Refused::Changed => StatusCode::PRECONDITION_FAILED,
            Refused::Invalid(_) => StatusCode::UNPROCESSABLE_ENTITY,
            Refused::TooManyRecipients => StatusCode::PAYLOAD_TOO_LARGE,
            Refused::Pinned
            | Refused::Exists
            | Refused::TooMany
            | Refused::NoRecipients
            | Refused::HasMail(_) => StatusCode::CONFLICT,
            Refused::Store(StoreError::Full) => StatusCode::INSUFFICIENT_STORAGE,
            Refused::Store(_) | Refused::Ending => StatusCode::SERVICE_UNAVAILABLE,
        };
        Self::new(status, &detail)
    }
}

impl From<&configuration::Refused> for Problem {
    fn from(refused: &configuration::Refused) -> Self {
        let status = match refused {
            configuration::Refused::Changed(_) => StatusCode::PRECONDITION_FAILED,
            configuration::Refused::Invalid(_) => StatusCode::UNPROCESSABLE_ENTITY,
            configuration::Refused::State(_) => StatusCode::CONFLICT,
            configuration::Refused::Unknown(_) => StatusCode::NOT_FOUND,
            configuration::Refused::Unwritten(_) => StatusCode::INSUFFICIENT_STORAGE,
        };
        Self::new(status, &refused.to_string())
    }
}

impl From<&restore::Refused> for Problem {
    fn from(refused: &restore::Refused) -> Self {
        let detail = refused.to_string();
        match refused {
            restore::Refused::Invalid(_) => Self::unprocessable(&detail),
            restore::Refused::NoRoom(_) => Self::no_room(&detail),
            restore::Refused::State(_) => Self::conflict(&detail),
        }
    }
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        Self::of_store(&error, &error.to_string())
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let Self { status, detail } = &self;
        let title = status.canonical_reason().unwrap_or("Error");
        let details = Details { title, status: status.as_u16(), detail };
        let mut response = (*status, axum::Json(details)).into_response();
        let problem = HeaderValue::from_static("application/problem+json");
        response.headers_mut().insert(header::CONTENT_TYPE, problem);
        if *status == StatusCode::UNAUTHORIZED {
            // RFC 6750 3.
            let challenge = HeaderValue::from_static("Bearer realm=\"stratamx\"");
            response.headers_mut().insert(header::WWW_AUTHENTICATE, challenge);
        }
        response
    }
}
