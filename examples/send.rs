//! Sends one encrypted message: `cargo run --bin send -- <invite link> <recipient> <text>`
//!
//! The recipient is a name, a key or its first characters, `@group`, `@all` or `*`. It may be offline: the message waits.
use anyhow::Context as _;
use claudemesh_client::flows::join;
use claudemesh_client::proto::model::Priority;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let mut argument = || arguments.next().context("usage: send <invite link> <recipient> <text>");
    let (link, recipient, text) = (argument()?, argument()?, argument()?);

    // A program that runs more than once stores `joined.identity` and connects with it again.
    let joined = join(&link, "send-example", None).await?;
    // An observer is not listed and takes nobody's mail: right for a program that only sends.
    let client = joined.builder().observer(true).connect().await?;
    match client.send_text(&recipient, &text, Priority::Next).await {
        Ok(sent) => println!("{} is on disk for {} members", sent.message_id, sent.recipients),
        // The error names the peers that exist, or those that the name may mean.
        Err(error) => eprintln!("{error}\n{}", error.code().next_step()),
    }
    client.close().await;
    Ok(())
}
