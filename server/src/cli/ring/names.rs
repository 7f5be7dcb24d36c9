//! What people call nodes, those included that are only staged to join, and changes in words.

use dynamo::{
    ident::NodeId,
    layout::{BucketProperties, ConflictRule, Layout, Level, Member, MemberState},
};

use crate::cli::{
    client::{Change, Subject},
    exit::CommandError,
};

/// The names of all nodes that are or shall be members.
#[derive(Debug)]
pub(in crate::cli) struct Names {
    known: Vec<(NodeId, String, MemberState)>,
}

impl Names {
    /// Of a layout and of what is staged on it.
    pub(in crate::cli) fn new(layout: &Layout, staged: &[Change]) -> Self {
        let entry = |member: &Member| (member.id, member.name.clone(), member.state);
        let mut known: Vec<_> = layout.members.iter().map(entry).collect();
        for change in staged {
            if let Change::Join(member) = change {
                known.retain(|(id, ..)| *id != member.id);
                known.push(entry(member));
            }
        }
        Self { known }
    }

    /// The node of this name, or of an identity that begins like this. Of two nodes with one name, the one that is not on its way out.
    pub(super) fn find(&self, text: &str) -> Result<NodeId, CommandError> {
        let named = self.known.iter().filter(|(_, name, _)| name == text);
        let mut named: Vec<_> = named.map(|(id, _, state)| (*state != MemberState::Active, *id)).collect();
        named.sort_unstable_by_key(|(is_leaving, _)| *is_leaving);
        if let Some((_, id)) = named.first() {
            return Ok(*id);
        }
        let is_hex = text.len() >= IDENTITY_DIGITS_MIN && text.bytes().all(|digit| digit.is_ascii_hexdigit());
        let wanted = text.to_ascii_lowercase();
        let mut alike = self.known.iter().filter(|(id, ..)| is_hex && id.to_string().starts_with(&wanted));
        match (alike.next(), alike.next()) {
            (Some((id, ..)), None) => Ok(*id),
            (Some(_), Some(_)) => {
                Err(CommandError::usage(format!("several nodes have identities that begin with {text}")))
            }
            (None, _) => Err(CommandError::usage(format!("neither the ring nor what is staged has a node {text}"))
                .next("quorate ring show, or quorate ring plan for nodes that wait to join")),
        }
    }

    /// What people call a node.
    pub(super) fn name(&self, node: NodeId) -> String {
        let known = self.known.iter().find(|(id, ..)| *id == node);
        known.map_or_else(|| node.to_string(), |(_, name, _)| name.clone())
    }

    /// A change in words.
    pub(super) fn describe(&self, change: &Change) -> String {
        match change {
            Change::Join(member) => join(member),
            Change::Leave(node) => format!("{} leaves", self.name(*node)),
            Change::Replace { old, new } => format!("{} takes the place of {}", self.name(*new), self.name(*old)),
            Change::Lost(node) => format!("{} leaves, and its copies are given up", self.name(*node)),
            Change::Reweight { node, weight } => format!("{} gets weight {weight}", self.name(*node)),
            Change::Zone { node, zone } => format!("{} stands in zone {zone}", self.name(*node)),
            Change::Addresses { node, addresses } => {
                format!("{} listens at {}", self.name(*node), addresses.join(" and "))
            }
            Change::Bucket { name, properties } => format!("bucket {name}: {}", bucket(properties)),
            Change::Replicas(replicas) => format!("{replicas} owners of each key"),
            Change::PartitionBits(bits) => format!("2^{bits} partitions"),
            Change::Undo(subject) => format!("nothing of what was staged about {}", self.subject(subject)),
        }
    }

    fn subject(&self, subject: &Subject) -> String {
        match subject {
            Subject::Node(node) => self.name(*node),
            Subject::Bucket(name) => format!("bucket {name}"),
            Subject::Replicas => "the number of owners".to_owned(),
            Subject::PartitionBits => "the number of partitions".to_owned(),
        }
    }
}

/// Fewest digits of an identity that name a node: eight are unique among thousands, and no name anybody would choose.
const IDENTITY_DIGITS_MIN: usize = 8;

fn join(member: &Member) -> String {
    let share = match (member.zone.is_empty(), member.weight) {
        (true, 0) => "with the zone and weight of the one it replaces".to_owned(),
        (true, weight) => format!("with weight {weight}"),
        (false, 0) => format!("in zone {}", member.zone),
        (false, weight) => format!("in zone {} with weight {weight}", member.zone),
    };
    format!("{} joins {share}, at {}", member.name, member.addresses.join(" and "))
}

/// The properties of a bucket in words.
fn bucket(properties: &BucketProperties) -> String {
    let mut words = vec![
        match properties.level {
            Level::One => "level one",
            Level::Available => "level available",
            Level::Quorum => "level quorum",
            Level::All => "level all",
        }
        .to_owned(),
    ];
    words.extend((properties.r > 0).then(|| format!("r {}", properties.r)));
    words.extend((properties.w > 0).then(|| format!("w {}", properties.w)));
    words.push(
        match properties.conflict_rule {
            ConflictRule::Siblings => "siblings are kept",
            ConflictRule::LastWriterWins => "the last writer wins",
        }
        .to_owned(),
    );
    words.join(", ")
}
