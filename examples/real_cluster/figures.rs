//! What was measured of a cluster.

use std::collections::BTreeMap;

use super::agent::Kind;
use super::cluster::Mixture;
use super::statistics;

/// Values of the same thing, one for each time it was measured.
#[derive(Debug, Default, Clone)]
pub(crate) struct Series(Vec<f64>);

impl Series {
    pub(crate) fn push(&mut self, value: f64) {
        self.0.push(value);
    }

    pub(crate) fn median(&self) -> f64 {
        statistics::median(&self.0)
    }

    pub(crate) fn worst(&self) -> f64 {
        statistics::worst(&self.0)
    }
}

/// Times of a change among the members, in seconds.
#[derive(Debug, Default)]
pub(crate) struct Change {
    pub(crate) known_first: Series,
    pub(crate) known_all: Series,
    pub(crate) told_first: Series,
    pub(crate) told_all: Series,
}

/// What a node of one kind takes up.
#[derive(Debug, Default)]
pub(crate) struct Costs {
    /// Processor time in a minute at rest, in seconds; one value for each window.
    pub(crate) processor: Series,
    /// One value for each node, in MiB.
    pub(crate) resident: Series,
    pub(crate) anonymous: Series,
}

/// What was measured of a cluster.
#[derive(Debug)]
pub(crate) struct Figures {
    pub(crate) mixture: Mixture,
    pub(crate) count: usize,
    /// Of each event: the times at which one node, two nodes, … had it, in seconds since it was sent.
    pub(crate) events: Vec<Vec<f64>>,
    pub(crate) join: Change,
    pub(crate) failure: Change,
    /// Each node's in a second at rest.
    pub(crate) packets: Series,
    pub(crate) bytes: Series,
    pub(crate) costs: BTreeMap<Kind, Costs>,
}

impl Figures {
    pub(crate) fn new(mixture: Mixture, count: usize) -> Self {
        Self {
            mixture,
            count,
            events: Vec::new(),
            join: Change::default(),
            failure: Change::default(),
            packets: Series::default(),
            bytes: Series::default(),
            costs: BTreeMap::new(),
        }
    }

    /// The times until so many nodes had an event.
    pub(crate) fn event(&self, nodes: usize) -> Series {
        let reached = |times: &Vec<f64>| times.get(nodes.saturating_sub(1)).copied();
        Series(self.events.iter().filter_map(reached).collect())
    }
}
