//! Hostile input for the fuzz targets, which stand as `fuzz.rs` beside what they test: seeds with bytes changed, and JSON with
//! all that parsers trip over.
//!
//! `cargo test --lib fuzz` runs every target, [`CASES`] times each; `PROPTEST_CASES=100000` says otherwise. What a longer run
//! has found becomes a seed, so that it is tried for ever.

use proptest::{
    collection::vec,
    prelude::*,
    sample::{Index, select},
};
use serde_json::Value;

/// Cases of each target, unless PROPTEST_CASES says otherwise.
const CASES: u32 = 512;
/// Changes to one seed.
const EDITS_MAX: usize = 6;
/// How often a piece of a seed is repeated, and how long it is.
const REPEATS_MAX: usize = 200;
const PIECE_BYTES_MAX: usize = 24;
/// Twice what any of our parsers goes down to.
const LEVELS_MAX: usize = 260;

type Texts = &'static [&'static str];

pub fn cases() -> ProptestConfig {
    let config = ProptestConfig::default();
    if std::env::var_os("PROPTEST_CASES").is_some() {
        config
    } else {
        ProptestConfig { cases: CASES, ..config }
    }
}

#[derive(Clone, Copy, Debug)]
enum Edit {
    Set(u8),
    Flip(u32),
    Insert(&'static str),
    Cut(usize),
    Repeat(usize, usize),
    /// Goes on as another seed does from there.
    Graft(&'static str, Index),
}

/// A seed with some bytes changed; `pieces` are what the format is made of.
pub fn bytes(seeds: Texts, pieces: Texts) -> impl Strategy<Value = Vec<u8>> {
    let edit = prop_oneof![
        any::<u8>().prop_map(Edit::Set),
        (0..u8::BITS).prop_map(Edit::Flip),
        select(pieces).prop_map(Edit::Insert),
        (1..PIECE_BYTES_MAX).prop_map(Edit::Cut),
        (1..PIECE_BYTES_MAX, 1..REPEATS_MAX).prop_map(|(length, times)| Edit::Repeat(length, times)),
        (select(seeds), any::<Index>()).prop_map(|(seed, from)| Edit::Graft(seed, from)),
    ];
    (select(seeds), vec((any::<Index>(), edit), 0..EDITS_MAX)).prop_map(|(seed, edits)| {
        edits.into_iter().fold(seed.as_bytes().to_vec(), |text, (at, edit)| changed(text, at, edit))
    })
}

/// As [`bytes`]; what is no UTF-8 is replaced.
pub fn text(seeds: Texts, pieces: Texts) -> impl Strategy<Value = String> {
    bytes(seeds, pieces).prop_map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
}

fn changed(mut text: Vec<u8>, at: Index, edit: Edit) -> Vec<u8> {
    let at = at.index(text.len() + 1);
    let end = |length: usize| (at + length).min(text.len());
    match edit {
        Edit::Set(byte) => text.iter_mut().skip(at).take(1).for_each(|one| *one = byte),
        Edit::Flip(bit) => text.iter_mut().skip(at).take(1).for_each(|one| *one ^= 1 << bit),
        Edit::Insert(piece) => drop(text.splice(at..at, piece.bytes())),
        Edit::Cut(length) => drop(text.drain(at..end(length))),
        Edit::Repeat(length, times) => {
            let piece = text[at..end(length)].repeat(times);
            drop(text.splice(at..at, piece));
        }
        Edit::Graft(seed, from) => {
            text.truncate(at);
            text.extend_from_slice(&seed.as_bytes()[from.index(seed.len() + 1)..]);
        }
    }
    text
}

/// JSON, mostly: repeated keys, keys that are indices, pointers and slots, numbers no double holds, half characters, great depth.
pub fn json() -> impl Strategy<Value = String> {
    const NUMBERS: Texts = &[
        "0",
        "-0",
        "1.0",
        "1e2",
        "1E+400",
        "-1e400",
        "1e-400",
        "01",
        "-",
        "9007199254740993",
        "18014398509481984",
        "36028797018963968",
        "123456789012345678901234567890",
        "0.1",
        "1.7976931348623157e308",
        "18446744073709551616",
    ];
    const STRINGS: Texts = &[
        r#""""#,
        r#""a""#,
        r#""\u0000""#,
        r#""\ud800""#,
        r#""\udc00\ud800""#,
        r#""\ud83d\ude00""#,
        r#""\u2028\/""#,
        "\"\u{1}\"",
        r#""{{id}}""#,
        r#""{{data}}""#,
        r#""{{type}} ""#,
        r#""{{channel|none}}""#,
        r#""}}""#,
        r#""é😀""#,
    ];
    const KEYS: Texts = &[
        r#""a""#,
        r#""b""#,
        r#""\u0061""#,
        r#""0""#,
        r#""10""#,
        r#""4294967295""#,
        r#""object""#,
        r#""__proto__""#,
        r#""a/b~c""#,
        r#""{{id}}""#,
        r#""""#,
        r#""\ud800""#,
        r#""type""#,
        r#""data""#,
    ];
    let number = prop_oneof![
        select(NUMBERS).prop_map(str::to_owned),
        any::<i64>().prop_map(|n| n.to_string()),
        any::<f64>().prop_map(|n| format!("{n:e}")),
    ];
    let string = prop_oneof![
        select(STRINGS).prop_map(str::to_owned),
        any::<String>().prop_map(|text| Value::String(text).to_string()),
    ];
    let word = select(&["null", "true", "false", "nul", ""][..]).prop_map(str::to_owned);
    let leaf = prop_oneof![1 => word, 3 => number, 4 => string];
    let tree = leaf.prop_recursive(4, 48, 6, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..6).prop_map(|items| format!("[{}]", items.join(", "))),
            vec((select(KEYS), inner), 0..6).prop_map(|members| {
                let members: Vec<String> =
                    members.iter().map(|(key, value)| format!("{key}: {value}")).collect();
                format!("{{{}}}", members.join(","))
            }),
        ]
    });
    let shells = select(&[("[", "]"), (r#"{"a":"#, "}"), (r#"[1,{"b":"#, "}]")][..]);
    let levels = prop_oneof![4 => Just(0), 1 => 0..LEVELS_MAX];
    (tree, shells, levels).prop_map(|(tree, (open, close), levels)| {
        format!("{}{tree}{}", open.repeat(levels), close.repeat(levels))
    })
}

/// Equal as ECMAScript sees it: numbers are doubles, order of keys is no matter. serde_json reads a double's last digit
/// loosely (its `float_roundtrip` is off), so numbers are compared loosely.
pub fn same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => {
            let (a, b) = (a.as_f64().expect("a double"), b.as_f64().expect("a double"));
            (a - b).abs() <= a.abs() * f64::EPSILON * 4.0 + f64::MIN_POSITIVE
        }
        (Value::Array(a), Value::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b)),
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len() && a.iter().all(|(key, a)| b.get(key).is_some_and(|b| same(a, b)))
        }
        _ => a == b,
    }
}
