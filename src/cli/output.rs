//! What commands print.
//!
//! Whoever reads may stop reading; that is no reason to complain, so failures to write are ignored.

use std::io::{IsTerminal, Write};

use serde::Serialize;
use serde_json::ser::{CharEscape, Formatter, PrettyFormatter};

use super::CliError;

/// The cursor goes to the screen's corner, and the screen is empty.
const CLEAR_SCREEN: &str = "\x1b[H\x1b[2J";

/// Prints a line, or several.
pub(super) fn print(text: &str) {
    let _ = try_print(text);
}

/// The same, for who goes on for ever: fails once nobody reads.
pub(super) fn try_print(text: &str) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{text}")?;
    out.flush()
}

/// Prints in the place of what was printed before; where that can't be, an empty line comes between.
pub(super) fn print_anew(text: &str, is_first: bool) -> std::io::Result<()> {
    if std::io::stdout().is_terminal() {
        try_print(&format!("{CLEAR_SCREEN}{text}"))
    } else if is_first {
        try_print(text)
    } else {
        try_print(&format!("\n{text}"))
    }
}

/// Prints a line, or several, on standard error.
pub(super) fn print_error(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}

/// How output is to look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    Text,
    Json,
}

impl Format {
    pub(super) fn parse(text: &str) -> Result<Self, CliError> {
        match text {
            "text" => Ok(Self::Text),
            "json" => Ok(Self::Json),
            _ => Err(CliError::Failed(format!(
                "Encoding error: Invalid output format \"{text}\""
            ))),
        }
    }
}

/// JSON as Go indents and escapes it.
pub(super) fn to_json(value: &impl Serialize) -> Result<String, CliError> {
    let mut out = Vec::new();
    let formatter = GoFormatter(PrettyFormatter::with_indent(b"  "));
    let mut serializer = serde_json::Serializer::with_formatter(&mut out, formatter);
    value.serialize(&mut serializer).map_err(not_encoded)?;
    String::from_utf8(out).map_err(not_encoded)
}

/// JSON on one line.
pub(super) fn to_json_line(value: &impl Serialize) -> Result<String, CliError> {
    serde_json::to_string(value).map_err(not_encoded)
}

fn not_encoded(error: impl std::fmt::Display) -> CliError {
    CliError::Failed(format!("Encoding error: {error}"))
}

/// Go escapes what would matter within HTML.
struct GoFormatter<'a>(PrettyFormatter<'a>);

impl Formatter for GoFormatter<'_> {
    fn write_string_fragment<W: ?Sized + Write>(
        &mut self,
        writer: &mut W,
        fragment: &str,
    ) -> std::io::Result<()> {
        for char in fragment.chars() {
            match char {
                '<' | '>' | '&' | '\u{2028}' | '\u{2029}' => {
                    write!(writer, "\\u{:04x}", u32::from(char))?
                }
                _ => write!(writer, "{char}")?,
            }
        }
        Ok(())
    }

    fn write_char_escape<W: ?Sized + Write>(
        &mut self,
        writer: &mut W,
        escape: CharEscape,
    ) -> std::io::Result<()> {
        self.0.write_char_escape(writer, escape)
    }

    fn begin_array<W: ?Sized + Write>(&mut self, writer: &mut W) -> std::io::Result<()> {
        self.0.begin_array(writer)
    }

    fn end_array<W: ?Sized + Write>(&mut self, writer: &mut W) -> std::io::Result<()> {
        self.0.end_array(writer)
    }

    fn begin_array_value<W: ?Sized + Write>(
        &mut self,
        writer: &mut W,
        first: bool,
    ) -> std::io::Result<()> {
        self.0.begin_array_value(writer, first)
    }

    fn end_array_value<W: ?Sized + Write>(&mut self, writer: &mut W) -> std::io::Result<()> {
        self.0.end_array_value(writer)
    }

    fn begin_object<W: ?Sized + Write>(&mut self, writer: &mut W) -> std::io::Result<()> {
        self.0.begin_object(writer)
    }

    fn end_object<W: ?Sized + Write>(&mut self, writer: &mut W) -> std::io::Result<()> {
        self.0.end_object(writer)
    }

    fn begin_object_key<W: ?Sized + Write>(
        &mut self,
        writer: &mut W,
        first: bool,
    ) -> std::io::Result<()> {
        self.0.begin_object_key(writer, first)
    }

    fn begin_object_value<W: ?Sized + Write>(&mut self, writer: &mut W) -> std::io::Result<()> {
        self.0.begin_object_value(writer)
    }

    fn end_object_value<W: ?Sized + Write>(&mut self, writer: &mut W) -> std::io::Result<()> {
        self.0.end_object_value(writer)
    }
}

/// Rows in columns, two spaces apart; nothing hangs over at the end of a line.
pub(super) fn columns(rows: &[Vec<String>]) -> String {
    let mut widths: Vec<usize> = Vec::new();
    for row in rows {
        widths.resize(widths.len().max(row.len()), 0);
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let line = |row: &Vec<String>| {
        let cells = row
            .iter()
            .zip(&widths)
            .map(|(cell, width)| format!("{cell:<width$}"));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    rows.iter().map(line).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_escaped_and_indented_as_in_go() {
        let value = serde_json::json!({"a": [1, "<b>&\"\n"], "z": {}, "y": []});
        let text = "{\n  \"a\": [\n    1,\n    \"\\u003cb\\u003e\\u0026\\\"\\n\"\n  ],\n  \"y\": [],\n  \"z\": {}\n}";
        assert_eq!(to_json(&value).unwrap(), text);
    }

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let rows = [["a", "bb", ""], ["ccc", "d", "e"]].map(|row| row.map(str::to_owned).to_vec());
        assert_eq!(columns(&rows), "a    bb\nccc  d   e");
    }
}
