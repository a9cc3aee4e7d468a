//! A mesh of an owner and others, and what receivers were given.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use claudemesh_client::flows::{InviteOptions, create_invite, create_mesh, join};
use claudemesh_client::{MeshClient, MeshClientBuilder};
use futures_util::{StreamExt as _, stream};
use tokio::task::JoinHandle;

use super::PATIENCE;

/// When nothing has come for so long, nothing more comes: twice the longest wait of a client or a lease.
const QUIET: Duration = Duration::from_secs(60);

/// They all stay connected by themselves.
pub(crate) struct Cast {
    pub(crate) owner: MeshClient,
    pub(crate) others: Vec<MeshClient>,
}

/// Creates a mesh; `change` is what the others' connections have of their own.
pub(crate) async fn cast<S: AsRef<str>>(
    url: &str,
    names: &[S],
    change: impl Fn(MeshClientBuilder) -> MeshClientBuilder,
) -> Cast {
    let created = create_mesh(url, "Faults", Some("owner")).await.unwrap();
    let owner = MeshClient::builder(created.identity)
        .outbox_capacity(100_000)
        .connect()
        .await
        .unwrap();
    let options = InviteOptions {
        max_uses: u32::try_from(names.len()).unwrap().max(1),
        ..InviteOptions::default()
    };
    let invite = create_invite(&owner, options).await.unwrap();
    let joined = names.iter().map(|name| {
        let (link, change) = (&invite.link, &change);
        async move {
            let joined = join(link, name.as_ref(), None).await.unwrap();
            change(joined.builder().connect_timeout(PATIENCE))
                .connect()
                .await
                .unwrap()
        }
    });
    let others = stream::iter(joined).buffered(8).collect().await;
    Cast { owner, others }
}

/// Waits until all are connected.
pub(crate) async fn all_open(clients: &[&MeshClient]) {
    for client in clients {
        client.wait_open(PATIENCE).await.unwrap();
    }
}

/// What a receiving program was given.
#[derive(Clone, Default)]
pub(crate) struct Received(Arc<Mutex<Vec<String>>>);

impl Received {
    /// Takes what comes until the client is closed.
    pub(crate) fn by(client: &MeshClient) -> (Self, JoinHandle<()>) {
        let (all, client) = (Self::default(), client.clone());
        let kept = all.clone();
        let task = tokio::spawn(async move {
            while let Some(message) = client.recv().await {
                assert!(message.text.is_some(), "{:?}", message.warnings);
                kept.0.lock().unwrap().extend(message.text.clone());
            }
        });
        (all, task)
    }

    pub(crate) fn len(&self) -> usize {
        self.0.lock().unwrap().len()
    }

    /// Waits for so many, as long as some still come.
    pub(crate) async fn reaches(&self, count: usize) {
        let (mut had, mut since) = (self.len(), std::time::Instant::now());
        while had < count && since.elapsed() < QUIET {
            tokio::time::sleep(Duration::from_millis(20)).await;
            if self.len() > had {
                (had, since) = (self.len(), std::time::Instant::now());
            }
        }
    }

    /// Waits for so many, and a moment longer: what would come twice comes then.
    pub(crate) async fn wait_for(&self, count: usize) {
        self.reaches(count).await;
        tokio::time::sleep(Duration::from_millis(300)).await;
    }

    /// Everything that was sent arrived, once, and each sender's messages in the order in which it sent them.
    pub(crate) fn must_be(&self, sent: &[String], who: &str) {
        let all = self.0.lock().unwrap().clone();
        let mut counts: HashMap<&str, usize> = HashMap::new();
        for text in &all {
            *counts.entry(text).or_default() += 1;
        }
        let lost: Vec<_> = sent.iter().filter(|text| !counts.contains_key(text.as_str())).collect();
        assert!(
            lost.is_empty(),
            "{who} never got {} of {}: {lost:?}",
            lost.len(),
            sent.len()
        );
        let twice: Vec<_> = counts.iter().filter(|(_, count)| **count > 1).collect();
        assert!(twice.is_empty(), "{who} got {twice:?} more than once");
        assert_eq!(all.len(), sent.len(), "{who} got what nobody sent");
        let mut last: HashMap<&str, usize> = HashMap::new();
        for text in &all {
            let (lane, number) = text.rsplit_once(' ').unwrap();
            let number: usize = number.parse().unwrap();
            if let Some(before) = last.insert(lane, number) {
                assert!(before < number, "{who}: `{lane}` {number} came after {before}");
            }
        }
    }
}
