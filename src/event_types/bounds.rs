//! What validating by a schema can cost at most, known before it is done.
//!
//! References let a small schema ask for exponential work: forty definitions, each `anyOf` twice the one before. So a schema's
//! applications are counted along a path through the data: what applies to one value (a definition counts as often as it is
//! referred to), and below it the property or item with the most. Counts are kept per definition and per level of the data, so
//! counting is linear in the schema. No value of the data meets more applications than that, hence: work ≤ cost × size of the
//! data ([`Bounds::work`]).
//!
//! A schema may refer to itself by way of properties or items, as trees do. It is refused where it comes back to itself in
//! place, and where its cost over [`LEVELS_COUNTED`] levels passes [`COST_MAX`]: that is where the same value would be looked at
//! by ever more branches. It errs on the side of refusing: branches of `anyOf` count together, even if one excludes another.

use std::collections::HashMap;

use percent_encoding::percent_decode_str;
use serde_json::{Map, Value};

/// Applications of sub-schemas along one path through the data.
const COST_MAX: u64 = 10_000;
/// Levels of data over which a schema's cost is limited. Deeper data is weighed when it comes.
const LEVELS_COUNTED: usize = 16;
/// As deep as JSON is read.
const LEVELS_MAX: usize = 128;
/// Sub-schemas inside each other, references followed, along one path through the data: the stack ends.
const NESTED_MAX: u64 = 512;
/// Regular expressions of a schema.
const PATTERNS_MAX: usize = 100;
/// Entries of `enum` and the like, and bytes of text, that take as long as one application.
const ENTRIES_PER_STEP: usize = 16;
const BYTES_PER_STEP: usize = 64;

/// By the height of the data.
pub struct Bounds(Vec<Load>);

#[derive(Clone, Copy, Default)]
struct Load {
    /// To say whether the data is valid.
    once: u64,
    /// To say why it isn't, or what was evaluated: branches are looked at again, at each of their levels.
    again: u64,
    nested: u64,
}

impl Load {
    fn cost(self) -> u64 {
        self.once.saturating_add(self.again)
    }

    fn plus(self, other: Self) -> Self {
        Self {
            once: self.once.saturating_add(other.once),
            again: self.again.saturating_add(other.again),
            nested: self.nested.max(other.nested),
        }
    }

    fn or(self, other: Self) -> Self {
        Self {
            once: self.once.max(other.once),
            again: self.again.max(other.again),
            nested: self.nested.max(other.nested),
        }
    }
}

impl Bounds {
    pub fn of(schema: &Value) -> Result<Self, String> {
        let graph = Graph::of(schema)?;
        let order = graph.inside_out()?;
        let mut levels: Vec<Load> = Vec::with_capacity(LEVELS_MAX + 1);
        let mut below = vec![Load::default(); graph.nodes.len()];
        for _ in 0..=LEVELS_MAX {
            let mut here = vec![Load::default(); graph.nodes.len()];
            for &at in &order {
                here[at] = graph.nodes[at].load(&here, &below);
            }
            levels.push(here.first().copied().unwrap_or_default());
            below = here;
        }
        if levels[LEVELS_COUNTED].cost() > COST_MAX {
            return Err(format!(
                "asks for more than {COST_MAX} checks of one value: refer less often to the same definitions"
            ));
        }
        if levels[LEVELS_COUNTED].nested > NESTED_MAX {
            return Err(format!("is nested deeper than {NESTED_MAX} sub-schemas, references followed"));
        }
        Ok(Self(levels))
    }

    /// Steps that validating this data takes at most; `None`: it is too deep for this schema.
    pub fn work(&self, data: &Value) -> Option<u64> {
        let load = self.0.get(height(data)).filter(|load| load.nested <= NESTED_MAX)?;
        Some(load.cost().saturating_mul(size(data)))
    }
}

fn height(value: &Value) -> usize {
    match value {
        Value::Array(items) => 1 + items.iter().map(height).max().unwrap_or(0),
        Value::Object(map) => 1 + map.values().map(height).max().unwrap_or(0),
        _ => 0,
    }
}

/// Values and keys, long texts as several.
fn size(value: &Value) -> u64 {
    let text = |text: &str| 1 + (text.len() / BYTES_PER_STEP) as u64;
    match value {
        Value::String(string) => text(string),
        Value::Array(items) => 1 + items.iter().map(size).sum::<u64>(),
        Value::Object(map) => 1 + map.iter().map(|(key, value)| text(key) + size(value)).sum::<u64>(),
        _ => 1,
    }
}

/// A sub-schema, and those that it applies.
#[derive(Default)]
struct Node {
    own: u64,
    /// To the same value.
    in_place: Vec<usize>,
    /// To values below, each to others.
    apart: Vec<usize>,
    /// To values below that others may apply to as well.
    shared: Vec<usize>,
    /// `unevaluated…` asks what its branches have evaluated.
    looks_again: bool,
}

impl Node {
    fn load(&self, here: &[Load], below: &[Load]) -> Load {
        let sum =
            |nodes: &[usize], of: &[Load]| nodes.iter().fold(Load::default(), |sum, &at| sum.plus(of[at]));
        let branches = sum(&self.in_place, here);
        let most = self.apart.iter().fold(Load::default(), |most, &at| most.or(below[at]));
        let down = most.plus(sum(&self.shared, below));
        let own = Load { once: self.own, again: self.own.saturating_add(branches.once), nested: 0 };
        let mut load = own.plus(branches).plus(down);
        if self.looks_again {
            load.once = load.cost();
            load.again = load.again.saturating_mul(2);
        }
        load.nested += 1;
        load
    }
}

struct Graph<'a> {
    root: &'a Value,
    anchors: HashMap<&'a str, &'a Value>,
    /// The first is the root.
    nodes: Vec<Node>,
    /// By where it is in memory: each once, however often it is referred to.
    known: HashMap<*const Value, usize>,
    waiting: Vec<(usize, &'a Map<String, Value>)>,
    patterns: usize,
}

impl<'a> Graph<'a> {
    fn of(root: &'a Value) -> Result<Self, String> {
        let (nodes, known, waiting) = (Vec::new(), HashMap::new(), Vec::new());
        let mut graph = Self { root, anchors: HashMap::new(), nodes, known, waiting, patterns: 0 };
        graph.name(root)?;
        graph.node(root);
        while let Some((at, map)) = graph.waiting.pop() {
            graph.nodes[at] = graph.read(map)?;
        }
        if graph.patterns > PATTERNS_MAX {
            return Err(format!("must have at most {PATTERNS_MAX} patterns"));
        }
        Ok(graph)
    }

    /// Anchors anywhere. What would make `#` mean something else on the way is refused.
    fn name(&mut self, value: &'a Value) -> Result<(), String> {
        match value {
            Value::Array(items) => items.iter().try_for_each(|item| self.name(item)),
            Value::Object(map) => {
                for key in ["$id", "$schema"] {
                    if map.get(key).is_some_and(Value::is_string) && !std::ptr::eq(value, self.root) {
                        return Err(format!("must not have {key} below its top"));
                    }
                }
                for key in ["$anchor", "$dynamicAnchor"] {
                    let Some(name) = map.get(key).and_then(Value::as_str) else { continue };
                    if self.anchors.insert(name, value).is_some_and(|before| !std::ptr::eq(before, value)) {
                        return Err("must not have an anchor twice".into());
                    }
                }
                map.values().try_for_each(|item| self.name(item))
            }
            _ => Ok(()),
        }
    }

    fn node(&mut self, schema: &'a Value) -> usize {
        let next = self.nodes.len();
        let at = *self.known.entry(std::ptr::from_ref(schema)).or_insert(next);
        if at == next {
            self.nodes.push(Node { own: 1, ..Node::default() });
            self.waiting.extend(schema.as_object().map(|map| (at, map)));
        }
        at
    }

    /// The schemas of a keyword: one, a list, or some by name.
    fn list(&mut self, value: &'a Value) -> Vec<usize> {
        match value {
            Value::Array(items) => items.iter().map(|item| self.node(item)).collect(),
            other => vec![self.node(other)],
        }
    }

    fn named(&mut self, value: &'a Value) -> Vec<usize> {
        value.as_object().into_iter().flat_map(Map::values).map(|item| self.node(item)).collect()
    }

    fn read(&mut self, map: &'a Map<String, Value>) -> Result<Node, String> {
        let mut node = Node { own: 1, ..Node::default() };
        for (keyword, value) in map {
            match keyword.as_str() {
                "$ref" | "$dynamicRef" | "$recursiveRef" => {
                    let target = self.target(value.as_str().unwrap_or_default())?;
                    node.in_place.push(self.node(target));
                }
                "allOf" | "anyOf" | "oneOf" | "not" | "if" | "then" | "else" => {
                    node.in_place.extend(self.list(value));
                }
                "dependentSchemas" | "dependencies" => node.in_place.extend(self.named(value)),
                "properties" => node.apart.extend(self.named(value)),
                "additionalProperties" | "items" | "prefixItems" | "additionalItems" => {
                    node.apart.extend(self.list(value));
                }
                "patternProperties" => {
                    let schemas = self.named(value);
                    self.patterns += schemas.len();
                    node.shared.extend(schemas);
                }
                "propertyNames" | "contains" | "contentSchema" => node.shared.extend(self.list(value)),
                "unevaluatedProperties" | "unevaluatedItems" => {
                    node.looks_again = true;
                    node.shared.extend(self.list(value));
                }
                "pattern" => self.patterns += 1,
                // Not `const`: comparing ends where the data does.
                "enum" | "required" | "dependentRequired" => {
                    node.own += size(value) / ENTRIES_PER_STEP as u64;
                }
                _ => {}
            }
        }
        Ok(node)
    }

    fn target(&self, reference: &str) -> Result<&'a Value, String> {
        let outside = || format!("refers to {reference}: a reference must start with # and lead into itself");
        let fragment =
            reference.strip_prefix('#').or(reference.is_empty().then_some("")).ok_or_else(outside)?;
        let fragment = percent_decode_str(fragment).decode_utf8().map_err(|_| outside())?;
        let found = if fragment.is_empty() || fragment.starts_with('/') {
            self.root.pointer(&fragment)
        } else {
            self.anchors.get(fragment.as_ref()).copied()
        };
        found.ok_or_else(|| format!("refers to {reference}, which it doesn't have"))
    }

    /// The nodes, each after those that it applies in place.
    fn inside_out(&self) -> Result<Vec<usize>, String> {
        let mut users = vec![Vec::new(); self.nodes.len()];
        let mut missing: Vec<usize> = self.nodes.iter().map(|node| node.in_place.len()).collect();
        for (user, node) in self.nodes.iter().enumerate() {
            node.in_place.iter().for_each(|&used| users[used].push(user));
        }
        let mut order: Vec<usize> = (0..self.nodes.len()).filter(|&at| missing[at] == 0).collect();
        let mut next = 0;
        while let Some(&done) = order.get(next) {
            next += 1;
            for &user in &users[done] {
                missing[user] -= 1;
                if missing[user] == 0 {
                    order.push(user);
                }
            }
        }
        if order.len() == self.nodes.len() {
            Ok(order)
        } else {
            Err("refers to itself without going down to a property or an item".into())
        }
    }
}
