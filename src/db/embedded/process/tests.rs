use super::*;

const WHOLE: &str =
    "4711\n/data/postgres/data\n1795168800\n5432\n/data/postgres/socket\n\n  1234   98765\nready   \n";

#[test]
fn a_whole_pid_file_is_read() {
    let file = PidFile::parse(WHOLE).expect("a pid file");
    assert_eq!(file.pid.as_raw_pid(), 4711);
    assert_eq!(file.socket_dir.as_deref(), Some(Path::new("/data/postgres/socket")));
    assert!(file.ready);
}

#[test]
fn no_beginning_of_a_pid_file_is_taken_for_ready() {
    let whole = WHOLE.trim_end();
    for end in 0..whole.len() {
        assert!(!PidFile::parse(&whole[..end]).is_some_and(|file| file.ready), "{:?}", &whole[..end]);
    }
}

#[test]
fn nonsense_is_no_pid_file() {
    for text in ["", "\n", "abc\n", "0\n", "-12\n/data", "99999999999999\n"] {
        assert_eq!(PidFile::parse(text), None, "{text:?}");
    }
}

/// A reused pid: the process is alive, and none of our business.
#[test]
fn a_stale_pid_file_that_names_a_living_stranger_is_cleared_and_the_stranger_left_alone() {
    let data = tempfile::tempdir().expect("a temp dir");
    let sockets = tempfile::tempdir().expect("a temp dir");
    let mut stranger =
        Command::new("cat").stdin(Stdio::piped()).current_dir(data.path()).spawn().expect("cat runs");
    let text =
        format!("{}\n{}\n1\n5432\n{}\n", stranger.id(), data.path().display(), sockets.path().display());
    fs::write(data.path().join("postmaster.pid"), text).expect("written");
    fs::write(sockets.path().join(".s.PGSQL.5432.lock"), "1\n").expect("written");

    assert!(clear_stale(data.path(), sockets.path()).expect("cleared"), "an unclean end");

    assert!(!data.path().join("postmaster.pid").exists());
    assert!(!sockets.path().join(".s.PGSQL.5432.lock").exists());
    assert_eq!(stranger.try_wait().expect("a child"), None);
    drop(stranger.stdin.take());
    assert!(stranger.wait().expect("a child").success());
}

#[test]
fn an_empty_pid_file_is_cleared() {
    let data = tempfile::tempdir().expect("a temp dir");
    fs::write(data.path().join("postmaster.pid"), "").expect("written");
    assert!(clear_stale(data.path(), data.path()).expect("cleared"), "an unclean end");
    assert!(!clear_stale(data.path(), data.path()).expect("cleared"), "nothing left");
}

#[test]
fn titles_tell_our_processes_from_others() {
    let data = Path::new("/data/postgres/data");
    let name = cluster_name(data);
    for ours in [
        "/usr/lib/postgresql/15/bin/postgres -D /data/postgres/data -c port=5432".to_owned(),
        format!("postgres: {name}: checkpointer "),
        format!("postgres: {name}: posthaste posthaste [local] SELECT"),
    ] {
        assert!(title_is_ours(&ours, data), "{ours}");
    }
    for other in [
        "",
        "/usr/lib/postgresql/15/bin/postgres -D /data/postgres/data2 -c port=5432",
        "/bin/initdb -D /data/postgres/data ",
        "vim /data/postgres/data/postgresql.conf",
        "postgres: checkpointer ",
        "postgres: posthaste-0000000000000000: checkpointer ",
    ] {
        assert!(!title_is_ours(other, data), "{other}");
    }
}
