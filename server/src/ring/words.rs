//! What a layout changed, in words for people: a history is read by somebody who wants to know what was done, not what it led to.

use dynamo::layout::{Layout, Member, MemberState};

/// What a layout changed; `old` is the one before it, if that is known here.
pub(crate) fn changes(old: Option<&Layout>, new: &Layout) -> Vec<String> {
    let Some(old) = old else { return first(new) };
    let mut words = Vec::new();
    for (at, member) in new.members.iter().enumerate() {
        match old.members.get(at).filter(|before| before.id == member.id) {
            Some(before) => changed(before, member, &mut words),
            None => words.push(joined(member)),
        }
    }
    if old.replicas != new.replicas {
        words.push(format!("{} owners of each key instead of {}", new.replicas, old.replicas));
    }
    if old.partition_bits != new.partition_bits {
        words.push(format!("2^{} partitions instead of 2^{}", new.partition_bits, old.partition_bits));
    }
    for (name, properties) in &new.buckets {
        if old.buckets.get(name) != Some(properties) {
            words.push(format!("bucket {name} has other properties"));
        }
    }
    for name in old.buckets.keys().filter(|name| !new.buckets.contains_key(*name)) {
        words.push(format!("bucket {name} has the usual properties again"));
    }
    if elector_names(old) != elector_names(new) {
        words.push(format!("{} decide about the next change", elector_names(new).join(", ")));
    }
    words
}

/// How many partitions a layout gave other owners.
pub(crate) fn changed_partitions(layout: &Layout) -> u32 {
    let changed = (0..layout.partitions()).filter(|partition| layout.spans.of(*partition).since == layout.epoch);
    u32::try_from(changed.count()).unwrap_or(u32::MAX)
}

/// How many nodes a layout has, those aside that are gone.
pub(crate) fn nodes(layout: &Layout) -> u32 {
    let present = layout.members.iter().filter(|member| member.state != MemberState::Gone);
    u32::try_from(present.count()).unwrap_or(u32::MAX)
}

fn first(layout: &Layout) -> Vec<String> {
    let names: Vec<&str> = layout.members.iter().map(|member| member.name.as_str()).collect();
    match layout.epoch {
        1 => vec![format!("founded with {}", names.join(", "))],
        _ => vec!["the layout before it is not known here any more".to_owned()],
    }
}

fn joined(member: &Member) -> String {
    let Member { name, zone, weight, addresses, .. } = member;
    format!("{name} joined in zone {zone} with weight {weight}, at {}", addresses.join(" and "))
}

fn changed(before: &Member, after: &Member, words: &mut Vec<String>) {
    let name = &after.name;
    if before.state != after.state {
        words.push(match after.state {
            MemberState::Active => format!("{name} stays after all"),
            MemberState::Leaving => format!("{name} leaves"),
            MemberState::Lost => format!("{name} leaves, and its copies were given up"),
            MemberState::Gone => format!("{name} is gone"),
        });
    }
    if before.name != after.name {
        words.push(format!("{} is called {name}", before.name));
    }
    if before.weight != after.weight {
        words.push(format!("{name} got weight {} instead of {}", after.weight, before.weight));
    }
    if before.zone != after.zone {
        words.push(format!("{name} stands in zone {} instead of {}", after.zone, before.zone));
    }
    if before.addresses != after.addresses {
        words.push(format!("{name} listens at {}", after.addresses.join(" and ")));
    }
}

fn elector_names(layout: &Layout) -> Vec<&str> {
    let mut names: Vec<&str> = layout
        .electors
        .iter()
        .filter_map(|elector| layout.member(*elector))
        .map(|member| member.name.as_str())
        .collect();
    names.sort_unstable();
    names
}

#[cfg(test)]
mod tests {
    use super::{changed_partitions, changes, nodes};
    use crate::{config::Config, node::first_layout};
    use dynamo::{ident::NodeId, layout::MemberState};

    #[test]
    fn a_layout_is_told_as_what_was_done() {
        let old = first_layout(&Config::default(), NodeId(1)).unwrap();
        assert_eq!(changes(None, &old), [format!("founded with {}", old.members[0].name)]);
        let mut new = old.clone();
        new.epoch = 2;
        let mut newcomer = old.members[0].clone();
        newcomer.id.0 += 1;
        newcomer.name = "n9".to_owned();
        new.members.push(newcomer);
        new.members[0].state = MemberState::Leaving;
        new.members[0].weight += 1;
        new.replicas = 5;
        let told = changes(Some(&old), &new).join("\n");
        for words in ["leaves", "n9 joined in zone", "got weight", "5 owners of each key instead of"] {
            assert!(told.contains(words), "{words}: {told}");
        }
        assert_eq!((nodes(&new), changed_partitions(&new)), (2, 0));
    }
}
