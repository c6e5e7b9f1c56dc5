//! What goes wrong where packets are lost and nodes are slow: probes that fail, and nodes taken for failed that are not.

use plotters::prelude::*;

use super::legend::{Legend, Mark};
use super::{Area, COLOURS, Drawn, GREY, chart, dots, percent, picture, theory};
use crate::data::{self, Failures};
use crate::theory as model;

/// The most that is lost.
const LOSS_MAX: f64 = 0.42;
/// Below these nothing is shown.
const SHARE_MIN: f64 = 1e-5;
const RATE_MIN: f64 = 0.01;
/// And this is enough.
const RATE_MAX: f64 = 20_000.0;

/// With Lifeguard and without.
const KINDS: [(&str, f64, RGBColor); 2] = [
    ("with Lifeguard", 1.0, COLOURS[0]),
    ("without", 0.0, COLOURS[1]),
];

pub(super) fn draw() -> Drawn {
    let Some(nodes) = data::sizes("failures").last().copied() else {
        return Ok(());
    };
    picture("scale-failures.svg", (980, 400), |area| {
        let (left, right) = area.split_horizontally(360);
        let (middle, right) = right.split_horizontally(440);
        let mut legend = Legend::default();
        let mut probes = chart(
            &left,
            "Probes that fail",
            (0.0..LOSS_MAX, "of packets and segments lost"),
            ((SHARE_MIN..1.0).log_scale(), ""),
            (&percent, &percent),
        )?;
        let rows = data::read::<Failures>(&format!("failures-{nodes}"));
        for (label, lifeguard, colour) in KINDS {
            let rows = rows.iter().filter(|row| is_lossy(row, lifeguard));
            let points = rows.map(|row| (row.loss, row.probes_failed / row.probes));
            let points = points.filter(|(_, share)| *share > SHARE_MIN).collect();
            dots(&mut probes, &mut legend, ("", colour), points)?;
            legend.add(Mark::Bar, label, colour);
        }
        let losses = (1..=42).map(|step| f64::from(step) * 0.01);
        let curve = losses.map(|loss| (loss, model::failed_probes(loss)));
        let curve = curve.filter(|(_, share)| *share > SHARE_MIN);
        theory(&mut probes, &mut legend, ("theory", BLACK), curve)?;
        bars(&middle, nodes, &rows)?;
        legend.draw(&right)
    })
}

fn is_lossy(row: &Failures, lifeguard: f64) -> bool {
    row.lifeguard == lifeguard && row.stopped + row.delayed == 0.0
}

/// What was done to a cluster, in few words.
pub(crate) fn treatment(row: &Failures) -> String {
    match () {
        () if row.stopped > 0.0 => "nodes stopped".to_owned(),
        () if row.delayed > 0.0 => "nodes delayed".to_owned(),
        () => format!("{:.0} % lost", row.loss * 100.0),
    }
}

/// How often somebody takes a healthy node for failed, per node and hour.
pub(crate) fn rate(row: &Failures, nodes: usize) -> f64 {
    row.told / nodes as f64 / row.seconds * 3600.0
}

/// False failures, with and without Lifeguard.
fn bars(area: &Area<'_>, nodes: usize, rows: &[Failures]) -> Drawn {
    let with = |lifeguard: f64| rows.iter().filter(move |row| row.lifeguard == lifeguard);
    let treatments: Vec<String> = with(1.0).map(treatment).collect();
    // From top to bottom, each at a whole number.
    let places = (0..treatments.len()).rev().map(|place| place as f64);
    let count = treatments.len() as f64;
    let name = |place: &f64| {
        let from_top = count - 1.0 - place;
        let name = treatments.get(from_top.round() as usize);
        let whole = from_top.fract().abs() < 0.01;
        name.filter(|_| whole).cloned().unwrap_or_default()
    };
    let title = format!("False failures per node and hour ({nodes} nodes)");
    let mut chart = ChartBuilder::on(area)
        .caption(title, (super::FONT, super::TITLE_PIXELS))
        .margin(10)
        .margin_right(30)
        .x_label_area_size(44)
        .y_label_area_size(110)
        .build_cartesian_2d((RATE_MIN..RATE_MAX).log_scale(), -0.6..count - 0.4)?;
    chart
        .configure_mesh()
        .disable_y_mesh()
        .x_labels(6)
        .y_labels(treatments.len() + 1)
        .light_line_style(RGBColor(244, 244, 244))
        .bold_line_style(RGBColor(222, 222, 222))
        .axis_style(GREY)
        .label_style((super::FONT, super::LABEL_PIXELS))
        .x_label_formatter(&super::plain)
        .y_label_formatter(&name)
        .draw()?;
    for ((_, lifeguard, colour), shift) in KINDS.into_iter().zip([0.05, -0.35]) {
        let rates = with(lifeguard).map(|row| rate(row, nodes));
        let bars = rates.zip(places.clone()).filter(|(rate, _)| *rate > 0.0);
        let bars = bars.map(|(rate, place)| {
            let bottom = place + shift;
            Rectangle::new([(RATE_MIN, bottom), (rate, bottom + 0.3)], colour.filled())
        });
        chart.draw_series(bars)?;
    }
    Ok(())
}
