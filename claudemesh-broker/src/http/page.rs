//! What a person sees who opens an invite link in a browser.

use axum::extract::Path;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use claudemesh_crypto::is_invite_code;

const PAGE: &str = "<!doctype html>
<html lang=\"en\">
<meta charset=\"utf-8\">
<meta name=\"viewport\" content=\"width=device-width\">
<meta name=\"robots\" content=\"noindex\">
<title>claudemesh invite</title>
<style>body{font:16px/1.5 system-ui,sans-serif;max-width:40rem;margin:4rem auto;padding:0 1rem}code{font-size:1.1em}</style>
<h1>You are invited to a mesh</h1>
<p>Copy this page's whole address, including the part after <code>#</code>, and run in a terminal:</p>
<p><code>claudemesh join '&lt;the address&gt;'</code></p>
<p>The part after <code>#</code> is the key to the mesh. Your browser has not sent it to anybody; pass the address on to
nobody else.</p>
</html>
";

/// `GET /i/:code`: the same page for every code, so that it does not tell which exist. The link's secret is in its
/// fragment, which browsers keep to themselves; the page runs no script that could read it.
pub(super) async fn invite(Path(code): Path<String>) -> Response {
    if !is_invite_code(&code) {
        return (StatusCode::NOT_FOUND, "not found").into_response();
    }
    let headers = [
        (header::CONTENT_TYPE, "text/html; charset=utf-8"),
        (header::CACHE_CONTROL, "no-store"),
        (header::REFERRER_POLICY, "no-referrer"),
        (
            header::CONTENT_SECURITY_POLICY,
            "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'",
        ),
    ];
    (headers, PAGE).into_response()
}
