//! How the ring scales: what planning and the map cost up to 10,000 nodes, and how evenly load is spread beside the strategies of
//! the paper (section 6.2, figure 8). Prints the tables of docs/scale.md and draws its charts into a folder. What gossip
//! costs is measured by the server's example `gossip_costs`.
//!
//!     cargo run --release -p quorate-dynamo --example scale -- docs

mod balance;
mod chart;
mod maps;

use std::{fs, io, path::Path};

use chart::{Line, Scale, chart};

fn main() -> io::Result<()> {
    let folder = std::env::args().nth(1).unwrap_or_else(|| "docs".to_owned());
    let save = |name: &str, svg: String| fs::write(Path::new(&folder).join(name), svg);

    println!("Efficiency by what a node remembers, 30 nodes, N = 3");
    let lines = balance::figure();
    let title = "Load balance: mean load over largest, 30 nodes, N = 3";
    save("scale-balance.svg", chart(title, "bytes a node remembers of the ring", "efficiency", Scale::Linear, &lines))?;

    println!("\nPlanner and map, weights 1/2/4, zones of 40/25/15/12/8 %");
    maps::head();
    let rows: Vec<maps::Row> = [10, 30, 100, 300, 1000, 3000, 10_000].into_iter().map(maps::measure).collect();
    let line = |name: &str, value: fn(&maps::Row) -> f64| Line {
        name: name.to_owned(),
        points: rows.iter().map(|row| (row.nodes as f64, value(row).max(0.01))).collect(),
    };
    let times = [line("first plan", |row| row.full_ms), line("one more node", |row| row.one_ms)];
    save("scale-planner.svg", chart("Time to plan", "nodes", "milliseconds", Scale::Logarithmic, &times))?;
    let sizes = [
        line("whole map", |row| row.map_bytes as f64),
        line("client memory", |row| row.memory_bytes as f64),
        line("10 % more nodes", |row| row.tenth_bytes as f64),
        line("one more node", |row| row.one_bytes as f64),
    ];
    save("scale-map.svg", chart("The map and its changes", "nodes", "bytes", Scale::Logarithmic, &sizes))
}
