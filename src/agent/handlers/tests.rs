use super::*;
use crate::cluster::{QueryEvent, UserEvent};

const ORDERED: HandlerLimits = HandlerLimits {
    parallel: 1,
    running: 8,
    timeout: None,
};

fn scripts(texts: &[&str]) -> Vec<EventScript> {
    texts
        .iter()
        .map(|text| EventScript::parse(text).unwrap())
        .collect()
}

/// Handlers, and the time.
struct Scene {
    now: Instant,
    handlers: Handlers,
}

impl Scene {
    fn new(texts: &[&str], limits: HandlerLimits) -> Self {
        let now = Instant::now();
        let handlers = Handlers::new(now, &scripts(texts), limits);
        Self { now, handlers }
    }

    fn user(&mut self, name: &str) {
        self.hear(Event::User(UserEvent {
            ltime: 1,
            name: name.into(),
            payload: Vec::new(),
            coalesce: false,
        }));
    }

    fn hear(&mut self, event: Event) {
        let local = Member::alive("me", [10, 0, 0, 1].into(), 7946);
        self.handlers.handle_event(self.now, &event, &local);
    }

    /// What was started since the last call: the job, the command, the event's name.
    fn started(&mut self) -> Vec<(u64, String, String)> {
        let name = |launch: &Launch| {
            let pair = launch
                .environment
                .iter()
                .find(|(key, _)| key == "SERF_USER_EVENT" || key == "SERF_QUERY_NAME");
            pair.map(|(_, value)| value.clone()).unwrap_or_default()
        };
        self.commands()
            .into_iter()
            .filter_map(|command| match command {
                HandlerCommand::Launch(launch) => {
                    let name = name(&launch);
                    Some((launch.job, launch.script.to_string(), name))
                }
                _ => None,
            })
            .collect()
    }

    fn commands(&mut self) -> Vec<HandlerCommand> {
        std::iter::from_fn(|| self.handlers.poll_command()).collect()
    }

    fn end(&mut self, job: u64) {
        self.handlers.handle_exit(self.now, job, Ok(()));
    }

    fn wait(&mut self, time: Duration) {
        self.now += time;
        self.handlers.handle_timeout(self.now);
    }
}

#[test]
fn a_handler_s_events_are_handled_in_order_and_a_hung_one_holds_nobody_up() {
    let mut scene = Scene::new(&["user=hung", "user:b=quick"], ORDERED);
    for name in ["a", "b", "c", "b"] {
        scene.user(name);
    }
    let first = scene.started();
    let of = |job, script: &str, name: &str| (job, script.to_owned(), name.to_owned());
    assert_eq!(first, [of(0, "hung", "a"), of(1, "quick", "b")]);
    scene.end(1);
    assert_eq!(scene.started(), [of(2, "quick", "b")]);
    scene.end(2);
    let counters = scene.handlers.counters();
    assert_eq!(
        (counters.running, counters.queued, counters.started),
        (1, 3, 3)
    );
    scene.end(0);
    assert_eq!(scene.started(), [of(3, "hung", "b")]);
}

#[test]
fn so_many_run_at_once_and_no_handler_starves() {
    let limits = HandlerLimits {
        parallel: 10,
        running: 4,
        ..ORDERED
    };
    let mut scene = Scene::new(&["user:a=one", "user:b=two"], limits);
    for _ in 0..10 {
        scene.user("a");
    }
    scene.user("b");
    assert_eq!(scene.started().len(), 4);
    scene.end(0);
    let next = scene.started();
    // Whose turn it is: not only the one with the longest queue.
    scene.end(1);
    let then = scene.started();
    let both: Vec<_> = next
        .iter()
        .chain(&then)
        .map(|(_, script, _)| &**script)
        .collect();
    assert!(both.contains(&"one"));
    while scene.handlers.counters().queued > 0 {
        let job = *scene.handlers.jobs.keys().next().unwrap();
        scene.end(job);
    }
    let rest = scene.started();
    assert!(rest.iter().any(|(_, script, _)| script == "two"));
}

#[test]
fn a_query_is_answered_with_the_end_of_what_was_printed_if_all_went_well() {
    let mut scene = Scene::new(&["query=answer"], ORDERED);
    let id = QueryId { ltime: 3, id: 4 };
    let deadline = scene.now;
    let query = Event::Query(QueryEvent {
        id,
        name: "load".into(),
        payload: b"?".to_vec(),
        deadline,
    });
    for (printed, result, answer) in [
        (vec![&b"0."[..], b"7"], Ok(()), Some(b"0.7".to_vec())),
        (vec![], Ok(()), None),
        (vec![&b"0.7"[..]], Err("exit status 1".to_owned()), None),
        (
            vec![&[b'x'; 5000][..], &[b'y'; 5000]],
            Ok(()),
            Some([vec![b'x'; 3192], vec![b'y'; 5000]].concat()),
        ),
    ] {
        scene.hear(query.clone());
        let (job, ..) = scene.started()[0].clone();
        for bytes in printed {
            scene.handlers.handle_output(job, bytes);
        }
        scene.handlers.handle_exit(scene.now, job, result);
        let name = "load".to_owned();
        let answer = answer.map(|payload| HandlerCommand::Answer {
            query: id,
            name,
            payload,
        });
        assert_eq!(scene.commands(), Vec::from_iter(answer));
    }
    assert_eq!(scene.handlers.counters().failed, 1);
}

#[test]
fn who_takes_too_long_is_told_to_end_then_killed() {
    let timeout = Some(Duration::from_secs(10));
    let mut scene = Scene::new(&["user=slow"], HandlerLimits { timeout, ..ORDERED });
    scene.user("a");
    scene.user("b");
    scene.started();
    scene.wait(Duration::from_secs(9));
    assert_eq!(scene.commands(), []);
    scene.wait(Duration::from_secs(1));
    assert_eq!(scene.commands(), [HandlerCommand::Terminate(0)]);
    scene.wait(GRACE);
    assert_eq!(scene.commands(), [HandlerCommand::Kill(0)]);
    scene
        .handlers
        .handle_exit(scene.now, 0, Err("signal: killed".into()));
    // The next one has all its time.
    assert_eq!(scene.started().len(), 1);
    scene.end(1);
    scene.wait(Duration::from_secs(60));
    assert_eq!(scene.commands(), []);
    let counters = scene.handlers.counters();
    assert_eq!(
        (counters.timeouts, counters.failed, counters.running),
        (1, 1, 0)
    );
}

#[test]
fn a_full_queue_drops_and_counts() {
    let mut scene = Scene::new(&["user=hung"], ORDERED);
    for _ in 0..QUEUE_MAX + 3 {
        scene.user("a");
    }
    let counters = scene.handlers.counters();
    assert_eq!((counters.queued, counters.dropped), (QUEUE_MAX as u64, 2));
}

#[test]
fn a_reload_keeps_what_waits() {
    let mut scene = Scene::new(&["user=stays", "user=goes"], ORDERED);
    scene.user("a");
    scene.user("b");
    assert_eq!(scene.started().len(), 2);
    scene
        .handlers
        .set_scripts(&scripts(&["user=new", "user=stays"]));
    scene.user("c");
    let of = |job, script: &str, name: &str| (job, script.to_owned(), name.to_owned());
    assert_eq!(scene.started(), [of(2, "new", "c")]);
    scene.end(0);
    scene.end(1);
    assert_eq!(scene.started(), [of(3, "stays", "b"), of(4, "goes", "b")]);
    scene.end(3);
    scene.end(4);
    assert_eq!(scene.started(), [of(5, "stays", "c")]);
    scene.handlers.set_scripts(&[]);
    assert!(scene.handlers.is_empty());
    scene.user("d");
    assert_eq!(scene.started(), []);
}
