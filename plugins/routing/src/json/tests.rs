use super::*;

#[cfg(not(target_arch = "wasm32"))]
mod properties;

/// The events of a document fed in the given pieces, parts of a run joined.
fn events(pieces: &[&[u8]]) -> (Vec<String>, Result<(), JsonError>) {
    let mut scanner = JsonScanner::default();
    let mut seen: Vec<(char, Vec<u8>)> = Vec::new();
    let mut outcome = Ok(());
    for piece in pieces {
        outcome = outcome.and_then(|()| {
            scanner.feed(piece, &mut |event| {
                let (kind, bytes): (char, &[u8]) = match event {
                    Event::ObjectStart => ('{', b""),
                    Event::ObjectEnd => ('}', b""),
                    Event::ArrayStart => ('[', b""),
                    Event::ArrayEnd => (']', b""),
                    Event::Key(part) => ('k', part),
                    Event::KeyEnd => ('K', b""),
                    Event::String(part) => ('s', part),
                    Event::StringEnd => ('S', b""),
                    Event::Scalar(part) => ('v', part),
                    Event::ScalarEnd => ('V', b""),
                };
                match seen.last_mut() {
                    Some((last, run)) if *last == kind && "ksv".contains(kind) => {
                        run.extend_from_slice(bytes)
                    }
                    _ => seen.push((kind, bytes.to_vec())),
                }
            })
        });
    }
    let text =
        |(kind, bytes): (char, Vec<u8>)| format!("{kind}{}", String::from_utf8_lossy(&bytes));
    (seen.into_iter().map(text).collect(), outcome)
}

const DOCUMENT: &str = "\u{feff} {\"a\" : [1, -2.5e3,true,null,{},[]],\"\\u0062\":\"x\\n\\\"\\/ \\u00e9 \\ud83d\\ude00 \\ud83d!\\udc00\\ud83d\\n\u{1F600}\\ud83d\" } ";

#[test]
fn a_document_becomes_its_events() {
    let (seen, outcome) = events(&[DOCUMENT.as_bytes()]);
    assert_eq!(outcome, Ok(()));
    let text = "sx\n\"/ \u{e9} \u{1F600} \u{fffd}!\u{fffd}\u{fffd}\n\u{1F600}\u{fffd}";
    let expected = [
        "{", "ka", "K", "[", "v1", "V", "v-2.5e3", "V", "vtrue", "V", "vnull", "V", "{", "}", "[",
        "]", "]", "kb", "K", text, "S", "}",
    ];
    assert_eq!(seen, expected);
}

/// Good and bad documents of every kind.
const DOCUMENTS: [&str; 16] = [
    DOCUMENT,
    "{}",
    " [ ] ",
    "",
    "\"\\ud83d\\ude00\\ud83d\\ud83d\\ude00\\udc00\\ud83dx\\ud83d\\\\\"",
    "\"\\u0000\\u00e9\\uFFFF\\b\\f\\r\\t\"",
    "{\"a\":1,\"a\":2,\"\":\"\",\"\":{\"\":[]}}",
    "[123456789012345678901234567890,-0.5E-400,1e999,NaN]",
    "[true,false,null,\"\u{1F600}\u{e9}\",[[[[{}]]]]]",
    "12.5",
    "{\"a\":[1,2}",
    "{\"a\":\"\\ud83d\\x\"}",
    "{\"a\":1} {",
    "[\"\\u12G4\"]",
    "{\"a\" \"b\"}",
    "\u{feff}\u{feff}{}",
];

#[test]
fn every_split_point_gives_the_same_events() {
    for document in DOCUMENTS {
        let bytes = document.as_bytes();
        let whole = events(&[bytes]);
        for at in 0..=bytes.len() {
            let (head, tail) = bytes.split_at(at);
            assert_eq!(events(&[head, tail]), whole, "{document} split at {at}");
        }
        let single: Vec<&[u8]> = bytes.chunks(1).collect();
        assert_eq!(events(&single), whole, "{document} byte by byte");
    }
}

/// The string that is the whole document, with its parts joined.
fn text(document: &[u8]) -> Vec<u8> {
    let mut text = Vec::new();
    let mut scanner = JsonScanner::default();
    let outcome = scanner.feed(document, &mut |event| {
        if let Event::String(part) = event {
            text.extend_from_slice(part);
        }
    });
    assert_eq!(
        (outcome, scanner.is_done()),
        (Ok(()), true),
        "{}",
        document.escape_ascii()
    );
    text
}

#[test]
fn escapes_are_decoded_and_lone_surrogates_replaced() {
    for (escaped, decoded) in [
        (r#"\"\\\/\b\f\n\r\t"#, "\"\\/\u{8}\u{c}\n\r\t"),
        (r"\u0041\u00e9\u20AC\uffff", "A\u{e9}\u{20ac}\u{ffff}"),
        (r"\u0000", "\0"),
        (r"\ud83d\ude00", "\u{1F600}"),
        (r"\uD800\uDC00\udbff\udfff", "\u{10000}\u{10FFFF}"),
        (r"\ud83d", "\u{fffd}"),
        (r"\ud83d.", "\u{fffd}."),
        (r"\ud83d\n", "\u{fffd}\n"),
        (r"\ud83d\u0041", "\u{fffd}A"),
        (r"\ud83d\ud83d\ude00", "\u{fffd}\u{1F600}"),
        (r"\ude00\ud83d", "\u{fffd}\u{fffd}"),
    ] {
        let document = format!("\"{escaped}\"");
        assert_eq!(text(document.as_bytes()), decoded.as_bytes(), "{escaped}");
    }
}

#[test]
fn raw_bytes_in_strings_pass_unchanged() {
    for raw in [
        &b"\0\x01\n\x1f"[..],
        b"\xff\xfe\xc3",
        b"\xed\xa0\xbd",
        "\u{feff}".as_bytes(),
    ] {
        let document = [b"\"", raw, b"\""].concat();
        assert_eq!(text(&document), raw);
    }
}

#[test]
fn keys_that_come_twice_are_reported_twice() {
    let (seen, outcome) = events(&[br#"{"a":1,"a":2}"#]);
    assert_eq!(outcome, Ok(()));
    assert_eq!(seen, ["{", "ka", "K", "v1", "V", "ka", "K", "v2", "V", "}"]);
}

#[test]
fn a_number_of_any_size_passes_as_written() {
    let number = "-123456789012345678901234567890.5e+999";
    let (seen, _) = events(&[format!("[{number}]").as_bytes()]);
    assert_eq!(seen, ["[", &format!("v{number}"), "V", "]"]);
}

#[test]
fn a_byte_order_mark_is_skipped_only_at_the_start() {
    assert_eq!(events(&["\u{feff}[]".as_bytes()]).1, Ok(()));
    for (document, offset) in [
        ("\u{feff}\u{feff}[]", 3),
        ("[\u{feff}]", 1),
        (" \u{feff}[]", 1),
        ("[]\u{feff}", 2),
    ] {
        let (_, outcome) = events(&[document.as_bytes()]);
        assert_eq!(
            outcome,
            Err(JsonError::Unexpected { byte: 0xEF, offset }),
            "{document:?}"
        );
    }
    let (_, outcome) = events(&[b"{\xBB"]);
    let byte = 0xBB;
    assert_eq!(outcome, Err(JsonError::Unexpected { byte, offset: 1 }));
}

#[test]
fn what_cannot_be_json_is_refused_at_its_offset() {
    for (text, byte, offset) in [
        ("{]", b']', 1),
        ("[1}", b'}', 2),
        ("{\"a\" 1}", b'1', 5),
        ("{\"a\":1,}", b'}', 7),
        ("[1,]", b']', 3),
        ("{} x", b'x', 3),
        ("{}{", b'{', 2),
        ("\"\\x\"", b'x', 2),
        ("\"\\u12g4\"", b'g', 5),
        ("\u{0}", 0, 0),
        ("[\u{0}]", 0, 1),
        ("[\u{e9}]", 0xC3, 1),
        ("{a:1}", b'a', 1),
        ("{1:1}", b'1', 1),
        ("{,}", b',', 1),
        ("[,]", b',', 1),
        ("[1 2]", b'2', 3),
        ("{\"a\":}", b'}', 5),
        ("{\"a\"::1}", b':', 5),
        ("'a'", b'\'', 0),
        ("}", b'}', 0),
    ] {
        let (_, outcome) = events(&[text.as_bytes()]);
        assert_eq!(
            outcome,
            Err(JsonError::Unexpected { byte, offset }),
            "{text}"
        );
    }
}

#[test]
fn depth_is_bounded() {
    let deepest = "[".repeat(1024) + &"]".repeat(1024);
    assert_eq!(events(&[deepest.as_bytes()]).1, Ok(()));
    assert_eq!(
        events(&["[".repeat(1025).as_bytes()]).1,
        Err(JsonError::TooDeep { offset: 1024 })
    );
    let deeper = "[{\"a\":".repeat(600);
    assert!(matches!(
        events(&[deeper.as_bytes()]).1,
        Err(JsonError::TooDeep { .. })
    ));
}

#[test]
fn every_level_remembers_whether_it_is_an_object() {
    let open = "[{\"a\":".repeat(512);
    let close = "}]".repeat(512);
    assert_eq!(events(&[format!("{open}1{close}").as_bytes()]).1, Ok(()));
    assert!(
        events(&[format!("{open}1{}", "]}".repeat(512)).as_bytes()])
            .1
            .is_err()
    );
    let siblings = "[{},[],{\"a\":[]},[{}]]";
    assert_eq!(events(&[siblings.as_bytes()]).1, Ok(()));
}

#[test]
fn only_a_closed_container_or_string_is_done() {
    for (text, done) in [
        ("{}", true),
        ("\"a\"", true),
        ("{", false),
        ("\"a", false),
        ("12", false),
        ("", false),
    ] {
        let mut scanner = JsonScanner::default();
        scanner.feed(text.as_bytes(), &mut |_| {}).unwrap();
        assert_eq!(scanner.is_done(), done, "{text}");
    }
}
