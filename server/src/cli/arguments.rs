//! Arguments that several commands share: where the cluster is, how long to wait, how many replicas, in which form to
//! answer.

use std::time::Duration;

use clap::{Args, ValueEnum};
use dynamo::{
    ident::{BUCKET_DEFAULT, is_bucket_name},
    layout::{Level, REPLICAS_MAX},
    operation::Consistency,
};

use super::output::Output;

/// Where a node is looked for when nobody says: the default address of a node, and the first one of `quorate dev`.
pub const ENDPOINT_DEFAULT: &str = "127.0.0.1:7601";

/// Arguments of every command that talks to a cluster.
#[derive(Clone, Debug, Args)]
pub struct Cluster {
    /// Addresses of nodes, host:port, with commas between; one that answers is enough to learn the others.
    #[arg(
        long,
        value_name = "HOST:PORT,…",
        env = "QUORATE_ENDPOINTS",
        default_value = ENDPOINT_DEFAULT,
        value_delimiter = ',',
        value_parser = endpoint,
        help_heading = "Connection"
    )]
    pub endpoints: Vec<String>,

    /// How long one operation may take, with a unit: 500ms, 2s, 1m.
    #[arg(long, value_name = "TIME", default_value = "2s", value_parser = duration, help_heading = "Connection")]
    pub timeout: Duration,

    /// The form of the answer.
    #[command(flatten)]
    pub form: Form,
}

/// The argument of every command that answers.
#[derive(Clone, Copy, Debug, Args)]
pub struct Form {
    /// The form of the answer: tables for people, JSON for programs.
    #[arg(long, value_name = "FORM", env = "QUORATE_OUTPUT", default_value = "table")]
    pub output: Output,
}

/// How many replicas an operation waits for.
#[derive(Clone, Copy, Debug, Default, Args)]
pub struct Replicas {
    /// How many owners must answer; the bucket's own level if none is named.
    #[arg(long, help_heading = "Consistency")]
    pub level: Option<LevelName>,

    /// Owners that a read waits for, instead of what the level says.
    #[arg(short, value_name = "COUNT", value_parser = replica_count(), help_heading = "Consistency")]
    pub r: Option<u8>,

    /// Owners that must have a write on disk before it is acknowledged, instead of what the level says.
    #[arg(short, value_name = "COUNT", value_parser = replica_count(), help_heading = "Consistency")]
    pub w: Option<u8>,

    /// Use only the first so many owners.
    #[arg(short, value_name = "COUNT", value_parser = replica_count(), help_heading = "Consistency")]
    pub n: Option<u8>,
}

/// A level, as it is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LevelName {
    /// The first owner: durable on one node, may be stale.
    One,
    /// The first owners, with stand-ins for those that can't be reached: takes writes while any W nodes can be reached.
    Available,
    /// A majority of the owners: a read that starts after a write sees it.
    Quorum,
    /// Every owner: fails while one is down.
    All,
}

impl Replicas {
    /// The same in the protocol's words.
    pub fn consistency(&self) -> Consistency {
        Consistency {
            level: self.level.map(|level| match level {
                LevelName::One => Level::One,
                LevelName::Available => Level::Available,
                LevelName::Quorum => Level::Quorum,
                LevelName::All => Level::All,
            }),
            r: self.r.unwrap_or(0),
            w: self.w.unwrap_or(0),
            n: self.n.unwrap_or(0),
        }
    }
}

/// The bucket an operation is about.
#[derive(Clone, Debug, Args)]
pub struct Bucket {
    /// The bucket.
    #[arg(long, short, value_name = "NAME", default_value = BUCKET_DEFAULT, value_parser = bucket)]
    pub bucket: String,
}

fn replica_count() -> clap::builder::RangedI64ValueParser<u8> {
    clap::value_parser!(u8).range(1..=i64::from(REPLICAS_MAX))
}

/// Reads the name of a bucket.
pub fn bucket(text: &str) -> Result<String, String> {
    is_bucket_name(text.as_bytes())
        .then(|| text.to_owned())
        .ok_or_else(|| "a bucket's name is 1 to 64 characters of A-Z a-z 0-9 . _ -".to_owned())
}

/// Reads `host:port`; the port may be left out.
pub fn endpoint(text: &str) -> Result<String, String> {
    let text = text.trim();
    let port_default = ENDPOINT_DEFAULT.rsplit(':').next().unwrap_or_default();
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !host.ends_with(':') && (!host.contains(':') || host.ends_with(']')) => (host, port),
        _ => (text, port_default),
    };
    let plausible = !host.is_empty() && !host.contains(char::is_whitespace) && port.parse::<u16>().is_ok_and(|p| p > 0);
    plausible
        .then(|| format!("{host}:{port}"))
        .ok_or_else(|| "an address is host:port, such as 127.0.0.1:7601".to_owned())
}

/// Reads a span of time: a number followed by ms, s, m or h; without a unit, seconds.
pub fn duration(text: &str) -> Result<Duration, String> {
    let digits_end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(digits_end);
    let factor = match unit.trim() {
        "ms" => 0.001,
        "" | "s" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        _ => return Err("a time ends in ms, s, m or h".to_owned()),
    };
    let seconds = number.parse::<f64>().map_err(|_| "a time begins with a number".to_owned())? * factor;
    // A year is longer than anything meant; beyond, arithmetic on instants might overflow.
    if seconds <= 0.0 || seconds > 365.0 * 86_400.0 {
        return Err("a time lies between a millisecond and a year".to_owned());
    }
    Ok(Duration::from_secs_f64(seconds))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{bucket, duration, endpoint};

    #[test]
    fn times_have_units() {
        assert_eq!(duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(duration("1.5"), Ok(Duration::from_millis(1500)));
        assert_eq!(duration("2m"), Ok(Duration::from_secs(120)));
        for wrong in ["", "s", "0s", "1d", "-1s", "1e9h", "99999999h", "1.2.3s"] {
            assert!(duration(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn endpoints_may_leave_out_the_port() {
        assert_eq!(endpoint("node1").as_deref(), Ok("node1:7601"));
        assert_eq!(endpoint(" 10.0.0.1:99 ").as_deref(), Ok("10.0.0.1:99"));
        assert_eq!(endpoint("[::1]:7602").as_deref(), Ok("[::1]:7602"));
        for wrong in ["", ":7601", "a b:1", "host:port", "host:0", "host:70000"] {
            assert!(endpoint(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn bucket_names_are_checked_before_anything_is_sent() {
        assert!(bucket("carts.eu").is_ok());
        assert!(bucket("a b").is_err());
    }
}
