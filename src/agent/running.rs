//! The agent at work: turns of the server, and what each of them leaves to do.
//!
//! After every turn the events it brought are handed to event handlers, their commands started, their answers sent,
//! files written, joins tried again, signals obeyed. Nothing here waits for anything.

use std::io;
use std::process::Command;
use std::time::{Duration, Instant};

use log::{error, info, warn};
use rustix::process::Signal;
use signal_hook::consts::{SIGHUP, SIGINT};

use super::config::{Config, ConfigError};
use super::daemon::{Exit, RPC_AUTH_VARIABLE, say};
use super::discovery::Discovery;
use super::files::Files;
use super::handlers::{HandlerCommand, Handlers, Launch};
use super::joining::{Joining, Progress};
use super::log::LogControl;
use super::readiness::{self, Readiness};
use super::reload::Reload;
use super::statsd::Reporter;
use crate::cluster::Cluster;
use crate::gossip::Queue;
use crate::reactor::{ChildEvent, ErrorOutput, Server, ServerEvent};
use crate::serf::Serf;

/// How long a graceful leave may take after a signal (the reference's `gracefulTimeout`).
const GRACEFUL_TIMEOUT: Duration = Duration::from_secs(3);

/// An agent that runs.
pub(super) struct Agent {
    server: Server<Serf>,
    files: Files,
    joining: Joining,
    handlers: Handlers,
    config: Config,
    log: LogControl,
    reporter: Reporter,
    discovery: Option<Discovery>,
    error_output: ErrorOutput,
    leaving_until: Option<Instant>,
    exit: Exit,
}

impl Agent {
    /// An agent that begins to join whom it is told to.
    pub(super) fn new(
        mut server: Server<Serf>,
        files: Files,
        config: Config,
        log: LogControl,
        reporter: Reporter,
        discovery: Option<Discovery>,
    ) -> Self {
        server.tell_events();
        let joining = server.with_cluster(|serf, now| Joining::start(now, &config, serf));
        let limits = config.handler_limits;
        let error_output = if config.handler_stdout_only {
            ErrorOutput::Apart
        } else {
            ErrorOutput::WithOutput
        };
        let mut agent = Self {
            server,
            files,
            joining,
            handlers: Handlers::new(Instant::now(), &config.event_handlers, limits),
            config,
            log,
            reporter,
            discovery,
            error_output,
            leaving_until: None,
            exit: Exit::Graceful,
        };
        agent.show_handlers();
        agent
    }

    /// Serves until a client, a signal or the cluster ends it.
    pub(super) fn run(
        mut self,
        reload: impl Fn() -> Result<Config, ConfigError>,
    ) -> io::Result<Exit> {
        self.keep_files();
        readiness::tell(Readiness::Ready);
        while !self.server.is_stopped() {
            let next = [
                self.leaving_until,
                self.joining.poll_timeout(),
                self.handlers.poll_timeout(),
                self.reporter.poll_timeout(),
                self.discovery.as_ref().and_then(Discovery::poll_timeout),
            ];
            let next = next.into_iter().flatten().min();
            let wait = next.map(|at| at.saturating_duration_since(Instant::now()));
            self.server.turn(wait)?;
            let now = Instant::now();
            self.handle_timeout(now);
            while let Some(event) = self.server.poll_event() {
                match event {
                    ServerEvent::Signal(SIGHUP) => self.reload(reload()),
                    event => self.handle_event(now, event),
                }
            }
            if let Some(discovery) = &mut self.discovery {
                discovery.carry_out(now, &mut self.server);
            }
            self.run_handlers(now);
            self.keep_files();
        }
        readiness::tell(Readiness::Stopping);
        self.server
            .with_cluster(|serf, now| serf.flush_snapshot(now));
        self.keep_files();
        Ok(self.exit)
    }

    fn handle_event(&mut self, now: Instant, event: ServerEvent) {
        match event {
            ServerEvent::Left => self.leaving_until = None,
            ServerEvent::Signal(signal) => self.handle_signal(signal),
            ServerEvent::Event(event) => {
                self.reporter.handle_event(&event);
                if !self.handlers.is_empty() {
                    let local = self.server.hub().cluster().local();
                    self.handlers.handle_event(now, &event, local);
                }
            }
            ServerEvent::Child(job, ChildEvent::Output(bytes)) => {
                self.handlers.handle_output(job, &bytes);
            }
            ServerEvent::Child(job, ChildEvent::Errors(bytes)) => {
                self.handlers.handle_errors(job, &bytes);
            }
            ServerEvent::Child(job, ChildEvent::Exited(result)) => {
                self.handlers.handle_exit(now, job, result);
            }
            #[cfg(feature = "mdns")]
            ServerEvent::Multicast { via, from, payload } => {
                if let Some(discovery) = &mut self.discovery {
                    discovery.handle_packet(now, via, from, &payload);
                }
            }
            ServerEvent::Evicted { reason } => {
                error!("agent: {reason}");
                self.exit = Exit::Abrupt;
            }
            ServerEvent::Completed { ticket, outcome } => {
                if let Some(discovery) = &mut self.discovery {
                    discovery.handle_completed(ticket, &outcome);
                }
                let progress = self.joining.handle_completed(now, ticket, &outcome);
                if progress == Progress::GivenUp {
                    self.stop_abruptly();
                }
            }
        }
    }

    fn handle_timeout(&mut self, now: Instant) {
        if self.leaving_until.is_some_and(|until| until <= now) {
            self.stop_abruptly();
        }
        if self.joining.poll_timeout().is_some_and(|at| at <= now) {
            let joining = &mut self.joining;
            self.server
                .with_cluster(|serf, now| joining.handle_timeout(now, serf));
        }
        self.handlers.handle_timeout(now);
        if self.reporter.poll_timeout().is_some_and(|at| at <= now) {
            self.report(now);
        }
    }

    /// Reports what has been counted, under the reference's names.
    fn report(&mut self, now: Instant) {
        let hub = self.server.hub();
        let gossip = hub.cluster().gossip();
        let (counters, rpc) = (gossip.counters(), hub.counters());
        for (name, total) in [
            ("agent.ipc.accept", rpc.accepted),
            ("agent.ipc.command", rpc.requests),
            ("memberlist.msg.alive", counters.alive),
            ("memberlist.msg.dead", counters.dead),
            ("memberlist.msg.suspect", counters.suspect),
            ("memberlist.tcp.accept", counters.streams_accepted),
            ("memberlist.tcp.connect", counters.streams_opened),
            ("memberlist.tcp.sent", counters.stream_bytes_out),
            ("memberlist.udp.received", counters.bytes_in),
            ("memberlist.udp.sent", counters.bytes_out),
        ] {
            self.reporter.set_total(name, total);
        }
        for (name, value) in [
            ("memberlist.health.score", u64::from(gossip.health_score())),
            ("serf.queue.Event", gossip.queued(Queue::Events) as u64),
            ("serf.queue.Intent", gossip.queued(Queue::Intents) as u64),
            ("serf.queue.Query", gossip.queued(Queue::Queries) as u64),
        ] {
            self.reporter.set_gauge(name, value);
        }
        self.reporter.report(now);
    }

    /// Does what the event handlers want done.
    fn run_handlers(&mut self, now: Instant) {
        while let Some(command) = self.handlers.poll_command() {
            match command {
                HandlerCommand::Launch(launch) => self.launch(now, launch),
                HandlerCommand::Terminate(job) => self.server.signal_child(job, Signal::TERM),
                HandlerCommand::Kill(job) => self.server.signal_child(job, Signal::KILL),
                HandlerCommand::Answer {
                    query,
                    name,
                    payload,
                } => {
                    let answer = |serf: &mut Serf, now| serf.respond(now, query, &payload);
                    if let Err(error) = self.server.with_cluster(answer) {
                        let length = payload.len();
                        warn!(
                            "agent: Failed to respond to query 'query: {name}' with {length} bytes: {error}"
                        );
                    }
                }
            }
        }
        let counters = self.handlers.counters();
        self.server.owner_stats().handlers = vec![
            ("dropped", counters.dropped),
            ("failed", counters.failed),
            ("queued", counters.queued),
            ("running", counters.running),
            ("started", counters.started),
            ("timeouts", counters.timeouts),
        ];
    }

    fn launch(&mut self, now: Instant, launch: Launch) {
        let mut command = Command::new("/bin/sh");
        command
            .arg("-c")
            .arg(&*launch.script)
            // Between this process and who started it.
            .env_remove(RPC_AUTH_VARIABLE)
            .env_remove(readiness::VARIABLE)
            .envs(launch.environment);
        let started =
            self.server
                .start_child(launch.job, &mut command, launch.input, self.error_output);
        if let Err(error) = started {
            let error = format!("it can't be started: {error}");
            self.handlers.handle_exit(now, launch.job, Err(error));
        }
    }

    fn handle_signal(&mut self, signal: i32) {
        let name = if signal == SIGINT {
            "interrupt"
        } else {
            "terminated"
        };
        say(&format!("==> Caught signal: {name}"));
        let graceful = if signal == SIGINT {
            !self.config.skip_leave_on_interrupt
        } else {
            self.config.leave_on_terminate
        };
        if graceful && self.leaving_until.is_none() {
            say("==> Gracefully shutting down agent...");
            info!("agent: requesting graceful leave from Serf");
            self.leaving_until = Some(Instant::now() + GRACEFUL_TIMEOUT);
            self.server.leave();
        } else {
            self.stop_abruptly();
        }
    }

    fn stop_abruptly(&mut self) {
        self.exit = Exit::Abrupt;
        self.leaving_until = None;
        self.server.stop();
    }

    fn keep_files(&mut self) {
        let files = &mut self.files;
        self.server
            .with_cluster(|serf, now| files.carry_out(now, serf));
    }

    /// Takes over what a running agent can take over of a new configuration.
    fn reload(&mut self, config: Result<Config, ConfigError>) {
        say("==> Reloading configuration...");
        let config = match config {
            Ok(config) => config,
            Err(error) => {
                warn!("agent: Failed to reload the configuration, which stays as it was: {error}");
                return;
            }
        };
        let now_tags = &self.server.hub().cluster().local().tags;
        let reload = Reload::plan(&self.config, &config, now_tags);
        self.log.set_level(config.log_level);
        self.handlers.set_scripts(&config.event_handlers);
        if let Some(tags) = reload.tags.clone() {
            self.server.with_cluster(|serf, now| {
                serf.start(now, crate::cluster::Operation::SetTags(tags));
            });
        }
        reload.tell();
        self.config = config;
        self.show_handlers();
    }

    fn show_handlers(&mut self) {
        let pairs = self.config.event_handlers.iter().flat_map(|handler| {
            let filters = handler.filters.iter();
            filters.map(|filter| (filter.to_string(), handler.script.clone()))
        });
        self.server.owner_stats().event_handlers = pairs.collect();
    }
}
