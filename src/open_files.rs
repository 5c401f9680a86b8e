//! How many files, sockets among them, the process may open: what bounds callers and receivers together.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Asked for at start, where the hard limit allows it: more would be of no use here.
const WANTED_FILES: u64 = 65_536;
/// Where the limit can't be read, or there is none.
const FILES_IF_UNKNOWN: u64 = 1_024;

/// As many as the system lets us have, up to `WANTED_FILES`. To be called before anything is measured by [`limit`].
pub fn raise_limit() {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let wanted = maximum.map_or(WANTED_FILES, |maximum| maximum.min(WANTED_FILES));
    if current.is_some_and(|current| current < wanted)
        && let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: Some(wanted), maximum })
    {
        tracing::warn!(%error, wanted, "the limit of open files stays as it is");
    }
}

pub fn limit() -> usize {
    usize::try_from(getrlimit(Resource::Nofile).current.unwrap_or(FILES_IF_UNKNOWN)).unwrap_or(usize::MAX)
}
