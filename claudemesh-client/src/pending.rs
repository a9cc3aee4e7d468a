//! Requests that wait for their reply. A reply is matched by `_reqId` only, never by its type or order.

use crate::ClientError;
use claudemesh_crypto::random_bytes;
use serde_json::Value;
use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use tokio::sync::oneshot;

type Reply = Result<Value, ClientError>;

/// Locks, also after a panic of another holder: no table here is left half changed.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// 16 random hexadecimal characters.
pub(crate) fn new_request_id() -> String {
    hex::encode(random_bytes::<8>())
}

struct Waiter {
    reply_type: &'static str,
    reply: oneshot::Sender<Reply>,
}

/// All requests of one client that have no reply yet.
#[derive(Default)]
pub(crate) struct PendingTable {
    waiters: Mutex<HashMap<String, Waiter>>,
}

impl PendingTable {
    /// Adds a request. Dropping the result forgets it.
    pub(crate) fn register(&self, reply_type: &'static str) -> Pending<'_> {
        let id = new_request_id();
        let (reply, receiver) = oneshot::channel();
        lock(&self.waiters).insert(id.clone(), Waiter { reply_type, reply });
        Pending {
            table: self,
            id,
            receiver,
        }
    }

    /// Hands a reply to its request; `false` if nobody waits for it any more.
    pub(crate) fn resolve(&self, id: &str, kind: &str, body: Value) -> bool {
        let Some(waiter) = lock(&self.waiters).remove(id) else {
            return false;
        };
        let reply = if kind == waiter.reply_type {
            Ok(body)
        } else {
            Err(ClientError::Protocol {
                message: format!("{kind} in reply to a request for {}", waiter.reply_type),
            })
        };
        waiter.reply.send(reply).is_ok()
    }

    /// Hands an error to its request; `false` if nobody waits for it any more.
    pub(crate) fn fail(&self, id: &str, error: ClientError) -> bool {
        let Some(waiter) = lock(&self.waiters).remove(id) else {
            return false;
        };
        waiter.reply.send(Err(error)).is_ok()
    }

    /// Ends every request: the connection that carried it is gone.
    pub(crate) fn fail_all(&self, reason: &str) {
        for (_, waiter) in lock(&self.waiters).drain() {
            let error = ClientError::NotConnected {
                reason: reason.to_owned(),
                sent: true,
            };
            let _ = waiter.reply.send(Err(error));
        }
    }

    #[cfg(test)]
    fn len(&self) -> usize {
        lock(&self.waiters).len()
    }
}

/// One request that waits for its reply.
pub(crate) struct Pending<'a> {
    table: &'a PendingTable,
    id: String,
    receiver: oneshot::Receiver<Reply>,
}

impl Pending<'_> {
    pub(crate) fn id(&self) -> &str {
        &self.id
    }

    pub(crate) async fn reply(&mut self) -> Reply {
        (&mut self.receiver).await.unwrap_or(Err(ClientError::Closed))
    }
}

impl Drop for Pending<'_> {
    fn drop(&mut self) {
        lock(&self.table.waiters).remove(&self.id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[tokio::test]
    async fn replies_go_to_their_own_request_whatever_the_order() {
        let table = PendingTable::default();
        let (mut first, mut second) = (table.register("state_result"), table.register("state_result"));
        assert!(table.resolve(second.id(), "state_result", json!(2)));
        assert!(table.resolve(first.id(), "state_result", json!(1)));
        assert_eq!(first.reply().await, Ok(json!(1)));
        assert_eq!(second.reply().await, Ok(json!(2)));
        assert!(!table.resolve("0000000000000000", "state_result", json!(3)));
    }

    #[tokio::test]
    async fn a_reply_of_another_type_is_an_error_and_dropping_forgets() {
        let table = PendingTable::default();
        let mut request = table.register("state_result");
        assert!(table.resolve(request.id(), "peers_list", json!({})));
        assert!(matches!(request.reply().await, Err(ClientError::Protocol { .. })));
        drop(table.register("ack"));
        drop(request);
        assert_eq!(table.len(), 0);
    }
}
