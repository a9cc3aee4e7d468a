//! Receipts are the broker's word. Nothing proves that one is true, but some cannot be, and a person is told of those.

use crate::inner::Inner;
use crate::pending::lock;
use claudemesh_crypto::PublicKey;
use claudemesh_proto::model::{DeliveryStage, KeyHex};
use std::collections::{HashSet, VecDeque};
use std::sync::Mutex;
use tokio::sync::Notify;

/// How many members are remembered as looked at, and how many doubts wait.
const REMEMBERED: usize = 8192;

/// A receipt that may be false: the signed list of members decides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Doubt {
    /// The message was sealed to one member, and this is another.
    Stranger {
        target: PublicKey,
        recipient: KeyHex,
        name: String,
    },
    /// A group message reached this member.
    Reached { recipient: KeyHex, name: String },
    /// The story of a message had ended otherwise.
    TakenBack {
        name: String,
        first: DeliveryStage,
        then: DeliveryStage,
    },
}

/// Doubts that are to be looked into.
#[derive(Default)]
pub(crate) struct Doubts {
    state: Mutex<State>,
    ready: Notify,
}

#[derive(Default)]
struct State {
    queue: VecDeque<Doubt>,
    /// Who was looked at, for groups or for a message to another member: each is told of once.
    seen: HashSet<(KeyHex, Option<PublicKey>)>,
}

impl Doubts {
    pub(crate) fn push(&self, doubt: Doubt) {
        let mut state = lock(&self.state);
        let subject = match &doubt {
            Doubt::Reached { recipient, .. } => Some((recipient.clone(), None)),
            Doubt::Stranger { recipient, target, .. } => Some((recipient.clone(), Some(*target))),
            Doubt::TakenBack { .. } => None,
        };
        if let Some(subject) = subject
            && (state.seen.len() >= REMEMBERED || !state.seen.insert(subject))
        {
            return;
        }
        if state.queue.len() < REMEMBERED {
            state.queue.push_back(doubt);
            self.ready.notify_one();
        }
    }

    pub(crate) async fn next(&self) -> Doubt {
        loop {
            let doubt = lock(&self.state).queue.pop_front();
            if let Some(doubt) = doubt {
                return doubt;
            }
            self.ready.notified().await;
        }
    }
}

/// What there is to doubt about a receipt for a message to `target_spec`.
pub(crate) fn doubt(target_spec: &str, recipient: &KeyHex, name: &str, stage: DeliveryStage) -> Option<Doubt> {
    let (recipient, name) = (recipient.clone(), name.to_owned());
    match target_spec.parse::<PublicKey>() {
        Ok(target) if recipient.as_str() != target_spec => Some(Doubt::Stranger {
            target,
            recipient,
            name,
        }),
        Ok(_) => None,
        Err(_) => {
            use DeliveryStage::{Delivered, Read, Surfaced};
            let reached = matches!(stage, Delivered | Surfaced | Read);
            reached.then_some(Doubt::Reached { recipient, name })
        }
    }
}

/// Tells the person if the doubt is right.
pub(crate) async fn judge(inner: &Inner, doubt: Doubt) {
    match doubt {
        // An original client is addressed by its session, and its receipts name the member.
        Doubt::Stranger {
            target,
            recipient,
            name,
        } => {
            if inner.secure.is_listed(&target) == Some(true) {
                inner.warn(format!(
                    "The broker reports that a message of yours reached {name} ({}), but it was sealed for another member \
                     ({}) alone: the receipt is false.",
                    recipient.short(),
                    target.short()
                ));
            }
        }
        Doubt::Reached { recipient, name } => {
            let Ok(key) = recipient.as_str().parse() else {
                return inner.warn(format!(
                    "The broker reports that a group message of yours reached {name}, whose key is none: the receipt is false."
                ));
            };
            if inner.secure.is_unlisted(&key, inner).await {
                inner.warn(format!(
                    "The broker reports that a group message of yours reached {name} ({}), who is not on the signed list of \
                     this mesh's members and cannot read it: they are not admitted yet, or the broker made them up.",
                    recipient.short()
                ));
            }
        }
        Doubt::TakenBack { name, first, then } => inner.warn(format!(
            "The broker reported a message of yours to {name} as {} and now as {}: one of the two is false.",
            first.as_str(),
            then.as_str()
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::key_hex;
    use claudemesh_crypto::SecretKey;

    #[test]
    fn only_what_can_be_judged_is_doubted() {
        let (ana, ben) = (SecretKey::generate().public(), SecretKey::generate().public());
        let (to, other) = (ana.to_string(), key_hex(&ben));
        assert_eq!(doubt(&to, &key_hex(&ana), "ana", DeliveryStage::Read), None);
        assert!(matches!(
            doubt(&to, &other, "ben", DeliveryStage::Accepted),
            Some(Doubt::Stranger { .. })
        ));
        assert_eq!(doubt("@all", &other, "ben", DeliveryStage::Accepted), None);
        assert!(matches!(
            doubt("@all", &other, "ben", DeliveryStage::Delivered),
            Some(Doubt::Reached { .. })
        ));
    }
}
