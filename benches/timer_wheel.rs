//! Timers set, cancelled and fired.

use std::time::{Duration, Instant};

use divan::Bencher;
use serfling::timer_wheel::TimerWheel;

fn main() {
    divan::main();
}

#[divan::bench(args = [0, 1_000, 100_000])]
fn insert_and_cancel_among(bencher: Bencher<'_, '_>, others: u64) {
    let start = Instant::now();
    let mut wheel = TimerWheel::new(start);
    for number in 0..others {
        wheel.insert(
            start + Duration::from_millis(number * 37 % 1_000_000),
            number,
        );
    }
    bencher.bench_local(|| {
        let key = wheel.insert(start + Duration::from_secs(5), 1);
        wheel.cancel(key)
    });
}

#[divan::bench(args = [1_000, 100_000])]
fn fire_all(bencher: Bencher<'_, '_>, timers: u64) {
    let start = Instant::now();
    bencher
        .with_inputs(|| {
            let mut wheel = TimerWheel::new(start);
            for number in 0..timers {
                wheel.insert(start + Duration::from_millis(number * 37 % 60_000), number);
            }
            wheel
        })
        .bench_local_values(|mut wheel| {
            let end = start + Duration::from_secs(60);
            std::iter::from_fn(|| wheel.pop_expired(end)).count()
        });
}
