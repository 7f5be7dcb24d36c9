//! The machine while the ring changes: members that leave, drain, move to other addresses, and answers that know more of the ring than
//! the client does.

use std::sync::Arc;

use dynamo::{
    layout::{Layout, MemberState, NodeIndex},
    operation::{ErrorCode, Failure, Outcome, Receipt, Reply},
};
use schema::convert::ReplyHeader;

use super::{Bench, LinkId, failed, layout, stored};

impl Bench {
    /// Follows a layout of so many nodes, of which one has moved and another perhaps leaves, as `changed` says.
    pub(super) fn change_ring(&mut self, nodes: u16, changed: u8) {
        let mut layout = Layout { epoch: self.engine.layout().epoch + 1, ..layout(nodes) };
        let count = layout.members.len();
        layout.members[usize::from(changed & 3) % count].addresses = vec![format!("10.1.0.{changed}:1")];
        layout.members[usize::from(changed >> 2 & 3) % count].state = match changed >> 4 {
            0 => MemberState::Leaving,
            1 => MemberState::Gone,
            2 => MemberState::Lost,
            _ => MemberState::Active,
        };
        self.engine.set_layout(Arc::new(layout), self.now);
    }

    fn follow(&mut self, change: impl FnOnce(&mut Layout)) {
        let mut layout = Layout::clone(self.engine.layout());
        layout.epoch += 1;
        change(&mut layout);
        self.engine.set_layout(Arc::new(layout), self.now);
        self.settle();
    }
}

fn refused(code: ErrorCode, owners: &[u16]) -> Reply {
    let owners = owners.iter().copied().map(NodeIndex).collect();
    let failure = Failure { owners, ..Failure::new(code, "refused") };
    Reply { outcome: Outcome::Failed(failure), receipt: Receipt::default() }
}

#[test]
fn a_stale_view_asks_for_the_layout() {
    let mut bench = Bench::new(3, 1024);
    bench.put("k", 1000);
    bench.settle();
    bench.answer(0, &failed(ErrorCode::StaleView));
    assert_eq!((bench.refreshes, bench.calls.len()), (1, 1));
}

#[test]
fn a_stale_view_that_names_the_owners_is_healed_by_the_next_call() {
    let mut bench = Bench::new(5, 1024);
    for (token, steps) in [(1, 2), (2, 3), (3, 4)] {
        bench.put("k", 1000);
        bench.settle();
        let first = bench.engine.link(bench.calls[0].1).member.unwrap();
        let named = (first.0 + steps) % 5;
        bench.answer(0, &refused(ErrorCode::StaleView, &[named]));
        let to = bench.calls[0].1;
        assert_eq!(bench.engine.link(to).member, Some(NodeIndex(named)));
        bench.answer(0, &stored());
        assert!(bench.notes.only(token).is_ok());
        let ids = &bench.sent[bench.sent.len() - 2..];
        assert_eq!(ids[0].1, ids[1].1, "the same operation under the same id");
    }
    // Places that this client has never heard of are no reason to give up.
    bench.put("k", 1000);
    bench.settle();
    bench.answer(0, &refused(ErrorCode::StaleView, &[77]));
    bench.answer(0, &stored());
    assert!(bench.notes.only(4).is_ok());
}

#[test]
fn every_answer_with_a_newer_epoch_asks_for_its_layout() {
    let mut bench = Bench::new(3, 1024);
    bench.put("k", 1000);
    bench.settle();
    let (call, _) = bench.calls.remove(0);
    let header = ReplyHeader { epoch: 2, ..ReplyHeader::default() };
    bench.engine.answered(bench.now, call, &header, vec![stored()]);
    bench.settle();
    assert_eq!(bench.refreshes, 1);
    bench.follow(|_| {});
    bench.put("k", 1000);
    bench.settle();
    let (call, _) = bench.calls.remove(0);
    bench.engine.answered(bench.now, call, &header, vec![stored()]);
    bench.settle();
    assert_eq!(bench.refreshes, 1, "this layout is known");
}

#[test]
fn nodes_that_shut_down_one_after_another_cost_an_operation_no_attempt() {
    let mut bench = Bench::new(5, 1024);
    let tokens = bench.engine.budget_tokens();
    bench.put("k", 1000);
    bench.settle();
    for _ in 0..4 {
        bench.answer(0, &failed(ErrorCode::ShuttingDown));
    }
    let nodes: std::collections::BTreeSet<_> = bench.sent.iter().map(|(link, _)| link.0).collect();
    assert_eq!(nodes.len(), 5, "each is left at once and not asked again");
    bench.answer(0, &stored());
    assert_eq!(bench.notes.only(1).unwrap(), stored());
    assert_eq!(bench.engine.budget_tokens(), tokens);
    // The others learn from it: nobody else is sent there for a while.
    bench.put("k", 1000);
    bench.settle();
    assert_eq!(bench.sent[5].0, bench.sent[4].0);
}

#[test]
fn a_member_that_left_is_hung_up_on_when_its_calls_have_ended() {
    let mut bench = Bench::new(4, 1024);
    bench.put("k", 1000);
    bench.settle();
    let left = bench.calls[0].1;
    let id = bench.engine.link(left).node;
    bench.follow(|layout| {
        let at = usize::from(layout.index_of(id).unwrap().0);
        layout.members[at].id = dynamo::ident::NodeId(99);
        layout.members[at].name = "newcomer".to_owned();
    });
    assert_eq!(bench.disconnects, []);
    bench.answer(0, &stored());
    assert_eq!(bench.disconnects, [left]);
    assert!(bench.notes.only(1).is_ok());
    bench.put("k", 1000);
    bench.settle();
    assert_ne!(bench.calls[0].1, left, "the place is the newcomer's now");
}

#[test]
fn a_node_that_moved_is_called_at_its_new_address_when_its_calls_have_ended() {
    let mut bench = Bench::new(1, 1024);
    bench.put("k", 1000);
    bench.settle();
    bench.follow(|layout| layout.members[0].addresses = vec!["10.9.9.9:1".to_owned()]);
    bench.put("k", 1000);
    bench.settle();
    assert_eq!((bench.sent.len(), bench.disconnects.len()), (1, 0), "nothing new leaves on the old connection");
    bench.answer(0, &stored());
    assert_eq!((bench.disconnects.len(), bench.connects.len()), (1, 2));
    assert_eq!(bench.engine.link(LinkId(0)).addresses, ["10.9.9.9:1"]);
    assert_eq!(bench.sent.len(), 2);
    bench.answer(0, &stored());
    assert!(bench.notes.only(1).is_ok() && bench.notes.only(2).is_ok());
}

#[test]
fn a_node_that_was_away_and_moved_is_tried_at_once() {
    let mut bench = Bench::new(1, 1024);
    bench.up = false;
    bench.put("k", 5000);
    bench.settle();
    for _ in 0..6 {
        bench.engine.unreachable(bench.now, LinkId(0));
        bench.pass(300);
    }
    bench.engine.unreachable(bench.now, LinkId(0));
    bench.settle();
    bench.up = true;
    bench.follow(|layout| layout.members[0].addresses = vec!["10.9.9.9:1".to_owned()]);
    bench.pass(1);
    assert!(bench.engine.link(LinkId(0)).is_up());
}
