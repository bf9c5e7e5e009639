//! Names with wild cards, as an operator writes them and as Envoy's admin endpoint is asked for them.

use serde::Deserialize;

/// The longest pattern in bytes. Istio's longest cluster names (port, subset, service, namespace, domain) stay below it.
const MAX_PATTERN_BYTES: usize = 256;

/// What RE2 and Rust's `regex` take as syntax outside brackets.
const REGEX_SYNTAX: &str = r"\.+*?()|[]{}^$";

/// What `.` compiles to in RE2 at most.
const ANY_CHARACTER_INSTRUCTIONS: usize = 7;

/// What `.*` compiles to in RE2 at most.
const ANY_RUN_INSTRUCTIONS: usize = 8;

/// A pattern for whole names: `*` is any run of characters, `?` one character, all else stands for itself.
///
/// Globs and not regular expressions, because the `|` and `.` of a cluster's name (`outbound|8000||pool.llm.svc`) are
/// syntax there, and a name with an unescaped `|` matches nearly everything. Case counts, as it does for Envoy.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(try_from = "String")]
pub struct Glob(String);

impl Glob {
    /// Takes a pattern of 1 to 256 bytes; `None` for any other length.
    #[must_use]
    pub fn parse(pattern: &str) -> Option<Self> {
        (1..=MAX_PATTERN_BYTES)
            .contains(&pattern.len())
            .then(|| Self(pattern.to_string()))
    }

    /// The pattern as it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether the pattern stands for the whole of `name`.
    ///
    /// Only the last `*` is ever taken up again: what an earlier one would match, the last one can match as well. So the
    /// cost is at most the length of the pattern times that of the name, and mostly their sum.
    #[must_use]
    pub fn matches(&self, name: &str) -> bool {
        let (mut pattern, mut rest) = (self.0.chars(), name.chars());
        let mut last_star = None;
        loop {
            let unread = rest.clone();
            match (pattern.next(), rest.next()) {
                (None, None) => return true,
                (Some('*'), _) => {
                    rest = unread;
                    last_star = Some((pattern.clone(), rest.clone()));
                }
                (Some(_), None) => return false,
                (Some(one), Some(other)) if one == '?' || one == other => {}
                _ => {
                    let Some((behind_star, covered)) = &mut last_star else {
                        return false;
                    };
                    covered.next();
                    (pattern, rest) = (behind_star.clone(), covered.clone());
                }
            }
        }
    }

    /// The same pattern as a regular expression of RE2.
    ///
    /// Anchored, so that it means the same whether names are searched or compared as a whole. At most about twice as long
    /// as the pattern.
    #[must_use]
    pub fn to_regex(&self) -> String {
        self.to_regex_within(usize::MAX)
    }

    /// What the whole pattern compiles to in RE2 at most.
    #[must_use]
    pub(crate) fn instructions(&self) -> usize {
        self.0.chars().map(instructions_of).sum()
    }

    /// A regular expression of RE2 for the names that the pattern matches, and for more if it would compile to more than
    /// `instructions`: then it is cut, and anything may follow.
    ///
    /// `instructions` below those of `*` cannot be kept to.
    #[must_use]
    pub(crate) fn to_regex_within(&self, instructions: usize) -> String {
        let mut regex = String::from("^(?s:");
        let mut left = instructions;
        for character in self.0.chars() {
            let cost = instructions_of(character);
            if cost.saturating_add(ANY_RUN_INSTRUCTIONS) > left {
                regex.push_str(".*");
                break;
            }
            left = left.saturating_sub(cost);
            push_regex(character, &mut regex);
        }
        regex.push_str(")$");
        regex
    }
}

/// What a character of a pattern compiles to at most: one instruction for each byte, and in Envoy 1.37.0 seven for any
/// character of UTF-8, of which 1.40.0 makes one.
fn instructions_of(character: char) -> usize {
    match character {
        '*' => ANY_RUN_INSTRUCTIONS,
        '?' => ANY_CHARACTER_INSTRUCTIONS,
        _ => character.len_utf8(),
    }
}

fn push_regex(character: char, regex: &mut String) {
    match character {
        '*' => regex.push_str(".*"),
        '?' => regex.push('.'),
        _ => {
            if REGEX_SYNTAX.contains(character) {
                regex.push('\\');
            }
            regex.push(character);
        }
    }
}

impl TryFrom<String> for Glob {
    type Error = &'static str;

    fn try_from(pattern: String) -> Result<Self, Self::Error> {
        Self::parse(&pattern).ok_or("a pattern has 1 to 256 bytes")
    }
}

#[cfg(test)]
mod tests;
