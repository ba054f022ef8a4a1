//! What one writes so and another so: characters that mean the same, and such as mean nothing.

use unicode_normalization::UnicodeNormalization as _;
use zeroize::Zeroizing;

/// A number without anything that only separates its groups.
pub(super) fn bare(text: &str) -> Zeroizing<String> {
    // Invisible characters go first: one between two others keeps them from composing.
    let visible = text.chars().filter(|c| !is_invisible(*c));
    let digits = visible.nfkc().map(digit);
    Zeroizing::new(digits.filter(|c| !is_separator(*c)).collect())
}

/// A name in lower case, without accents and vowel signs, its words one space apart.
pub(super) fn name(text: &str) -> Zeroizing<String> {
    let letters = text
        .chars()
        .filter(|c| !is_invisible(*c))
        .nfkd()
        .filter(|c| !is_vowel_sign(*c))
        .map(digit)
        .map(letter)
        .flat_map(char::to_lowercase)
        .nfc()
        .map(|c| if is_separator(c) { ' ' } else { c });
    let spaced: Zeroizing<String> = Zeroizing::new(letters.collect());
    let mut name = Zeroizing::new(String::with_capacity(spaced.len()));
    for word in spaced.split(' ').filter(|word| !word.is_empty()) {
        if !name.is_empty() {
            name.push(' ');
        }
        name.push_str(word);
    }
    name
}

/// Joiners, marks of direction and of the order of bytes, soft hyphens, control characters.
fn is_invisible(c: char) -> bool {
    c.is_control() && !c.is_whitespace()
        || matches!(
            c,
            '\u{ad}'
                | '\u{34f}'
                | '\u{61c}'
                | '\u{180e}'
                | '\u{200b}'..='\u{200f}'
                | '\u{202a}'..='\u{202e}'
                | '\u{2060}'..='\u{206f}'
                | '\u{fe00}'..='\u{fe0f}'
                | '\u{feff}'
                | '\u{e0000}'..='\u{e0fff}'
        )
}

fn is_separator(c: char) -> bool {
    c.is_whitespace()
        || matches!(
            c,
            // Dashes, the Kashida that stretches an Arabic word among them, and the minus.
            '-' | '\u{58a}' | '\u{5be}' | '\u{640}' | '\u{2010}'
                ..='\u{2015}' | '\u{2212}'
                | '\u{301c}' | '_'
                // Dots and commas, the Urdu ones too.
                | '.' | '·' | '•' | '۔' | ',' | '،' | '٫' | '٬'
                | '/' | '\\' | '\u{2044}' | '\u{2215}'
                | '(' | ')' | '[' | ']' | '{' | '}' | '<' | '>'
                | '\'' | '\u{2018}' | '\u{2019}' | '\u{2bc}' | '`'
        )
}

fn digit(c: char) -> char {
    let zero = match c {
        '\u{660}'..='\u{669}' => '\u{660}',
        '\u{6f0}'..='\u{6f9}' => '\u{6f0}',
        _ => return c,
    };
    char::from_digit(u32::from(c) - u32::from(zero), 10).unwrap_or(c)
}

/// The Urdu letter for the Arabic one that another keyboard gives.
fn letter(c: char) -> char {
    match c {
        'ي' | 'ى' => 'ی',
        'ك' => 'ک',
        'ه' => 'ہ',
        _ => c,
    }
}

/// Arabic vowel signs and marks of recitation, the Kashida, and the accents of Latin letters. Not madda
/// and hamza: they make another letter.
fn is_vowel_sign(c: char) -> bool {
    matches!(
        c,
        '\u{300}'..='\u{36f}'
            | '\u{610}'..='\u{61a}'
            | '\u{640}'
            | '\u{64b}'..='\u{652}'
            | '\u{656}'..='\u{65f}'
            | '\u{670}'
            | '\u{6d6}'..='\u{6dc}'
            | '\u{6df}'..='\u{6e4}'
            | '\u{6e7}'
            | '\u{6e8}'
            | '\u{6ea}'..='\u{6ed}'
    )
}
