//! How servers are asked whether they are ready.

use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// Says something on a new connection, and reads so many bytes of the answer. Bounded by `patience` for each step.
///
/// # Errors
/// If nobody listens, or the answer is shorter or late.
pub(super) fn ask(address: SocketAddr, question: &[u8], length: usize, patience: Duration) -> io::Result<Vec<u8>> {
    let mut connection = TcpStream::connect_timeout(&address, patience)?;
    connection.set_read_timeout(Some(patience))?;
    connection.set_write_timeout(Some(patience))?;
    connection.write_all(question)?;
    let mut answer = vec![0; length];
    connection.read_exact(&mut answer)?;
    Ok(answer)
}
