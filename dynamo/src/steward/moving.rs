//! One step of a partition's move that is being taken: whichever of the conversations it is.

use alloc::vec::Vec;

use super::{
    moves::{Lane, Shown, told},
    transfers::{Transfer, TransferState},
};
use crate::{
    holdings::Holdings,
    ident::StoreKey,
    layout::View,
    relocation::{Doing, Trouble, copy::Copy, fill::Fill, leave::Leave, settle::Settle},
    round::{Answer, Ask, End, Next},
    tick::Tick,
};

/// A step.
#[derive(Debug)]
pub(super) enum Move {
    /// A layout is fetched, or a row is made again.
    Want { view: View, epoch: u64, is_asked: bool },
    /// See [`Copy`].
    Copy(Copy),
    /// See [`Fill`].
    Fill(Fill),
    /// See [`Settle`].
    Settle(Settle),
    /// See [`Leave`].
    Leave(Leave),
}

impl Move {
    /// The layout of this epoch is wanted to go on with a partition.
    pub(super) fn want(view: View, epoch: u64) -> Self {
        Self::Want { view, epoch, is_asked: false }
    }

    /// The partition, and the view of it that is worked towards.
    pub(super) fn view(&self) -> &View {
        match self {
            Self::Want { view, .. } => view,
            Self::Copy(copy) => copy.view(),
            Self::Fill(fill) => fill.view(),
            Self::Settle(settle) => settle.view(),
            Self::Leave(leave) => leave.view(),
        }
    }

    /// Which lane it takes room in.
    pub(super) fn lane(&self) -> Lane {
        match self {
            Self::Want { .. } | Self::Settle(_) => Lane::Look,
            Self::Copy(_) => Lane::Copy,
            Self::Fill(_) => Lane::Fill,
            Self::Leave(_) => Lane::Leave,
        }
    }

    /// Takes it further.
    pub(super) fn next(&mut self, now: Tick, answers: Vec<Answer>, holdings: &Holdings) -> Next {
        match self {
            Self::Want { is_asked: true, .. } => Next::End(End::Failed),
            Self::Want { epoch, is_asked, .. } => {
                *is_asked = true;
                Next::Ask(alloc::vec![Ask::WantLayout { epoch: *epoch }])
            }
            Self::Copy(copy) => copy.next(answers, holdings),
            Self::Fill(fill) => fill.next(now, answers),
            Self::Settle(settle) => settle.next(&answers),
            Self::Leave(leave) => leave.next(now, answers),
        }
    }

    /// Records found here that can't be verified.
    pub(super) fn corrupt(&self) -> &[StoreKey] {
        match self {
            Self::Want { .. } | Self::Settle(_) => &[],
            Self::Copy(copy) => &copy.report().corrupt,
            Self::Fill(fill) => &fill.report().corrupt,
            Self::Leave(leave) => &leave.report().corrupt,
        }
    }

    /// Bytes of records that these answers brought from others.
    pub(super) fn received(&self, answers: &[Answer]) -> u64 {
        let bytes = |answer: &Answer| match (self, answer) {
            (Self::Copy(_), Answer::Move(crate::peer::MoveAnswer::Range { records, .. })) => {
                records.iter().map(|(_, record)| record.len() as u64).sum()
            }
            (Self::Fill(_), Answer::Peer(crate::peer::PeerResult::Record(record))) => record.len() as u64,
            (Self::Want { .. } | Self::Copy(_) | Self::Fill(_) | Self::Settle(_) | Self::Leave(_), _) => 0,
        };
        answers.iter().map(bytes).sum()
    }

    /// What it does.
    fn doing(&self) -> Doing {
        match self {
            Self::Want { .. } => Doing::Asking,
            Self::Copy(copy) => copy.doing(),
            Self::Fill(fill) => fill.doing(),
            Self::Settle(settle) => settle.doing(),
            Self::Leave(leave) => leave.doing(),
        }
    }

    fn trouble(&self) -> Option<Trouble> {
        match self {
            Self::Want { epoch, .. } => Some(Trouble::NoLayout(*epoch)),
            Self::Copy(copy) => copy.trouble().cloned(),
            Self::Fill(fill) => fill.trouble().cloned(),
            Self::Settle(settle) => settle.trouble().cloned(),
            Self::Leave(leave) => leave.trouble().cloned(),
        }
    }

    /// What is shown of it.
    pub(super) fn shown(&self) -> Shown {
        let peer = match self.doing() {
            Doing::Copying(peer) => peer,
            Doing::Levelling(peer) | Doing::Giving(peer) => Some(peer),
            Doing::Fencing | Doing::Asking | Doing::Retiring | Doing::Deleting => None,
        };
        let (records, records_total, bytes) = match self {
            Self::Want { .. } | Self::Settle(_) => (0, 0, 0),
            Self::Copy(copy) => (copy.report().records, copy.report().records_total, copy.report().bytes),
            Self::Fill(fill) => (fill.report().records, 0, fill.report().bytes),
            Self::Leave(leave) => (leave.report().given, leave.report().records, 0),
        };
        Shown { peer, records, records_total, bytes, trouble: self.trouble() }
    }

    /// The transfer that it is.
    pub(super) fn transfer(&self, holdings: &Holdings) -> Transfer {
        let state = match self.doing() {
            Doing::Copying(_) => TransferState::Copying,
            Doing::Fencing => TransferState::Fencing,
            Doing::Levelling(_) => TransferState::Levelling,
            Doing::Asking => TransferState::Waiting,
            Doing::Retiring => TransferState::Retiring,
            Doing::Giving(_) => TransferState::HandingOver,
            Doing::Deleting => TransferState::Deleting,
        };
        let Shown { peer, records, records_total, bytes, trouble } = self.shown();
        let view = holdings.view(self.view().prefix);
        let trouble = trouble.map(|trouble| told(holdings, &trouble));
        Transfer { view, state, peer, records, records_total, bytes, trouble }
    }
}
