//! The program as a process of its own: started from its binary, killed like production.

use std::{
    path::Path,
    process::{ExitStatus, Stdio},
};

use tokio::{
    io::{AsyncBufReadExt, BufReader, Lines},
    process::{Child, ChildStdout, Command},
    time::timeout,
};

use posthaste::config::Settings;

use super::{app::arguments, client::PATIENCE};

pub struct Process {
    child: Child,
    out: Lines<BufReader<ChildStdout>>,
}

impl Process {
    /// With nothing in its environment but PATH and what is given.
    pub fn start(arguments: &[&str], environment: &[(&str, &str)], directory: &Path) -> Self {
        Self::spawn(Command::new(env!("CARGO_BIN_EXE_posthaste")), arguments, environment, directory)
    }

    fn spawn(
        mut command: Command,
        arguments: &[&str],
        environment: &[(&str, &str)],
        directory: &Path,
    ) -> Self {
        command.args(arguments).env_clear().current_dir(directory).stdin(Stdio::null());
        command.env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command.envs(environment.iter().copied());
        command.stdout(Stdio::piped()).stderr(Stdio::inherit()).kill_on_drop(true);
        let mut child = command.spawn().expect("the program starts");
        let out = BufReader::new(child.stdout.take().expect("a pipe")).lines();
        Self { child, out }
    }

    /// A role of the program on this database, once it says that it is up: the address of its API, if it has one.
    pub async fn role(role: &str, settings: &Settings) -> (Self, String) {
        Self::up(Command::new(env!("CARGO_BIN_EXE_posthaste")), role, settings).await
    }

    /// The same, with no more than `files` open at once.
    pub async fn role_with_files(files: u32, role: &str, settings: &Settings) -> (Self, String) {
        let mut command = Command::new("sh");
        command.args(["-c", &format!("ulimit -n {files}; exec \"$0\" \"$@\"")]);
        command.arg(env!("CARGO_BIN_EXE_posthaste"));
        Self::up(command, role, settings).await
    }

    async fn up(command: Command, role: &str, settings: &Settings) -> (Self, String) {
        let arguments = arguments(settings);
        let mut line = vec![role];
        line.extend(arguments.iter().map(String::as_str));
        let mut process = Self::spawn(command, &line, &[], &std::env::temp_dir());
        let says = if role == "worker" { "working" } else { "listening on " };
        let base = process.line(says).await;
        (process, base)
    }

    pub fn pid(&self) -> u32 {
        self.child.id().expect("it runs")
    }

    /// The rest of the first line on standard output that starts like this.
    pub async fn line(&mut self, start: &str) -> String {
        let reading = async {
            while let Some(line) = self.out.next_line().await.expect("readable output") {
                if let Some(rest) = line.strip_prefix(start) {
                    return rest.to_owned();
                }
            }
            panic!("the output ended without a line that starts with {start:?}");
        };
        timeout(PATIENCE, reading).await.unwrap_or_else(|_| panic!("no line that starts with {start:?}"))
    }

    /// `kill -9`.
    pub async fn kill(&mut self) {
        self.child.kill().await.expect("killed");
    }

    pub fn signal(&self, name: &str) {
        let pid = self.pid().to_string();
        let status = std::process::Command::new("kill").args(["-s", name, &pid]).status();
        assert!(status.expect("kill runs").success());
    }

    pub async fn wait(&mut self) -> ExitStatus {
        timeout(PATIENCE, self.child.wait()).await.expect("it ends").expect("a status")
    }
}
