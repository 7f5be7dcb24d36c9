//! What all nodes hold under one key, judged: whether the owners agree, and everything that speaks against removing it for good.
//! Pure; the commands that show it and act on it stand elsewhere.

use std::fmt::Write as _;

use dynamo::layout::Layout;

use super::client::{Answer, Content, Held, Inspection, Object, Version};

/// What every node of the ring holds under one key.
#[derive(Debug)]
pub struct Holdings {
    /// Every node of the ring, owner or not, with its answer.
    pub nodes: Vec<Holder>,
}

/// A node.
#[derive(Debug)]
pub struct Holder {
    /// Whether the ring names it as an owner.
    pub is_owner: bool,
    /// What it answered.
    pub node: Answer<Inspection>,
}

/// Whether the owners hold the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Agreement {
    /// None of them holds anything.
    Nothing,
    /// All of them hold the record with this checksum.
    Same(u128),
    /// They don't, or some could not be asked; each difference as a sentence.
    Different(Vec<String>),
}

impl Holdings {
    /// Brings answers and ring together.
    pub fn new(layout: &Layout, partition: u32, answers: Vec<Answer<Inspection>>) -> Self {
        let owners: Vec<_> = layout.owners(partition).collect();
        let nodes = answers.into_iter().map(|node| Holder { is_owner: owners.contains(&node.index), node }).collect();
        Self { nodes }
    }

    /// The owners.
    pub fn owners(&self) -> impl Iterator<Item = &Holder> {
        self.nodes.iter().filter(|holder| holder.is_owner)
    }

    /// Whether the owners hold the same.
    pub fn agreement(&self) -> Agreement {
        let mut problems = Vec::new();
        let mut digests: Vec<(u128, Vec<&str>)> = Vec::new();
        let mut without = Vec::new();
        for Holder { node, .. } in self.owners() {
            match &node.answer {
                Err(reason) => problems.push(format!("{} does not answer: {reason}", node.name)),
                Ok(Inspection { held: Held::Corrupt, .. }) => {
                    problems.push(format!("{} holds a record that can't be verified", node.name));
                }
                Ok(Inspection { held: Held::Absent, .. }) => without.push(&*node.name),
                Ok(Inspection { held: Held::Object { digest, .. }, .. }) => {
                    match digests.iter_mut().find(|(known, _)| *known == *digest) {
                        Some((_, names)) => names.push(&node.name),
                        None => digests.push((*digest, vec![&node.name])),
                    }
                }
            }
        }
        if problems.is_empty() && digests.is_empty() {
            return Agreement::Nothing;
        }
        match &digests[..] {
            [(digest, _)] if problems.is_empty() && without.is_empty() => return Agreement::Same(*digest),
            _ => {}
        }
        if !digests.is_empty() {
            problems.extend(without.iter().map(|name| format!("{name} holds nothing")));
        }
        if digests.len() > 1 || !problems.is_empty() {
            let records = digests.iter().map(|(digest, names)| format!("{} hold(s) {digest:032x}", names.join(", ")));
            problems.extend(records);
        }
        Agreement::Different(problems)
    }

    /// Everything that speaks against removing the key's record at every owner, each as a sentence; nothing if it may be removed.
    /// `now` decides what has expired.
    pub fn objections(&self, now: u64) -> Vec<String> {
        let mut objections = Vec::new();
        match self.agreement() {
            Agreement::Nothing => objections.push("no owner holds anything: there is nothing to remove".to_owned()),
            Agreement::Same(_) => {}
            Agreement::Different(differences) => {
                objections.push(format!("the owners do not hold the same ({})", differences.join("; ")));
            }
        }
        for Holder { is_owner, node } in &self.nodes {
            match &node.answer {
                // An owner's silence has been said already.
                Err(_) if *is_owner => {}
                Err(reason) => objections.push(format!("{} does not answer, and may keep a hint: {reason}", node.name)),
                Ok(inspection) => objections.extend(objections_of(&node.name, *is_owner, inspection, now)),
            }
        }
        objections
    }

    /// The checksum that all owners hold, if they agree.
    pub fn digest(&self) -> Option<u128> {
        match self.agreement() {
            Agreement::Same(digest) => Some(digest),
            Agreement::Nothing | Agreement::Different(_) => None,
        }
    }
}

fn objections_of(name: &str, is_owner: bool, inspection: &Inspection, now: u64) -> Vec<String> {
    let mut objections = Vec::new();
    if inspection.is_owner != is_owner {
        objections.push(format!("{name} follows another ring"));
    }
    if let Held::Object { object, .. } = &inspection.held {
        let live = object.versions.iter().filter(|version| is_live(version, now)).count();
        if live > 0 {
            objections.push(format!("{name} holds {live} live version(s)"));
        }
    }
    for hint in &inspection.hints {
        objections.push(format!("{name} keeps a hint for the key, for node {}", hint.target));
    }
    if inspection.running > 0 {
        objections.push(format!("{} operation(s) run at {name} on the key's partition", inspection.running));
    }
    objections
}

/// Whether readers see a version.
pub fn is_live(version: &Version, now: u64) -> bool {
    match version.content {
        Content::Tombstone => false,
        Content::Value { .. } => !version.is_expired(now),
    }
}

/// A causal context as people compare it: each actor's short name with the highest sequence number known of it.
pub fn context(object: &Object) -> String {
    let mut text = String::new();
    for (actor, seq) in object.context.iter() {
        let comma = if text.is_empty() { "" } else { ", " };
        // Writing to a String can't fail.
        let _ = write!(text, "{comma}{:08x}:{seq}", actor.0 >> 32);
    }
    text
}

#[cfg(test)]
mod tests;
