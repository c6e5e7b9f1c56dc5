//! What share of the nodes has heard of an event, over time.

use plotters::prelude::*;

use super::legend::{Legend, Mark};
use super::{
    COLOURS, Drawn, GREY, chart, measured, percent, picture, plain, powers, seconds, theory,
};
use crate::data::{self, Point};
use crate::theory as model;

/// The plot's first and last moment, in seconds: below is the first hop, above nothing happens.
const SPAN: (f64, f64) = (0.001, 4.0);
/// Sizes that are shown if there are more.
const SHOWN: [usize; 4] = [10, 100, 1000, 10_000];

pub(super) fn draw() -> Drawn {
    let mut sizes = data::sizes("event");
    if sizes.len() > SHOWN.len() {
        sizes.retain(|size| SHOWN.contains(size));
    }
    let Some(&largest) = sizes.last() else {
        return Ok(());
    };
    picture("scale-event.svg", (980, 440), |area| {
        let (left, right) = area.split_horizontally(730);
        let mut legend = Legend::default();
        let mut chart = chart(
            &left,
            "Share of nodes that have heard of an event",
            ((SPAN.0..SPAN.1).log_scale(), "after it was sent"),
            (0.0..1.0, ""),
            (&seconds, &percent),
        )?;
        for (size, colour) in sizes.iter().zip(COLOURS) {
            let points = data::read::<Point>(&format!("event-{size}"));
            let label = format!("{} nodes", plain(&(*size as f64)));
            let mut line = line(&points);
            line.push((SPAN.1, 1.0));
            measured(&mut chart, &mut legend, (&label, colour), line)?;
        }
        legend.add(Mark::None, "Theory:", BLACK);
        for (size, colour) in sizes.iter().zip(COLOURS) {
            let points = line(&model::forwarding(*size as f64));
            let label = format!("{} forward at once", plain(&(*size as f64)));
            theory(&mut chart, &mut legend, (&label, colour), points)?;
        }
        let nodes = largest as f64;
        let curve = |share: fn(f64, f64) -> f64| {
            powers(SPAN.0, SPAN.1, 16).map(move |at| (at, share(nodes, at)))
        };
        let largest = plain(&nodes);
        let ticks = format!("{largest} forward on ticks");
        theory(
            &mut chart,
            &mut legend,
            (&ticks, GREY),
            curve(model::epidemic),
        )?;
        let simulator = format!("{largest} in Serf's simulator");
        theory(
            &mut chart,
            &mut legend,
            (&simulator, BLACK),
            curve(model::simulator),
        )?;
        legend.draw(&right)
    })
}

/// Points from the plot's first moment on.
pub(super) fn line(points: &[Point]) -> Vec<(f64, f64)> {
    let points = points.iter().filter(|point| point.seconds >= SPAN.0);
    points.map(|point| (point.seconds, point.share)).collect()
}
