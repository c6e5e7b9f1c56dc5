//! Draws the state. What does not fit goes: first the log, then the head, then columns.

use std::time::{Duration, Instant};

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Borders, Clear, Paragraph};

use super::knowledge::{LogLine, Row};
use super::state::{Connection, Focus, State, tags_text};
use crate::cluster::MemberStatus;

/// What stands for what is not known.
const UNKNOWN: &str = "-";
/// Space between columns.
const GAP: &str = "  ";
/// The widest a column of names or addresses gets.
const NAME_WIDTH_MAX: usize = 28;
const ADDRESS_WIDTH_MAX: usize = 47;
/// Below this many columns, addresses go; below the other, tags and times too.
const WIDTH_WITH_ADDRESS: u16 = 64;
const WIDTH_WITH_RTT: u16 = 32;

const KEYS: &str = "q quit  s sort  r reverse  / filter  p pause  tab log  ? help";
const HELP: &str = "\
q, Ctrl-C      quit
s              sort by name, status, round-trip time
r              reverse the order
/              filter members and log by text; Enter keeps it, Esc drops it
p, space       pause and go on
Tab            scroll members or log
arrows, j, k   scroll a line; PgUp, PgDn a page
Home, End      first, last (g, G)
?              this help; any key leaves it

rtt is the round-trip time from the agent's node, by coordinates.
A dash stands for what the agent does not tell.";

/// Where the parts of the view are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Panes {
    head: Rect,
    members: Rect,
    log: Rect,
    foot: Rect,
}

impl Panes {
    /// The parts of this area.
    pub(super) fn of(area: Rect) -> Self {
        let (head, foot) = match area.height {
            0..3 => (0, 0),
            3..10 => (1, 1),
            _ => (4, 1),
        };
        let body = area.height - head - foot;
        let log = if body < 8 { 0 } else { body * 2 / 5 };
        let parts = [head, body - log, log, foot].map(Constraint::Length);
        let [head, members, log, foot] = Layout::vertical(parts).areas(area);
        Self {
            head,
            members,
            log,
            foot,
        }
    }

    /// How many members there is room for, below title and column heads.
    pub(super) fn member_rows(&self) -> usize {
        self.members.height.saturating_sub(2).into()
    }

    /// How many lines of the log there is room for, below the title.
    pub(super) fn log_rows(&self) -> usize {
        self.log.height.saturating_sub(1).into()
    }
}

/// Draws the state, fitted to the [panes](Panes) of the frame.
pub(super) fn draw(frame: &mut Frame<'_>, state: &State, now: Instant) {
    let panes = Panes::of(frame.area());
    frame.render_widget(Paragraph::new(head(state, now)), panes.head);
    draw_members(frame, state, &panes);
    draw_log(frame, state, &panes);
    frame.render_widget(Paragraph::new(foot(state, now)), panes.foot);
    if state.shows_help {
        draw_help(frame);
    }
}

fn head(state: &State, now: Instant) -> Vec<Line<'static>> {
    let shown = state.shown();
    let at = state.shown_at(now);
    let figures = &shown.figures;
    let count =
        |count: Option<u64>| count.map_or_else(|| UNKNOWN.to_owned(), |count| count.to_string());
    let name = figures.name.as_deref().unwrap_or(UNKNOWN);
    let health = match figures.health_score {
        Some(0) => Span::styled("health 0", Color::Green),
        score => Span::styled(format!("health {}", count(score)), Color::Yellow),
    };
    let version = figures.version.as_deref().unwrap_or(UNKNOWN);
    let first = vec![
        Span::styled(visible(name), Modifier::BOLD),
        format!(" at {}{GAP}", state.address).into(),
        health,
        format!("{GAP}{}", visible(version)).into(),
    ];
    let census = shown.census();
    let second = format!(
        "members {}: {} alive, {} failed, {} left{GAP}events {:.1}/s{GAP}queries {:.1}/s",
        shown.members.len(),
        census.alive,
        census.failed,
        census.left,
        shown.events.per_second(at),
        shown.queries.per_second(at),
    );
    let third = format!(
        "dropped: clients {}, handlers {}, gossip {}{GAP}packets {}/s in, {}/s out",
        count(figures.rpc_dropped),
        count(figures.handlers_dropped),
        count(figures.gossip_dropped),
        packets(figures.packets_in),
        packets(figures.packets_out),
    );
    let mut fourth = format!(
        "queued: events {}, queries {}{GAP}clients {}",
        count(figures.event_queue),
        count(figures.query_queue),
        count(figures.clients)
    );
    if let Some(client) = &figures.slowest {
        fourth.push_str(&format!(
            ", slowest {}: {} bytes queued, {} dropped",
            visible(&client.peer),
            client.queue_bytes,
            client.dropped
        ));
    }
    vec![first.into(), second.into(), third.into(), fourth.into()]
}

fn packets(counter: Option<super::figures::Counter>) -> String {
    let rate = counter.and_then(|counter| counter.per_second);
    rate.map_or_else(|| UNKNOWN.to_owned(), |rate| format!("{rate:.1}"))
}

fn draw_members(frame: &mut Frame<'_>, state: &State, panes: &Panes) {
    let rows = state.members();
    let visible_rows: Vec<&Row> = rows
        .iter()
        .skip(state.members_above)
        .take(panes.member_rows())
        .copied()
        .collect();
    let order = if state.reversed { ", reversed" } else { "" };
    let title = format!(
        "Members {} of {}, by {}{order}",
        span_of(state.members_above, visible_rows.len()),
        rows.len(),
        state.sort.as_str()
    );
    let columns = Columns::of(&visible_rows, panes.members.width);
    let mut lines = vec![columns.heads()];
    let own = state.shown().figures.name.as_deref();
    lines.extend(visible_rows.iter().map(|row| columns.line(row, own)));
    let block = pane(title, state.focus == Focus::Members);
    frame.render_widget(Paragraph::new(lines).block(block), panes.members);
}

/// The widths of the columns of members, by what is in them; none for a column that there is no room for.
struct Columns {
    name: usize,
    address: Option<usize>,
    has_rest: bool,
}

impl Columns {
    fn of(rows: &[&Row], width: u16) -> Self {
        let widest = |text: fn(&Row) -> String, head: &str| {
            let widths = rows.iter().map(|row| cells(&text(row)));
            widths.max().unwrap_or_default().max(head.len())
        };
        Self {
            name: widest(name, "NAME").min(NAME_WIDTH_MAX),
            address: (width >= WIDTH_WITH_ADDRESS)
                .then(|| widest(address, "ADDRESS").min(ADDRESS_WIDTH_MAX)),
            has_rest: width >= WIDTH_WITH_RTT,
        }
    }

    fn heads(&self) -> Line<'static> {
        let mut text = padded("NAME", self.name);
        if let Some(width) = self.address {
            text.push_str(&padded("ADDRESS", width));
        }
        text.push_str(&padded("STATUS", STATUS_WIDTH));
        if self.has_rest {
            text.push_str(&format!("{:>RTT_WIDTH$}{GAP}TAGS", "RTT"));
        }
        Line::styled(text, Modifier::DIM)
    }

    fn line(&self, row: &Row, own: Option<&str>) -> Line<'static> {
        let mut spans = vec![Span::raw(padded(&name(row), self.name))];
        if let Some(width) = self.address {
            spans.push(padded(&address(row), width).into());
        }
        let status = row.member.status;
        spans.push(Span::styled(
            padded(status.as_str(), STATUS_WIDTH),
            status_style(status),
        ));
        if self.has_rest {
            let rtt = if own == Some(&*row.member.name) {
                "here".to_owned()
            } else {
                row.rtt.map_or_else(|| UNKNOWN.to_owned(), milliseconds)
            };
            spans.push(format!("{rtt:>RTT_WIDTH$}{GAP}").into());
            spans.push(visible(&tags_text(row)).into());
        }
        spans.into()
    }
}

const STATUS_WIDTH: usize = 7;
const RTT_WIDTH: usize = 9;

fn name(row: &Row) -> String {
    visible(&row.member.name)
}

fn address(row: &Row) -> String {
    std::net::SocketAddr::new(row.member.addr, row.member.port).to_string()
}

/// A text of just this width, and the gap to the next column.
fn padded(text: &str, width: usize) -> String {
    let mut text = text.to_owned();
    if cells(&text) > width {
        while cells(&text) >= width && text.pop().is_some() {}
        text.push('…');
    }
    let space = width.saturating_sub(cells(&text));
    format!("{text}{:space$}{GAP}", "")
}

/// How many cells of the terminal a text takes.
fn cells(text: &str) -> usize {
    Span::raw(text).width()
}

fn status_style(status: MemberStatus) -> Style {
    match status {
        MemberStatus::Alive => Color::Green.into(),
        MemberStatus::Failed => Style::from(Color::Red).add_modifier(Modifier::BOLD),
        MemberStatus::Leaving | MemberStatus::None => Color::Yellow.into(),
        MemberStatus::Left => Modifier::DIM.into(),
    }
}

fn milliseconds(rtt: Duration) -> String {
    format!("{:.2} ms", rtt.as_secs_f64() * 1000.0)
}

fn draw_log(frame: &mut Frame<'_>, state: &State, panes: &Panes) {
    if panes.log.height == 0 {
        return;
    }
    let lines = state.log();
    let end = lines.len().saturating_sub(state.lines_below);
    let start = end.saturating_sub(panes.log_rows());
    let shown = lines.get(start..end).unwrap_or_default();
    let title = format!("Events {} of {}", span_of(start, shown.len()), lines.len());
    let block = pane(title, state.focus == Focus::Log);
    let lines: Vec<Line<'_>> = shown.iter().map(|line| log_line(line)).collect();
    frame.render_widget(Paragraph::new(lines).block(block), panes.log);
}

fn log_line(line: &LogLine) -> Line<'static> {
    let color = match line.kind {
        "user" => Color::Cyan,
        "query" => Color::Magenta,
        "member-failed" => Color::Red,
        _ => Color::Reset,
    };
    vec![
        Span::styled(line.at.strftime("%H:%M:%S").to_string(), Modifier::DIM),
        Span::styled(format!("{GAP}{:<13}{GAP}", line.kind), color),
        visible(&line.text).into(),
    ]
    .into()
}

fn foot(state: &State, now: Instant) -> Line<'static> {
    if let Connection::Lost { why, retry_at } = &state.connection {
        let seconds = retry_at.saturating_duration_since(now).as_secs_f64().ceil();
        let text = format!("Lost the agent, next try in {seconds} s: {}", visible(why));
        return Line::styled(text, Style::from(Color::Red).add_modifier(Modifier::BOLD));
    }
    if state.is_typing {
        return format!("/{}_", visible(&state.filter)).into();
    }
    let mut spans = Vec::new();
    if let Some(missed) = state.missed() {
        let text = format!("paused, {missed} since{GAP}");
        spans.push(Span::styled(text, Color::Yellow));
    }
    if !state.filter.is_empty() {
        let text = format!("filter {:?}{GAP}", state.filter);
        spans.push(Span::styled(text, Color::Yellow));
    }
    spans.push(Span::styled(KEYS, Modifier::DIM));
    spans.into()
}

fn draw_help(frame: &mut Frame<'_>) {
    let area = frame.area();
    let lines = HELP.lines();
    let width = lines.clone().map(str::len).max().unwrap_or_default() + 2;
    let size = |length: usize| Constraint::Max(u16::try_from(length).unwrap_or(u16::MAX));
    let area = area.centered(size(width), size(lines.count() + 2));
    frame.render_widget(Clear, area);
    let block = Block::bordered().title("Help");
    frame.render_widget(Paragraph::new(HELP).block(block), area);
}

fn pane(title: String, has_focus: bool) -> Block<'static> {
    let style = if has_focus {
        Modifier::BOLD
    } else {
        Modifier::DIM
    };
    Block::new()
        .borders(Borders::TOP)
        .title(Span::styled(title, style))
}

/// What part of a list is shown, counted from one.
fn span_of(before: usize, count: usize) -> String {
    if count == 0 {
        "0".to_owned()
    } else {
        format!("{}-{}", before + 1, before + count)
    }
}

/// A text without what would move the cursor or change the terminal.
fn visible(text: &str) -> String {
    if !text.chars().any(char::is_control) {
        return text.to_owned();
    }
    text.chars()
        .map(|char| {
            if char.is_control() {
                char.escape_default().to_string()
            } else {
                char.to_string()
            }
        })
        .collect()
}
