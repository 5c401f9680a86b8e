//! CPU and memory of the program and its Postgres, from /proc.

const TICKS_PER_S: f64 = 100.0;

pub struct Usage {
    pub program_us: f64,
    pub postgres_us: f64,
}

impl Usage {
    pub fn of(program: u32, postmaster: u32) -> Self {
        let postgres: f64 = children(postmaster).iter().map(|pid| cpu_us(*pid, false)).sum();
        Self { program_us: cpu_us(program, false), postgres_us: postgres + cpu_us(postmaster, true) }
    }
}

/// Of this process: the load and the receivers.
pub fn own_cpu_us() -> f64 {
    cpu_us(std::process::id(), false)
}

fn fields(pid: u32) -> Vec<String> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").map(|(_, rest)| rest.split(' ').map(str::to_owned).collect()).unwrap_or_default()
}

/// User and system time; of ended children too, where asked.
fn cpu_us(pid: u32, with_ended_children: bool) -> f64 {
    let fields = fields(pid);
    let places: &[usize] = if with_ended_children { &[11, 12, 13, 14] } else { &[11, 12] };
    let ticks: f64 = places.iter().filter_map(|place| fields.get(*place)?.parse::<f64>().ok()).sum();
    ticks / TICKS_PER_S * 1e6
}

fn children(parent: u32) -> Vec<u32> {
    let all = std::fs::read_dir("/proc")
        .unwrap()
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok());
    all.filter(|pid| fields(*pid).get(1).is_some_and(|ppid| *ppid == parent.to_string())).collect()
}

pub fn peak_kib(pid: u32) -> u64 {
    status_kib(pid, "VmHWM:")
}

pub fn now_kib(pid: u32) -> u64 {
    status_kib(pid, "VmRSS:")
}

fn status_kib(pid: u32, name: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}
