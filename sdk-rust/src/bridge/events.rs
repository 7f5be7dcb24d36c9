//! Who wants to know when the cluster changes.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use dynamo::ident::NodeId;

use super::{Answer, Event, Sink};
use crate::Client;

/// The subscribers of a client.
#[derive(Default)]
pub(crate) struct Subscribers(Mutex<State>);

#[derive(Default)]
struct State {
    sinks: Vec<(u64, Arc<dyn Sink>)>,
    /// What was told of each node last: several I/O threads have connections to it, and each notices by itself.
    up: HashMap<NodeId, bool>,
}

impl Client {
    /// Has `sink` told each [`Event`] under `token`, from now on, until it does not want the token any more.
    pub fn subscribe<S: Sink + 'static>(&self, token: u64, sink: &Arc<S>) {
        let sink = Arc::clone(sink) as Arc<dyn Sink>;
        let mut subscribers = self.shared().subscribers.lock();
        subscribers.sinks.retain(|(token, sink)| sink.is_wanted(*token));
        subscribers.sinks.push((token, sink));
    }
}

impl Subscribers {
    pub(crate) fn tell(&self, event: &Event) {
        let mut state = self.lock();
        state.sinks.retain(|(token, sink)| sink.is_wanted(*token));
        let sinks = state.sinks.clone();
        drop(state);
        for (token, sink) in sinks {
            sink.deliver(token, Ok(Answer::Event(event.clone())));
            sink.flush();
        }
    }

    /// A thread found that a node can be reached, or can't. Told once, however many threads find it.
    pub(crate) fn tell_health(&self, name: String, node: NodeId, up: bool) {
        if self.lock().up.insert(node, up) != Some(up) {
            self.tell(&if up { Event::NodeUp { name, node } } else { Event::NodeDown { name, node } });
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
