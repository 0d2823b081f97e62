//! `scripts/build-image`: the archive that it writes is what image tools expect, and the same each time.

#![expect(clippy::unwrap_used, reason = "a test may fail where it stands")]

#[path = "support/program.rs"]
mod program;

use program::said;
use serde_json::Value;
use std::{
    fs,
    path::Path,
    process::{Command, Output},
};

fn done(command: &mut Command) -> Output {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", said(&output));
    output
}

/// Builds for tests: the profile that builds fastest.
fn build(file: &Path) {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/build-image");
    done(Command::new(script).args(["--profile", "dev"]).arg(file));
}

/// A file of the archive.
fn content(archive: &Path, name: &str) -> Vec<u8> {
    done(Command::new("tar").arg("-xOf").arg(archive).arg(name)).stdout
}

fn json(archive: &Path, name: &str) -> Value {
    serde_json::from_slice(&content(archive, name)).unwrap()
}

/// The path of a blob, once its content is known to be what its name says.
fn blob(archive: &Path, digest: &Value) -> String {
    let digest = digest.as_str().unwrap().strip_prefix("sha256:").unwrap();
    let path = format!("blobs/sha256/{digest}");
    let hashed = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &content(archive, &path));
    let bytes: Vec<u8> = digest
        .as_bytes()
        .chunks(2)
        .map(|two| u8::from_str_radix(std::str::from_utf8(two).unwrap(), 16).unwrap())
        .collect();
    assert_eq!(hashed.as_ref(), bytes);
    path
}

#[test]
fn the_image_is_one_that_tools_take_and_the_same_each_time() {
    let folder = tempfile::tempdir().unwrap();
    let archive = folder.path().join("encapbench.tar");
    build(&archive);
    let name = format!("encapbench:{}", env!("CARGO_PKG_VERSION"));

    // An OCI image layout ...
    assert_eq!(json(&archive, "oci-layout")["imageLayoutVersion"], "1.0.0");
    let index = json(&archive, "index.json");
    let entry = &index["manifests"][0];
    assert_eq!(
        entry["annotations"]["io.containerd.image.name"],
        format!("docker.io/library/{name}")
    );
    let manifest_path = blob(&archive, &entry["digest"]);
    assert_eq!(entry["size"], content(&archive, &manifest_path).len());
    let manifest = json(&archive, &manifest_path);
    let config_path = blob(&archive, &manifest["config"]["digest"]);
    let layer_path = blob(&archive, &manifest["layers"][0]["digest"]);
    assert_eq!(
        manifest["layers"][0]["size"],
        content(&archive, &layer_path).len()
    );
    // ... that `docker load` of all versions takes.
    let docker = json(&archive, "manifest.json");
    assert_eq!(docker[0]["RepoTags"][0], name);
    assert_eq!(docker[0]["Config"], config_path);
    assert_eq!(docker[0]["Layers"][0], layer_path);

    let config = json(&archive, &config_path);
    assert_eq!(config["rootfs"]["diff_ids"][0], manifest["layers"][0]["digest"]);
    let user = config["config"]["User"].as_str().unwrap();
    let (user, group) = user.split_once(':').unwrap();
    // "restricted" pods must show by the number that they aren't root.
    assert!(user.parse::<u32>().unwrap() > 0 && group.parse::<u32>().unwrap() > 0);
    assert_eq!(config["config"]["Entrypoint"][0], "/bin/encapbench");

    let layer = folder.path().join("layer.tar");
    fs::write(&layer, content(&archive, &layer_path)).unwrap();
    let listed = done(
        Command::new("tar")
            .args(["--utc", "--full-time", "--numeric-owner", "-tvf"])
            .arg(&layer),
    );
    let listed = String::from_utf8(listed.stdout).unwrap();
    for line in listed.lines() {
        assert!(
            line.contains(" 0/0 ") && line.contains(" 1970-01-01 00:00:00 "),
            "{line}"
        );
    }
    let names: Vec<&str> = listed
        .lines()
        .map(|line| line.rsplit(' ').next().unwrap())
        .collect();
    assert_eq!(
        names,
        [
            "./",
            "bin/",
            "bin/encapbench",
            "etc/",
            "etc/group",
            "etc/passwd",
            "tmp/"
        ]
    );
    assert!(
        listed.lines().last().unwrap().starts_with("drwxrwxrwt"),
        "{listed}"
    );

    // The program in it runs by itself: with no library in sight.
    let root = folder.path().join("root");
    fs::create_dir(&root).unwrap();
    done(Command::new("tar").arg("-xf").arg(&layer).arg("-C").arg(&root));
    let program = root.join("bin/encapbench");
    let headers = done(
        Command::new("readelf")
            .args(["--wide", "--program-headers"])
            .arg(&program),
    );
    assert!(
        !String::from_utf8_lossy(&headers.stdout).contains("INTERP"),
        "it asks for a loader"
    );
    let version = done(Command::new(&program).arg("--version"));
    assert!(String::from_utf8_lossy(&version.stdout).contains(env!("CARGO_PKG_VERSION")));

    let again = folder.path().join("again.tar");
    build(&again);
    assert!(
        fs::read(&archive).unwrap() == fs::read(&again).unwrap(),
        "two builds differ"
    );
}
