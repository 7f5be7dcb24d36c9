//! A report of a load, for people.

use std::io;

use quorate_bench::{
    measure::Latency,
    report::{Limits, Report},
    workload::{Distribution, Workload},
};

use super::counts;
use crate::cli::{
    arguments::Replicas,
    output::{self, Column, Rows, print_line},
};

/// Prints a report.
pub(super) fn print(report: &Report, replicas: &Replicas) -> io::Result<()> {
    let measured = &report.measured;
    print_line(describe(&report.workload, replicas))?;
    print_line("")?;
    latencies(report).print()?;
    print_line(format_args!("\n{} operations/s", output::grouped(measured.operations_per_second as u64)))?;
    if !measured.errors.is_empty() {
        print_line(format_args!("errors: {}", counts(&measured.errors)))?;
    }
    if !measured.wrong.is_empty() {
        print_line(format_args!("WRONG ANSWERS: {}", counts(&measured.wrong)))?;
    }
    if measured.unfinished > 0 {
        print_line(format_args!("not finished: {}", output::grouped(measured.unfinished)))?;
    }
    let batches = &report.batches;
    let mut line = format!("{:.1} operations in a call", batches.operations_per_call);
    if batches.writes_per_commit > 0.0 {
        line.push_str(&format!(", {:.1} writes in a commit", batches.writes_per_commit));
    }
    line.push_str(&format!(", {} retries", output::grouped(batches.retries)));
    print_line(line)?;
    let cost = |cost: Option<f64>| cost.map_or("unknown".to_owned(), |cost| format!("{cost:.2} µs"));
    print_line(format_args!(
        "processor time of an operation: {} in the client, {} in the nodes",
        cost(report.cost.client_us),
        cost(report.cost.nodes_us)
    ))?;
    report.limits.as_ref().map_or(Ok(()), |limits| print_limits(limits, &report.workload))
}

/// "90 % reads of 100,000 keys (uniform), values of 100 B, …"
fn describe(workload: &Workload, replicas: &Replicas) -> String {
    let distribution = match workload.distribution {
        Distribution::Uniform => "uniform".to_owned(),
        Distribution::Zipf { exponent } => format!("zipf {exponent}"),
    };
    let pace = match workload.rate {
        Some(rate) => format!("{} arrive per second", output::grouped(rate as u64)),
        None => "closed loop".to_owned(),
    };
    let mut level =
        replicas.level.map_or("the bucket's level".to_owned(), |level| format!("level {level:?}").to_lowercase());
    for (name, count) in [("r", replicas.r), ("w", replicas.w), ("n", replicas.n)] {
        if let Some(count) = count {
            level.push_str(&format!(", {name}={count}"));
        }
    }
    format!(
        "{} % reads of {} keys ({distribution}), values of {}, {level}\n{pace}, {} in flight, {} s after {} s of warm-up",
        workload.reads_percent,
        output::grouped(workload.keys),
        output::bytes(workload.value_bytes as u64),
        output::grouped(workload.in_flight as u64),
        workload.duration.as_secs_f64(),
        workload.warm_up.as_secs_f64(),
    )
}

fn latencies(report: &Report) -> Rows {
    let mut rows = Rows::new(&[
        Column::Text(""),
        Column::Number("COUNT"),
        Column::Number("PER SECOND"),
        Column::Number("MEAN"),
        Column::Number("P50"),
        Column::Number("P90"),
        Column::Number("P99"),
        Column::Number("P99.9"),
        Column::Number("MAX"),
    ]);
    let measured = &report.measured;
    for (name, latency) in [("reads", &measured.reads), ("writes", &measured.writes)] {
        let Some(Latency { count, mean_us, p50_us, p90_us, p99_us, p99_9_us, max_us, .. }) = latency else { continue };
        rows.push([
            name.to_owned(),
            output::grouped(*count),
            output::grouped((*count as f64 / measured.seconds) as u64),
            time(*mean_us),
            time(*p50_us),
            time(*p90_us),
            time(*p99_us),
            time(*p99_9_us),
            time(*max_us),
        ]);
    }
    rows
}

fn print_limits(limits: &Limits, workload: &Workload) -> io::Result<()> {
    print_line("\nlimits of this machine, with the same batches")?;
    let mut rows = Rows::new(&[
        Column::Text("LIMIT"),
        Column::Text("HOW"),
        Column::Number("PER SECOND"),
        Column::Number("REACHED"),
    ]);
    let echo = format!(
        "{} a call, {} calls in flight, one connection",
        limits.echo.operations_per_call, limits.echo.calls_in_flight
    );
    let lmdb_reads = format!("{} a snapshot, {} threads", limits.lmdb.gets_per_snapshot, limits.lmdb.get_threads);
    let lmdb_writes = format!("{} a synced commit, {} stores at once", limits.lmdb.puts_per_commit, limits.lmdb.stores);
    let mut push = |name: &str, how: &str, limit: f64, reached: Option<f64>| {
        let reached = reached.map_or("-".to_owned(), |ratio| format!("{:.1} %", ratio * 100.0));
        rows.push([name.to_owned(), how.to_owned(), output::grouped(limit as u64), reached]);
    };
    if workload.reads_percent > 0 {
        push("reads, wire alone", &echo, limits.echo.gets_per_second, limits.reads_to_echo);
        push("reads, LMDB alone", &lmdb_reads, limits.lmdb_reads_per_second, limits.reads_to_lmdb);
    }
    if workload.reads_percent < 100 {
        push("writes, wire alone", &echo, limits.echo.puts_per_second, limits.writes_to_echo);
        push("writes, LMDB alone", &lmdb_writes, limits.lmdb_writes_per_second, limits.writes_to_lmdb);
    }
    rows.print()
}

/// A latency in the unit that leaves one to three digits before the point.
fn time(microseconds: f64) -> String {
    match microseconds {
        us if us < 1_000.0 => format!("{us:.0} µs"),
        us if us < 1_000_000.0 => format!("{:.2} ms", us / 1e3),
        us => format!("{:.2} s", us / 1e6),
    }
}

#[cfg(test)]
mod tests {
    use super::time;

    #[test]
    fn latencies_have_a_fitting_unit() {
        assert_eq!([12.4, 1_234.0, 2_500_000.0].map(time), ["12 µs", "1.23 ms", "2.50 s"]);
    }
}
