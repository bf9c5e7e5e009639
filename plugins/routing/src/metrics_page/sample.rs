//! One line of a page: a name, labels in braces, a value, and what nobody needs.

use memchr::{memchr, memchr2};

/// Labels and value of a line.
#[derive(Debug)]
pub(super) struct Sample<'a> {
    /// From behind the opening brace on; known to be whole.
    labels: &'a [u8],
    pub(super) value: f64,
}

/// Splits a line behind its name; `None` for comments and empty lines.
pub(super) fn split_name(line: &[u8]) -> Option<(&[u8], &[u8])> {
    let line = after_blanks(line);
    let is_end = |byte: &u8| *byte == b'{' || is_blank(byte);
    let end = line.iter().position(is_end).unwrap_or(line.len());
    line.split_at_checked(end)
        .filter(|(name, _)| !name.is_empty() && !name.starts_with(b"#"))
}

impl<'a> Sample<'a> {
    /// Reads what stands behind a name; `None` when it is no value or its labels are broken.
    ///
    /// A time stamp behind the value is not read, nor is an exemplar.
    pub(super) fn parse(rest: &'a [u8]) -> Option<Self> {
        let rest = after_blanks(rest);
        let (labels, rest) = match rest.strip_prefix(b"{") {
            Some(labels) => (labels, behind_labels(labels)?),
            None => (&b"}"[..], rest),
        };
        let rest = after_blanks(rest);
        let end = rest.iter().position(is_blank).unwrap_or(rest.len());
        let value = str::from_utf8(rest.get(..end)?).ok()?.parse().ok()?;
        Some(Self { labels, value })
    }

    /// A label's value as it is written, escapes and all: those that are asked for need none.
    pub(super) fn label(&self, name: &[u8]) -> Option<&'a [u8]> {
        let mut rest = self.labels;
        while let Next::Label(label) = next_label(rest) {
            if label.name == name {
                return Some(label.value);
            }
            rest = label.rest;
        }
        None
    }

    /// A label that is a whole number; vLLM writes `None` for what it does not know.
    pub(super) fn number(&self, name: &[u8]) -> Option<u64> {
        str::from_utf8(self.label(name)?).ok()?.parse().ok()
    }
}

/// A count: finite, not negative and within 64 bits. A fraction is cut off.
#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the range is checked, and the fraction is to go"
)]
pub(super) fn whole(value: f64) -> Option<u64> {
    /// 2^64, the first number that is too large.
    const LIMIT: f64 = 18_446_744_073_709_551_616.0;
    (0.0..LIMIT).contains(&value).then_some(value as u64)
}

struct Label<'a> {
    name: &'a [u8],
    value: &'a [u8],
    rest: &'a [u8],
}

enum Next<'a> {
    Label(Label<'a>),
    End(&'a [u8]),
    Broken,
}

fn behind_labels(mut rest: &[u8]) -> Option<&[u8]> {
    loop {
        match next_label(rest) {
            Next::Label(label) => rest = label.rest,
            Next::End(rest) => return Some(rest),
            Next::Broken => return None,
        }
    }
}

fn next_label(rest: &[u8]) -> Next<'_> {
    let rest = after_blanks(rest);
    match rest.strip_prefix(b"}") {
        Some(rest) => Next::End(rest),
        None => label(rest).map_or(Next::Broken, Next::Label),
    }
}

/// `name="value"` and the comma behind it, if there is one.
fn label(rest: &[u8]) -> Option<Label<'_>> {
    let (name, rest) = rest.split_at_checked(memchr(b'=', rest)?)?;
    let name = name.trim_ascii_end();
    let is_name = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'_';
    if name.is_empty() || !name.iter().all(is_name) {
        return None;
    }
    let rest = after_blanks(rest.strip_prefix(b"=")?).strip_prefix(b"\"")?;
    let (value, rest) = rest.split_at_checked(closing_quote(rest)?)?;
    let rest = after_blanks(rest.strip_prefix(b"\"")?);
    let behind_comma = rest.strip_prefix(b",");
    (behind_comma.is_some() || rest.starts_with(b"}")).then_some(Label {
        name,
        value,
        rest: behind_comma.unwrap_or(rest),
    })
}

/// Where a label's value ends: at the first quote that no backslash escapes.
fn closing_quote(value: &[u8]) -> Option<usize> {
    let mut from = 0usize;
    loop {
        let rest = value.get(from..)?;
        let met = from.checked_add(memchr2(b'"', b'\\', rest)?)?;
        if value.get(met) == Some(&b'"') {
            return Some(met);
        }
        from = met.checked_add(2)?;
    }
}

fn after_blanks(bytes: &[u8]) -> &[u8] {
    let start = bytes.iter().position(|byte| !is_blank(byte));
    start.and_then(|start| bytes.get(start..)).unwrap_or(b"")
}

/// A carriage return counts too: it ends the lines of servers that write CRLF.
fn is_blank(byte: &u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\r')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(line: &str) -> Option<f64> {
        let (_, rest) = split_name(line.as_bytes())?;
        Sample::parse(rest).map(|sample| sample.value)
    }

    #[test]
    fn a_name_ends_at_a_brace_or_a_blank() {
        for line in ["a:b 1", "a:b{x=\"y\"} 1", "a:b\t1", "  a:b 1", "a:b"] {
            let (name, _) = split_name(line.as_bytes()).unwrap();
            assert_eq!(name, b"a:b", "{line}");
        }
        for line in ["", "   ", "\r", "# HELP a:b", " # TYPE", "{x=\"y\"} 1"] {
            assert_eq!(split_name(line.as_bytes()), None, "{line}");
        }
    }

    #[test]
    fn values_are_read_in_every_notation() {
        for (line, expected) in [
            ("a 3", 3.0),
            ("a 3.0", 3.0),
            ("a +3", 3.0),
            ("a -0.5", -0.5),
            ("a 1.284412e+06", 1_284_412.0),
            ("a 5E-1", 0.5),
            ("a{} 3", 3.0),
            ("a{x=\"y\",} 3", 3.0),
            ("a {x=\"y\"}3", 3.0),
            ("a { x = \"y\" , z = \"\" } 3", 3.0),
            ("a 3 1795578310370", 3.0),
            ("a{x=\"y\"} 3 # {trace=\"z\"} 7 8", 3.0),
            ("a 3\r", 3.0),
            ("\ta\t3\t", 3.0),
            ("a +Inf", f64::INFINITY),
            ("a -Inf", f64::NEG_INFINITY),
        ] {
            assert_eq!(value(line), Some(expected), "{line}");
        }
        assert!(value("a NaN").unwrap().is_nan());
    }

    #[test]
    fn broken_lines_have_no_value() {
        for line in [
            "a",
            "a ",
            "a x",
            "a 3,",
            "a 0x10",
            "a{",
            "a{x=\"y\"}",
            "a{x=\"y\" 3",
            "a{x=\"y} 3",
            "a{x=\"y\\\"} 3",
            "a{x=y} 3",
            "a{x} 3",
            "a{=\"y\"} 3",
            "a{,} 3",
            "a{x=\"y\"z=\"w\"} 3",
            "a{x y=\"z\"} 3",
            "a{x=\"y\\",
            "a \u{661}",
        ] {
            assert_eq!(value(line), None, "{line}");
        }
        assert!(Sample::parse(b" \xff3").is_none());
    }

    #[test]
    fn labels_are_found_behind_values_that_look_like_more() {
        let line = br#"{a="} 7 x=\"1\"",b="c,d=\"2\"",d="\\",e="3\n",f="-4"} 5"#;
        let sample = Sample::parse(line).unwrap();
        assert_eq!(sample.value, 5.0);
        assert_eq!(sample.label(b"d"), Some(&br"\\"[..]));
        assert_eq!(sample.label(b"e"), Some(&br"3\n"[..]));
        assert_eq!((sample.label(b"x"), sample.label(b"")), (None, None));
        assert_eq!((sample.number(b"e"), sample.number(b"f")), (None, None));
    }

    #[test]
    fn only_whole_numbers_in_range_are_counts() {
        assert_eq!(whole(0.0), Some(0));
        assert_eq!(whole(-0.0), Some(0));
        assert_eq!(whole(2.9), Some(2));
        assert_eq!(whole(9_007_199_254_740_993.0), Some(9_007_199_254_740_992));
        assert_eq!(
            whole(18_446_744_073_709_549_568.0),
            Some(18_446_744_073_709_549_568)
        );
        for value in [
            -1.0,
            f64::NAN,
            f64::INFINITY,
            f64::NEG_INFINITY,
            18_446_744_073_709_551_616.0,
        ] {
            assert_eq!(whole(value), None, "{value}");
        }
    }
}
