//! Which streams want which events.
//!
//! Streams are listed by topic, so an event costs what the streams that want it cost, however many others there are. A
//! stream stands at most once in the lists of any one event: filters that another of its filters covers are left out.

use std::collections::HashMap;

use slab::Slab;

use super::filter::EventFilter;
use super::session::SessionId;
use crate::cluster::Event;

/// Names a stream in [`Subscriptions`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct StreamKey(usize);

/// Where a stream's records go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Subscriber {
    pub(super) session: SessionId,
    /// Seq of the request that opened the stream.
    pub(super) seq: u64,
}

#[derive(Debug)]
struct Stream {
    /// The topics, and the stream's place in the list of each.
    places: Vec<(EventFilter, usize)>,
}

#[derive(Debug, Clone, Copy)]
struct Listed {
    subscriber: Subscriber,
    stream: StreamKey,
    /// Which of the stream's places this is.
    place: usize,
}

/// Which streams want which events.
#[derive(Debug, Default)]
pub(super) struct Subscriptions {
    streams: Slab<Stream>,
    topics: HashMap<EventFilter, Vec<Listed>>,
}

impl Subscriptions {
    pub(super) fn len(&self) -> usize {
        self.streams.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.streams.is_empty()
    }

    /// Lists a stream under its filters.
    pub(super) fn add(&mut self, subscriber: Subscriber, filters: Vec<EventFilter>) -> StreamKey {
        let entry = self.streams.vacant_entry();
        let stream = StreamKey(entry.key());
        let mut places = Vec::new();
        for (place, topic) in without_covered(filters).into_iter().enumerate() {
            let list = self.topics.entry(topic.clone()).or_default();
            places.push((topic, list.len()));
            list.push(Listed {
                subscriber,
                stream,
                place,
            });
        }
        entry.insert(Stream { places });
        stream
    }

    /// Takes a stream from all lists.
    pub(super) fn remove(&mut self, key: StreamKey) {
        let Some(stream) = self.streams.try_remove(key.0) else {
            return;
        };
        for (topic, at) in stream.places {
            let Some(list) = self.topics.get_mut(&topic) else {
                continue;
            };
            list.swap_remove(at);
            if let Some(moved) = list.get(at).copied()
                && let Some(other) = self.streams.get_mut(moved.stream.0)
            {
                other.places[moved.place].1 = at;
            }
            if list.is_empty() {
                self.topics.remove(&topic);
            }
        }
    }

    /// Calls `deliver` once for every stream that wants the event.
    pub(super) fn for_each(&self, event: &Event, mut deliver: impl FnMut(Subscriber)) {
        let of_name = |name: &str, filter: fn(Option<Box<str>>) -> EventFilter| {
            [filter(None), filter(Some(name.into()))].map(Some)
        };
        let specific = match event {
            Event::Member(event) => [Some(EventFilter::Member(event.kind)), None],
            Event::User(event) => of_name(&event.name, EventFilter::User),
            Event::Query(event) => of_name(&event.name, EventFilter::Query),
        };
        for topic in specific.iter().flatten().chain([&EventFilter::All]) {
            for listed in self.topics.get(topic).into_iter().flatten() {
                deliver(listed.subscriber);
            }
        }
    }
}

/// The filters without those that another of them covers.
fn without_covered(filters: Vec<EventFilter>) -> Vec<EventFilter> {
    if filters.contains(&EventFilter::All) {
        return vec![EventFilter::All];
    }
    let any_user = filters.contains(&EventFilter::User(None));
    let any_query = filters.contains(&EventFilter::Query(None));
    let mut kept = Vec::with_capacity(filters.len());
    for filter in filters {
        let covered = match &filter {
            EventFilter::User(Some(_)) => any_user,
            EventFilter::Query(Some(_)) => any_query,
            _ => false,
        };
        if !covered && !kept.contains(&filter) {
            kept.push(filter);
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::cluster::{MemberEvent, MemberEventKind, UserEvent};

    fn filter_list() -> impl Strategy<Value = String> {
        let one = prop_oneof![
            Just("*"),
            Just("user"),
            Just("user:a"),
            Just("user:b"),
            Just("query"),
            Just("query:a"),
            Just("member-join"),
            Just("member-failed"),
        ];
        proptest::collection::vec(one, 1..5).prop_map(|filters| filters.join(","))
    }

    proptest! {
        #[test]
        fn every_matching_stream_is_named_once(
            steps in proptest::collection::vec((filter_list(), any::<bool>(), any::<proptest::sample::Index>()), 1..40)
        ) {
            let user = |name: &str| Event::User(UserEvent {
                ltime: 1, name: name.into(), payload: vec![], coalesce: false,
            });
            let events = [
                user("a"), user("b"), user("c"),
                Event::Member(MemberEvent { kind: MemberEventKind::Join, members: vec![] }),
                Event::Member(MemberEvent { kind: MemberEventKind::Reap, members: vec![] }),
            ];
            let mut subscriptions = Subscriptions::default();
            let mut model: Vec<(StreamKey, u64, Vec<EventFilter>)> = Vec::new();
            for (seq, (filters, remove, which)) in steps.into_iter().enumerate() {
                if remove && !model.is_empty() {
                    subscriptions.remove(model.swap_remove(which.index(model.len())).0);
                } else {
                    let filters = EventFilter::parse_list(&filters).unwrap();
                    let subscriber = Subscriber { session: SessionId::for_test(1), seq: seq as u64 };
                    model.push((subscriptions.add(subscriber, filters.clone()), seq as u64, filters));
                }
                for event in &events {
                    let mut got = Vec::new();
                    subscriptions.for_each(event, |subscriber| got.push(subscriber.seq));
                    got.sort_unstable();
                    let mut want: Vec<u64> = model.iter()
                        .filter(|(_, _, filters)| filters.iter().any(|filter| filter.matches(event)))
                        .map(|(_, seq, _)| *seq).collect();
                    want.sort_unstable();
                    prop_assert_eq!(got, want);
                }
            }
            for (key, _, _) in model {
                subscriptions.remove(key);
            }
            prop_assert!(subscriptions.is_empty() && subscriptions.topics.is_empty());
        }
    }
}
