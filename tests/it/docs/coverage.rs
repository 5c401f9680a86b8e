//! docs/compatibility.md names tests that are there, and counts right.

use std::{collections::BTreeSet, fs, path::Path};

use super::page::{quoted, read, rows};
use crate::floors::sources;

const PAGE: &str = "docs/compatibility.md";

/// The names of all tests: functions of test files, below an attribute.
fn tests() -> BTreeSet<String> {
    let mut files = Vec::new();
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for directory in ["tests/it", "src"] {
        sources(&root.join(directory), &mut files);
    }
    let mut names = BTreeSet::new();
    // Units' tests are in files of that name.
    files.retain(|file| file.starts_with(root.join("tests")) || file.ends_with("tests.rs"));
    for file in files {
        let text = fs::read_to_string(file).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        for pair in lines.windows(2).filter(|pair| pair[0].ends_with(']')) {
            let function = pair[1].strip_prefix("async ").unwrap_or(pair[1]).strip_prefix("fn ");
            names.extend(function.and_then(|rest| rest.split('(').next()).map(str::to_owned));
        }
    }
    names
}

#[test]
fn every_test_that_shows_compatibility_is_there_and_the_counts_are_right() {
    let (page, tests) = (read(PAGE), tests());
    let mut counts: Vec<(String, [usize; 3])> = Vec::new();
    for cells in rows(&page).iter().filter(|cells| cells.len() == 4) {
        let [number, _, state, shown] = cells[..] else { unreachable!("four") };
        let Some((preset, of_preset)) = number.rsplit_once('-') else { continue };
        if of_preset.parse::<usize>().is_err() {
            continue;
        }
        if counts.last().is_none_or(|(last, _)| last != preset) {
            counts.push((preset.to_owned(), [0; 3]));
        }
        let at = ["shown", "open", "not ours"].iter().position(|each| *each == state).expect(state);
        let count = &mut counts.last_mut().unwrap().1;
        count[at] += 1;
        assert_eq!(number, format!("{preset}-{}", count.iter().sum::<usize>()));
        let named = quoted(shown);
        assert!(state != "shown" || !named.is_empty(), "{number} names no test");
        for name in named.iter().filter(|_| state == "shown") {
            let is_there = match name.split_once('/') {
                Some(_) => Path::new(env!("CARGO_MANIFEST_DIR")).join(name).exists(),
                None => tests.contains(*name),
            };
            assert!(is_there, "{number}: there is no {name}");
        }
    }
    let total = counts.iter().fold([0; 3], |sum, (_, one)| [0, 1, 2].map(|at| sum[at] + one[at]));
    counts.push(("all".to_owned(), total));
    for (preset, [shown, open, others]) in counts {
        let row = format!("| {preset} | {} | {shown} | {open} | {others} |", shown + open + others);
        assert!(page.lines().any(|line| line == row), "no row {row}");
    }
}
