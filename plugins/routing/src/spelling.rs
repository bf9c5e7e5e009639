//! Writes one JSON value in many spellings, for tests.

use serde_json::Value;

/// Spells `value` as `choices`, taken in turn and again from the start, say: white space and escapes vary.
pub(crate) fn spell(value: &Value, choices: &[u8]) -> Vec<u8> {
    let mut speller = Speller {
        choices,
        next: 0,
        out: String::new(),
    };
    speller.value(value);
    speller.out.into_bytes()
}

struct Speller<'a> {
    choices: &'a [u8],
    next: usize,
    out: String,
}

impl Speller<'_> {
    fn value(&mut self, value: &Value) {
        self.space();
        match value {
            Value::String(text) => self.string(text),
            Value::Array(items) => self.list('[', ']', items, |speller, item| speller.value(item)),
            Value::Object(fields) => self.list('{', '}', fields, |speller, (key, value)| {
                speller.space();
                speller.string(key);
                speller.space();
                speller.out.push(':');
                speller.value(value);
            }),
            scalar => self.out.push_str(&scalar.to_string()),
        }
        self.space();
    }

    fn list<T>(
        &mut self,
        open: char,
        close: char,
        items: impl IntoIterator<Item = T>,
        write: fn(&mut Self, T),
    ) {
        self.out.push(open);
        for (number, item) in items.into_iter().enumerate() {
            if number > 0 {
                self.out.push(',');
            }
            write(self, item);
        }
        self.space();
        self.out.push(close);
    }

    fn string(&mut self, text: &str) {
        self.out.push('"');
        for character in text.chars() {
            self.character(character);
        }
        self.out.push('"');
    }

    fn character(&mut self, character: char) {
        let choice = self.choice();
        let must_escape = matches!(character, '"' | '\\') || character < ' ';
        match choice % 4 {
            0 => self.units(character, choice & 4 == 0),
            1 => self.short(character),
            _ if must_escape => self.short(character),
            _ => self.out.push(character),
        }
    }

    fn short(&mut self, character: char) {
        match character {
            '"' | '\\' | '/' => self.out.extend(['\\', character]),
            '\n' => self.out.push_str("\\n"),
            '\r' => self.out.push_str("\\r"),
            '\t' => self.out.push_str("\\t"),
            '\u{8}' => self.out.push_str("\\b"),
            '\u{c}' => self.out.push_str("\\f"),
            control if control < ' ' => self.units(control, false),
            plain => self.out.push(plain),
        }
    }

    fn units(&mut self, character: char, upper: bool) {
        for unit in character.encode_utf16(&mut [0; 2]) {
            let escape = if upper {
                format!("\\u{unit:04X}")
            } else {
                format!("\\u{unit:04x}")
            };
            self.out.push_str(&escape);
        }
    }

    fn space(&mut self) {
        let spaces = ["", "", "", " ", "\n", "\t", "\r\n", "  "];
        let choice = self.choice();
        self.out
            .push_str(spaces[usize::from(choice) % spaces.len()]);
    }

    fn choice(&mut self) -> u8 {
        self.next = (self.next + 1) % self.choices.len();
        self.choices[self.next]
    }
}
