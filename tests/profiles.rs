//! The profiles in tuning/profiles, checked as far as they can be without the engines they are for.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use harness::client::{Client, EPHEMERAL, four_letter_word};
use harness::server::Setup;
use tempfile::TempDir;

const SERVER: &str = env!("CARGO_BIN_EXE_ringkeeper");

fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// A program that runs the server under a seccomp profile, as an engine would.
fn confined(folder: &Path, profile: &Path) -> PathBuf {
    let program = folder.join("confined");
    let confine = repository("tests/clients/confine.py");
    let (confine, profile) = (confine.display(), profile.display());
    let script = format!("#!/bin/sh\nexec python3 '{confine}' '{profile}' '{SERVER}' \"$@\"\n");
    fs::write(&program, script).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    program
}

#[test]
fn the_server_does_all_its_work_under_the_seccomp_profile() {
    let folder = TempDir::new().unwrap();
    let program = confined(folder.path(), &repository("tuning/profiles/seccomp.json"));
    let setup = Setup::of_program(program.clone(), &folder.path().join("data"), folder.path())
        .with("snapCount=50")
        .with("autopurge.purgeInterval=1")
        .with("ringkeeper.segmentSizeKb=1024");
    for life in 0..3 {
        let server = setup.start();
        let mut client = Client::connect(setup.address(), 5_000).expect("a session");
        client.create(&format!("/life-{life}"), b"", 0).expect("a znode");
        client.create(&format!("/life-{life}/mine"), b"", EPHEMERAL).expect("an ephemeral");
        for _ in 0..200 {
            client.set(&format!("/life-{life}"), &[life; 2000]).expect("a write");
        }
        let children = client.children("/").expect("a read").expect("the root");
        assert_eq!(children.len(), usize::from(life) + 2, "{children:?}");
        for word in ["srvr", "cons", "dump", "mntr", "wchs", "dirs", "envi"] {
            let answer = four_letter_word(setup.address(), word, Duration::from_secs(5));
            assert!(!answer.expect("an answer").is_empty(), "{word}");
        }
        let listed = Command::new(&program)
            .args(["shell", "-server", &setup.address().to_string(), "ls", "/"])
            .output()
            .expect("the shell runs");
        assert!(listed.status.success(), "{listed:?}");
        match life {
            0 => server.kill(),
            _ => assert!(server.terminate().0.success()),
        }
    }
}

#[test]
fn without_the_profile_of_ours_the_server_says_what_is_forbidden() {
    let folder = TempDir::new().unwrap();
    let ours = fs::read_to_string(repository("tuning/profiles/seccomp.json")).unwrap();
    let theirs = folder.path().join("engine.json");
    assert!(ours.contains("\"io_uring_setup\""));
    fs::write(&theirs, ours.replace("\"io_uring_setup\"", "\"getcwd\"")).unwrap();
    let program = confined(folder.path(), &theirs);
    let setup = Setup::of_program(program, &folder.path().join("data"), folder.path());
    let (status, output) = setup.launch().wait_for_end(Duration::from_secs(30));
    assert!(!status.success());
    assert!(output.contains("io_uring"), "{output}");
}

#[test]
fn systemd_takes_the_unit() {
    // Not every machine that builds has systemd; its own checker is the only one worth asking.
    if Command::new("systemd-analyze").arg("--version").output().is_err() {
        eprintln!("systemd-analyze is missing: the unit was not checked");
        return;
    }
    let folder = TempDir::new().unwrap();
    let unit = fs::read_to_string(repository("tuning/profiles/ringkeeper.service")).unwrap();
    assert!(unit.contains("ExecStart=/usr/local/bin/ringkeeper server"));
    let copy = folder.path().join("ringkeeper.service");
    fs::write(&copy, unit.replace("/usr/local/bin/ringkeeper", SERVER)).unwrap();
    let verified = Command::new("systemd-analyze").arg("verify").arg(&copy).output().unwrap();
    let said = String::from_utf8(verified.stderr).unwrap();
    assert!(verified.status.success() && said.trim().is_empty(), "{said}");
}

#[test]
fn the_profiles_fit_each_other() {
    let read = |name: &str| fs::read_to_string(repository("tuning/profiles").join(name)).unwrap();
    let (cfg, docker, kubernetes) = (read("zoo.cfg"), read("Dockerfile"), read("kubernetes.yaml"));
    assert!(cfg.contains("dataDir=/data\n") && cfg.contains("clientPort=2181\n"));
    assert!(docker.contains("VOLUME /data") && docker.contains("COPY tuning/profiles/zoo.cfg"));
    assert!(docker.contains("USER 2181") && kubernetes.contains("runAsUser: 2181"));
    assert!(kubernetes.contains("mountPath: /data") && kubernetes.contains("containerPort: 2181"));
    assert!(kubernetes.contains("localhostProfile: ringkeeper.json"));
    // The image's configuration is one that the server takes.
    let folder = TempDir::new().unwrap();
    let lines: Vec<_> = cfg.lines().filter(|line| !line.starts_with("clientPort=")).collect();
    let data = folder.path().join("data");
    let mut setup = Setup::of_program(SERVER.into(), &data, folder.path());
    for line in lines.iter().filter(|line| !line.starts_with('#') && !line.contains("dataDir")) {
        setup = setup.with(line);
    }
    assert!(setup.start().terminate().0.success());
}
