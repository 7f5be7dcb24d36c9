//! How repairs stand, in the words of the contract's `Admin`.

use dynamo::steward::{Progress, State};
use schema::convert::{HintBacklog, RepairStatus, RepairTask};

use crate::node::Node;

use super::{Handle, scrub::ScrubProgress};

impl Handle {
    /// How everything stands.
    pub(crate) fn status(&self, node: &Node) -> RepairStatus {
        let super::handle::Seen { status, scrub, traffic: _ } = self.seen();
        let kept = backlogs(node);
        let mut hints = task("hints", &status.hints, node);
        // A run of deliveries ends when nothing is kept any more.
        hints.total = hints.done + kept.iter().map(|backlog| backlog.objects).sum::<u64>();
        RepairStatus {
            tasks: vec![
                task("exchange", &status.exchange, node),
                hints,
                scrub_task(&scrub, node),
                task("rebuild", &status.rebuild, node),
            ],
            hints: kept,
            unreadable: status.unreadable,
            throttle: status.share_permille as f32 / 1_000.0,
        }
    }
}

fn task(name: &str, progress: &Progress, node: &Node) -> RepairTask {
    let Progress { state, done, total, repaired, failed, ended_at } = *progress;
    RepairTask {
        name: name.to_owned(),
        state: word(state).to_owned(),
        done,
        total,
        repaired,
        failed,
        last_milliseconds_ago: ended_at.map(|ended_at| node.now().since(ended_at)),
    }
}

fn scrub_task(scrub: &ScrubProgress, node: &Node) -> RepairTask {
    RepairTask {
        name: "scrub".to_owned(),
        state: word(if scrub.is_running { State::Running } else { State::Idle }).to_owned(),
        done: scrub.done,
        total: scrub.total,
        // What a scrub finds, rebuilds and exchanges repair.
        repaired: 0,
        failed: scrub.failed,
        last_milliseconds_ago: scrub.ended_at.map(|ended_at| node.now().since(ended_at)),
    }
}

fn word(state: State) -> &'static str {
    match state {
        State::Idle => "idle",
        State::Running => "running",
        State::Waiting => "waiting",
    }
}

fn backlogs(node: &Node) -> Vec<HintBacklog> {
    let (known, hints) = (node.known(), node.store.hints());
    let entry = |(target, usage): (dynamo::ident::NodeId, dynamo::hint::HintUsage)| {
        let index = known.place_of(target)?;
        let refused = hints.refused_for(target);
        Some(HintBacklog { target: index, objects: usage.records, bytes: usage.bytes, refused })
    };
    hints.backlog().into_iter().filter_map(entry).collect()
}
