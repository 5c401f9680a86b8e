//! Holds the architecture: a floor imports those below it, never one above, and modules of one floor have no circles.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

/// Module and floor, as `src/lib.rs` and ARCHITECTURE.md say.
const FLOORS: &[(&str, u8)] = &[
    ("types", 0),
    ("config", 0),
    ("telemetry", 0),
    ("open_files", 0),
    ("web", 1),
    ("db", 1),
    ("signing", 1),
    ("formats", 1),
    ("filters", 1),
    ("egress", 1),
    ("seal", 1),
    ("auth", 2),
    ("format_book", 2),
    ("queue", 2),
    ("tenants", 3),
    ("locations", 3),
    ("endpoints", 3),
    ("event_types", 3),
    ("events", 3),
    ("deliveries", 3),
    ("wire_formats", 3),
    ("jobs", 3),
    ("audit", 3),
    ("idempotency", 3),
    ("rekey", 3),
    ("whatsable", 3),
    ("api", 4),
    ("worker", 4),
    ("maintenance", 4),
    ("app", 5),
    ("cli", 5),
    ("main", 5),
];

/// Every Rust source below a directory.
pub fn sources(directory: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// The modules that a source names after `crate::`, in groups too.
fn imports(source: &str) -> BTreeSet<String> {
    let code: String =
        source.lines().map(|line| line.split("//").next().unwrap_or_default()).collect::<Vec<_>>().join("\n");
    let mut modules = BTreeSet::new();
    for (at, _) in code.match_indices("crate::") {
        let rest = &code[at + "crate::".len()..];
        if rest.starts_with('{') {
            modules.extend(group(rest));
        } else {
            modules.extend(word(rest));
        }
    }
    modules
}

fn word(text: &str) -> Option<String> {
    let word: String =
        text.trim_start().chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect();
    (!word.is_empty()).then_some(word)
}

/// The first words of a group's members.
fn group(text: &str) -> Vec<String> {
    let (mut depth, mut member, mut words) = (0_usize, String::new(), Vec::new());
    for c in text.chars() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            _ => {}
        }
        if depth == 0 || (depth == 1 && c == ',') {
            words.extend(word(&member));
            member.clear();
            if depth == 0 {
                break;
            }
        } else if !(depth == 1 && c == '{') {
            member.push(c);
        }
    }
    words
}

#[test]
fn imports_are_found_in_every_form() {
    let source = "use crate::a::b;\nuse crate::{\n    c::{d, e},\n    f,\n    g::h,\n};\nfn x() { crate::i::j(); } // crate::k";
    let found: Vec<String> = imports(source).into_iter().collect();
    assert_eq!(found, ["a", "c", "f", "g", "i"]);
}

#[test]
fn no_floor_imports_a_higher_one_and_there_are_no_circles() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let floors: BTreeMap<&str, u8> = FLOORS.iter().copied().collect();
    let mut files = Vec::new();
    sources(&root, &mut files);
    let mut edges: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for file in files {
        let below = file.strip_prefix(&root).unwrap();
        let first = below.components().next().unwrap().as_os_str().to_str().unwrap();
        let module = first.trim_end_matches(".rs");
        if module == "lib" {
            continue;
        }
        let floor =
            floors.get(module).unwrap_or_else(|| panic!("{} has no floor: give it one", below.display()));
        for imported in imports(&fs::read_to_string(&file).unwrap()) {
            let Some(other) = floors.get(imported.as_str()) else { continue };
            assert!(other <= floor, "{} (floor {floor}) imports {imported} (floor {other})", below.display());
            if imported != module {
                edges.entry(module.to_owned()).or_default().insert(imported);
            }
        }
    }
    for module in floors.keys() {
        let (mut reached, mut next) = (BTreeSet::new(), vec![(*module).to_owned()]);
        while let Some(one) = next.pop() {
            for other in edges.get(&one).into_iter().flatten() {
                assert_ne!(other, module, "{module} imports itself by way of {one}");
                if reached.insert(other.clone()) {
                    next.push(other.clone());
                }
            }
        }
    }
}
