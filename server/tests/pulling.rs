//! How nodes get the layouts that were agreed upon without them: as what has changed, from those who know the layout before, and as a
//! whole from those who have forgotten it.
#![allow(missing_docs)]

#[path = "support/cluster.rs"]
#[allow(dead_code, unreachable_pub)]
mod cluster;
#[path = "support/command.rs"]
#[allow(dead_code, unreachable_pub)]
mod command;

use cluster::{Cluster, local, until};
use command::{Ran, quorate, run_with};

/// Layouts that a node keeps for those who were away (`server/src/node/deciding.rs`).
const LAYOUTS_KEPT: u64 = 32;

/// Slots of the 2^8 partitions that three nodes have at N = 3, in bytes: every layout has more.
const SLOTS_BYTES: u64 = (2 * 3) << 8;

/// What a node has fetched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Fetched {
    whole: u64,
    deltas: u64,
    unfit: u64,
    bytes: u64,
}

async fn fetched(cluster: &Cluster, node: usize) -> Fetched {
    let client = cluster.client(node).await;
    Fetched {
        whole: client.counter("layouts_fetched_whole").await,
        deltas: client.counter("layouts_fetched_as_deltas").await,
        unfit: client.counter("layout_deltas_unfit").await,
        bytes: client.counter("layouts_fetched_bytes").await,
    }
}

/// Waits until a node knows a layout.
async fn knows(cluster: &Cluster, node: usize, epoch: u64) {
    let client = cluster.client(node).await;
    until(async || client.status().await.epoch == epoch).await;
}

/// Has a bucket become known through the first node.
fn add_bucket(cluster: &Cluster, epoch: u64) {
    let ring = |arguments: &[&str]| -> Ran {
        let mut command = quorate(&[&["ring"], arguments].concat());
        command.env("QUORATE_ENDPOINTS", cluster.addresses[0].to_string());
        run_with(command, b"").expect(0)
    };
    ring(&["stage", "bucket", &format!("bucket-{epoch}"), "--level", "one"]);
    let plan = ring(&["plan", "--output", "json"]).json();
    assert_eq!(plan["plan"]["epoch"], epoch);
    ring(&["commit", "--epoch", &epoch.to_string(), "--plan", plan["plan"]["hash"].as_str().unwrap()]);
}

#[test]
fn a_small_change_is_pulled_as_what_has_changed() {
    let cluster = Cluster::start(3);
    local(async {
        for node in 0..3 {
            cluster.settle(node).await;
        }
        add_bucket(&cluster, 2);
        for node in 0..3 {
            knows(&cluster, node, 2).await;
        }
        assert_eq!(fetched(&cluster, 0).await, Fetched { whole: 0, deltas: 0, unfit: 0, bytes: 0 }, "it decided it");
        for node in [1, 2] {
            let fetched = fetched(&cluster, node).await;
            assert_eq!(fetched, Fetched { whole: 0, deltas: 1, unfit: 0, ..fetched });
            assert!(0 < fetched.bytes && 3 * fetched.bytes < SLOTS_BYTES, "{fetched:?}");
        }
    });
}

#[test]
fn of_nodes_that_have_forgotten_the_layout_before_the_whole_is_pulled_and_then_what_has_changed() {
    let mut cluster = Cluster::start(3);
    local(async {
        for node in 0..3 {
            cluster.settle(node).await;
        }
        add_bucket(&cluster, 2);
        knows(&cluster, 2, 2).await;
    });
    cluster.stop_node(2);
    // The others forget what it has, and keep what it needs.
    let newest = LAYOUTS_KEPT + 3;
    for epoch in 3..=newest {
        add_bucket(&cluster, epoch);
    }
    cluster.start_node(2);
    local(async {
        knows(&cluster, 1, newest).await;
        knows(&cluster, 2, newest).await;
        let fetched = fetched(&cluster, 2).await;
        assert_eq!(fetched, Fetched { whole: 1, deltas: LAYOUTS_KEPT, unfit: 0, ..fetched });
        assert!(fetched.bytes > SLOTS_BYTES, "{fetched:?}");
    });
}
