//! What has happened in gossip so far, for `stats`.

/// What has happened in gossip so far.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct GossipCounters {
    /// Packets that came in.
    pub packets_in: u64,
    /// Their bytes.
    pub bytes_in: u64,
    /// Packets that went out.
    pub packets_out: u64,
    /// Their bytes.
    pub bytes_out: u64,
    /// Packets that the network did not take.
    pub packets_failed: u64,
    /// Packets of other clusters, by their label.
    pub label_errors: u64,
    /// Packets that were not encrypted, or with none of our keys.
    pub decrypt_errors: u64,
    /// Packets that changed on their way.
    pub checksum_errors: u64,
    /// Packets and messages in packets that make no sense.
    pub malformed: u64,
    /// Probes that went out.
    pub probes: u64,
    /// Probes that nobody answered.
    pub probes_failed: u64,
    /// Probes that were answered directly.
    pub probe_acks: u64,
    /// How long those answers took together, in microseconds.
    pub probe_ack_micros: u64,
    /// Turns that came much too late.
    pub late_turns: u64,
    /// Accusations against this node that it refuted.
    pub refuted: u64,
    /// Streams that other nodes opened.
    pub streams_accepted: u64,
    /// Of those, closed at once because there were too many.
    pub streams_refused: u64,
    /// Streams that brought nothing that makes sense, or took too long.
    pub streams_failed: u64,
    /// News that a node lives.
    pub alive: u64,
    /// News that a node is suspected.
    pub suspect: u64,
    /// News that a node is dead, or left.
    pub dead: u64,
    /// Streams that this node opened.
    pub streams_opened: u64,
    /// Bytes written to streams.
    pub stream_bytes_out: u64,
    /// Push/pulls that were merged.
    pub push_pulls: u64,
    /// Broadcasts that had to make room for others before they were sent often enough.
    pub queue_drops: u64,
}

impl GossipCounters {
    /// Shows every counter, in the order of their names.
    pub fn visit(&self, mut visit: impl FnMut(&'static str, u64)) {
        visit("alive", self.alive);
        visit("bytes_in", self.bytes_in);
        visit("bytes_out", self.bytes_out);
        visit("checksum_errors", self.checksum_errors);
        visit("dead", self.dead);
        visit("decrypt_errors", self.decrypt_errors);
        visit("label_errors", self.label_errors);
        visit("late_turns", self.late_turns);
        visit("malformed", self.malformed);
        visit("packets_failed", self.packets_failed);
        visit("packets_in", self.packets_in);
        visit("packets_out", self.packets_out);
        visit("probe_ack_micros", self.probe_ack_micros);
        visit("probe_acks", self.probe_acks);
        visit("probes", self.probes);
        visit("probes_failed", self.probes_failed);
        visit("push_pulls", self.push_pulls);
        visit("queue_drops", self.queue_drops);
        visit("refuted", self.refuted);
        visit("stream_bytes_out", self.stream_bytes_out);
        visit("streams_accepted", self.streams_accepted);
        visit("streams_failed", self.streams_failed);
        visit("streams_opened", self.streams_opened);
        visit("streams_refused", self.streams_refused);
        visit("suspect", self.suspect);
    }
}
