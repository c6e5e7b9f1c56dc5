//! Requests that are sent now and answered later: several may be under way, and who waits can do other things.

use std::time::Duration;

use super::connection::Reply;
use super::{Client, ClientError, Joined, KeyReply, Stats};
use crate::cluster::{Coordinate, KeyReport, Member};
use crate::rpc::message::{
    Command, CoordinateRequest, CoordinateResponse, JoinRequest, JoinResponse, KeyRequest,
    KeyResponse, MembersResponse, StatsResponse, Text, Texts,
};

/// A request whose answer, a `T`, has not been taken.
#[derive(Debug)]
pub struct Pending<T> {
    seq: u64,
    read: fn(&Reply) -> Result<T, ClientError>,
}

/// What a key operation does on every node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyOperation<'a> {
    /// Install this key (base64).
    Install(&'a str),
    /// Make this key (base64) the primary one.
    Use(&'a str),
    /// Remove this key (base64).
    Remove(&'a str),
    /// Tell which keys there are.
    List,
}

impl Client {
    /// Asks for the members of the cluster.
    ///
    /// # Errors
    /// Any [`ClientError`].
    pub fn begin_members(&mut self) -> Result<Pending<Vec<Member>>, ClientError> {
        let seq = self.connection.send::<()>(Command::Members, None)?;
        let read = read_members;
        Ok(Pending { seq, read })
    }

    /// Asks for the agent's counters by section.
    ///
    /// # Errors
    /// Any [`ClientError`].
    pub fn begin_stats(&mut self) -> Result<Pending<Stats>, ClientError> {
        let seq = self.connection.send::<()>(Command::Stats, None)?;
        let read = read_stats;
        Ok(Pending { seq, read })
    }

    /// Asks for the network coordinate of a node.
    ///
    /// # Errors
    /// Any [`ClientError`].
    pub fn begin_coordinate(
        &mut self,
        node: &str,
    ) -> Result<Pending<Option<Coordinate>>, ClientError> {
        let request = CoordinateRequest { node: Text(node) };
        let seq = self
            .connection
            .send(Command::GetCoordinate, Some(&request))?;
        let read = read_coordinate;
        Ok(Pending { seq, read })
    }

    /// Has the agent join others.
    ///
    /// # Errors
    /// Any [`ClientError`].
    pub fn begin_join<S: AsRef<str>>(
        &mut self,
        addresses: &[S],
        replay: bool,
    ) -> Result<Pending<Joined>, ClientError> {
        let existing = Texts(addresses.iter().map(AsRef::as_ref).collect());
        let request = JoinRequest { existing, replay };
        let seq = self.connection.send(Command::Join, Some(&request))?;
        let read = read_joined;
        Ok(Pending { seq, read })
    }

    /// Starts work on the keyring of every node.
    ///
    /// # Errors
    /// Any [`ClientError`].
    pub fn begin_keys(
        &mut self,
        operation: KeyOperation<'_>,
    ) -> Result<Pending<KeyReply>, ClientError> {
        let (command, key) = match operation {
            KeyOperation::Install(key) => (Command::InstallKey, Some(key)),
            KeyOperation::Use(key) => (Command::UseKey, Some(key)),
            KeyOperation::Remove(key) => (Command::RemoveKey, Some(key)),
            KeyOperation::List => (Command::ListKeys, None),
        };
        let request = key.map(|key| KeyRequest { key: Text(key) });
        let seq = self.connection.send(command, request.as_ref())?;
        let read = read_keys;
        Ok(Pending { seq, read })
    }

    /// The answer to a request, once it has come. `None` when it does not come within the timeout; it may come later.
    ///
    /// # Errors
    /// Any [`ClientError`].
    pub fn answer<T>(
        &mut self,
        pending: &Pending<T>,
        timeout: Option<Duration>,
    ) -> Result<Option<T>, ClientError> {
        let reply = self.connection.reply(pending.seq, timeout)?;
        reply.as_ref().map(pending.read).transpose()
    }

    /// The answer to a request, if it has come already.
    ///
    /// # Errors
    /// [`ClientError::Agent`] and [`ClientError::Protocol`].
    pub fn take_answer<T>(&mut self, pending: &Pending<T>) -> Result<Option<T>, ClientError> {
        let reply = self.connection.take_reply(pending.seq);
        reply.as_ref().map(pending.read).transpose()
    }

    /// Takes in, without waiting, what the agent has sent: answers and records. For who waits for the connection's
    /// descriptor and others together; call it whenever that is readable.
    ///
    /// # Errors
    /// Any [`ClientError`].
    pub fn receive(&mut self) -> Result<(), ClientError> {
        self.connection.receive()
    }

    /// The answer to a request, waited for as long as a request may take.
    pub(super) fn finish<T>(&mut self, pending: &Pending<T>) -> Result<T, ClientError> {
        let reply = self.connection.finish(pending.seq)?;
        (pending.read)(&reply)
    }
}

pub(super) fn read_members(reply: &Reply) -> Result<Vec<Member>, ClientError> {
    let members = reply.succeeded()?.body::<MembersResponse<'_>>()?.members;
    let wrong = |name: &str| ClientError::Protocol(format!("member '{name}' has no valid address"));
    members
        .iter()
        .map(|member| member.to_member().ok_or_else(|| wrong(member.name.0)))
        .collect()
}

fn read_stats(reply: &Reply) -> Result<Stats, ClientError> {
    let owned = |text: Text<'_>| text.0.to_owned();
    let sections = reply.succeeded()?.body::<StatsResponse<'_>>()?.0;
    let pairs = sections.into_iter().map(|(section, pairs)| {
        let pairs = pairs
            .0
            .into_iter()
            .map(|(key, value)| (owned(key), owned(value)))
            .collect();
        (owned(section), pairs)
    });
    Ok(pairs.collect())
}

fn read_coordinate(reply: &Reply) -> Result<Option<Coordinate>, ClientError> {
    let CoordinateResponse { coord, ok } = reply.succeeded()?.body()?;
    Ok(ok.then(|| Coordinate {
        vec: coord.vec.unwrap_or_default(),
        error: coord.error,
        adjustment: coord.adjustment,
        height: coord.height,
    }))
}

fn read_joined(reply: &Reply) -> Result<Joined, ClientError> {
    let count = usize::try_from(reply.body::<JoinResponse>()?.num).unwrap_or_default();
    match &reply.error {
        Some(error) if count == 0 => Err(ClientError::Agent(error.clone())),
        error => Ok(Joined {
            count,
            error: error.clone(),
        }),
    }
}

fn read_keys(reply: &Reply) -> Result<KeyReply, ClientError> {
    let body: KeyResponse<'_> = reply.body()?;
    let keys = body.keys.as_ref();
    let report = KeyReport {
        messages: body
            .messages
            .0
            .iter()
            .map(|(node, text)| (node.0.to_owned(), text.0.to_owned()))
            .collect(),
        keys: keys.map(|keys| {
            keys.0
                .iter()
                .map(|(key, count)| (key.0.to_owned(), *count))
                .collect()
        }),
        nodes: body.num_nodes,
        errors: body.num_err,
        responses: body.num_resp,
    };
    Ok((report, reply.error.clone()))
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::net::TcpListener;
    use std::time::Duration;

    use super::super::{Client, ClientError, Options};

    /// A server that, of what comes, answers each object with the next of these.
    fn serve(answers: Vec<Vec<u8>>) -> Options {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            for answer in answers {
                rmpv::decode::read_value(&mut stream).unwrap();
                stream.write_all(&answer).unwrap();
            }
        });
        Options::new(address.parse().unwrap())
    }

    fn answer(seq: u8, body: &[u8]) -> Vec<u8> {
        let header = [b"\x82\xa5Error\xa0\xa3Seq".as_slice(), &[seq]].concat();
        [&header, body].concat()
    }

    const COORDINATE: &[u8] =
        b"\x82\xa5Coord\x84\xaaAdjustment\x00\xa5Error\x00\xa6Height\x00\xa3Vec\xc0\xa2Ok\xc3";
    const STATS: &[u8] = b"\x81\xa5agent\x81\xa4name\xa2n1";

    #[test]
    fn answers_may_be_taken_in_any_order() {
        let both = [answer(1, STATS), answer(2, COORDINATE)].concat();
        let options = serve(vec![
            Vec::new(),
            answer(0, b""),
            Vec::new(),
            Vec::new(),
            both,
        ]);
        let mut client = Client::connect(&options).unwrap();
        let stats = client.begin_stats().unwrap();
        assert!(client.take_answer(&stats).unwrap().is_none());
        let nothing = client.answer(&stats, Some(Duration::from_millis(1)));
        assert!(nothing.unwrap().is_none(), "it may still come");
        let coordinate = client.begin_coordinate("n1").unwrap();
        let there = client.answer(&coordinate, None).unwrap().unwrap();
        assert!(there.is_some());
        let stats = client.take_answer(&stats).unwrap().unwrap();
        assert_eq!(stats["agent"]["name"], "n1");
    }

    #[test]
    fn an_answer_that_comes_too_late_is_known_for_what_it_is() {
        let late = [answer(1, STATS), answer(2, b"")].concat();
        let mut options = serve(vec![
            Vec::new(),
            answer(0, b""),
            Vec::new(),
            Vec::new(),
            late,
        ]);
        options.request_timeout = Duration::from_millis(20);
        let mut client = Client::connect(&options).unwrap();
        assert!(matches!(client.stats(), Err(ClientError::Timeout)));
        client.user_event("deploy", b"", false).unwrap();
    }
}
