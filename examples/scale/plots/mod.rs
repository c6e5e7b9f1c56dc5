//! The plots, drawn from what was measured: `docs/*.svg`.
//!
//! Measurements are solid, theory is dashed. What a colour means is the same in all plots where it can be.

mod event;
pub(crate) mod failures;
mod legend;
mod load;
mod real;
mod times;

use std::error::Error;

use plotters::coord::Shift;
use plotters::coord::ranged1d::{AsRangedCoord, ValueFormatter};
use plotters::prelude::*;
use plotters::series::DashedLineSeries;
use plotters::style::RGBColor;

use self::legend::{Legend, Mark};
use crate::data::docs;

/// A drawing that may fail to be written.
type Drawn = Result<(), Box<dyn Error>>;
/// Writes what an axis shows.
type Text = dyn Fn(&f64) -> String;
type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
type Chart<'a, 'b, X, Y> = ChartContext<'a, SVGBackend<'b>, Cartesian2d<X, Y>>;

/// Colours that people who see few colours tell apart too (Okabe and Ito), on white.
const COLOURS: [RGBColor; 6] = [
    RGBColor(0, 114, 178),
    RGBColor(213, 94, 0),
    RGBColor(0, 128, 96),
    RGBColor(170, 80, 140),
    RGBColor(190, 130, 0),
    RGBColor(30, 140, 200),
];
const GREY: RGBColor = RGBColor(90, 90, 90);
const FONT: &str = "sans-serif";
const LABEL_PIXELS: u32 = 14;
const TITLE_PIXELS: u32 = 17;
const DASH_PIXELS: u32 = 9;
const GAP_PIXELS: u32 = 6;

/// Draws all plots.
pub(crate) fn draw() -> Drawn {
    event::draw()?;
    times::draw()?;
    load::draw()?;
    failures::draw()?;
    real::draw()
}

/// A white picture of this name and size.
fn picture(name: &str, size: (u32, u32), draw: impl FnOnce(&Area<'_>) -> Drawn) -> Drawn {
    let file = docs().join(name);
    let area = SVGBackend::new(&file, size).into_drawing_area();
    area.fill(&WHITE)?;
    draw(&area)?;
    area.present()?;
    Ok(())
}

/// An empty chart with axes.
fn chart<'a, 'b, X, Y>(
    area: &'a Area<'b>,
    title: &str,
    (x, x_title): (X, &str),
    (y, y_title): (Y, &str),
    (x_text, y_text): (&Text, &Text),
) -> Result<Chart<'a, 'b, X::CoordDescType, Y::CoordDescType>, Box<dyn Error>>
where
    X: AsRangedCoord<Value = f64>,
    Y: AsRangedCoord<Value = f64>,
    X::CoordDescType: ValueFormatter<f64>,
    Y::CoordDescType: ValueFormatter<f64>,
{
    let mut chart = ChartBuilder::on(area)
        .caption(title, (FONT, TITLE_PIXELS))
        .margin(10)
        .margin_right(20)
        .x_label_area_size(44)
        .y_label_area_size(64)
        .build_cartesian_2d(x, y)?;
    chart
        .configure_mesh()
        .light_line_style(RGBColor(240, 240, 240))
        .y_max_light_lines(1)
        .x_labels(6)
        .bold_line_style(RGBColor(222, 222, 222))
        .axis_style(GREY)
        .label_style((FONT, LABEL_PIXELS))
        .axis_desc_style((FONT, LABEL_PIXELS))
        .x_desc(x_title)
        .y_desc(y_title)
        .x_label_formatter(x_text)
        .y_label_formatter(y_text)
        .draw()?;
    Ok(chart)
}

/// What was measured, as a line.
fn measured<X, Y>(
    chart: &mut Chart<'_, '_, X, Y>,
    legend: &mut Legend,
    (label, colour): (&str, RGBColor),
    points: Vec<(f64, f64)>,
) -> Drawn
where
    X: Ranged<ValueType = f64>,
    Y: Ranged<ValueType = f64>,
{
    chart.draw_series(LineSeries::new(points, colour.stroke_width(2)))?;
    legend.add(Mark::Line, label, colour);
    Ok(())
}

/// What was measured, as dots on a line.
fn dots<X, Y>(
    chart: &mut Chart<'_, '_, X, Y>,
    legend: &mut Legend,
    (label, colour): (&str, RGBColor),
    points: Vec<(f64, f64)>,
) -> Drawn
where
    X: Ranged<ValueType = f64>,
    Y: Ranged<ValueType = f64>,
{
    let circles = points
        .iter()
        .map(|point| Circle::new(*point, 4, colour.filled()));
    chart.draw_series(circles)?;
    measured(chart, legend, (label, colour), points)
}

/// What theory says.
fn theory<X, Y>(
    chart: &mut Chart<'_, '_, X, Y>,
    legend: &mut Legend,
    (label, colour): (&str, RGBColor),
    points: impl IntoIterator<Item = (f64, f64)>,
) -> Drawn
where
    X: Ranged<ValueType = f64>,
    Y: Ranged<ValueType = f64>,
{
    let points: Vec<_> = points.into_iter().collect();
    let line = DashedLineSeries::new(points, DASH_PIXELS, GAP_PIXELS, colour.stroke_width(1));
    chart.draw_series(line)?;
    legend.add(Mark::Dashes, label, colour);
    Ok(())
}

/// Numbers with powers of ten between two, as many to each.
fn powers(from: f64, to: f64, per_ten: usize) -> impl Iterator<Item = f64> {
    let steps = ((to / from).log10() * per_ten as f64).round() as usize;
    let factor = 10f64.powf(1.0 / per_ten as f64);
    (0..=steps).map(move |step| from * factor.powi(step as i32))
}

/// A number as people write it.
fn plain(number: &f64) -> String {
    if *number >= 1000.0 {
        format!("{:.0},000", number / 1000.0)
    } else {
        format!("{number}")
    }
}

/// Seconds, as people say them.
fn seconds(seconds: &f64) -> String {
    if *seconds < 1.0 {
        format!("{} ms", (seconds * 1e6).round() / 1e3)
    } else {
        format!("{seconds} s")
    }
}

fn percent(share: &f64) -> String {
    format!("{} %", (share * 1e6).round() / 1e4)
}
