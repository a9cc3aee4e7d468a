//! Keeps one session's messages in their order when one of them is refused for now: those that were on their way behind
//! it must not be accepted before it. A recipient that got them first would take the earlier one for a replay.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use claudemesh_proto::{ErrorCode, ErrorFrame};

/// How long others wait for the message that was refused. A client that gives it up goes on then.
const PATIENCE: Duration = Duration::from_secs(5);
/// When a client is to try again that sent a message too early, in milliseconds.
const RETRY_MS: u64 = 250;

/// Which message of a session has to come first, if one has.
#[derive(Debug, Default)]
pub struct SendOrder(Mutex<Option<Awaited>>);

#[derive(Debug)]
struct Awaited {
    id: String,
    until: Instant,
}

impl SendOrder {
    /// Runs `submit`, which must queue the message without waiting, unless an earlier one has to come first. No message of
    /// the session is queued, or refused by [`SendOrder::refused`], at the same time. Messages without an id pass.
    ///
    /// # Errors
    /// `unavailable`, and those of `submit`.
    pub fn pass<T>(&self, id: Option<&str>, submit: impl FnOnce() -> Result<T, ErrorFrame>) -> Result<T, ErrorFrame> {
        let mut awaited = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(id) = id else { return submit() };
        if let Some(first) = &*awaited
            && first.id != id
            && first.until > Instant::now()
        {
            let text = format!(
                "message {} was refused and has to be sent again before this one",
                first.id
            );
            return Err(ErrorFrame::new(ErrorCode::Unavailable, text).retry_after(RETRY_MS));
        }
        *awaited = None;
        let submitted = submit();
        if let Err(error) = &submitted
            && keeps_place(error)
        {
            *awaited = Some(Awaited::now(id));
        }
        submitted
    }

    /// The message was refused. If it may come again, later ones wait for it; the first that was refused counts.
    pub fn refused(&self, id: &str, error: &ErrorFrame) {
        if !keeps_place(error) {
            return;
        }
        let mut awaited = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if awaited
            .as_ref()
            .is_none_or(|first| first.id == id || first.until <= Instant::now())
        {
            *awaited = Some(Awaited::now(id));
        }
    }
}

impl Awaited {
    fn now(id: &str) -> Self {
        Self {
            id: id.to_owned(),
            until: Instant::now() + PATIENCE,
        }
    }
}

/// Whether the same message will come again. One with old keys comes as another, and its sender holds back what follows.
fn keeps_place(error: &ErrorFrame) -> bool {
    error.retryable && error.code != ErrorCode::StaleEpoch
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unavailable() -> ErrorFrame {
        ErrorFrame::new(ErrorCode::Unavailable, "not now")
    }

    #[test]
    fn later_messages_wait_for_the_first_that_was_refused() {
        let order = SendOrder::default();
        let send = |id: &str| order.pass(Some(id), || Ok(())).map_err(|error| error.code);
        assert_eq!(send("a"), Ok(()));
        assert_eq!(send("b"), Ok(()));
        order.refused("a", &unavailable());
        order.refused("b", &unavailable());
        assert_eq!(send("c"), Err(ErrorCode::Unavailable));
        assert_eq!(send("b"), Err(ErrorCode::Unavailable));
        for id in ["a", "b", "c"] {
            assert_eq!(send(id), Ok(()), "{id}");
        }
    }

    #[test]
    fn what_is_not_sent_again_holds_up_nobody() {
        let order = SendOrder::default();
        order.refused("a", &ErrorFrame::new(ErrorCode::Refused, "never"));
        order.refused("a", &ErrorFrame::new(ErrorCode::StaleEpoch, "other keys"));
        assert!(order.pass(Some("b"), || Ok(())).is_ok());
        let never = || Err::<(), _>(ErrorFrame::new(ErrorCode::NoSuchPeer, "nobody"));
        order.refused("b", &unavailable());
        assert!(order.pass(Some("b"), never).is_err());
        assert!(order.pass(Some("c"), || Ok(())).is_ok());
    }
}
