//! The view of a state, and the state after what comes.

use std::time::{Duration, Instant};

use jiff::civil::{Time, time};
use proptest::prelude::*;
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::layout::Rect;

use super::keys::Key;
use super::knowledge::{Census, Knowledge};
use super::state::{Connection, Flow, Sort, State};
use super::view::{self, Panes};
use crate::client::{Stats, StreamEvent};
use crate::cluster::{Coordinate, Member, MemberEvent, MemberEventKind, MemberStatus, UserEvent};

const NOON: Time = time(12, 0, 0, 0);

fn member(name: &str, status: MemberStatus, tags: &[(&str, &str)]) -> Member {
    Member::alive(name, [10, 0, 0, 1].into(), 7946)
        .with_status(status)
        .with_tags(tags.iter().copied().collect())
}

fn member_event(kind: MemberEventKind, members: &[Member]) -> StreamEvent {
    StreamEvent::Member(MemberEvent {
        kind,
        members: members.to_vec(),
    })
}

fn user_event(name: &str, payload: &[u8]) -> StreamEvent {
    StreamEvent::User(UserEvent {
        ltime: 1,
        name: name.to_owned(),
        payload: payload.to_vec(),
        coalesce: false,
    })
}

fn query(name: &str) -> StreamEvent {
    StreamEvent::Query {
        id: 1,
        ltime: 1,
        name: name.to_owned(),
        payload: Vec::new(),
    }
}

fn coordinate(milliseconds: f64) -> Option<Coordinate> {
    let mut coordinate = Coordinate::default();
    coordinate.vec[0] = milliseconds / 1000.0;
    Some(coordinate)
}

fn stats(pairs: &[(&str, &str, &str)]) -> Stats {
    let mut stats = Stats::new();
    for (section, key, value) in pairs {
        let section = stats.entry((*section).to_owned()).or_default();
        section.insert((*key).to_owned(), (*value).to_owned());
    }
    stats
}

const OF_REFERENCE: [(&str, &str, &str); 5] = [
    ("agent", "name", "n1"),
    ("runtime", "version", "go1.19.8"),
    ("serf", "health_score", "0"),
    ("serf", "event_queue", "0"),
    ("serf", "query_queue", "0"),
];
const OF_OURS: [(&str, &str, &str); 7] = [
    ("rpc", "clients", "3"),
    ("rpc", "dropped", "7"),
    (
        "rpc_clients",
        "127.0.0.1:999",
        "queue_bytes=4096 dropped=7 streams=1",
    ),
    ("handlers", "dropped", "0"),
    ("gossip", "queue_drops", "1"),
    ("gossip", "packets_in", "100"),
    ("gossip", "packets_out", "200"),
];

/// A state with four members and three lines of log, one second after the start.
fn state(start: Instant) -> (State, Instant) {
    let now = start + Duration::from_secs(1);
    let mut state = State::new(start, "127.0.0.1:7373");
    state.live.apply_stats(start, &stats(&OF_REFERENCE));
    state.live.apply_list(vec![
        member("n1", MemberStatus::Alive, &[]),
        member(
            "n2",
            MemberStatus::Alive,
            &[("dc", "east"), ("role", "web")],
        ),
        member("n3", MemberStatus::Failed, &[("role", "db")]),
    ]);
    state.live.apply_coordinate("n1", coordinate(0.0));
    state.live.apply_coordinate("n2", coordinate(12.3));
    state.live.apply_coordinate("n3", coordinate(2.0));
    let four = member("n4", MemberStatus::Alive, &[]);
    let events = [
        member_event(MemberEventKind::Join, &[four]),
        user_event("deploy", b"v1.2.3"),
        query("load"),
    ];
    for event in events {
        state.live.apply_event(now, NOON, &event);
    }
    (state, now)
}

/// What a terminal of this size shows.
fn draw(state: &mut State, now: Instant, width: u16, height: u16) -> Vec<String> {
    let panes = Panes::of(Rect::new(0, 0, width, height));
    state.fit(panes.member_rows(), panes.log_rows());
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    terminal
        .draw(|frame| view::draw(frame, state, now))
        .unwrap();
    let buffer = terminal.backend().buffer();
    let row = |y| -> String { (0..width).map(|x| buffer[(x, y)].symbol()).collect() };
    (0..height).map(|y| row(y).trim_end().to_owned()).collect()
}

fn press(state: &mut State, now: Instant, keys: &str) -> Flow {
    let mut flow = Flow::Continue;
    for key in keys.chars() {
        let code = match key {
            '\n' => Key::Enter,
            '\t' => Key::Tab,
            '\x1b' => Key::Escape,
            '\x7f' => Key::Backspace,
            '^' => Key::PageUp,
            'v' => Key::PageDown,
            char => Key::Char(char),
        };
        flow = state.handle_key(now, code);
    }
    flow
}

fn names(state: &State) -> Vec<String> {
    let members = state.members();
    members
        .iter()
        .map(|row| row.member.name.to_string())
        .collect()
}

#[test]
fn an_agent_of_the_reference_on_a_terminal_of_the_usual_size() {
    let (mut state, now) = state(Instant::now());
    let shown = draw(&mut state, now, 80, 24);
    let expected = "\
n1 at 127.0.0.1:7373  health 0  go1.19.8
members 4: 3 alive, 1 failed, 0 left  events 2.0/s  queries 1.0/s
dropped: clients -, handlers -, gossip -  packets -/s in, -/s out
queued: events 0, queries 0  clients -
Members 1-4 of 4, by name───────────────────────────────────────────────────────
NAME  ADDRESS        STATUS         RTT  TAGS
n1    10.0.0.1:7946  alive         here
n2    10.0.0.1:7946  alive     12.32 ms  dc=east,role=web
n3    10.0.0.1:7946  failed     2.02 ms  role=db
n4    10.0.0.1:7946  alive            -




Events 1-3 of 3─────────────────────────────────────────────────────────────────
12:00:00  member-join    n4
12:00:00  user           deploy v1.2.3
12:00:00  query          load




q quit  s sort  r reverse  / filter  p pause  tab log  ? help";
    // Between the parts there is room to spare.
    let text = |lines: &[String]| {
        lines
            .iter()
            .filter(|line| !line.is_empty())
            .cloned()
            .collect::<Vec<_>>()
    };
    let expected: Vec<String> = expected.lines().map(str::to_owned).collect();
    assert_eq!(text(&shown), text(&expected));
    assert_eq!(shown.len(), 24);
    assert_eq!(shown[23], expected[expected.len() - 1]);
}

#[test]
fn our_agent_tells_more() {
    let start = Instant::now();
    let (mut state, now) = state(start);
    let mut pairs = OF_REFERENCE.to_vec();
    pairs.extend(OF_OURS);
    state.live.apply_stats(start, &stats(&pairs));
    pairs.push(("gossip", "packets_in", "130"));
    state
        .live
        .apply_stats(start + Duration::from_secs(4), &stats(&pairs));
    let shown = draw(&mut state, now, 100, 24);
    assert_eq!(
        shown[2],
        "dropped: clients 7, handlers 0, gossip 1  packets 7.5/s in, 0.0/s out"
    );
    assert_eq!(
        shown[3],
        "queued: events 0, queries 0  clients 3, slowest 127.0.0.1:999: 4096 bytes queued, 7 dropped"
    );
}

#[test]
fn the_foot_tells_of_trouble_pause_and_filter() {
    let (mut state, now) = state(Instant::now());
    press(&mut state, now, "/WEB");
    assert_eq!(draw(&mut state, now, 80, 24)[23], "/WEB_");
    press(&mut state, now, "\np");
    state.live.apply_event(now, NOON, &query("late"));
    let shown = draw(&mut state, now, 80, 24);
    assert!(
        shown[23].starts_with("paused, 1 since  filter \"WEB\"  q quit"),
        "{shown:?}"
    );
    assert!(
        shown[4].starts_with("Members 1-1 of 1, by name"),
        "{shown:?}"
    );
    state.connection = Connection::Lost {
        why: "Connection refused".to_owned(),
        retry_at: now + Duration::from_millis(1500),
    };
    let foot = "Lost the agent, next try in 2 s: Connection refused";
    assert_eq!(draw(&mut state, now, 80, 24)[23], foot);
}

#[test]
fn help_covers_the_rest_until_a_key() {
    let (mut state, now) = state(Instant::now());
    press(&mut state, now, "?");
    let shown = draw(&mut state, now, 80, 24).join("\n");
    assert!(shown.contains("Help") && shown.contains("reverse the order"));
    assert_eq!(press(&mut state, now, "s"), Flow::Continue);
    assert!(!draw(&mut state, now, 80, 24).join("\n").contains("Help"));
    assert_eq!(state.sort, Sort::Name, "the key was for the help");
    press(&mut state, now, "?");
    assert_eq!(press(&mut state, now, "q"), Flow::Quit);
}

#[test]
fn every_size_shows_what_it_can() {
    let (mut state, now) = state(Instant::now());
    for help in ["", "?"] {
        press(&mut state, now, help);
        for (width, height) in (0..90)
            .step_by(3)
            .flat_map(|width| (0..30).map(move |height| (width, height)))
        {
            draw(&mut state, now, width, height);
        }
    }
    state.shows_help = false;
    let small = draw(&mut state, now, 20, 6);
    assert_eq!(small[0], "n1 at 127.0.0.1:7373");
    assert_eq!(small[1], "Members 1-2 of 4, by");
    assert_eq!(small[3], "n1    alive");
    assert_eq!(
        draw(&mut state, now, 80, 2)[1].trim_end(),
        "NAME  ADDRESS  STATUS         RTT  TAGS"
    );
}

#[test]
fn columns_line_up_whatever_the_names() {
    let (mut state, now) = state(Instant::now());
    let long = "a-name-that-is-much-too-long-for-its-column";
    state.live.apply_list(vec![
        member(long, MemberStatus::Alive, &[]),
        member("日本", MemberStatus::Alive, &[]),
        member("n1", MemberStatus::Alive, &[]),
    ]);
    let shown = draw(&mut state, now, 80, 24);
    assert!(
        shown[6].starts_with("a-name-that-is-much-too-lon…  "),
        "{shown:?}"
    );
    for line in &shown[6..9] {
        // The second cell of a wide character is a space here.
        let before: String = line.chars().take(30).collect();
        assert!(
            line[before.len()..].starts_with("10.0.0.1:7946  alive"),
            "{shown:?}"
        );
    }
}

#[test]
fn members_are_sorted_and_filtered_as_asked() {
    let (mut state, now) = state(Instant::now());
    assert_eq!(names(&state), ["n1", "n2", "n3", "n4"]);
    press(&mut state, now, "s");
    assert_eq!(
        names(&state),
        ["n3", "n1", "n2", "n4"],
        "who failed comes first"
    );
    press(&mut state, now, "s");
    assert_eq!(
        names(&state),
        ["n3", "n2", "n1", "n4"],
        "the nearest come first"
    );
    press(&mut state, now, "sr");
    assert_eq!(names(&state), ["n4", "n3", "n2", "n1"]);
    press(&mut state, now, "r/ROLE=w");
    assert_eq!(names(&state), ["n2"]);
    press(&mut state, now, "\x7f\x7f\x7f\x7f\x7fz\x7f\n");
    assert_eq!(names(&state), ["n2", "n3"], "what has an r");
    press(&mut state, now, "/\x1b");
    assert_eq!(names(&state).len(), 4);
    press(&mut state, now, "/q");
    assert_eq!(state.filter, "q", "keys are text while a filter is typed");
    let interrupt = Key::Interrupt;
    assert_eq!(state.handle_key(now, interrupt), Flow::Quit);
}

#[test]
fn a_paused_view_stands_still_and_then_catches_up() {
    let (mut state, now) = state(Instant::now());
    press(&mut state, now, "p");
    let before = draw(&mut state, now, 80, 24);
    let later = now + Duration::from_secs(30);
    let failed = member("n2", MemberStatus::Failed, &[]);
    let event = member_event(MemberEventKind::Failed, &[failed]);
    state.live.apply_event(later, NOON, &event);
    let after = draw(&mut state, later, 80, 24);
    assert_eq!(before[..23], after[..23], "rates too");
    press(&mut state, later, "p");
    let after = draw(&mut state, later, 80, 24).join("\n");
    assert!(
        after.contains("2 alive, 2 failed") && after.contains("member-failed  n2"),
        "{after}"
    );
}

#[test]
fn who_reads_back_in_the_log_is_not_pushed_on() {
    let (mut state, now) = state(Instant::now());
    for number in 0..40 {
        state
            .live
            .apply_event(now, NOON, &user_event(&format!("e{number}"), b""));
    }
    let log = |shown: &[String]| shown[17..23].to_vec();
    let newest = log(&draw(&mut state, now, 80, 24));
    assert!(newest[5].ends_with("e39"), "{newest:?}");
    press(&mut state, now, "\t^");
    let back = log(&draw(&mut state, now, 80, 24));
    assert!(back[5].ends_with("e29"), "{back:?}");
    state.live.apply_event(now, NOON, &user_event("more", b""));
    assert_eq!(log(&draw(&mut state, now, 80, 24)), back);
    press(&mut state, now, "gg");
    assert!(log(&draw(&mut state, now, 80, 24))[0].ends_with("member-join    n4"));
    press(&mut state, now, "j");
    assert!(
        log(&draw(&mut state, now, 80, 24))[0].ends_with("deploy v1.2.3"),
        "one line, not many"
    );
    press(&mut state, now, "G");
    assert!(log(&draw(&mut state, now, 80, 24))[5].ends_with("more"));
}

#[test]
fn nothing_of_the_cluster_gets_at_the_terminal() {
    let (mut state, now) = state(Instant::now());
    let evil = member("\x1b[2Jn0", MemberStatus::Alive, &[("a\nb", "\x07")]);
    state
        .live
        .apply_event(now, NOON, &member_event(MemberEventKind::Join, &[evil]));
    state
        .live
        .apply_event(now, NOON, &user_event("x\x1b]0;t\x07", b"\xff\r\n"));
    let shown = draw(&mut state, now, 100, 24).join("\n");
    for text in [
        "\\u{1b}[2Jn0",
        "a\\nb=\\u{7}",
        "x\\u{1b}]0;t\\u{7} \u{fffd}\\r\\n",
    ] {
        assert!(shown.contains(text), "{text:?} in {shown}");
    }
}

#[test]
fn the_list_and_events_make_the_members() {
    let start = Instant::now();
    let (mut state, now) = state(start);
    let known = &mut state.live;
    let census = |alive, failed, left, other| Census {
        alive,
        failed,
        left,
        other,
    };
    assert_eq!(known.census(), census(3, 1, 0, 0));
    let gone = [member("n3", MemberStatus::Left, &[])];
    known.apply_event(now, NOON, &member_event(MemberEventKind::Reap, &gone));
    assert_eq!(known.census(), census(3, 0, 0, 0));
    known.apply_list(vec![
        member("n2", MemberStatus::Leaving, &[]),
        member("n5", MemberStatus::Left, &[]),
    ]);
    assert_eq!(known.census(), census(0, 0, 1, 1));
    assert!(
        known.members["n2"].rtt.is_some(),
        "who stays is as far as before"
    );
    known.apply_coordinate("n2", None);
    assert_eq!(known.members["n2"].rtt, None);
}

#[test]
fn coordinates_are_asked_for_in_rounds() {
    let mut known = Knowledge::new(Instant::now());
    known.apply_stats(Instant::now(), &stats(&OF_REFERENCE));
    let names = ["n0", "n1", "n2", "n3", "n4"];
    let alive = |name: &&str| member(name, MemberStatus::Alive, &[]);
    known.apply_list(names.iter().map(alive).collect());
    let failed = [member("n3", MemberStatus::Failed, &[])];
    known.apply_event(
        Instant::now(),
        NOON,
        &member_event(MemberEventKind::Failed, &failed),
    );
    let after = |node: Option<&str>, count| -> Vec<String> {
        let others = known.others_after(node, count);
        others.iter().map(ToString::to_string).collect()
    };
    assert_eq!(after(None, 2), ["n0", "n2"]);
    assert_eq!(after(Some("n2"), 2), ["n4", "n0"]);
    assert_eq!(after(Some("n4"), 9), ["n0", "n2", "n4"], "each once");
}

#[test]
fn an_event_of_many_members_and_a_long_payload_are_cut() {
    let now = Instant::now();
    let mut known = Knowledge::new(now);
    let many: Vec<Member> = (0..12)
        .map(|n| member(&format!("n{n}"), MemberStatus::Alive, &[]))
        .collect();
    known.apply_event(now, NOON, &member_event(MemberEventKind::Join, &many));
    assert!(
        known.log[0].text.ends_with("n7 and 4 more"),
        "{:?}",
        known.log[0]
    );
    known.apply_event(now, NOON, &user_event("big", &[b'x'; 5000]));
    assert_eq!(known.log[1].text.chars().count(), "big ".len() + 256 + 1);
    for _ in 0..2000 {
        known.apply_event(now, NOON, &query("q"));
    }
    assert_eq!((known.log.len(), known.lines_ever), (1000, 2002));
}

#[derive(Debug, Clone)]
enum Step {
    Key(char),
    Join(u8),
    Reap(u8),
    User(Vec<u8>),
    Draw(u16, u16),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        proptest::sample::select("sr/p?gGjk^v\t\n\x1b\x7fn1 ".chars().collect::<Vec<_>>())
            .prop_map(Step::Key),
        any::<u8>().prop_map(Step::Join),
        any::<u8>().prop_map(Step::Reap),
        proptest::collection::vec(any::<u8>(), 0..20).prop_map(Step::User),
        (0u16..80, 0u16..30).prop_map(|(width, height)| Step::Draw(width, height)),
    ]
}

proptest! {
    // A picture takes milliseconds in a program that is not optimised.
    #![proptest_config(ProptestConfig::with_cases(32))]

    /// Whatever comes and whatever is pressed: the members are those that joined and were not reaped, and every picture
    /// starts and ends within what there is.
    #[test]
    fn the_state_holds_for_any_steps(steps in proptest::collection::vec(step(), 0..100)) {
        let start = Instant::now();
        let mut state = State::new(start, "127.0.0.1:7373");
        let mut model = std::collections::BTreeSet::new();
        for (tick, step) in steps.into_iter().enumerate() {
            let now = start + Duration::from_millis(100 * tick as u64);
            match step {
                Step::Key(key) => drop(press(&mut state, now, &key.to_string())),
                Step::Join(number) => {
                    let name = format!("n{number}");
                    let joined = [member(&name, MemberStatus::Alive, &[])];
                    state.live.apply_event(now, NOON, &member_event(MemberEventKind::Join, &joined));
                    model.insert(name);
                }
                Step::Reap(number) => {
                    let name = format!("n{number}");
                    let reaped = [member(&name, MemberStatus::Left, &[])];
                    state.live.apply_event(now, NOON, &member_event(MemberEventKind::Reap, &reaped));
                    model.remove(&name);
                }
                Step::User(payload) => {
                    state.live.apply_event(now, NOON, &user_event("e", &payload));
                }
                Step::Draw(width, height) => {
                    draw(&mut state, now, width, height);
                    prop_assert!(state.members_above <= state.members().len());
                    prop_assert!(state.lines_below <= state.log().len());
                }
            }
            let members = state.live.members.keys();
            prop_assert!(members.map(|name| &**name).eq(model.iter().map(String::as_str)));
        }
    }
}
