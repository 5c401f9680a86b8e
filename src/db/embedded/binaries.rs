//! Finds the Postgres programs: those of the system first, then what was downloaded before.
//!
//! A candidate counts only if it is the real bin directory (links are followed, since Postgres finds its libraries
//! beside its own executable), holds `postgres` and `initdb`, runs, and has the version that the cluster needs.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use super::home::{Account, reachable};

/// The oldest major version that Posthaste's SQL is written for.
pub const OLDEST_MAJOR: u32 = 14;

/// Where to look for Postgres programs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Search {
    /// PATH, `pg_config`, the usual places of packages, earlier downloads; if nothing fits, download.
    System,
    /// This bin directory (POSTGRES_BIN) and nothing else.
    Only(PathBuf),
    /// Only what was downloaded into the data directory; if nothing fits, download.
    Downloaded,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Binaries {
    pub bin_dir: PathBuf,
    pub major: u32,
}

/// Packages put each version into a directory of its own: (parent, beginning of its name, where bin is in it).
const VERSIONED_PLACES: &[(&str, &str, &str)] = &[
    ("/usr/lib/postgresql", "", "bin"),
    ("/usr", "pgsql-", "bin"),
    ("/usr/libexec", "postgresql", ""),
    ("/opt/homebrew/opt", "postgresql", "bin"),
    ("/usr/local/opt", "postgresql", "bin"),
    ("/home/linuxbrew/.linuxbrew/opt", "postgresql", "bin"),
    ("/Applications/Postgres.app/Contents/Versions", "", "bin"),
];

/// The first candidate that fits, else why each one found does not. `major`: of the existing cluster.
pub(super) fn find(
    search: &Search,
    dist: &Path,
    account: Option<Account>,
    major: Option<u32>,
) -> Result<Binaries, String> {
    let mut candidates = match search {
        Search::System => system_candidates(),
        Search::Only(dir) => vec![dir.clone()],
        Search::Downloaded => Vec::new(),
    };
    if !matches!(search, Search::Only(_)) {
        candidates.extend(versions_below(dist, "", "bin"));
    }
    let mut seen = Vec::new();
    let mut refused = Vec::new();
    for dir in candidates {
        let Some(dir) = real_bin_dir(&dir) else { continue };
        if seen.contains(&dir) {
            continue;
        }
        match inspect(&dir, account, major) {
            Ok(found) => return Ok(found),
            Err(reason) => refused.push(reason),
        }
        seen.push(dir);
    }
    let looked = match search {
        Search::Only(dir) => format!("POSTGRES_BIN is {}", dir.display()),
        Search::System => "looked in PATH, pg_config and the usual places".to_owned(),
        Search::Downloaded => "looked among earlier downloads".to_owned(),
    };
    let found =
        if refused.is_empty() { "no postgres and initdb there".to_owned() } else { refused.join("; ") };
    let need = major.map_or(String::new(), |major| format!("; this data directory needs version {major}"));
    Err(format!("{looked}: {found}{need}"))
}

fn system_candidates() -> Vec<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut candidates: Vec<PathBuf> = std::env::split_paths(&path).filter(|dir| dir.is_absolute()).collect();
    if let Ok(output) = Command::new("pg_config").arg("--bindir").output() {
        candidates.push(PathBuf::from(String::from_utf8_lossy(&output.stdout).trim()));
    }
    for (parent, prefix, bin) in VERSIONED_PLACES {
        candidates.extend(versions_below(Path::new(parent), prefix, bin));
    }
    candidates
}

/// The bin directories of all versions below `parent`, newest first.
fn versions_below(parent: &Path, prefix: &str, bin: &str) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(parent) else { return Vec::new() };
    let mut names: Vec<_> = entries
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| name.starts_with(prefix) && !name.starts_with('.'))
        .collect();
    names.sort_by_key(|name| std::cmp::Reverse(first_number(name)));
    names.into_iter().map(|name| parent.join(name).join(bin)).collect()
}

fn real_bin_dir(dir: &Path) -> Option<PathBuf> {
    let real = dir.join("postgres").canonicalize().ok()?.parent()?.to_path_buf();
    real.join("initdb").is_file().then_some(real)
}

/// Why not, or the binaries.
pub(super) fn inspect(dir: &Path, account: Option<Account>, major: Option<u32>) -> Result<Binaries, String> {
    if account.is_some_and(|account| !reachable(dir, account)) {
        return Err(format!("{} is closed to the Postgres user", dir.display()));
    }
    let output = Command::new(dir.join("postgres"))
        .arg("--version")
        .env_clear()
        .output()
        .map_err(|error| format!("{} does not run: {error}", dir.join("postgres").display()))?;
    let text = String::from_utf8_lossy(if output.status.success() { &output.stdout } else { &output.stderr });
    let Some(found) = output.status.success().then(|| first_number(&text)).flatten() else {
        return Err(format!("{} does not run: {}", dir.join("postgres").display(), text.trim()));
    };
    let fits = major.map_or(found >= OLDEST_MAJOR, |major| found == major);
    if !fits {
        return Err(format!("{} is version {found}", dir.display()));
    }
    Ok(Binaries { bin_dir: dir.to_path_buf(), major: found })
}

/// The major version in `postgres (PostgreSQL) 15.13 (Debian …)`, `17devel` or `postgresql@16`.
fn first_number(text: &str) -> Option<u32> {
    let from_digit = text.trim_start_matches(|c: char| !c.is_ascii_digit());
    from_digit.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("postgres (PostgreSQL) 15.13 (Debian 15.13-0+deb12u1)", Some(15))]
    #[case("postgres (PostgreSQL) 18beta2", Some(18))]
    #[case("postgresql@16", Some(16))]
    #[case("postgresql", None)]
    fn versions_are_read(#[case] text: &str, #[case] major: Option<u32>) {
        assert_eq!(first_number(text), major);
    }

    #[test]
    fn a_directory_without_programs_is_one_clear_reason() {
        let dir = tempfile::tempdir().expect("a temp dir");
        let reason =
            find(&Search::Only(dir.path().into()), dir.path(), None, Some(15)).expect_err("nothing there");
        assert!(reason.contains("POSTGRES_BIN") && reason.contains("needs version 15"), "{reason}");
    }

    #[test]
    fn newest_version_first() {
        let dir = tempfile::tempdir().expect("a temp dir");
        for name in ["9.6", "14", "18", ".hidden"] {
            fs::create_dir(dir.path().join(name)).expect("a directory");
        }
        let names = versions_below(dir.path(), "", "bin");
        assert_eq!(names, ["18/bin", "14/bin", "9.6/bin"].map(|name| dir.path().join(name)));
    }
}
