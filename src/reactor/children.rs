//! Child processes: their pipes are on the poll, and their end is noticed when the system signals it.
//!
//! A child's standard output and error are one pipe, or two, read in bounded pieces; its standard input is written as it
//! takes it. A child is over when its process is, also while others still hold its pipes. Nothing of this process is inherited
//! but what is given. Each child leads a process group of its own, so that what it has started can be signalled too. As
//! the first process of a system or container, orphans of others are waited for as well.

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, ExitStatus, Stdio};

use mio::event::Event;
use mio::unix::pipe::{self, Receiver, Sender};
use mio::{Interest, Registry, Token};
use rustix::process::{Pid, Signal, WaitOptions, kill_process_group};
use slab::Slab;

/// What is read from a child before others have their turn, in bytes.
const READ_BYTES_PER_TURN: usize = 64 * 1024;
/// What is read of a child that has ended: what its pipe holds, and no more.
const LAST_BYTES_MAX: usize = 1024 * 1024;

/// What a child did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ChildEvent {
    /// It printed something.
    Output(Vec<u8>),
    /// It printed something to its standard error, which is apart.
    Errors(Vec<u8>),
    /// It has ended, well or as the text says. Nothing follows.
    Exited(Result<(), String>),
}

/// Where a child's standard error goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorOutput {
    /// Where its standard output goes, in the order that it prints.
    WithOutput,
    /// Told apart from its output.
    Apart,
}

/// Tokens of a child: of its input and its outputs.
const TOKENS_PER_CHILD: usize = 3;

#[derive(Debug)]
struct Running {
    number: u64,
    process: Child,
    input: Option<Sender>,
    unwritten: Vec<u8>,
    /// Standard output, and standard error where it is apart.
    outputs: [Option<Receiver>; 2],
}

/// The children that run.
#[derive(Debug)]
pub(super) struct Children {
    first_token: usize,
    /// By their tokens' offset in [`TOKENS_PER_CHILD`]s. A place is taken again only after the poll's events of that turn
    /// have been seen, and a closed pipe has no events.
    running: Slab<Running>,
    /// Places, and which of their outputs may be read.
    readable: VecDeque<(usize, usize)>,
    events: VecDeque<(u64, ChildEvent)>,
    /// Whether orphans become this process's children.
    adopts: bool,
}

impl Children {
    pub(super) fn new(first_token: usize) -> Self {
        Self {
            first_token,
            running: Slab::new(),
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
        errors: ErrorOutput,
    ) -> io::Result<()> {
        let (mut ours_in, theirs_in) = pipe::new()?;
        // Programs expect pipes that wait.
        theirs_in.set_nonblocking(false)?;
        let (theirs_out, ours_out) = output_pipe()?;
        let (theirs_errors, ours_errors) = match errors {
            ErrorOutput::WithOutput => (theirs_out.try_clone()?, None),
            ErrorOutput::Apart => {
                let (theirs, ours) = output_pipe()?;
                (theirs, Some(ours))
            }
        };
        command
            .stdin(Stdio::from(OwnedFd::from(theirs_in)))
            .stderr(Stdio::from(theirs_errors))
            .stdout(Stdio::from(theirs_out))
            .process_group(0);
        let process = command.spawn();
        // The command holds the child's ends of the pipes; they must not stay open here.
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let process = process?;
        let place = self.running.vacant_entry();
        let slot = place.key();
        let token = self.first_token + TOKENS_PER_CHILD * slot;
        let mut outputs = [Some(ours_out), ours_errors];
        let mut registered = registry.register(&mut ours_in, Token(token), Interest::WRITABLE);
        for (at, output) in outputs.iter_mut().enumerate() {
            if let Some(output) = output {
                let readable = Interest::READABLE;
                registered = registered
                    .and_then(|()| registry.register(output, Token(token + 1 + at), readable));
            }
        }
        if let Err(error) = registered {
            log::error!("agent: can't watch a child's pipes: {error}");
        }
        place.insert(Running {
            number,
            process,
            input: Some(ours_in),
            unwritten: input,
            outputs,
        });
        self.write(slot);
        Ok(())
    }

    /// Signals a child and all it has started.
    pub(super) fn signal(&self, number: u64, signal: Signal) {
        let child = self
            .running
            .iter()
            .find(|(_, child)| child.number == number);
        let pid = child.and_then(|(_, child)| i32::try_from(child.process.id()).ok());
        if let Some(pid) = pid.and_then(Pid::from_raw) {
            // It may be gone already, which is as good.
            let _ = kill_process_group(pid, signal);
        }
    }

    pub(super) fn note_ready(&mut self, token: Token, event: &Event) {
        let offset = token.0.saturating_sub(self.first_token);
        let slot = offset / TOKENS_PER_CHILD;
        match (offset % TOKENS_PER_CHILD).checked_sub(1) {
            Some(output) => self.readable.push_back((slot, output)),
            None if event.is_write_closed() || event.is_error() => {
                // It does not want its input; that is its own business.
                if let Some(child) = self.running.get_mut(slot) {
                    child.input = None;
                }
            }
            None => self.write(slot),
        }
    }

    /// Writes what a child takes of its input; closes it at the end.
    fn write(&mut self, slot: usize) {
        let Some(child) = self.running.get_mut(slot) else {
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
            let Some((slot, output)) = self.readable.pop_front() else {
                break;
            };
            if self.read_some(slot, output, scratch, READ_BYTES_PER_TURN) {
                self.readable.push_back((slot, output));
            }
        }
    }

    /// Reads from one of a child's outputs; says whether there may be more.
    fn read_some(
        &mut self,
        slot: usize,
        output: usize,
        scratch: &mut [u8],
        bytes_max: usize,
    ) -> bool {
        let Some(child) = self.running.get_mut(slot) else {
            return false;
        };
        let Some(place) = child.outputs.get_mut(output) else {
            return false;
        };
        let mut left = bytes_max;
        while let Some(pipe) = place {
            if left == 0 {
                return true;
            }
            match pipe.read(scratch) {
                Ok(0) => *place = None,
                Ok(count) => {
                    left = left.saturating_sub(count);
                    let bytes = scratch.get(..count).unwrap_or_default().to_vec();
                    let event = match output {
                        0 => ChildEvent::Output(bytes),
                        _ => ChildEvent::Errors(bytes),
                    };
                    self.events.push_back((child.number, event));
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return false,
                Err(_) => *place = None,
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
                    Ok(Some(status)) => ended.push((slot, describe(status))),
                    Err(error) => ended.push((slot, Err(error.to_string()))),
                }
            }
        }
        for (slot, result) in ended {
            for output in 0..TOKENS_PER_CHILD - 1 {
                self.read_some(slot, output, scratch, LAST_BYTES_MAX);
            }
            if let Some(child) = self.running.try_remove(slot) {
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
                ended.push((slot, describe(ExitStatus::from_raw(status.as_raw()))));
            }
        }
        ended
    }
}

/// A pipe for a child to print to: the child's end, which waits, and ours.
fn output_pipe() -> io::Result<(OwnedFd, Receiver)> {
    let (theirs, ours) = pipe::new()?;
    theirs.set_nonblocking(false)?;
    Ok((theirs.into(), ours))
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
