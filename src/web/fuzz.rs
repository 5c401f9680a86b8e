//! Fuzz: a cursor leads back where it was made and nowhere else; a body is read, or refused with a 4xx that says why.

use axum::response::IntoResponse;
use proptest::prelude::*;
use uuid::Uuid;

use super::{
    ApiError,
    page::{Edge, PageQuery, Scope},
};
use crate::types::hostile::{cases, text};

const LIST: &[&str] = &["endpoints", "ten_1", "status=failed"];
const OTHER_LIST: &[&str] = &["endpoints", "ten_2", "status=failed"];
/// Of [`LIST`], of another list, and of none.
const CURSORS: &[&str] =
    &["AAAAAAAAAAAAAZOhssPUfl-KawEjRWeJqw", "", "AQ", "__________________________________________8"];
const PIECES: &[&str] = &["A", "_", "-", "=", "+", "/", " ", "é", "\0", "AAAA"];

fn at(cursor: Option<String>) -> PageQuery {
    PageQuery { limit: Some(1), cursor }
}

/// The cursors of a page of one row with neighbours on both sides.
fn cursors<E: Edge>(scope: &Scope, edge: E) -> [String; 2] {
    let first = scope.keyset::<E>(&at(None)).expect("the first page");
    let next = scope
        .page(&at(None), first, vec![edge, edge.below()], |edge| *edge)
        .next_cursor
        .expect("there is more");
    let query = at(Some(next.clone()));
    let second = scope.keyset::<E>(&query).expect("its own cursor");
    let prev =
        scope.page(&query, second, vec![edge], |edge| *edge).prev_cursor.expect("there was one before");
    [next, prev]
}

fn leads_back<E: Edge + std::fmt::Debug>(edge: E) -> Result<(), TestCaseError> {
    let (scope, other) = (Scope::new(LIST), Scope::new(OTHER_LIST));
    for (cursor, backwards) in cursors(&scope, edge).into_iter().zip([false, true]) {
        let query = at(Some(cursor));
        let keyset =
            scope.keyset::<E>(&query).map_err(|_| TestCaseError::fail("its own cursor is refused"))?;
        prop_assert_eq!((keyset.edge, keyset.backwards), (edge, backwards));
        prop_assert!(other.keyset::<E>(&query).is_err(), "another tenant's cursor");
    }
    Ok(())
}

proptest! {
    #![proptest_config(cases())]

    #[test]
    fn a_cursor_leads_back_to_its_row_in_its_list_alone(a: u128, b: u128) {
        leads_back(Uuid::from_u128(a))?;
        leads_back((Uuid::from_u128(a), Uuid::from_u128(b)))?;
    }

    #[test]
    fn a_changed_cursor_is_a_400_or_another_row_of_the_list(
        row: u128, place: prop::sample::Index, digit in "[A-Za-z0-9_-]", garbage in text(CURSORS, PIECES),
    ) {
        let scope = Scope::new(LIST);
        let [own, _] = cursors(&scope, Uuid::from_u128(row));
        let mut changed = own.clone();
        let place = place.index(own.len());
        changed.replace_range(place..=place, &digit);
        for text in [changed, garbage] {
            match scope.keyset::<Uuid>(&at(Some(text.clone()))) {
                Ok(keyset) => {
                    let [next, prev] = cursors(&scope, keyset.edge);
                    prop_assert_eq!(text, if keyset.backwards { prev } else { next }, "one row has one cursor");
                }
                Err(error) => {
                    prop_assert!(matches!(error, ApiError::Malformed(_)));
                    prop_assert_eq!(error.into_response().status().as_u16(), 400);
                }
            }
        }
    }
}
