//! Who keeps the connections to the other nodes: one task for each node in the ring, begun when it comes and ended when it
//! leaves. Workers have such tasks, and so has the steward.

use std::{collections::BTreeMap, future::Future};

use dynamo::{ident::NodeId, layout::NodeIndex};
use tokio::task::{AbortHandle, JoinSet};

use crate::node::Known;

/// The tasks of one thread, by the place of their node.
#[derive(Default)]
pub(crate) struct Keepers {
    tasks: JoinSet<()>,
    kept: BTreeMap<NodeIndex, (NodeId, AbortHandle)>,
}

impl Keepers {
    /// Ends the tasks of nodes that have left, and begins those of nodes that have come. A place that was given to another node is both.
    pub(crate) fn follow<F>(&mut self, known: &Known, keep: impl Fn(NodeIndex) -> F)
    where
        F: Future<Output = ()> + 'static,
    {
        let wanted: BTreeMap<NodeIndex, NodeId> = known.others().map(|(index, member)| (index, member.id)).collect();
        self.kept.retain(|index, (node, task)| {
            let is_wanted = wanted.get(index) == Some(node);
            if !is_wanted {
                // Its connection closes with it.
                task.abort();
            }
            is_wanted
        });
        for (index, node) in wanted {
            self.kept.entry(index).or_insert_with(|| (node, self.tasks.spawn_local(keep(index))));
        }
    }

    /// Waits until a task has ended in a panic, which none of them ever should.
    pub(crate) async fn panicked(&mut self) {
        loop {
            match self.tasks.join_next().await {
                Some(Err(error)) if error.is_panic() => return,
                Some(Ok(()) | Err(_)) => {}
                None => std::future::pending().await,
            }
        }
    }
}
