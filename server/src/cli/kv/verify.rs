//! `quorate kv verify`: reads every record of a file back and compares it, byte for byte.

use std::{cell::Cell, path::PathBuf, time::Duration};

use bytes::Bytes;
use clap::Args;
use dynamo::operation::Consistency;
use serde_json::json;

use super::{
    load::Bulk,
    pipeline::{self, Counts, End, Observer, Rejects, Stop, Verdict, Work},
    retry::Patience,
    source::{Source, describe},
};
use crate::cli::{
    arguments::{Bucket, Cluster, Replicas},
    client::{self, Get, Key, Session},
    exit::{CommandError, Exit},
    jsonl::{Place, Record},
    output::{self, Output},
    progress::{Progress, Unit},
};

/// Compare a file of JSON lines with what the cluster holds, byte for byte.
#[derive(Debug, Args)]
#[command(
    after_help = "Every line must hold exactly the values the cluster returns for its key at the given level. A key that stands in
several lines is compared with each: only equal lines can all match.

Examples:
  quorate kv verify index.jsonl
  quorate kv verify index.jsonl --level all
  quorate kv verify index.jsonl -r 2"
)]
pub(super) struct Verify {
    /// The file of JSON lines; - for standard input.
    #[arg(value_name = "FILE")]
    file: PathBuf,

    #[command(flatten)]
    bucket: Bucket,

    #[command(flatten)]
    bulk: Bulk,

    #[command(flatten)]
    replicas: Replicas,

    #[command(flatten)]
    cluster: Cluster,
}

impl Verify {
    /// Carries out the command.
    pub(super) fn run(self) -> Result<Exit, CommandError> {
        client::block_on(self.verify())
    }

    async fn verify(self) -> Result<Exit, CommandError> {
        let (source, length) = Source::open(&self.file, Place::default())?;
        let session = Session::connect(&self.cluster).await?;
        let work = Reader {
            session: &session,
            bucket: &self.bucket.bucket,
            consistency: self.replicas.consistency(),
            patience: self.bulk.patience,
            missing: Cell::new(0),
            siblings: Cell::new(0),
            different: Cell::new(0),
        };
        let rejects = Rejects::open(self.bulk.rejects.as_deref(), false)?;
        let mut progress = Progress::new("verifying", Unit::Bytes, length, 0);
        let in_flight = usize::from(self.bulk.in_flight);
        let observer = Reporter { rejects };
        let (end, counts) = pipeline::run(&source, &work, in_flight, Place::default(), observer, &mut progress).await?;
        let differences =
            Differences { missing: work.missing.get(), siblings: work.siblings.get(), different: work.different.get() };
        session.close().await;
        self.conclude(end, counts, &differences, progress.elapsed())
    }

    fn conclude(
        &self,
        end: End,
        counts: Counts,
        differences: &Differences,
        took: Duration,
    ) -> Result<Exit, CommandError> {
        let seconds = took.as_secs_f64().max(1e-9);
        let Differences { missing, siblings, different } = *differences;
        let unreadable = counts.refused - missing - siblings - different;
        match self.cluster.form.output {
            Output::Table => {
                output::print_line(format_args!(
                    "{} records ({}) of {} are equal; checked in {:.1} s: {} records/s, {}/s",
                    output::grouped(counts.done),
                    output::bytes(counts.bytes),
                    describe(&self.file).display(),
                    seconds,
                    output::grouped(((counts.done + counts.refused) as f64 / seconds) as u64),
                    output::bytes((counts.bytes as f64 / seconds) as u64),
                ))?;
                if counts.refused > 0 {
                    output::print_line(format_args!(
                        "{missing} missing, {different} different, {siblings} with other concurrent values, {unreadable} not compared"
                    ))?;
                }
            }
            Output::Json => output::print_json(&json!({
                "equal": counts.done,
                "missing": missing,
                "different": different,
                "siblings": siblings,
                "not_compared": unreadable,
                "bytes": counts.bytes,
                "seconds": seconds,
                "records_per_second": (counts.done + counts.refused) as f64 / seconds,
                "complete": matches!(end, End::Complete),
            }))?,
        }
        match end {
            End::Complete if counts.refused == 0 => Ok(Exit::Done),
            End::Complete => Ok(Exit::Different),
            End::Interrupted => Err(CommandError::new(Exit::Interrupted, "interrupted before the end")),
            End::Stopped(error) => Err(error),
        }
    }
}

/// What was found to differ, by kind.
struct Differences {
    missing: u64,
    siblings: u64,
    different: u64,
}

/// Reads records and compares them.
struct Reader<'a> {
    session: &'a Session,
    bucket: &'a str,
    consistency: Consistency,
    patience: Duration,
    missing: Cell<u64>,
    siblings: Cell<u64>,
    different: Cell<u64>,
}

impl Work for Reader<'_> {
    async fn one(&self, record: Record, stop: &Stop) -> Verdict {
        let bucket = record.bucket.as_deref().unwrap_or(self.bucket);
        let key = Key { bucket, key: &record.key };
        let mut patience = Patience::new(self.patience);
        loop {
            match self.session.get(key, self.consistency).await {
                Ok(get) => return self.compare(&record, &get),
                Err(failure) => {
                    if let Err(verdict) = patience.after(failure, stop).await {
                        return verdict;
                    }
                }
            }
        }
    }
}

impl Reader<'_> {
    fn compare(&self, record: &Record, get: &Get) -> Verdict {
        let key = crate::cli::notation::cell(&record.key);
        let bump = |count: &Cell<u64>| count.set(count.get() + 1);
        let found: Vec<&Bytes> = match get {
            Get::NotFound { .. } => {
                bump(&self.missing);
                return Verdict::Refused(format!("{key}: there is no value"));
            }
            Get::Found { siblings, .. } => siblings.iter().map(|sibling| &sibling.value).collect(),
        };
        match difference(&record.values, &found) {
            None => Verdict::Done,
            Some(reason) => {
                bump(if found.len() == record.values.len() { &self.different } else { &self.siblings });
                Verdict::Refused(format!("{key}: {reason}"))
            }
        }
    }
}

/// How what was found differs from what was expected, if it does; the order of concurrent values means nothing.
fn difference(expected: &[Bytes], found: &[&Bytes]) -> Option<String> {
    if expected.len() != found.len() {
        return Some(format!("{} values are there, not {}", found.len(), expected.len()));
    }
    let mut expected: Vec<&Bytes> = expected.iter().collect();
    let mut found = found.to_vec();
    expected.sort_unstable();
    found.sort_unstable();
    let (expected, found) = expected.into_iter().zip(found).find(|(expected, found)| expected != found)?;
    let at = expected.iter().zip(found.iter()).take_while(|(expected, found)| expected == found).count();
    Some(format!("the value has {} bytes and differs from byte {at} of the expected {}", found.len(), expected.len()))
}

/// Reports differences.
struct Reporter {
    rejects: Rejects,
}

impl Observer for Reporter {
    fn refused(&mut self, place: Place, reason: &str) -> Result<(), CommandError> {
        self.rejects.report(place, reason)
    }

    fn save(&mut self, _done: Place, _counts: &Counts) -> Result<(), CommandError> {
        self.rejects.flush()
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::difference;

    fn between(expected: &[&'static str], found: &[&'static str]) -> Option<String> {
        let expected: Vec<Bytes> = expected.iter().map(|text| Bytes::from(*text)).collect();
        let found: Vec<Bytes> = found.iter().map(|text| Bytes::from(*text)).collect();
        difference(&expected, &found.iter().collect::<Vec<_>>())
    }

    #[test]
    fn equal_values_in_any_order_do_not_differ() {
        assert_eq!(between(&["a"], &["a"]), None);
        assert_eq!(between(&["a", "b"], &["b", "a"]), None);
    }

    #[test]
    fn one_byte_or_one_sibling_more_is_a_difference() {
        assert!(between(&["abc"], &["abd"]).unwrap().contains("from byte 2"));
        assert!(between(&["abc"], &["ab"]).unwrap().contains("2 bytes"));
        assert!(between(&["a"], &["a", "a"]).is_some());
        assert!(between(&["a", "a"], &["a", "b"]).is_some());
    }
}
