//! What each kind of connection does with what comes, and what it sends.

use super::BenchError;
use super::connection::{Connection, Role, Stage, Waiting};
use super::plan::{Plan, Workload};
use super::tally::Tally;
use super::wire::{
    Answer, Bodies, EventRecords, FIRST_SEQ, Header, Stamp, Template, next_seq, push_respond,
    read_answer, read_header, read_query,
};

/// What all connections of a run share.
#[derive(Debug)]
pub(super) struct Traffic<'p> {
    plan: &'p Plan,
    /// Handshake and, with a key, auth.
    greeting: Vec<Template>,
    request: Option<Template>,
    answers_have_body: bool,
    bodies: Bodies,
    records: EventRecords,
    pub(super) tally: Tally,
    /// Requests in flight on all connections.
    pub(super) in_flight: usize,
}

impl<'p> Traffic<'p> {
    pub(super) fn new(plan: &'p Plan) -> Result<Self, BenchError> {
        let auth = plan.auth_key.as_deref().map(Template::auth);
        Ok(Self {
            plan,
            greeting: std::iter::once(Template::handshake()).chain(auth).collect(),
            request: Template::of(plan),
            answers_have_body: matches!(
                plan.workload,
                Workload::Members
                    | Workload::MembersFiltered
                    | Workload::Stats
                    | Workload::GetCoordinate
            ),
            bodies: Bodies::default(),
            records: EventRecords::new(plan.payload()),
            tally: Tally::new()?,
            in_flight: 0,
        })
    }

    /// Every connection of the plan, those first that requests are sent on.
    pub(super) fn connections(&self) -> Vec<Connection> {
        let plan = self.plan;
        let client = || match plan.workload {
            Workload::Query => Role::Asker {
                first: FIRST_SEQ,
                open: Default::default(),
            },
            Workload::Connect => Role::Visitor,
            Workload::Idle => Role::Idle,
            _ => Role::Client,
        };
        let responders = usize::from(plan.workload == Workload::Query);
        let subscriber = || Role::Subscriber {
            last: vec![0; plan.clients],
        };
        let clients = (0..plan.clients).map(|_| client());
        let roles = clients
            .chain((0..plan.subscribers).map(|_| subscriber()))
            .chain((0..responders).map(|_| Role::Responder))
            .chain((0..plan.idle).map(|_| Role::Idle));
        roles.map(Connection::new).collect()
    }

    /// Has a connection that was made greet the agent.
    pub(super) fn greet(&self, index: usize, connection: &mut Connection) {
        let bystander = self.plan.connections() - self.plan.idle_streams <= index;
        let stream = match connection.role {
            Role::Subscriber { .. } => Some(Template::stream(true, false)),
            Role::Responder => Some(Template::stream(true, true)),
            Role::Idle if bystander => Some(Template::stream(false, false)),
            _ => None,
        };
        let mut count = 0;
        for request in self.greeting.iter().chain(&stream) {
            connection.send(|seq, out| request.push(seq, out));
            count += 1;
        }
        connection.stage = Stage::Greeting(count);
        if let Role::Asker { first, .. } = &mut connection.role {
            *first = connection.next;
        }
    }

    /// Sends a request that was due at a time.
    pub(super) fn ask(&mut self, index: usize, connection: &mut Connection, waiting: Waiting) {
        let Some(request) = &self.request else { return };
        let publishes = self.plan.workload == Workload::FanOut;
        let number = connection.sent.wrapping_add(1);
        connection.send(|seq, out| {
            if publishes {
                let stamp = Stamp {
                    due: waiting.due,
                    publisher: index as u32,
                    number,
                };
                request.push_stamped(seq, stamp, out);
            } else {
                request.push(seq, out);
            }
        });
        connection.sent = number;
        if let Role::Asker { open, .. } = &mut connection.role {
            open.push_back(Some(waiting));
        } else {
            connection.waiting.push_back(waiting);
        }
        self.note_sent(connection);
    }

    /// Counts a request that was sent.
    pub(super) fn note_sent(&mut self, connection: &mut Connection) {
        connection.in_flight += 1;
        self.in_flight += 1;
        self.tally.sent += 1;
    }

    /// Takes the message that `bytes` begin with and came at `now`, in nanoseconds of the run; says how long it is, if
    /// it is whole.
    pub(super) fn take(
        &mut self,
        now: u64,
        connection: &mut Connection,
        bytes: &[u8],
    ) -> Result<Option<usize>, BenchError> {
        let Some(header) = read_header(bytes)? else {
            return Ok(None);
        };
        let rest = bytes.get(header.length..).unwrap_or_default();
        let length = if connection.awaits(header.seq) {
            self.take_answer(now, connection, &header, rest)?
        } else {
            self.take_record(now, connection, &header, rest)?
        };
        Ok(length.map(|length| header.length + length))
    }

    /// Takes an answer; says how long its body is.
    fn take_answer(
        &mut self,
        now: u64,
        connection: &mut Connection,
        header: &Header,
        rest: &[u8],
    ) -> Result<Option<usize>, BenchError> {
        let greeting = matches!(connection.stage, Stage::Greeting(_));
        if let Some(error) = &header.error {
            // An answer to a query that is over comes too late, and the query is counted as lost.
            let late = !greeting && matches!(connection.role, Role::Responder);
            if !late {
                return Err(BenchError::Agent(error.clone()));
            }
        }
        let mut length = 0;
        if !greeting && self.answers_have_body {
            match self.bodies.length(rest)? {
                Some(body) => length = body,
                None => return Ok(None),
            }
        }
        connection.expected = next_seq(connection.expected);
        match (connection.stage, &connection.role) {
            (Stage::Greeting(left), _) if left > 1 => {
                connection.stage = Stage::Greeting(left - 1);
            }
            (Stage::Greeting(_), Role::Visitor) => {
                self.note_answered(now, connection);
                connection.close();
            }
            (Stage::Greeting(_), _) => connection.stage = Stage::Ready,
            (_, Role::Client) => self.note_answered(now, connection),
            _ => {}
        }
        Ok(Some(length))
    }

    /// Counts an answer to the connection's oldest request.
    fn note_answered(&mut self, now: u64, connection: &mut Connection) {
        let waiting = connection.waiting.pop_front();
        // Of events to subscribers each delivery is timed instead.
        let timed = waiting.filter(|_| self.plan.workload != Workload::FanOut);
        self.note_done(now, connection, timed);
    }

    fn note_done(&mut self, now: u64, connection: &mut Connection, waiting: Option<Waiting>) {
        connection.in_flight = connection.in_flight.saturating_sub(1);
        self.in_flight = self.in_flight.saturating_sub(1);
        self.tally.answered += 1;
        self.tally.last = now;
        if let Some(waiting) = waiting {
            self.tally.record_response(now.saturating_sub(waiting.due));
            if self.plan.rate.is_some() {
                self.tally.record_service(now.saturating_sub(waiting.sent));
            }
        }
    }

    /// Takes a record; says how long its body is.
    fn take_record(
        &mut self,
        now: u64,
        connection: &mut Connection,
        header: &Header,
        rest: &[u8],
    ) -> Result<Option<usize>, BenchError> {
        if let Some(error) = &header.error {
            return Err(BenchError::Agent(error.clone()));
        }
        match &mut connection.role {
            Role::Subscriber { last } => {
                // The stream was the last request.
                if next_seq(header.seq as u32) != connection.next {
                    return Err(unexpected(header.seq));
                }
                let Some((stamp, length)) = self.records.read(rest)? else {
                    return Ok(None);
                };
                self.tally.delivered += 1;
                self.tally.last = now;
                self.tally.record_response(now.saturating_sub(stamp.due));
                match last.get_mut(stamp.publisher as usize) {
                    Some(last) if *last < stamp.number => *last = stamp.number,
                    _ => self.tally.disordered += 1,
                }
                Ok(Some(length))
            }
            Role::Responder => {
                let Some((id, length)) = read_query(rest)? else {
                    return Ok(None);
                };
                let payload = self.plan.payload();
                connection.send(|seq, out| push_respond(seq, id, payload, out));
                Ok(Some(length))
            }
            Role::Asker { .. } => {
                let Some((answer, length)) = read_answer(rest)? else {
                    return Ok(None);
                };
                self.take_query_record(now, connection, header.seq, answer);
                Ok(Some(length))
            }
            Role::Client | Role::Visitor | Role::Idle => Err(unexpected(header.seq)),
        }
    }

    fn take_query_record(
        &mut self,
        now: u64,
        connection: &mut Connection,
        seq: u64,
        answer: Answer,
    ) {
        let Role::Asker { first, open } = &mut connection.role else {
            return;
        };
        let at = u32::try_from(seq).map_or(usize::MAX, |seq| distance(*first, seq));
        // A query that is answered is forgotten, and is told of once more when it is over.
        let Some(query) = open.get_mut(at) else {
            return;
        };
        let waiting = match answer {
            Answer::Ack => None,
            Answer::Response | Answer::Done => query.take(),
        };
        while let Some(None) = open.front() {
            open.pop_front();
            *first = next_seq(*first);
        }
        match waiting {
            Some(waiting) if answer == Answer::Response => {
                self.note_done(now, connection, Some(waiting));
            }
            Some(_) => {
                self.tally.lost += 1;
                connection.in_flight = connection.in_flight.saturating_sub(1);
                self.in_flight = self.in_flight.saturating_sub(1);
            }
            None => {}
        }
    }
}

fn unexpected(seq: u64) -> BenchError {
    BenchError::Protocol(format!(
        "an answer with Seq {seq}, which no request waits for"
    ))
}

/// How many requests came from `first` to `seq`; more than there can be if it was before.
fn distance(first: u32, seq: u32) -> usize {
    let requests = match seq.checked_sub(first) {
        Some(requests) => requests,
        None => (u32::MAX - first)
            .saturating_add(1)
            .saturating_add(seq.saturating_sub(FIRST_SEQ)),
    };
    requests as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances_go_around() {
        assert_eq!(distance(FIRST_SEQ, FIRST_SEQ + 5), 5);
        assert_eq!(distance(u32::MAX, FIRST_SEQ), 1);
        assert_eq!(distance(u32::MAX - 1, FIRST_SEQ + 3), 5);
        assert!(distance(FIRST_SEQ + 5, FIRST_SEQ + 4) > 1 << 31);
    }
}
