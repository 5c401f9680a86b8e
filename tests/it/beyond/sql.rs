//! As much of SQL as is needed to see which tables a statement names, and what it asks of their shard.

use super::SPREAD;

/// A statement as words and signs, in lower case; comments are gone, and texts are empty.
pub struct Sql(Vec<String>);

/// A spread table that a statement names.
#[derive(Debug, PartialEq, Eq)]
pub struct Named {
    pub table: String,
    alias: String,
    at: usize,
}

impl Sql {
    pub fn read(text: &str) -> Self {
        let mut tokens: Vec<String> = Vec::new();
        let mut rest = text.trim_start();
        while let Some(first) = rest.chars().next() {
            let is_word = |c: char| c.is_alphanumeric() || "_$".contains(c);
            let length = if rest.starts_with("--") {
                rest.find('\n').unwrap_or(rest.len())
            } else if matches!(first, '\'' | '"') {
                2 + rest[1..].find(first).expect("its end")
            } else if is_word(first) {
                rest.find(|c| !is_word(c)).unwrap_or(rest.len())
            } else if rest.starts_with("::") {
                2
            } else {
                first.len_utf8()
            };
            let (token, after) = rest.split_at(length);
            match first {
                _ if token.starts_with("--") => {}
                '\'' => tokens.push("''".to_owned()),
                _ => tokens.push(token.to_lowercase()),
            }
            rest = after.trim_start();
        }
        Self(tokens)
    }

    fn token(&self, at: usize) -> &str {
        self.0.get(at).map_or("", String::as_str)
    }

    /// The spread tables that it reads or writes, each time that it does so.
    pub fn named(&self) -> Vec<Named> {
        const BEFORE: [&str; 7] = ["from", "join", "update", "into", "using", "only", ","];
        const NO_ALIAS: [&str; 23] = [
            "as",
            "cross",
            "default",
            "do",
            "for",
            "full",
            "group",
            "inner",
            "join",
            "left",
            "limit",
            "natural",
            "on",
            "order",
            "returning",
            "right",
            "select",
            "set",
            "union",
            "using",
            "values",
            "where",
            "with",
        ];
        let is_named = |at: &usize| {
            SPREAD.contains(&self.token(*at))
                && *at > 0
                && BEFORE.contains(&self.token(at - 1))
                && self.token(at + 1) != "."
        };
        let named = (0..self.0.len()).filter(is_named).map(|at| {
            let table = self.token(at).to_owned();
            let next = self.token(at + 1 + usize::from(self.token(at + 1) == "as"));
            let is_alias = next.starts_with(char::is_alphabetic) && !NO_ALIAS.contains(&next);
            Named { alias: if is_alias { next.to_owned() } else { table.clone() }, table, at }
        });
        named.collect()
    }

    /// The parentheses around this place, or one of their `UNION`s, or all of it.
    fn around(&self, at: usize) -> &[String] {
        let begin = edge(self.0[..at].iter().enumerate().rev(), ")", "(").map_or(0, |place| place + 1);
        let end = edge(self.0.iter().enumerate().skip(at), "(", ")").unwrap_or(self.0.len());
        &self.0[begin..end]
    }

    /// Whether the shard of its rows is given: compared for equality, or named among the columns that an `INSERT` fills. What
    /// management says does not count: a tenant's endpoints are in many shards.
    pub fn says_shard(&self, named: &Named) -> bool {
        if self.token(named.at - 1) == "into" {
            let columns =
                self.0[named.at..].iter().skip_while(|token| *token != "(").take_while(|token| *token != ")");
            return columns.into_iter().any(|token| token == "shard");
        }
        let around = conditions(self.around(named.at));
        let sources = around.iter().filter(|token| matches!(**token, "from" | "join" | "update")).count();
        let is_alone = sources == 1 || named.alias == named.table;
        let token = |at: Option<usize>| at.and_then(|at| around.get(at)).copied().unwrap_or_default();
        (0..around.len()).filter(|at| around[*at] == "shard").any(|at| {
            let (before, after) =
                (|many: usize| token(at.checked_sub(many)), |many: usize| token(Some(at + many)));
            let is_its = before(1) == "." && before(2) == named.alias || before(1) != "." && is_alone;
            let managed = |alias: &str, shard: &str| shard == "shard" && self.is_management(alias);
            let is_given = match (before(3), after(1)) {
                (_, "in") => true,
                (_, "=") => !managed(after(2), after(4)),
                ("=", _) if before(1) == "." => !managed(before(6), before(4)),
                _ => false,
            };
            is_its && is_given || before(2) == "using"
        })
    }

    fn is_management(&self, alias: &str) -> bool {
        self.0.windows(3).any(|at| {
            matches!(at[0].as_str(), "from" | "join")
                && at[1] == "endpoints"
                && (at[2] == alias || alias == "endpoints")
        })
    }

    /// What an `UPDATE` or a `DELETE` of a spread table calls, sub-selects apart.
    pub fn calls_of_changes(&self) -> Vec<String> {
        let changes = self.named().into_iter().filter(|named| {
            let before = |many: usize| named.at.checked_sub(many).map_or("", |at| self.token(at));
            before(1) == "update" || before(1) == "from" && before(2) == "delete"
        });
        changes.flat_map(|named| calls(self.around(named.at))).collect()
    }

    /// Whether it sets the shard of rows that exist.
    pub fn moves_rows(&self) -> bool {
        self.0.windows(3).any(|at| {
            matches!(at[0].as_str(), "set" | ",")
                && at[1] == "shard"
                && at[2] == "="
                && self.0.contains(&"set".to_owned())
        })
    }

    pub fn has(&self, token: &str) -> bool {
        self.0.iter().any(|one| one == token)
    }
}

/// The first parenthesis that closes what is around, or `UNION` beside it.
fn edge<'a>(tokens: impl Iterator<Item = (usize, &'a String)>, opens: &str, closes: &str) -> Option<usize> {
    let mut depth = 0_usize;
    for (place, token) in tokens {
        if depth == 0 && (token == closes || token == "union") {
            return Some(place);
        }
        depth += usize::from(token == opens);
        depth -= usize::from(token == closes);
    }
    None
}

/// What stands there itself: neither in a sub-select nor among what an `UPDATE` sets.
fn conditions(tokens: &[String]) -> Vec<&str> {
    let (mut open, mut is_set, mut own) = (Vec::new(), false, Vec::new());
    for (at, token) in tokens.iter().enumerate() {
        match token.as_str() {
            "(" => open.push(tokens.get(at + 1).is_some_and(|next| next == "select")),
            ")" => drop(open.pop()),
            "set" => is_set = true,
            "from" | "where" | "returning" if !open.contains(&true) => is_set = false,
            _ => {}
        }
        if !is_set && !open.contains(&true) {
            own.push(token.as_str());
        }
    }
    own
}

fn calls(tokens: &[String]) -> Vec<String> {
    let mut found = Vec::new();
    // For each open parenthesis, whether it is a sub-select.
    let mut open = Vec::new();
    for at in 0..tokens.len() {
        match tokens[at].as_str() {
            "(" => {
                let is_call = at > 0 && tokens[at - 1].starts_with(|c: char| c.is_alphabetic());
                if is_call && !open.contains(&true) {
                    found.push(tokens[at - 1].clone());
                }
                open.push(tokens.get(at + 1).is_some_and(|next| next == "select"));
            }
            ")" => {
                open.pop();
            }
            _ => {}
        }
    }
    found
}

#[test]
fn a_statement_is_read_as_it_is_meant() {
    let says = |text: &str| {
        let sql = Sql::read(text);
        sql.named().iter().map(|named| sql.says_shard(named)).collect::<Vec<_>>()
    };
    assert_eq!(says("SELECT 1 FROM queue WHERE shard = ANY($1) -- FROM events"), [true]);
    assert_eq!(says("SELECT 1 FROM queue q WHERE q.endpoint_id = $1 AND e.shard = $2"), [false]);
    assert_eq!(
        says("SELECT 'FROM events' FROM settled AS s JOIN events e ON e.shard = s.shard WHERE s.id = $1"),
        [true, true]
    );
    assert_eq!(
        says("(SELECT 1 FROM queue q WHERE q.shard = 1 UNION ALL SELECT 2 FROM queue q)"),
        [true, false]
    );
    assert_eq!(says("SELECT (SELECT 1 FROM queue q) FROM events e WHERE e.shard = 1"), [false, true]);
    assert_eq!(says("INSERT INTO queue AS t (endpoint_id) SELECT d.shard FROM d"), [false]);
    assert_eq!(says("DELETE FROM queue q USING d WHERE d.shard > q.shard"), [false]);
    assert_eq!(
        says("SELECT (SELECT 1 FROM d WHERE d.shard = e.shard) FROM events e WHERE e.at < $1"),
        [false]
    );
    assert_eq!(says("UPDATE shards SET node = CASE WHEN shard = 7 THEN $1 END WHERE node = $2"), [false]);
    assert_eq!(
        says("SELECT 1 FROM endpoints e JOIN endpoint_health h ON h.shard = e.shard WHERE e.tenant_id = $1"),
        [false]
    );
    let change = Sql::read("UPDATE queue q SET at = greatest(now(), (SELECT random())) WHERE q.shard = 1");
    assert_eq!(change.calls_of_changes(), ["greatest", "now"]);
    assert!(Sql::read("UPDATE queue SET a = 1, shard = 2").moves_rows() && !change.moves_rows());
}
