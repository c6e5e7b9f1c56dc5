//! The same requests in any split, order of fields and encoding give the same answers.

use proptest::prelude::*;

use super::*;

fn answers(bytes: &[u8], cuts: &[usize]) -> Vec<Value> {
    let mut scene = Scene::new();
    let id = scene.client();
    let mut start = 0;
    for &cut in cuts.iter().chain([&bytes.len()]) {
        scene.send(id, &bytes[start..cut]);
        start = cut;
    }
    let values = scene.values(id);
    assert!(!scene.is_ending(id));
    values
}

/// The value in another encoding that means the same to a liberal reader.
fn vary(value: &Value, is_struct: bool, choices: &mut impl Iterator<Item = u8>, out: &mut Vec<u8>) {
    let choice = choices.next().unwrap_or_default();
    match value {
        Value::String(text) => {
            let bytes = text.as_bytes();
            match choice % 4 {
                0 => rmp::encode::write_bin(out, bytes).unwrap(),
                1 => {
                    out.push(0xda);
                    out.extend((bytes.len() as u16).to_be_bytes());
                    out.extend(bytes);
                }
                2 => {
                    out.push(0xd9);
                    out.push(bytes.len() as u8);
                    out.extend(bytes);
                }
                _ => rmp::encode::write_str(out, text.as_str().unwrap()).unwrap(),
            }
        }
        Value::Binary(bytes) => {
            if choice.is_multiple_of(2) && std::str::from_utf8(bytes).is_ok() {
                rmp::encode::write_str(out, std::str::from_utf8(bytes).unwrap()).unwrap();
            } else {
                rmp::encode::write_bin(out, bytes).unwrap();
            }
        }
        Value::Integer(number) => {
            let number = number.as_u64().unwrap();
            match choice % 4 {
                0 => rmp::encode::write_u64(out, number).unwrap(),
                1 => rmp::encode::write_i64(out, number as i64).unwrap(),
                2 if number < 1 << 31 => rmp::encode::write_i32(out, number as i32).unwrap(),
                _ => {
                    rmp::encode::write_uint(out, number).unwrap();
                }
            }
        }
        Value::Map(pairs) => {
            let mut pairs: Vec<_> = pairs.iter().collect();
            if choice.is_multiple_of(2) {
                pairs.reverse();
            }
            let junk = is_struct && choice.is_multiple_of(3);
            rmp::encode::write_map_len(out, (pairs.len() + usize::from(junk)) as u32).unwrap();
            if junk {
                out.extend(b"\xa7unknown\x82\xa1a\x93\x01\xc0\x80\x05\xc7\x01\x02\x03");
            }
            for (key, value) in pairs {
                vary(key, false, choices, out);
                vary(value, false, choices, out);
            }
        }
        other => rmpv::encode::write_value(out, other).unwrap(),
    }
}

/// Requests whose answers don't tell of counters.
fn steady_requests() -> Vec<(&'static str, Option<Value>)> {
    every_request()
        .into_iter()
        .filter(|(command, _)| *command != "stats")
        .collect()
}

proptest! {
    #[test]
    fn any_split_gives_the_same_answers(
        cuts in proptest::collection::vec(any::<proptest::sample::Index>(), 0..20),
        order in Just((0..17usize).collect::<Vec<_>>()).prop_shuffle(),
    ) {
        let all = steady_requests();
        let bytes: Vec<u8> = order.iter().zip(1..)
            .flat_map(|(which, seq)| request(all[*which].0, seq, all[*which].1.clone()))
            .collect();
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len())).collect();
        cuts.sort_unstable();
        prop_assert_eq!(answers(&bytes, &cuts), answers(&bytes, &[]));
    }

    #[test]
    fn field_order_integer_widths_and_unknown_fields_change_nothing(choices in proptest::collection::vec(any::<u8>(), 600)) {
        let mut choices = choices.into_iter();
        let (mut plain, mut varied) = (Vec::new(), Vec::new());
        for ((command, body), seq) in steady_requests().into_iter().zip(1..) {
            let header = map([("Command", command.into()), ("Seq", seq.into())]);
            for value in [Some(header), body].into_iter().flatten() {
                plain.extend(encode(&value));
                vary(&value, true, &mut choices, &mut varied);
            }
        }
        prop_assert_eq!(answers(&varied, &[]), answers(&plain, &[]));
    }
}

#[test]
fn one_byte_at_a_time() {
    let bytes: Vec<u8> = steady_requests()
        .into_iter()
        .zip(1..)
        .flat_map(|((command, body), seq)| request(command, seq, body))
        .collect();
    let cuts: Vec<usize> = (0..bytes.len()).collect();
    assert_eq!(answers(&bytes, &cuts), answers(&bytes, &[]));
}

#[test]
fn ten_thousand_pipelined_requests_come_back_in_order() {
    let mut scene = Scene::new();
    let id = scene.client();
    let mut bytes = Vec::new();
    for seq in 1..=10_000 {
        let tag = || Some(map([("Tags", map([("n", seq.to_string().into())]))]));
        let (command, body) = match seq % 3 {
            0 => ("members", None),
            1 => ("get-coordinate", Some(map([("Node", "n1".into())]))),
            _ => ("tags", tag()),
        };
        bytes.extend(request(command, seq, body));
    }
    scene.send(id, &bytes);
    let mut seqs = Vec::new();
    loop {
        let values = scene.values(id);
        if values.is_empty() {
            break;
        }
        let headers = values
            .iter()
            .filter(|value| value.as_map().unwrap()[0].0.as_str() == Some("Error"));
        seqs.extend(headers.map(|header| number(header, "Seq")));
    }
    assert_eq!(seqs, (1..=10_000).collect::<Vec<u64>>());
}
