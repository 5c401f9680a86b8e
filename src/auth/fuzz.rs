//! Fuzz: a text is an API key, as it was made, or none.

use proptest::prelude::*;

use super::ApiKey;
use crate::types::hostile::{cases, text};

/// A key whose check digits are right.
const KEY: &str = "ph_4fuzz4fuzz4fuzz4fuzz4fuzz4fuzz000RDZ7Y";

proptest! {
    #![proptest_config(cases())]

    #[test]
    fn a_key_is_read_as_it_was_written_and_garbage_is_none(given in text(&[KEY, "ph_", "Bearer ph_x"], &["ph_", "0", "z", "é", "\0", "-"])) {
        if let Some(key) = ApiKey::parse(&given) {
            prop_assert_eq!(key.reveal(), given.as_str());
            prop_assert!(given.len() == 41 && given.is_ascii());
        }
    }

    #[test]
    fn a_changed_key_is_none(at in 3..41_usize, to in "[0-9A-Za-z]") {
        let key = ApiKey::generate();
        prop_assert!(ApiKey::parse(key.reveal()).is_some_and(|again| again.hash().matches(&key.hash())));
        let mut changed = key.reveal().to_owned();
        changed.replace_range(at..=at, &to);
        prop_assert_eq!(ApiKey::parse(&changed).is_some(), changed == key.reveal());
    }
}
