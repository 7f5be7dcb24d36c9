//! A list of nodes as it is written on the command line or stands in a configuration file, and changes to it.

use std::{collections::BTreeSet, path::Path, str::FromStr};

use dynamo::{
    ident::{Id, NodeId},
    layout::{Member, MemberState, NODES_MAX},
};

use crate::{cli::exit::CommandError, config::Source};

/// The weight of a node that names none: as in a configuration file.
const WEIGHT_DEFAULT: u32 = 100;

/// `name=n1,zone=a,weight=200`, or `count=10,zone=a` for ten nodes with made-up names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct NodeArgument {
    name: Option<String>,
    count: u32,
    zone: Option<String>,
    weight: u32,
}

impl FromStr for NodeArgument {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut node = Self { name: None, count: 1, zone: None, weight: WEIGHT_DEFAULT };
        let mut counted = false;
        for (at, part) in text.split(',').enumerate() {
            let (field, value) = match part.split_once('=') {
                Some((field, value)) => (field.trim(), value.trim()),
                None if at == 0 => ("name", part.trim()),
                None => return Err(format!("\"{part}\" is not field=value; the fields are name, count, zone, weight")),
            };
            if value.is_empty() {
                return Err(format!("{field} has no value"));
            }
            match field {
                "name" => node.name = Some(value.to_owned()),
                "zone" => node.zone = Some(value.to_owned()),
                "weight" => node.weight = positive(field, value)?,
                "count" => {
                    node.count = positive(field, value)?;
                    counted = true;
                }
                _ => return Err(format!("there is no field {field}; the fields are name, count, zone, weight")),
            }
        }
        match (&node.name, counted) {
            (None, false) => Err("a node needs a name".to_owned()),
            (Some(_), true) => Err("several nodes can't have one name: leave name or count out".to_owned()),
            (None, true) | (Some(_), false) if node.count as usize > NODES_MAX => {
                Err(format!("a cluster has at most {NODES_MAX} nodes"))
            }
            (None, true) | (Some(_), false) => Ok(node),
        }
    }
}

fn positive(field: &str, value: &str) -> Result<u32, String> {
    match value.parse() {
        Ok(number) if number > 0 => Ok(number),
        Ok(_) | Err(_) => Err(format!("{field} is a number of at least 1, not {value}")),
    }
}

/// `NAME=WEIGHT`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct WeightArgument {
    name: String,
    weight: u32,
}

impl FromStr for WeightArgument {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, weight) = text.rsplit_once('=').ok_or("a new weight is written NAME=WEIGHT")?;
        Ok(Self { name: name.to_owned(), weight: positive("the weight", weight)? })
    }
}

/// Changes to a list of nodes.
#[derive(Debug, Default)]
pub(super) struct Changes<'a> {
    /// Nodes that join.
    pub(super) add: &'a [NodeArgument],
    /// Nodes that hand over what they hold and then leave.
    pub(super) leave: &'a [String],
    /// Nodes that are gone.
    pub(super) remove: &'a [String],
    /// Nodes that get another weight.
    pub(super) reweight: &'a [WeightArgument],
}

impl Changes<'_> {
    /// Whether there are none.
    pub(super) fn is_empty(&self) -> bool {
        self.add.is_empty() && self.leave.is_empty() && self.remove.is_empty() && self.reweight.is_empty()
    }

    /// The list as it becomes.
    pub(super) fn apply(&self, cluster: &str, members: &[Member]) -> Result<Vec<Member>, CommandError> {
        let mut members = members.to_vec();
        for name in self.leave {
            find(&mut members, name)?.state = MemberState::Leaving;
        }
        for change in self.reweight {
            find(&mut members, &change.name)?.weight = change.weight;
        }
        for name in self.remove {
            find(&mut members, name)?.state = MemberState::Lost;
        }
        append(cluster, &mut members, self.add)?;
        Ok(members)
    }
}

fn find<'a>(members: &'a mut [Member], name: &str) -> Result<&'a mut Member, CommandError> {
    let names = members.iter().map(|member| member.name.as_str()).take(20).collect::<Vec<_>>().join(", ");
    members
        .iter_mut()
        .find(|member| member.name == name)
        .ok_or_else(|| CommandError::usage(format!("there is no node {name}; there are {names}")))
}

/// Adds the nodes of arguments to a list. Nodes without a zone get one of their own: nothing is known that they share.
pub(super) fn append(cluster: &str, members: &mut Vec<Member>, arguments: &[NodeArgument]) -> Result<(), CommandError> {
    let mut taken: BTreeSet<String> = members.iter().map(|member| member.name.clone()).collect();
    let mut next = 1;
    for argument in arguments {
        for _ in 0..argument.count {
            let name = match &argument.name {
                Some(name) => name.clone(),
                None => loop {
                    let made_up = format!("n{next}");
                    next += 1;
                    if !taken.contains(&made_up) {
                        break made_up;
                    }
                },
            };
            if !taken.insert(name.clone()) {
                return Err(CommandError::usage(format!("two nodes have the name {name}")));
            }
            let zone = argument.zone.clone().unwrap_or_else(|| name.clone());
            members.push(member(cluster, name, zone, argument.weight, Vec::new()));
        }
    }
    Ok(())
}

fn member(cluster: &str, name: String, zone: String, weight: u32, addresses: Vec<String>) -> Member {
    // The same digest by which nodes of a configured cluster get their identity.
    let id = NodeId(u128::from_be_bytes(Id::of(cluster.as_bytes(), name.as_bytes()).0));
    Member { id, name, zone, weight, addresses, state: MemberState::Active }
}

/// The nodes of a configuration file.
#[derive(Debug)]
pub(super) struct Configured {
    /// The cluster's name.
    pub(super) cluster: String,
    /// N.
    pub(super) replicas: u8,
    /// The nodes.
    pub(super) members: Vec<Member>,
}

impl Configured {
    /// Reads the nodes that a node's configuration file lists.
    pub(super) fn read(path: &Path) -> Result<Self, CommandError> {
        let config = Source::defaults().file(path).load().map_err(|error| {
            CommandError::usage(error.to_string()).next(format!("quorate config check {}", path.display()))
        })?;
        let members = config
            .members()
            .into_iter()
            .map(|node| member(&config.cluster.name, node.name, node.zone, node.weight, vec![node.address]))
            .collect();
        Ok(Self { cluster: config.cluster.name, replicas: config.cluster.replicas, members })
    }
}

#[cfg(test)]
mod tests {
    use dynamo::layout::MemberState;

    use super::{Changes, Configured, NodeArgument, append};

    fn parse(text: &str) -> Result<NodeArgument, String> {
        text.parse()
    }

    #[test]
    fn a_node_has_a_name_or_a_count_a_zone_and_a_weight() {
        let mut members = Vec::new();
        let arguments = ["name=a,zone=z,weight=3", "b", "count=2,zone=y"].map(|text| parse(text).unwrap());
        append("c", &mut members, &arguments).unwrap();
        let shown: Vec<_> =
            members.iter().map(|member| format!("{} {} {}", member.name, member.zone, member.weight)).collect();
        assert_eq!(shown, ["a z 3", "b b 100", "n1 y 100", "n2 y 100"]);
    }

    #[test]
    fn a_wrong_node_is_refused_with_the_reason() {
        for (text, reason) in [
            ("zone=a", "needs a name"),
            ("name=a,count=2", "one name"),
            ("a,weight=0", "at least 1"),
            ("a,weight=x", "at least 1"),
            ("a,colour=red", "no field colour"),
            ("a,zone", "not field=value"),
            ("name=", "no value"),
            ("count=70000", "at most 65535"),
        ] {
            let error = parse(text).expect_err(text);
            assert!(error.contains(reason), "{error} should contain {reason}");
        }
        let twice = [parse("a").unwrap(), parse("a").unwrap()];
        assert!(append("c", &mut Vec::new(), &twice).is_err());
    }

    #[test]
    fn changes_name_nodes_that_exist() {
        let mut members = Vec::new();
        append("c", &mut members, &["a", "b", "c"].map(|text| parse(text).unwrap())).unwrap();
        let (add, leave, remove) = ([parse("d").unwrap()], ["a".to_owned()], ["b".to_owned()]);
        let reweight = ["c=5".parse().unwrap()];
        let changes = Changes { add: &add, leave: &leave, remove: &remove, reweight: &reweight };
        let changed = changes.apply("c", &members).unwrap();
        let names: Vec<_> = changed.iter().map(|member| (member.name.as_str(), member.weight)).collect();
        assert_eq!(names, [("a", 100), ("b", 100), ("c", 5), ("d", 100)]);
        assert_eq!([changed[0].state, changed[1].state], [MemberState::Leaving, MemberState::Lost]);
        let unknown = ["x".to_owned()];
        let error = Changes { remove: &unknown, ..Changes::default() }.apply("c", &members).unwrap_err();
        assert!(error.message.contains("a, b, c"), "{error}");
    }

    #[test]
    fn the_nodes_of_a_configuration_file_are_read() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let text = r#"
            name = "n1"
            [cluster]
            name = "shop"
            replicas = 2
            secret = "long enough for a test"
            members = [
                { name = "n1", address = "127.0.0.1:7601", zone = "a", weight = 4 },
                { name = "n2", address = "127.0.0.1:7602", zone = "b" },
            ]
        "#;
        std::fs::write(file.path(), text).unwrap();
        let configured = Configured::read(file.path()).unwrap();
        assert_eq!((configured.cluster.as_str(), configured.replicas), ("shop", 2));
        let nodes: Vec<_> = configured.members.iter().map(|node| (node.name.as_str(), node.zone.as_str())).collect();
        assert_eq!(nodes, [("n1", "a"), ("n2", "b")]);
        assert_eq!(configured.members[0].weight, 4);
        std::fs::write(file.path(), "nonsense = 1").unwrap();
        let error = Configured::read(file.path()).unwrap_err();
        assert!(error.message.contains("nonsense") && error.next.is_some(), "{error}");
    }
}
