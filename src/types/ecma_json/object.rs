//! The order of an object's members, as ECMAScript keeps properties: array indices ascending, then the rest as first
//! seen; a repeated key keeps its place and takes the last value.
//!
//! Members were written in the order they came in. Nearly every object is already right, and is left alone.

use std::ops::Range;

/// Up to here keys are compared pair by pair; beyond, they are sorted (an attacker may send one huge object).
const PAIRWISE_MEMBERS: usize = 16;

/// The last array index of ECMAScript: 2^32 - 2.
const MAX_ARRAY_INDEX: u64 = u32::MAX as u64 - 1;

/// Where a member stands in the output, key and value in normalised form.
pub(super) struct Member {
    start: usize,
    key_end: usize,
    end: usize,
    index: Option<u32>,
}

impl Member {
    pub fn new(out: &[u8], key: &Range<usize>) -> Self {
        let index = array_index(&out[key.start + 1..key.end - 1]);
        Self { start: key.start, key_end: key.end, end: out.len(), index }
    }

    /// The key's escaped text: equal texts are equal keys, since normal form is unique.
    fn key<'a>(&self, out: &'a [u8]) -> &'a [u8] {
        &out[self.start..self.key_end]
    }
}

/// Puts the members written from `body` on into ECMAScript's order.
pub(super) fn settle(out: &mut Vec<u8>, body: usize, members: &[Member]) {
    if members.iter().all(|member| member.index.is_none()) && keys_differ(out, members) {
        return;
    }
    let by_key = sorted_by_key(out, members);
    let mut kept: Vec<(u64, usize, &Member)> = by_key
        .chunk_by(|&a, &b| members[a].key(out) == members[b].key(out))
        .map(|same| {
            // The sort is stable within a key: the first is the place, the last the value.
            let (first, last) = (same[0], same[same.len() - 1]);
            (members[first].index.map_or(u64::MAX, u64::from), first, &members[last])
        })
        .collect();
    kept.sort_unstable_by_key(|&(index, place, _)| (index, place));

    let mut ordered = Vec::with_capacity(out.len() - body);
    for (_, _, member) in kept {
        if !ordered.is_empty() {
            ordered.push(b',');
        }
        ordered.extend_from_slice(&out[member.start..member.end]);
    }
    out.truncate(body);
    out.extend_from_slice(&ordered);
}

fn keys_differ(out: &[u8], members: &[Member]) -> bool {
    if members.len() <= PAIRWISE_MEMBERS {
        return members
            .iter()
            .enumerate()
            .all(|(n, member)| members[..n].iter().all(|earlier| earlier.key(out) != member.key(out)));
    }
    sorted_by_key(out, members).windows(2).all(|pair| members[pair[0]].key(out) != members[pair[1]].key(out))
}

fn sorted_by_key(out: &[u8], members: &[Member]) -> Vec<usize> {
    let mut positions: Vec<usize> = (0..members.len()).collect();
    positions.sort_unstable_by(|&a, &b| members[a].key(out).cmp(members[b].key(out)).then(a.cmp(&b)));
    positions
}

/// The value of a canonical array index ("0", "17", but not "007" or "4294967295").
fn array_index(key: &[u8]) -> Option<u32> {
    let canonical = match key {
        [b'0'] => true,
        [b'1'..=b'9', rest @ ..] => rest.len() < 10 && rest.iter().all(u8::is_ascii_digit),
        _ => false,
    };
    if !canonical {
        return None;
    }
    let value = key.iter().fold(0_u64, |value, digit| value * 10 + u64::from(digit - b'0'));
    u32::try_from(value).ok().filter(|_| value <= MAX_ARRAY_INDEX)
}
