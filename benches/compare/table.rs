//! Tables in Markdown.

/// What a figure is to be, and whether it is.
pub(crate) enum Bound {
    AtLeast(f64),
    AtMost(f64),
}

impl Bound {
    /// The bound in words, with how it came out.
    pub(crate) fn verdict(&self, value: f64) -> String {
        let (sign, bound, holds) = match *self {
            Self::AtLeast(bound) => (">=", bound, value >= bound),
            Self::AtMost(bound) => ("<=", bound, value <= bound),
        };
        format!(
            "{sign} {bound}: {}",
            if holds { "met" } else { "**missed**" }
        )
    }
}

pub(crate) fn head(cells: &[&str]) {
    println!("| {} |", cells.join(" | "));
    println!("|{}", "---|".repeat(cells.len()));
}

pub(crate) fn row(cells: &[String]) {
    println!("| {} |", cells.join(" | "));
}

/// A number as people write it.
pub(crate) fn number(value: f64) -> String {
    if value.abs() < 10.0 {
        return format!("{value:.2}");
    }
    if value.abs() < 1000.0 {
        return format!("{value:.1}");
    }
    let digits = format!("{value:.0}");
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at) % 3 == 0 {
            text.push(',');
        }
        text.push(digit);
    }
    text
}
