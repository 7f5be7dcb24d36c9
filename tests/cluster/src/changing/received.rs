//! Bytes that nodes have received for moves, over all the processes that they had: a process counts from its own start.

use std::collections::BTreeMap;

use super::Standing;

/// What nodes have received.
#[derive(Clone, Debug, Default)]
pub struct Received {
    /// For each node what its earlier processes had counted when they were last looked at, and what the present one has.
    nodes: BTreeMap<String, (u64, u64)>,
}

impl Received {
    /// Looks at what the present processes have counted.
    pub fn look(&mut self, standing: &Standing) {
        for (name, _, bytes) in &standing.by_node {
            let (_, present) = self.nodes.entry(name.clone()).or_default();
            *present = (*present).max(*bytes);
        }
    }

    /// A node's process has ended; its next one counts from nothing.
    pub fn ended(&mut self, node: usize) {
        let (earlier, present) = self.nodes.entry(format!("n{}", node + 1)).or_default();
        *earlier += std::mem::take(present);
    }

    /// All of it.
    pub fn total(&self) -> u64 {
        self.nodes.values().map(|(earlier, present)| earlier + present).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::{Received, Standing};

    #[test]
    fn what_a_process_had_counted_is_kept_when_the_next_one_begins_from_nothing() {
        let seen = |bytes| Standing { by_node: vec![("n2".into(), 0, bytes)], ..Standing::default() };
        let mut received = Received::default();
        received.look(&seen(10));
        received.look(&seen(30));
        received.ended(1);
        received.look(&seen(5));
        assert_eq!(received.total(), 35);
    }
}
