//! The part of a text that fits a query best.

use super::Query;
use super::words::{Piece, pieces};
use std::collections::HashSet;
use std::ops::Range;

/// Longest part that is shown, in characters, without marks.
const LENGTH: usize = 200;
/// How far a cut may move to fall between words, in bytes.
const SLACK: usize = 16;
/// Most places that are looked at: a text may be the word and nothing else.
const MAX_HITS: usize = 256;
/// What stands before and after a word that was found.
const MARK: &str = "**";

impl Query {
    /// The part of `text` with most of the words, marked with `**`, on one line; the beginning if it has none.
    #[must_use]
    pub fn snippet(&self, text: &str) -> String {
        let hits = self.hits(text);
        let words = self.terms().collect::<HashSet<_>>().len();
        let part = best_part(text, &hits, words);
        let mut snippet = String::with_capacity(LENGTH + 32);
        if part.start > 0 {
            snippet.push('…');
        }
        let mut at = part.start;
        for (place, _) in hits
            .iter()
            .filter(|(place, _)| place.start >= part.start && place.end <= part.end)
        {
            snippet.push_str(&text[at..place.start]);
            snippet.push_str(MARK);
            snippet.push_str(&text[place.clone()]);
            snippet.push_str(MARK);
            at = place.end;
        }
        snippet.push_str(&text[at..part.end]);
        if part.end < text.len() {
            snippet.push('…');
        }
        snippet.split_whitespace().collect::<Vec<_>>().join(" ")
    }

    /// Places of the words that are looked for, in order and apart from one another, and which words they are.
    fn hits(&self, text: &str) -> Vec<(Range<usize>, String)> {
        let mut hits: Vec<(Range<usize>, String)> = Vec::new();
        for (place, piece) in pieces(text) {
            match piece {
                Piece::Word(word) => {
                    if self.has_word(&word) {
                        add(&mut hits, place, word);
                    }
                }
                Piece::Run(_) => self.hits_in_run(text, place, &mut hits),
            }
            if hits.len() >= MAX_HITS {
                break;
            }
        }
        hits
    }

    /// Of a run, the very characters that are looked for.
    fn hits_in_run(&self, text: &str, place: Range<usize>, hits: &mut Vec<(Range<usize>, String)>) {
        let mut found: Vec<(Range<usize>, &str)> = Vec::new();
        for term in self.terms().filter(|term| !term.is_ascii()) {
            let matches = text[place.clone()].match_indices(term).take(MAX_HITS);
            found.extend(matches.map(|(at, term_there)| (place.start + at..place.start + at + term_there.len(), term)));
        }
        found.sort_by_key(|(place, _)| place.start);
        for (place, term) in found {
            add(hits, place, term.to_owned());
        }
    }
}

fn add(hits: &mut Vec<(Range<usize>, String)>, place: Range<usize>, word: String) {
    match hits.last_mut() {
        Some((last, _)) if place.start <= last.end => last.end = last.end.max(place.end),
        _ => hits.push((place, word)),
    }
}

/// The part of [`LENGTH`] characters with the most different words, of which there are `all`.
fn best_part(text: &str, hits: &[(Range<usize>, String)], all: usize) -> Range<usize> {
    let mut best = (0, 0..0);
    for (index, (first, _)) in hits.iter().enumerate() {
        let end = advance(text, first.start, LENGTH);
        let within = hits[index..].iter().take_while(|(place, _)| place.end <= end);
        let last = within.clone().last().map_or(first.end, |(place, _)| place.end);
        let words = within.map(|(_, word)| word).collect::<HashSet<_>>().len();
        if words > best.0 {
            best = (words, first.start..last);
        }
        if words >= all {
            break;
        }
    }
    let hit = best.1;
    // What is left of the length goes to both sides.
    let room = LENGTH.saturating_sub(text[hit.clone()].chars().count());
    let start = retreat(text, hit.start, if hit.is_empty() { 0 } else { room / 2 });
    let end = advance(text, start, LENGTH).max(hit.end);
    let start = retreat(text, end, LENGTH.max(text[start..end].chars().count())).min(start);
    between_words(text, start..end, &hit)
}

/// The place so many characters after `from`.
fn advance(text: &str, from: usize, characters: usize) -> usize {
    let rest = &text[from..];
    rest.char_indices()
        .nth(characters)
        .map_or(text.len(), |(at, _)| from + at)
}

/// The place so many characters before `from`.
fn retreat(text: &str, from: usize, characters: usize) -> usize {
    if characters == 0 {
        return from;
    }
    text[..from]
        .char_indices()
        .nth_back(characters - 1)
        .map_or(0, |(at, _)| at)
}

/// Moves both ends inwards to the next space, if there is one near and nothing that was found is cut off.
fn between_words(text: &str, part: Range<usize>, hit: &Range<usize>) -> Range<usize> {
    let Range { mut start, mut end } = part;
    if start > 0
        && let Some(space) = text[start..].find(char::is_whitespace)
        && space <= SLACK
        && (hit.is_empty() || start + space < hit.start)
    {
        start += space;
    }
    if end < text.len()
        && let Some(space) = text[start..end].rfind(char::is_whitespace)
        && end - (start + space) <= SLACK
        && start + space > hit.end
    {
        end = start + space;
    }
    start..end
}

#[cfg(test)]
mod tests {
    use super::*;

    fn snippet(query: &str, text: &str) -> String {
        Query::new(query).snippet(text)
    }

    #[test]
    fn short_texts_are_whole() {
        assert_eq!(
            snippet("deploy api", "We deployed\nthe API today"),
            "We **deployed** the **API** today"
        );
        assert_eq!(snippet("nothing", "short text"), "short text");
        assert_eq!(snippet("京都", "私は東京都に住む"), "私は東**京都**に住む");
        assert_eq!(snippet("東京都", "私は東京都に住む"), "私は**東京都**に住む");
        assert_eq!(snippet("x", ""), "");
    }

    #[test]
    fn long_texts_are_cut_around_the_words() {
        let text = format!("{}the secret needle is here{}", "hay ".repeat(500), " hay".repeat(500));
        let shown = snippet("needle secret", &text);
        assert!(shown.contains("the **secret** **needle** is here"), "{shown}");
        assert!(shown.starts_with("… hay") || shown.starts_with('…'), "{shown}");
        assert!(shown.ends_with('…'), "{shown}");
        assert!(shown.chars().count() <= LENGTH + 16, "{}", shown.chars().count());
    }

    #[test]
    fn a_text_of_one_word_is_no_trouble() {
        for text in ["word ".repeat(6_000), "語".repeat(10_000)] {
            for query in ["word", "words wordy", "語語語 語", "語"] {
                assert!(snippet(query, &text).chars().count() <= 5 * LENGTH);
            }
        }
    }

    #[test]
    fn cuts_fall_between_characters() {
        for text in [
            "é".repeat(1000),
            "東京".repeat(300),
            format!("{}needle", "👍".repeat(900)),
        ] {
            for query in ["needle", "東京", "é", "zzz"] {
                assert!(snippet(query, &text).chars().count() <= 3 * LENGTH);
            }
        }
    }
}
