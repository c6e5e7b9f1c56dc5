//! What the lines and bars of a plot are, beside it: inside it would cover them.

use plotters::element::DashedPathElement;
use plotters::prelude::*;

use super::{Area, DASH_PIXELS, Drawn, FONT, GAP_PIXELS, LABEL_PIXELS};

/// Between two lines.
const LINE_PIXELS: i32 = 24;
/// Where the first one is.
const TOP_PIXELS: i32 = 46;
/// How long the mark is.
const MARK_PIXELS: i32 = 24;

/// How something is drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mark {
    Line,
    Dashes,
    Bar,
    /// Nothing is: a remark.
    None,
}

/// What the lines and bars of a plot are.
#[derive(Default)]
pub(super) struct Legend(Vec<(Mark, String, RGBColor)>);

impl Legend {
    /// Something that has no label has been explained already.
    pub(super) fn add(&mut self, mark: Mark, label: &str, colour: RGBColor) {
        if !label.is_empty() {
            self.0.push((mark, label.to_owned(), colour));
        }
    }

    pub(super) fn draw(self, area: &Area<'_>) -> Drawn {
        for ((mark, label, colour), line) in self.0.into_iter().zip(0..) {
            let y = TOP_PIXELS + line * LINE_PIXELS;
            let ends = vec![(4, y), (4 + MARK_PIXELS, y)];
            match mark {
                Mark::Line => area.draw(&PathElement::new(ends, colour.stroke_width(2)))?,
                Mark::Dashes => {
                    let style = colour.stroke_width(1);
                    let dashes = DashedPathElement::new(ends, DASH_PIXELS, GAP_PIXELS, style);
                    area.draw(&dashes)?;
                }
                Mark::Bar => {
                    let corners = [(4, y - 5), (4 + MARK_PIXELS, y + 5)];
                    area.draw(&Rectangle::new(corners, colour.filled()))?;
                }
                Mark::None => {}
            }
            let text = match mark {
                Mark::None => 4,
                _ => 4 + MARK_PIXELS + 8,
            };
            let style = (FONT, LABEL_PIXELS).into_text_style(area);
            area.draw(&Text::new(label, (text, y - 8), style))?;
        }
        Ok(())
    }
}
