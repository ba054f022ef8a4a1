//! What a text must look like, by the format of its field.

use std::borrow::Cow;

use time::{Date, Month};

use crate::{
    AgencyId,
    catalogue::{Field, FieldFormat, SizeClass},
    identifier::{self, Identifier},
    subject::SubjectIdentifierType,
};

/// What a text that is not blank must be, and the phrase for one that is not.
pub(super) struct Rule {
    form: Form,
    pub(super) expected: &'static str,
}

enum Form {
    Holds(fn(&str) -> bool),
    /// Written in any spelling, kept in the canonical one.
    Identifier(SubjectIdentifierType),
}

impl Rule {
    /// The text as it is kept, or `None` if it is not what it must be.
    pub(super) fn kept<'a>(&self, text: &'a str) -> Option<Cow<'a, str>> {
        match self.form {
            Form::Holds(holds) => holds(text).then_some(Cow::Borrowed(text)),
            Form::Identifier(kind) => Identifier::parse(kind, text)
                .ok()
                .map(|identifier| Cow::Owned(identifier.canonical().to_owned())),
        }
    }

    fn identifier(kind: SubjectIdentifierType) -> Self {
        Self {
            form: Form::Identifier(kind),
            expected: identifier::expected(kind),
        }
    }
}

/// Of the member of a group that another member makes an identifier of this type; its code is `kind`.
pub(super) fn identifier_rule(field: &Field, member: &str, kind: Option<&str>) -> Option<Rule> {
    let kind = match (field.path, member) {
        ("subject.identity_document", "number") => identifier::document_type(kind?),
        ("suspects.identifiers", "value") => match kind? {
            "CNIC" => Some(SubjectIdentifierType::Cnic),
            "PASSPORT" => Some(SubjectIdentifierType::Passport),
            "PHONE" => Some(SubjectIdentifierType::Phone),
            _ => None,
        },
        _ => None,
    };
    kind.map(Rule::identifier)
}

pub(super) fn rule(field: &Field) -> Rule {
    let (holds, expected): (fn(&str) -> bool, _) = match field.format {
        FieldFormat::Unspecified if field.size == SizeClass::Narrative => (
            is_narrative,
            "text without control characters, except line breaks and tabs",
        ),
        FieldFormat::Unspecified => (is_line, "text on one line, without control characters"),
        FieldFormat::Date => (
            |text| date(text).is_some(),
            "a date, YYYY-MM-DD, from 1900 on",
        ),
        FieldFormat::Month => (
            |text| month(text).is_some(),
            "a month, YYYY-MM, from 1900 on",
        ),
        FieldFormat::Country => (
            is_country,
            "a country code of ISO 3166-1 alpha-2, such as PK",
        ),
        FieldFormat::Language => (is_language, "a language code of ISO 639, such as ur or skr"),
        FieldFormat::Phone => return Rule::identifier(SubjectIdentifierType::Phone),
        FieldFormat::Cnic => return Rule::identifier(SubjectIdentifierType::Cnic),
        FieldFormat::Sha256 => (
            is_sha256,
            "a SHA-256 digest, 64 lower-case hexadecimal digits",
        ),
        FieldFormat::Isic => (is_isic, "one ISIC section letter, A to U"),
        FieldFormat::Coordinates => (
            is_coordinates,
            "decimal degrees, latitude,longitude, such as 31.5204,74.3587",
        ),
        FieldFormat::Agency => (
            |text| text.parse::<AgencyId>().is_ok(),
            "an agency id, 32 lower-case hexadecimal digits",
        ),
    };
    Rule {
        form: Form::Holds(holds),
        expected,
    }
}

/// A day of the Gregorian calendar.
pub(super) fn date(text: &str) -> Option<Date> {
    let (year_and_month, day) = text.rsplit_once('-')?;
    let (year, month) = month(year_and_month)?;
    Date::from_calendar_date(year, month, number(day, 2)?.try_into().ok()?).ok()
}

fn month(text: &str) -> Option<(i32, Month)> {
    let (year, month) = text.split_once('-')?;
    let year = number(year, 4).filter(|year| *year >= 1900)?;
    let month = u8::try_from(number(month, 2)?).ok()?;
    Some((year.into(), month.try_into().ok()?))
}

fn number(text: &str, digits: usize) -> Option<u16> {
    text.parse().ok().filter(|_| is_digits(text, digits))
}

fn is_digits(text: &str, count: usize) -> bool {
    text.len() == count && text.bytes().all(|b| b.is_ascii_digit())
}

fn is_line(text: &str) -> bool {
    !text.chars().any(char::is_control)
}

fn is_narrative(text: &str) -> bool {
    !text
        .chars()
        .any(|c| c.is_control() && c != '\n' && c != '\t')
}

fn is_country(text: &str) -> bool {
    text.len() == 2 && COUNTRIES.split_ascii_whitespace().any(|code| code == text)
}

fn is_language(text: &str) -> bool {
    matches!(text.len(), 2 | 3) && text.bytes().all(|b| b.is_ascii_lowercase())
}

fn is_sha256(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

fn is_isic(text: &str) -> bool {
    matches!(text.as_bytes(), [b'A'..=b'U'])
}

fn is_coordinates(text: &str) -> bool {
    text.split_once(',').is_some_and(|(latitude, longitude)| {
        is_degrees(latitude, 90.0) && is_degrees(longitude, 180.0)
    })
}

fn is_degrees(text: &str, most: f64) -> bool {
    let unsigned = text.strip_prefix('-').unwrap_or(text);
    let (whole, fraction) = unsigned.split_once('.').unwrap_or((unsigned, "0"));
    // Nine decimal places are a tenth of a millimetre; more is no measurement.
    (1..=3).any(|count| is_digits(whole, count))
        && (1..=9).any(|count| is_digits(fraction, count))
        && unsigned.parse::<f64>().is_ok_and(|degrees| degrees <= most)
}

/// The assigned codes of ISO 3166-1 alpha-2, in order.
const COUNTRIES: &str = "\
    AD AE AF AG AI AL AM AO AQ AR AS AT AU AW AX AZ \
    BA BB BD BE BF BG BH BI BJ BL BM BN BO BQ BR BS BT BV BW BY BZ \
    CA CC CD CF CG CH CI CK CL CM CN CO CR CU CV CW CX CY CZ \
    DE DJ DK DM DO DZ EC EE EG EH ER ES ET FI FJ FK FM FO FR \
    GA GB GD GE GF GG GH GI GL GM GN GP GQ GR GS GT GU GW GY \
    HK HM HN HR HT HU ID IE IL IM IN IO IQ IR IS IT JE JM JO JP \
    KE KG KH KI KM KN KP KR KW KY KZ LA LB LC LI LK LR LS LT LU LV LY \
    MA MC MD ME MF MG MH MK ML MM MN MO MP MQ MR MS MT MU MV MW MX MY MZ \
    NA NC NE NF NG NI NL NO NP NR NU NZ OM PA PE PF PG PH PK PL PM PN PR PS PT PW PY \
    QA RE RO RS RU RW SA SB SC SD SE SG SH SI SJ SK SL SM SN SO SR SS ST SV SX SY SZ \
    TC TD TF TG TH TJ TK TL TM TN TO TR TT TV TW TZ UA UG UM US UY UZ \
    VA VC VE VG VI VN VU WF WS YE YT ZA ZM ZW";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalogue::by_path;

    fn check(path: &str, good: &[&str], bad: &[&str]) {
        let rule = rule(by_path(path).unwrap());
        for text in good {
            assert_eq!(rule.kept(text).as_deref(), Some(*text), "{path} takes it");
        }
        for text in bad {
            assert_eq!(rule.kept(text), None, "{path} refuses {text:?}");
        }
    }

    #[test]
    fn a_date_is_a_day_of_the_calendar() {
        check(
            "subject.birth_date",
            &["1900-01-01", "2000-02-29", "2024-02-29", "2026-12-31"],
            &[
                "1899-12-31",
                "1900-02-29",
                "2023-02-29",
                "2024-02-30",
                "2024-13-01",
                "2024-00-10",
                "2024-04-31",
                "2024-4-01",
                "24-04-01",
                "2024-04-1",
                "2024-04-+1",
                "+024-04-01",
                "2024/04/01",
                "2024-04",
                "2024-04-01T00:00",
                "٢٠٢٤-٠٤-٠١",
                " 2024-04-01",
            ],
        );
    }

    #[test]
    fn a_month_is_one_of_twelve() {
        check(
            "journey.month",
            &["1900-01", "2026-12"],
            &[
                "1899-12",
                "2026-00",
                "2026-13",
                "2026-1",
                "2026",
                "2026-01-01",
                "2026-+1",
            ],
        );
    }

    #[test]
    fn a_country_is_an_assigned_code() {
        check(
            "subject.citizenship",
            &["PK", "AF", "GB"],
            &["UK", "pk", "PAK", "K A", "P", "ZZ"],
        );
        let codes: Vec<_> = COUNTRIES.split_ascii_whitespace().collect();
        assert_eq!(codes.len(), 249);
        assert!(codes.is_sorted_by(|a, b| a < b));
    }

    #[test]
    fn a_language_is_two_or_three_small_letters() {
        check(
            "subject.primary_language",
            &["ur", "skr"],
            &["UR", "u", "urdu", "u1", "اردو"],
        );
    }

    #[test]
    fn a_phone_number_is_in_international_form() {
        check(
            "subject.mobile_phone",
            &[
                "+923000000001",
                "+97112345678",
                "+12345678",
                "+123456789012345",
                "+924235000000",
            ],
            &[
                "0300000001",
                "+92300000001",
                "+9230000000012",
                "+1234567",
                "+1234567890123456",
                "+0123456789",
                "3000000001",
                "+",
                "++12345678",
            ],
        );
    }

    #[test]
    fn a_cnic_is_thirteen_digits() {
        check(
            "subject.cnic",
            &["0000012345678"],
            &["000001234567", "00000123456789", "000001234567x"],
        );
    }

    #[test]
    fn an_identifier_in_any_spelling_is_kept_in_the_canonical_one() {
        for (path, text, kept) in [
            ("subject.cnic", "00000-1234567-8", "0000012345678"),
            ("subject.cnic", "۰۰۰۰۰-۱۲۳۴۵۶۷-۸", "0000012345678"),
            ("subject.mobile_phone", "0300 0000001", "+923000000001"),
        ] {
            let rule = rule(by_path(path).unwrap());
            assert_eq!(rule.kept(text).as_deref(), Some(kept), "{text}");
        }
    }

    #[test]
    fn a_digest_is_in_small_hexadecimal_digits() {
        let digest = "0123456789abcdef".repeat(4);
        check(
            "subject.photo_digest",
            &[&digest],
            &[
                &digest.to_uppercase(),
                "0123456789abcdef",
                &format!("{digest}0"),
                &digest.replace('0', "g"),
            ],
        );
    }

    #[test]
    fn an_industry_is_one_isic_letter() {
        check(
            "trafficking.labour_industry",
            &["A", "T", "U"],
            &["V", "a", "AA", "1", "@"],
        );
    }

    #[test]
    fn coordinates_are_two_decimal_degrees_on_the_globe() {
        check(
            "journey.coordinates",
            &[
                "31.5204,74.3587",
                "-90,180",
                "90.0,-180.000",
                "0,0",
                "7.5,007.25",
            ],
            &[
                "31.5204",
                "31.5204, 74.3587",
                "90.0001,0",
                "0,180.5",
                "31.,74",
                ".5,74",
                "3e1,74",
                "+31,74",
                "--31,74",
                "31,74,0",
                "inf,0",
                "NaN,0",
                "31.1234567890,74",
                "31;74",
            ],
        );
    }

    #[test]
    fn an_agency_is_an_id() {
        check(
            "case.owner_agency",
            &["00102030405060708090a0b0c0d0e0f0"],
            &[
                "00102030405060708090A0B0C0D0E0F0",
                "0010",
                "Darul Aman Lahore",
            ],
        );
    }

    #[test]
    fn only_a_narrative_has_lines_and_tabs() {
        check(
            "subject.given_name",
            &["آمنہ", "Zain\u{200c}ab"],
            &[
                "A\nB",
                "A\tB",
                "A\0B",
                "A\u{1b}[31m",
                "A\u{7f}",
                "A\u{9b}31m",
            ],
        );
        check(
            "needs.narrative",
            &["one\n\ttwo"],
            &["one\r\ntwo", "A\0B", "A\u{1b}[31m"],
        );
    }
}
