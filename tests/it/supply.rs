//! What goes into the program besides its own code: pinned images, locked crates, and no unsafe code but in one place.
//! `.ci/deny` says which crates may come in at all.

use std::{fs, path::Path};

use super::floors::sources;

/// The one file that has unsafe code; its reason stands there.
const UNSAFE: &str = "src/db/embedded/process.rs";

fn read(path: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap()
}

/// `name:12.3…`: a tag of at least two numbers. `latest`, or a release's name, is whatever it is on that day.
fn is_pinned(image: &str) -> bool {
    let tag = image.rsplit_once(':').map(|(_, tag)| tag).unwrap_or_default();
    let mut numbers = tag.split(['.', '-']).map_while(|part| part.parse::<u32>().ok());
    numbers.next().is_some() && numbers.next().is_some()
}

#[test]
fn images_are_pinned_to_a_version() {
    for loose in ["rust", "rust:latest", "debian:bookworm-slim", "postgres:17", "postgres:17-alpine"] {
        assert!(!is_pinned(loose), "{loose}");
    }
    let (docker, compose) = (read("Dockerfile"), read("docker-compose.yml"));
    let built = docker.lines().filter_map(|line| line.strip_prefix("FROM "));
    let run = compose.lines().filter_map(|line| line.trim().strip_prefix("image: "));
    let images: Vec<&str> = built.chain(run).filter_map(|line| line.split(' ').next()).collect();
    assert_eq!(images.len(), 3);
    for image in images {
        assert!(is_pinned(image), "{image}");
    }
}

#[test]
fn what_is_built_is_what_the_lock_file_says() {
    let builds = ["build", "check", "clippy", "doc", "fetch", "install", "run", "test"];
    let mut found = 0;
    for script in [".ci/run", ".ci/api", ".ci/deny", ".ci/receivers", ".ci/sqlx", "Dockerfile"] {
        let text = read(script);
        for command in text.lines().filter(|line| !line.trim_start().starts_with('#')) {
            if builds.iter().any(|build| command.contains(&format!("cargo {build}"))) {
                assert!(command.contains("--locked"), "{script}: {command}");
                found += 1;
            }
        }
    }
    assert!(found >= 8, "only {found} commands were found");
}

#[test]
fn unsafe_code_is_in_one_place_with_its_reason() {
    assert!(read("Cargo.toml").contains("\nunsafe_code = \"deny\"\n"));
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    for directory in ["src", "benches"] {
        sources(&root.join(directory), &mut files);
    }
    for file in files {
        let (text, file) = (fs::read_to_string(&file).unwrap(), file.strip_prefix(root).unwrap());
        let lifted = text.matches("(unsafe_code").count();
        let expected = usize::from(file == Path::new(UNSAFE));
        assert_eq!(lifted, expected, "{}", file.display());
        assert_eq!(text.matches("#[expect(unsafe_code, reason = ").count(), expected, "{}", file.display());
    }
}
