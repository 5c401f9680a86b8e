//! Keyset pages: newest first, forwards and backwards, never by offset. Short lists are read as a whole and cut into pages by
//! name ([`Scope::page_of_all`]).
//!
//! A cursor is opaque, and bound to the tenant, the list and its filters: one that was made elsewhere is a 400 rather than
//! a page of something else. It holds the key of the row at a page's edge, so pages stay put while new rows arrive.
//!
//! A list with filters that no index serves looks at a bounded number of rows for a page ([`Keyset::scan`]). Where few of them
//! match, the page is shorter than its limit, empty perhaps, and its cursor leads on from the last row that was looked at: a
//! list has ended when there is no cursor, not when a page is short.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use super::{
    error::ApiError,
    filter::{above, below},
};

pub const LIMIT_DEFAULT: u16 = 50;
pub const LIMIT_MAX: u16 = 250;
const SCOPE_BYTES: usize = 8;
/// Around every key of [`Scope::page_of_all`].
const BELOW_ALL_KEYS: &str = "";
const ABOVE_ALL_KEYS: &str = "\u{10FFFF}";

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

impl PageQuery {
    fn limit(&self) -> Result<u16, ApiError> {
        let limit = self.limit.unwrap_or(LIMIT_DEFAULT);
        if (1..=LIMIT_MAX).contains(&limit) {
            Ok(limit)
        } else {
            Err(ApiError::Malformed(format!("limit must be between 1 and {LIMIT_MAX}.").into()))
        }
    }
}

/// The key that a list is ordered by.
pub trait Edge: Copy + Ord + Send {
    /// Above every row.
    const TOP: Self;

    /// The next lower key.
    fn below(self) -> Self;
    /// The next higher key.
    fn above(self) -> Self;
    fn write(self, bytes: &mut Vec<u8>);
    fn read(bytes: &[u8]) -> Option<Self>;
}

impl Edge for Uuid {
    const TOP: Self = Self::max();

    fn below(self) -> Self {
        below(self)
    }

    fn above(self) -> Self {
        above(self)
    }

    fn write(self, bytes: &mut Vec<u8>) {
        bytes.extend_from_slice(self.as_bytes());
    }

    fn read(bytes: &[u8]) -> Option<Self> {
        Self::from_slice(bytes).ok()
    }
}

impl Edge for (Uuid, Uuid) {
    const TOP: Self = (Uuid::max(), Uuid::max());

    fn below(self) -> Self {
        if self.1.is_nil() { (below(self.0), Uuid::max()) } else { (self.0, below(self.1)) }
    }

    fn above(self) -> Self {
        if self.1.is_max() { (above(self.0), Uuid::nil()) } else { (self.0, above(self.1)) }
    }

    fn write(self, bytes: &mut Vec<u8>) {
        self.0.write(bytes);
        self.1.write(bytes);
    }

    fn read(bytes: &[u8]) -> Option<Self> {
        let (first, second) = bytes.split_at_checked(size_of::<Uuid>())?;
        Some((Edge::read(first)?, Edge::read(second)?))
    }
}

/// What a list's SQL needs: rows below the edge (or above it, backwards), nearest first, one more than the page holds.
#[derive(Clone, Copy, Debug)]
pub struct Keyset<E = Uuid> {
    pub backwards: bool,
    /// The row at the edge; the highest key there is, for the first page.
    pub edge: E,
    limit: u16,
    fetch: u16,
}

/// Rows that were looked at in one go, nearest first.
pub struct Chunk<T, E> {
    /// The key of each, and the row if it belongs to the list.
    pub rows: Vec<(E, Option<T>)>,
    /// There may be more beyond this key.
    pub beyond: Option<E>,
}

/// What a list is read from.
pub trait Source {
    type Row;
    type Edge: Edge;

    /// [`Keyset::fetch`] rows, or more. Fewer, with something beyond, end the reading for this page.
    fn read(
        &mut self,
        keyset: Keyset<Self::Edge>,
    ) -> impl Future<Output = sqlx::Result<Chunk<Self::Row, Self::Edge>>> + Send;
}

/// Rows of a page, newest first, and how far was looked for them.
pub struct Scanned<T, E> {
    rows: Vec<(E, T)>,
    reached: Option<E>,
}

/// How many rows are read when a filter has left a page unfilled, and how many times as many as before.
const READ_LEAST: usize = 8;
const READ_MORE: usize = 4;

impl<E: Edge> Keyset<E> {
    /// Rows to read: one more tells whether there is another page.
    pub fn fetch(self) -> i64 {
        i64::from(self.fetch)
    }

    /// Reads on until the page is full, the list ends, or so many rows have been looked at.
    pub async fn scan<S: Source<Edge = E>>(
        self,
        source: &mut S,
        most: u16,
    ) -> sqlx::Result<Scanned<S::Row, E>> {
        let wanted = usize::from(self.fetch);
        let (mut keyset, mut seen, mut rows) = (self, 0, Vec::new());
        let reached = loop {
            let chunk = source.read(keyset).await?;
            let is_full = chunk.rows.len() >= usize::from(keyset.fetch);
            seen += chunk.rows.len();
            rows.extend(chunk.rows.into_iter().filter_map(|(edge, row)| Some((edge, row?))));
            let left = usize::from(most).saturating_sub(seen);
            match chunk.beyond {
                Some(edge) if is_full && left > 0 && rows.len() < wanted => {
                    // As many as are likely to hold what is missing, and as many again.
                    let likely = 2 * (wanted - rows.len()) * seen / rows.len().max(1);
                    let fetch = likely.clamp(READ_LEAST, usize::from(keyset.fetch) * READ_MORE).min(left);
                    keyset = Self { edge, fetch: u16::try_from(fetch).unwrap_or(most), ..keyset };
                }
                beyond => break beyond,
            }
        };
        rows.truncate(wanted);
        if self.backwards {
            rows.reverse();
        }
        Ok(Scanned { rows, reached })
    }
}

impl<T, E: Edge> Chunk<T, E> {
    /// `rows`: newest first, as many as the keyset asked for if there are so many.
    pub fn of(
        keyset: Keyset<E>,
        mut rows: Vec<T>,
        edge: impl Fn(&T) -> E,
        belongs: impl Fn(&T) -> bool,
    ) -> Self {
        if keyset.backwards {
            rows.reverse();
        }
        let is_full = rows.len() >= usize::from(keyset.fetch);
        let beyond = if is_full { rows.last().map(&edge) } else { None };
        let rows = rows.into_iter().map(|row| (edge(&row), belongs(&row).then_some(row))).collect();
        Self { rows, beyond }
    }
}

/// One page, and how to reach its neighbours.
#[derive(Debug, Serialize, ToSchema)]
pub struct Page<T> {
    /// Newest first, where the list has no order of its own.
    pub data: Vec<T>,
    /// The `cursor` of the next page; `null`: there is none.
    pub next_cursor: Option<String>,
    /// The `cursor` of the page before; `null`: this is the first page.
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

    pub fn keyset<E: Edge>(&self, query: &PageQuery) -> Result<Keyset<E>, ApiError> {
        let limit = query.limit()?;
        let (backwards, edge) = match &query.cursor {
            None => (false, E::TOP),
            Some(text) => self.decode(text).ok_or_else(foreign_cursor)?,
        };
        Ok(Keyset { backwards, edge, limit, fetch: limit + 1 })
    }

    /// `rows`: newest first, at most [`Keyset::fetch`] of them.
    pub fn page<T, E: Edge>(
        &self,
        query: &PageQuery,
        keyset: Keyset<E>,
        rows: Vec<T>,
        edge: impl Fn(&T) -> E,
    ) -> Page<T> {
        let rows = rows.into_iter().map(|row| (edge(&row), row)).collect();
        self.page_of(query, keyset, Scanned { rows, reached: None })
    }

    pub fn page_of<T, E: Edge>(
        &self,
        query: &PageQuery,
        keyset: Keyset<E>,
        scanned: Scanned<T, E>,
    ) -> Page<T> {
        let Scanned { mut rows, reached } = scanned;
        let limit = usize::from(keyset.limit);
        let more = rows.len() > limit;
        if more && keyset.backwards {
            rows.remove(0);
        }
        rows.truncate(limit);
        let (first, last) = (rows.first().map(|(edge, _)| *edge), rows.last().map(|(edge, _)| *edge));
        // An empty page lies beside its edge, and the way back includes the row there.
        let (newer, older) = if keyset.backwards {
            (if more { first } else { reached }, Some(last.unwrap_or(keyset.edge.above())))
        } else {
            let back = query.cursor.is_some().then_some(first.unwrap_or(keyset.edge.below()));
            (back, if more { last } else { reached })
        };
        Page {
            next_cursor: older.map(|edge| self.encode(false, edge)),
            prev_cursor: newer.map(|edge| self.encode(true, edge)),
            data: rows.into_iter().map(|(_, row)| row).collect(),
        }
    }

    /// One page of a list that is short enough to be read as a whole, each entry with the key that it is ordered by, from
    /// the lowest on. Entries may come and go between pages.
    pub fn page_of_all<T>(
        &self,
        query: &PageQuery,
        mut entries: Vec<(String, T)>,
    ) -> Result<Page<T>, ApiError> {
        let limit = usize::from(query.limit()?);
        entries.sort_by(|(a, _), (b, _)| a.cmp(b));
        let (start, end) = match &query.cursor {
            None => (0, limit),
            Some(text) => match self.decode_key(text).ok_or_else(foreign_cursor)? {
                (false, last) => {
                    let start = entries.partition_point(|(key, _)| *key <= last);
                    (start, start + limit)
                }
                (true, first) => {
                    let end = entries.partition_point(|(key, _)| *key < first);
                    (end.saturating_sub(limit), end)
                }
            },
        };
        let end = end.min(entries.len());
        let key = |at: usize| entries.get(at).map(|(key, _)| key.as_str());
        // A page whose entries are gone lies below or above all others.
        let (last, first) = (end.checked_sub(1).and_then(key), key(start));
        let next_cursor =
            (end < entries.len()).then(|| self.encode_key(false, last.unwrap_or(BELOW_ALL_KEYS)));
        let prev_cursor = (start > 0).then(|| self.encode_key(true, first.unwrap_or(ABOVE_ALL_KEYS)));
        let data = entries.drain(start..end).map(|(_, entry)| entry).collect();
        Ok(Page { data, next_cursor, prev_cursor })
    }

    fn encode<E: Edge>(&self, backwards: bool, edge: E) -> String {
        let mut bytes = Vec::new();
        edge.write(&mut bytes);
        self.seal(backwards, &bytes)
    }

    fn encode_key(&self, backwards: bool, key: &str) -> String {
        self.seal(backwards, key.as_bytes())
    }

    fn decode<E: Edge>(&self, text: &str) -> Option<(bool, E)> {
        let (backwards, edge) = self.open(text)?;
        Some((backwards, E::read(&edge)?))
    }

    fn decode_key(&self, text: &str) -> Option<(bool, String)> {
        let (backwards, key) = self.open(text)?;
        Some((backwards, String::from_utf8(key).ok()?))
    }

    /// A cursor: its direction, what it is bound to, and the key at the edge.
    fn seal(&self, backwards: bool, edge: &[u8]) -> String {
        let mut bytes = vec![u8::from(backwards)];
        bytes.extend_from_slice(&self.0);
        bytes.extend_from_slice(edge);
        URL_SAFE_NO_PAD.encode(bytes)
    }

    fn open(&self, text: &str) -> Option<(bool, Vec<u8>)> {
        let bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
        let (direction, rest) = bytes.split_first()?;
        let (scope, edge) = rest.split_at_checked(SCOPE_BYTES)?;
        let backwards = match direction {
            0 => false,
            1 => true,
            _ => return None,
        };
        (scope == self.0).then_some(())?;
        Some((backwards, edge.to_vec()))
    }
}

fn foreign_cursor() -> ApiError {
    let told = "cursor is not one of this list: use next_cursor or prev_cursor as they were given, with the same filters.";
    ApiError::Malformed(told.into())
}

impl<T> Page<T> {
    /// The same page with its rows seen otherwise.
    pub fn map<U>(self, see: impl FnMut(T) -> U) -> Page<U> {
        let Self { data, next_cursor, prev_cursor } = self;
        Page { data: data.into_iter().map(see).collect(), next_cursor, prev_cursor }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Numbers in order; every third one belongs to the list.
    struct Numbers<'a>(&'a [Uuid]);

    fn belongs(id: Uuid) -> bool {
        id.as_u128().is_multiple_of(3)
    }

    impl Source for Numbers<'_> {
        type Row = Uuid;
        type Edge = Uuid;

        async fn read(&mut self, keyset: Keyset) -> sqlx::Result<Chunk<Uuid, Uuid>> {
            Ok(Chunk::of(keyset, read(self.0, keyset), |id| *id, |id| belongs(*id)))
        }
    }

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

    /// Pages from this query on, and the query of the last one.
    fn walk(
        mut query: PageQuery,
        forwards: bool,
        page: impl Fn(&PageQuery) -> Page<Uuid>,
    ) -> (Vec<Vec<Uuid>>, PageQuery) {
        let mut pages = Vec::new();
        loop {
            let page = page(&query);
            let next = if forwards { page.next_cursor } else { page.prev_cursor };
            pages.push(page.data);
            match next {
                Some(cursor) => query = PageQuery { cursor: Some(cursor), ..query },
                None => return (pages, query),
            }
        }
    }

    fn first(limit: u16) -> PageQuery {
        PageQuery { limit: Some(limit), cursor: None }
    }

    proptest! {
        #[test]
        fn walking_forth_and_back_sees_every_row_once(count in 0_u128..40, limit in 1_u16..7) {
            let mut rows: Vec<Uuid> = (1..=count).map(Uuid::from_u128).collect();
            let scope = Scope::new(&["test"]);
            let page = |query: &PageQuery| {
                let keyset = scope.keyset(query).unwrap();
                scope.page(query, keyset, read(&rows, keyset), |id| *id)
            };
            let (forth, last) = walk(first(limit), true, page);
            let (mut back, _) = walk(last, false, page);
            back.reverse();
            rows.reverse();
            prop_assert_eq!(&forth.concat(), &rows);
            if forth.len() > 1 {
                prop_assert_eq!(back.concat(), rows);
            }
        }

        #[test]
        fn walking_through_a_filter_sees_every_match_once(count in 0_u128..60, limit in 1_u16..7, most in 1_u16..20) {
            let numbers: Vec<Uuid> = (1..=count).map(Uuid::from_u128).collect();
            let scope = Scope::new(&["test"]);
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            let page = |query: &PageQuery| {
                let keyset = scope.keyset(query).unwrap();
                let scanned = runtime.block_on(keyset.scan(&mut Numbers(&numbers), most)).unwrap();
                let page = scope.page_of(query, keyset, scanned);
                assert!(page.data.len() <= usize::from(limit));
                page
            };
            let mut matching: Vec<Uuid> = numbers.iter().copied().filter(|id| belongs(*id)).collect();
            matching.reverse();
            let (forth, last) = walk(first(limit), true, page);
            prop_assert_eq!(&forth.concat(), &matching);
            if forth.len() > 1 {
                let (mut back, _) = walk(last, false, page);
                back.reverse();
                prop_assert_eq!(back.concat(), matching);
            }
        }

        #[test]
        fn walking_through_keys_sees_every_entry_once(count in 0_usize..40, limit in 1_u16..7, gone in 0_usize..40) {
            let scope = Scope::new(&["test"]);
            let entry = |n: usize| (format!("k{n:02}"), Uuid::from_u128(n as u128));
            let all: Vec<_> = (0..count).rev().map(entry).collect();
            let page = |query: &PageQuery| scope.page_of_all(query, all.clone()).unwrap();
            let (forth, last) = walk(first(limit), true, page);
            let (mut back, _) = walk(last, false, page);
            back.reverse();
            let ids: Vec<_> = (0..count).map(|n| Uuid::from_u128(n as u128)).collect();
            prop_assert_eq!(&forth.concat(), &ids);
            if forth.len() > 1 {
                prop_assert_eq!(&back.concat(), &ids);
            }

            // From the entry that goes, in both directions: all others.
            let rest: Vec<_> = all.iter().filter(|(_, id)| id.as_u128() != gone as u128).cloned().collect();
            let page = |query: &PageQuery| scope.page_of_all(query, rest.clone()).unwrap();
            let from = |backwards| {
                let cursor = Some(scope.encode_key(backwards, &entry(gone).0));
                walk(PageQuery { limit: Some(limit), cursor }, !backwards, page).0
            };
            let (after, mut before) = (from(false), from(true));
            before.reverse();
            let others: Vec<_> = ids.into_iter().filter(|id| id.as_u128() != gone as u128).collect();
            prop_assert_eq!([before.concat(), after.concat()].concat(), others);
        }

        #[test]
        fn no_text_panics(text in ".{0,60}") {
            let _ = Scope::new(&["test"]).decode::<(Uuid, Uuid)>(&text);
            let _ = Scope::new(&["test"]).decode_key(&text);
        }
    }

    #[test]
    fn a_cursor_of_another_list_is_refused() {
        let cursor = Scope::new(&["a", "bc"]).encode(false, Uuid::max());
        let query = PageQuery { limit: None, cursor: Some(cursor) };
        assert!(Scope::new(&["a", "bc"]).keyset::<Uuid>(&query).is_ok());
        assert!(Scope::new(&["a", "bc"]).keyset::<(Uuid, Uuid)>(&query).is_err());
        assert!(Scope::new(&["ab", "c"]).keyset::<Uuid>(&query).is_err());
    }

    #[test]
    fn neighbours_of_pairs_carry_over() {
        let pair = |a, b| (Uuid::from_u128(a), Uuid::from_u128(b));
        assert_eq!(pair(1, 0).below(), (Uuid::from_u128(0), Uuid::max()));
        assert_eq!((Uuid::from_u128(0), Uuid::max()).above(), pair(1, 0));
        assert_eq!((pair(1, 1).below(), pair(1, 1).above()), (pair(1, 0), pair(1, 2)));
    }
}
