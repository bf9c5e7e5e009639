use super::*;

#[cfg(not(target_arch = "wasm32"))]
mod twin;

/// Deeper than what is kept track of, and what Python 3.13 still reads.
const DEPTHS: [usize; 3] = [1023, 1024, 9000];

fn scanned(pieces: &[&[u8]]) -> BodyScanner {
    let mut scanner = BodyScanner::default();
    pieces
        .iter()
        .for_each(|piece| scanner.feed(piece, &mut |_| {}));
    scanner
}

fn found(scanner: &BodyScanner) -> Vec<String> {
    scanner.found_keys().map(ToString::to_string).collect()
}

fn has_keys(body: &[u8]) -> bool {
    let keys = found(&scanned(&[body]));
    let single: Vec<&[u8]> = body.chunks(1).collect();
    assert_eq!(found(&scanned(&single)), keys, "byte by byte");
    !keys.is_empty()
}

/// A text in each encoding that Python's `json.loads` reads, with and without a byte order mark.
fn encodings(text: &str) -> Vec<Vec<u8>> {
    let marked = format!("\u{feff}{text}");
    let mut all = Vec::new();
    for text in [text, &marked] {
        let (words, units): (Vec<u16>, Vec<char>) =
            (text.encode_utf16().collect(), text.chars().collect());
        all.push(text.as_bytes().to_vec());
        all.push(words.iter().flat_map(|word| word.to_le_bytes()).collect());
        all.push(words.iter().flat_map(|word| word.to_be_bytes()).collect());
        all.push(
            units
                .iter()
                .flat_map(|unit| u32::from(*unit).to_le_bytes())
                .collect(),
        );
        all.push(
            units
                .iter()
                .flat_map(|unit| u32::from(*unit).to_be_bytes())
                .collect(),
        );
    }
    all
}

#[test]
fn nothing_hides_in_an_encoding_that_python_finds_out() {
    for text in [
        r#"{"kv_transfer_params":{}}"#,
        r#"  {"prompt":"\u00e9é\"漢😀\\","kv_transfer_p\u0061rams":{}}"#,
        "\n\n\n\n{\"vllm_xargs\":{\"kv_transfer_params\":1}}",
        r#"{"bootstrap_\u0068ost":"é"}"#,
    ] {
        for body in encodings(text) {
            assert!(has_keys(&body), "{body:x?}");
        }
    }
    for text in [
        r#"{"kv_transfer_params":null}"#,
        r#"{"prompt":"kv_transfer_params\":{","ķv_transfer_params":{}}"#,
        r#"{"prompt":"漢\"é","x":{"kv_transfer_params":{}}}"#,
    ] {
        for body in encodings(text) {
            assert!(!has_keys(&body), "{body:x?}");
        }
    }
}

#[test]
fn a_body_in_a_wide_encoding_is_no_prompt() {
    let [plain, wide, ..] = &encodings(r#"{"prompt":"a"}"#)[..] else {
        panic!("there are ten")
    };
    let mut events = 0;
    let mut scanner = BodyScanner::default();
    scanner.feed(wide, &mut |_| events += 1);
    assert_eq!(
        (scanner.is_unreadable(), scanner.is_done(), events),
        (true, true, 0)
    );
    assert!(!scanned(&[plain]).is_unreadable());
}

#[test]
fn nothing_hides_behind_deep_nesting() {
    for depth in DEPTHS {
        for (open, close) in [("[", "]"), ("{\"]\":[\"\\\"]\",", "]}")] {
            let deep = format!("{}1{}", open.repeat(depth), close.repeat(depth));
            let behind = format!(r#"{{"x":{deep},"y":[{deep},"z"],"kv_transfer_params":{{}}}}"#);
            assert!(has_keys(behind.as_bytes()), "{depth} of {open}");
            let inside = format!(
                r#"{{"x":{}{{"kv_transfer_params":{{}}}}{}}}"#,
                open.repeat(depth),
                close.repeat(depth)
            );
            assert!(!has_keys(inside.as_bytes()), "{depth} of {open}");
        }
    }
}

#[test]
fn a_body_that_is_too_deep_is_no_prompt_but_is_watched_to_its_end() {
    let deep = format!(r#"{{"x":{}"#, "[".repeat(2000));
    let mut scanner = scanned(&[deep.as_bytes()]);
    assert_eq!((scanner.is_unreadable(), scanner.is_over()), (true, false));
    scanner.feed("]".repeat(2000).as_bytes(), &mut |_| {
        panic!("nothing is read any more")
    });
    assert!(!scanner.is_over());
    scanner.feed(b"}", &mut |_| {});
    assert!(scanner.is_over());
}

#[test]
fn scanning_is_over_when_nothing_can_follow_that_counts() {
    for body in [
        r#"{"prompt":"a"}"#,
        r#"{"prompt":"a"} {"kv_transfer_params":{}}"#,
        r#"{"prompt":"a"}x"#,
        r#"{"a":1,}"#,
        r#"{"a":"\x"}"#,
        r#"["kv"]"#,
        "\"abc\"",
        "1234 ",
        "--boundary",
    ] {
        assert!(scanned(&[body.as_bytes()]).is_over(), "{body}");
    }
    for body in ["", " ", "{", r#"{"a"#, r#"{"a":[1"#] {
        assert!(!scanned(&[body.as_bytes()]).is_over(), "{body}");
    }
}

#[test]
fn what_follows_the_object_does_not_count() {
    assert!(!has_keys(br#"{"a":1}{"kv_transfer_params":{}}"#));
    assert!(!has_keys(br#"{"a":1},"kv_transfer_params":{}}"#));
}

#[test]
fn memory_is_bounded() {
    assert!(
        size_of::<BodyScanner>() <= 384,
        "{}",
        size_of::<BodyScanner>()
    );
}
