use std::{
    io::{Read, Write},
    net::TcpListener,
    os::unix::fs::PermissionsExt,
    sync::Mutex,
};

use rstest::rstest;

use super::*;

/// An archive with programs that know their version and nothing else, one directory down as the releases have it.
fn fake_archive(version: &str) -> Vec<u8> {
    let temp = tempfile::tempdir().expect("a temp dir");
    let bin = temp.path().join("postgresql-x/bin");
    fs::create_dir_all(&bin).expect("directories");
    for name in ["postgres", "initdb"] {
        fs::write(bin.join(name), format!("#!/bin/sh\necho '{name} (PostgreSQL) {version}'\n"))
            .expect("written");
        fs::set_permissions(bin.join(name), fs::Permissions::from_mode(0o755)).expect("a mode");
    }
    let file = temp.path().join("archive.tar.gz");
    let status =
        Command::new("tar").arg("-czf").arg(&file).arg("-C").arg(temp.path()).arg("postgresql-x").status();
    assert!(status.expect("tar runs").success());
    fs::read(file).expect("the archive")
}

/// Answers one request, and gives the address.
fn serve_once(status: &'static str, body: Vec<u8>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("a connection");
        let _ = stream.read(&mut [0; 4096]);
        let head =
            format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", body.len());
        let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(&body));
    });
    format!("http://{address}/postgres.tar.gz")
}

fn hex_sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

async fn fetch(url: &str, sha256: &str) -> (tempfile::TempDir, Result<PathBuf, String>, Vec<Step>) {
    let temp = tempfile::tempdir().expect("a temp dir");
    fs::set_permissions(temp.path(), fs::Permissions::from_mode(0o755)).expect("a mode");
    let home = Home::prepare(temp.path(), temp.path(), &|_| {}).expect("a home");
    let download = Download::from_settings(Some(url), Some(sha256)).expect("valid").expect("settings");
    let steps = Mutex::new(Vec::new());
    let result = download.fetch(&home, &|step| steps.lock().expect("not poisoned").push(step)).await;
    (temp, result, steps.into_inner().expect("not poisoned"))
}

#[tokio::test]
async fn the_right_archive_is_unpacked_and_found_again() {
    let archive = fake_archive("18.6");
    let (temp, result, steps) = fetch(&serve_once("200 OK", archive.clone()), &hex_sha256(&archive)).await;
    let bin_dir = result.expect("fetched");
    assert_eq!(steps.last(), Some(&Step::Unpacking));
    let size = archive.len() as u64;
    assert!(
        steps.contains(&Step::Downloading { received_bytes: size, total_bytes: Some(size) }),
        "{steps:?}"
    );
    let dist = temp.path().join("postgres/dist");
    let again = binaries::find(&binaries::Search::Downloaded, &dist, None, Some(18)).expect("found");
    assert_eq!((again.bin_dir, again.major), (bin_dir.canonicalize().expect("a path"), 18));
    assert!(!dist.join(".staging").exists());
}

#[tokio::test]
async fn the_wrong_archive_is_refused_and_leaves_nothing() {
    let archive = fake_archive("18.6");
    let (temp, result, steps) = fetch(&serve_once("200 OK", archive), &"0".repeat(64)).await;
    assert!(result.expect_err("refused").contains("its SHA-256 is"));
    assert!(!steps.contains(&Step::Unpacking), "unpacked before it was checked");
    assert_eq!(fs::read_dir(temp.path().join("postgres/dist")).expect("dist").count(), 0);
}

#[tokio::test]
async fn an_error_page_is_not_an_archive() {
    let (_temp, result, _) =
        fetch(&serve_once("404 Not Found", b"gone".to_vec()), &hex_sha256(b"gone")).await;
    assert!(result.expect_err("refused").contains("404"));
}

#[tokio::test]
async fn programs_that_do_not_run_or_are_too_old_are_not_put_in_place() {
    let archive = fake_archive("13.9");
    let (temp, result, _) = fetch(&serve_once("200 OK", archive.clone()), &hex_sha256(&archive)).await;
    assert!(result.expect_err("refused").contains("is version 13"));
    assert_eq!(fs::read_dir(temp.path().join("postgres/dist")).expect("dist").count(), 0);
}

#[rstest]
#[case(Some("https://example.com/a"), None)]
#[case(None, Some("00"))]
#[case(Some("ftp://example.com/a"), Some("bb3d09f876b2383e25a8c9ce09e32d185a03656a23d074f5195542b1b1b3ca61"))]
#[case(Some("https://example.com/a"), Some("bb3d"))]
fn bad_settings_are_named(#[case] url: Option<&str>, #[case] sha256: Option<&str>) {
    let error = Download::from_settings(url, sha256).expect_err("refused").to_string();
    assert!(error.contains("POSTHASTE_POSTGRES_"), "{error}");
}

#[test]
fn the_pin_serves_its_own_major_only() {
    let Some(pinned) = Download::pinned() else { return };
    assert!(pinned.may_serve(None) && pinned.may_serve(Some(18)) && !pinned.may_serve(Some(15)));
    let own = Download::from_settings(Some("https://example.com/a"), Some(&"a".repeat(64))).expect("valid");
    assert!(own.expect("settings").may_serve(Some(15)));
}
