//! How the demo tells what happens.

use std::io::{IsTerminal, stdout};

use serde_json::Value;

use super::receiver::Seen;

pub struct Story {
    colour: bool,
}

impl Story {
    pub fn new() -> Self {
        Self { colour: stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none() }
    }

    fn paint(&self, code: &str, text: &str) -> String {
        if self.colour { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }

    pub fn chapter(&self, title: &str) {
        println!("\n{}", self.paint("1", title));
    }

    pub fn line(&self, text: &str) {
        println!("  {text}");
    }

    pub fn step(&self, text: &str) {
        println!("  {} {text}", self.paint("32", "•"));
    }

    pub fn json(&self, value: &Value) {
        for line in serde_json::to_string_pretty(value).unwrap_or_default().lines() {
            println!("    {}", self.paint("2", line));
        }
    }

    /// As it came over the wire.
    pub fn request(&self, seen: &Seen) {
        println!("    {}", self.paint("36", &format!("POST {}", seen.path)));
        for (name, value) in &seen.headers {
            println!(
                "    {}: {}",
                self.paint("36", name.as_str()),
                String::from_utf8_lossy(value.as_bytes())
            );
        }
        println!();
        println!("    {}", String::from_utf8_lossy(&seen.body));
        println!();
    }

    pub fn command(&self, what: &str, line: &str) {
        println!("  # {what}");
        println!("  {}\n", self.paint("33", line));
    }
}
