//! `quorate kv inspect`: everything the cluster holds under one key, place by place, and what follows from it.

use clap::Args;
use dynamo::layout::Layout;
use serde_json::{Value, json};

use super::KeyArguments;
use crate::cli::{
    arguments::Cluster,
    client::{self, Content, Held, Session, Version, clock_now},
    exit::{CommandError, Exit},
    holdings::{self, Agreement, Holder, Holdings},
    notation::{cell, insert_json},
    output::{self, Column, Output, Rows},
};

/// Show every replica's versions of a key: owners, hints for those that are away, and whether they agree.
#[derive(Debug, Args)]
#[command(
    after_help = "Every node of the ring is asked by itself; nothing is read at a level and nothing is repaired. A version is named by the
process that minted it and its count; CONTEXT is everything a replica knows to have existed, so a version that it covers and does
not hold was overwritten. Exit code 3: no node holds anything. Exit code 5: the owners do not hold the same. Exit code 6: a node
did not answer.

Examples:
  quorate kv inspect cart
  quorate kv inspect --bucket sessions 9f2 --output json"
)]
pub(super) struct Inspect {
    #[command(flatten)]
    key: KeyArguments,

    #[command(flatten)]
    cluster: Cluster,
}

impl Inspect {
    /// Carries out the command.
    pub(super) fn run(self) -> Result<Exit, CommandError> {
        let key = self.key.key_bytes()?;
        let (layout, partition, holdings) = client::block_on(async {
            let session = Session::connect(&self.cluster).await?;
            let layout = session.layout();
            let partition = session.partition(self.key.key(&key));
            let holdings = Holdings::new(&layout, partition, session.inspect(self.key.key(&key)).await);
            session.close().await;
            Ok((layout, partition, holdings))
        })?;
        let now = clock_now();
        match self.cluster.form.output {
            Output::Table => self.print(&layout, partition, &holdings, now)?,
            Output::Json => output::print_json(&self.json(&key, &layout, partition, &holdings, now))?,
        }
        Ok(exit(&holdings))
    }

    fn print(&self, layout: &Layout, partition: u32, holdings: &Holdings, now: u64) -> Result<(), CommandError> {
        let owners: Vec<&str> = holdings.owners().map(|holder| &*holder.node.name).collect();
        output::print_line(format_args!(
            "partition {partition} of {}, owners {}\n",
            output::grouped(layout.partitions().into()),
            owners.join(", ")
        ))?;
        table(layout, holdings, now).print()?;
        output::print_line("")?;
        for (place, held) in places(layout, holdings) {
            if let Held::Object { object, digest } = held {
                let context = holdings::context(object);
                output::print_line(format_args!("{place}: context {context}; record {digest:032x}"))?;
            }
        }
        self.print_judgement(holdings, now)
    }

    fn print_judgement(&self, holdings: &Holdings, now: u64) -> Result<(), CommandError> {
        match holdings.agreement() {
            Agreement::Nothing => output::print_line("no owner holds anything under this key")?,
            Agreement::Same(_) => output::print_line("the owners hold the same")?,
            Agreement::Different(differences) => {
                output::print_line("the owners do not hold the same:")?;
                for difference in differences {
                    output::print_line(format_args!("  {difference}"))?;
                }
                output::print_line(
                    "  next: a read at level `all` repairs this key; `quorate repair run --wait` compares everything",
                )?;
            }
        }
        match &holdings.objections(now)[..] {
            [] => output::print_line(format_args!(
                "nothing in it is live, and nothing speaks against removing it\n  next: quorate reap {} --yes",
                self.key.repeated()
            ))?,
            objections if holdings.agreement() != Agreement::Nothing => {
                output::print_line("it is not removed for good because")?;
                for objection in objections {
                    output::print_line(format_args!("  {objection}"))?;
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn json(&self, key: &[u8], layout: &Layout, partition: u32, holdings: &Holdings, now: u64) -> Value {
        let mut answer = serde_json::Map::new();
        answer.insert("bucket".into(), self.key.bucket.bucket.clone().into());
        insert_json(&mut answer, "key", key);
        answer.insert("partition".into(), partition.into());
        let owners: Vec<_> = holdings.owners().map(|holder| holder.node.name.clone()).collect();
        answer.insert("owners".into(), owners.into());
        answer.insert("agree".into(), (!matches!(holdings.agreement(), Agreement::Different(_))).into());
        answer.insert("not_reaped_because".into(), holdings.objections(now).into());
        let nodes: Vec<Value> = holdings.nodes.iter().map(|holder| holder_json(layout, holder, now)).collect();
        answer.insert("nodes".into(), nodes.into());
        answer.into()
    }
}

fn exit(holdings: &Holdings) -> Exit {
    let is_any_silent = holdings.nodes.iter().any(|holder| holder.node.answer.is_err());
    let is_any_hint = holdings.nodes.iter().flat_map(|holder| &holder.node.answer).any(|node| !node.hints.is_empty());
    match holdings.agreement() {
        _ if is_any_silent => Exit::Unavailable,
        Agreement::Different(_) => Exit::Different,
        Agreement::Nothing if !is_any_hint => Exit::NotFound,
        Agreement::Nothing | Agreement::Same(_) => Exit::Done,
    }
}

/// Every place where something is or should be, with what is there. Nodes that did not answer have none.
fn places<'a>(layout: &Layout, holdings: &'a Holdings) -> Vec<(String, &'a Held)> {
    let mut places = Vec::new();
    for Holder { is_owner, node } in &holdings.nodes {
        let Ok(inspection) = &node.answer else { continue };
        if *is_owner || inspection.held != Held::Absent {
            places.push((node.name.clone(), &inspection.held));
        }
        for hint in &inspection.hints {
            places.push((format!("{}, hint for {}", node.name, name_of(layout, hint.target)), &hint.held));
        }
    }
    places
}

fn name_of(layout: &Layout, target: dynamo::ident::NodeId) -> String {
    let member = layout.members.iter().find(|member| member.id == target);
    member.map_or_else(|| format!("former node {target}"), |member| member.name.clone())
}

fn table(layout: &Layout, holdings: &Holdings, now: u64) -> Rows {
    let mut rows = Rows::new(&[
        Column::Text("WHERE"),
        Column::Text("VERSION"),
        Column::Text("WRITTEN"),
        Column::Text("EXPIRES"),
        Column::Text("WHAT"),
        Column::Number("BYTES"),
        Column::Text("VALUE"),
    ]);
    let mut note = |place: String, what: &str| {
        let dash = || "-".to_owned();
        rows.push([place, dash(), dash(), dash(), what.to_owned(), dash(), String::new()]);
    };
    for holder in holdings.nodes.iter().filter(|holder| holder.node.answer.is_err()) {
        note(holder.node.name.clone(), "no answer");
    }
    let places = places(layout, holdings);
    for (place, held) in &places {
        match held {
            Held::Absent => note(place.clone(), "nothing"),
            Held::Corrupt => note(place.clone(), "unreadable"),
            Held::Object { .. } => {}
        }
    }
    for (place, held) in places {
        let Held::Object { object, .. } = held else { continue };
        for version in &object.versions {
            rows.push([
                place.clone(),
                dot(version),
                output::clock(version.clock),
                if version.expires == 0 { "never".to_owned() } else { output::clock(version.expires) },
                kind(version, now).to_owned(),
                output::grouped(version.content.len()),
                version.content.bytes().map(|bytes| cell(bytes)).unwrap_or_default(),
            ]);
        }
    }
    rows
}

fn dot(version: &Version) -> String {
    format!("{:08x}:{}", version.dot.actor.0 >> 32, version.dot.seq)
}

fn kind(version: &Version, now: u64) -> &'static str {
    match version.content {
        Content::Tombstone => "tombstone",
        Content::Value { .. } if version.is_expired(now) => "expired",
        Content::Value { .. } => "value",
    }
}

fn holder_json(layout: &Layout, holder: &Holder, now: u64) -> Value {
    let Holder { is_owner, node } = holder;
    match &node.answer {
        Err(reason) => json!({"node": node.name, "owner": is_owner, "error": reason.to_string()}),
        Ok(inspection) => json!({
            "node": node.name,
            "owner": is_owner,
            "held": held_json(&inspection.held, now),
            "hints": inspection.hints.iter().map(|hint| json!({
                "for": name_of(layout, hint.target),
                "held": held_json(&hint.held, now),
            })).collect::<Vec<_>>(),
            "running": inspection.running,
        }),
    }
}

fn held_json(held: &Held, now: u64) -> Value {
    match held {
        Held::Absent => Value::Null,
        Held::Corrupt => json!({"unreadable": true}),
        Held::Object { object, digest } => json!({
            "digest": format!("{digest:032x}"),
            "context": object.context.iter()
                .map(|(actor, seq)| json!({"actor": format!("{:016x}", actor.0), "seq": seq})).collect::<Vec<_>>(),
            "versions": object.versions.iter().map(|version| version_json(version, now)).collect::<Vec<_>>(),
        }),
    }
}

fn version_json(version: &Version, now: u64) -> Value {
    let mut object = serde_json::Map::new();
    object.insert("actor".into(), format!("{:016x}", version.dot.actor.0).into());
    object.insert("seq".into(), version.dot.seq.into());
    object.insert("clock".into(), version.clock.into());
    object.insert("written".into(), output::clock(version.clock).into());
    let expires = (version.expires != 0).then(|| output::clock(version.expires));
    object.insert("expires".into(), expires.into());
    object.insert("kind".into(), kind(version, now).into());
    if let Content::Value { bytes, hash } = &version.content {
        insert_json(&mut object, "value", bytes);
        object.insert("xxh3_128".into(), format!("{hash:032x}").into());
    }
    object.into()
}
