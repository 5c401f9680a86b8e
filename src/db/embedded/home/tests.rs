use rstest::rstest;

use super::*;

const PASSWD: &str = "root:x:0:0:root:/root:/bin/bash\n\
    nobody:*:-2:-2:Unprivileged User:/var/empty:/usr/bin/false\n\
    postgres:x:101:104:PostgreSQL administrator,,,:/var/lib/postgresql:/bin/bash\n";

#[rstest]
#[case("postgres", Some(Account { uid: 101, gid: 104 }))]
#[case("nobody", Some(Account { uid: 4_294_967_294, gid: 4_294_967_294 }))]
#[case("root", None)]
#[case("post", None)]
fn accounts_are_read_from_passwd(#[case] name: &str, #[case] account: Option<Account>) {
    assert_eq!(account_in(PASSWD, name), account);
}

#[test]
fn every_directory_above_must_let_the_account_pass() {
    let temp = tempfile::tempdir().expect("a temp dir");
    let below = temp.path().join("a/b");
    fs::create_dir_all(&below).expect("directories");
    let stranger = Account { uid: 4_000_001, gid: 4_000_001 };
    let set = |mode| fs::set_permissions(temp.path(), Permissions::from_mode(mode)).expect("a mode");
    set(0o711);
    assert!(reachable(&below, stranger));
    set(0o710);
    assert!(!reachable(&below, stranger));
    let meta = fs::metadata(temp.path()).expect("metadata");
    assert!(reachable(&below, Account { uid: meta.uid(), gid: 1 }));
}

#[test]
fn a_long_data_dir_gets_a_short_private_socket_dir_always_the_same() {
    let temp = tempfile::tempdir().expect("a temp dir");
    let dir = temp.path().join("x".repeat(90));
    let home = Home { dir, account: None };
    let first = home.socket_dir().expect("a socket dir");
    assert!(fits(&first) && !first.starts_with(temp.path()));
    assert_eq!(fs::metadata(&first).expect("metadata").mode() & 0o777, 0o700);
    assert_eq!(home.socket_dir().expect("a socket dir"), first);
    // One that is open to others is not trusted.
    fs::set_permissions(&first, Permissions::from_mode(0o755)).expect("a mode");
    let second = home.socket_dir().expect("a socket dir");
    assert_ne!(second, first);
    fs::remove_dir(first).expect("empty");
    fs::remove_dir(second).expect("empty");
}

/// Only root meets directories that its Postgres user can't pass.
#[test]
fn root_keeps_a_closed_data_dirs_cluster_elsewhere_and_remembers_it() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let temp = tempfile::tempdir().expect("a temp dir");
    fs::set_permissions(temp.path(), Permissions::from_mode(0o711)).expect("a mode");
    let (closed, fallback) = (temp.path().join("closed"), temp.path().join("fallback"));
    DirBuilder::new().mode(0o700).create(&closed).expect("a directory");
    let told = std::sync::Mutex::new(Vec::new());
    let progress = |step| told.lock().expect("not poisoned").push(step);
    let home = Home::prepare(&closed, &fallback, &progress).expect("a home");
    assert!(home.dir().starts_with(&fallback));
    assert_eq!(*told.lock().expect("not poisoned"), [Step::Relocated { to: home.dir().into() }]);
    let meta = fs::metadata(home.dir()).expect("metadata");
    assert_eq!((meta.mode() & 0o777, Some(meta.uid())), (0o700, home.account.map(|account| account.uid)));

    // Once it is there it stays there, also when the way to the usual place has opened.
    fs::set_permissions(&closed, Permissions::from_mode(0o755)).expect("a mode");
    assert_eq!(Home::prepare(&closed, &fallback, &progress).expect("a home").dir(), home.dir());

    // A cluster at the usual place that can't be reached is said so, not passed over for an empty one.
    let moved = temp.path().join("moved");
    fs::create_dir_all(moved.join("postgres/data")).expect("directories");
    fs::set_permissions(&moved, Permissions::from_mode(0o700)).expect("a mode");
    let error = Home::prepare(&moved, &fallback, &progress).expect_err("unreachable");
    assert!(matches!(error, EmbeddedError::Unreachable { .. }), "{error}");
}
