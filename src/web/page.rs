//! Keyset pages: newest first, forwards and backwards, never by offset.
//!
//! A cursor is opaque, and bound to the tenant, the list and its filters: one that was made elsewhere is a 400 rather than
//! a page of something else. It holds the id of the row at a page's edge, so pages stay put while new rows arrive.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use super::error::ApiError;

pub const LIMIT_DEFAULT: u16 = 50;
pub const LIMIT_MAX: u16 = 250;
const SCOPE_BYTES: usize = 8;

/// `limit` and `cursor` as they come in the query.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct PageQuery {
    /// Entries of one page.
    #[param(required = false, minimum = 1, maximum = 250, default = 50)]
    pub limit: Option<u16>,
    /// `next_cursor` or `prev_cursor` of another page of the same list with the same filters. Without it: the first page.
    #[param(required = false)]
    pub cursor: Option<String>,
}

/// What a list's SQL needs: rows below `before` (or above `after`), nearest first, one more than the page holds.
#[derive(Clone, Copy, Debug)]
pub struct Keyset {
    pub backwards: bool,
    /// The row at the edge; the highest id there is, for the first page.
    pub edge: Uuid,
    limit: u16,
}

impl Keyset {
    /// Rows to read: one more tells whether there is another page.
    pub fn fetch(self) -> i64 {
        i64::from(self.limit) + 1
    }
}

/// One page, and how to reach its neighbours.
#[derive(Debug, Serialize, ToSchema)]
pub struct Page<T> {
    /// Newest first.
    pub data: Vec<T>,
    /// The `cursor` of the page of older entries; `null`: there is none.
    pub next_cursor: Option<String>,
    /// The `cursor` of the page of newer entries; `null`: this is the first page.
    pub prev_cursor: Option<String>,
}

/// What a cursor is bound to.
pub struct Scope([u8; SCOPE_BYTES]);

impl Scope {
    /// `parts`: the list's name, the tenant, and every filter in a fixed order.
    pub fn new(parts: &[&str]) -> Self {
        let mut hash = Sha256::new();
        for part in parts {
            hash.update(part.len().to_be_bytes());
            hash.update(part);
        }
        let digest = hash.finalize();
        let mut scope = [0; SCOPE_BYTES];
        scope.copy_from_slice(&digest[..SCOPE_BYTES]);
        Self(scope)
    }

    pub fn keyset(&self, query: &PageQuery) -> Result<Keyset, ApiError> {
        let limit = query.limit.unwrap_or(LIMIT_DEFAULT);
        if !(1..=LIMIT_MAX).contains(&limit) {
            return Err(ApiError::Malformed(format!("limit must be between 1 and {LIMIT_MAX}.").into()));
        }
        let (backwards, edge) = match &query.cursor {
            None => (false, Uuid::max()),
            Some(text) => self.decode(text).ok_or(ApiError::Malformed(
                "cursor is not one of this list: use next_cursor or prev_cursor as they were given, with the same filters.".into(),
            ))?,
        };
        Ok(Keyset { backwards, edge, limit })
    }

    /// `rows`: newest first, at most [`Keyset::fetch`] of them.
    pub fn page<T>(
        &self,
        query: &PageQuery,
        keyset: Keyset,
        mut rows: Vec<T>,
        id: impl Fn(&T) -> Uuid,
    ) -> Page<T> {
        let limit = usize::from(keyset.limit);
        let more = rows.len() > limit;
        if more && keyset.backwards {
            rows.remove(0);
        }
        rows.truncate(limit);
        let has_next = if keyset.backwards { true } else { more };
        let has_prev = if keyset.backwards { more } else { query.cursor.is_some() };
        let edge = |row: Option<&T>, backwards: bool| row.map(|row| self.encode(backwards, id(row)));
        Page {
            next_cursor: if has_next { edge(rows.last(), false) } else { None },
            prev_cursor: if has_prev { edge(rows.first(), true) } else { None },
            data: rows,
        }
    }

    fn encode(&self, backwards: bool, edge: Uuid) -> String {
        let mut bytes = vec![u8::from(backwards)];
        bytes.extend_from_slice(&self.0);
        bytes.extend_from_slice(edge.as_bytes());
        URL_SAFE_NO_PAD.encode(bytes)
    }

    fn decode(&self, text: &str) -> Option<(bool, Uuid)> {
        let bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
        let (direction, rest) = bytes.split_first()?;
        let (scope, edge) = rest.split_at_checked(SCOPE_BYTES)?;
        let backwards = match direction {
            0 => false,
            1 => true,
            _ => return None,
        };
        (scope == self.0).then_some(())?;
        Some((backwards, Uuid::from_slice(edge).ok()?))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(rows: &[Uuid], keyset: Keyset) -> Vec<Uuid> {
        let fetch = usize::try_from(keyset.fetch()).unwrap();
        let mut rows = rows.to_vec();
        if keyset.backwards {
            rows.sort();
            let mut page: Vec<_> = rows.into_iter().filter(|id| *id > keyset.edge).take(fetch).collect();
            page.reverse();
            page
        } else {
            rows.sort_by(|a, b| b.cmp(a));
            rows.into_iter().filter(|id| *id < keyset.edge).take(fetch).collect()
        }
    }

    proptest! {
        #[test]
        fn walking_forth_and_back_sees_every_row_once(count in 0_u128..40, limit in 1_u16..7) {
            let rows: Vec<Uuid> = (1..=count).map(Uuid::from_u128).collect();
            let scope = Scope::new(&["test"]);
            let walk = |mut query: PageQuery, forwards: bool| {
                let mut pages = Vec::new();
                loop {
                    let keyset = scope.keyset(&query).unwrap();
                    let page = scope.page(&query, keyset, read(&rows, keyset), |id| *id);
                    let next = if forwards { page.next_cursor } else { page.prev_cursor };
                    pages.push(page.data);
                    match next {
                        Some(cursor) => query = PageQuery { limit: Some(limit), cursor: Some(cursor) },
                        None => return (pages, query),
                    }
                }
            };
            let (forth, last) = walk(PageQuery { limit: Some(limit), cursor: None }, true);
            let mut expected = rows.clone();
            expected.reverse();
            prop_assert_eq!(&forth.concat(), &expected);
            let (mut back, _) = walk(last, false);
            back.reverse();
            if forth.len() > 1 {
                prop_assert_eq!(back.concat(), expected);
            }
        }

        #[test]
        fn no_text_panics(text in ".{0,60}") {
            let _ = Scope::new(&["test"]).decode(&text);
        }
    }

    #[test]
    fn a_cursor_of_another_list_is_refused() {
        let cursor = Scope::new(&["a", "bc"]).encode(false, Uuid::max());
        let query = PageQuery { limit: None, cursor: Some(cursor) };
        assert!(Scope::new(&["a", "bc"]).keyset(&query).is_ok());
        assert!(Scope::new(&["ab", "c"]).keyset(&query).is_err());
    }
}
