//! Tables as a person sees them.

use serde_json::json;

use super::*;

#[test]
fn what_is_shown_is_aligned_short_and_harmless() {
    let columns = [
        id("id", "/id"),
        number("count", "/n"),
        time("at", "/at"),
        text("who", "/a/b"),
        names("headers", "/h"),
    ];
    let rows = [
        json!({"id": "x", "n": 7, "at": "2026-11-20T10:00:00.123Z", "a": {"b": "evil\u{1b}[2J\u{202e}"}, "h": {"Authorization": "secret"}}),
        json!({"id": "yy", "n": 1200, "at": null, "a": {"b": ["p", "q"]}, "h": {}}),
    ];
    let shown = list_within(None, &columns, &rows);
    assert_eq!(
        shown,
        "ID  COUNT  AT (UTC)             WHO        HEADERS\n\
         x       7  2026-11-20 10:00:00  evil\u{fffd}[2J\u{fffd}  Authorization\n\
         yy   1200  -                    p, q       -"
    );
    let shown = record(&columns[..3], &rows[0]);
    assert_eq!(shown, "id     x\ncount  7\nat     2026-11-20 10:00:00 UTC");
    assert_eq!(list_within(Some(20), &columns[..3], &rows[..1]), shown, "too narrow for a table");
    assert_eq!(line(&columns[..2], &rows[1]), "yy  1200");
}

#[test]
fn only_text_is_wrapped_in_a_narrow_terminal() {
    let columns = [id("id", "/id"), text("error", "/error")];
    let rows = [json!({"id": "evt_0193", "error": "the endpoint refused the connection"})];
    assert_eq!(
        list_within(Some(30), &columns, &rows),
        "ID        ERROR\nevt_0193  the endpoint refused\n          the connection"
    );
    assert_eq!(list_within(Some(20), &columns, &[]), "ID  ERROR");
}
