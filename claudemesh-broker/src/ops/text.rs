//! What families with texts have in common.

use claudemesh_proto::limits::MAX_ANSWER_BYTES;
use claudemesh_proto::{ErrorCode, ErrorFrame};

/// Tags without white space around and line breaks inside, each once (case does not matter), in the given order.
pub(super) fn clean_tags(tags: Vec<String>) -> Vec<String> {
    let mut clean: Vec<String> = Vec::new();
    for tag in tags {
        let tag = tag.split_whitespace().collect::<Vec<_>>().join(" ");
        let is_known = clean.iter().any(|known| known.to_lowercase() == tag.to_lowercase());
        if !tag.is_empty() && !is_known {
            clean.push(tag);
        }
    }
    clean
}

/// Refuses a text of white space.
pub(super) fn not_blank(text: &str, field: &str) -> Result<(), ErrorFrame> {
    if text.trim().is_empty() {
        return Err(ErrorFrame::new(ErrorCode::InvalidRequest, "the text is blank").at(field));
    }
    Ok(())
}

/// As many items from the beginning as one answer may hold, at least one; and whether some were left out.
pub(super) fn within_answer<T>(mut items: Vec<T>, bytes: impl Fn(&T) -> usize) -> (Vec<T>, bool) {
    let mut total = 0_usize;
    let fitting = items.iter().take_while(|item| {
        let first = total == 0;
        total = total.saturating_add(bytes(item).max(1));
        first || total <= MAX_ANSWER_BYTES
    });
    let fitting = fitting.count();
    let cut = fitting < items.len();
    items.truncate(fitting);
    (items, cut)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_are_told_apart_by_their_letters() {
        let tags = [" a  b ", "A B", "", "  ", "c\nd"].map(str::to_owned).to_vec();
        assert_eq!(clean_tags(tags), ["a b", "c d"]);
    }

    #[test]
    fn an_answer_holds_at_least_one() {
        let (items, cut) = within_answer(vec![MAX_ANSWER_BYTES * 2, 1], |size| *size);
        assert_eq!((items.len(), cut), (1, true));
        let (items, cut) = within_answer(vec![MAX_ANSWER_BYTES / 2; 3], |size| *size);
        assert_eq!((items.len(), cut), (2, true));
        let (items, cut) = within_answer(vec![0; 3], |size| *size);
        assert_eq!((items.len(), cut), (3, false));
    }
}
