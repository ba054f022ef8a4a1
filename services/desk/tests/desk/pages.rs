//! Page tokens: opaque, and only those that a list gave.

use amanat_desk::Page;

#[test]
fn a_page_has_50_rows_unless_another_size_up_to_200_is_asked_for() {
    assert_eq!(Page::parse(0, ""), Ok(Page { size: 50, after: 0 }));
    assert_eq!(
        Page::parse(200, ""),
        Ok(Page {
            size: 200,
            after: 0
        })
    );
    assert_eq!(Page::parse(201, "").unwrap_err().path, "page_size");
    assert_eq!(Page::parse(u32::MAX, "").unwrap_err().path, "page_size");
}

#[test]
fn a_full_page_names_the_next_and_the_last_does_not() {
    let page = Page::parse(3, "").unwrap();
    let token = page.next(3, Some(0x2f));
    assert_eq!(
        Page::parse(3, &token),
        Ok(Page {
            size: 3,
            after: 0x2f
        })
    );
    assert_eq!(page.next(2, Some(0x2f)), "");
    assert_eq!(page.next(0, None), "");
    let last = page.next(3, Some(i64::MAX));
    assert_eq!(Page::parse(3, &last).unwrap().after, i64::MAX);
}

#[test]
fn a_token_that_no_list_gave_is_refused() {
    for token in [
        "0",
        "-1",
        "+1",
        "01",
        "2F",
        " 1",
        "1 ",
        "x",
        "\u{661}",
        "ffffffffffffffff",
        "1;2",
    ] {
        assert_eq!(
            Page::parse(1, token).unwrap_err().path,
            "page_token",
            "{token}"
        );
    }
}
