//! Conditions on events, as subscriptions carry them: expressions in CEL, the Common Expression Language.
//!
//! A filter is compiled when it is made and when a routing table is, never when an event comes. It sees the event as the variables
//! of [`VARIABLES`]. Its value is a boolean; whatever else comes of it (another value, a field that is not there) counts as
//! no match, and is told to whoever asks why.
//!
//! Guarantees: an expression of a stranger costs little and can't bring anything down. Of CEL's functions and operators those
//! are taken whose cost is at most that of reading the event once, and there are at most [`MAX_NODES`] of them: no loops
//! (`all`, `exists`, `map`), no regular expressions, nothing that builds larger values than it is given. What is parsed
//! is short and shallow; a panic in it is an error like any other.

mod subject;

#[cfg(test)]
mod fuzz;
#[cfg(test)]
mod tests;

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, LazyLock},
    thread,
};

use cel::{
    Context, Env, Program,
    common::ast::{Expr, IdedExpr, LiteralValue, SourceInfo},
};

pub use subject::{Event, Subject};

/// What a filter can ask of an event.
pub const VARIABLES: [&str; 8] =
    ["type", "data", "channel", "tags", "timestamp", "live_mode", "location_id", "api_version"];
/// Longest expression, in bytes.
pub const MAX_BYTES: usize = 1_024;
/// Operators, functions, names and literals of one expression.
pub const MAX_NODES: usize = 100;
/// Levels of parentheses and brackets, and of expressions inside each other.
const MAX_DEPTH: usize = 24;
/// The parser recurses; this is several times what it takes for the longest expression.
const PARSER_STACK_BYTES: usize = 16 * 1024 * 1024;
/// Longest explanation of a failure, in characters: it may quote the event's data.
const MAX_TOLD_CHARS: usize = 200;

const OPERATORS: [&str; 17] = [
    "_?_:_", "_&&_", "_||_", "!_", "_-_", "_*_", "_/_", "_%_", "_==_", "_!=_", "_>=_", "_<=_", "_>_", "_<_",
    "-_", "_[_]", "@in",
];
const FUNCTIONS: [&str; 7] = ["size", "int", "double", "string", "contains", "startsWith", "endsWith"];

static ENV: LazyLock<Arc<Env>> = LazyLock::new(|| Arc::new(Env::stdlib()));

/// What is wrong with an expression, and where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{detail}")]
pub struct FilterError {
    pub detail: String,
}

impl FilterError {
    fn new(detail: impl Into<String>) -> Self {
        Self { detail: detail.into() }
    }
}

/// A compiled expression.
#[derive(Debug)]
pub struct Filter {
    text: String,
    program: Program,
}

impl Filter {
    pub fn compile(text: &str) -> Result<Self, FilterError> {
        if text.trim().is_empty() {
            return Err(FilterError::new("must not be empty"));
        }
        if text.len() > MAX_BYTES {
            return Err(FilterError::new(format!("must have at most {MAX_BYTES} bytes")));
        }
        if text.contains('\0') {
            return Err(FilterError::new("must not contain the character U+0000"));
        }
        check_brackets(text)?;
        // A thread of its own: its stack is large enough, and a panic in it ends there.
        let parse = || {
            let program = ENV.compile(text).map_err(|errors| told(&errors))?;
            let mut check = Check { info: program.source_info(), nodes: 0 };
            check.expression(program.expression(), 0)?;
            Ok(Self { text: text.to_owned(), program })
        };
        thread::scope(|scope| {
            let parser = thread::Builder::new().stack_size(PARSER_STACK_BYTES).spawn_scoped(scope, parse);
            let parsed = parser.map_err(|_| FilterError::new("could not be read; try again"))?;
            parsed.join().unwrap_or_else(|_| Err(FilterError::new("is not an expression that can be read")))
        })
    }

    pub fn text(&self) -> &str {
        &self.text
    }

    /// Whether the event fulfils the condition, or why that can't be said.
    pub fn matches(&self, subject: &Subject) -> Result<bool, String> {
        let evaluate = || self.program.execute(subject.context());
        match catch_unwind(AssertUnwindSafe(evaluate)) {
            Ok(Ok(cel::Value::Bool(value))) => Ok(value),
            Ok(Ok(other)) => Err(format!("the filter's value is {}, not a boolean", other.type_of())),
            Ok(Err(error)) => Err(shortened(&error.to_string())),
            Err(_) => Err("the filter can't be evaluated".to_owned()),
        }
    }
}

fn shortened(text: &str) -> String {
    match text.char_indices().nth(MAX_TOLD_CHARS) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

fn told(errors: &cel::ParseErrors) -> FilterError {
    match errors.errors.first() {
        Some(first) => {
            let (line, column) = first.pos;
            FilterError::new(format!(
                "is not an expression: {} (line {line}, column {column})",
                shortened(first.msg.trim())
            ))
        }
        None => FilterError::new("is not an expression"),
    }
}

/// Deep nesting is refused before the parser sees it. Brackets in strings don't count.
fn check_brackets(text: &str) -> Result<(), FilterError> {
    let (mut depth, mut quote, mut escaped) = (0_usize, None, false);
    for (at, c) in text.char_indices() {
        match (quote, c) {
            (Some(_), _) if escaped => escaped = false,
            (Some(_), '\\') => escaped = true,
            (Some(open), _) if c == open => quote = None,
            (Some(_), _) => {}
            (None, '"' | '\'') => quote = Some(c),
            (None, '(' | '[' | '{') => {
                depth += 1;
                if depth > MAX_DEPTH {
                    return Err(too_deep(at));
                }
            }
            (None, ')' | ']' | '}') => depth = depth.saturating_sub(1),
            (None, _) => {}
        }
    }
    Ok(())
}

fn too_deep(at: usize) -> FilterError {
    FilterError::new(format!("is nested deeper than {MAX_DEPTH} levels (at character {})", at + 1))
}

/// Looks through a parsed expression for what filters may not have.
struct Check<'a> {
    info: &'a SourceInfo,
    nodes: usize,
}

impl Check<'_> {
    fn expression(&mut self, node: &IdedExpr, depth: usize) -> Result<(), FilterError> {
        self.nodes += 1;
        if self.nodes > MAX_NODES {
            return Err(FilterError::new(format!(
                "must have at most {MAX_NODES} operators, names and literals"
            )));
        }
        if depth > MAX_DEPTH {
            return Err(too_deep(self.offset(node)));
        }
        match &node.expr {
            Expr::Ident(name) if VARIABLES.contains(&name.as_str()) => Ok(()),
            Expr::Ident(name) => {
                Err(self.refuse(node, &format!("there is no {name}; there are {}", VARIABLES.join(", "))))
            }
            Expr::Literal(LiteralValue::Bytes(_)) => Err(self.refuse(node, "bytes are not for filters")),
            Expr::Literal(_) => Ok(()),
            Expr::Select(select) => self.expression(&select.operand, depth + 1),
            // Lists of literals alone: one with parts of the event in it would copy them.
            Expr::List(list) if list.elements.iter().all(|one| matches!(one.expr, Expr::Literal(_))) => {
                list.elements.iter().try_for_each(|element| self.expression(element, depth + 1))
            }
            Expr::Call(call) => {
                let name = call.func_name.as_str();
                if name == "_+_" {
                    return Err(self.refuse(node, "the operator + is not for filters"));
                }
                if !OPERATORS.contains(&name) && !FUNCTIONS.contains(&name) {
                    let functions = FUNCTIONS.join(", ");
                    let detail = format!("{name} is not for filters; the functions are has, {functions}");
                    return Err(self.refuse(node, &detail));
                }
                let target = call.target.as_deref().into_iter();
                target.chain(&call.args).try_for_each(|part| self.expression(part, depth + 1))
            }
            Expr::Comprehension(_) => {
                Err(self.refuse(node, "loops (all, exists, exists_one, map, filter) are not for filters"))
            }
            Expr::Map(_) | Expr::Struct(_) | Expr::List(_) | Expr::Unspecified => {
                Err(self.refuse(node, "such values are not for filters"))
            }
        }
    }

    fn offset(&self, node: &IdedExpr) -> usize {
        self.info.offset_for(node.id).and_then(|(start, _)| usize::try_from(start).ok()).unwrap_or_default()
    }

    fn refuse(&self, node: &IdedExpr, detail: &str) -> FilterError {
        FilterError::new(format!("is not a filter: {detail} (at character {})", self.offset(node) + 1))
    }
}

/// An event's variables, for expressions to be evaluated in.
fn context() -> Context<'static, 'static> {
    Context::with_env(Arc::clone(&ENV))
}
