//! Three peers at work while something is done to them, and what must be true of it in the end.

use std::time::Duration;

use claudemesh_client::MeshClient;
use claudemesh_client::proto::ops::AuditVerify;
use tokio::task::JoinHandle;

use super::cast::{Cast, Received, cast};
use super::load::{Load, sent};

/// Two senders to one peer, one to everybody, one back.
pub(crate) struct Trio {
    pub(crate) owner: MeshClient,
    pub(crate) ben: MeshClient,
    pub(crate) cleo: MeshClient,
    pub(crate) load: Load,
    senders: Vec<JoinHandle<Vec<String>>>,
    /// What ben, cleo and the owner were given, and who notes it.
    received: [(Received, JoinHandle<()>); 3],
}

/// What was acknowledged.
pub(crate) struct Sent {
    pub(crate) messages: usize,
    pub(crate) deliveries: usize,
}

impl Trio {
    /// They start to send, each with such a pause after each message.
    pub(crate) async fn at_work(url: &str, pause: Duration) -> Self {
        let names = ["ben", "cleo"];
        let Cast { owner, others } = cast(url, &names, |builder| builder.outbox_capacity(100_000)).await;
        let Ok([ben, cleo]) = <[MeshClient; 2]>::try_from(others) else {
            panic!("two were asked for")
        };
        let received = [&ben, &cleo, &owner].map(Received::by);
        let load = Load::new(pause);
        let senders = vec![
            load.send(&owner, "ben", "owner to ben"),
            load.send(&cleo, "ben", "cleo to ben"),
            load.send(&owner, "*", "owner to all"),
            load.send(&ben, "owner", "ben to owner"),
        ];
        Self {
            owner,
            ben,
            cleo,
            load,
            senders,
            received,
        }
    }

    pub(crate) fn clients(&self) -> [&MeshClient; 3] {
        [&self.owner, &self.ben, &self.cleo]
    }

    /// They stop. Everything that was acknowledged came, once and in order, and is on record.
    pub(crate) async fn must_have_everything(self) -> Sent {
        self.load.stop();
        let sent = sent(self.senders).await;
        let [one, two, to_all, back] = sent.as_slice() else {
            panic!()
        };
        let for_ben = [one.as_slice(), two, to_all].concat();
        let [(to_ben, _ben), (to_cleo, _cleo), (to_owner, _owner)] = &self.received;
        to_ben.wait_for(for_ben.len()).await;
        to_cleo.wait_for(to_all.len()).await;
        to_owner.wait_for(back.len()).await;
        to_ben.must_be(&for_ben, "ben");
        to_cleo.must_be(to_all, "cleo");
        to_owner.must_be(back, "owner");
        let verified = self.owner.request(AuditVerify {}).await.unwrap();
        assert!(verified.valid && verified.broken_at.is_none(), "{verified:?}");
        for client in [&self.owner, &self.ben, &self.cleo] {
            client.close().await;
        }
        let messages = sent.iter().map(Vec::len).sum();
        Sent {
            messages,
            deliveries: messages + to_all.len(),
        }
    }
}
