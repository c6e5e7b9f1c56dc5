//! Finding the end of MsgPack objects.

use divan::{Bencher, black_box};
use serfling::msgpack::frame::{Limits, Scanner};

fn main() {
    divan::main();
}

const LIMITS: Limits = Limits {
    bytes_max: 1 << 20,
    depth_max: 32,
};

#[divan::bench]
fn request_header(bencher: Bencher<'_, '_>) {
    let bytes = b"\x82\xa7Command\xa7members\xa3Seq\xcd\x12\x34";
    bencher.bench(|| Scanner::new(LIMITS).scan(black_box(bytes)));
}

#[divan::bench]
fn event_body(bencher: Bencher<'_, '_>) {
    let mut bytes = b"\x83\xa4Name\xa6deploy\xa8Coalesce\xc2\xa7Payload\xc5\x01\x00".to_vec();
    bytes.extend([7; 256]);
    bencher.bench(|| Scanner::new(LIMITS).scan(black_box(&bytes)));
}

#[divan::bench(args = [100, 10_000])]
fn list_of_small_maps(bencher: Bencher<'_, '_>, items: u16) {
    let mut bytes = vec![0xdc];
    bytes.extend(items.to_be_bytes());
    for _ in 0..items {
        bytes.extend(b"\x82\xa1a\x01\xa1b\x02");
    }
    bencher.bench(|| Scanner::new(LIMITS).scan(black_box(&bytes)));
}
