//! The edge for requests without a connection, one file per family of endpoints.

pub(crate) mod body;
mod claim;
mod common;
pub mod error;
mod files;
mod health;
mod hook;
mod invites;
mod join;
mod members;
mod meshes;
mod page;
mod settings;
pub(crate) mod transfer;

use std::net::IpAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{delete, get, patch, post};

use crate::config::Config;
use crate::gateway::{Ends, Gateway, upgrade};

/// Every endpoint.
pub fn router(gateway: Arc<Gateway>) -> Router {
    Router::new()
        .route("/ws", get(upgrade))
        .route("/health", get(health::ready))
        .route("/health/live", get(health::live))
        .route("/health/ready", get(health::ready))
        .route("/metrics", get(health::metrics))
        .route("/hook/set-status", post(hook::set_status))
        .route("/join", post(join::join))
        .route("/invites/{code}/claim", post(claim::claim))
        .route("/api/public/invites/{code}/claim", post(claim::claim))
        .route("/api/public/invite-code/{code}", get(claim::invite_code))
        .route("/i/{code}", get(page::invite))
        .route("/cli/mesh/create", post(meshes::create))
        .route("/mesh/{mesh}", delete(meshes::archive))
        .route("/mesh/{mesh}/invites", post(invites::create).get(invites::list))
        .route("/mesh/{mesh}/invites/{invite}", delete(invites::revoke))
        .route("/mesh/{mesh}/members", get(members::list))
        .route(
            "/mesh/{mesh}/member/{member}",
            patch(members::edit).delete(members::remove),
        )
        .route("/upload", post(files::upload))
        .route("/download/{file}", get(files::download))
        .route("/mesh/{mesh}/settings", patch(settings::edit))
        .fallback(not_found)
        .method_not_allowed_fallback(not_found)
        .layer(middleware::from_fn_with_state(gateway.clone(), around))
        .with_state(gateway)
}

async fn not_found() -> Response {
    // The original's answer has no content type either.
    let mut response = (StatusCode::NOT_FOUND, "not found").into_response();
    response.headers_mut().remove(header::CONTENT_TYPE);
    response
}

/// What all requests have in common: `OPTIONS`, headers for browsers, counting. Paths are not logged: some are secrets.
async fn around(State(gateway): State<Arc<Gateway>>, request: Request, next: Next) -> Response {
    let route = request.extensions().get::<MatchedPath>().cloned();
    let mut response = match *request.method() {
        Method::OPTIONS => StatusCode::NO_CONTENT.into_response(),
        // Nothing has such a name, and not every store can be asked for one.
        _ if request.uri().path().contains("%00") => not_found().await,
        _ => next.run(request).await,
    };
    let headers = response.headers_mut();
    // Any page may ask: requests are signed, and nothing is granted for a cookie.
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
    headers.insert(
        header::ACCESS_CONTROL_ALLOW_METHODS,
        HeaderValue::from_static("GET, POST, PATCH, DELETE, OPTIONS"),
    );
    headers.insert(
        header::ACCESS_CONTROL_ALLOW_HEADERS,
        HeaderValue::from_static("Authorization, Content-Type, Range, X-Content-SHA256"),
    );
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    let endpoint = route.as_ref().map_or("other", MatchedPath::as_str);
    gateway
        .broker
        .metrics
        .http_request(endpoint, response.status().as_u16());
    response
}

/// The client's address: that of the socket, or what the configured number of proxies say.
pub(crate) fn client_address(config: &Config, ends: Ends, headers: &HeaderMap) -> IpAddr {
    let socket = ends.remote.ip().to_canonical();
    if config.trusted_proxies == 0 {
        return socket;
    }
    let entries: Vec<&str> = headers
        .get_all("x-forwarded-for")
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(str::trim)
        .collect();
    // Each proxy adds who called it at the end. What is further left is the client's own claim.
    let entry = entries
        .len()
        .checked_sub(config.trusted_proxies)
        .map(|index| entries[index]);
    entry
        .and_then(|entry| entry.parse::<IpAddr>().ok())
        .map_or(socket, |address| address.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forwarded_addresses_are_believed_as_far_as_configured() {
        let ends = Ends {
            remote: "10.0.0.1:5".parse().unwrap(),
            local: "10.0.0.2:80".parse().unwrap(),
        };
        let mut headers = HeaderMap::new();
        headers.insert("x-forwarded-for", HeaderValue::from_static("6.6.6.6, 192.0.2.7"));
        let mut config = Config::local(".");
        assert_eq!(client_address(&config, ends, &headers).to_string(), "10.0.0.1");
        config.trusted_proxies = 1;
        assert_eq!(client_address(&config, ends, &headers).to_string(), "192.0.2.7");
        config.trusted_proxies = 3;
        assert_eq!(client_address(&config, ends, &headers).to_string(), "10.0.0.1");
    }
}
