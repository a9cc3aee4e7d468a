//! Follows a message until it was read: `cargo run --bin receipts -- <invite link> <recipient> <text>`
use anyhow::Context as _;
use claudemesh_client::flows::join;
use claudemesh_client::proto::model::Priority;
use std::time::Duration;
use tokio::time::timeout;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let mut argument = || {
        arguments
            .next()
            .context("usage: receipts <invite link> <recipient> <text>")
    };
    let (link, recipient, text) = (argument()?, argument()?, argument()?);

    let client = join(&link, "receipts-example", None).await?.builder().connect().await?;
    let sent = client.send_text(&recipient, &text, Priority::Now).await?;
    let mut receipts = client.receipts(&sent);
    // A recipient that is away keeps the stream open: the message waits for it, up to seven days.
    while let Some(receipt) = timeout(Duration::from_secs(60), receipts.next()).await? {
        let how = receipt
            .adapter
            .or(receipt.reason)
            .map_or(String::new(), |how| format!(" ({how})"));
        println!("{}: {}{how}", receipt.name, receipt.stage.as_str());
    }
    client.close().await;
    Ok(())
}
