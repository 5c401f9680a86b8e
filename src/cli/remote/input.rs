//! Where what is sent comes from: the argument itself, a file, or standard input.

use std::{
    fs::File,
    io::{BufRead, BufReader, Cursor, IsTerminal, Read, stdin},
};

use super::{failure::Failure, session::note};
use crate::web::json::BATCH_BODY_MAX_BYTES;

/// More than the API takes in one request.
pub const INPUT_MAX_BYTES: u64 = BATCH_BODY_MAX_BYTES as u64;

/// Opens `@FILE`, standard input (`-`, or nothing), or the text itself.
pub fn open(source: Option<&str>) -> Result<Box<dyn BufRead>, Failure> {
    Ok(match source {
        None | Some("-") => {
            if stdin().is_terminal() {
                note("reading from the terminal; Ctrl-D ends");
            }
            Box::new(stdin().lock())
        }
        Some(text) => match text.strip_prefix('@') {
            Some(path) => Box::new(BufReader::new(
                File::open(path).map_err(|error| Failure::Usage(format!("{path} can't be read: {error}")))?,
            )),
            None => Box::new(Cursor::new(text.to_owned())),
        },
    })
}

/// All of it.
pub fn read(source: Option<&str>) -> Result<String, Failure> {
    let mut text = String::new();
    let read = open(source)?.take(INPUT_MAX_BYTES + 1).read_to_string(&mut text).map_err(unreadable)?;
    if read as u64 > INPUT_MAX_BYTES {
        return Err(Failure::Usage(format!("the input has more than {INPUT_MAX_BYTES} bytes")));
    }
    Ok(text)
}

/// The next line with its end; empty at the end of all.
pub fn line(input: &mut dyn BufRead) -> Result<String, Failure> {
    let mut text = String::new();
    let read = input.take(INPUT_MAX_BYTES).read_line(&mut text).map_err(unreadable)?;
    if read as u64 == INPUT_MAX_BYTES && !text.ends_with('\n') {
        return Err(Failure::Usage(format!("a line has more than {INPUT_MAX_BYTES} bytes")));
    }
    Ok(text)
}

#[expect(clippy::needless_pass_by_value, reason = "for map_err")]
fn unreadable(error: std::io::Error) -> Failure {
    Failure::Usage(format!("the input can't be read: {error}"))
}
