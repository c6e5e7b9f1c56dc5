//! An event among 20 simulated nodes, beside clusters of 20 real agents (`docs/real-cluster.md`).

use plotters::prelude::*;

use super::event::line;
use super::legend::{Legend, Mark};
use super::{COLOURS, Drawn, GREY, chart, measured, percent, picture, powers, seconds, theory};
use crate::data::{self, Point};
use crate::theory as model;

/// How many nodes those clusters have.
const NODES: usize = 20;
const SPAN: (f64, f64) = (0.001, 4.0);

pub(super) fn draw() -> Drawn {
    let clusters = [
        ("simulated serfling", format!("event-{NODES}")),
        ("real serfling", "real-cluster-serfling".to_owned()),
        ("real Serf", "real-cluster-serf".to_owned()),
        ("real, half of each", "real-cluster-mixed".to_owned()),
    ];
    picture("real-cluster.svg", (980, 400), |area| {
        let (left, right) = area.split_horizontally(730);
        let mut legend = Legend::default();
        let mut chart = chart(
            &left,
            &format!("Share of {NODES} nodes that have heard of an event"),
            ((SPAN.0..SPAN.1).log_scale(), "after it was sent"),
            (0.0..1.0, ""),
            (&seconds, &percent),
        )?;
        for ((label, name), colour) in clusters.into_iter().zip(COLOURS) {
            let points = data::read::<Point>(&name);
            let Some(last) = points.last().copied() else {
                continue;
            };
            let mut line = line(&points);
            line.push((SPAN.1, last.share));
            measured(&mut chart, &mut legend, (label, colour), line)?;
        }
        legend.add(Mark::None, "Theory:", BLACK);
        let nodes = NODES as f64;
        let at_once = line(&model::forwarding(nodes));
        let label = ("forwarding at once", COLOURS[0]);
        theory(&mut chart, &mut legend, label, at_once)?;
        let curve = |share: fn(f64, f64) -> f64| {
            powers(SPAN.0, SPAN.1, 16).map(move |at| (at, share(nodes, at)))
        };
        let label = ("forwarding on ticks", GREY);
        theory(&mut chart, &mut legend, label, curve(model::epidemic))?;
        let label = ("Serf's simulator", BLACK);
        theory(&mut chart, &mut legend, label, curve(model::simulator))?;
        legend.draw(&right)
    })
}
