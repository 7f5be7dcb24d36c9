//! What does harm to one node at a time, and makes it good again.

use server::cli::local::links::End;

use crate::proxied::Proxied;

/// A kind of harm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Harm {
    /// The process dies and is started again.
    Kill,
    /// The process stands still for a while.
    Pause,
    /// No byte reaches or leaves the node.
    CutOff,
    /// No byte reaches the node; what it says is heard.
    Deaf,
    /// The node and one other node don't hear each other; clients hear both.
    Split,
    /// Everything from and to the node is late.
    Delay,
    /// Connections from and to the node break again and again.
    Breaks,
}

/// How much later [`Harm::Delay`] makes everything: more than a disk takes, less than any deadline.
const DELAY: std::time::Duration = std::time::Duration::from_millis(120);

/// Every how many chunks [`Harm::Breaks`] breaks a connection.
const BREAKS_ONE_IN: u32 = 400;

impl Harm {
    /// Every kind.
    pub const ALL: [Self; 7] =
        [Self::Kill, Self::Pause, Self::CutOff, Self::Deaf, Self::Split, Self::Delay, Self::Breaks];

    /// Does it to a node.
    pub fn begin(self, cluster: &mut Proxied, node: usize) {
        let me = End::Node(node);
        let links = cluster.links();
        let others: Vec<End> = links.ends().filter(|end| *end != me).collect();
        match self {
            Self::Kill => cluster.kill(node),
            Self::Pause => cluster.pause(node),
            Self::CutOff => cluster.isolate(node),
            Self::Deaf => others.into_iter().for_each(|other| links.change(other, me, |weather| weather.is_cut = true)),
            Self::Split => links.cut(me, End::Node((node + 1) % cluster.nodes())),
            Self::Delay => {
                for other in others {
                    links.change(other, me, |weather| weather.delay = DELAY);
                    links.change(me, other, |weather| weather.delay = DELAY);
                }
            }
            Self::Breaks => {
                for other in others {
                    links.change(other, me, |weather| weather.breaks_one_in = BREAKS_ONE_IN);
                    links.change(me, other, |weather| weather.breaks_one_in = BREAKS_ONE_IN);
                }
            }
        }
    }

    /// Ends it.
    pub fn end(self, cluster: &mut Proxied, node: usize) {
        match self {
            Self::Kill => cluster.restart(node),
            Self::Pause => cluster.resume(node),
            Self::CutOff | Self::Deaf | Self::Split | Self::Delay | Self::Breaks => cluster.links().heal(),
        }
    }
}
