//! A page in Markdown: its fenced blocks, and its tables.

use std::{fs, path::Path};

/// A file of the repository.
pub fn read(path: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path))
        .unwrap_or_else(|_| panic!("no {path}"))
}

/// A fenced block: "```language kind", and what comes before it on the page.
pub struct Block {
    pub language: String,
    pub kind: String,
    pub text: String,
    pub line_before: String,
}

pub fn blocks(page: &str) -> Vec<Block> {
    let mut found = Vec::new();
    let mut lines = page.lines();
    let mut line_before = String::new();
    while let Some(line) = lines.next() {
        if let Some(info) = line.strip_prefix("```") {
            let (language, kind) = info.split_once(' ').unwrap_or((info, ""));
            let text: String =
                lines.by_ref().take_while(|line| *line != "```").flat_map(|line| [line, "\n"]).collect();
            found.push(Block {
                language: language.to_owned(),
                kind: kind.to_owned(),
                text,
                line_before: line_before.clone(),
            });
        } else if !line.is_empty() {
            line.clone_into(&mut line_before);
        }
    }
    found
}

/// What stands in back quotes.
pub fn quoted(text: &str) -> Vec<&str> {
    text.split('`').skip(1).step_by(2).collect()
}

/// The cells of every row of the page's tables, headings among them.
pub fn rows(page: &str) -> Vec<Vec<&str>> {
    let inner = page.lines().filter_map(|line| line.strip_prefix('|')?.strip_suffix('|'));
    inner.map(|inner| inner.split('|').map(str::trim).collect()).collect()
}
