//! Names that the catalogue does not have: how they are shown, and which one was probably meant.

use crate::Violation;

/// The violation that an unknown name under a path is. A value that slipped into the place of a name is not
/// repeated: what cannot be a name stands as `?`.
pub(super) fn unknown(
    path: &str,
    name: &str,
    known: impl Iterator<Item = &'static str>,
) -> Violation {
    let shown = if is_name(name) { name } else { "?" };
    let near = known
        .filter(|_| is_name(name))
        .map(|candidate| (distance(name, candidate), candidate))
        // At most a third of a name may be wrong, or a short name would be near to everything.
        .filter(|(distance, candidate)| distance * 3 <= candidate.len())
        .min();
    Violation {
        path: if path.is_empty() {
            shown.to_owned()
        } else {
            format!("{path}.{shown}")
        },
        expected: match near {
            Some((_, candidate)) => format!("a name of the schema; did you mean {candidate}?"),
            None => "a name of the schema".to_owned(),
        },
    }
}

/// Has the form that every name of the catalogue has.
fn is_name(name: &str) -> bool {
    (1..=40).contains(&name.len()) && name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_')
}

/// How many letters to add, drop or change to make one of the other (Levenshtein).
fn distance(from: &str, to: &str) -> usize {
    let mut above: Vec<usize> = (0..=to.len()).collect();
    for (row, a) in (1..).zip(from.bytes()) {
        let mut left = row;
        let mut diagonal = row - 1;
        let mut current = vec![left];
        for (b, &up) in to.bytes().zip(above.iter().skip(1)) {
            left = (diagonal + usize::from(a != b)).min(up + 1).min(left + 1);
            diagonal = up;
            current.push(left);
        }
        above = current;
    }
    above.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_distance_counts_letters_added_dropped_or_changed() {
        for (from, to, letters) in [
            ("cnic", "cnic", 0),
            ("cnci", "cnic", 2),
            ("birthdate", "birth_date", 1),
            ("", "cnic", 4),
            ("kitten", "sitting", 3),
        ] {
            assert_eq!(distance(from, to), letters, "{from} {to}");
            assert_eq!(distance(to, from), letters, "{to} {from}");
        }
    }

    #[test]
    fn only_a_near_name_is_proposed() {
        let expected = |name| unknown("subject", name, ["cnic", "birth_date"].into_iter()).expected;
        assert_eq!(
            expected("birthdate"),
            "a name of the schema; did you mean birth_date?"
        );
        assert_eq!(expected("cnc"), "a name of the schema; did you mean cnic?");
        assert_eq!(expected("hobby"), "a name of the schema");
    }

    #[test]
    fn a_value_in_the_place_of_a_name_is_not_repeated() {
        let path = |name| unknown("subject", name, std::iter::empty()).path;
        assert_eq!(path("hobby"), "subject.hobby");
        for value in [
            "Amina Bibi",
            "0000012345678",
            "آمنہ",
            "",
            "a\u{1b}[31m",
            &"a".repeat(41),
        ] {
            assert_eq!(path(value), "subject.?", "{value:?}");
        }
    }
}
