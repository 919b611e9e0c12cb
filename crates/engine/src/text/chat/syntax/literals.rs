//! String literals.

/// Decodes the content of a string literal as jinja2 does: characters outside of ASCII become
/// escapes (`backslashreplace`), then Python's codec `unicode_escape` decodes all escapes. So an
/// unknown escape keeps its backslash, and a backslash at the end of a line removes the newline.
///
/// # Errors
/// An escape is truncated, or names a character by its Unicode name, or is half of a surrogate
/// pair.
pub(super) fn decoded(literal: &str) -> Result<String, String> {
    let mut escaped = String::with_capacity(literal.len());
    for letter in literal.chars() {
        match u32::from(letter) {
            0..0x80 => escaped.push(letter),
            code @ 0x80..0x100 => escaped.push_str(&format!("\\x{code:02x}")),
            code @ 0x100..0x1_0000 => escaped.push_str(&format!("\\u{code:04x}")),
            code => escaped.push_str(&format!("\\U{code:08x}")),
        }
    }
    let mut out = String::with_capacity(literal.len());
    let mut rest = escaped.as_str();
    while let Some(at) = rest.find('\\') {
        out.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        let Some(code) = rest.chars().next() else {
            return Err("string literal: a backslash is its last character".into());
        };
        rest = &rest[1..];
        match code {
            '\n' => {}
            '\\' | '\'' | '"' => out.push(code),
            'a' => out.push('\x07'),
            'b' => out.push('\x08'),
            'f' => out.push('\x0c'),
            'n' => out.push('\n'),
            'r' => out.push('\r'),
            't' => out.push('\t'),
            'v' => out.push('\x0b'),
            'x' => out.push(hexadecimal(&mut rest, 2)?),
            'u' => out.push(hexadecimal(&mut rest, 4)?),
            'U' => out.push(hexadecimal(&mut rest, 8)?),
            '0'..='7' => {
                let more = rest.bytes().take(2).take_while(|digit| (b'0'..=b'7').contains(digit));
                let digits = format!("{code}{}", &rest[..more.clone().count()]);
                rest = &rest[more.count()..];
                out.push(character(u32::from_str_radix(&digits, 8).unwrap_or(0))?);
            }
            'N' => {
                return Err(
                    "string literal: `\\N` names a character; expected `\\u` and its code".into()
                );
            }
            _ => {
                out.push('\\');
                out.push(code);
            }
        }
    }
    out.push_str(rest);
    Ok(out)
}

/// Reads `digits` hexadecimal digits from `rest`.
fn hexadecimal(rest: &mut &str, digits: usize) -> Result<char, String> {
    let text = rest.get(..digits).filter(|text| text.bytes().all(|b| b.is_ascii_hexdigit()));
    let text = text.ok_or_else(|| {
        format!("string literal: expected an escape with {digits} hexadecimal digits")
    })?;
    *rest = &rest[digits..];
    character(u32::from_str_radix(text, 16).unwrap_or(u32::MAX))
}

fn character(code: u32) -> Result<char, String> {
    char::from_u32(code)
        .ok_or_else(|| format!("string literal: the escape U+{code:04X} is not a character"))
}

/// Returns a string literal in the dialect of minijinja.
pub(super) fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for letter in text.chars() {
        match letter {
            '"' | '\\' => {
                out.push('\\');
                out.push(letter);
            }
            '\0'..' ' | '\x7f' => out.push_str(&format!("\\x{:02x}", u32::from(letter))),
            _ => out.push(letter),
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_are_decoded_as_by_the_codec_unicode_escape() {
        // the results of `.encode("ascii", "backslashreplace").decode("unicode-escape")`
        for (literal, expected) in [
            (r"a\/b", r"a\/b"),
            ("a\\\nb", "ab"),
            (r"\a\b\f\n\r\t\v", "\x07\x08\x0c\n\r\t\x0b"),
            (r"\x41\u00e9\U0001F600", "Aé😀"),
            (r"\101\0\12x\777", "A\0\nx\u{1ff}"),
            (r"\é", r"\xe9"),
            (r"\q\8 é😀", r"\q\8 é😀"),
        ] {
            assert_eq!(decoded(literal).as_deref(), Ok(expected), "{literal}");
        }
        for literal in [r"\x4", r"\u12", r"\U00110000", r"\N{DASH}", r"\ud83d"] {
            assert!(decoded(literal).is_err(), "{literal}");
        }
    }

    #[test]
    fn quoted_text_contains_only_escapes_of_minijinja() {
        assert_eq!(quoted("a\"\\\n\u{7f}é"), "\"a\\\"\\\\\\x0a\\x7fé\"");
    }
}
