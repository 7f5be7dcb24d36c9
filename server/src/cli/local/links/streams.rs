//! TCP connections through a proxy: each direction has the weather of its link.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::{mpsc, oneshot, watch},
    time::{Instant, sleep, sleep_until},
};

use super::{End, Shared, Weather, origin};

/// Bytes of a chunk: small enough that a delay is felt evenly.
const CHUNK_BYTES: usize = 32 << 10;

/// Chunks on their way: with [`CHUNK_BYTES`] a megabyte and a half, as much as sockets hold themselves.
const CHUNKS_MAX: usize = 48;

/// Before another try when no connection could be accepted: descriptors are short for a moment.
const ACCEPT_PAUSE: Duration = Duration::from_millis(10);

/// Accepts connections for a node, for ever.
pub(super) async fn accept(
    shared: Arc<Shared>,
    node: usize,
    listener: TcpListener,
    origins: std::sync::mpsc::Sender<origin::Question>,
) {
    loop {
        match listener.accept().await {
            Ok((stream, caller)) => {
                let (sender, origin) = oneshot::channel();
                let shared = Arc::clone(&shared);
                // Should nobody answer any more, the connection ends.
                let _ = origins.send((caller, sender));
                tokio::spawn(async move {
                    if let Ok(from) = origin.await {
                        carry(shared, from, node, stream).await;
                    }
                });
            }
            Err(_) => sleep(ACCEPT_PAUSE).await,
        }
    }
}

async fn carry(shared: Arc<Shared>, from: End, node: usize, caller: TcpStream) {
    let to = End::Node(node);
    let (forth, back) = (shared.weather(from, to), shared.weather(to, from));
    let mut fair = forth.subscribe();
    if fair.wait_for(|weather| !weather.is_cut).await.is_err() {
        return;
    }
    // What can't be set or connected is a connection that breaks.
    let _ = caller.set_zero_linger();
    let Ok(callee) = TcpStream::connect(shared.listen[node]).await else { return };
    let _ = callee.set_zero_linger();
    let _ = (caller.set_nodelay(true), callee.set_nodelay(true));
    let (from_caller, to_caller) = caller.into_split();
    let (from_callee, to_callee) = callee.into_split();
    let both = async {
        let forth = pass(from_caller, to_callee, forth.subscribe());
        let back = pass(from_callee, to_caller, back.subscribe());
        tokio::try_join!(forth, back)
    };
    // However it ends, both sides are closed; with bytes on their way that is a reset.
    tokio::select! {
        _ = both => {}
        () = broken(forth.subscribe()) => {}
        () = broken(back.subscribe()) => {}
    }
}

/// Waits until connections are to break.
async fn broken(mut weather: watch::Receiver<Weather>) {
    let before = weather.borrow_and_update().breaks;
    let _ = weather.wait_for(|weather| weather.breaks != before).await;
}

/// Passes bytes on in one direction until their end.
async fn pass(from: OwnedReadHalf, to: OwnedWriteHalf, weather: watch::Receiver<Weather>) -> io::Result<()> {
    let (sender, receiver) = mpsc::channel(CHUNKS_MAX);
    tokio::try_join!(take(from, sender, weather.clone()), give(to, receiver, weather))?;
    Ok(())
}

async fn take(
    mut from: OwnedReadHalf,
    sender: mpsc::Sender<(Instant, Vec<u8>)>,
    mut weather: watch::Receiver<Weather>,
) -> io::Result<()> {
    /// Counts the chunks of all connections: which one breaks need not be random.
    static CHUNKS: AtomicU32 = AtomicU32::new(0);
    let mut buffer = vec![0; CHUNK_BYTES];
    loop {
        let now = *fair(&mut weather).await?;
        let count = from.read(&mut buffer).await?;
        if count == 0 {
            return Ok(());
        }
        let is_last = now.breaks_one_in > 0 && CHUNKS.fetch_add(1, Ordering::Relaxed).is_multiple_of(now.breaks_one_in);
        if is_last {
            return Err(io::ErrorKind::ConnectionReset.into());
        }
        let due = Instant::now() + weather.borrow().delay;
        if sender.send((due, buffer[..count].to_vec())).await.is_err() {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
    }
}

async fn give(
    mut to: OwnedWriteHalf,
    mut receiver: mpsc::Receiver<(Instant, Vec<u8>)>,
    mut weather: watch::Receiver<Weather>,
) -> io::Result<()> {
    while let Some((due, bytes)) = receiver.recv().await {
        sleep_until(due).await;
        fair(&mut weather).await?;
        to.write_all(&bytes).await?;
    }
    fair(&mut weather).await?;
    to.shutdown().await
}

async fn fair(weather: &mut watch::Receiver<Weather>) -> io::Result<watch::Ref<'_, Weather>> {
    weather.wait_for(|weather| !weather.is_cut).await.map_err(io::Error::other)
}
