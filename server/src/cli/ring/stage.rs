//! `quorate ring stage`: says what shall change. Nothing does before `quorate ring commit`.

use clap::{Args, Subcommand, ValueEnum};
use dynamo::{
    ident::NodeId,
    layout::{ConflictRule, Layout, Level, Member, MemberState, PARTITION_BITS_MAX, REPLICAS_MAX},
};

use super::{names::Names, proposal};
use crate::cli::{
    arguments::{self, Cluster, LevelName},
    client::{self, Change, Session, Subject},
    exit::{CommandError, Exit},
    output::{self, Output},
};

/// Say what shall change in the ring; nothing does before it is committed.
#[derive(Debug, Args)]
#[command(
    after_help = "What is staged is known to every node that can be reached, so it does not matter which one is asked. Several changes become one
plan: quorate ring plan shows it, quorate ring commit has it done, quorate ring clear forgets it all.

A new node stages itself: quorate serve --join HOST:PORT. One that takes a dead node's place does, too: --join with --replace.

Examples:
  quorate ring stage leave node-2
  quorate ring stage replace node-2 node-4
  quorate ring stage replace node-2 node-4 --accept-loss
  quorate ring stage reweight node-1 200
  quorate ring stage bucket carts --level quorum"
)]
pub(super) struct Stage {
    #[command(subcommand)]
    change: StageCommand,
}

#[derive(Debug, Subcommand)]
enum StageCommand {
    /// A node joins. Nodes started with --join do this themselves.
    Join(Join),
    /// A node hands over what it holds and leaves; it may be told to stop when `ring transfers` is empty.
    Leave(Node),
    /// A node takes the place and the partitions of another that does not come back.
    Replace(Replace),
    /// A node gets another share of the data.
    Reweight(Reweight),
    /// A node stands in another zone.
    Zone(Zone),
    /// A node listens elsewhere.
    Address(Address),
    /// What operations on a bucket do when they do not say otherwise.
    Bucket(Bucket),
    /// How many owners a key has.
    Replicas(Replicas),
    /// How many partitions there are: a power of two, more than now. No data moves.
    Partitions(Partitions),
    /// A node leaves and its copies are given up: no quorum waits for them any more. Writes that only it has are lost.
    Lost(Node),
    /// What was staged about a node, a bucket or a number is not to be done after all.
    Undo(Undo),
}

#[derive(Debug, Args)]
struct Join {
    /// Its name, unlike any other's.
    name: String,

    /// Its identity: 32 digits, which it logs when it waits to join.
    #[arg(long, value_name = "ID", value_parser = identity)]
    id: u128,

    /// Where it listens; may be given several times, the most preferred first.
    #[arg(long, value_name = "HOST:PORT", required = true)]
    address: Vec<String>,

    /// The failure domain it stands in; a zone of its own if none is named.
    #[arg(long)]
    zone: Option<String>,

    /// Its share of the data relative to the others.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..))]
    weight: u32,

    #[command(flatten)]
    cluster: Cluster,
}

#[derive(Debug, Args)]
struct Node {
    /// Which node.
    #[arg(value_name = "NODE")]
    name: String,

    #[command(flatten)]
    cluster: Cluster,
}

#[derive(Debug, Args)]
struct Replace {
    /// Who does not come back.
    old: String,

    /// Who takes its place; it waits to join.
    new: String,

    /// No quorum waits for the old node's copies any more, where too few others survive. Writes that only it has are lost.
    #[arg(long)]
    accept_loss: bool,

    #[command(flatten)]
    cluster: Cluster,
}

#[derive(Debug, Args)]
struct Reweight {
    /// Which node.
    #[arg(value_name = "NODE")]
    name: String,

    /// Its weight: twice that of another is twice its data.
    #[arg(value_parser = clap::value_parser!(u32).range(1..))]
    weight: u32,

    #[command(flatten)]
    cluster: Cluster,
}

#[derive(Debug, Args)]
struct Zone {
    /// Which node.
    #[arg(value_name = "NODE")]
    name: String,

    /// Its zone.
    zone: String,

    #[command(flatten)]
    cluster: Cluster,
}

#[derive(Debug, Args)]
struct Address {
    /// Which node.
    #[arg(value_name = "NODE")]
    name: String,

    /// Where it listens, the most preferred first.
    #[arg(value_name = "HOST:PORT", required = true)]
    addresses: Vec<String>,

    #[command(flatten)]
    cluster: Cluster,
}

#[derive(Debug, Args)]
struct Bucket {
    /// The bucket.
    #[arg(value_parser = arguments::bucket)]
    bucket: String,

    /// How many owners operations wait for.
    #[arg(long)]
    level: Option<LevelName>,

    /// Owners that a read waits for, instead of what the level says; 0 leaves it to the level.
    #[arg(short, value_name = "COUNT", value_parser = clap::value_parser!(u8).range(0..=i64::from(REPLICAS_MAX)))]
    r: Option<u8>,

    /// Owners that must have a write on disk, instead of what the level says; 0 leaves it to the level.
    #[arg(short, value_name = "COUNT", value_parser = clap::value_parser!(u8).range(0..=i64::from(REPLICAS_MAX)))]
    w: Option<u8>,

    /// What becomes of values written at the same time.
    #[arg(long, value_name = "RULE")]
    conflict_rule: Option<ConflictRuleName>,

    #[command(flatten)]
    cluster: Cluster,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum ConflictRuleName {
    /// A read returns every concurrent value.
    Siblings,
    /// A read returns the concurrent value with the highest clock.
    LastWriterWins,
}

#[derive(Debug, Args)]
struct Replicas {
    /// How many.
    #[arg(value_parser = clap::value_parser!(u8).range(1..=i64::from(REPLICAS_MAX)))]
    count: u8,

    #[command(flatten)]
    cluster: Cluster,
}

#[derive(Debug, Args)]
struct Partitions {
    /// How many: a power of two.
    #[arg(value_parser = partition_bits, value_name = "COUNT")]
    bits: u8,

    #[command(flatten)]
    cluster: Cluster,
}

#[derive(Debug, Args)]
#[group(id = "what", required = true, multiple = false)]
struct Undo {
    /// About this node.
    #[arg(value_name = "NODE", group = "what")]
    name: Option<String>,

    /// About this bucket.
    #[arg(long, value_name = "NAME", value_parser = arguments::bucket, group = "what")]
    bucket: Option<String>,

    /// About the number of owners.
    #[arg(long, group = "what")]
    replicas: bool,

    /// About the number of partitions.
    #[arg(long, group = "what")]
    partitions: bool,

    #[command(flatten)]
    cluster: Cluster,
}

impl Stage {
    /// Carries out the command.
    pub(super) fn run(self) -> Result<Exit, CommandError> {
        let cluster = self.change.cluster().clone();
        client::block_on(async {
            let session = Session::connect(&cluster).await?;
            let staged = self.change.stage(&session, cluster.form.output).await;
            session.close().await;
            staged
        })
    }
}

impl StageCommand {
    fn cluster(&self) -> &Cluster {
        match self {
            Self::Join(change) => &change.cluster,
            Self::Leave(change) | Self::Lost(change) => &change.cluster,
            Self::Replace(change) => &change.cluster,
            Self::Reweight(change) => &change.cluster,
            Self::Zone(change) => &change.cluster,
            Self::Address(change) => &change.cluster,
            Self::Bucket(change) => &change.cluster,
            Self::Replicas(change) => &change.cluster,
            Self::Partitions(change) => &change.cluster,
            Self::Undo(change) => &change.cluster,
        }
    }

    async fn stage(&self, session: &Session, output: Output) -> Result<Exit, CommandError> {
        let before = session.staging().await?;
        let layout = session.layout_since(before.epoch).await;
        let changes = self.changes(&layout, &Names::new(&layout, &before.staged), &before.staged)?;
        let staging = session.stage(&changes).await?;
        let names = Names::new(&layout, &staging.staged);
        if output == Output::Json {
            return proposal::print(output, &staging, &names);
        }
        proposal::print_staged(&staging, &names)?;
        proposal::print_circumstances(&staging)?;
        if staging.plan.is_some() {
            output::print_line("next: quorate ring plan")?;
        }
        Ok(if staging.problem.is_empty() { Exit::Done } else { Exit::Refused })
    }

    fn changes(&self, layout: &Layout, names: &Names, staged: &[Change]) -> Result<Vec<Change>, CommandError> {
        Ok(match self {
            Self::Join(join) => vec![Change::Join(join.member())],
            Self::Leave(node) => vec![Change::Leave(names.find(&node.name)?)],
            Self::Replace(replace) => {
                let (old, new) = (names.find(&replace.old)?, names.find(&replace.new)?);
                let mut changes = vec![Change::Replace { old, new }];
                if replace.accept_loss {
                    changes.push(Change::Lost(old));
                }
                changes
            }
            Self::Reweight(Reweight { name, weight, .. }) => {
                vec![Change::Reweight { node: names.find(name)?, weight: *weight }]
            }
            Self::Zone(Zone { name, zone, .. }) => vec![Change::Zone { node: names.find(name)?, zone: zone.clone() }],
            Self::Address(Address { name, addresses, .. }) => {
                vec![Change::Addresses { node: names.find(name)?, addresses: addresses.clone() }]
            }
            Self::Bucket(bucket) => vec![bucket.change(layout, staged)],
            Self::Replicas(replicas) => vec![Change::Replicas(replicas.count)],
            Self::Partitions(partitions) => vec![partitions.change(layout)?],
            Self::Lost(node) => vec![Change::Lost(names.find(&node.name)?)],
            Self::Undo(undo) => vec![Change::Undo(undo.subject(names)?)],
        })
    }
}

impl Join {
    fn member(&self) -> Member {
        Member {
            id: NodeId(self.id),
            name: self.name.clone(),
            // As in a configuration file: a node that names none is a failure domain of its own.
            zone: self.zone.clone().unwrap_or_else(|| self.name.clone()),
            weight: self.weight,
            addresses: self.address.clone(),
            state: MemberState::Active,
        }
    }
}

impl Bucket {
    /// What is not named stays as it is staged, or as it is.
    fn change(&self, layout: &Layout, staged: &[Change]) -> Change {
        let staged = staged.iter().find_map(|change| match change {
            Change::Bucket { name, properties } if *name == self.bucket => Some(properties.clone()),
            _ => None,
        });
        let mut properties = staged.unwrap_or_else(|| layout.bucket(&self.bucket));
        if let Some(level) = self.level {
            properties.level = match level {
                LevelName::One => Level::One,
                LevelName::Available => Level::Available,
                LevelName::Quorum => Level::Quorum,
                LevelName::All => Level::All,
            };
        }
        properties.r = self.r.unwrap_or(properties.r);
        properties.w = self.w.unwrap_or(properties.w);
        match self.conflict_rule {
            Some(ConflictRuleName::Siblings) => properties.conflict_rule = ConflictRule::Siblings,
            Some(ConflictRuleName::LastWriterWins) => properties.conflict_rule = ConflictRule::LastWriterWins,
            None => {}
        }
        Change::Bucket { name: self.bucket.clone(), properties }
    }
}

impl Partitions {
    fn change(&self, layout: &Layout) -> Result<Change, CommandError> {
        if self.bits < layout.partition_bits {
            return Err(CommandError::usage(format!(
                "there are {} partitions, and they can be divided but not joined",
                layout.partitions()
            )));
        }
        Ok(Change::PartitionBits(self.bits))
    }
}

impl Undo {
    fn subject(&self, names: &Names) -> Result<Subject, CommandError> {
        Ok(match (&self.name, &self.bucket) {
            (Some(name), _) => Subject::Node(names.find(name)?),
            (None, Some(bucket)) => Subject::Bucket(bucket.clone()),
            (None, None) if self.replicas => Subject::Replicas,
            (None, None) => Subject::PartitionBits,
        })
    }
}

/// Reads a node's identity.
fn identity(text: &str) -> Result<u128, String> {
    let id = u128::from_str_radix(text, 16).ok().filter(|_| text.len() == 32);
    id.ok_or_else(|| "an identity has 32 digits of 0-9 and a-f".to_owned())
}

/// Reads a number of partitions.
fn partition_bits(text: &str) -> Result<u8, String> {
    let most = 1u32 << PARTITION_BITS_MAX;
    let count = text.parse::<u32>().ok().filter(|count| count.is_power_of_two() && *count <= most);
    let count = count.ok_or_else(|| format!("the number of partitions is a power of two, at most {most}"))?;
    u8::try_from(count.trailing_zeros()).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::{identity, partition_bits};

    #[test]
    fn partitions_are_counted_in_powers_of_two() {
        assert_eq!([partition_bits("1"), partition_bits("1024")], [Ok(0), Ok(10)]);
        for wrong in ["0", "1000", "-2", "", "2097152"] {
            assert!(partition_bits(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn identities_have_all_their_digits() {
        assert_eq!(identity("000000000000000000000000000000ff"), Ok(255));
        assert!(identity("ff").is_err() && identity("zz").is_err());
    }
}
