//! A network between a client and its broker that does what a test tells it to.

use std::net::SocketAddr;
use std::sync::Arc;

use claudemesh_client::Identity;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{broadcast, watch};

/// Passes connections on until it is told otherwise.
pub(crate) struct Wire {
    pub(crate) addr: SocketAddr,
    cut: broadcast::Sender<()>,
    blocked: Arc<watch::Sender<bool>>,
}

impl Wire {
    pub(crate) async fn to(broker: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let (cut, _) = broadcast::channel(16);
        let blocked = Arc::new(watch::Sender::new(false));
        let (cuts, block) = (cut.clone(), blocked.clone());
        tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                let (mut cut, block) = (cuts.subscribe(), block.subscribe());
                tokio::spawn(async move {
                    let Ok(far) = TcpStream::connect(broker).await else {
                        return;
                    };
                    let ((mut near_read, mut near_write), (mut far_read, mut far_write)) =
                        (near.into_split(), far.into_split());
                    let both = async {
                        tokio::join!(
                            pass(&mut near_read, &mut far_write, None),
                            pass(&mut far_read, &mut near_write, Some(block))
                        )
                    };
                    tokio::select! {
                        ((), ()) = both => {}
                        _ = cut.recv() => {
                            // Unread bytes and a reset: what was on its way is gone, and nobody is told.
                            let (near, far): (&TcpStream, &TcpStream) = (near_write.as_ref(), far_write.as_ref());
                            let _set = (near.set_zero_linger(), far.set_zero_linger());
                        }
                    }
                });
            }
        });
        Self { addr, cut, blocked }
    }

    /// Resets every connection.
    pub(crate) fn cut(&self) {
        // Nobody connected is fine.
        let _cut = self.cut.send(());
    }

    /// Whether what the broker sends stays unread.
    pub(crate) fn block(&self, blocked: bool) {
        self.blocked.send_replace(blocked);
    }

    /// The same member behind this wire.
    pub(crate) fn through(&self, identity: &Identity) -> Identity {
        Identity {
            broker_url: format!("ws://{}/ws", self.addr),
            ..identity.clone()
        }
    }
}

/// Passes bytes on, and the end of them.
async fn pass(from: &mut OwnedReadHalf, to: &mut OwnedWriteHalf, mut blocked: Option<watch::Receiver<bool>>) {
    let mut buffer = vec![0; 16 * 1024];
    loop {
        if let Some(blocked) = &mut blocked
            && blocked.wait_for(|blocked| !blocked).await.is_err()
        {
            return;
        }
        match from.read(&mut buffer).await {
            Ok(0) | Err(_) => {
                let _told = to.shutdown().await;
                return;
            }
            Ok(count) => {
                if to.write_all(&buffer[..count]).await.is_err() {
                    return;
                }
            }
        }
    }
}
