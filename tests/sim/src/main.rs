//! `quorate-sim`.

use sim::{plan::Plan, runs};

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let seeds: u64 = arguments.get(1).and_then(|text| text.parse().ok()).unwrap_or(20);
    let from: u64 = arguments.get(2).and_then(|text| text.parse().ok()).unwrap_or(0);
    let start = std::time::Instant::now();
    let (mut ops, mut simulated, mut faults) = (0, 0, 0);
    for seed in from..from + seeds {
        let run = runs::run(Plan::new(seed), arguments.len() > 3);
        ops += run.figures.operations;
        simulated += run.figures.simulated_us;
        faults += run.figures.faults;
        if let Some(violation) = run.violation {
            println!("seed {seed}: {violation}");
        }
    }
    let took = start.elapsed().as_secs_f64();
    println!("{seeds} seeds {ops} ops {faults} faults {:.0} x real {took:.1} s", simulated as f64 / 1e6 / took);
}
