//! What came of a run: times and counts as they come, and the report made of them.

use std::time::Duration;

use hdrhistogram::Histogram;
use serde::Serialize;

use super::BenchError;
use super::plan::Plan;

/// The longest time told apart, in nanoseconds: ten minutes.
const NANOS_MAX: u64 = 600_000_000_000;
/// Digits of a time that are kept.
const DIGITS: u8 = 3;

/// What came of a run so far.
#[derive(Debug)]
pub(super) struct Tally {
    /// From when a request, or the event that is delivered, was due.
    response: Histogram<u64>,
    /// From when it was sent.
    service: Histogram<u64>,
    pub(super) sent: u64,
    pub(super) answered: u64,
    pub(super) delivered: u64,
    pub(super) disordered: u64,
    pub(super) lost: u64,
    pub(super) received_bytes: u64,
    /// When the last answer or delivery came, in nanoseconds of the run.
    pub(super) last: u64,
}

impl Tally {
    pub(super) fn new() -> Result<Self, BenchError> {
        let histogram = || {
            Histogram::new_with_bounds(1, NANOS_MAX, DIGITS)
                .map_err(|error| BenchError::Plan(error.to_string()))
        };
        Ok(Self {
            response: histogram()?,
            service: histogram()?,
            sent: 0,
            answered: 0,
            delivered: 0,
            disordered: 0,
            lost: 0,
            received_bytes: 0,
            last: 0,
        })
    }

    pub(super) fn record_response(&mut self, nanos: u64) {
        self.response.saturating_record(nanos);
    }

    pub(super) fn record_service(&mut self, nanos: u64) {
        self.service.saturating_record(nanos);
    }

    /// The median of what was counted so far.
    pub(super) fn median(&self) -> Duration {
        Duration::from_nanos(self.response.value_at_quantile(0.5))
    }

    pub(super) fn report(&self, plan: &Plan, setup: Duration) -> Report {
        let seconds = self.last as f64 / 1e9;
        let per_second = |count: u64| {
            if self.last == 0 {
                0.0
            } else {
                count as f64 / seconds
            }
        };
        let times = |histogram: &Histogram<u64>| Times::of(histogram);
        Report {
            workload: plan.workload.name(),
            address: plan.address.to_string(),
            clients: plan.clients,
            depth: plan.depth,
            subscribers: plan.subscribers,
            idle: plan.idle,
            idle_streams: plan.idle_streams,
            payload_bytes: plan.payload(),
            rate: plan.rate,
            setup_seconds: setup.as_secs_f64(),
            seconds,
            sent: self.sent,
            answered: self.answered,
            per_second: per_second(self.answered),
            delivered: self.delivered,
            delivered_per_second: per_second(self.delivered),
            lost: self.lost,
            disordered: self.disordered,
            received_bytes: self.received_bytes,
            response: times(&self.response),
            // Without a rate a request is due when it is sent.
            service: plan.rate.and_then(|_| times(&self.service)),
        }
    }
}

/// How long something took, in microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Times {
    /// How often it was measured.
    pub count: u64,
    /// The shortest.
    pub min: f64,
    /// On average.
    pub mean: f64,
    /// The median.
    pub p50: f64,
    /// Ninety of a hundred took no longer.
    pub p90: f64,
    /// 99 of a hundred took no longer.
    pub p99: f64,
    /// 999 of a thousand took no longer.
    pub p99_9: f64,
    /// 9,999 of ten thousand took no longer.
    pub p99_99: f64,
    /// The longest.
    pub max: f64,
}

impl Times {
    fn of(histogram: &Histogram<u64>) -> Option<Self> {
        let micros = |nanos: u64| nanos as f64 / 1e3;
        let quantile = |quantile: f64| micros(histogram.value_at_quantile(quantile));
        (!histogram.is_empty()).then(|| Self {
            count: histogram.len(),
            min: micros(histogram.min()),
            mean: histogram.mean() / 1e3,
            p50: quantile(0.5),
            p90: quantile(0.9),
            p99: quantile(0.99),
            p99_9: quantile(0.999),
            p99_99: quantile(0.9999),
            max: micros(histogram.max()),
        })
    }
}

/// What came of a run.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// Name of the workload.
    pub workload: &'static str,
    /// The agent.
    pub address: String,
    /// Connections that asked or published.
    pub clients: usize,
    /// Requests each of them had in flight.
    pub depth: usize,
    /// Connections with a stream.
    pub subscribers: usize,
    /// Connections that did nothing besides.
    pub idle: usize,
    /// How many of the idle had a stream that nothing matched.
    pub idle_streams: usize,
    /// Payload, in bytes.
    pub payload_bytes: usize,
    /// Requests a second that were wanted.
    pub rate: Option<u64>,
    /// How long it took to connect.
    pub setup_seconds: f64,
    /// From the start to the last answer or delivery.
    pub seconds: f64,
    /// Requests sent.
    pub sent: u64,
    /// Requests answered, all without an error; of `connect`, connections; of `query`, queries answered by the responder.
    pub answered: u64,
    /// The same a second.
    pub per_second: f64,
    /// Events that reached a subscriber.
    pub delivered: u64,
    /// The same a second.
    pub delivered_per_second: f64,
    /// Events that did not reach a subscriber, queries without an answer, idle connections that were closed.
    pub lost: u64,
    /// Events that reached a subscriber twice or out of order.
    pub disordered: u64,
    /// Bytes that the agent sent.
    pub received_bytes: u64,
    /// From when a request was due to its answer, or of `fan-out` to each delivery, in microseconds.
    pub response: Option<Times>,
    /// From when it was sent, in microseconds: how it looks to who sends late. Only with a rate.
    pub service: Option<Times>,
}
