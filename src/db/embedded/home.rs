//! Where the cluster lives and which user runs it.
//!
//! Postgres refuses to run as root, so root hands everything to the user `postgres`, else `nobody`; an existing
//! cluster keeps the owner it has. That user needs the x permission on every directory above the cluster. Where it
//! lacks it (root's home is 0700), a new cluster goes below [`FALLBACK_ROOT`], and the data directory remembers where.
//!
//! An ordinary user runs Postgres as itself, and needs a line in /etc/passwd: initdb wants a name.
//!
//! Never widens the permissions of a directory that it did not make itself.

use std::{
    fs::{self, DirBuilder, Permissions},
    os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt, chown, lchown},
    path::{Path, PathBuf},
};

use sha2::{Digest, Sha256};

use super::{EmbeddedError, Step};

pub(super) const FALLBACK_ROOT: &str = "/var/lib/posthaste";
/// A file in the data directory that names the cluster's directory when it is not `postgres/` beside it.
const LOCATION_FILE: &str = "postgres.location";
/// `sun_path` holds 104 bytes on macOS and 108 on Linux, the final NUL included.
const MAX_SOCKET_PATH_BYTES: usize = 103;
pub(super) const SOCKET_FILE: &str = ".s.PGSQL.5432";
/// Names tried for a short socket directory before giving up (somebody else may hold the first ones).
const SOCKET_DIR_TRIES: u32 = 8;

/// The user that Postgres runs as when we are root.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Account {
    pub uid: u32,
    pub gid: u32,
}

#[derive(Debug, Clone)]
pub(super) struct Home {
    dir: PathBuf,
    /// `None`: we are an ordinary user and run Postgres as ourselves.
    pub account: Option<Account>,
}

impl Home {
    /// Finds or makes the cluster's directory below `data_dir` (or below `fallback_root`), owned by the right user.
    pub fn prepare(
        data_dir: &Path,
        fallback_root: &Path,
        progress: &dyn Fn(Step),
    ) -> Result<Self, EmbeddedError> {
        let root = rustix::process::geteuid().is_root();
        if !data_dir.exists() {
            fs::create_dir_all(data_dir).map_err(EmbeddedError::io("create", data_dir))?;
            if root {
                // Whatever the umask: the Postgres user passes through, and sees nothing.
                fs::set_permissions(data_dir, Permissions::from_mode(0o711))
                    .map_err(EmbeddedError::io("set the mode of", data_dir))?;
            }
        }
        let data_dir = data_dir.canonicalize().map_err(EmbeddedError::io("resolve", data_dir))?;
        let local = data_dir.join("postgres");
        if !root {
            make_private_dir(&local, None)?;
            let home = Self { dir: local, account: None };
            home.check_owner()?;
            return Ok(home);
        }
        let location_file = data_dir.join(LOCATION_FILE);
        let recorded = fs::read_to_string(&location_file).ok().map(|text| PathBuf::from(text.trim_end()));
        let dir = recorded.clone().unwrap_or_else(|| local.clone());
        let owner =
            fs::metadata(dir.join("data")).ok().map(|meta| Account { uid: meta.uid(), gid: meta.gid() });
        let account = owner.filter(|owner| owner.uid != 0).unwrap_or_else(find_account);
        let dir = match (reachable(dir.parent().unwrap_or(&dir), account), owner) {
            (true, _) => dir,
            (false, Some(_)) => return Err(EmbeddedError::Unreachable { path: dir, uid: account.uid }),
            (false, None) => {
                let name = short_hash(&data_dir);
                fs::create_dir_all(fallback_root).map_err(EmbeddedError::io("create", fallback_root))?;
                fallback_root.join(name)
            }
        };
        if dir != local {
            progress(Step::Relocated { to: dir.clone() });
            if recorded.as_ref() != Some(&dir) {
                let text = format!("{}\n", dir.display());
                fs::write(&location_file, text).map_err(EmbeddedError::io("write", &location_file))?;
            }
        }
        make_private_dir(&dir, Some(account))?;
        let dir = dir.canonicalize().map_err(EmbeddedError::io("resolve", &dir))?;
        let home = Self { dir, account: Some(account) };
        if owner.is_some_and(|owner| owner.uid == 0) {
            // Restored from a backup by root, most likely.
            give_all(&home.data(), account).map_err(EmbeddedError::io("change the owner of", home.data()))?;
        }
        Ok(home)
    }

    pub fn dir(&self) -> &Path {
        &self.dir
    }
    pub fn data(&self) -> PathBuf {
        self.dir.join("data")
    }
    pub fn half_made_data(&self) -> PathBuf {
        self.dir.join("data.init")
    }
    pub fn dist(&self) -> PathBuf {
        self.dir.join("dist")
    }
    pub fn log(&self) -> PathBuf {
        self.dir.join("postgres.log")
    }
    pub fn lock(&self) -> PathBuf {
        self.dir.join("lock")
    }

    /// A directory of mode 0700 whose name is short enough for a socket in it: `socket/`, else one in the temp dir.
    /// Those who attach read its name in postmaster.pid.
    pub fn socket_dir(&self) -> Result<PathBuf, EmbeddedError> {
        let near = self.dir.join("socket");
        if fits(&near) {
            make_private_dir(&near, self.account)?;
            return Ok(near);
        }
        let temp = std::env::temp_dir();
        let usable = fits(&temp.join("posthaste-0123456789abcdef-0"))
            && self.account.is_none_or(|account| reachable(&temp, account));
        let temp = if usable { temp } else { PathBuf::from("/tmp") };
        let uid = self.account.map_or_else(|| rustix::process::geteuid().as_raw(), |account| account.uid);
        for attempt in 0..SOCKET_DIR_TRIES {
            let dir = temp.join(format!("posthaste-{}-{attempt}", short_hash(&self.dir)));
            match DirBuilder::new().mode(0o700).create(&dir) {
                Ok(()) => self.give(&dir)?,
                Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
                Err(source) => return Err(EmbeddedError::Io { action: "create", path: dir, source }),
            }
            // The temp dir is everybody's: one that exists is taken only if it is a directory, private and ours.
            let meta = fs::symlink_metadata(&dir).map_err(EmbeddedError::io("inspect", &dir))?;
            if meta.is_dir() && meta.uid() == uid && meta.mode() & 0o077 == 0 {
                return Ok(dir);
            }
        }
        let source =
            std::io::Error::other("every name for a short socket directory is taken by somebody else");
        Err(EmbeddedError::Io { action: "make a socket directory in", path: temp, source })
    }

    /// Gives a file that we made to the Postgres user, so that it also works when Posthaste later runs as that user.
    pub fn give(&self, path: &Path) -> Result<(), EmbeddedError> {
        let Some(Account { uid, gid }) = self.account else { return Ok(()) };
        chown(path, Some(uid), Some(gid)).map_err(EmbeddedError::io("change the owner of", path))
    }

    fn check_owner(&self) -> Result<(), EmbeddedError> {
        let us = rustix::process::geteuid().as_raw();
        for path in [self.dir.clone(), self.data()] {
            match fs::metadata(&path) {
                Ok(meta) if meta.uid() == us => {}
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                _ => return Err(EmbeddedError::NotOurs { path }),
            }
        }
        Ok(())
    }
}

/// Whether `account` may pass through `dir` and everything above it. By mode bits: ACLs are not looked at.
pub(super) fn reachable(dir: &Path, account: Account) -> bool {
    dir.ancestors().all(|dir| {
        fs::metadata(dir).is_ok_and(|meta| {
            let bit = match () {
                () if meta.uid() == account.uid => 0o100,
                () if meta.gid() == account.gid => 0o010,
                () => 0o001,
            };
            meta.mode() & bit != 0
        })
    })
}

fn find_account() -> Account {
    /// The traditional ids, for a machine whose /etc/passwd lacks even `nobody`.
    const NOBODY: Account = Account { uid: 65_534, gid: 65_534 };
    let passwd = fs::read_to_string("/etc/passwd").unwrap_or_default();
    account_in(&passwd, "postgres").or_else(|| account_in(&passwd, "nobody")).unwrap_or(NOBODY)
}

fn account_in(passwd: &str, name: &str) -> Option<Account> {
    let line = passwd.lines().find(|line| line.split(':').next() == Some(name))?;
    let mut fields = line.split(':').skip(2);
    // Signed, because macOS writes nobody as -2.
    let mut id = || fields.next()?.parse::<i64>().ok().map(|id| id as u32);
    let account = Account { uid: id()?, gid: id()? };
    (account.uid != 0).then_some(account)
}

fn make_private_dir(dir: &Path, account: Option<Account>) -> Result<(), EmbeddedError> {
    match DirBuilder::new().mode(0o700).create(dir) {
        Ok(()) => {}
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists && dir.is_dir() => {}
        Err(source) => return Err(EmbeddedError::Io { action: "create", path: dir.into(), source }),
    }
    let Some(Account { uid, gid }) = account else { return Ok(()) };
    chown(dir, Some(uid), Some(gid)).map_err(EmbeddedError::io("change the owner of", dir))
}

fn give_all(path: &Path, account: Account) -> std::io::Result<()> {
    lchown(path, Some(account.uid), Some(account.gid))?;
    if fs::symlink_metadata(path)?.is_dir() {
        for entry in fs::read_dir(path)? {
            give_all(&entry?.path(), account)?;
        }
    }
    Ok(())
}

fn fits(socket_dir: &Path) -> bool {
    socket_dir.join(SOCKET_FILE).as_os_str().len() <= MAX_SOCKET_PATH_BYTES
}

/// Postgres shows it in the title of every process: how one cluster's are told from another's.
pub(super) fn cluster_name(data: &Path) -> String {
    format!("posthaste-{}", short_hash(data))
}

fn short_hash(path: &Path) -> String {
    let digest = Sha256::digest(path.as_os_str().as_encoded_bytes());
    digest.iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests;
