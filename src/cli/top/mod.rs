//! `top`: a live view of the cluster in the terminal, of any agent.
//!
//! [`state`] and [`knowledge`] hold what is to be seen and read no clock; [`view`] draws it; [`link`] is the connection,
//! [`screen`] the terminal. The loop here joins them, in one thread: it waits for keyboard, agent and time together, and
//! draws what has changed, ten times a second at the most.

mod figures;
mod keys;
mod knowledge;
mod link;
mod rate;
mod screen;
mod state;
#[cfg(test)]
mod tests;
mod view;

use std::io::{self, IsTerminal};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::{ArgMatches, Command};
use jiff::ZonedDateTime;

use self::link::Link;
use self::screen::Screen;
use self::state::{Flow, State};
use self::view::Panes;
use super::CliError;
use super::hint::{call_failed, with_hint};
use super::rpc::{failed, options, with_rpc_flags};

/// The shortest time between two pictures.
const FRAME: Duration = Duration::from_millis(100);
/// The longest: rates fall though nothing comes.
const REDRAW: Duration = Duration::from_secs(1);

pub(super) fn command() -> Command {
    with_rpc_flags(
        Command::new("top").about("Shows members, events and figures of a cluster, live"),
    )
}

pub(super) fn run(matches: &ArgMatches) -> Result<ExitCode, CliError> {
    let options = options(matches)?;
    if !io::stdin().is_terminal() || !io::stdout().is_terminal() {
        let hint = "`serfling members -watch` and `serfling monitor` write to files and pipes";
        let text = with_hint("`top` needs a terminal", Some(hint));
        return Err(CliError::Failed(text));
    }
    let mut state = State::new(Instant::now(), &options.address.to_string());
    let mut link = Link::open(options).map_err(call_failed("Error connecting to Serf agent"))?;
    // What goes wrong is told once the terminal is as it was.
    let result = Screen::open().and_then(|mut screen| show(&mut screen, &mut link, &mut state));
    result.map_err(failed("Error using the terminal"))?;
    Ok(ExitCode::SUCCESS)
}

/// Shows the state until the user has seen enough.
fn show(screen: &mut Screen, link: &mut Link, state: &mut State) -> io::Result<()> {
    let mut next_frame = Instant::now();
    let mut changed = true;
    while !screen.is_over() {
        link.advance(Instant::now(), state);
        let now = Instant::now();
        if changed && now >= next_frame || now >= next_frame + REDRAW {
            let panes = Panes::of(screen.area()?);
            state.fit(panes.member_rows(), panes.log_rows());
            screen.draw(|frame| view::draw(frame, state, now))?;
            next_frame = now + FRAME;
            changed = false;
        }
        let frame_due = if changed {
            next_frame
        } else {
            next_frame + REDRAW
        };
        let until = link.due().min(frame_due);
        let ready = screen.wait(link.fd(), until.saturating_duration_since(now))?;
        changed |= ready.agent || ready.keyboard || ready.signal;
        if ready.keyboard {
            for key in screen.keys()? {
                if state.handle_key(Instant::now(), key) == Flow::Quit {
                    return Ok(());
                }
            }
        }
        if ready.agent {
            link.receive(Instant::now(), ZonedDateTime::now().time(), state);
        }
    }
    Ok(())
}
