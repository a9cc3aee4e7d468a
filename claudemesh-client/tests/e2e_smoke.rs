//! Two members on a real broker: a message goes through every stage.

use std::time::Duration;

use claudemesh_broker::{Broker, config::Config};
use claudemesh_client::flows::{InviteOptions, create_invite, create_mesh, join};
use claudemesh_client::proto::model::{DeliveryStage, Priority};
use claudemesh_client::proto::ops::MessageStatus;
use claudemesh_client::MeshClient;
use futures_util::StreamExt as _;

#[tokio::test(flavor = "multi_thread")]
async fn a_message_goes_from_accepted_to_read() {
    let dir = tempfile::tempdir().unwrap();
    let broker = Broker::start(Config::local(dir.path())).await.unwrap();
    let url = broker.websocket_url();

    let created = create_mesh(&url, "Smoke", Some("ana")).await.unwrap();
    let ana = MeshClient::connect(created.identity).await.unwrap();
    let invite = create_invite(&ana, InviteOptions::default()).await.unwrap();
    let joined = join(&invite.link, "ben", None).await.unwrap();
    let mut builder = MeshClient::builder(joined.identity);
    if let Some(secret) = joined.secret {
        builder = builder.invite_secret(secret);
    }
    let ben = builder.connect().await.unwrap();

    let sent = ana.send_text("ben", "hello ben", Priority::Next).await.unwrap();
    let mut receipts = ana.receipts(sent.message_id.clone());
    let message = tokio::time::timeout(Duration::from_secs(10), ben.recv()).await.unwrap().unwrap();
    assert_eq!(message.text.as_deref(), Some("hello ben"));
    assert!(message.authenticated, "{message:?}");
    ben.acknowledge(&message.message_id, claudemesh_client::proto::model::ClientStage::Read, Some("test"));
    let mut stages = Vec::new();
    while let Ok(Some(receipt)) = tokio::time::timeout(Duration::from_secs(10), receipts.next()).await {
        stages.push(receipt.stage);
    }
    assert_eq!(stages.last(), Some(&DeliveryStage::Read), "{stages:?}");
    let status = ana.request(MessageStatus { message_id: sent.message_id }).await.unwrap();
    assert!(status.delivered);

    let sent = ben.send_text("*", "hello everybody", Priority::Now).await.unwrap();
    let message = tokio::time::timeout(Duration::from_secs(10), ana.recv()).await.unwrap().unwrap();
    assert_eq!(message.text.as_deref(), Some("hello everybody"), "{message:?}");
    assert!(message.authenticated);
    assert_eq!(sent.recipients, 1);

    ana.close().await;
    ben.close().await;
    broker.shutdown().await;
}
