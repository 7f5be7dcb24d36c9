//! Prints how the ring scales and draws the charts of docs/scale.md into a folder.
//!
//!     cargo run --release -p quorate-scale -- docs
//!     cargo run --release -p quorate-scale -- docs 10 100 1000 10000
//!
//! The first argument is the folder for the charts. The others are how many nodes gossip: each of so many members remembers all the others,
//! so time and memory grow by the square, and without them the largest simulation is one of 3,000 nodes.

use std::{fs, io, path::Path};

use scale::{
    balance,
    chart::{Line, Scale, chart},
    gossip, maps,
};

const PLANNED: [usize; 7] = [10, 30, 100, 300, 1_000, 3_000, 10_000];
const GOSSIPING: [usize; 6] = [10, 30, 100, 300, 1_000, 3_000];

/// The size that all this is about.
const LARGEST: usize = 10_000;

fn main() -> io::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let folder = arguments.next().unwrap_or_else(|| "docs".to_owned());
    let save = |name: &str, svg: String| fs::write(Path::new(&folder).join(name), svg);
    let sizes: Vec<usize> = arguments.filter_map(|argument| argument.parse().ok()).collect();
    balance_figures(&save)?;
    map_figures(&save)?;
    gossip_figures(if sizes.is_empty() { &GOSSIPING } else { &sizes }, &save)
}

fn balance_figures(save: &dyn Fn(&str, String) -> io::Result<()>) -> io::Result<()> {
    let title = "Load balance: mean load over largest, 30 nodes, N = 3";
    let figures = [
        ("scale-balance.svg", "Pareto-distributed requests", balance::Requests::skewed()),
        ("scale-balance-even.svg", "even requests", balance::Requests::even()),
    ];
    for (file, name, requests) in figures {
        println!("Efficiency by what a node remembers, 30 nodes, N = 3, {name}");
        let lines = balance::figure(&requests);
        lines.iter().for_each(|line| println!("{}", balance::row(line)));
        println!();
        let title = format!("{title}, {name}");
        save(file, chart(&title, "bytes a node remembers of the ring", "efficiency", Scale::Linear, &lines))?;
    }
    Ok(())
}

fn map_figures(save: &dyn Fn(&str, String) -> io::Result<()>) -> io::Result<()> {
    println!("Planner and map, weights 1/2/4, zones of 40/25/15/12/8 %\n{}", maps::head());
    let mut rows = Vec::new();
    for nodes in PLANNED {
        let row = maps::measure(nodes);
        println!("{}", row.line());
        rows.push(row);
    }
    let line = |name: &str, value: fn(&maps::Row) -> f64| Line {
        name: name.to_owned(),
        points: rows.iter().map(|row| (row.nodes as f64, value(row).max(0.01))).collect(),
    };
    let times = [line("first plan", |row| row.full_ms), line("one more node", |row| row.one_ms)];
    save("scale-planner.svg", chart("Time to plan", "nodes", "milliseconds", Scale::Logarithmic, &times))?;
    let sizes = [
        line("whole map", |row| row.map_bytes as f64),
        line("client memory", |row| row.client_bytes as f64),
        line("node memory, moving", |row| row.node_bytes as f64),
        line("10 % more nodes", |row| row.tenth_bytes as f64),
        line("one more node", |row| row.one_bytes as f64),
    ];
    save("scale-map.svg", chart("The map and its changes", "nodes", "bytes", Scale::Logarithmic, &sizes))
}

fn gossip_figures(sizes: &[usize], save: &dyn Fn(&str, String) -> io::Result<()>) -> io::Result<()> {
    println!("\nGossip, one probe a second, five zones, one packet of a hundred lost\n{}", gossip::head());
    let mut rows = Vec::new();
    for &nodes in sizes {
        let row = gossip::measure(nodes);
        println!("{}", row.line());
        rows.push(row);
    }
    if rows.iter().all(|row| row.nodes < LARGEST) && rows.len() > 1 {
        println!("{} by the trend of those above, not run", gossip::trend(&rows, LARGEST).line());
    }
    let line = |name: &str, value: fn(&gossip::Row) -> f64| Line {
        name: name.to_owned(),
        points: rows.iter().map(|row| (row.nodes as f64, value(row))).collect(),
    };
    let bytes = [line("calm", |row| row.bytes_per_second), line("as a death is told", |row| row.busy_bytes_per_second)];
    save("scale-gossip.svg", chart("What a node gossips", "nodes", "bytes per second", Scale::Linear, &bytes))?;
    let times = [
        line("a new epoch", |row| row.epoch_seconds),
        line("a death", |row| row.death_seconds),
        line("a return", |row| row.return_seconds),
    ];
    save("scale-news.svg", chart("Until everybody knows", "nodes", "seconds", Scale::Linear, &times))
}
