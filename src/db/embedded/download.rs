//! Fetches a pinned Postgres archive into the cluster's `dist` directory when the machine has none.
//!
//! The checksum is part of the program, not fetched beside the archive: whoever can replace one could replace both.
//! An archive that does not match is deleted unopened. Does not update: a new pin comes with a new Posthaste.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use sha2::{Digest, Sha256};
use tokio::io::AsyncWriteExt;

use super::{EmbeddedError, Step, binaries, home::Home};

const PINNED_VERSION: &str = "18.6.0";
const RELEASES: &str = "https://github.com/theseus-rs/postgresql-binaries/releases/download";
/// The archives are 11 to 13 MB; a mirror may serve fatter ones.
const MAX_ARCHIVE_BYTES: u64 = 256 * 1024 * 1024;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Longest silence between two pieces of the archive.
const READ_TIMEOUT: Duration = Duration::from_secs(30);

/// Where to get Postgres and what the archive must hash to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Download {
    url: String,
    sha256: String,
}

impl Download {
    /// The pinned archive for this platform, if there is one.
    pub fn pinned() -> Option<Self> {
        let (triple, sha256) = match (std::env::consts::OS, std::env::consts::ARCH) {
            ("linux", "x86_64") => (
                "x86_64-unknown-linux-gnu",
                "bb3d09f876b2383e25a8c9ce09e32d185a03656a23d074f5195542b1b1b3ca61",
            ),
            ("linux", "aarch64") => (
                "aarch64-unknown-linux-gnu",
                "5d2b5e8be9e96bfc3d7f22090057a836ec36d5d092542d8d3b93cc145cf4ee13",
            ),
            ("macos", "aarch64") => {
                ("aarch64-apple-darwin", "a257bcdb8aa3301a13d6a5bcec48f8c9517045b7cbae71e50788b2615539e95b")
            }
            ("macos", "x86_64") => {
                ("x86_64-apple-darwin", "f8918fbe747e0d79bda58ad8f8afcf23ac384b847ff3af18856f0825ba54b031")
            }
            _ => return None,
        };
        let url = format!("{RELEASES}/{PINNED_VERSION}/postgresql-{PINNED_VERSION}-{triple}.tar.gz");
        Some(Self { url, sha256: sha256.to_owned() })
    }

    /// From POSTHASTE_POSTGRES_URL and POSTHASTE_POSTGRES_SHA256: both, or neither for the pinned archive. An address
    /// alone is refused, since nothing would vouch for its bytes.
    pub fn from_settings(url: Option<&str>, sha256: Option<&str>) -> Result<Option<Self>, EmbeddedError> {
        let bad = |what, reason: &str| EmbeddedError::DownloadSetting { what, reason: reason.to_owned() };
        let (url, sha256) = match (url, sha256) {
            (None, None) => return Ok(Self::pinned()),
            (Some(url), Some(sha256)) => (url, sha256),
            (Some(_), None) => {
                return Err(bad("POSTHASTE_POSTGRES_SHA256", "needed with POSTHASTE_POSTGRES_URL"));
            }
            (None, Some(_)) => {
                return Err(bad("POSTHASTE_POSTGRES_URL", "needed with POSTHASTE_POSTGRES_SHA256"));
            }
        };
        if !url::Url::parse(url).is_ok_and(|url| matches!(url.scheme(), "https" | "http")) {
            return Err(bad("POSTHASTE_POSTGRES_URL", "not an http or https URL"));
        }
        if sha256.len() != 64 || !sha256.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(bad("POSTHASTE_POSTGRES_SHA256", "not 64 hexadecimal digits"));
        }
        Ok(Some(Self { url: url.to_owned(), sha256: sha256.to_ascii_lowercase() }))
    }

    /// Whether this can serve a cluster of that major version. Of another archive than the pin nobody knows before.
    pub(super) fn may_serve(&self, major: Option<u32>) -> bool {
        let pinned_major = PINNED_VERSION.split('.').next().and_then(|major| major.parse().ok());
        major.is_none() || pinned_major == major || Self::pinned().as_ref() != Some(self)
    }

    /// Fetches, checks, unpacks, and puts the tree in place by one rename. `Err` is a reason for a sentence.
    pub(super) async fn fetch(
        &self,
        home: &Home,
        progress: &(dyn Fn(Step) + Send + Sync),
    ) -> Result<PathBuf, String> {
        let dist = home.dist();
        let staging = dist.join(".staging");
        let archive = staging.join("archive");
        let tree = staging.join("tree");
        let _ = fs::remove_dir_all(&staging); // of an earlier start that was cut off
        fs::create_dir_all(&tree).map_err(|error| format!("can't create {}: {error}", tree.display()))?;
        for dir in [&dist, &staging, &tree] {
            home.give(dir).map_err(|error| error.to_string())?;
        }
        let result = match self.fetch_archive(&archive, progress).await {
            Ok(()) => {
                progress(Step::Unpacking);
                let target = dist.join(format!("postgres-{}", &self.sha256[..16]));
                tokio::task::spawn_blocking(move || unpack(&archive, &tree, &target))
                    .await
                    .map_err(|error| error.to_string())
                    .flatten()
            }
            Err(reason) => Err(format!("downloading {}: {reason}", self.url)),
        };
        let _ = fs::remove_dir_all(&staging);
        result
    }

    async fn fetch_archive(
        &self,
        target: &Path,
        progress: &(dyn Fn(Step) + Send + Sync),
    ) -> Result<(), String> {
        // Our own roots as well, so that a bare container without any works.
        let roots = webpki_root_certs::TLS_SERVER_ROOT_CERTS
            .iter()
            .filter_map(|root| reqwest::Certificate::from_der(root).ok());
        let client = reqwest::Client::builder()
            .connect_timeout(CONNECT_TIMEOUT)
            .read_timeout(READ_TIMEOUT)
            .https_only(self.url.starts_with("https:"))
            .user_agent(concat!("Posthaste/", env!("CARGO_PKG_VERSION")))
            .tls_certs_merge(roots)
            .build()
            .map_err(|error| chain(&error))?;
        let response = client.get(&self.url).send().await.map_err(|error| chain(&error))?;
        let mut response = response.error_for_status().map_err(|error| chain(&error))?;
        let total_bytes = response.content_length();
        let mut file = tokio::fs::File::create(target).await.map_err(|error| error.to_string())?;
        let mut hasher = Sha256::new();
        let mut received_bytes = 0;
        while let Some(piece) = response.chunk().await.map_err(|error| chain(&error))? {
            received_bytes += piece.len() as u64;
            if received_bytes > MAX_ARCHIVE_BYTES {
                return Err(format!("larger than {MAX_ARCHIVE_BYTES} bytes"));
            }
            hasher.update(&piece);
            file.write_all(&piece).await.map_err(|error| error.to_string())?;
            progress(Step::Downloading { received_bytes, total_bytes });
        }
        file.flush().await.map_err(|error| error.to_string())?;
        let found: String = hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
        if found != self.sha256 {
            return Err(format!("its SHA-256 is {found}, not {}", self.sha256));
        }
        Ok(())
    }
}

fn unpack(archive: &Path, tree: &Path, target: &Path) -> Result<PathBuf, String> {
    let output = Command::new("tar")
        .args(["-x", "--no-same-owner", "-f"])
        .arg(archive)
        .arg("-C")
        .arg(tree)
        .output()
        .map_err(|error| format!("can't run tar: {error}"))?;
    if !output.status.success() {
        return Err(format!("tar failed: {}", String::from_utf8_lossy(&output.stderr).trim()));
    }
    // Archives hold bin/ either at their top or one directory down.
    let below = fs::read_dir(tree).map_err(|error| error.to_string())?.flatten().map(|entry| entry.path());
    let top = std::iter::once(tree.to_path_buf())
        .chain(below)
        .find(|dir| dir.join("bin/postgres").is_file() && dir.join("bin/initdb").is_file())
        .ok_or("the archive holds no bin/postgres and bin/initdb")?;
    // Runs here, before it is put in place: the archive may be for another libc or lack a library.
    binaries::inspect(&top.join("bin"), None, None)?;
    let _ = fs::remove_dir_all(target);
    fs::rename(&top, target).map_err(|error| format!("can't move it to {}: {error}", target.display()))?;
    Ok(target.join("bin"))
}

/// reqwest's own message leaves out the reason beneath it.
fn chain(error: &reqwest::Error) -> String {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests;
