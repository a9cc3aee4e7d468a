//! Sockets that are half open, slow, silent, many, or speak another protocol.

use std::net::SocketAddr;
use std::time::Duration;

use serde_json::json;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};
use tokio_tungstenite::tungstenite::Message;

use crate::gateway_kit::{Lab, http};
use crate::watch;

const UPGRADE: &str = "GET /ws HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
    sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n";

/// A socket that has become a WebSocket, without a client library's rules.
pub(crate) async fn raw(addr: SocketAddr, headers: &str) -> (TcpStream, String) {
    let mut stream = TcpStream::connect(addr).await.unwrap();
    stream
        .write_all(format!("{UPGRADE}{headers}\r\n").as_bytes())
        .await
        .unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(
            timeout(Duration::from_secs(30), stream.read_u8())
                .await
                .unwrap()
                .unwrap(),
        );
    }
    (stream, String::from_utf8(head).unwrap())
}

/// A masked frame of a client.
pub(crate) fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![first];
    match payload.len() {
        length @ 0..=125 => bytes.push(0x80 | length as u8),
        length @ 126..=0xffff => {
            bytes.push(0xfe);
            bytes.extend((length as u16).to_be_bytes());
        }
        length => {
            bytes.push(0xff);
            bytes.extend((length as u64).to_be_bytes());
        }
    }
    let mask = [1, 2, 3, 4];
    bytes.extend(mask);
    bytes.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    bytes
}

/// Everything that comes until the broker ends the connection.
pub(crate) async fn to_the_end(mut stream: impl AsyncRead + Unpin) -> String {
    let mut bytes = Vec::new();
    let _read = timeout(Duration::from_secs(10), stream.read_to_end(&mut bytes))
        .await
        .expect("the broker keeps the connection");
    String::from_utf8_lossy(&bytes).into_owned()
}

/// The original kept sockets without hello for ever.
#[tokio::test]
async fn defect_026_silent_half_open_and_dripping_sockets_are_ended() {
    let lab = watch::lab_with(|config| config.hello_timeout = Duration::from_millis(300)).await;
    // Silent before and in the head of a request.
    let mut ends = Vec::new();
    for head in [
        "",
        "G",
        "GET /ws HTTP/1.1\r\nhost: x\r\n",
        "GET /health HTTP/1.1\r\nx-a: ",
    ] {
        let mut stream = TcpStream::connect(lab.addr()).await.unwrap();
        stream.write_all(head.as_bytes()).await.unwrap();
        ends.push(tokio::spawn(to_the_end(stream)));
    }
    // One byte of a header at a time, for ever.
    let (mut reading, mut writing) = TcpStream::connect(lab.addr()).await.unwrap().into_split();
    let dripping = tokio::spawn(async move {
        let _first = writing.write_all(b"GET / HTTP/1.1\r\nx: ").await;
        while writing.write_all(b"a").await.is_ok() {
            sleep(Duration::from_millis(20)).await;
        }
    });
    let mut rest = Vec::new();
    let _read = timeout(Duration::from_secs(5), reading.read_to_end(&mut rest))
        .await
        .expect("a dripping head is ended");
    // Half-closed by the client, and a hello that drips.
    let mut half = TcpStream::connect(lab.addr()).await.unwrap();
    half.write_all(b"GET /health HTTP/1.1\r\n").await.unwrap();
    half.shutdown().await.unwrap();
    ends.push(tokio::spawn(to_the_end(half)));
    let (mut slow, _) = raw(lab.addr(), "").await;
    let hello = frame(0x81, lab.hello_v1(&lab.owner).to_string().as_bytes());
    let slow = tokio::spawn(async move {
        for byte in hello {
            if slow.write_all(&[byte]).await.is_err() {
                break;
            }
            sleep(Duration::from_millis(20)).await;
        }
        to_the_end(slow).await
    });
    for end in ends {
        end.await.unwrap();
    }
    let told = slow.await.unwrap();
    assert!(told.is_empty() || told.contains("hello_timeout"), "{told}");
    dripping.await.unwrap();
    watch::still_serves(&lab).await;
}

/// Connections that never finish their request's head: bounded in number, and an honest client gets in.
#[tokio::test]
async fn defect_026_many_unfinished_requests_do_not_shut_others_out() {
    let lab = watch::lab_with(|config| {
        config.max_unauthenticated = 200;
        config.hello_timeout = Duration::from_millis(500);
    })
    .await;
    let mut flood = Vec::new();
    for _ in 0..1_000 {
        let mut stream = TcpStream::connect(lab.addr()).await.unwrap();
        let _sent = stream.write_all(b"GET /health HTTP/1.1\r\nx-").await;
        flood.push(stream);
    }
    assert_eq!(http(lab.addr(), "GET", "/health", "", b"").await.status, 200);
    drop(flood);
    watch::still_serves(&lab).await;
}

/// More than there is room for: the others are told, and nothing is left when they are gone.
#[tokio::test]
async fn defect_026_thousands_of_sockets_without_hello() {
    let lab = watch::lab_with(|config| {
        config.max_unauthenticated = 300;
        config.hello_timeout = Duration::from_secs(60);
    })
    .await;
    let mut member = lab.connect_v2(&lab.owner).await;
    let before = watch::resident_mib();
    let mut inside = Vec::new();
    let mut refused = 0;
    for _ in 0..2_000 {
        let (stream, head) = raw(lab.addr(), "").await;
        if head.starts_with("HTTP/1.1 101") {
            inside.push(stream);
        } else {
            assert!(head.starts_with("HTTP/1.1 503"), "{head}");
            refused += 1;
        }
    }
    assert_eq!((inside.len(), refused), (300, 1_700));
    // Who is in already does not notice.
    assert_eq!(member.ask(json!({ "type": "list_peers" })).await["type"], "peers_list");
    assert_eq!(http(lab.addr(), "GET", "/health", "", b"").await.status, 200);
    if let Some(before) = before {
        watch::falls_below("self", before + 120, || watch::still_serves(&lab)).await;
    }
    drop(inside);
    for attempt in 0.. {
        let metrics = http(lab.addr(), "GET", "/metrics", "", b"").await.body;
        if metrics.contains("broker_sockets_unauthenticated 0\n") {
            break;
        }
        assert!(attempt < 500, "{metrics}");
        sleep(Duration::from_millis(10)).await;
    }
    watch::still_serves(&lab).await;
}

#[tokio::test]
async fn one_byte_fragments_make_one_frame() {
    let lab = watch::lab().await;
    let (mut stream, _) = raw(lab.addr(), "").await;
    let hello = lab.hello_v1(&lab.owner).to_string();
    let last = hello.len() - 1;
    for (index, byte) in hello.bytes().enumerate() {
        let first = if index == 0 { 0x01 } else { 0x00 } | if index == last { 0x80 } else { 0 };
        stream.write_all(&frame(first, &[byte])).await.unwrap();
    }
    let mut answer = vec![0; 4_096];
    let read = timeout(Duration::from_secs(5), stream.read(&mut answer))
        .await
        .unwrap()
        .unwrap();
    assert!(String::from_utf8_lossy(&answer[..read]).contains("hello_ack"));
    // Without an end: as much as a frame may have, and no more.
    let limit = lab.running.broker.config.max_message_bytes;
    let piece = vec![b' '; 64 * 1024];
    let mut sent = 0;
    let mut first = 0x01;
    while sent < 4 * limit {
        if stream.write_all(&frame(first, &piece)).await.is_err() {
            break;
        }
        first = 0x00;
        sent += piece.len();
    }
    let end = to_the_end(stream).await;
    assert!(end.contains("too_large") || end.is_empty(), "{end}");
    watch::still_serves(&lab).await;
}

#[tokio::test]
async fn frames_that_break_the_protocol_end_their_socket_only() {
    let lab = watch::lab().await;
    let mut member = lab.connect_v2(&lab.owner).await;
    let mut unmasked = frame(0x81, b"{}");
    unmasked[1] &= 0x7f;
    let broken: Vec<Vec<u8>> = vec![
        // Not UTF-8, in text and in binary frames.
        frame(0x81, b"\xff\xfe\xfd"),
        frame(0x82, b"\xff\xfe\xfd"),
        frame(0x82, &[0; 1_000]),
        frame(0x82, lab.hello_v1(&lab.owner).to_string().as_bytes()),
        unmasked,
        // Unknown opcode, reserved bits (compression), a continuation of nothing, an overlong control frame.
        frame(0x83, b"x"),
        frame(0xc1, b"\xaa\x56\x4a\x05"),
        frame(0xf1, b"x"),
        frame(0x80, b"x"),
        frame(0x89, &[b'x'; 126]),
        frame(0x88, b"\x03"),
        frame(0x88, b"\x03\xe8\xff\xff"),
        // A length that nobody has memory for.
        vec![0x81, 0xff, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1, 2, 3, 4],
        vec![0x82, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1, 2, 3, 4],
        b"\x00\x00\x00\x00not a frame at all\r\n\r\n".to_vec(),
        (0..=255).cycle().take(10_000).collect(),
    ];
    for bytes in broken {
        for says_hello in [false, true] {
            let (mut stream, _) = raw(lab.addr(), "").await;
            if says_hello {
                sleep(Duration::from_millis(2)).await;
                let hello = lab.hello_v1(&lab.owner).to_string();
                stream.write_all(&frame(0x81, hello.as_bytes())).await.unwrap();
                let mut answer = vec![0; 4_096];
                let read = stream.read(&mut answer).await.unwrap();
                assert!(String::from_utf8_lossy(&answer[..read]).contains("hello_ack"));
            }
            let _sent = stream.write_all(&bytes).await;
            let _ended = stream.shutdown().await;
            let told = to_the_end(stream).await;
            assert!(!told.contains("panicked") && !told.contains("internal"), "{told}");
        }
    }
    assert_eq!(member.ask(json!({ "type": "get_grants" })).await["type"], "grants");
    watch::still_serves(&lab).await;
}

/// No extension is agreed to, so that nothing can be packed small and unpacked large.
#[tokio::test]
async fn compression_is_not_agreed_to() {
    let lab = watch::lab().await;
    let offers = "sec-websocket-extensions: permessage-deflate; client_max_window_bits, x-webkit-deflate-frame\r\n";
    let (_stream, head) = raw(lab.addr(), offers).await;
    let head = head.to_ascii_lowercase();
    assert!(
        head.starts_with("http/1.1 101") && !head.contains("sec-websocket-extensions"),
        "{head}"
    );
    let packed = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03\x4b\x04\x00\x43\xbe\xb7\xe8\x01\x00\x00\x00";
    let answer = http(lab.addr(), "POST", "/join", "content-encoding: gzip\r\n", packed).await;
    assert_eq!(answer.status, 400, "{}", answer.body);
}

#[tokio::test]
async fn requests_that_are_not_http() {
    let lab = watch::lab().await;
    let long = format!("GET /{} HTTP/1.1\r\nhost: x\r\n\r\n", "a".repeat(200_000));
    let many: String = (0..5_000).map(|index| format!("x-{index}: y\r\n")).collect();
    let many = format!("GET /health HTTP/1.1\r\n{many}\r\n");
    let texts: [&[u8]; 9] = [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"SSH-2.0-OpenSSH_9.0\r\n",
        b"\r\n\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"POST /join HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\nhello",
        b"POST /join HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\ncontent-length: 5\r\n\r\nzzzz\r\n",
        long.as_bytes(),
        many.as_bytes(),
    ];
    for text in texts {
        let mut stream = TcpStream::connect(lab.addr()).await.unwrap();
        let _sent = stream.write_all(text).await;
        let _ended = stream.shutdown().await;
        let answer = to_the_end(stream).await;
        let shown = answer.lines().next().unwrap_or_default();
        assert!(answer.is_empty() || shown.contains(" 4"), "{shown}");
    }
    watch::still_serves(&lab).await;
}

#[tokio::test]
async fn a_client_that_only_pings_and_one_that_floods() {
    let lab = watch::lab().await;
    let mut socket = lab.connect_v2(&lab.owner).await;
    for _ in 0..500 {
        futures_util::SinkExt::send(&mut socket.0, Message::Ping(vec![b'x'; 125].into()))
            .await
            .unwrap();
    }
    assert_eq!(socket.ask(json!({ "type": "get_grants" })).await["type"], "grants");
    // Thousands of requests without reading an answer: the other session is served.
    let bob = lab.join("bob", "member").await;
    let mut flooding = lab.connect_v2(&bob).await;
    for index in 0..3_000 {
        flooding
            .send(&json!({ "type": "get_grants", "_reqId": index.to_string() }))
            .await;
    }
    assert_eq!(socket.ask(json!({ "type": "list_peers" })).await["type"], "peers_list");
    for index in 0..3_000 {
        assert_eq!(flooding.next_of("grants").await["_reqId"], index.to_string());
    }
    watch::nothing_panicked();
}

/// Without the raised limits: a member that asks too often is told when to come again.
#[tokio::test]
async fn defect_013_requests_are_limited() {
    watch::start();
    let lab = Lab::start().await;
    let mut socket = lab.connect_v2(&lab.owner).await;
    let mut limited = None;
    for index in 0..3_000 {
        let frame = match index % 2 {
            0 => json!({ "type": "set_summary", "summary": "x", "_reqId": "r" }),
            _ => json!({ "type": "nonsense", "_reqId": "r" }),
        };
        socket.send(&frame).await;
        let answer = loop {
            let frame = socket.next().await;
            if frame["_reqId"] == "r" {
                break frame;
            }
        };
        if answer["code"] == "rate_limited" {
            limited = Some(answer);
            break;
        }
    }
    let limited = limited.expect("there is a limit");
    assert!(limited["retryAfterMs"].as_u64().unwrap() > 0);
    watch::nothing_panicked();
}
