//! Values of the module `quorate.values`, built when somebody asks for one: receipts, siblings, the ring, statistics.

use pyo3::{
    Bound, IntoPyObject, Py, PyAny, PyErr, PyResult, Python,
    sync::PyOnceLock,
    types::{PyAnyMethods, PyBytes, PyTuple},
};
use quorate::{Explanation, Layout, MemberState, NodeIndex, NodeStats, Receipt, Sibling, Stats};

/// Digits of a hash or an identifier: 128 bits in hexadecimal.
const HEXADECIMAL_DIGITS: usize = 32;

pub(crate) fn receipt<'py>(py: Python<'py>, receipt: &Receipt, layout: &Layout) -> PyResult<Bound<'py, PyAny>> {
    static CLASS: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let answered = PyTuple::new(py, receipt.answered.iter().map(|node| node_name(layout, *node)))?;
    let Receipt { epoch, need, durable, stand_ins, repaired, replicas, .. } = *receipt;
    value(py, &CLASS, "Receipt", (answered, epoch, need, durable, stand_ins, repaired, replicas))
}

pub(crate) fn sibling<'py>(
    py: Python<'py>,
    sibling: &Sibling,
    value_object: &Py<PyBytes>,
) -> PyResult<Bound<'py, PyAny>> {
    static CLASS: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let hash = format!("{:0HEXADECIMAL_DIGITS$x}", sibling.hash);
    value(py, &CLASS, "Sibling", (value_object, sibling.value_bytes, sibling.clock, hash))
}

pub(crate) fn ring<'py>(py: Python<'py>, layout: &Layout) -> PyResult<Bound<'py, PyAny>> {
    static NODE: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    static RING: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let nodes = layout.members.iter().map(|member| {
        let addresses = PyTuple::new(py, &member.addresses)?;
        let leaving = member.state == MemberState::Leaving;
        value(py, &NODE, "Node", (&member.name, &member.zone, addresses, member.weight, leaving))
    });
    let nodes = PyTuple::new(py, nodes.collect::<PyResult<Vec<_>>>()?)?;
    let parts = (layout.generation, layout.epoch, layout.partitions(), layout.replicas, nodes);
    value(py, &RING, "Ring", parts)
}

pub(crate) fn explanation<'py>(
    py: Python<'py>,
    explanation: &Explanation,
    layout: &Layout,
) -> PyResult<Bound<'py, PyAny>> {
    static CLASS: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let coordinator = |node: Option<NodeIndex>| node.map(|node| node_name(layout, node));
    let parts = (
        format!("{:0HEXADECIMAL_DIGITS$x}", u128::from_be_bytes(explanation.id.0)),
        explanation.partition,
        (explanation.view.lo, explanation.view.hi),
        explanation.epoch,
        nodes(py, &explanation.owners)?,
        coordinator(explanation.read_coordinator),
        coordinator(explanation.write_coordinator),
    );
    value(py, &CLASS, "Explanation", parts)
}

pub(crate) fn stats<'py>(py: Python<'py>, stats: &Stats) -> PyResult<Bound<'py, PyAny>> {
    static CLASS: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let parts = [
        stats.succeeded,
        stats.failed,
        stats.cancelled,
        stats.retries,
        stats.calls,
        stats.operations_sent,
        stats.disconnects,
        stats.refreshes,
        stats.in_flight as u64,
        stats.waiting as u64,
        stats.retry_tokens.into(),
        stats.epoch,
    ];
    let mut objects = Vec::with_capacity(parts.len() + 1);
    for part in parts {
        objects.push(part.into_pyobject(py)?.into_any());
    }
    objects.push(nodes(py, &stats.nodes)?.into_any());
    value(py, &CLASS, "Stats", PyTuple::new(py, objects)?)
}

/// The name of a node, as far as the layout that is followed now knows it.
fn node_name(layout: &Layout, node: NodeIndex) -> String {
    layout.member(node).map_or_else(|| format!("node {}", node.0), |member| member.name.clone())
}

fn nodes<'py>(py: Python<'py>, nodes: &[NodeStats]) -> PyResult<Bound<'py, PyTuple>> {
    static CLASS: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let nodes = nodes.iter().map(|node| {
        let NodeStats { connected, usable, in_flight, load, .. } = *node;
        let parts = (&node.name, connected, usable, in_flight, node.latency.as_secs_f64(), load);
        value(py, &CLASS, "NodeStats", parts)
    });
    PyTuple::new(py, nodes.collect::<PyResult<Vec<_>>>()?)
}

fn value<'py, Parts>(
    py: Python<'py>,
    class: &'static PyOnceLock<Py<PyAny>>,
    name: &str,
    parts: Parts,
) -> PyResult<Bound<'py, PyAny>>
where
    Parts: IntoPyObject<'py, Target = PyTuple, Output = Bound<'py, PyTuple>>,
    PyErr: From<Parts::Error>,
{
    class.import(py, "quorate.values", name)?.call1(parts.into_pyobject(py)?)
}
