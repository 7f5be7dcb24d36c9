//! From what is staged to what an operator reads before the commit: the plan in numbers, and what to think of first.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use dynamo::{
    ident::NodeId,
    layout::{Layout, Member, MemberState},
    operation::{ErrorCode, Failure},
    planner::{Balance, Plan, PlanError, Unavailable, plan_change, plan_hash, unavailable},
    ring::Ring,
    settlement::Proven,
};
use futures_util::future::join_all;
use schema::convert::{Extremes, PlanNode, PlanReport, Staging};
use tokio::{net::TcpStream, time::timeout};

use super::{
    gathering::{Gathered, gather},
    is_asked,
    peers::Peers,
};
use crate::node::Node;

/// How long a newcomer's address may take to accept a connection before the plan says that it does not.
const KNOCK_TIMEOUT: Duration = Duration::from_millis(500);

/// Newcomers that are looked at; whoever adds more at once hears only of these.
const KNOCKS_MAX: usize = 64;

/// What is staged in the cluster, and what it would do.
pub(crate) async fn staging(node: &Arc<Node>) -> Result<Staging, Failure> {
    let peers = Peers::new(Arc::clone(node));
    let gathered = gather(node, &peers).await?;
    let ring = node.ring();
    let layout = ring.newest();
    let mut staging = Staging {
        epoch: layout.epoch,
        staged: gathered.staged.pending(layout),
        plan: None,
        moving: gathered.moving(),
        away: gathered.away.clone(),
        bytes: gathered.bytes(),
        problem: String::new(),
    };
    match planned(&ring, &gathered).await {
        Ok(plan) => staging.plan = Some(report(&ring, &gathered, plan).await),
        Err(PlanError::NothingStaged) => {}
        Err(error) => staging.problem = error.to_string(),
    }
    Ok(staging)
}

/// The plan of what was gathered.
pub(crate) async fn planned(ring: &Arc<Ring>, gathered: &Gathered) -> Result<Plan, PlanError> {
    plan_with(ring, gathered, Gathered::proven).await
}

/// The same, resting on what this says is proven. Proving and planning for thousands of nodes take a while, and this thread has other
/// things to do.
pub(crate) async fn plan_with(
    ring: &Arc<Ring>,
    gathered: &Gathered,
    proven: fn(&Gathered, &Layout) -> Proven,
) -> Result<Plan, PlanError> {
    let (ring, gathered) = (Arc::clone(ring), gathered.clone());
    // With the layouts before the newest one, what is taken back goes back to the very nodes it came from.
    let planning =
        tokio::task::spawn_blocking(move || plan_change(&ring, &gathered.staged, &proven(&gathered, ring.newest())));
    planning.await.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()))
}

/// Why there is no plan, to whoever wants to commit one.
pub(crate) fn no_plan(error: &PlanError) -> Failure {
    Failure::with_message(ErrorCode::InvalidRequest, error.to_string())
}

async fn report(ring: &Arc<Ring>, gathered: &Gathered, plan: Plan) -> PlanReport {
    let (old, plan) = (ring.newest(), Arc::new(plan));
    let (layout, summary) = (&plan.layout, &plan.summary);
    let unreachable = unreachable_newcomers(old, layout).await;
    let unavailable = unavailable_partitions(ring, gathered, &plan, &unreachable).await;
    let nodes = layout.members.iter().zip(&summary.nodes).map(|(member, node)| PlanNode {
        name: member.name.clone(),
        zone: member.zone.clone(),
        weight: member.weight,
        state: member.state.word().to_owned(),
        before: node.before,
        after: node.partitions,
        gained: node.gained,
        ideal: node.ideal,
    });
    PlanReport {
        epoch: layout.epoch,
        hash: plan_hash(old, layout),
        partition_bits: layout.partition_bits,
        replicas: layout.replicas,
        slots: summary.slots,
        moved: summary.moved,
        moved_bound: summary.moved_lower_bound,
        moved_bytes: moved_bytes(old, gathered, &plan),
        balance: extremes(summary.balance),
        balance_before: extremes(summary.balance_before.unwrap_or(summary.balance)),
        balance_by_weight: extremes(summary.balance_by_weight),
        below_quorum: summary.below_quorum,
        orphaned: summary.orphaned,
        unavailable_now: unavailable.now,
        unavailable_on_the_way: unavailable.on_the_way,
        nodes: nodes.collect(),
        warnings: warnings(old, gathered, layout, &unreachable),
    }
}

/// About how many bytes move: as many copies of partitions as move, each of the size that a copy has on the average at the nodes
/// that answered. Keys spread evenly over partitions, so copies are about equally large.
fn moved_bytes(old: &Layout, gathered: &Gathered, plan: &Plan) -> u64 {
    let mut answered = vec![false; old.members.len()];
    for index in gathered.answers.iter().filter_map(|(id, _)| old.index_of(*id)) {
        answered[usize::from(index.0)] = true;
    }
    let held = old.slots.iter().filter(|slot| answered.get(usize::from(**slot)).copied().unwrap_or(false)).count();
    let doublings = plan.layout.partition_bits.saturating_sub(old.partition_bits);
    let copies = (held as u128) << doublings;
    let moved = u128::from(gathered.bytes()) * u128::from(plan.summary.moved);
    u64::try_from(moved.checked_div(copies).unwrap_or(0)).unwrap_or(u64::MAX)
}

/// The partitions where operations at `quorum` fail while those stay silent who are: members that did not answer, and newcomers at
/// whose addresses nobody listens.
async fn unavailable_partitions(
    ring: &Arc<Ring>,
    gathered: &Gathered,
    plan: &Arc<Plan>,
    unreachable: &[&Member],
) -> Unavailable {
    let mut silent: BTreeSet<NodeId> = unreachable.iter().map(|member| member.id).collect();
    // By who they are: one that replaces another may have its name.
    let answered: BTreeSet<NodeId> = gathered.answers.iter().map(|(id, _)| *id).collect();
    let asked = ring.newest().members.iter().filter(|member| is_asked(member.state));
    silent.extend(asked.map(|member| member.id).filter(|id| !answered.contains(id)));
    let (ring, gathered, plan) = (Arc::clone(ring), gathered.clone(), Arc::clone(plan));
    let counting = tokio::task::spawn_blocking(move || {
        let proven = gathered.proven(ring.newest());
        unavailable(&*ring, &proven, &plan.layout, |member| silent.contains(&member.id))
    });
    counting.await.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()))
}

/// What an operator should know before the commit.
fn warnings(old: &Layout, gathered: &Gathered, layout: &Layout, unreachable: &[&Member]) -> Vec<String> {
    let mut warnings = Vec::new();
    let active: Vec<&Member> = layout.members.iter().filter(|member| member.state == MemberState::Active).collect();
    if active.len() < usize::from(layout.replicas) {
        warnings.push(format!(
            "a key shall have {} owners, and there are only {} nodes: it has as many until more join",
            layout.replicas,
            active.len()
        ));
    }
    let mut zones: Vec<&str> = active.iter().map(|member| member.zone.as_str()).collect();
    zones.sort_unstable();
    zones.dedup();
    if zones.len() > 1 && zones.len() < usize::from(layout.replicas).min(active.len()) {
        warnings.push(format!(
            "there are {} zones for {} owners of a key: two of them share one, and may fail together",
            zones.len(),
            layout.replicas
        ));
    }
    if active.len() == 2 {
        warnings.push("with two nodes a majority is both: operations at quorum fail while either is away".to_owned());
    }
    let silent = |member: &Member| gathered.away.contains(&member.name);
    for member in &old.members {
        let after = layout.members.iter().find(|after| after.id == member.id).map(|after| after.state);
        match after {
            Some(MemberState::Lost) if is_asked(member.state) && !silent(member) => warnings.push(format!(
                "{} answers, and its copies are given up all the same: what only it has is lost",
                member.name
            )),
            Some(MemberState::Active) if silent(member) => {
                warnings.push(format!("{} does not answer: what it is to get it gets when it does", member.name));
            }
            _ => {}
        }
    }
    let silent_electors = |layout: &Layout| -> Option<String> {
        let electors = layout.electors.iter().filter_map(|elector| layout.member(*elector));
        let names: Vec<&str> = electors.filter(|member| silent(member)).map(|member| member.name.as_str()).collect();
        (names.len() * 2 >= layout.electors.len()).then(|| names.join(", "))
    };
    if let Some(names) = silent_electors(old) {
        warnings.push(format!("without a majority of the electors nothing can be committed: no answer from {names}"));
    } else if let Some(names) = silent_electors(layout) {
        warnings.push(format!(
            "nothing can be committed after this change before a majority of its electors answers: no answer from {names}; replace \
             who does not come back in the same plan"
        ));
    }
    warnings.extend(unreachable.iter().map(|member| {
        format!(
            "{} does not answer at {}: nothing moves there until it does",
            member.name,
            member.addresses.join(" and ")
        )
    }));
    warnings
}

/// The newcomers at whose addresses nobody listens.
async fn unreachable_newcomers<'a>(old: &Layout, new: &'a Layout) -> Vec<&'a Member> {
    let newcomers = new.members.iter().filter(|member| old.index_of(member.id).is_none()).take(KNOCKS_MAX);
    let knocks = newcomers.map(|member| async move {
        let addresses = member.addresses.iter().map(|address| timeout(KNOCK_TIMEOUT, TcpStream::connect(address)));
        let is_there = join_all(addresses).await.iter().any(|knock| matches!(knock, Ok(Ok(_))));
        (!is_there).then_some(member)
    });
    join_all(knocks).await.into_iter().flatten().collect()
}

fn extremes(balance: Balance) -> Extremes {
    Extremes { max: balance.max, min: balance.min }
}
