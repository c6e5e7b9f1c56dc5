//! The terminal: raw while the view is on, and restored whatever happens.
//!
//! One wait covers keyboard, agent and signals.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use ratatui::layout::Rect;
use ratatui::{DefaultTerminal, Frame};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGWINCH};

use super::keys::{Key, Keys};

/// What is read of the keyboard at once, in bytes.
const READ_BYTES: usize = 1024;

/// What has ended the wait.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Ready {
    pub(super) agent: bool,
    pub(super) keyboard: bool,
    /// The terminal may have another size.
    pub(super) signal: bool,
}

/// The terminal in raw mode, with its second screen.
pub(super) struct Screen {
    terminal: DefaultTerminal,
    /// Gets a byte for every signal.
    signals: UnixStream,
    /// Whether a signal, or the terminal's end, asks to end.
    stop: Arc<AtomicBool>,
    keys: Keys,
}

impl Screen {
    pub(super) fn open() -> io::Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let (signals, sender) = UnixStream::pair()?;
        signals.set_nonblocking(true)?;
        for signal in [SIGINT, SIGTERM, SIGHUP, SIGQUIT] {
            signal_hook::flag::register(signal, Arc::clone(&stop))?;
        }
        for signal in [SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGWINCH] {
            signal_hook::low_level::pipe::register(signal, sender.try_clone()?)?;
        }
        let terminal = ratatui::try_init().inspect_err(|_| ratatui::restore())?;
        Ok(Self {
            terminal,
            signals,
            stop,
            keys: Keys::default(),
        })
    }

    /// Whether the program was asked to end.
    pub(super) fn is_over(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    pub(super) fn area(&self) -> io::Result<Rect> {
        Ok(Rect::from((
            ratatui::layout::Position::ORIGIN,
            self.terminal.size()?,
        )))
    }

    pub(super) fn draw(&mut self, draw: impl FnOnce(&mut Frame<'_>)) -> io::Result<()> {
        self.terminal.draw(draw).map(drop)
    }

    /// Waits for a key, the agent, a signal or the time.
    pub(super) fn wait(
        &mut self,
        agent: Option<BorrowedFd<'_>>,
        timeout: Duration,
    ) -> io::Result<Ready> {
        let stdin = io::stdin();
        let stdin = stdin.as_fd();
        let mut waited: Vec<PollFd<'_>> = [Some(stdin), Some(self.signals.as_fd()), agent]
            .into_iter()
            .flatten()
            .map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN))
            .collect();
        match poll(&mut waited, Timespec::try_from(timeout).ok().as_ref()) {
            Ok(_) => {}
            Err(rustix::io::Errno::INTR) => return Ok(Ready::default()),
            Err(error) => return Err(error.into()),
        }
        let came = |index: usize| {
            waited
                .get(index)
                .map_or(PollFlags::empty(), PollFd::revents)
        };
        // Nobody sits at a terminal that has gone.
        if came(0).intersects(PollFlags::HUP | PollFlags::ERR | PollFlags::NVAL) {
            self.stop.store(true, Ordering::Relaxed);
        }
        let ready = Ready {
            agent: !came(2).is_empty(),
            keyboard: came(0).contains(PollFlags::IN),
            signal: !came(1).is_empty(),
        };
        if ready.signal {
            self.drain_signals();
        }
        Ok(ready)
    }

    /// The keys that have come, once the keyboard is readable.
    pub(super) fn keys(&mut self) -> io::Result<Vec<Key>> {
        let mut buffer = [0; READ_BYTES];
        match rustix::io::read(io::stdin().as_fd(), &mut buffer) {
            Ok(0) | Err(rustix::io::Errno::IO) => {
                self.stop.store(true, Ordering::Relaxed);
                Ok(Vec::new())
            }
            Ok(count) => Ok(self.keys.read(buffer.get(..count).unwrap_or_default())),
            Err(rustix::io::Errno::INTR | rustix::io::Errno::AGAIN) => Ok(Vec::new()),
            Err(error) => Err(error.into()),
        }
    }

    fn drain_signals(&mut self) {
        let mut buffer = [0; 64];
        while io::Read::read(&mut self.signals, &mut buffer).is_ok_and(|count| count > 0) {}
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        ratatui::restore();
    }
}
