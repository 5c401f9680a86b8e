//! The one pass: reads JSON text and writes its normal form as it goes.

use super::number::{Literal, push_number};
use super::object::{Member, settle};
use super::text::{is_plain, push_char};
use super::{Fault, MAX_DEPTH, NormaliseError, Refusal, Step};

pub(super) struct Writer<'a> {
    raw: &'a str,
    at: usize,
    out: Vec<u8>,
    /// Members of the objects that are open, outermost first: one stack for all, so that objects don't allocate.
    members: Vec<Member>,
    max_bytes: usize,
}

impl<'a> Writer<'a> {
    pub fn new(raw: &'a str, max_bytes: usize) -> Self {
        let out = Vec::with_capacity(raw.len().min(max_bytes));
        Self { raw, at: 0, out, members: Vec::new(), max_bytes }
    }

    pub fn run(mut self) -> Result<String, NormaliseError> {
        self.document().map_err(|fault| fault.into_error())?;
        Ok(String::from_utf8(self.out).expect("pieces of a str, cut at ASCII bytes"))
    }

    fn document(&mut self) -> Step {
        self.value(0)?;
        if self.at == self.raw.len() { Ok(()) } else { Err(self.unexpected("the end")) }
    }

    /// One value with the white space around it; `depth` is that of the container.
    fn value(&mut self, depth: usize) -> Step {
        self.skip_space();
        match self.peek() {
            Some(b'"') => self.string(),
            Some(b'{') => self.object(depth + 1),
            Some(b'[') => self.array(depth + 1),
            Some(b'-' | b'0'..=b'9') => self.number(),
            Some(b't') => self.word("true"),
            Some(b'f') => self.word("false"),
            Some(b'n') => self.word("null"),
            _ => Err(self.unexpected("a value")),
        }?;
        if self.out.len() > self.max_bytes {
            let detail = format!("larger than {} bytes as compact JSON", self.max_bytes);
            return Err(Fault::new(Refusal::TooLarge, detail));
        }
        self.skip_space();
        Ok(())
    }

    fn object(&mut self, depth: usize) -> Step {
        self.open(b'{', depth)?;
        let (body, first_member) = (self.out.len(), self.members.len());
        self.skip_space();
        if !self.eat(b'}') {
            loop {
                self.member(depth)?;
                match self.peek() {
                    Some(b',') => self.copy_byte(b','),
                    Some(b'}') => break,
                    _ => return Err(self.unexpected("',' or '}'")),
                }
            }
            self.at += 1;
            settle(&mut self.out, body, &self.members[first_member..]);
            self.members.truncate(first_member);
        }
        self.out.push(b'}');
        Ok(())
    }

    fn member(&mut self, depth: usize) -> Step {
        self.skip_space();
        if self.peek() != Some(b'"') {
            return Err(self.unexpected("a key in quotes"));
        }
        let key_start = self.out.len();
        self.string()?;
        let key = key_start..self.out.len();
        self.skip_space();
        if self.peek() != Some(b':') {
            return Err(self.unexpected("':'"));
        }
        self.copy_byte(b':');
        if let Err(fault) = self.value(depth) {
            let name: String =
                serde_json::from_slice(&self.out[key]).expect("a key that has just been written as JSON");
            return Err(fault.inside(&name));
        }
        self.members.push(Member::new(&self.out, &key));
        Ok(())
    }

    fn array(&mut self, depth: usize) -> Step {
        self.open(b'[', depth)?;
        self.skip_space();
        if !self.eat(b']') {
            for position in 0_usize.. {
                self.value(depth).map_err(|fault| fault.inside(&position.to_string()))?;
                match self.peek() {
                    Some(b',') => self.copy_byte(b','),
                    Some(b']') => break,
                    _ => return Err(self.unexpected("',' or ']'")),
                }
            }
            self.at += 1;
        }
        self.out.push(b']');
        Ok(())
    }

    fn open(&mut self, bracket: u8, depth: usize) -> Step {
        if depth > MAX_DEPTH {
            return Err(Fault::new(Refusal::TooDeep, format!("nested deeper than {MAX_DEPTH} levels")));
        }
        self.copy_byte(bracket);
        Ok(())
    }

    fn string(&mut self) -> Step {
        self.copy_byte(b'"');
        loop {
            let rest = &self.raw.as_bytes()[self.at..];
            let plain = rest.iter().position(|&byte| !is_plain(byte)).unwrap_or(rest.len());
            self.out.extend_from_slice(&rest[..plain]);
            self.at += plain;
            match self.peek() {
                Some(b'"') => {
                    self.copy_byte(b'"');
                    return Ok(());
                }
                Some(b'\\') => self.escape()?,
                Some(_) => return Err(self.unexpected("an escape, as control characters need")),
                None => return Err(self.unexpected("'\"'")),
            }
        }
    }

    fn escape(&mut self) -> Step {
        self.at += 1;
        let letter = self.peek();
        let character = match letter {
            Some(b'"') => '"',
            Some(b'\\') => '\\',
            Some(b'/') => '/',
            Some(b'b') => '\u{8}',
            Some(b'f') => '\u{c}',
            Some(b'n') => '\n',
            Some(b'r') => '\r',
            Some(b't') => '\t',
            Some(b'u') => {
                self.at += 1;
                let unit = self.hex4()?;
                let character = self.code_point(unit)?;
                push_char(&mut self.out, character);
                return Ok(());
            }
            _ => return Err(self.unexpected("an escape letter")),
        };
        self.at += 1;
        push_char(&mut self.out, character);
        Ok(())
    }

    /// The character of a `\u` escape, with the second half of its pair if it needs one.
    fn code_point(&mut self, unit: u32) -> Result<char, Box<Fault>> {
        let lone = || {
            let detail = format!("a string holds the lone surrogate \\u{unit:04x}, which UTF-8 can't carry");
            Fault::new(Refusal::LoneSurrogate, detail)
        };
        if !(0xd800..0xdc00).contains(&unit) {
            return char::from_u32(unit).ok_or_else(lone);
        }
        if !self.raw.as_bytes()[self.at..].starts_with(b"\\u") {
            return Err(lone());
        }
        self.at += 2;
        let low = self.hex4()?;
        if !(0xdc00..0xe000).contains(&low) {
            return Err(lone());
        }
        char::from_u32(0x1_0000 + ((unit - 0xd800) << 10) + (low - 0xdc00)).ok_or_else(lone)
    }

    fn hex4(&mut self) -> Result<u32, Box<Fault>> {
        let mut unit = 0;
        for _ in 0..4 {
            let digit = self.peek().and_then(|byte| char::from(byte).to_digit(16));
            unit = unit * 16 + digit.ok_or_else(|| self.unexpected("four hex digits"))?;
            self.at += 1;
        }
        Ok(unit)
    }

    fn number(&mut self) -> Step {
        let start = self.at;
        self.eat(b'-');
        let integer_digits = if self.eat(b'0') { 1 } else { self.digits()? };
        let mut is_integer = true;
        if self.eat(b'.') {
            is_integer = false;
            self.digits()?;
        }
        if self.eat(b'e') || self.eat(b'E') {
            is_integer = false;
            let _signed = self.eat(b'+') || self.eat(b'-');
            self.digits()?;
        }
        let text = &self.raw[start..self.at];
        push_number(&mut self.out, &Literal { text, integer_digits, is_integer })
    }

    /// One digit or more: how many.
    fn digits(&mut self) -> Result<usize, Box<Fault>> {
        let rest = &self.raw.as_bytes()[self.at..];
        let count = rest.iter().position(|byte| !byte.is_ascii_digit()).unwrap_or(rest.len());
        self.at += count;
        if count == 0 { Err(self.unexpected("a digit")) } else { Ok(count) }
    }

    fn word(&mut self, word: &'static str) -> Step {
        if !self.raw.as_bytes()[self.at..].starts_with(word.as_bytes()) {
            return Err(self.unexpected("a value"));
        }
        self.out.extend_from_slice(word.as_bytes());
        self.at += word.len();
        Ok(())
    }

    fn peek(&self) -> Option<u8> {
        self.raw.as_bytes().get(self.at).copied()
    }

    fn eat(&mut self, byte: u8) -> bool {
        let found = self.peek() == Some(byte);
        self.at += usize::from(found);
        found
    }

    /// Takes a byte that has been peeked at over to the output.
    fn copy_byte(&mut self, byte: u8) {
        self.at += 1;
        self.out.push(byte);
    }

    fn skip_space(&mut self) {
        while let Some(b' ' | b'\n' | b'\r' | b'\t') = self.peek() {
            self.at += 1;
        }
    }

    fn unexpected(&self, wanted: &str) -> Box<Fault> {
        let detail = format!("not valid JSON: expected {wanted} at byte {}", self.at);
        Fault::new(Refusal::Syntax, detail)
    }
}
