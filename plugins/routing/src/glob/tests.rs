use super::*;

fn glob(pattern: &str) -> Glob {
    Glob::parse(pattern).unwrap()
}

#[test]
fn a_pattern_without_wild_cards_is_the_name_itself() {
    let pool = glob("outbound|8000||pool.llm.svc");
    assert!(pool.matches("outbound|8000||pool.llm.svc"));
    for other in [
        "",
        "outbound|8000||pool.llm.svc ",
        "outbound|8000||pool.llm.sv",
        "outbound|8000||pool-llm.svc",
        "Outbound|8000||pool.llm.svc",
    ] {
        assert!(!pool.matches(other), "{other}");
    }
}

#[test]
fn a_star_is_any_run_and_a_question_mark_one_character() {
    for (pattern, name, is_match) in [
        ("*", "", true),
        ("*", "anything", true),
        ("**", "", true),
        ("?", "", false),
        ("?", "é", true),
        ("?", "ab", false),
        ("*?", "", false),
        ("?*", "a", true),
        ("pool-?", "pool-7", true),
        ("pool-?", "pool-", false),
        ("*-prefill*", "wide-ep-prefill-0", true),
        ("*-prefill*", "prefill-0", false),
        ("*prefill", "prefill-prefill-x", false),
        ("*prefill", "prefill-prefillprefill", true),
        ("a*b*c", "a-b-b-c", true),
        ("a*b*c", "a-c-b", false),
        ("a*a", "a", false),
        ("*aab", "aaaaab", true),
        ("a\nb*", "a\nb\nc", true),
        ("日*語", "日本語", true),
    ] {
        assert_eq!(glob(pattern).matches(name), is_match, "{pattern} {name}");
    }
}

#[test]
fn a_pattern_has_1_to_256_bytes() {
    assert_eq!(Glob::parse(""), None);
    assert_eq!(glob(&"x".repeat(256)).as_str().len(), 256);
    assert_eq!(Glob::parse(&"x".repeat(257)), None);
    assert_eq!(Glob::parse(&"é".repeat(129)), None);
    assert_eq!(serde_json::from_str::<Glob>(r#""a*""#).unwrap(), glob("a*"));
    let refused = serde_json::from_str::<Glob>(r#""""#).unwrap_err();
    assert!(refused.to_string().contains("1 to 256 bytes"));
}

#[test]
fn the_regex_escapes_all_but_the_wild_cards() {
    assert_eq!(
        glob("outbound|8000||*.svc?(x)").to_regex(),
        r"^(?s:outbound\|8000\|\|.*\.svc.\(x\))$"
    );
}

#[test]
fn the_worst_pattern_is_refused_in_the_steps_that_are_promised() {
    let pattern = glob(&format!("{}b", "*a".repeat(127)));
    assert!(!pattern.matches(&"a".repeat(100_000)));
    assert!(pattern.matches(&format!("{}b", "a".repeat(100_000))));
}

#[cfg(not(target_arch = "wasm32"))]
mod properties {
    use proptest::prelude::*;
    use regex::Regex;

    use super::glob;

    /// Whether `pattern` matches, by trying every length for every star; the twin of the matcher.
    fn naive(pattern: &[char], name: &[char]) -> bool {
        match (pattern.split_first(), name.split_first()) {
            (None, None) => true,
            (Some(('*', rest)), _) => (0..=name.len()).any(|taken| naive(rest, &name[taken..])),
            (Some((one, pattern)), Some((other, name))) => {
                (*one == '?' || one == other) && naive(pattern, name)
            }
            _ => false,
        }
    }

    proptest! {
        #[test]
        fn matching_agrees_with_trying_everything(
            pattern in "[ab*?é]{1,8}",
            name in "[abé]{0,10}",
        ) {
            let letters = |text: &str| text.chars().collect::<Vec<char>>();
            prop_assert_eq!(
                glob(&pattern).matches(&name),
                naive(&letters(&pattern), &letters(&name))
            );
        }

        #[test]
        fn the_regex_matches_what_the_glob_matches(
            pattern in "[ab*?|.é\n]{1,8}",
            name in "[ab|.é\n]{0,10}",
        ) {
            let regex = Regex::new(&glob(&pattern).to_regex()).unwrap();
            prop_assert_eq!(regex.is_match(&name), glob(&pattern).matches(&name));
        }

        #[test]
        fn any_name_without_wild_cards_matches_itself_alone(
            name in r"[\PC&&[^*?]]{1,40}",
            other in r"\PC{0,40}",
        ) {
            let regex = Regex::new(&glob(&name).to_regex()).unwrap();
            prop_assert!(glob(&name).matches(&name) && regex.is_match(&name));
            prop_assert_eq!(glob(&name).matches(&other), name == other);
        }
    }

    #[test]
    fn every_ascii_character_can_be_part_of_a_name() {
        for character in (0..128_u8)
            .map(char::from)
            .filter(|c| !matches!(c, '*' | '?'))
        {
            let name = format!("a{character}b");
            let regex = Regex::new(&glob(&name).to_regex()).unwrap();
            assert!(
                regex.is_match(&name) && glob(&name).matches(&name),
                "{name:?}"
            );
            assert!(!regex.is_match("acb") || character == 'c', "{name:?}");
        }
    }
}
