//! An answer that can be kept and given again: status, headers, body.

use axum::{
    body::Body,
    http::{HeaderName, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::error::ApiError;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    status: u16,
    headers: Vec<(String, String)>,
    /// JSON text; `None` is no body at all.
    body: Option<String>,
}

impl Answer {
    pub fn json(status: StatusCode, body: &impl Serialize) -> Result<Self, ApiError> {
        let text = serde_json::to_string(body).map_err(ApiError::internal)?;
        Ok(Self { status: status.as_u16(), headers: Vec::new(), body: Some(text) })
    }

    pub fn empty(status: StatusCode) -> Self {
        Self { status: status.as_u16(), headers: Vec::new(), body: None }
    }

    pub fn with(mut self, name: &HeaderName, value: impl Into<String>) -> Self {
        self.headers.push((name.as_str().to_owned(), value.into()));
        self
    }

    /// The same, but with another status.
    pub fn status(mut self, status: StatusCode) -> Self {
        self.status = status.as_u16();
        self
    }

    /// The same, but for these fields of its body.
    pub fn without(mut self, fields: &[&str]) -> Result<Self, ApiError> {
        if let Some(text) = &self.body {
            let mut body: Value = serde_json::from_str(text).map_err(ApiError::internal)?;
            if let Some(object) = body.as_object_mut()
                && fields.iter().any(|field| object.contains_key(*field))
            {
                object.retain(|name, _| !fields.contains(&name.as_str()));
                self.body = Some(body.to_string());
            }
        }
        Ok(self)
    }

    fn build(self) -> Result<Response, ApiError> {
        let mut response = StatusCode::from_u16(self.status).map_err(ApiError::internal)?.into_response();
        let headers = response.headers_mut();
        for (name, value) in self.headers {
            let name = HeaderName::try_from(name).map_err(ApiError::internal)?;
            headers.insert(name, HeaderValue::try_from(value).map_err(ApiError::internal)?);
        }
        if let Some(text) = self.body {
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
            *response.body_mut() = Body::from(text);
        }
        Ok(response)
    }
}

impl IntoResponse for Answer {
    fn into_response(self) -> Response {
        self.build().unwrap_or_else(IntoResponse::into_response)
    }
}
