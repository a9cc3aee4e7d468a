//! Three members, of whom one has the hostile broker to itself.
#![allow(unreachable_pub)]

use crate::kit::{Database, Lab, Seat, eventually};
use crate::proxy::{Victim, Way};
use claudemesh_client::MeshClient;
use claudemesh_client::proto::model::Priority;
use claudemesh_crypto::random_id;
use serde_json::{Value, json};

/// Ana owns the mesh, ben is in it, and the hostile broker has vic to itself.
pub struct Stage {
    /// Runs the broker.
    _lab: Lab,
    pub ana: Seat,
    pub ben: Seat,
    pub vic: Victim,
}

pub async fn stage() -> Stage {
    let lab = Lab::start(Database::default()).await;
    let ana = lab.mesh("Lab", "ana").await;
    let ben = lab.join(&ana, "ben").await;
    let vic = Victim::join(&lab, &ana, "vic").await;
    let stage = Stage {
        _lab: lab,
        ana,
        ben,
        vic,
    };
    stage.settled().await;
    stage
}

impl Stage {
    /// Waits until all three are in the same group log.
    pub async fn settled(&self) {
        let head = |client: &MeshClient| client.secure().head();
        eventually("the same group log", || async {
            let heads = [head(&self.ana), head(&self.ben), head(&self.vic)];
            let members = self.ana.secure().group_members().len();
            (heads[0].is_some() && members == 3 && heads.iter().all(|head| *head == heads[0])).then_some(())
        })
        .await;
    }

    pub async fn ana_sends(&self, target: &str, text: &str) {
        self.ana.send_text(target, text, Priority::Now).await.unwrap();
    }

    pub async fn rotate(&self) {
        self.ana.secure().rotate(self.ana.transport()).await.unwrap();
    }

    /// Nothing stands between vic and the next message, and nothing is wrong with it.
    pub async fn vic_is_fine(&self) {
        let fence = random_id();
        self.ana_sends("vic", &fence).await;
        let message = self.vic.message().await;
        assert_eq!(message.text.as_deref(), Some(fence.as_str()), "{:?}", *message);
        assert!(
            message.authenticated && message.warnings.is_empty(),
            "{:?}",
            message.warnings
        );
    }

    /// The log as it was stays all that vic is shown.
    pub fn freeze(&self) {
        let head = json!(self.vic.secure().wire_head());
        self.vic.proxy.rule(move |way, mut frame| {
            if way == Way::Down && frame["type"] == "group_epoch" {
                return vec![];
            }
            if way == Way::Down && frame["type"] == "group_log_result" {
                frame["entries"] = json!([]);
                frame["head"] = head.clone();
                frame["more"] = json!(false);
            }
            vec![(way, frame)]
        });
    }
}

pub fn is_message(way: Way, frame: &Value) -> bool {
    way == Way::Down && frame["type"] == "push" && frame["subtype"] != "system"
}

pub fn seat_key(seat: &Seat) -> String {
    seat.key().0
}
