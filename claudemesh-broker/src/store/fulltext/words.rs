//! From texts to words: what is indexed, and what is looked for.
//!
//! * Case and width do not matter (NFKC, lower case). English words are reduced to their stem: `deploying` is `deploy`.
//! * Everything that is no letter, digit or mark ends a word: `foo-bar`, `foo_bar` and `foo.bar` are two words.
//! * Scripts that do not put spaces between words (Chinese, Japanese, Korean, Thai, Lao, Khmer, Burmese) are indexed as
//!   overlapping pairs of characters, and the last character alone. So any part of a run is found, also one character.

use rust_stemmers::{Algorithm, Stemmer};
use std::ops::Range;
use unicode_normalization::UnicodeNormalization as _;
use unicode_normalization::char::is_combining_mark;

/// Longer words are cut, in characters.
const MAX_WORD: usize = 64;

/// Characters of one kind that belong together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Piece {
    /// A word, reduced to its stem.
    Word(String),
    /// A run of a script without spaces.
    Run(Vec<char>),
}

impl Piece {
    /// The words to be indexed.
    fn terms(self) -> Vec<String> {
        match self {
            Self::Word(word) => vec![word],
            Self::Run(run) => {
                let mut terms = pairs(&run);
                terms.extend(run.last().map(char::to_string));
                terms
            }
        }
    }
}

/// Overlapping pairs of the characters.
pub(super) fn pairs(run: &[char]) -> Vec<String> {
    run.windows(2).map(|pair| pair.iter().collect()).collect()
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Spaced,
    Unspaced,
}

/// The text in a form in which spellings of the same are equal.
pub(in crate::store) fn fold(text: &str) -> String {
    if text.is_ascii() {
        text.to_ascii_lowercase()
    } else {
        text.nfkc().collect::<String>().to_lowercase()
    }
}

/// Every word of a text, in its order.
pub(super) fn to_index(text: &str) -> Vec<String> {
    pieces(text).flat_map(|(_, piece)| piece.terms()).collect()
}

/// The pieces of a text, with their place in it.
pub(super) fn pieces(text: &str) -> impl Iterator<Item = (Range<usize>, Piece)> {
    spans(text).flat_map(|(place, _)| {
        let raw = &text[place.clone()];
        let folded = fold(raw);
        // Folding may make several pieces of one: a ligature, a sign that stands for a word.
        let pieces: Vec<_> = spans(&folded)
            .map(|(within, kind)| (place.clone(), piece(&folded[within], kind)))
            .collect();
        pieces
    })
}

fn piece(folded: &str, kind: Kind) -> Piece {
    match kind {
        Kind::Unspaced => Piece::Run(folded.chars().collect()),
        Kind::Spaced => Piece::Word(stem(folded)),
    }
}

/// A folded word without its ending, if it is English.
pub(super) fn stem(word: &str) -> String {
    let end = word.char_indices().nth(MAX_WORD).map_or(word.len(), |(end, _)| end);
    let word = &word[..end];
    if word.len() > 2 && word.bytes().all(|byte| byte.is_ascii_lowercase()) {
        return Stemmer::create(Algorithm::English).stem(word).into_owned();
    }
    word.to_owned()
}

/// Places of characters of one kind that stand side by side.
fn spans(text: &str) -> impl Iterator<Item = (Range<usize>, Kind)> {
    let mut characters = text.char_indices().peekable();
    std::iter::from_fn(move || {
        let (start, kind) = loop {
            let (at, c) = characters.next()?;
            if let Some(kind) = kind_of(c) {
                break (at, kind);
            }
        };
        let mut end = text.len();
        while let Some((at, c)) = characters.peek().copied() {
            // A mark belongs to what it stands on.
            if !is_combining_mark(c) && kind_of(c) != Some(kind) {
                end = at;
                break;
            }
            characters.next();
        }
        Some((start..end, kind))
    })
}

fn kind_of(c: char) -> Option<Kind> {
    if c.is_ascii() {
        return c.is_ascii_alphanumeric().then_some(Kind::Spaced);
    }
    if is_unspaced(c) {
        return Some(Kind::Unspaced);
    }
    (c.is_alphanumeric() || is_combining_mark(c)).then_some(Kind::Spaced)
}

fn is_unspaced(c: char) -> bool {
    let in_range = matches!(u32::from(c),
        0x0e00..=0x0eff         // Thai, Lao
        | 0x1000..=0x109f       // Burmese
        | 0x1100..=0x11ff       // Hangul letters
        | 0x1780..=0x17ff       // Khmer
        | 0x2e80..=0x2fdf       // radicals
        | 0x3005..=0x3007
        | 0x3040..=0x30ff       // Hiragana, Katakana
        | 0x3105..=0x312f       // Bopomofo
        | 0x3130..=0x318f
        | 0x31f0..=0x31ff
        | 0x3400..=0x4dbf       // Han
        | 0x4e00..=0x9fff
        | 0xa960..=0xa97f
        | 0xac00..=0xd7ff       // Hangul
        | 0xf900..=0xfaff
        | 0xff66..=0xffdc       // narrow forms
        | 0x1b000..=0x1b16f
        | 0x20000..=0x3ffff);
    in_range && (c.is_alphanumeric() || is_combining_mark(c))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_letters_and_digits() {
        assert_eq!(
            to_index("Deploying the Foo-bar_baz.rs v2, isn't it?"),
            ["deploy", "the", "foo", "bar", "baz", "rs", "v2", "isn", "t", "it"]
        );
        assert!(to_index("--- !!! \"'`\\ (){}[]^*:").is_empty());
        assert_eq!(to_index("STRASSE ＡＢＣ ﬁle Ａ1"), ["strass", "abc", "file", "a1"]);
        assert_eq!(to_index("café cafe\u{301}"), ["café", "café"]);
    }

    #[test]
    fn scripts_without_spaces_are_pairs() {
        assert_eq!(to_index("東京都"), ["東京", "京都", "都"]);
        assert_eq!(to_index("猫"), ["猫"]);
        assert_eq!(to_index("使用Rust語"), ["使用", "用", "rust", "語"]);
        assert_eq!(to_index("한국어"), ["한국", "국어", "어"]);
    }

    #[test]
    fn long_words_are_cut() {
        assert_eq!(to_index(&"9".repeat(1000)), ["9".repeat(MAX_WORD)]);
        assert_eq!(to_index(&"é".repeat(1000))[0].chars().count(), MAX_WORD);
    }
}
