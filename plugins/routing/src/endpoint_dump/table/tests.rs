use super::*;

fn globs(patterns: &[&str]) -> Vec<Glob> {
    let parsed = patterns.iter().map(|pattern| Glob::parse(pattern));
    parsed.collect::<Option<_>>().unwrap()
}

#[test]
fn the_admin_endpoint_is_asked_by_a_path_with_the_patterns_escaped() {
    let clusters = globs(&["outbound|8000||*.llm", "pool?"]);
    assert_eq!(
        EndpointTable::Dynamic.paths(&clusters, Reach::Narrow),
        [
            "/config_dump?include_eds&resource=dynamic_endpoint_configs&name_regex=\
         %5E%28%3Fs%3Aoutbound%5C%7C8000%5C%7C%5C%7C.%2A%5C.llm%29%24%7C%5E%28%3Fs%3Apool.%29%24"
        ]
    );
    assert_eq!(
        EndpointTable::Static.paths(&globs(&["a"]), Reach::Wide),
        [
            "/config_dump?include_eds&resource=static_endpoint_configs&name_regex=%5E%28%3Fs%3Aa%29%24"
        ]
    );
    assert!(EndpointTable::Static.paths(&[], Reach::Wide).is_empty());
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
    let narrow = |pattern: &str| name_regexes(&globs(&[pattern]), Reach::Narrow);
    let whole = "x".repeat(79);
    assert_eq!(narrow(&whole), [format!("^(?s:{whole})$")]);
    let cut = [format!("^(?s:{whole}.*)$")];
    assert_eq!(narrow(&format!("{whole}yyyyyyyyy")), cut);
    assert_eq!(narrow(&format!("{whole}*")), cut);
    assert_eq!(
        narrow(&"?".repeat(13)),
        [format!("^(?s:{}.*)$", ".".repeat(11))]
    );
}

#[test]
fn patterns_share_a_question_as_long_as_envoy_takes_it() {
    let (one, other) = ("a".repeat(43), "b".repeat(43));
    let fit = globs(&[&one, &other]);
    let both = [format!("^(?s:{one})$|^(?s:{other})$")];
    assert_eq!(name_regexes(&fit, Reach::Narrow), both);
    let too_long = globs(&[&one, &format!("{other}b")]);
    assert_eq!(name_regexes(&too_long, Reach::Narrow).len(), 2);
    assert_eq!(name_regexes(&too_long, Reach::Wide).len(), 1);
}

#[test]
fn patterns_that_are_the_same_once_cut_are_asked_for_once() {
    let long = "x".repeat(120);
    let clusters = globs(&[&format!("{long}a"), &format!("{long}b")]);
    assert_eq!(name_regexes(&clusters, Reach::Narrow).len(), 1);
    assert_eq!(name_regexes(&globs(&["a", "a"]), Reach::Wide).len(), 1);
}

#[test]
fn sixty_four_names_of_istio_are_one_wide_question() {
    let names: Vec<String> = (0..64)
        .map(|number| format!("outbound|8000||decode-{number}.models.svc.cluster.local"))
        .collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    assert_eq!(name_regexes(&globs(&names), Reach::Wide).len(), 1);
    assert_eq!(name_regexes(&globs(&names), Reach::Narrow).len(), 64);
    let longest: Vec<String> = (0..64).map(|number| format!("{number:|>256}")).collect();
    let longest: Vec<&str> = longest.iter().map(String::as_str).collect();
    let paths = EndpointTable::Dynamic.paths(&globs(&longest), Reach::Wide);
    assert!(paths.len() > 1 && paths.iter().all(|path| path.len() < 20 * 1024));
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
            let regexes = name_regexes(&clusters, Reach::Narrow);
            prop_assert!(regexes.len() <= patterns.len());
            for regex in &regexes {
                prop_assert!(instructions(regex) <= Reach::Narrow.instructions(), "{regex}");
            }
            let regexes: Vec<Regex> = regexes.iter().map(|regex| Regex::new(regex).unwrap()).collect();
            let from_patterns = patterns.iter().map(|pattern| pattern.replace(['*', '?'], "a"));
            for name in names.into_iter().chain(from_patterns) {
                if clusters.iter().any(|glob| glob.matches(&name)) {
                    prop_assert!(regexes.iter().any(|regex| regex.is_match(&name)), "{name}");
                }
            }
        }
    }
}
