//! Pages and their tokens: opaque, and only those that the same list gave the same agency.

use amanat_desk::{Page, Pages};
use amanat_schema::AgencyId;
use amanat_seal::WrapKey;

const SHELTER: AgencyId = AgencyId::new([1; 16]);
const POLICE: AgencyId = AgencyId::new([2; 16]);

fn pages(key: &WrapKey) -> Pages<'_> {
    Pages {
        key,
        agency: SHELTER,
        method: "ListConsents",
    }
}

#[test]
fn a_page_has_50_rows_unless_another_size_up_to_200_is_asked_for() {
    let sizes = |size| Page::new(size, 0).map(|page| page.size);
    assert_eq!((sizes(0), sizes(200)), (Ok(50), Ok(200)));
    assert_eq!(sizes(201).unwrap_err().path, "page_size");
    assert_eq!(sizes(u32::MAX).unwrap_err().path, "page_size");
}

#[test]
fn a_full_page_names_the_next_and_the_last_does_not() {
    let page = Page::new(3, 0).unwrap();
    assert_eq!(page.next(3, Some(0x2f)), Some(0x2f));
    assert_eq!(page.next(2, Some(0x2f)), None);
    assert_eq!(page.next(0, None), None);
}

#[test]
fn a_token_leads_back_to_where_the_page_ended() {
    let key = WrapKey::generate().unwrap();
    let pages = pages(&key);
    for after in [1, 0x2f, i64::MAX] {
        let token = pages.token(Some(after)).unwrap();
        assert_eq!(pages.parse(3, &token), Ok(Page { size: 3, after }));
    }
    assert_eq!(pages.token(None).unwrap(), "");
    assert_eq!(pages.parse(3, ""), Ok(Page { size: 3, after: 0 }));
}

#[test]
fn a_token_tells_nothing_of_how_much_the_exchange_has_done() {
    let key = WrapKey::generate().unwrap();
    let tokens: Vec<_> = [1, 2, 2, i64::MAX]
        .map(|after| pages(&key).token(Some(after)).unwrap())
        .into();
    assert!(tokens.iter().all(|token| token.len() == tokens[0].len()));
    assert_ne!(tokens[1], tokens[2]);
}

#[test]
fn a_token_is_good_for_no_other_agency_list_or_server() {
    let (key, other) = (WrapKey::generate().unwrap(), WrapKey::generate().unwrap());
    let token = pages(&key).token(Some(7)).unwrap();
    let elsewhere = [
        Pages {
            agency: POLICE,
            ..pages(&key)
        },
        Pages {
            method: "ListReferrals",
            ..pages(&key)
        },
        pages(&other),
    ];
    for pages in elsewhere {
        assert_eq!(pages.parse(1, &token).unwrap_err().path, "page_token");
    }
}

#[test]
fn a_token_that_no_list_gave_is_refused() {
    let key = WrapKey::generate().unwrap();
    let good = pages(&key).token(Some(7)).unwrap();
    for token in ["0", "2f", " ", "\u{661}", &good[2..], &format!("{good}00")] {
        let refused = pages(&key).parse(1, token).unwrap_err();
        assert_eq!(refused.path, "page_token", "{token}");
    }
}
