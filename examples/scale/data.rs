//! What was measured, in small files that plots and tables are made from: `docs/data/*.csv`.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

/// How long news took, in seconds; once per repetition.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Times {
    /// Until all others knew of a node that joined.
    pub(crate) join: f64,
    /// Until half of all had heard of an event.
    pub(crate) event_half: f64,
    /// Until 99 % had.
    pub(crate) event_most: f64,
    /// Until all had.
    pub(crate) event_all: f64,
    /// Until somebody suspected a node that failed.
    pub(crate) suspected: f64,
    /// Until somebody took it for failed.
    pub(crate) failed_first: f64,
    /// Until all did.
    pub(crate) failed_all: f64,
}

/// What a node sends at rest, per second.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Load {
    /// How long it was measured.
    pub(crate) seconds: f64,
    pub(crate) packets: f64,
    pub(crate) packet_bytes: f64,
    pub(crate) streams: f64,
    pub(crate) stream_bytes: f64,
}

/// What went wrong in a cluster that is treated badly.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Failures {
    /// Whether Lifeguard's parts are in use: 1 or 0.
    pub(crate) lifeguard: f64,
    /// Share of packets and of segments of streams that are lost.
    pub(crate) loss: f64,
    /// Nodes whose process stands still now and then.
    pub(crate) stopped: f64,
    /// Nodes whose messages wait now and then.
    pub(crate) delayed: f64,
    pub(crate) seconds: f64,
    /// Healthy nodes that somebody took for failed.
    pub(crate) victims: f64,
    /// How many times somebody did.
    pub(crate) told: f64,
    /// Slow nodes that somebody took for failed.
    pub(crate) slow_victims: f64,
    pub(crate) probes: f64,
    pub(crate) probes_failed: f64,
    /// How many times a node had to refute that it is suspected.
    pub(crate) refuted: f64,
}

/// A row of figures that has a file of its kind.
pub(crate) trait Row: Sized {
    const COLUMNS: &'static str;
    fn figures(&self) -> Vec<f64>;
    fn read(figures: &[f64]) -> Option<Self>;
}

/// A row is its fields, in their order.
macro_rules! row {
    ($row:ident { $($field:ident),+ }) => {
        impl Row for $row {
            const COLUMNS: &'static str = concat!($(stringify!($field), ","),+);

            fn figures(&self) -> Vec<f64> {
                vec![$(self.$field),+]
            }

            fn read(figures: &[f64]) -> Option<Self> {
                let mut figures = figures.iter().copied();
                Some(Self { $($field: figures.next()?),+ })
            }
        }
    };
}

row!(Times {
    join,
    event_half,
    event_most,
    event_all,
    suspected,
    failed_first,
    failed_all
});
row!(Load {
    seconds,
    packets,
    packet_bytes,
    streams,
    stream_bytes
});
row!(Failures {
    lifeguard,
    loss,
    stopped,
    delayed,
    seconds,
    victims,
    told,
    slow_victims,
    probes,
    probes_failed,
    refuted
});

/// A point of a curve.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Point {
    pub(crate) seconds: f64,
    pub(crate) share: f64,
}

row!(Point { seconds, share });

/// Where plots and text are.
pub(crate) fn docs() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("docs")
}

fn file(name: &str) -> PathBuf {
    docs().join("data").join(format!("{name}.csv"))
}

pub(crate) fn write<R: Row>(name: &str, rows: &[R]) {
    let mut text = format!("{}\n", R::COLUMNS.trim_end_matches(','));
    for row in rows {
        for (at, figure) in row.figures().iter().enumerate() {
            let comma = if at == 0 { "" } else { "," };
            // Microseconds are fine enough; without zeros at the end.
            let digits = format!("{figure:.6}");
            let digits = digits.trim_end_matches('0').trim_end_matches('.');
            write!(text, "{comma}{digits}").expect("it fits in memory");
        }
        text.push('\n');
    }
    let file = file(name);
    fs::create_dir_all(file.parent().expect("it is in a folder")).expect("a folder");
    fs::write(&file, text).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
}

/// What a file holds; nothing if there is none.
pub(crate) fn read<R: Row>(name: &str) -> Vec<R> {
    let text = fs::read_to_string(file(name)).unwrap_or_default();
    let row = |line: &str| {
        let figures: Result<Vec<f64>, _> = line.split(',').map(str::parse).collect();
        figures.ok().and_then(|figures| R::read(&figures))
    };
    let lines = text.lines().skip(1);
    lines
        .map(|line| row(line).unwrap_or_else(|| panic!("{name}.csv: what is {line}?")))
        .collect()
}

/// The sizes for which there are files of a kind, the smallest first.
pub(crate) fn sizes(kind: &str) -> Vec<usize> {
    let size = |name: &str| {
        let name = name.strip_prefix(kind)?.strip_prefix('-')?;
        name.strip_suffix(".csv")?.parse().ok()
    };
    let files = fs::read_dir(docs().join("data")).into_iter().flatten();
    let mut sizes: Vec<usize> = files
        .flatten()
        .filter_map(|file| size(&file.file_name().to_string_lossy()))
        .collect();
    sizes.sort_unstable();
    sizes
}
