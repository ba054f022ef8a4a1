//! Pages and their tokens: opaque, and only those that the same list gave the same agency.

use amanat_desk::{Filters, Page, Pages};
use amanat_schema::{
    AgencyId, CaseId, Time, Violation,
    audit::{Action, ListEntriesRequest},
    consent::ListConsentsRequest,
    policy::Purpose,
    record::ListVersionsRequest,
};
use amanat_seal::WrapKey;
use prost_types::Timestamp;

const SHELTER: AgencyId = AgencyId::new([1; 16]);
const POLICE: AgencyId = AgencyId::new([2; 16]);

/// The shelter's consents, all of them.
fn pages(key: &WrapKey) -> Pages<'_> {
    Pages::new(key, SHELTER, &ListConsentsRequest::default())
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
fn a_token_is_good_for_no_other_agency_list_filter_or_server() {
    let (key, other) = (WrapKey::generate().unwrap(), WrapKey::generate().unwrap());
    let token = pages(&key).token(Some(7)).unwrap();
    let of_case = ListConsentsRequest {
        case_id: vec![9; 16],
        ..ListConsentsRequest::default()
    };
    let for_shelter = ListConsentsRequest {
        purpose: Purpose::Shelter.into(),
        ..ListConsentsRequest::default()
    };
    let elsewhere = [
        Pages::new(&key, POLICE, &ListConsentsRequest::default()),
        Pages::new(&key, SHELTER, &ListVersionsRequest::default()),
        Pages::new(&key, SHELTER, &of_case),
        Pages::new(&key, SHELTER, &for_shelter),
        pages(&other),
    ];
    for pages in elsewhere {
        assert_eq!(pages.parse(1, &token).unwrap_err().path, "page_token");
    }
}

#[test]
fn the_next_page_may_be_of_another_size() {
    let key = WrapKey::generate().unwrap();
    let first = ListConsentsRequest {
        page_size: 2,
        ..ListConsentsRequest::default()
    };
    let token = Pages::new(&key, SHELTER, &first).token(Some(7)).unwrap();
    let next = ListConsentsRequest {
        page_size: 3,
        page_token: token.clone(),
        ..first
    };
    let page = Pages::new(&key, SHELTER, &next).parse(3, &token);
    assert_eq!(page, Ok(Page { size: 3, after: 7 }));
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

#[test]
fn what_a_filter_does_not_say_is_any_and_what_it_says_wrong_is_refused() {
    let any = ListEntriesRequest::default();
    let mut filters = Filters::default();
    assert_eq!(filters.id("case_id", &any.case_id, CaseId::parse), None);
    assert_eq!(filters.code::<Action>("action", any.action), None);
    assert_eq!(filters.time("from_time", any.from_time.as_ref()), None);
    let page = Page::new(0, 0);
    assert_eq!(
        filters.finish(page.clone(), |page| page),
        page.map_err(|one| vec![one])
    );

    let mut filters = Filters::default();
    let far = Timestamp {
        seconds: i64::MAX,
        nanos: 0,
    };
    assert_eq!(filters.id("case_id", &[1; 15], CaseId::parse), None);
    assert_eq!(filters.code::<Action>("action", 9999), None);
    assert_eq!(filters.code::<Action>("decision", -1), None);
    assert_eq!(filters.time("from_time", Some(&far)), None);
    let wrong: Vec<Violation> = filters.finish(Page::new(201, 0), |_| ()).unwrap_err();
    let paths: Vec<_> = wrong.iter().map(|one| one.path.as_str()).collect();
    assert_eq!(
        paths,
        ["case_id", "action", "decision", "from_time", "page_size"]
    );
}

#[test]
fn a_filter_takes_what_the_schema_knows() {
    let mut filters = Filters::default();
    let read = Action::ReadRecord;
    assert_eq!(filters.code("action", read.into()), Some(read));
    let moment = Time::from_millis(1_772_357_400_007).unwrap();
    let told = filters.time("to_time", Some(&moment.to_timestamp()));
    assert_eq!(told, Some(moment));
    assert!(filters.finish(Page::new(1, 0), drop).is_ok());
}
