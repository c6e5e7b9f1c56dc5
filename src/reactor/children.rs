//! Child processes: their pipes are on the poll, and their end is noticed when the system signals it.
//!
//! A child's standard output and error are one pipe, read in bounded pieces; its standard input is written as it takes
//! it. A child is over when its process is, also while others still hold its pipes. Nothing of this process is inherited
//! but what is given. Each child leads a process group of its own, so that what it has started can be signalled too. As
//! the first process of a system or container, orphans of others are waited for as well.

use std::collections::{HashMap, VecDeque};
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, ExitStatus, Stdio};

use mio::event::Event;
use mio::unix::pipe::{self, Receiver, Sender};
use mio::{Interest, Registry, Token};
use rustix::process::{Pid, Signal, WaitOptions, kill_process_group};

/// What is read from a child before others have their turn, in bytes.
const READ_BYTES_PER_TURN: usize = 64 * 1024;
/// What is read of a child that has ended: what its pipe holds, and no more.
const LAST_BYTES_MAX: usize = 1024 * 1024;

/// What a child did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ChildEvent {
    /// It printed something.
    Output(Vec<u8>),
    /// It has ended, well or as the text says. Nothing follows.
    Exited(Result<(), String>),
}

#[derive(Debug)]
struct Running {
    number: u64,
    process: Child,
    input: Option<Sender>,
    unwritten: Vec<u8>,
    output: Option<Receiver>,
}

/// The children that run.
#[derive(Debug)]
pub(super) struct Children {
    first_token: usize,
    next_token: usize,
    /// By half of their tokens' offset: even ones are of inputs, odd ones of outputs.
    running: HashMap<usize, Running>,
    readable: VecDeque<usize>,
    events: VecDeque<(u64, ChildEvent)>,
    /// Whether orphans become this process's children.
    adopts: bool,
}

impl Children {
    pub(super) fn new(first_token: usize) -> Self {
        Self {
            first_token,
            next_token: 0,
            running: HashMap::new(),
            readable: VecDeque::new(),
            events: VecDeque::new(),
            adopts: std::process::id() == 1,
        }
    }

    pub(super) fn has_work(&self) -> bool {
        !self.readable.is_empty()
    }

    pub(super) fn poll_event(&mut self) -> Option<(u64, ChildEvent)> {
        self.events.pop_front()
    }

    /// Starts a child, which gets `input` as its standard input.
    pub(super) fn start(
        &mut self,
        registry: &Registry,
        number: u64,
        command: &mut Command,
        input: Vec<u8>,
    ) -> io::Result<()> {
        let (mut ours_in, theirs_in) = pipe::new()?;
        let (theirs_out, mut ours_out) = pipe::new()?;
        // Programs expect pipes that wait.
        theirs_in.set_nonblocking(false)?;
        theirs_out.set_nonblocking(false)?;
        let output = OwnedFd::from(theirs_out);
        command
            .stdin(Stdio::from(OwnedFd::from(theirs_in)))
            .stderr(Stdio::from(output.try_clone()?))
            .stdout(Stdio::from(output))
            .process_group(0);
        let process = command.spawn();
        // The command holds the child's ends of the pipes; they must not stay open here.
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let process = process?;
        let slot = self.next_token;
        self.next_token += 1;
        let token = self.first_token + 2 * slot;
        let registered = registry
            .register(&mut ours_in, Token(token), Interest::WRITABLE)
            .and_then(|()| registry.register(&mut ours_out, Token(token + 1), Interest::READABLE));
        if let Err(error) = registered {
            log::error!("agent: can't watch a child's pipes: {error}");
        }
        let running = Running {
            number,
            process,
            input: Some(ours_in),
            unwritten: input,
            output: Some(ours_out),
        };
        self.running.insert(slot, running);
        self.write(slot);
        Ok(())
    }

    /// Signals a child and all it has started.
    pub(super) fn signal(&self, number: u64, signal: Signal) {
        let child = self.running.values().find(|child| child.number == number);
        let pid = child.and_then(|child| i32::try_from(child.process.id()).ok());
        if let Some(pid) = pid.and_then(Pid::from_raw) {
            // It may be gone already, which is as good.
            let _ = kill_process_group(pid, signal);
        }
    }

    pub(super) fn note_ready(&mut self, token: Token, event: &Event) {
        let offset = token.0.saturating_sub(self.first_token);
        let slot = offset / 2;
        if offset.is_multiple_of(2) {
            if event.is_write_closed() || event.is_error() {
                // It does not want its input; that is its own business.
                if let Some(child) = self.running.get_mut(&slot) {
                    child.input = None;
                }
            } else {
                self.write(slot);
            }
        } else {
            self.readable.push_back(slot);
        }
    }

    /// Writes what a child takes of its input; closes it at the end.
    fn write(&mut self, slot: usize) {
        let Some(child) = self.running.get_mut(&slot) else {
            return;
        };
        while let Some(input) = &mut child.input {
            if child.unwritten.is_empty() {
                child.input = None;
                break;
            }
            match input.write(&child.unwritten) {
                Ok(count) => drop(child.unwritten.drain(..count)),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(_) => child.input = None,
            }
        }
    }

    /// Reads from every child that may have printed something.
    pub(super) fn read(&mut self, scratch: &mut [u8]) {
        for _ in 0..self.readable.len() {
            let Some(slot) = self.readable.pop_front() else {
                break;
            };
            if self.read_some(slot, scratch, READ_BYTES_PER_TURN) {
                self.readable.push_back(slot);
            }
        }
    }

    /// Says whether there may be more.
    fn read_some(&mut self, slot: usize, scratch: &mut [u8], bytes_max: usize) -> bool {
        let Some(child) = self.running.get_mut(&slot) else {
            return false;
        };
        let mut left = bytes_max;
        while let Some(output) = &mut child.output {
            if left == 0 {
                return true;
            }
            match output.read(scratch) {
                Ok(0) => child.output = None,
                Ok(count) => {
                    left = left.saturating_sub(count);
                    let bytes = scratch.get(..count).unwrap_or_default().to_vec();
                    self.events
                        .push_back((child.number, ChildEvent::Output(bytes)));
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return false,
                Err(_) => child.output = None,
            }
        }
        false
    }

    /// Takes in which children have ended: to be called when the system signals that some have.
    pub(super) fn reap(&mut self, scratch: &mut [u8]) {
        let mut ended = if self.adopts {
            self.wait_for_all()
        } else {
            Vec::new()
        };
        if !self.adopts {
            for (slot, child) in &mut self.running {
                match child.process.try_wait() {
                    Ok(None) => {}
                    Ok(Some(status)) => ended.push((*slot, describe(status))),
                    Err(error) => ended.push((*slot, Err(error.to_string()))),
                }
            }
        }
        for (slot, result) in ended {
            self.read_some(slot, scratch, LAST_BYTES_MAX);
            if let Some(child) = self.running.remove(&slot) {
                self.events
                    .push_back((child.number, ChildEvent::Exited(result)));
            }
        }
    }

    /// Waits for whichever children have ended, orphans of others among them.
    fn wait_for_all(&self) -> Vec<(usize, Result<(), String>)> {
        let mut ended = Vec::new();
        while let Ok(Some((pid, status))) = rustix::process::wait(WaitOptions::NOHANG) {
            let pid = pid.as_raw_nonzero().get();
            let own = self
                .running
                .iter()
                .find(|(_, child)| i64::from(child.process.id()) == i64::from(pid));
            if let Some((slot, _)) = own {
                ended.push((*slot, describe(ExitStatus::from_raw(status.as_raw()))));
            }
        }
        ended
    }
}

/// How a child ended, in the reference's words.
fn describe(status: ExitStatus) -> Result<(), String> {
    if status.success() {
        return Ok(());
    }
    Err(match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit status {code}"),
        (None, Some(signal)) => format!("signal {signal}"),
        (None, None) => status.to_string(),
    })
}
