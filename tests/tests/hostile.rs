//! Hostile bytes at a real node's port: a thousand announcements of large frames, garbage, silence, half a frame. The node must keep its memory,
//! answer honest clients meanwhile, and live.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    process::Command,
    time::{Duration, Instant},
};

use quorate_tests::cluster::{Cluster, binary};

const MIB: u64 = 1 << 20;

/// How many connections attack at once (design: proof, "Tier 2").
const ATTACKERS: usize = 1000;

/// Runs the command as an honest client of one node.
fn quorate(address: SocketAddr, arguments: &[&str]) -> String {
    let output = Command::new(binary())
        .args(arguments)
        .args(["--endpoints", &address.to_string()])
        .output()
        .expect("the command runs");
    assert!(output.status.success(), "quorate {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("the output is text")
}

/// Puts and gets as an honest client does, while others attack.
fn assert_serves(address: SocketAddr, key: &str) {
    quorate(address, &["kv", "put", key, "an honest value"]);
    assert_eq!(quorate(address, &["kv", "get", key]).trim_end(), "an honest value");
}

fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect_timeout(&address, Duration::from_secs(5)).expect("the node accepts");
    stream.set_read_timeout(Some(Duration::from_secs(20))).expect("a read timeout can be set");
    stream
}

/// A segment table of one segment with so many words.
fn announcement(words: u32) -> [u8; 8] {
    let mut header = [0; 8];
    header[4..].copy_from_slice(&words.to_le_bytes());
    header
}

/// A sequence of bytes that looks like nothing; the same for the same seed.
fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 32) as u8
    };
    (0..length).map(|_| next()).collect()
}

#[test]
fn an_idle_node_is_small_and_a_thousand_announcements_of_large_frames_cost_nothing() {
    let cluster = Cluster::start(1);
    let address = cluster.address(0);
    assert_serves(address, "before");
    let idle = cluster.resident_bytes(0);
    assert!(idle <= 64 * MIB, "an idle node has {} MiB resident", idle / MIB);
    for words in [(64 * MIB / 8) as u32, 1000, u32::MAX] {
        let attackers: Vec<TcpStream> = (0..ATTACKERS)
            .map(|_| {
                let mut stream = connect(address);
                stream.write_all(&announcement(words)).expect("eight bytes fit");
                stream
            })
            .collect();
        assert_serves(address, "during");
        let grown = cluster.resident_bytes(0).saturating_sub(idle);
        assert!(grown <= 64 * MIB, "{ATTACKERS} announcements of {words} words cost {} MiB", grown / MIB);
        drop(attackers);
    }
    assert_serves(address, "after");
}

#[test]
fn garbage_ends_its_own_connection_and_nothing_else() {
    let cluster = Cluster::start(1);
    let address = cluster.address(0);
    for seed in 0..300 {
        let mut stream = connect(address);
        // Half of them with a plausible table in front, so that the bytes behind it are taken for a message.
        let mut bytes = if seed % 2 == 0 { announcement(32).to_vec() } else { Vec::new() };
        bytes.extend(noise(seed, 256));
        // The node may hang up before everything is sent.
        let _ = stream.write_all(&bytes);
        let _ = stream.shutdown(std::net::Shutdown::Write);
        let mut rest = Vec::new();
        let _ = stream.read_to_end(&mut rest);
    }
    assert_serves(address, "after-garbage");
}

#[test]
fn whoever_says_nothing_or_drips_is_cut_off() {
    let cluster = Cluster::start(1);
    let address = cluster.address(0);
    let started = Instant::now();
    let mut silent = connect(address);
    let mut dripping = connect(address);
    dripping.write_all(&announcement(100)).expect("eight bytes fit");
    let cut = |stream: &mut TcpStream| {
        let mut byte = [0];
        // A Cap'n Proto abort message may come before the end.
        loop {
            match stream.read(&mut byte) {
                Ok(0) => return true,
                Ok(_) => {}
                Err(error) => return error.kind() == std::io::ErrorKind::ConnectionReset,
            }
        }
    };
    assert!(cut(&mut silent), "a silent connection stays open");
    let waited = started.elapsed();
    assert!(waited < Duration::from_secs(15), "a silent connection is cut only after {waited:?}");
    assert!(cut(&mut dripping), "a connection with half a frame stays open");
    assert_serves(address, "after-silence");
}
