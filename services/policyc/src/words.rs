//! A mask in words: in which circumstances a cell permits.

use std::fmt;

use amanat_policy::Context;

/// One of the five facts that a mask depends on, in the order of bits.
struct Fact {
    /// In a cell of a page.
    letter: char,
    holds: &'static str,
    holds_not: &'static str,
}

const FACTS: [Fact; 5] = [
    Fact {
        letter: 'm',
        holds: "she is a minor",
        holds_not: "she is an adult",
    },
    Fact {
        letter: 'k',
        holds: "the reader keeps her",
        holds_not: "the reader does not keep her",
    },
    Fact {
        letter: 'o',
        holds: "the investigation is the reader's own",
        holds_not: "the investigation is not the reader's own",
    },
    Fact {
        letter: 'c',
        holds: "a court order is in force",
        holds_not: "no court order is in force",
    },
    Fact {
        letter: 'b',
        holds: "break-glass is open",
        holds_not: "break-glass is not open",
    },
];

/// A mask, printed as what a person would say: `never`, `in any circumstances`, `only if a court order is
/// in force`. It says exactly what the mask says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Circumstances(pub u32);

impl Circumstances {
    /// What stands in a page's cell: `yes`, `-`, or the letters of the facts, `mk` for both and `m/k` for
    /// either, `!m` for its opposite; `None` if that would be longer than five characters.
    pub fn mark(self) -> Option<String> {
        let mark = match self.0 {
            0 => "-".to_owned(),
            u32::MAX => "yes".to_owned(),
            mask => cover(mask)
                .iter()
                .map(Term::mark)
                .collect::<Vec<_>>()
                .join("/"),
        };
        (mark.len() <= 5).then_some(mark)
    }

    /// `if a court order is in force`, without the `only`: what a change adds or takes away.
    pub fn condition(self) -> String {
        match self.0 {
            0 | u32::MAX => self.to_string(),
            mask => {
                let terms: Vec<_> = cover(mask).iter().map(ToString::to_string).collect();
                format!("if {}", terms.join(", or if "))
            }
        }
    }
}

impl fmt::Display for Circumstances {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            0 => f.write_str("never"),
            u32::MAX => f.write_str("in any circumstances"),
            _ => write!(f, "only {}", self.condition()),
        }
    }
}

/// The facts of one read, those that hold: `she is a minor, a court order is in force`.
pub(crate) fn facts(context: Context) -> String {
    let number = context.combination();
    let holding: Vec<_> = (0..)
        .zip(&FACTS)
        .filter(|(bit, _)| number & 1 << bit != 0)
        .map(|(_, fact)| fact.holds)
        .collect();
    if holding.is_empty() {
        "none of the five facts holds".to_owned()
    } else {
        holding.join(", ")
    }
}

/// Words in lines of at most 110 characters, the first beginning with `head` and the others with `indent`;
/// a longer word stands alone.
pub(crate) fn lines<'a>(
    head: &str,
    indent: &str,
    words: impl IntoIterator<Item = &'a str>,
) -> String {
    let mut text = String::new();
    let mut line = head.to_owned();
    let mut is_empty = true;
    for word in words {
        if !is_empty && line.chars().count() + 1 + word.chars().count() > 110 {
            text.push_str(&line);
            text.push('\n');
            indent.clone_into(&mut line);
            is_empty = true;
        }
        if !is_empty {
            line.push(' ');
        }
        line.push_str(word);
        is_empty = false;
    }
    format!("{text}{line}\n")
}

/// Some facts that must hold and some that must not; the others do not matter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Term {
    /// The facts that matter, as bits.
    matter: u32,
    /// Those of them that must hold.
    hold: u32,
}

impl Term {
    /// Every term there is: for each fact, it holds, it does not, it does not matter.
    fn every() -> impl Iterator<Item = Self> {
        (0..32).flat_map(|matter| {
            (0..32)
                .filter(move |hold| hold & !matter == 0)
                .map(move |hold| Self { matter, hold })
        })
    }

    /// The combinations that it is true of.
    fn mask(self) -> u32 {
        (0..32)
            .filter(|combination| combination & self.matter == self.hold)
            .fold(0, |mask, combination| mask | 1 << combination)
    }

    /// Its facts, each with whether it must hold, in the order of bits.
    fn facts(self) -> impl Iterator<Item = (&'static Fact, bool)> {
        (0..)
            .zip(&FACTS)
            .filter(move |(bit, _)| self.matter & 1 << bit != 0)
            .map(move |(bit, fact)| (fact, self.hold & 1 << bit != 0))
    }

    fn mark(&self) -> String {
        self.facts()
            .flat_map(|(fact, holds)| (!holds).then_some('!').into_iter().chain([fact.letter]))
            .collect()
    }

    /// Fewer facts first, then fewer that must not hold, then those of lower bits.
    fn simplicity(self) -> (u32, u32, Self) {
        let negations = (self.matter & !self.hold).count_ones();
        (self.matter.count_ones(), negations, self)
    }
}

impl fmt::Display for Term {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, (fact, holds)) in self.facts().enumerate() {
            f.write_str(if at == 0 { "" } else { " and " })?;
            f.write_str(if holds { fact.holds } else { fact.holds_not })?;
        }
        Ok(())
    }
}

/// Terms that are together true of exactly the combinations of `mask`: always the one that explains most of
/// what is left, the simpler one of equals.
fn cover(mask: u32) -> Vec<Term> {
    let inside: Vec<_> = Term::every()
        .map(|term| (term, term.mask()))
        .filter(|(_, true_of)| true_of & !mask == 0)
        .collect();
    let mut left = mask;
    let mut chosen = Vec::new();
    while let Some((term, true_of)) = inside
        .iter()
        .filter(|(_, true_of)| true_of & left != 0)
        .min_by_key(|(term, true_of)| (32 - (true_of & left).count_ones(), term.simplicity()))
    {
        left &= !true_of;
        chosen.push(*term);
    }
    chosen.sort_by_key(|term| term.simplicity());
    chosen
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(mask: u32) -> String {
        Circumstances(mask).to_string()
    }

    #[test]
    fn the_masks_of_the_table_read_as_a_person_would_say_them() {
        assert_eq!(said(0), "never");
        assert_eq!(said(0xffff_ffff), "in any circumstances");
        assert_eq!(said(0xaaaa_aaaa), "only if she is a minor");
        assert_eq!(said(0xcccc_cccc), "only if the reader keeps her");
        assert_eq!(
            said(0xf0f0_f0f0),
            "only if the investigation is the reader's own"
        );
        assert_eq!(said(0xff00_ff00), "only if a court order is in force");
        assert_eq!(said(0xffff_0000), "only if break-glass is open");
        assert_eq!(
            said(0x8888_8888),
            "only if she is a minor and the reader keeps her"
        );
        assert_eq!(
            said(0xffff_ff00),
            "only if a court order is in force, or if break-glass is open"
        );
        assert_eq!(said(0x5555_5555), "only if she is an adult");
    }

    #[test]
    fn the_words_say_exactly_what_the_mask_says() {
        // A step that is odd and no round number visits masks of every kind.
        for mask in (0..4_000_u32).map(|at| at.wrapping_mul(0x9e37_79b1)) {
            let said = cover(mask)
                .into_iter()
                .fold(0, |all, term| all | term.mask());
            assert_eq!(said, mask, "{mask:08x}");
        }
        for combination in 0..32 {
            assert_eq!(cover(1 << combination).len(), 1);
            assert_eq!(cover(1 << combination)[0].mask(), 1 << combination);
        }
    }

    #[test]
    fn a_mark_is_short_or_not_there() {
        let mark = |mask| Circumstances(mask).mark();
        assert_eq!(mark(0).as_deref(), Some("-"));
        assert_eq!(mark(u32::MAX).as_deref(), Some("yes"));
        assert_eq!(mark(0x8888_8888).as_deref(), Some("mk"));
        assert_eq!(mark(0xffff_ff00).as_deref(), Some("c/b"));
        assert_eq!(mark(0x5555_5555).as_deref(), Some("!m"));
        assert_eq!(mark(1), None);
    }

    #[test]
    fn long_lines_are_broken_between_words() {
        let words = "circumstances ".repeat(20);
        let text = lines("*  ", "   ", words.split_whitespace());
        assert_eq!(text.lines().count(), 3);
        assert!(text.starts_with("*  circumstances circumstances"));
        assert!(
            text.lines()
                .skip(1)
                .all(|line| line.starts_with("   circumstances"))
        );
        assert!(text.lines().all(|line| line.len() <= 110));
        assert_eq!(text.split_whitespace().count(), 1 + 20);
    }

    #[test]
    fn the_facts_of_a_read_are_those_that_hold() {
        assert_eq!(facts(Context::default()), "none of the five facts holds");
        let every = Context::every().last().unwrap();
        assert_eq!(facts(every).split(", ").count(), FACTS.len());
        let order = Context {
            court_order_in_force: true,
            ..Context::default()
        };
        assert_eq!(facts(order), "a court order is in force");
    }
}
