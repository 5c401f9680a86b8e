//! Lists and records from the API's JSON, for people.
//!
//! Names, errors and answers come from strangers: whatever a terminal might take for a command is replaced.

use std::{
    io::{IsTerminal, stdout},
    iter,
};

use comfy_table::{CellAlignment, ColumnConstraint, ContentArrangement, Table, Width, presets::NOTHING};
use serde_json::Value;

/// What is shown of a thing, and how.
pub struct Column {
    title: &'static str,
    /// RFC 6901
    pointer: &'static str,
    kind: Kind,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Text,
    /// Never wrapped, so that it can be copied.
    Id,
    Number,
    /// A secret: left out of a record that does not have it.
    Once,
    /// How many an array has.
    Count,
    /// The names of an object alone: its values may be secret.
    Names,
    Time,
}

macro_rules! kinds {
    ($($name:ident = $kind:ident),*) => {$(
        pub const fn $name(title: &'static str, pointer: &'static str) -> Column {
            Column { title, pointer, kind: Kind::$kind }
        }
    )*};
}
kinds!(text = Text, id = Id, once = Once, number = Number, count = Count, names = Names, time = Time);

const NOTHING_THERE: &str = "-";
const BETWEEN_COLUMNS: u16 = 2;
/// Text is wrapped, but not to less.
const TEXT_MIN_CHARS: u16 = 16;

impl Column {
    fn cell(&self, row: &Value) -> String {
        match (self.kind, row.pointer(self.pointer).unwrap_or(&Value::Null)) {
            (Kind::Count, Value::Array(items)) => items.len().to_string(),
            (Kind::Names, Value::Object(map)) if map.is_empty() => NOTHING_THERE.to_owned(),
            (Kind::Names, Value::Object(map)) => {
                safe(&map.keys().map(String::as_str).collect::<Vec<_>>().join(", "))
            }
            (Kind::Time, Value::String(at)) => safe(&short_time(at)),
            (_, value) => plain(value),
        }
    }
}

fn plain(value: &Value) -> String {
    match value {
        Value::Null => NOTHING_THERE.to_owned(),
        Value::String(text) => safe(text),
        Value::Array(items) => joined(items.iter().map(plain)),
        Value::Object(map) => {
            joined(map.iter().map(|(name, value)| format!("{}={}", safe(name), plain(value))))
        }
        Value::Bool(_) | Value::Number(_) => value.to_string(),
    }
}

fn joined(parts: impl Iterator<Item = String>) -> String {
    let parts: Vec<_> = parts.collect();
    if parts.is_empty() { NOTHING_THERE.to_owned() } else { parts.join(", ") }
}

/// `2026-11-20T10:00:00.123Z` as `2026-11-20 10:00:00`.
fn short_time(at: &str) -> String {
    match at.split_once('T') {
        Some((day, time)) if time.ends_with('Z') => {
            format!("{day} {}", time.split(['.', 'Z']).next().unwrap_or(time))
        }
        _ => at.to_owned(),
    }
}

/// Without control characters and those that reorder text.
pub fn safe(text: &str) -> String {
    let is_unsafe =
        |c: char| c.is_control() || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    text.chars().map(|c| if is_unsafe(c) { char::REPLACEMENT_CHARACTER } else { c }).collect()
}

/// One row a thing; where a terminal is too narrow for that, one record a thing.
pub fn list(columns: &[Column], rows: &[Value]) -> String {
    list_within(terminal_width(), columns, rows)
}

fn list_within(width: Option<u16>, columns: &[Column], rows: &[Value]) -> String {
    let mut table = Table::new();
    table.load_style(NOTHING).set_header(columns.iter().map(|column| {
        let title = column.title.to_uppercase();
        if column.kind == Kind::Time { format!("{title} (UTC)") } else { title }
    }));
    for row in rows {
        table.add_row(columns.iter().map(|column| column.cell(row)));
    }
    let least: Vec<u16> = iter::zip(columns, table.column_max_content_widths())
        .map(|(column, wanted)| if column.kind == Kind::Text { wanted.min(TEXT_MIN_CHARS) } else { wanted })
        .collect();
    let needed = least.iter().map(|chars| u32::from(*chars) + u32::from(BETWEEN_COLUMNS)).sum::<u32>();
    if width.is_some_and(|width| u32::from(width) + u32::from(BETWEEN_COLUMNS) < needed) && !rows.is_empty() {
        return rows.iter().map(|row| record(columns, row)).collect::<Vec<_>>().join("\n\n");
    }
    if let Some(width) = width {
        table.set_content_arrangement(ContentArrangement::Dynamic).set_width(width);
    }
    let last = columns.len().saturating_sub(1);
    for (at, (shown, (column, least))) in table.column_iter_mut().zip(columns.iter().zip(least)).enumerate() {
        let after = if at == last { 0 } else { BETWEEN_COLUMNS };
        shown.set_padding((0, after));
        shown.set_constraint(match column.kind {
            Kind::Text => ColumnConstraint::LowerBoundary(Width::Fixed(least.saturating_add(after))),
            _ => ColumnConstraint::ContentWidth,
        });
        if matches!(column.kind, Kind::Number | Kind::Count) {
            shown.set_cell_alignment(CellAlignment::Right);
        }
    }
    table.trim_fmt()
}

/// One line a field. Never wrapped: an address or a secret is copied as one line.
pub fn record(columns: &[Column], thing: &Value) -> String {
    let has = |column: &&Column| column.kind != Kind::Once || thing.pointer(column.pointer).is_some();
    let columns: Vec<&Column> = columns.iter().filter(has).collect();
    let widest = columns.iter().map(|column| column.title.len()).max().unwrap_or_default();
    let lines = columns.iter().map(|column| {
        let cell = column.cell(thing);
        let utc = if column.kind == Kind::Time && cell != NOTHING_THERE { " UTC" } else { "" };
        format!("{:widest$}  {cell}{utc}", column.title)
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// One line, for what is shown as it comes.
pub fn line(columns: &[Column], thing: &Value) -> String {
    columns.iter().map(|column| column.cell(thing)).collect::<Vec<_>>().join("  ")
}

/// JSON over several lines.
pub fn pretty(value: &Value) -> String {
    let text = serde_json::to_string_pretty(value).unwrap_or_default();
    text.lines().map(safe).collect::<Vec<_>>().join("\n")
}

fn terminal_width() -> Option<u16> {
    let out = stdout();
    let size = if out.is_terminal() { rustix::termios::tcgetwinsize(&out).ok() } else { None };
    size.map(|size| size.ws_col).filter(|width| *width > 0)
}

#[cfg(test)]
mod tests;
