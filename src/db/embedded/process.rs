//! The postmaster as a child process: started so that it never outlives us, stopped politely first.
//!
//! On Linux the kernel sends the child SIGINT (a fast, clean shutdown) when the thread that spawned it ends, however
//! we die. That thread therefore does nothing but wait for the child. Elsewhere an orphan lives on until the next
//! start, which stops it. A process of an earlier start is touched only if it verifiably serves our data directory.

use std::{
    fs, io,
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};
use tokio::sync::watch;

use super::{
    EmbeddedError,
    home::{Home, SOCKET_FILE, cluster_name},
};

/// Fast shutdown, immediate shutdown, the end; and how long each one gets.
const STOP_LADDER: [(Signal, Duration); 3] = [
    (Signal::INT, Duration::from_secs(30)),
    (Signal::QUIT, Duration::from_secs(10)),
    (Signal::KILL, Duration::from_secs(5)),
];
const SOCKET_LOCK_FILE: &str = ".s.PGSQL.5432.lock";
/// How long backends that lost their postmaster may take to notice.
const ORPHAN_PATIENCE: Duration = Duration::from_secs(5);
pub(super) const POLL: Duration = Duration::from_millis(10);

/// A running child. Dropping it stops it, and blocks until it has stopped.
#[derive(Debug)]
pub(super) struct Postmaster {
    pub pid: Pid,
    /// How it ended, once it has.
    pub exit: watch::Receiver<Option<String>>,
}

impl Postmaster {
    /// Must be called with a command that came from [`command`].
    pub fn spawn(mut command: Command) -> io::Result<Self> {
        let (spawned, outcome) = std::sync::mpsc::sync_channel(1);
        let (exited, exit) = watch::channel(None);
        thread::Builder::new().name("postmaster".to_owned()).spawn(move || match command.spawn() {
            Ok(mut child) => {
                let _ = spawned.send(Ok(child.id()));
                let status = child.wait().map_or_else(|error| error.to_string(), |status| status.to_string());
                exited.send_replace(Some(status));
            }
            Err(error) => {
                let _ = spawned.send(Err(error));
            }
        })?;
        let id = outcome.recv().map_err(io::Error::other)??;
        let pid = i32::try_from(id).ok().and_then(Pid::from_raw).ok_or(io::ErrorKind::InvalidData)?;
        Ok(Self { pid, exit })
    }

    /// Blocks for up to the ladder's length.
    pub fn stop(&self) -> Result<(), EmbeddedError> {
        stop(self.pid, || self.exit.borrow().is_some())
    }
}

impl Drop for Postmaster {
    fn drop(&mut self) {
        if let Err(error) = self.stop() {
            tracing::error!(%error, "the embedded Postgres is left behind");
        }
    }
}

/// A program of Postgres, to be run as the right user, in its own process group (Ctrl-C is ours to handle), with a
/// clean environment, and not beyond our own end.
pub(super) fn command(program: &Path, home: &Home) -> Command {
    let mut command = Command::new(program);
    command.env_clear().env("LC_ALL", "C").env("TZ", "UTC").current_dir(home.dir());
    command.stdin(Stdio::null()).process_group(0);
    if let Some(account) = home.account {
        command.uid(account.uid).gid(account.gid);
    }
    die_with_parent(&mut command);
    command
}

#[cfg(target_os = "linux")]
fn die_with_parent(command: &mut Command) {
    use rustix::process::{getpid, getppid, set_parent_process_death_signal};
    let parent = getpid();
    let hook = move || {
        set_parent_process_death_signal(Some(Signal::INT))?;
        // We may have died between fork and the line above; nobody would tell the child then.
        if getppid() == Some(parent) { Ok(()) } else { Err(io::ErrorKind::NotFound.into()) }
    };
    #[expect(unsafe_code, reason = "only a hook between fork and exec can set the child's death signal")]
    // SAFETY: the hook makes two system calls and neither allocates, locks nor touches shared state. The standard
    // library runs hooks after it has changed the user, which would clear the setting.
    unsafe {
        command.pre_exec(hook);
    }
}

#[cfg(not(target_os = "linux"))]
fn die_with_parent(_command: &mut Command) {}

/// postmaster.pid, as far as it is written yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct PidFile {
    pub pid: Pid,
    pub socket_dir: Option<PathBuf>,
    pub ready: bool,
}

impl PidFile {
    pub fn read(data: &Path) -> Option<Self> {
        Self::parse(&fs::read_to_string(data.join("postmaster.pid")).ok()?)
    }

    /// Lines: pid, data directory, start time, port, socket directory, address, shared memory, status.
    fn parse(text: &str) -> Option<Self> {
        let lines: Vec<&str> = text.lines().map(str::trim).collect();
        let pid = lines.first()?.parse().ok().filter(|pid| *pid > 0).and_then(Pid::from_raw)?;
        let socket_dir = lines.get(4).filter(|dir| !dir.is_empty()).map(PathBuf::from);
        Some(Self { pid, socket_dir, ready: lines.get(7) == Some(&"ready") })
    }
}

/// Clears what an earlier run left behind; the caller holds the lock, so whatever still runs has no owner. Returns
/// whether the earlier run ended uncleanly. Blocks until the old processes are gone.
pub(super) fn clear_stale(data: &Path, socket_dir: &Path) -> Result<bool, EmbeddedError> {
    if let Some(old) = PidFile::read(data) {
        // Told by the kernel to shut down when its parent was killed, it may be at it still.
        stop(old.pid, || !serves(old.pid, data))?;
    }
    remove_orphans(data);
    // Postgres would refuse to start over these when another process has got the old one's pid, or when they are
    // empty after a power cut.
    let unclean = remove(&data.join("postmaster.pid"))?;
    for name in [SOCKET_FILE, SOCKET_LOCK_FILE] {
        remove(&socket_dir.join(name))?;
    }
    Ok(unclean)
}

/// Backends of a killed postmaster notice soon, unless they are busy; the cluster can't start before they are gone.
fn remove_orphans(data: &Path) {
    let started = Instant::now();
    loop {
        let orphans = processes_serving(data);
        if orphans.is_empty() {
            return;
        }
        if started.elapsed() > ORPHAN_PATIENCE {
            for pid in orphans {
                let _ = kill_process(pid, Signal::KILL); // it may have gone by itself
            }
        }
        thread::sleep(POLL);
    }
}

/// Climbs the ladder until `gone` says so.
fn stop(pid: Pid, gone: impl Fn() -> bool) -> Result<(), EmbeddedError> {
    for (signal, patience) in STOP_LADDER {
        if gone() {
            return Ok(());
        }
        let _ = kill_process(pid, signal); // an error means that it has just gone
        let started = Instant::now();
        while started.elapsed() < patience {
            if gone() {
                return Ok(());
            }
            thread::sleep(POLL);
        }
    }
    if gone() { Ok(()) } else { Err(EmbeddedError::WouldNotStop { pid: pid.as_raw_pid() }) }
}

/// Whether that process is a Postgres at work in `data`: pids are reused, so a number alone proves nothing.
#[cfg(target_os = "linux")]
pub(super) fn serves(pid: Pid, data: &Path) -> bool {
    let proc = PathBuf::from(format!("/proc/{}", pid.as_raw_pid()));
    match fs::read_link(proc.join("cwd")) {
        Ok(cwd) => {
            cwd == data && fs::read_to_string(proc.join("comm")).is_ok_and(|name| name.contains("postgres"))
        }
        // Root without CAP_SYS_PTRACE, as in a container: the title is everybody's to read.
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            let title = fs::read(proc.join("cmdline")).unwrap_or_default();
            title_is_ours(&String::from_utf8_lossy(&title).replace('\0', " "), data)
        }
        Err(_) => false,
    }
}

#[cfg(not(target_os = "linux"))]
pub(super) fn serves(pid: Pid, data: &Path) -> bool {
    processes_serving(data).contains(&pid)
}

#[cfg(target_os = "linux")]
fn processes_serving(data: &Path) -> Vec<Pid> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| Pid::from_raw(entry.file_name().to_str()?.parse().ok()?));
    pids.filter(|pid| serves(*pid, data)).collect()
}

#[cfg(not(target_os = "linux"))]
fn processes_serving(data: &Path) -> Vec<Pid> {
    let Ok(output) = Command::new("ps").args(["-axww", "-o", "pid=,command="]).output() else {
        return Vec::new();
    };
    let text = String::from_utf8_lossy(&output.stdout);
    let processes = text.lines().filter_map(|line| line.trim_start().split_once(' '));
    let ours = processes.filter(|(_, title)| title_is_ours(title.trim_start(), data));
    ours.filter_map(|(pid, _)| Pid::from_raw(pid.parse().ok()?)).collect()
}

/// A postmaster keeps its command line, its children show the cluster's name.
fn title_is_ours(title: &str, data: &Path) -> bool {
    let program = title.split(" -D ").next().unwrap_or_default();
    let postmaster = program.ends_with("postgres") && title.contains(&format!(" -D {} ", data.display()));
    postmaster || title.starts_with(&format!("postgres: {}: ", cluster_name(data)))
}

/// Whether it was there.
fn remove(path: &Path) -> Result<bool, EmbeddedError> {
    match fs::remove_file(path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(EmbeddedError::io("remove", path)(error)),
    }
}

#[cfg(test)]
mod tests;
