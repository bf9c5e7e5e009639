//! Writes a body of JSON from any bytes, one token for each.
//!
//! Nearly all that a fuzzer makes of a JSON text is no JSON any more. Here every input is a body with the fields that
//! matter, so whole ones are as likely as they have to be for the reader to get deep into them.

/// A byte modulo this is a kind of token, the rest of it a choice.
const KINDS: u8 = 8;

const KEYS: [&str; 32] = [
    "model",
    "cache_salt",
    "tools",
    "messages",
    "prompt",
    "input",
    "instructions",
    "system",
    "role",
    "content",
    "type",
    "text",
    "name",
    "tool_calls",
    "output",
    "cache_control",
    "image_url",
    "source",
    "query",
    "documents",
    "text_1",
    "text_2",
    "queries",
    "items",
    "data_1",
    "data_2",
    "token_ids",
    "features",
    "inputs",
    "texts",
    "thinking",
    "x",
];
const TEXTS: [&str; 16] = [
    "user",
    "system",
    "assistant",
    "text",
    "input_text",
    "image_url",
    "once upon a time ",
    "",
    "a\\n",
    "\\ud83d\\ude00",
    "\u{1F600}",
    "\\ud83d",
    "\\u0000",
    "\u{56fe}\u{4e66}",
    "\\\"\\\\",
    "0123456789abcdef",
];
const SCALARS: [&str; 8] = [
    "null",
    "true",
    "7",
    "-1",
    "70e-1",
    "128000",
    "4294967296",
    "1e999",
];

/// Gives the body that the bytes stand for: an object, whatever they are.
#[must_use]
pub fn written(program: &[u8]) -> Vec<u8> {
    let mut writer = Writer::default();
    writer.open('{');
    for &byte in program {
        writer.token(byte % KINDS, usize::from(byte / KINDS));
    }
    while !writer.open.is_empty() {
        writer.close();
    }
    writer.out.into_bytes()
}

#[derive(Default)]
struct Writer {
    out: String,
    /// What closes each open container.
    open: Vec<char>,
    has_items: bool,
    has_key: bool,
}

impl Writer {
    fn token(&mut self, kind: u8, choice: usize) {
        match kind {
            0 if self.open.len() > 1 => self.close(),
            0 => self.out.push(' '),
            1 => self.value(choice, |writer| writer.open('{')),
            2 => self.value(choice, |writer| writer.open('[')),
            3 | 4 if self.wants_key() => self.key(choice),
            6 => self.text(choice, choice),
            7 => self.value(choice, |writer| {
                writer.out.push_str(SCALARS[choice % SCALARS.len()])
            }),
            _ => self.text(choice, 1),
        }
    }

    fn open(&mut self, bracket: char) {
        self.out.push(bracket);
        self.open.push(if bracket == '{' { '}' } else { ']' });
        self.has_items = false;
    }

    fn close(&mut self) {
        if self.has_key {
            self.value(0, |writer| writer.out.push_str("null"));
        }
        self.out.extend(self.open.pop());
        self.has_items = true;
    }

    fn wants_key(&self) -> bool {
        self.open.last() == Some(&'}') && !self.has_key
    }

    fn key(&mut self, choice: usize) {
        self.comma();
        self.out
            .push_str(&format!("\"{}\":", KEYS[choice % KEYS.len()]));
        self.has_key = true;
    }

    fn value(&mut self, choice: usize, write: impl FnOnce(&mut Self)) {
        if self.wants_key() {
            self.key(choice);
        }
        if !std::mem::take(&mut self.has_key) {
            self.comma();
        }
        self.has_items = true;
        write(self);
    }

    fn comma(&mut self) {
        if self.has_items {
            self.out.push(',');
        }
    }

    fn text(&mut self, choice: usize, times: usize) {
        let text = TEXTS[choice % TEXTS.len()].repeat(times);
        self.value(choice, |writer| writer.out.push_str(&format!("\"{text}\"")));
    }
}
