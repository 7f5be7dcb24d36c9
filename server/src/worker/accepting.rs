//! Accepting connections and keeping each until it ends. A connection is a task of its own: whatever its caller sends, and
//! whatever bug that meets, ends this connection and no other.

use std::{io, net::SocketAddr, rc::Rc, time::Duration};

use tokio::net::{TcpListener, TcpStream};
use wire::{Limits, Reason};

use super::Driver;
use crate::{node::PAUSE_BYTES, service::Introduction};

/// How long to pause when the system refuses to accept: out of file descriptors, most likely, and busy asking helps nobody.
const PAUSE_AFTER_ERROR: Duration = Duration::from_millis(50);

/// Accepts connections, for ever.
pub(super) async fn accept(driver: Rc<Driver>, listener: TcpListener) {
    loop {
        match listener.accept().await {
            Ok((stream, address)) => {
                driver.counters.connections_accepted.one();
                match Place::take(&driver) {
                    Some(place) => drop(tokio::task::spawn_local(keep(place, stream, address))),
                    // Closed at once: cheaper for both than a refusal that has to be encoded and read.
                    None => driver.counters.connections_refused.one(),
                }
            }
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(PAUSE_AFTER_ERROR).await;
            }
        }
    }
}

/// A connection's place among those that may be open.
struct Place(Rc<Driver>);

impl Place {
    fn take(driver: &Rc<Driver>) -> Option<Self> {
        driver.node.take_place().then(|| Self(Rc::clone(driver)))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.node.leave_place();
    }
}

async fn keep(place: Place, stream: TcpStream, address: SocketAddr) {
    let driver = &place.0;
    match serve(driver, stream).await {
        Ok(Reason::Closed | Reason::PeerClosed) => tracing::trace!(%address, "connection ended"),
        Ok(Reason::Panicked { detail }) => {
            driver.counters.panics.one();
            tracing::error!(%address, detail, "a connection met a bug and was ended; please report this");
        }
        Ok(reason) => {
            driver.counters.connections_failed.one();
            tracing::debug!(%address, %reason, "connection ended");
        }
        Err(error) => {
            driver.counters.connections_failed.one();
            tracing::debug!(%address, %error, "connection ended");
        }
    }
}

async fn serve(driver: &Rc<Driver>, stream: TcpStream) -> io::Result<Reason> {
    wire::tune(&stream)?;
    let node = &driver.node;
    let limits = node.fit_records(Limits::server(node.config.value_bytes_max as usize));
    let limits = Limits { outgoing_pause_bytes: PAUSE_BYTES, ..limits };
    let introduction = Introduction::new(Rc::clone(driver));
    let client: schema::node_capnp::node::Client = capnp_rpc::new_client_from_rc(Rc::clone(&introduction));
    let connection = wire::serve(stream, limits, node.budgets.strangers.clone(), client.client);
    introduction.belongs_to(connection.clone());
    drop(introduction);
    Ok(connection.closed().await)
}
