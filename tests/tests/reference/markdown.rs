//! Text as Markdown.

/// The anchor that a heading gets, in the book as on the forges.
pub(crate) fn anchor(heading: &str) -> String {
    let kept = |c: &char| c.is_alphanumeric() || " -_".contains(*c);
    heading.to_lowercase().chars().filter(kept).collect::<String>().replace(' ', "-")
}

/// Prose with nothing in it that Markdown would take for a mark, but for code between backticks.
pub(crate) fn prose(text: &str) -> String {
    let escape = |part: &str| part.replace('*', "\\*").replace('<', "\\<").replace('|', "\\|");
    let parts = text.split('`').enumerate();
    // In a table, a bar ends the cell even in code.
    let parts = parts.map(|(at, part)| if at % 2 == 0 { escape(part) } else { part.replace('|', "\\|") });
    parts.collect::<Vec<_>>().join("`")
}

/// The lines of a comment as paragraphs; a fenced block is one, with its lines.
pub(crate) fn paragraphs(comment: &str) -> Vec<String> {
    let (mut paragraphs, mut open, mut fenced) = (Vec::new(), String::new(), false);
    for line in comment.lines().map(|line| line.strip_prefix(' ').unwrap_or(line).trim_end()) {
        let fence = line.starts_with("```");
        let ends = if fenced { false } else { fence || line.is_empty() };
        if ends && !open.is_empty() {
            paragraphs.push(std::mem::take(&mut open));
        }
        if fenced || fence {
            open += line;
            open += "\n";
        } else if !line.is_empty() {
            open += if open.is_empty() { "" } else { " " };
            open += line.trim_start();
        }
        if fence {
            if fenced {
                paragraphs.push(std::mem::take(&mut open).trim_end().to_owned());
            }
            fenced = !fenced;
        }
    }
    paragraphs.extend((!open.is_empty()).then_some(open));
    paragraphs
}

/// Digits in groups of three.
pub(crate) fn grouped(digits: &str) -> String {
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}
