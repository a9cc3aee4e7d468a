//! The embedder against a service with the API of one, on a real socket, that answers well and badly.
#![allow(clippy::unwrap_used)]

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse as _, Redirect, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use claudemesh_broker::backends::embedder::{EmbedError, Embedder, HttpEmbedder};
use claudemesh_broker::config::{EmbedderSettings, Secret};
use claudemesh_proto::ErrorCode;
use serde_json::{Value, json};

const KEY: &str = "sk-hunter2";

/// What the service was asked: the header with the key, and the body.
type Asked = Arc<Mutex<Vec<(Option<String>, Value)>>>;

/// How the service answers depends on the text.
async fn answer(State(asked): State<Asked>, headers: HeaderMap, Json(request): Json<Value>) -> Response {
    let key = headers
        .get("authorization")
        .map(|value| value.to_str().unwrap().to_owned());
    asked.lock().unwrap().push((key, request.clone()));
    let embedding = |numbers: Value| Json(json!({ "data": [{ "index": 0, "embedding": numbers }] })).into_response();
    match request["input"].as_str().unwrap() {
        "wrong length" => embedding(json!([1, 2, 3])),
        "no list" => Json(json!({ "data": "none" })).into_response(),
        "two" => Json(json!({ "data": [{ "embedding": [1] }, { "embedding": [1] }] })).into_response(),
        "not json" => "<html>".into_response(),
        "null" => embedding(json!([null, 1])),
        "too long" => (
            StatusCode::BAD_REQUEST,
            format!("maximum context length; your key is {KEY}"),
        )
            .into_response(),
        "bad key" => (StatusCode::UNAUTHORIZED, format!("Incorrect API key provided: {KEY}")).into_response(),
        "broken" => (StatusCode::INTERNAL_SERVER_ERROR, format!("{KEY} made\nme ill")).into_response(),
        "busy" => (StatusCode::TOO_MANY_REQUESTS, [("retry-after", "7")], "slow down").into_response(),
        "busy without end" => StatusCode::TOO_MANY_REQUESTS.into_response(),
        "elsewhere" => Redirect::temporary("/elsewhere").into_response(),
        "huge" => Body::from(vec![b' '; 3 * 1024 * 1024]).into_response(),
        "endless" => {
            let pieces = futures_util::stream::repeat_with(|| Ok::<_, std::io::Error>(vec![b' '; 10_000]));
            Body::from_stream(pieces).into_response()
        }
        "slow" => std::future::pending().await,
        _ => embedding(json!([0.5, -0.25])),
    }
}

async fn service() -> (SocketAddr, Asked) {
    let asked = Asked::default();
    let router = Router::new()
        .route("/v1/embeddings", post(answer))
        .route("/elsewhere", get(|| async { "caught" }).post(|| async { "caught" }))
        .with_state(asked.clone());
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    (address, asked)
}

fn settings(address: SocketAddr, timeout: Duration) -> EmbedderSettings {
    EmbedderSettings {
        api_key: Some(Secret::from(KEY.to_owned())),
        dimensions: 2,
        timeout,
        ..EmbedderSettings::new(&format!("http://{address}/v1"), "small-1").unwrap()
    }
}

#[tokio::test]
async fn texts_become_vectors() {
    let (address, asked) = service().await;
    let embedder = HttpEmbedder::new(settings(address, Duration::from_secs(60))).unwrap();
    assert_eq!((embedder.model(), embedder.dimensions()), ("small-1", 2));
    assert_eq!(embedder.embed("a text").await.unwrap(), [0.5, -0.25]);
    let many = (0..40).map(|number| {
        let embedder = &embedder;
        async move { embedder.embed(&number.to_string()).await.unwrap() }
    });
    assert_eq!(futures_util::future::join_all(many).await.len(), 40);
    let (key, body) = asked.lock().unwrap()[0].clone();
    assert_eq!(key.as_deref(), Some("Bearer sk-hunter2"));
    assert_eq!(
        body,
        json!({ "model": "small-1", "input": "a text", "encoding_format": "float" })
    );
    let open = EmbedderSettings {
        api_key: None,
        ..settings(address, Duration::from_secs(60))
    };
    HttpEmbedder::new(open).unwrap().embed("open").await.unwrap();
    assert_eq!(asked.lock().unwrap().last().unwrap().0, None);
}

#[tokio::test]
async fn what_goes_wrong_is_told_without_the_key() {
    let (address, _) = service().await;
    let embedder = HttpEmbedder::new(settings(address, Duration::from_secs(60))).unwrap();
    assert!(!format!("{embedder:?}").contains(KEY));
    for (text, words) in [
        ("wrong length", "3 dimensions, and EMBEDDINGS_DIMENSIONS is 2"),
        ("no list", "no list of embeddings"),
        ("two", "2 embeddings"),
        ("not json", "no list of embeddings"),
        ("null", "no list of embeddings"),
        ("bad key", "EMBEDDINGS_API_KEY"),
        ("broken", "status 500"),
        ("elsewhere", "status 307"),
        ("huge", "longer than"),
        ("endless", "longer than"),
    ] {
        let error = embedder.embed(text).await.unwrap_err();
        let EmbedError::Unavailable(logged) = &error else {
            panic!("{text}: {error:?}");
        };
        assert!(
            logged.contains(words) && !logged.contains(KEY) && !logged.contains('\n'),
            "{text}: {logged}"
        );
        let frame = error.to_frame();
        assert_eq!((frame.code.clone(), frame.retryable), (ErrorCode::Unavailable, true));
        assert!(!frame.message.contains(words), "details are for the log: {frame}");
    }
    let error = embedder.embed("too long").await.unwrap_err();
    assert_eq!(error, EmbedError::Refused(400));
    assert_eq!(
        (error.to_frame().code, error.to_frame().retryable),
        (ErrorCode::VectorError, false)
    );
    assert!(!error.to_string().contains(KEY));
    for (text, retry_after_ms) in [("busy", 7_000), ("busy without end", 1_000)] {
        let error = embedder.embed(text).await.unwrap_err();
        assert_eq!(error, EmbedError::Busy { retry_after_ms });
        assert_eq!(error.to_frame().retry_after_ms, Some(retry_after_ms));
    }
    assert!(embedder.embed("well again").await.is_ok());
}

#[tokio::test]
async fn a_service_that_is_slow_or_gone_holds_nothing_up() {
    let (address, _) = service().await;
    let embedder = HttpEmbedder::new(settings(address, Duration::from_millis(200))).unwrap();
    // More than may be under way at once.
    let waiting = (0..40).map(|_| embedder.embed("slow"));
    for result in futures_util::future::join_all(waiting).await {
        let error = result.unwrap_err();
        assert_eq!(error, EmbedError::Timeout(Duration::from_millis(200)));
        assert_eq!(error.to_frame().code, ErrorCode::Timeout);
    }
    // The port was free a moment ago.
    let gone = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let embedder = HttpEmbedder::new(settings(gone, Duration::from_secs(60))).unwrap();
    let error = embedder.embed("x").await.unwrap_err();
    assert!(
        matches!(&error, EmbedError::Unavailable(text) if !text.contains("/v1")),
        "{error}"
    );
}
