use super::*;

fn globs(patterns: &[&str]) -> Vec<Glob> {
    let parsed = patterns.iter().map(|pattern| Glob::parse(pattern));
    parsed.collect::<Option<_>>().unwrap()
}

#[test]
fn the_admin_endpoint_is_asked_by_a_path_with_the_patterns_escaped() {
    let clusters = globs(&["outbound|8000||*.llm", "pool?"]);
    assert_eq!(
        EndpointTable::Dynamic.path(&clusters),
        "/config_dump?include_eds&resource=dynamic_endpoint_configs&name_regex=\
         %5E%28%3Fs%3Aoutbound%5C%7C8000%5C%7C%5C%7C.%2A%5C.llm%29%24%7C%5E%28%3Fs%3Apool.%29%24"
    );
    assert_eq!(
        EndpointTable::Static.path(&globs(&["a"])),
        "/config_dump?include_eds&resource=static_endpoint_configs&name_regex=%5E%28%3Fs%3Aa%29%24"
    );
}

#[test]
fn a_query_keeps_only_unreserved_characters() {
    assert_eq!(query_escape("aZ09-._~"), "aZ09-._~");
    assert_eq!(
        query_escape("a b+c&d=e%é\n"),
        "a%20b%2Bc%26d%3De%25%C3%A9%0A"
    );
}

#[test]
fn a_pattern_that_envoy_would_refuse_is_cut_and_may_go_on_with_anything() {
    let whole = "x".repeat(79);
    assert_eq!(name_regex(&globs(&[&whole])), format!("^(?s:{whole})$"));
    let cut = format!("^(?s:{whole}.*)$");
    assert_eq!(name_regex(&globs(&[&format!("{whole}y")])), cut);
    assert_eq!(name_regex(&globs(&[&format!("{whole}*")])), cut);
    assert_eq!(
        name_regex(&globs(&["?????????????"])),
        format!("^(?s:{}.*)$", ".".repeat(11))
    );
}

#[test]
fn patterns_share_what_envoy_takes() {
    let (one, other) = ("a".repeat(36), "b".repeat(35));
    assert_eq!(
        name_regex(&globs(&[&one, &other])),
        format!("^(?s:{}.*)$|^(?s:{other})$", "a".repeat(35))
    );
    let eight = name_regex(&globs(&["a"; 8]));
    assert_eq!(eight, ["^(?s:a)$"; 8].join("|"));
    assert_eq!(name_regex(&globs(&["a"; 10])), ".*");
    assert_eq!(name_regex(&[]), ".*");
}

#[cfg(not(target_arch = "wasm32"))]
mod properties {
    use proptest::prelude::*;
    use regex::Regex;

    use super::*;

    /// What RE2 makes of an expression at most, counted on the expression: the twin of the count on the pattern.
    fn instructions(regex: &str) -> usize {
        let mut count = 0;
        for alternative in regex.split("$|^") {
            let literal = alternative.replace("(?s:", "").replace([')', '^', '$'], "");
            let runs = literal.matches(".*").count();
            let characters = literal.replace(".*", "").matches('.').count();
            count += 1 + runs * 8 + characters * 7;
            count += literal.replace(".*", "").replace('.', "").len();
        }
        count
    }

    proptest! {
        #[test]
        fn percent_encoding_is_that_of_each_byte(text in r"\PC{0,20}|[\x00-\x7f]{0,20}") {
            let mut naive = String::new();
            for byte in text.bytes() {
                if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
                    naive.push(char::from(byte));
                } else {
                    naive += &format!("%{byte:02X}");
                }
            }
            prop_assert_eq!(query_escape(&text), naive);
        }

        #[test]
        fn envoy_takes_the_expression_and_it_matches_all_that_a_pattern_matches(
            patterns in proptest::collection::vec("[ab]{0,60}[ab*?]{1,60}", 1..14),
            names in proptest::collection::vec("[ab]{0,120}", 1..8),
        ) {
            let texts: Vec<&str> = patterns.iter().map(String::as_str).collect();
            let clusters = globs(&texts);
            let regex = name_regex(&clusters);
            prop_assert!(instructions(&regex) <= MOST_INSTRUCTIONS, "{regex}");
            let regex = Regex::new(&regex).unwrap();
            let from_patterns = patterns.iter().map(|pattern| pattern.replace(['*', '?'], "a"));
            for name in names.into_iter().chain(from_patterns) {
                if clusters.iter().any(|glob| glob.matches(&name)) {
                    prop_assert!(regex.is_match(&name), "{name}");
                }
            }
        }
    }
}
