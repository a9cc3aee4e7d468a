//! What somebody looks for, and how it is written for each engine.

use super::words::{Piece, pairs, pieces, stem};
use std::collections::HashSet;
use std::sync::LazyLock;

/// Most words of a query that are looked at.
const MAX_TERMS: usize = 48;
/// Shorter words do not stand for the beginning of longer ones, in characters.
const MIN_PREFIX: usize = 3;
/// Words that are left out of a query that has others: nearly every text has them.
static COMMON: LazyLock<HashSet<String>> = LazyLock::new(|| {
    "a about an and are as at be but by can did do does for from how i in is it me my not of on or our that the there \
     this to us was we what when where which who why with you"
        .split(' ')
        .map(stem)
        .collect()
});

/// How strictly a query is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reading {
    /// Every word.
    All,
    /// Every word, or the beginning of one.
    AllPrefixes,
    /// Any of the words, or the beginning of one.
    Any,
    /// The very characters: for queries without words.
    Literal,
}

/// Words that stand side by side.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Phrase {
    terms: Vec<String>,
    /// Whether the last one may be the beginning of a longer word in any reading.
    open: bool,
}

/// What somebody looks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Query {
    text: String,
    phrases: Vec<Phrase>,
}

impl Query {
    /// Reads a query. Words that are written together (`foo-bar`, `src/main.rs`) or quoted must stand side by side; nothing
    /// in it is an operator, and nothing is an error.
    #[must_use]
    pub fn new(text: &str) -> Self {
        let mut phrases = Vec::new();
        // Quotation marks come in pairs; a last one without its mate ends at the end.
        for (index, part) in text.split(['"', '“', '”', '„', '«', '»']).enumerate() {
            if index % 2 == 1 {
                phrases.extend(Phrase::of(part));
            } else {
                part.split_whitespace()
                    .for_each(|word| phrases.extend(Phrase::of(word)));
            }
        }
        let telling: Vec<_> = phrases.iter().filter(|phrase| !phrase.is_common()).cloned().collect();
        if !telling.is_empty() {
            phrases = telling;
        }
        let mut terms = 0;
        phrases.retain(|phrase| {
            terms += phrase.terms.len();
            terms <= MAX_TERMS
        });
        phrases.dedup();
        Self {
            text: text.trim().to_owned(),
            phrases,
        }
    }

    /// The query as it was given.
    pub(super) fn text(&self) -> &str {
        &self.text
    }

    /// The readings to try, the strictest first.
    pub(super) fn readings(&self) -> &'static [Reading] {
        match self.phrases.as_slice() {
            [] => &[Reading::Literal],
            [phrase] if phrase.terms.len() == 1 => &[Reading::All, Reading::AllPrefixes],
            _ => &[Reading::All, Reading::AllPrefixes, Reading::Any],
        }
    }

    /// The query for FTS5. Every word is quoted and has letters and digits only.
    pub(super) fn fts5(&self, reading: Reading) -> String {
        let phrase = |phrase: &Phrase| {
            let star = if phrase.is_prefix(reading) { "*" } else { "" };
            format!("\"{}\"{star}", phrase.terms.join(" "))
        };
        self.written(reading, phrase, " AND ", " OR ")
    }

    /// The query for Postgres.
    pub(super) fn tsquery(&self, reading: Reading) -> String {
        let phrase = |phrase: &Phrase| {
            let star = if phrase.is_prefix(reading) { ":*" } else { "" };
            format!("('{}'{star})", phrase.terms.join("' <-> '"))
        };
        self.written(reading, phrase, " & ", " | ")
    }

    fn written(&self, reading: Reading, write: impl Fn(&Phrase) -> String, and: &str, or: &str) -> String {
        if reading != Reading::Any {
            return self.phrases.iter().map(write).collect::<Vec<_>>().join(and);
        }
        let single = self.phrases.iter().flat_map(|phrase| {
            phrase.terms.iter().map(|term| Phrase {
                terms: vec![term.clone()],
                open: phrase.open,
            })
        });
        let mut written: Vec<_> = single.map(|phrase| write(&phrase)).collect();
        written.sort_unstable();
        written.dedup();
        written.join(or)
    }

    /// Whether a word of a text is one that is looked for.
    pub(super) fn has_word(&self, word: &str) -> bool {
        self.terms()
            .any(|term| word == term || (is_long(term) && word.starts_with(term)))
    }

    /// The words that are looked for.
    pub(super) fn terms(&self) -> impl Iterator<Item = &str> {
        self.phrases
            .iter()
            .flat_map(|phrase| phrase.terms.iter().map(String::as_str))
    }
}

impl Phrase {
    /// The phrases of what is written together: words side by side, and runs of scripts without spaces.
    fn of(text: &str) -> Vec<Self> {
        let mut phrases = Vec::new();
        let mut words = Vec::new();
        let end_of_words = |words: &mut Vec<String>, phrases: &mut Vec<Self>| {
            if !words.is_empty() {
                phrases.push(Self {
                    terms: std::mem::take(words),
                    open: false,
                });
            }
        };
        for (_, piece) in pieces(text) {
            match piece {
                Piece::Word(word) => words.push(word),
                Piece::Run(run) => {
                    end_of_words(&mut words, &mut phrases);
                    phrases.push(match run.as_slice() {
                        // In the index it is alone only at the end of a run, else the beginning of a pair.
                        [one] => Self {
                            terms: vec![one.to_string()],
                            open: true,
                        },
                        run => Self {
                            terms: pairs(run),
                            open: false,
                        },
                    });
                }
            }
        }
        end_of_words(&mut words, &mut phrases);
        phrases
    }

    fn is_prefix(&self, reading: Reading) -> bool {
        self.open || (reading != Reading::All && self.terms.last().is_some_and(|term| is_long(term)))
    }

    fn is_common(&self) -> bool {
        matches!(self.terms.as_slice(), [term] if COMMON.contains(term))
    }
}

fn is_long(term: &str) -> bool {
    term.chars().count() >= MIN_PREFIX
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_for_fts5() {
        let write = |text: &str, reading| Query::new(text).fts5(reading);
        assert_eq!(
            write("how do we deploy foo-bar?", Reading::All),
            "\"deploy\" AND \"foo bar\""
        );
        assert_eq!(
            write("deploy foo-bar", Reading::AllPrefixes),
            "\"deploy\"* AND \"foo bar\"*"
        );
        assert_eq!(
            write("deploy foo-bar", Reading::Any),
            "\"bar\"* OR \"deploy\"* OR \"foo\"*"
        );
        assert_eq!(write("the", Reading::All), "\"the\"", "it has no other");
        assert_eq!(
            write("\"quick fox\" NEAR(x)", Reading::All),
            "\"quick fox\" AND \"near x\""
        );
        assert_eq!(write("東京都 猫", Reading::All), "\"東京 京都\" AND \"猫\"*");
    }

    #[test]
    fn queries_for_postgres() {
        let write = |text: &str, reading| Query::new(text).tsquery(reading);
        assert_eq!(
            write("deploy foo-bar", Reading::AllPrefixes),
            "('deploy':*) & ('foo' <-> 'bar':*)"
        );
        assert_eq!(write("a'b\\c", Reading::Any), "('a') | ('b') | ('c')");
    }

    #[test]
    fn queries_without_words_are_taken_literally() {
        for text in ["*", "\"\"", "::", "👍", "\\'\"", "--"] {
            assert_eq!(Query::new(text).readings(), [Reading::Literal], "{text}");
        }
    }

    #[test]
    fn long_queries_are_cut() {
        let words: Vec<_> = (0..500).map(|number| format!("w{number}")).collect();
        assert_eq!(Query::new(&words.join(" ")).terms().count(), MAX_TERMS);
        assert_eq!(
            Query::new(&"猫".repeat(500)).terms().count(),
            0,
            "one phrase that is too long"
        );
    }
}
