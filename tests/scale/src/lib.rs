//! How the ring scales (design, ring, "Scale plan"), seen by running its own parts: the planner and the map's encoding and differences
//! ([`maps`]), the gossip of thousands of nodes under a made-up clock ([`gossip`]), and how evenly load is spread beside the strategies of
//! the paper ([`balance`]). No process is started and no data is stored: what a running cluster costs is measured in `bench`.

pub mod balance;
pub mod chart;
mod dice;
pub mod gossip;
pub mod maps;

/// Nodes out of a hundred by zone.
const ZONES: [usize; 5] = [40, 25, 15, 12, 8];

/// The zone of a node.
fn zone(node: usize) -> usize {
    // The stride has no divisor in common with a hundred, so every run of nodes has every zone.
    let percent = node * 47 % 100;
    let sums = ZONES.iter().scan(0, |sum, zone| {
        *sum += zone;
        Some(*sum)
    });
    sums.take_while(|&sum| sum <= percent).count()
}
