//! Row "hostile": a thousand connections that announce and don't send, that drip, that ask for much and never read, and that
//! call without end, against one node. Its memory must stay, and honest clients must be served as before.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use dynamo::operation::{Action, Address, Consistency, Operation};
use quorate::Client;
use quorate_fuzz::seeds::{call, introduction};
use quorate_tests::cluster::Cluster;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::{sleep, timeout},
};

use super::{Settings, progress};
use crate::figures::Finding;

/// How many connections attack at once (design: proof, "Tier 2").
const ATTACKERS: usize = 1000;

/// What memory may rise by.
const RISE_BYTES_MAX: u64 = 64 << 20;

/// What the honest clients' 99th percentile may become, against that without attackers: the goal, and what fails the row. Attackers
/// and node share two cores here, so a part of it is theirs alone.
const RATIO_GOAL: f64 = 1.5;
const RATIO_MAX: f64 = 6.0;

/// On a machine that is busy with other things the ratio says little; then this much is still within a client's deadline.
const P99_MAX: Duration = Duration::from_secs(1);

/// How long honest clients are measured, with and without attackers.
const MEASURED: Duration = Duration::from_secs(4);

/// Honest operations under way at a time, and the pause of each client between two: so few that they don't measure each other.
const HONEST: usize = 8;
const HONEST_PAUSE: Duration = Duration::from_millis(4);

/// Before an attacker that was cut off comes again, and before one that calls without end goes on: faster, and two cores are taken by the
/// attackers' own work, which says nothing about the node.
const RECONNECT_PAUSE: Duration = Duration::from_millis(300);
const CALL_PAUSE: Duration = Duration::from_millis(400);

/// Between two questions for a large value.
const QUESTION_PAUSE: Duration = Duration::from_millis(400);

/// Calls that one attacker makes in a row before it pauses.
const CALLS_IN_A_ROW: u32 = 8;

/// The key whose large value those ask for who don't read.
const LARGE_KEY: &str = "large";
const LARGE_BYTES: usize = 64 << 10;

/// Lets strangers attack a node.
pub fn hostile(settings: &Settings) -> Finding {
    settings.run(3, async {
        let cluster = Cluster::start(1);
        let address = cluster.address(0);
        let client = Client::connect(&cluster.endpoints()).await.expect("the node serves");
        client.put(LARGE_KEY, vec![7; LARGE_BYTES]).await.expect("the node stores");
        let (_, before) = honest(&client).await;
        let idle = cluster.resident_bytes(0);
        progress("hostile", &format!("honest p99 {before:?}, {} MiB resident; now {ATTACKERS} attackers", idle >> 20));
        let counts = Arc::new([const { AtomicU64::new(0) }; 2]);
        let attackers: Vec<_> =
            (0..ATTACKERS).map(|number| tokio::spawn(attack(number, address, Arc::clone(&counts)))).collect();
        sleep(Duration::from_secs(1)).await;
        let mut peak = 0;
        let watched = async {
            loop {
                peak = cluster.resident_bytes(0).max(peak);
                sleep(Duration::from_millis(100)).await;
            }
        };
        let (failed, during) = tokio::select! {
            measured = honest(&client) => measured,
            () = watched => unreachable!("it watches for ever"),
        };
        attackers.iter().for_each(tokio::task::JoinHandle::abort);
        let (_, after) = honest(&client).await;
        client.close().await;
        let rise = peak.saturating_sub(idle);
        let ratio = during.as_secs_f64() / before.as_secs_f64().max(1e-6);
        let [connections, calls] = [&counts[0], &counts[1]].map(|count| count.load(Ordering::Relaxed));
        let goal = if ratio <= RATIO_GOAL { "within" } else { "beyond" };
        let seen = format!(
            "{connections} connections, {calls} hostile calls: +{:.1} MiB resident, honest p99 {before:.1?} before, {during:.1?} \
             during ({ratio:.2} times, {goal} the goal), {after:.1?} after; {failed} honest operations failed",
            rise as f64 / f64::from(1 << 20)
        );
        Finding::new(rise <= RISE_BYTES_MAX && (ratio <= RATIO_MAX || during <= P99_MAX) && failed == 0, seen)
    })
}

/// Reads and writes as honest clients do: how many operations failed, and the 99th percentile of their times.
async fn honest(client: &Client) -> (usize, Duration) {
    let worker = |number: usize| {
        let client = client.clone();
        tokio::spawn(async move {
            let (started, mut times, mut failed) = (Instant::now(), Vec::new(), 0);
            for count in 0.. {
                if started.elapsed() > MEASURED {
                    break;
                }
                let (key, began) = (format!("honest {number} {}", count % 50), Instant::now());
                let is_well = match count % 2 {
                    0 => client.put(key, "a value").await.is_ok(),
                    _ => client.get(key).await.is_ok(),
                };
                failed += usize::from(!is_well);
                times.push(began.elapsed());
                sleep(HONEST_PAUSE).await;
            }
            (times, failed)
        })
    };
    let (mut times, mut failed) = (Vec::new(), 0);
    for worker in (0..HONEST).map(worker).collect::<Vec<_>>() {
        let (some, failures) = worker.await.expect("an honest client does not panic");
        times.extend(some);
        failed += failures;
    }
    times.sort_unstable();
    (failed, times[times.len() * 99 / 100])
}

/// One of four kinds of attack, again and again.
async fn attack(number: usize, address: SocketAddr, counts: Arc<[AtomicU64; 2]>) {
    loop {
        if let Ok(stream) = TcpStream::connect(address).await {
            counts[0].fetch_add(1, Ordering::Relaxed);
            // However it ends, it comes again.
            let _ = match number % 4 {
                0 => announce(stream, number).await,
                1 => drip(stream).await,
                2 => never_read(stream, &counts[1]).await,
                _ => call_without_end(stream, &counts[1]).await,
            };
        }
        sleep(RECONNECT_PAUSE).await;
    }
}

/// Eight bytes that announce a frame, and nothing behind them.
async fn announce(mut stream: TcpStream, number: usize) -> std::io::Result<()> {
    let words = [(64 << 20) / 8, 1000, u32::MAX][number / 4 % 3];
    let mut header = [0; 8];
    header[4..].copy_from_slice(&words.to_le_bytes());
    stream.write_all(&header).await?;
    until_cut(&mut stream).await
}

/// A right introduction, a byte at a time.
async fn drip(mut stream: TcpStream) -> std::io::Result<()> {
    for byte in introduction() {
        stream.write_all(&[byte]).await?;
        sleep(Duration::from_millis(100)).await;
    }
    until_cut(&mut stream).await
}

/// Asks for large values and reads nothing.
async fn never_read(mut stream: TcpStream, calls: &AtomicU64) -> std::io::Result<()> {
    stream.write_all(&introduction()).await?;
    let get = get(LARGE_KEY);
    for question in 2..200 {
        // A node that stops reading is what is wanted of it.
        match timeout(Duration::from_secs(30), stream.write_all(&call(question, std::slice::from_ref(&get)))).await {
            Ok(written) => written?,
            Err(_) => return Ok(()),
        }
        calls.fetch_add(1, Ordering::Relaxed);
        sleep(QUESTION_PAUSE).await;
    }
    sleep(Duration::from_secs(60)).await;
    Ok(())
}

/// Calls and calls, and reads what comes.
async fn call_without_end(stream: TcpStream, calls: &AtomicU64) -> std::io::Result<()> {
    let (mut from, mut to) = stream.into_split();
    let reader = async { until_cut(&mut from).await };
    let writer = async {
        to.write_all(&introduction()).await?;
        let get = get("small");
        for question in 2.. {
            // It never says that it is done with an answer, so the node has to remember all of them, or to end this.
            to.write_all(&call(question, std::slice::from_ref(&get))).await?;
            calls.fetch_add(1, Ordering::Relaxed);
            if question % CALLS_IN_A_ROW == 0 {
                sleep(CALL_PAUSE).await;
            }
        }
        Ok(())
    };
    tokio::select! {
        ended = reader => ended,
        ended = writer => ended,
    }
}

fn get(key: &str) -> Operation {
    let address = Address::new(Bytes::from_static(b"default"), Bytes::copy_from_slice(key.as_bytes()));
    Operation { address, consistency: Consistency::default(), action: Action::Get { without_values: false } }
}

async fn until_cut(stream: &mut (impl AsyncReadExt + Unpin)) -> std::io::Result<()> {
    let mut buffer = [0; 4096];
    while stream.read(&mut buffer).await? > 0 {}
    Ok(())
}
