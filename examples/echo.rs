//! Answers every message with its own text: `cargo run --bin echo -- <invite link>`
use anyhow::Context as _;
use claudemesh_client::flows::join;
use claudemesh_client::proto::model::Priority;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let link = std::env::args().nth(1).context("usage: echo <invite link>")?;
    let client = join(&link, "echo", None).await?.builder().connect().await?;
    while let Some(message) = client.recv().await {
        message.ack_read();
        let Some(text) = &message.text else { continue };
        client.reply(&message, text, Priority::Next).await?;
    }
    Ok(())
}
