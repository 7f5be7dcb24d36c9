//! `quorate reap`: removes tombstones and expired values for good, where it can be shown that nothing brings back what they cover.
//!
//! A tombstone that went too early lets an old value return from wherever it still is. So every node of the ring must answer, all
//! owners must hold exactly the same record with nothing live in it, no node may keep a hint for the key or have an operation
//! running on its partition, all of that twice, with enough time between for every message that was on its way to arrive or be
//! dropped; and each owner removes the record only if it is still the same.

use std::time::Duration;

use bytes::Bytes;
use clap::Args;
use futures_util::{StreamExt, stream};
use serde_json::json;

use super::{
    arguments::{self, Cluster},
    client::{self, Key, ScanOptions, Session, clock_now, sleep},
    exit::{CommandError, Exit},
    holdings::Holdings,
    notation::{cell, insert_json},
    output::{self, Output},
};

/// Between the two looks: longer than a node keeps a repair that it could not send, and than an operation at the usual deadline
/// takes, so that whatever was on its way has arrived or is gone.
const QUIET: Duration = Duration::from_secs(3);

/// Keys that are looked at together: they share one wait.
const KEYS_TOGETHER: usize = 1024;

/// Keys that are asked for at the same time.
const ASKED_TOGETHER: usize = 16;

/// Remove the tombstone of a key, or of every deleted key of a bucket, where nothing speaks against it.
#[derive(Debug, Args)]
#[command(
    after_help = "Without --yes nothing is removed: it shows what could be, and why not the rest. It is refused while a node of the ring does not
answer, the owners do not hold the same, something is live, a hint for the key is kept anywhere, or an operation runs on its
partition. Whatever is left of a key that was removed at some owners only is brought back by repair, as a tombstone.

Exit code 0: all of it was (or could be) removed. 3: there is nothing. 5: something was kept; the reasons are printed.

Examples:
  quorate reap cart
  quorate reap --bucket sessions --dry-run
  quorate reap --bucket sessions --yes"
)]
pub struct Reap {
    /// The key, as text; without one, every deleted key of --bucket.
    #[arg(value_name = "KEY", required_unless_present = "bucket")]
    key: Option<String>,

    /// The bucket.
    #[arg(long, short, value_name = "NAME", value_parser = arguments::bucket)]
    bucket: Option<String>,

    /// Only show what would be removed: what happens without --yes, too.
    #[arg(long, conflicts_with = "yes")]
    dry_run: bool,

    /// Remove it.
    #[arg(long)]
    yes: bool,

    #[command(flatten)]
    cluster: Cluster,
}

/// A key that may be removed, or why not.
#[derive(Debug)]
struct Judged {
    key: Bytes,
    /// The record that all owners hold.
    digest: Option<u128>,
    objections: Vec<String>,
}

impl Reap {
    /// Carries out the command.
    pub fn run(self) -> Result<Exit, CommandError> {
        client::block_on(async {
            let session = Session::connect(&self.cluster).await?;
            let exit = self.reap(&session).await;
            session.close().await;
            exit
        })
    }

    fn bucket(&self) -> &str {
        self.bucket.as_deref().unwrap_or(dynamo::ident::BUCKET_DEFAULT)
    }

    async fn reap(&self, session: &Session) -> Result<Exit, CommandError> {
        let mut tally = Tally::default();
        match &self.key {
            Some(key) => self.reap_keys(session, vec![Bytes::copy_from_slice(key.as_bytes())], &mut tally).await?,
            None => {
                let mut deleted = std::pin::pin!(session.scan_deleted(&ScanOptions::whole(self.bucket())));
                let mut keys = Vec::new();
                while let Some(key) = deleted.next().await {
                    keys.push(key?.address.key);
                    if keys.len() == KEYS_TOGETHER {
                        self.reap_keys(session, std::mem::take(&mut keys), &mut tally).await?;
                    }
                }
                self.reap_keys(session, keys, &mut tally).await?;
            }
        }
        self.conclude(&tally)
    }

    async fn reap_keys(&self, session: &Session, keys: Vec<Bytes>, tally: &mut Tally) -> Result<(), CommandError> {
        let first = self.judge(session, keys).await;
        let (clear, refused): (Vec<_>, Vec<_>) = first.into_iter().partition(|judged| judged.objections.is_empty());
        for judged in &refused {
            self.report(judged, "kept", tally)?;
        }
        if clear.is_empty() {
            return Ok(());
        }
        if !self.yes {
            return clear.iter().try_for_each(|judged| self.report(judged, "could be removed", tally));
        }
        sleep(QUIET).await;
        let digests: Vec<Option<u128>> = clear.iter().map(|judged| judged.digest).collect();
        let again = self.judge(session, clear.into_iter().map(|judged| judged.key).collect()).await;
        for (before, mut judged) in digests.into_iter().zip(again) {
            if judged.objections.is_empty() && judged.digest != before {
                judged.objections.push("it was written while it was being looked at".to_owned());
            }
            if judged.objections.is_empty() {
                judged.objections = self.remove(session, &judged).await;
            }
            self.report(&judged, if judged.objections.is_empty() { "removed" } else { "kept" }, tally)?;
        }
        Ok(())
    }

    /// Looks at keys, in their order.
    async fn judge(&self, session: &Session, keys: Vec<Bytes>) -> Vec<Judged> {
        let look = |key: Bytes| async move {
            let address = Key { bucket: self.bucket(), key: &key };
            let holdings = Holdings::new(&session.layout(), session.partition(address), session.inspect(address).await);
            Judged { digest: holdings.digest(), objections: holdings.objections(clock_now()), key }
        };
        stream::iter(keys).map(look).buffered(ASKED_TOGETHER).collect().await
    }

    /// Removes a key's record at each owner, and says what went wrong.
    async fn remove(&self, session: &Session, judged: &Judged) -> Vec<String> {
        let key = Key { bucket: self.bucket(), key: &judged.key };
        let (layout, mut problems) = (session.layout(), Vec::new());
        let Some(digest) = judged.digest else { return problems };
        for owner in layout.owners(session.partition(key)) {
            let name = layout.member(owner).map_or("?", |member| &member.name);
            match session.reap(owner, key, digest).await {
                Ok(true) => {}
                Ok(false) => problems.push(format!("{name} did not remove it")),
                Err(reason) => problems.push(format!("{name} did not remove it: {reason}")),
            }
        }
        problems
    }

    fn report(&self, judged: &Judged, what: &str, tally: &mut Tally) -> Result<(), CommandError> {
        let is_nothing = judged.objections.iter().any(|objection| objection.contains("nothing to remove"));
        match (judged.objections.is_empty(), is_nothing) {
            (true, _) => tally.done += 1,
            (false, true) => tally.nothing += 1,
            (false, false) => tally.kept += 1,
        }
        match self.cluster.form.output {
            Output::Table => {
                output::print_line(format_args!("{what}: {}", cell(&judged.key)))?;
                judged.objections.iter().try_for_each(|objection| output::print_line(format_args!("  {objection}")))?;
            }
            Output::Json => {
                let mut object = serde_json::Map::new();
                insert_json(&mut object, "key", &judged.key);
                object.insert("bucket".into(), self.bucket().into());
                object.insert("result".into(), what.into());
                object.insert("reasons".into(), json!(judged.objections));
                output::print_line(serde_json::Value::Object(object))?;
            }
        }
        Ok(())
    }

    fn conclude(&self, tally: &Tally) -> Result<Exit, CommandError> {
        if self.cluster.form.output == Output::Table {
            let Tally { done, kept, .. } = tally;
            let did = if self.yes { "removed" } else { "could be removed; nothing was" };
            eprintln!("quorate: {} key(s) {did}, {} kept", output::grouped(*done), output::grouped(*kept));
            if *done > 0 && !self.yes {
                let bucket = self.bucket.as_ref().map(|name| format!(" --bucket {name}")).unwrap_or_default();
                let key = self.key.as_ref().map(|key| format!(" '{}'", key.replace('\'', "'\\''"))).unwrap_or_default();
                eprintln!("  next: quorate reap{bucket}{key} --yes");
            }
        }
        Ok(match tally {
            Tally { kept: 1.., .. } => Exit::Different,
            Tally { done: 0, nothing: 1.., .. } => Exit::NotFound,
            Tally { .. } => Exit::Done,
        })
    }
}

/// What became of the keys.
#[derive(Debug, Default)]
struct Tally {
    done: u64,
    kept: u64,
    nothing: u64,
}
