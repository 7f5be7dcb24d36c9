//! What is said to `quorate testkit` and what it answers: a JSON object a line, each way. Documented for writers of clients
//! in `docs/commands.md`; nothing is done here.

use serde::Deserialize;
use serde_json::{Map, Value, json};

/// A command that can be carried out: its nodes exist, its groups are groups.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Command {
    Kill(Vec<usize>),
    Stop(Vec<usize>),
    Restart(Vec<usize>),
    Pause(Vec<usize>),
    Resume(Vec<usize>),
    Partition(Split),
    Heal,
    /// Another node joins the ring.
    Add,
    /// A node leaves the ring.
    Remove(usize),
    /// A node is lost with its data, and a new one takes its place.
    Replace(usize),
    Log(usize),
    Status,
}

/// Who can reach whom: only those of the same group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Split {
    pub(super) groups: Vec<Vec<usize>>,
    /// The group in which the clients are.
    pub(super) clients: usize,
}

/// A line that was read: what to answer under, and what to do or what is wrong.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Request {
    pub(super) id: Value,
    pub(super) command: Result<Command, String>,
}

/// A line as it stands there.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Fields {
    #[serde(default, rename = "id")]
    _id: Value,
    #[serde(rename = "do")]
    verb: Verb,
    node: Option<Name>,
    nodes: Option<Vec<Name>>,
    groups: Option<Vec<Vec<Name>>>,
    clients: Option<usize>,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Verb {
    Kill,
    Stop,
    Restart,
    Pause,
    Resume,
    Partition,
    Heal,
    Add,
    Remove,
    Replace,
    Log,
    Status,
}

/// A node, by its number from 0 or by its name.
#[derive(Deserialize)]
#[serde(untagged, expecting = "a node is a number from 0 or a name")]
enum Name {
    Number(usize),
    Text(String),
}

impl Request {
    /// Reads a line for a cluster whose nodes have these names.
    pub(super) fn parse(line: &[u8], names: &[String]) -> Self {
        let value: Value = match serde_json::from_slice(line) {
            Ok(value) => value,
            Err(error) => return Self { id: Value::Null, command: Err(format!("not JSON: {error}")) },
        };
        let id = value.get("id").cloned().unwrap_or_default();
        let fields = serde_json::from_value(value).map_err(|error| format!("not a command: {error}"));
        Self { id, command: fields.and_then(|fields| command(fields, names)) }
    }

    /// The answer to a command that was carried out.
    pub(super) fn done(self, more: Map<String, Value>) -> Value {
        let mut answer = json!({ "id": self.id, "ok": true });
        if let Value::Object(fields) = &mut answer {
            fields.extend(more);
        }
        answer
    }

    /// The answer to one that was not.
    pub(super) fn failed(self, error: &str) -> Value {
        json!({ "id": self.id, "ok": false, "error": error })
    }
}

fn command(fields: Fields, names: &[String]) -> Result<Command, String> {
    let Fields { verb, node, nodes, groups, clients, .. } = fields;
    if !matches!(verb, Verb::Partition) && (groups.is_some() || clients.is_some()) {
        return Err("only partition has groups and clients".into());
    }
    let named = match (node, nodes) {
        (Some(node), None) => Some(vec![node]),
        (None, nodes) => nodes,
        (Some(_), Some(_)) => return Err("write node or nodes, not both".into()),
    };
    match verb {
        Verb::Partition | Verb::Heal | Verb::Add | Verb::Status if named.is_some() => {
            Err("this command names no nodes".into())
        }
        Verb::Partition => split(groups.unwrap_or_default(), clients.unwrap_or(0), names).map(Command::Partition),
        Verb::Heal => Ok(Command::Heal),
        Verb::Add => Ok(Command::Add),
        Verb::Remove => one("remove", named, names).map(Command::Remove),
        Verb::Replace => one("replace", named, names).map(Command::Replace),
        Verb::Status => Ok(Command::Status),
        Verb::Kill => some(named, names).map(Command::Kill),
        Verb::Stop => some(named, names).map(Command::Stop),
        Verb::Restart => some(named, names).map(Command::Restart),
        Verb::Pause => some(named, names).map(Command::Pause),
        Verb::Resume => some(named, names).map(Command::Resume),
        Verb::Log => one("log", named, names).map(Command::Log),
    }
}

/// The only node of a command.
fn one(verb: &str, named: Option<Vec<Name>>, names: &[String]) -> Result<usize, String> {
    match some(named, names)?[..] {
        [node] => Ok(node),
        _ => Err(format!("{verb} takes one node")),
    }
}

/// The nodes of a command that must name at least one.
fn some(named: Option<Vec<Name>>, names: &[String]) -> Result<Vec<usize>, String> {
    let named = named.filter(|named| !named.is_empty()).ok_or("the command names no node: \"node\": 0")?;
    let mut numbers = named.into_iter().map(|name| number(name, names)).collect::<Result<Vec<_>, _>>()?;
    numbers.sort_unstable();
    numbers.dedup();
    Ok(numbers)
}

fn split(groups: Vec<Vec<Name>>, clients: usize, names: &[String]) -> Result<Split, String> {
    let numbers = |group: Vec<Name>| group.into_iter().map(|name| number(name, names)).collect();
    let groups = groups.into_iter().map(numbers).collect::<Result<Vec<Vec<usize>>, String>>()?;
    if groups.is_empty() {
        return Err("the command names no groups: \"groups\": [[0], [1, 2]]".into());
    }
    if clients >= groups.len() {
        return Err(format!("clients are in one of the groups, 0 to {}, not in {clients}", groups.len() - 1));
    }
    let mut all = groups.concat();
    all.sort_unstable();
    match all.windows(2).find(|pair| pair[0] == pair[1]) {
        Some(pair) => Err(format!("node {} stands in the groups more than once", pair[0])),
        None => Ok(Split { groups, clients }),
    }
}

fn number(name: Name, names: &[String]) -> Result<usize, String> {
    let unknown =
        |name: &str| format!("there is no node {name}: nodes are 0 to {}, or {}", names.len() - 1, names.join(", "));
    match name {
        Name::Number(number) if number < names.len() => Ok(number),
        Name::Number(number) => Err(unknown(&number.to_string())),
        Name::Text(text) => names.iter().position(|name| *name == text).ok_or_else(|| unknown(&text)),
    }
}

#[cfg(test)]
mod tests {
    use super::{Command, Request, Split};

    fn parse(line: &str) -> Result<Command, String> {
        Request::parse(line.as_bytes(), &["n1", "n2", "n3"].map(String::from)).command
    }

    #[test]
    fn nodes_are_named_by_number_or_by_name_one_or_several() {
        assert_eq!(parse(r#"{"do":"kill","node":2}"#), Ok(Command::Kill(vec![2])));
        assert_eq!(parse(r#"{"do":"pause","nodes":["n3",0,"n1"]}"#), Ok(Command::Pause(vec![0, 2])));
        assert_eq!(parse(r#"{"do":"log","node":"n2"}"#), Ok(Command::Log(1)));
        assert_eq!(parse(r#"{"id":"x","do":"heal"}"#), Ok(Command::Heal));
        assert_eq!(parse(r#"{"do":"add"}"#), Ok(Command::Add));
        assert_eq!(parse(r#"{"do":"remove","node":0}"#), Ok(Command::Remove(0)));
        assert_eq!(parse(r#"{"do":"replace","node":"n2"}"#), Ok(Command::Replace(1)));
    }

    #[test]
    fn groups_are_disjoint_and_clients_are_in_one_of_them() {
        let split = |groups, clients| Ok(Command::Partition(Split { groups, clients }));
        assert_eq!(parse(r#"{"do":"partition","groups":[[0],[1,2]]}"#), split(vec![vec![0], vec![1, 2]], 0));
        assert_eq!(parse(r#"{"do":"partition","groups":[["n1"],[]],"clients":1}"#), split(vec![vec![0], vec![]], 1));
        assert!(parse(r#"{"do":"partition","groups":[[0],[1,0]]}"#).unwrap_err().contains("more than once"));
        assert!(parse(r#"{"do":"partition","groups":[[0],[1]],"clients":2}"#).unwrap_err().contains("0 to 1"));
        assert!(parse(r#"{"do":"partition"}"#).unwrap_err().contains("names no groups"));
    }

    #[test]
    fn what_is_wrong_is_said_under_the_id_of_the_line() {
        for (line, part) in [
            ("", "not JSON"),
            ("\u{0}", "not JSON"),
            ("[]", "not a command"),
            (r#"{"do":"explode","node":0}"#, "explode"),
            (r#"{"do":"kill"}"#, "names no node"),
            (r#"{"do":"kill","nodes":[]}"#, "names no node"),
            (r#"{"do":"kill","node":3}"#, "nodes are 0 to 2"),
            (r#"{"do":"kill","node":-1}"#, "a node is a number"),
            (r#"{"do":"kill","node":"n4"}"#, "no node n4"),
            (r#"{"do":"kill","node":0,"nodes":[1]}"#, "not both"),
            (r#"{"do":"kill","node":0,"groups":[[0]]}"#, "only partition"),
            (r#"{"do":"heal","node":0}"#, "names no nodes"),
            (r#"{"do":"log","nodes":[0,1]}"#, "one node"),
            (r#"{"do":"remove","nodes":[0,1]}"#, "one node"),
            (r#"{"do":"add","node":0}"#, "names no nodes"),
            (r#"{"do":"kill","nod":0}"#, "nod"),
        ] {
            let error = parse(line).unwrap_err();
            assert!(error.contains(part), "{line}: {error}");
        }
        let request = Request::parse(br#"{"id":[7],"do":1}"#, &[]);
        assert_eq!(request.id, serde_json::json!([7]));
        assert!(request.failed("why").to_string().contains(r#""id":[7]"#));
    }
}
