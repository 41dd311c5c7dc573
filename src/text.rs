//! Text formatting.

/// Returns `text` on one line of at most `max_chars` characters: each run of whitespace becomes
/// one space, and other control characters are dropped.
pub fn one_line(text: &str, max_chars: usize) -> String {
    let words: Vec<_> = text.split_whitespace().collect();
    words
        .join(" ")
        .chars()
        .filter(|character| !character.is_control())
        .take(max_chars)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::one_line;

    #[test]
    fn one_line_joins_words_and_truncates() {
        assert_eq!(one_line("  a\n\t b\u{1b}c ", 9), "a bc");
        assert_eq!(one_line("ä b c", 3), "ä b");
        assert_eq!(one_line(" \r\n", 9), "");
    }
}
