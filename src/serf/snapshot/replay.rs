//! Reads a snapshot file, whatever a crash or a power failure left of it.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use super::{AfterLeave, Clocks};

/// Longer lines are no lines of a snapshot: the longest name that a gossip packet can carry is far shorter.
const LINE_BYTES_MAX: usize = 4096;

/// What a node knew when it stopped.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Recovered {
    /// The nodes that were alive, this one included, in the order of their names.
    pub alive: Vec<(Arc<str>, SocketAddr)>,
    /// The nodes that had failed.
    pub failed: Vec<(Arc<str>, SocketAddr)>,
    /// The last Lamport time of members.
    pub clock: u64,
    /// The last Lamport time of user events.
    pub event_clock: u64,
    /// The last Lamport time of queries.
    pub query_clock: u64,
}

/// Reads a snapshot file piece by piece.
#[derive(Debug)]
pub struct Replay {
    after_leave: AfterLeave,
    state: Replayed,
    /// The start of a line whose end has not come.
    partial: Vec<u8>,
    overlong: bool,
}

/// What a file said.
#[derive(Debug, Default)]
pub(super) struct Replayed {
    pub(super) alive: BTreeMap<Arc<str>, SocketAddr>,
    pub(super) failed: BTreeMap<Arc<str>, SocketAddr>,
    pub(super) clocks: Clocks,
    pub(super) bytes: u64,
    /// How many lines made no sense, a last one without end included.
    pub(super) unreadable: usize,
}

impl Replay {
    /// A replay of nothing yet.
    #[must_use]
    pub fn new(after_leave: AfterLeave) -> Self {
        Self {
            after_leave,
            state: Replayed::default(),
            partial: Vec::new(),
            overlong: false,
        }
    }

    /// Takes in the file's next bytes.
    pub fn handle_bytes(&mut self, bytes: &[u8]) {
        self.state.bytes += bytes.len() as u64;
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            let (piece, ends) = match piece.strip_suffix(b"\n") {
                Some(piece) => (piece, true),
                None => (piece, false),
            };
            // A file that lost its data to a power failure may be zeros for megabytes.
            let zeros = if self.partial.is_empty() {
                piece.iter().take_while(|byte| **byte == 0).count()
            } else {
                0
            };
            let piece = piece.get(zeros..).unwrap_or_default();
            self.overlong |= self.partial.len() + piece.len() > LINE_BYTES_MAX;
            if !self.overlong {
                self.partial.extend_from_slice(piece);
            }
            if zeros > 0 && !ends && self.partial.is_empty() {
                self.state.unreadable = self.state.unreadable.max(1);
            }
            if ends {
                self.end_line(zeros > 0);
            }
        }
    }

    pub(super) fn finish(mut self) -> Replayed {
        if !self.partial.is_empty() || self.overlong {
            self.state.unreadable += 1;
        }
        self.state
    }

    fn end_line(&mut self, damaged: bool) {
        let line = std::mem::take(&mut self.partial);
        let overlong = std::mem::take(&mut self.overlong);
        let understood = !overlong
            && str::from_utf8(&line).is_ok_and(|line| self.state.apply(line, self.after_leave));
        if !understood || damaged {
            self.state.unreadable += 1;
        }
    }
}

impl Replayed {
    /// Does what a line says; says whether it was understood.
    fn apply(&mut self, line: &str, after_leave: AfterLeave) -> bool {
        let (key, value) = line.split_once(": ").unwrap_or((line, ""));
        match key {
            "alive" => self.apply_node(value, true),
            "#failed" => self.apply_node(value, false),
            "not-alive" => {
                self.alive.remove(value);
                self.failed.remove(value);
                true
            }
            "clock" => set(&mut self.clocks.member, value),
            "event-clock" => set(&mut self.clocks.event, value),
            "query-clock" => set(&mut self.clocks.query, value),
            "leave" => {
                if after_leave == AfterLeave::StayAway {
                    self.alive.clear();
                    self.failed.clear();
                    self.clocks = Clocks::default();
                }
                true
            }
            _ => key == "coordinate" || line.starts_with('#'),
        }
    }

    /// Names may hold spaces, addresses don't.
    fn apply_node(&mut self, value: &str, alive: bool) -> bool {
        let Some((name, addr)) = value.rsplit_once(' ') else {
            return false;
        };
        let Ok(addr) = addr.parse() else {
            return false;
        };
        if name.contains('\0') {
            return false;
        }
        let (to, from) = if alive {
            (&mut self.alive, &mut self.failed)
        } else {
            (&mut self.failed, &mut self.alive)
        };
        from.remove(name);
        to.insert(name.into(), addr);
        true
    }
}

fn set(clock: &mut u64, text: &str) -> bool {
    match text.parse() {
        Ok(time) => {
            *clock = time;
            true
        }
        Err(_) => false,
    }
}
