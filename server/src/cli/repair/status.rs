//! `quorate repair status`: what each node's repairs do, what it keeps for others, and what it can't read.

use clap::Args;
use dynamo::layout::Layout;
use serde_json::{Value, json};

use crate::cli::{
    arguments::Cluster,
    client::{self, Answer, RepairStatus, RepairTask, Session},
    exit::{CommandError, Exit},
    output::{self, Column, Output, Rows},
};

/// Show how the repairs of every node stand.
#[derive(Debug, Args)]
#[command(
    after_help = "exchange compares hash trees of partitions with other owners, hints delivers what was kept for nodes that were away, scrub
verifies every record on disk, rebuild puts records that can't be verified together again from other owners. All of it goes on
by itself; `quorate repair run` begins it at once. Exit code 5: some node has unreadable records or hints to deliver. Exit code
6: a node does not answer.

Examples:
  quorate repair status
  quorate repair status --node node-2 --output json"
)]
pub(super) struct Status {
    /// Only this node; may be given several times.
    #[arg(long, value_name = "NAME")]
    node: Vec<String>,

    #[command(flatten)]
    cluster: Cluster,
}

impl Status {
    /// Carries out the command.
    pub(super) fn run(self) -> Result<Exit, CommandError> {
        let (layout, answers) = client::block_on(async {
            let session = Session::connect(&self.cluster).await?;
            let nodes = session.nodes(&self.node).map_err(|name| no_node(&name))?;
            let answers = session.repair_status(&nodes).await;
            session.close().await;
            Ok((session.layout(), answers))
        })?;
        print(self.cluster.form.output, &layout, &answers)?;
        Ok(exit(&answers))
    }
}

/// There is no such node.
pub(in crate::cli) fn no_node(name: &str) -> CommandError {
    CommandError::usage(format!("the ring has no node {name}")).next("quorate ring show")
}

/// Prints what the nodes answered.
pub(super) fn print(output: Output, layout: &Layout, answers: &[Answer<RepairStatus>]) -> Result<(), CommandError> {
    if output == Output::Json {
        output::print_json(&answers.iter().map(|answer| as_json(layout, answer)).collect::<Vec<_>>())?;
        return Ok(());
    }
    tasks(answers).print()?;
    let mut hints = Rows::new(&[
        Column::Text("NODE"),
        Column::Text("KEEPS FOR"),
        Column::Number("OBJECTS"),
        Column::Number("SIZE"),
        Column::Number("REFUSED"),
    ]);
    let mut is_any_hint = false;
    for Answer { name, answer, .. } in answers {
        for backlog in answer.iter().flat_map(|status| &status.hints) {
            is_any_hint = true;
            hints.push([
                name.clone(),
                layout.member(backlog.target).map_or_else(|| "?".to_owned(), |member| member.name.clone()),
                output::grouped(backlog.objects),
                output::bytes(backlog.bytes),
                output::grouped(backlog.refused),
            ]);
        }
    }
    if is_any_hint {
        output::print_line("")?;
        hints.print()?;
    }
    for Answer { name, answer, .. } in answers {
        match answer {
            Ok(status) if status.unreadable > 0 => output::print_line(format_args!(
                "{name} can't verify {} record(s) and serves none of them; each is rebuilt once enough other owners answer",
                output::grouped(status.unreadable)
            ))?,
            Ok(_) => {}
            Err(reason) => output::print_line(format_args!("{name} does not answer: {reason}"))?,
        }
    }
    Ok(())
}

fn tasks(answers: &[Answer<RepairStatus>]) -> Rows {
    let mut rows = Rows::new(&[
        Column::Text("NODE"),
        Column::Text("REPAIR"),
        Column::Text("STATE"),
        Column::Number("DONE"),
        Column::Number("REPAIRED"),
        Column::Number("FAILED"),
        Column::Text("LAST RUN"),
        Column::Number("SPEED"),
    ]);
    for Answer { name, answer, .. } in answers {
        let Ok(status) = answer else { continue };
        for task in &status.tasks {
            rows.push([
                name.clone(),
                task.name.clone(),
                task.state.clone(),
                progress(task),
                output::grouped(task.repaired),
                output::grouped(task.failed),
                last(task),
                format!("{:.0} %", status.throttle * 100.0),
            ]);
        }
    }
    rows
}

/// "128 of 256", or how many where nobody knows how many there will be.
fn progress(task: &RepairTask) -> String {
    match task.total {
        0 => output::grouped(task.done),
        total => format!("{} of {}", output::grouped(task.done), output::grouped(total)),
    }
}

fn last(task: &RepairTask) -> String {
    let ago = |milliseconds: u64| format!("{} ago", output::duration(milliseconds / 1000));
    task.last_milliseconds_ago.map_or_else(|| "never".to_owned(), ago)
}

fn exit(answers: &[Answer<RepairStatus>]) -> Exit {
    let is_clean = |status: &RepairStatus| status.unreadable == 0 && status.hints.iter().all(|hint| hint.objects == 0);
    if answers.iter().any(|answer| answer.answer.is_err()) {
        Exit::Unavailable
    } else if answers.iter().flat_map(|answer| &answer.answer).all(is_clean) {
        Exit::Done
    } else {
        Exit::Different
    }
}

fn as_json(layout: &Layout, answer: &Answer<RepairStatus>) -> Value {
    let Answer { name, answer, .. } = answer;
    match answer {
        Err(reason) => json!({"node": name, "error": reason.to_string()}),
        Ok(status) => json!({
            "node": name,
            "tasks": status.tasks.iter().map(|task| json!({
                "name": task.name,
                "state": task.state,
                "done": task.done,
                "total": task.total,
                "repaired": task.repaired,
                "failed": task.failed,
                "last_ms_ago": task.last_milliseconds_ago,
            })).collect::<Vec<_>>(),
            "hints": status.hints.iter().map(|backlog| json!({
                "for": layout.member(backlog.target).map(|member| &member.name),
                "objects": backlog.objects,
                "bytes": backlog.bytes,
                "refused": backlog.refused,
            })).collect::<Vec<_>>(),
            "unreadable": status.unreadable,
            "throttle": status.throttle,
        }),
    }
}
