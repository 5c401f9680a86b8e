//! Fuzz: whatever is accepted as a filter is small, is answered, and costs little, whatever the event.

use std::time::Duration;

use proptest::prelude::*;
use rustix::time::{ClockId, clock_gettime};

use super::{Filter, MAX_BYTES, tests::subject};
use crate::types::hostile::{cases, json, text};

/// CPU time of one filter on one event: many times what the costliest takes without optimisation, and soon passed by anything
/// whose cost multiplies.
const COST_MAX: Duration = Duration::from_millis(500);

const FILTERS: &[&str] = &[
    "'support' in data.labels && channel == 'whatsapp'",
    "data.amount * 2.0 > 25.0 || -data.count % 3 == 1",
    "has(data.customer.id) ? size(data.labels) == 2 : data['odd key'] != null",
    "data.text.contains('llo') && !data.text.startsWith(\"He\")",
    "int(string(data.count)) == 3 && double('1.5') < 2.0 && tags.campaign == 'spring'",
    "data == data && data.list == data.list || data in [1, 2.0, 'a', true, null]",
    "data.min / -1 == 0 || data.min % -1 == 0 || data.min - 1 > 0 || -data.min > 0 || data.min * -1 > 0",
];
const PIECES: &[&str] = &[
    "(",
    ")",
    "[",
    "]",
    "{",
    "}",
    "'",
    "\"",
    "\\",
    ".",
    ",",
    "?",
    ":",
    "&&",
    "||",
    "!",
    "-",
    "*",
    "/",
    "%",
    "==",
    "<",
    " in ",
    "data",
    "data.min",
    "0",
    "-1",
    "9223372036854775807",
    "-9223372036854775808",
    "1e308",
    "1u",
    "int(",
    "size(",
    "string(",
    "double(",
    "has(",
    ".contains(",
    "null",
    "true",
    "r'",
    "b'",
    "'''",
    "\\u0000",
    "é",
    "😀",
    "+",
    "exists(",
    "\n",
    "//",
];
const DATA: &str = r#"{"labels":["support","vip"],"text":"Hello ☺","amount":12.5,"count":3,"customer":{"id":"c1","name":null},
    "paid":true,"odd key":1,"min":-9223372036854775808,"list":[1,2,[3,{"a":4}]]}"#;

fn cpu() -> Duration {
    let now = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(now.tv_sec.unsigned_abs(), u32::try_from(now.tv_nsec).unwrap_or_default())
}

/// As large as an event may be, in what filters can compare.
fn large() -> String {
    let labels = vec!["\"support\""; 20_000].join(",");
    format!(r#"{{"labels":[{labels}],"text":"{}","min":-9223372036854775808}}"#, "a".repeat(40_000))
}

proptest! {
    #![proptest_config(cases())]

    #[test]
    fn an_accepted_filter_is_answered_without_a_panic(given in text(FILTERS, PIECES), data in json()) {
        if let Ok(filter) = Filter::compile(&given) {
            prop_assert!(filter.text() == given && given.len() <= MAX_BYTES);
            for data in [DATA, data.as_str()] {
                let refusal = filter.matches(&subject(data)).err();
                // What is told when a panic was caught.
                prop_assert_ne!(refusal.as_deref(), Some("the filter can't be evaluated"), "{} on {}", given, data);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases().cases / 8, ..cases() })]

    #[test]
    fn an_accepted_filter_costs_little_on_a_large_event(given in text(FILTERS, PIECES)) {
        if let Ok(filter) = Filter::compile(&given) {
            let subject = subject(&large());
            let began = cpu();
            let _ = filter.matches(&subject);
            let cost = cpu().saturating_sub(began);
            prop_assert!(cost < COST_MAX, "{:?} for {}", cost, given);
        }
    }
}
