//! How long a join, an event and a failure take, by the cluster's size.

use plotters::prelude::*;

use super::legend::{Legend, Mark};
use super::{COLOURS, Drawn, GREY, chart, dots, picture, plain, powers, seconds, theory};
use crate::data::{self, Times};
use crate::statistics::{median, worst};
use crate::theory as model;

const SIZES: (f64, f64) = (10.0, 10_000.0);

/// A time that was measured, with its name.
type Line = (&'static str, fn(&Times) -> f64);
/// What theory says, by the number of nodes.
type TheoryLine = (&'static str, RGBColor, fn(f64) -> f64);

const LINES: [Line; 5] = [
    ("event known by half", |times| times.event_half),
    ("event known by all", |times| times.event_all),
    ("join known by all", |times| times.join),
    ("failure suspected by one", |times| times.suspected),
    ("failure known by all", |times| times.failed_all),
];

pub(super) fn draw() -> Drawn {
    let rows: Vec<(f64, Vec<Times>)> = data::sizes("times")
        .into_iter()
        .map(|size| (size as f64, data::read(&format!("times-{size}"))))
        .collect();
    picture("scale-times.svg", (980, 500), |area| {
        let (left, right) = area.split_horizontally(730);
        let mut legend = Legend::default();
        let mut chart = chart(
            &left,
            "Time for news to reach everybody (dots: median; bars: up to the worst)",
            ((SIZES.0 * 0.9..SIZES.1 * 1.1).log_scale(), "nodes"),
            ((0.002..200.0).log_scale(), ""),
            (&plain, &seconds),
        )?;
        for ((label, of), colour) in LINES.into_iter().zip(COLOURS) {
            let figures = |rows: &[Times]| rows.iter().map(of).collect::<Vec<f64>>();
            let medians = rows
                .iter()
                .map(|(size, rows)| (*size, median(&figures(rows))));
            let medians: Vec<_> = medians.collect();
            let bars = rows.iter().map(|(size, rows)| {
                let figures = figures(rows);
                let ends = [(*size, median(&figures)), (*size, worst(&figures))];
                PathElement::new(ends, colour.mix(0.5).stroke_width(5))
            });
            chart.draw_series(bars)?;
            dots(&mut chart, &mut legend, (label, colour), medians)?;
        }
        let curve = |of: fn(f64) -> f64| powers(SIZES.0, SIZES.1, 12).map(move |n| (n, of(n)));
        let failed = |n| model::detection() + model::suspicion_min(n) + model::forwarding_all(n);
        let unconfirmed = |n| model::detection() + model::suspicion_max(n);
        legend.add(Mark::None, "Theory:", BLACK);
        let lines: [TheoryLine; 5] = [
            (
                "all hear, forwarding at once",
                COLOURS[1],
                model::forwarding_all,
            ),
            ("all hear, forwarding on ticks", BLACK, model::epidemic_all),
            ("detection (SWIM)", COLOURS[3], |_| model::detection()),
            ("and suspicion, confirmed", COLOURS[4], failed),
            ("and suspicion, unconfirmed", GREY, unconfirmed),
        ];
        for (label, colour, of) in lines {
            theory(&mut chart, &mut legend, (label, colour), curve(of))?;
        }
        legend.draw(&right)
    })
}
