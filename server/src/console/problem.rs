//! What went wrong, as a browser is told.

use axum::{
    Json,
    http::{StatusCode, header::WWW_AUTHENTICATE},
    response::{IntoResponse, Response},
};
use serde_json::json;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use crate::status::Fault;

/// A refusal of `AdminService`, or of the console itself.
#[derive(Debug)]
pub(super) struct Problem(Box<Status>);

impl From<Status> for Problem {
    fn from(status: Status) -> Self {
        Self(Box::new(status))
    }
}

impl From<Fault> for Problem {
    fn from(fault: Fault) -> Self {
        fault.into_status().into()
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let details = self.0.get_error_details();
        let info = details.error_info();
        let error = json!({
            "message": self.0.message(),
            "reason": info.map(|info| &info.reason),
            "field": info.and_then(|info| info.metadata.get("field")),
        });
        let mut response = (http_status(self.0.code()), Json(json!({ "error": error }))).into_response();
        if self.0.code() == Code::Unauthenticated {
            let scheme = const { axum::http::HeaderValue::from_static("Bearer") };
            response.headers_mut().insert(WWW_AUTHENTICATE, scheme);
        }
        response
    }
}

fn http_status(code: Code) -> StatusCode {
    match code {
        Code::InvalidArgument | Code::OutOfRange => StatusCode::BAD_REQUEST,
        Code::Unauthenticated => StatusCode::UNAUTHORIZED,
        Code::PermissionDenied => StatusCode::FORBIDDEN,
        Code::NotFound => StatusCode::NOT_FOUND,
        Code::Aborted => StatusCode::CONFLICT,
        Code::ResourceExhausted => StatusCode::TOO_MANY_REQUESTS,
        Code::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    }
}
