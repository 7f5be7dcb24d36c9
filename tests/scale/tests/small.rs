//! The figures of docs/scale.md on a smaller scale: what they promise for 10,000 nodes must hold for a few hundred, and the command that
//! prints them must not rot.

use scale::{balance, chart, gossip, maps};

#[test]
fn the_planner_balances_and_moves_little_and_maps_stay_small() {
    for nodes in [10, 100, 300] {
        let row = maps::measure(nodes);
        assert!(row.fullest <= 1.02, "{}", row.line());
        assert!(row.one_excess <= 1.2 && row.tenth_excess <= 1.2, "{}", row.line());
        assert!(row.one_bytes < row.map_bytes && row.client_bytes < row.node_bytes, "{}", row.line());
        assert!(row.map_bytes <= 8 * (3 << row.partition_bits) + 200 * nodes, "{}", row.line());
    }
}

#[test]
fn strategy_three_is_the_best_of_the_papers_and_the_planner_better_still() {
    for requests in [balance::Requests::skewed(), balance::Requests::even()] {
        let lines = balance::figure(&requests);
        let most = |at: usize| lines[at].points.last().expect("there are points").1;
        assert!(most(0) < most(2) && most(1) < most(2), "{lines:?}");
        // With the least memory the planner is ahead; with much of it only the hottest keys are left, which nobody divides.
        assert!(lines[2].points[0].1 < lines[3].points[0].1 && most(2) < most(3) + 0.02, "{lines:?}");
        let efficiencies = lines.iter().flat_map(|line| &line.points).map(|point| point.1);
        efficiencies.for_each(|efficiency| assert!((0.3..=1.0).contains(&efficiency), "{lines:?}"));
        assert!(chart::chart("title", "x", "y", chart::Scale::Linear, &lines).contains("</svg>"));
    }
}

#[test]
fn three_hundred_nodes_learn_of_epochs_and_deaths_in_seconds_and_gossip_little() {
    let (small, large) = (gossip::measure(30), gossip::measure(300));
    for row in [small, large] {
        assert!(row.epoch_seconds < 15.0, "{}", row.line());
        assert!(row.death_seconds > 1.0 && row.death_seconds < 40.0, "{}", row.line());
        assert!(row.return_seconds < 15.0 && row.alarms == 0, "{}", row.line());
        assert!(row.bytes_per_second < 1_500.0, "{}", row.line());
    }
    let trend = gossip::trend(&[small, large], 300);
    assert!((trend.death_seconds - large.death_seconds).abs() < 1e-6, "a line through two points meets both");
    let growth = large.bytes_per_second / small.bytes_per_second;
    assert!((0.7..1.3).contains(&growth), "what a node gossips does not grow with the cluster: {growth}");
}
