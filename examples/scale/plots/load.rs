//! What a node sends at rest, by the cluster's size.

use plotters::prelude::*;

use super::legend::{Legend, Mark};
use super::{COLOURS, Drawn, chart, dots, picture, plain, powers, theory};
use crate::data::{self, Load};
use crate::theory as model;

const SIZES: (f64, f64) = (10.0, 10_000.0);

pub(super) fn draw() -> Drawn {
    let rows: Vec<(f64, Load)> = data::sizes("load")
        .into_iter()
        .flat_map(|size| {
            let rows = data::read::<Load>(&format!("load-{size}"));
            rows.into_iter().map(move |load| (size as f64, load))
        })
        .collect();
    let points = |of: fn(&Load) -> f64| rows.iter().map(|(size, load)| (*size, of(load))).collect();
    let curve = |of: fn(f64) -> f64| powers(SIZES.0, SIZES.1, 12).map(move |n| (n, of(n)));
    let sizes = || (SIZES.0 * 0.9..SIZES.1 * 1.1).log_scale();
    picture("scale-load.svg", (980, 400), |area| {
        let (left, right) = area.split_horizontally(330);
        let (middle, right) = right.split_horizontally(430);
        let mut legend = Legend::default();
        let mut packets = chart(
            &left,
            "Packets per node and second",
            (sizes(), "nodes, at rest"),
            (0.0..4.0, ""),
            (&plain, &plain),
        )?;
        let sent = points(|load| load.packets);
        dots(&mut packets, &mut legend, ("packets", COLOURS[0]), sent)?;
        let probes = curve(|_| model::packets());
        let label = ("theory: a ping, an ack", COLOURS[0]);
        theory(&mut packets, &mut legend, label, probes)?;

        let mut bytes = chart(
            &middle,
            "Bytes per node and second",
            (sizes(), "nodes, at rest"),
            ((1.0..100_000.0).log_scale(), ""),
            (&plain, &plain),
        )?;
        let sent = points(|load| load.packet_bytes);
        dots(&mut bytes, &mut legend, ("", COLOURS[0]), sent)?;
        let probes = curve(|_| model::packet_bytes());
        theory(&mut bytes, &mut legend, ("", COLOURS[0]), probes)?;
        let sent = points(|load| load.stream_bytes);
        dots(&mut bytes, &mut legend, ("streams", COLOURS[1]), sent)?;
        let states = curve(|n| model::stream_bytes(n.round() as usize));
        let label = ("theory: two states", COLOURS[1]);
        theory(&mut bytes, &mut legend, label, states)?;
        legend.add(Mark::None, "     in each push/pull interval", BLACK);
        legend.draw(&right)
    })
}
