//! What a command shows while it waits: one line on standard error, and only where that is a terminal. It is gone when
//! the command goes on.

use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

use crate::client::{Client, ClientError, Pending};

/// How often the line is written anew.
const TICK: Duration = Duration::from_millis(500);
/// Back to the start of the line, and nothing on it.
const CLEAR: &str = "\r\x1b[K";

/// A line that says what is being waited for, and for how long.
pub(super) struct Progress {
    start: Instant,
    /// Whether anybody looks.
    visible: bool,
    shown: bool,
}

impl Progress {
    pub(super) fn new() -> Self {
        Self {
            start: Instant::now(),
            visible: std::io::stderr().is_terminal(),
            shown: false,
        }
    }

    /// Shows the line.
    pub(super) fn show(&mut self, what: &str) {
        if self.visible {
            self.shown = true;
            write(&line(what, self.start.elapsed()));
        }
    }

    /// Takes the line away: something else is to be printed.
    pub(super) fn clear(&mut self) {
        if std::mem::take(&mut self.shown) {
            write(CLEAR);
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.clear();
    }
}

/// Waits for an answer as long as it takes, as the reference does, and shows that it does.
pub(super) fn wait<T>(
    client: &mut Client,
    pending: &Pending<T>,
    what: &str,
) -> Result<T, ClientError> {
    let mut progress = Progress::new();
    loop {
        progress.show(what);
        if let Some(answer) = client.answer(pending, Some(TICK))? {
            return Ok(answer);
        }
    }
}

fn line(what: &str, elapsed: Duration) -> String {
    format!("{CLEAR}{what}… {} s", elapsed.as_secs())
}

/// Whoever does not see it misses nothing.
fn write(text: &str) {
    let mut out = std::io::stderr().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_replaces_the_one_before() {
        let text = line("joining 12 addresses", Duration::from_millis(3999));
        assert_eq!(text, "\r\x1b[Kjoining 12 addresses… 3 s");
    }
}
