//! How wide a text is, and where to break it: from the advances of DejaVu Sans, so that SVG, which is laid out
//! without the font at hand, comes out like PNG.

/// Advances of the printable ASCII characters from the blank on, in thousandths of the size.
const ADVANCES: [u16; 95] = [
    318, 401, 460, 838, 636, 950, 780, 275, 390, 390, 500, 838, 318, 361, 318, 337, 636, 636, 636, 636, 636,
    636, 636, 636, 636, 636, 337, 337, 838, 838, 838, 531, 1000, 684, 686, 698, 770, 632, 575, 775, 752, 295,
    295, 656, 557, 863, 748, 787, 603, 787, 695, 635, 611, 732, 684, 989, 685, 611, 685, 390, 337, 390, 838,
    500, 500, 613, 635, 550, 635, 615, 352, 635, 634, 278, 278, 579, 278, 974, 634, 612, 635, 635, 411, 521,
    392, 634, 592, 818, 592, 592, 525, 636, 337, 636, 838,
];

fn advance(c: char) -> f64 {
    let ascii = (c as usize)
        .checked_sub(' ' as usize)
        .and_then(|index| ADVANCES.get(index));
    f64::from(ascii.copied().unwrap_or(match c {
        '–' => 500,
        'µ' => 636,
        '·' => 318,
        '×' | '→' | '≤' | '≥' => 838,
        '\u{0300}'..='\u{036f}' | '\u{200b}' => 0,
        // Ideographs and the like are as wide as they are high.
        '\u{1100}'.. => 1000,
        _ => 640,
    })) / 1000.0
}

/// The width of a text of a size.
pub(super) fn width(text: &str, size: f64) -> f64 {
    text.chars().map(advance).sum::<f64>() * size
}

/// As much of a text as fits, with an ellipsis where some is left out.
pub(super) fn shorten(text: &str, size: f64, room: f64) -> String {
    if width(text, size) <= room {
        return text.to_owned();
    }
    let mut left = room - size;
    let mut short: String = text
        .chars()
        .take_while(|c| {
            left -= advance(*c) * size;
            left >= 0.0
        })
        .collect();
    short.push('…');
    short
}

/// Breaks a text between words into lines that fit.
pub(super) fn wrap(text: &str, size: f64, room: f64) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if width(line, size) + width(" ", size) + width(word, size) <= room => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(shorten(word, size, room)),
        }
    }
    lines
}

/// The same in at most `most` lines, the last one shortened.
pub(super) fn wrap_to(text: &str, size: f64, room: f64, most: usize) -> Vec<String> {
    let mut lines = wrap(text, size, room);
    if lines.len() > most {
        let rest = lines.split_off(most.saturating_sub(1)).join(" ");
        lines.push(shorten(&rest, size, room));
    }
    lines
}

/// How many of all paths a chart shows, where these are not all; empty, or after a semicolon.
pub(super) fn only(shown: usize, all: usize) -> String {
    if shown < all {
        format!("; the first {shown} paths of {all}")
    } else {
        String::new()
    }
}

/// The least and the most of several counts, `6` or `5 to 6`; `None` without any.
pub(super) fn counts<T: Ord + Copy + std::fmt::Display>(of: impl Iterator<Item = T>) -> Option<String> {
    let (least, most) = of.fold(None, |ends: Option<(T, T)>, count| {
        Some(ends.map_or((count, count), |(least, most)| {
            (least.min(count), most.max(count))
        }))
    })?;
    Some(if least == most {
        most.to_string()
    } else {
        format!("{least} to {most}")
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn lines_fit(text in "[ -~]{0,200}", room in 60.0..500.0_f64) {
            for line in wrap(&text, 12.0, room) {
                prop_assert!(width(&line, 12.0) <= room + 1e-9, "{line:?}");
            }
            prop_assert!(wrap_to(&text, 12.0, room, 2).len() <= 2);
        }
    }

    #[test]
    fn what_is_cut_says_so() {
        assert_eq!(shorten("pod-to-pod", 10.0, 1000.0), "pod-to-pod");
        assert!(shorten("pod-to-pod", 10.0, 30.0).ends_with('…'));
    }
}
