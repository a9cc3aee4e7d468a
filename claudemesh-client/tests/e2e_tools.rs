//! Every tool by name, several meshes, and waiting mail, on a real broker.
#![allow(clippy::unwrap_used)]

use claudemesh_broker::{Broker, config::Config};
use claudemesh_client::flows::{InviteOptions, create_invite, create_mesh, join};
use claudemesh_client::proto::ErrorCode;
use claudemesh_client::proto::model::{PeerStatus, Priority};
use claudemesh_client::proto::ops::SetStatus;
use claudemesh_client::{MeshClient, Meshes};
use serde_json::{Value, json};
use std::time::Duration;
use tokio::time::timeout;

const LIMIT: Duration = Duration::from_secs(10);

async fn pair(url: &str, mesh: &str) -> (MeshClient, MeshClient) {
    let ana = MeshClient::connect(create_mesh(url, mesh, Some("ana")).await.unwrap().identity)
        .await
        .unwrap();
    let invite = create_invite(&ana, InviteOptions::default()).await.unwrap();
    assert_eq!(invite.warning, None);
    let ben = join(&invite.link, "ben", None)
        .await
        .unwrap()
        .builder()
        .connect()
        .await
        .unwrap();
    (ana, ben)
}

#[tokio::test(flavor = "multi_thread")]
async fn every_tool_answers_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let broker = Broker::start(Config::local(dir.path())).await.unwrap();
    let (ana, ben) = pair(&broker.websocket_url(), "Tools").await;
    let sent = ana
        .call_tool(
            "send_message",
            json!({ "to": ["ben", "BEN"], "message": "hi", "priority": "now" }),
        )
        .await;
    let sent = sent.unwrap();
    assert_eq!(
        sent["results"].as_array().unwrap().len(),
        1,
        "one person, one message: {sent}"
    );
    let id = sent["results"][0]["messageId"].clone();
    let arguments = |tool: &str| match tool {
        "send_message" => json!({ "to": "@all", "message": "hi all" }),
        "message_status" => json!({ "id": id }),
        "set_summary" => json!({ "summary": "testing" }),
        "set_status" => json!({ "status": "idle" }),
        "set_visible" => json!({ "visible": true }),
        "set_profile" => json!({ "title": "tester" }),
        "join_group" | "leave_group" => json!({ "name": "@backend" }),
        "set_state" => json!({ "key": "k", "value": { "a": 1 } }),
        "get_state" => json!({ "key": "k" }),
        "remember" => json!({ "content": "the build is green" }),
        "recall" | "get_context" => json!({ "query": "build" }),
        "share_context" => json!({ "summary": "the build is green", "files_read": ["a.rs"] }),
        "create_task" => json!({ "title": "build" }),
        _ => json!({}),
    };
    for tool in claudemesh_proto::tool::tools() {
        // A tool of a later version needs its own arguments here.
        let output = ana.call_tool(tool.name, arguments(tool.name)).await;
        let required = claudemesh_proto::schema::tools()
            .into_iter()
            .find(|schema| schema.meta.name == tool.name)
            .is_some_and(|schema| schema.params.get("required").is_some());
        match output {
            Ok(_) => {}
            // One of two arguments is needed.
            Err(error) if tool.name == "mesh_skill_deploy" => assert_eq!(error.code(), ErrorCode::InvalidRequest),
            Err(error) if required && arguments(tool.name) == json!({}) => {
                assert_eq!(error.code(), ErrorCode::InvalidRequest, "{}", tool.name);
            }
            Err(error) => panic!("{}: {error}", tool.name),
        }
    }
    let pinged = ana
        .call_tool("ping_mesh", json!({ "priorities": ["now", "next", "low"] }))
        .await
        .unwrap();
    assert!(pinged["legs"][0]["roundTripMs"].as_f64().is_some(), "{pinged}");
    assert!(pinged["legs"][1]["roundTripMs"].as_f64().is_some(), "{pinged}");
    assert!(
        pinged["legs"][2]["note"].as_str().unwrap().contains("check_messages"),
        "{pinged}"
    );
    let error = ana
        .call_tool("send_message", json!({ "to": "carla", "message": "hi" }))
        .await
        .unwrap();
    assert!(
        error["results"][0]["error"]
            .as_str()
            .unwrap()
            .contains("there are: ana, ben"),
        "{error}"
    );
    for client in [ana, ben] {
        client.close().await;
    }
    broker.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn waiting_mail_is_fetched_once_and_marked_read() {
    let dir = tempfile::tempdir().unwrap();
    let broker = Broker::start(Config::local(dir.path())).await.unwrap();
    let (ana, ben) = pair(&broker.websocket_url(), "Mail").await;
    ben.set_status(SetStatus {
        status: PeerStatus::Dnd,
    })
    .await
    .unwrap();
    let low = ana.send_text("ben", "low", Priority::Low).await.unwrap();
    ana.send_text("ben", "next", Priority::Next).await.unwrap();
    ana.send_text("ben", "now", Priority::Now).await.unwrap();
    let now = timeout(LIMIT, ben.recv()).await.unwrap().unwrap();
    assert_eq!(now.text.as_deref(), Some("now"));
    let peeked = ben.pull(&[], true).await.unwrap();
    assert_eq!(peeked.messages.len(), 2);
    let checked = ben.check_messages().await.unwrap().messages;
    let texts: Vec<_> = checked.iter().filter_map(|message| message.text.as_deref()).collect();
    assert_eq!(texts, ["low", "next"]);
    assert!(
        checked
            .iter()
            .all(|message| message.authenticated && message.warnings.is_empty()),
        "{checked:?}"
    );
    assert!(ben.check_messages().await.unwrap().messages.is_empty());
    let mut receipts = ana.receipts(&low);
    let mut last = None;
    while let Some(receipt) = timeout(LIMIT, receipts.next()).await.unwrap() {
        last = Some(receipt.stage.as_str());
    }
    assert_eq!(last, Some("read"));
    for client in [ana, ben] {
        client.close().await;
    }
    broker.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn several_meshes_answer_as_one() {
    let dir = tempfile::tempdir().unwrap();
    let broker = Broker::start(Config::local(dir.path())).await.unwrap();
    let url = broker.websocket_url();
    let (ana, ben) = pair(&url, "Red").await;
    let (ana_blue, ben_blue) = pair(&url, "Blue").await;
    let mut meshes = Meshes::new();
    meshes.add(ana);
    meshes.add(ana_blue);
    let (red, blue) = ("red", "blue");

    let peers = meshes.call_tool("list_peers", Value::Null).await.unwrap();
    assert_eq!(peers["meshes"].as_array().unwrap().len(), 2);
    let peers = meshes
        .call_tool("list_peers", json!({ "mesh_slug": blue }))
        .await
        .unwrap();
    assert_eq!(peers["meshes"][0]["mesh"], blue);
    let summaries = meshes
        .call_tool("set_summary", json!({ "summary": "x" }))
        .await
        .unwrap();
    assert_eq!(summaries["meshes"][red]["summary"], "x");
    let info = meshes.call_tool("mesh_info", json!({})).await.unwrap();
    assert_eq!(info["slug"], red, "the first mesh");
    let info = meshes
        .call_tool("mesh_info", json!({ "mesh_slug": blue }))
        .await
        .unwrap();
    assert_eq!(info["slug"], blue);
    assert!(
        meshes
            .call_tool("mesh_info", json!({ "mesh_slug": "green" }))
            .await
            .is_err()
    );

    let to = json!(["blue:ben", "ben", "@all", "red:*"]);
    let sent = meshes
        .call_tool("send_message", json!({ "to": to, "message": "hi" }))
        .await
        .unwrap();
    let line = |to: &str| {
        sent["results"]
            .as_array()
            .unwrap()
            .iter()
            .find(|line| line["to"] == to)
            .unwrap_or_else(|| panic!("{to}: {sent}"))
    };
    assert_eq!(line("blue:ben")["mesh"], blue);
    assert!(line("ben")["error"].as_str().unwrap().contains("red:ben or blue:ben"));
    assert!(line("@all")["error"].as_str().unwrap().contains("red:@all"));
    assert_eq!(line("red:*")["recipients"], 1);
    assert_eq!(
        timeout(LIMIT, ben_blue.recv()).await.unwrap().unwrap().text.as_deref(),
        Some("hi")
    );
    assert_eq!(
        timeout(LIMIT, ben.recv()).await.unwrap().unwrap().target.as_deref(),
        Some("*")
    );

    // The id is found whichever mesh it is of.
    let status = meshes
        .call_tool("message_status", json!({ "id": line("blue:ben")["messageId"] }))
        .await
        .unwrap();
    assert_eq!(status["recipients"][0]["name"], "ben");
    meshes.close().await;
    ben.close().await;
    ben_blue.close().await;
    broker.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_messages_on_their_way_arrive_once_and_in_order() {
    const COUNT: usize = 500;
    let dir = tempfile::tempdir().unwrap();
    let broker = Broker::start(Config::local(dir.path())).await.unwrap();
    let (ana, ben) = pair(&broker.websocket_url(), "Order").await;
    let to = ana.resolve("ben").await.unwrap();
    let mut sends = Vec::new();
    for index in 0..COUNT {
        sends.push(ana.queue_to(&to, &index.to_string(), Priority::Now).await.unwrap());
    }
    let receive = async {
        for index in 0..COUNT {
            let message = timeout(LIMIT, ben.recv()).await.unwrap().unwrap();
            assert_eq!(message.text.as_deref(), Some(index.to_string().as_str()));
            assert!(message.warnings.is_empty(), "{:?}", message.warnings);
        }
    };
    let settle = async {
        for send in sends {
            timeout(LIMIT, send).await.unwrap().unwrap();
        }
    };
    tokio::join!(receive, settle);
    for client in [ana, ben] {
        client.close().await;
    }
    broker.shutdown().await;
}
