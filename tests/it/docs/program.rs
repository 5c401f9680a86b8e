//! A program on a page, made ready to run as a process.

use std::{
    fs,
    io::{ErrorKind, Write},
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use super::page::{Block, quoted, read};

pub struct Program {
    command: Vec<PathBuf>,
}

impl Program {
    /// None where its language is not installed.
    pub fn prepare(block: &Block) -> Option<Self> {
        let tmp = Path::new(env!("CARGO_TARGET_TMPDIR"));
        let directory = tmp.join(format!("verify-{}-{}", block.kind, block.language));
        let source = directory.join(if block.language == "rust" { "src/main.rs" } else { "verify.go" });
        fs::create_dir_all(source.parent().unwrap()).unwrap();
        fs::write(&source, &block.text).unwrap();
        let interpreter = match &block.language[..] {
            "rust" => return Some(Self { command: vec![build_rust(&directory, block)] }),
            "go" => {
                let program = directory.join("verify");
                let mut build = Command::new("go");
                build.args(["build", "-o"]).args([&program, &source]).env("GOCACHE", tmp.join("go"));
                let command = vec![program];
                return succeeds(&mut build).then_some(Self { command });
            }
            "python" => "python3",
            "js" => "node",
            other => other,
        };
        let mut trial = Command::new(interpreter);
        // Every shell has -c, not every one has --version.
        trial.args(if interpreter == "sh" {
            ["-c", "openssl version && curl --version"].as_slice()
        } else {
            &["--version"]
        });
        succeeds(&mut trial).then(|| Self { command: vec![interpreter.into(), source] })
    }

    /// With this secret in its environment and this body on its standard input.
    pub fn run(&self, secret: &str, arguments: &[String], body: &[u8]) -> Output {
        let mut command = Command::new(&self.command[0]);
        command.args(&self.command[1..]).args(arguments).env("SECRET", secret);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("it starts");
        // It may refuse before it has read everything.
        let _ = child.stdin.take().unwrap().write_all(body);
        child.wait_with_output().expect("it ends")
    }
}

/// In a package of its own, with the crates that the page names: those that this one is locked to are there without a network.
fn build_rust(directory: &Path, block: &Block) -> PathBuf {
    let name = format!("verify-{}", block.kind);
    let dependencies = quoted(&block.line_before).join("\n");
    let package = format!("[package]\nname = \"{name}\"\nedition = \"2024\"\n[workspace]\n");
    fs::write(directory.join("Cargo.toml"), format!("{package}[dependencies]\n{dependencies}\n")).unwrap();
    fs::write(directory.join("Cargo.lock"), read("Cargo.lock")).unwrap();
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).join("verify");
    let mut build = Command::new(env!("CARGO"));
    build.args(["build", "--quiet", "--offline", "--target-dir"]).arg(&target).current_dir(directory);
    assert!(succeeds(&mut build), "cargo is there");
    target.join("debug").join(name)
}

/// False if there is no such program; one that fails is none that anybody should copy.
fn succeeds(command: &mut Command) -> bool {
    match command.output() {
        Err(error) if error.kind() == ErrorKind::NotFound => false,
        output => {
            let output = output.expect("it runs");
            assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
            true
        }
    }
}
