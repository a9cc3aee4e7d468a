//! Skills from the command line, between two people.
#![cfg(unix)]
#![allow(clippy::unwrap_used)]

mod common;

use common::{Person, Running, up};
use serde_json::json;
use std::io::Write as _;
use std::process::Stdio;

/// Kai runs the broker and owns the mesh; Ana has joined it.
fn two_people() -> (Person, Person, Running) {
    let kai = Person::new();
    let (up, ready) = up(&kai, &["--name", "kai", "--mesh-name", "Team One"]);
    let ana = Person::new();
    ana.json(&["join", ready["invite"]["url"].as_str().unwrap(), "--name", "ana"]);
    (kai, ana, up)
}

#[test]
fn skills_go_from_directory_to_directory() {
    use std::os::unix::fs::PermissionsExt as _;
    let (kai, ana, up) = two_people();
    let source = ana.home().join("review");
    std::fs::create_dir_all(source.join("scripts")).unwrap();
    let main = "---\nname: review\ndescription: \"Reviews a change\"\nallowed-tools:\n  - \"Read\"\nargument-hint: \"[issue]\"\n---\n\nReview $0.\n";
    std::fs::write(source.join("SKILL.md"), main).unwrap();
    std::fs::write(source.join("scripts/run.sh"), "#!/bin/sh\necho hi\n").unwrap();
    std::fs::set_permissions(source.join("scripts/run.sh"), std::fs::Permissions::from_mode(0o755)).unwrap();
    let shared = ana.json(&["skill", "share", source.to_str().unwrap(), "--tags", "code, team"]);
    assert_eq!(
        (
            &shared["name"],
            &shared["files"],
            &shared["version"],
            &shared["created"]
        ),
        (
            &json!("review"),
            &json!(["SKILL.md", "scripts/run.sh"]),
            &json!(1),
            &json!(true)
        )
    );
    up.wait_for("the skill", |line| line["event"] == "skill_deployed");

    let listed = kai.run(&["skill", "list", "REV"]).stdout;
    assert!(
        listed.contains("review") && listed.contains("ana") && listed.contains("+1 files"),
        "{listed}"
    );
    assert_eq!(kai.json(&["skill", "ls"])["skills"][0]["tags"], json!(["code", "team"]));
    let shown = kai.run(&["skill", "get", "review"]);
    assert!(
        shown.stdout.contains("argument-hint: \"[issue]\"") && shown.stdout.contains("Review $0."),
        "{shown:?}"
    );
    assert_eq!(
        kai.run(&["skill", "get", "review", "scripts/run.sh"]).stdout,
        "#!/bin/sh\necho hi\n"
    );
    let skills = kai.home().join(".claude/skills");
    let to = skills.to_str().unwrap();
    let got = kai.run(&["skill", "get", "review", "--output", to]);
    assert_eq!(
        (got.code, got.stdout.trim()),
        (0, skills.join("review").to_str().unwrap()),
        "{got:?}"
    );
    assert!(got.stderr.contains("read it before an agent uses it"), "{got:?}");
    let written = std::fs::read_to_string(skills.join("review/SKILL.md")).unwrap();
    assert_eq!(
        written,
        main.replace("allowed-tools", "tags: [code, team]\nallowed-tools")
    );
    let program = std::fs::metadata(skills.join("review/scripts/run.sh")).unwrap();
    assert!(program.permissions().mode() & 0o111 != 0);
    assert_eq!(kai.run(&["skill", "get", "review", "--output", to]).code, 6);
    assert_eq!(
        kai.run(&["skill", "get", "review", "--output", to, "--overwrite"]).code,
        0
    );

    // What was written can be shared as it is, by the owner also in Ana's place.
    let again = kai.json(&["skill", "share", skills.join("review").to_str().unwrap()]);
    assert_eq!((&again["version"], &again["created"]), (&json!(2), &json!(null)));
    assert_eq!(kai.json(&["info"])["skillCount"], 1);
    let mut child = ana.command(&["skill", "share", "-", "--name", "hello"]);
    let mut child = child
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(b"Say hello.").unwrap();
    assert!(child.wait_with_output().unwrap().status.success());
    kai.json(&[
        "skill",
        "share",
        source.join("SKILL.md").to_str().unwrap(),
        "--name",
        "of-kai",
    ]);
    assert_eq!(ana.run(&["skill", "remove", "of-kai"]).code, 7, "it is kai's");
    assert_eq!(kai.json(&["skill", "rm", "review"])["action"], "removed");
    let gone = ana.run(&["skill", "get", "reviev"]);
    assert_eq!(gone.code, 5);
    assert_eq!(ana.run(&["skill", "remove", "review"]).code, 5);
    let nothing = ana.run(&["skill", "share", "/no/such/place"]);
    assert_eq!(nothing.code, 3, "{nothing:?}");
    std::fs::write(source.join("SKILL.md"), "---\nname: [x]\n---\nx").unwrap();
    let broken = ana.run(&["skill", "share", source.to_str().unwrap()]);
    assert!(broken.code == 3 && broken.stderr.contains("`name`"), "{broken:?}");
}

#[test]
fn skills_are_deployed_from_archives_and_repositories() {
    let (kai, ana, _up) = two_people();
    // An archive without compression, by hand: one file that is not packed.
    let archive = ana.home().join("tidy.zip");
    let packed = std::process::Command::new("git")
        .args(["init", "--quiet", "."])
        .current_dir(ana.home())
        .status();
    assert!(packed.unwrap().success());
    std::fs::write(ana.home().join("SKILL.md"), "---\nname: tidy\n---\nTidy up.").unwrap();
    let git = |words: &[&str]| {
        let identity = [
            "-c",
            "user.name=x",
            "-c",
            "user.email=x@example.org",
            "-c",
            "commit.gpgsign=false",
        ];
        let mut command = std::process::Command::new("git");
        let status = command.args(identity).args(words).current_dir(ana.home()).status();
        assert!(status.unwrap().success(), "{words:?}");
    };
    git(&["add", "SKILL.md"]);
    git(&["commit", "--quiet", "--message", "x"]);
    git(&[
        "archive",
        "--format=zip",
        "--prefix=tidy-1.0/",
        "--output",
        archive.to_str().unwrap(),
        "HEAD",
    ]);
    let file = ana.json(&["file", "share", archive.to_str().unwrap()]);
    let deployed = kai.json(&["skill", "deploy", "--file", file["id"].as_str().unwrap()]);
    assert_eq!(
        (&deployed["name"], &deployed["files"]),
        (&json!("tidy"), &json!(["SKILL.md"]))
    );
    // The archive of this machine is as good.
    let shared = kai.json(&["skill", "share", archive.to_str().unwrap()]);
    assert_eq!(shared["version"], 2);
    for (url, part) in [
        ("http://127.0.0.1:1/x.git", "https"),
        ("https://127.0.0.1:1/x.git", "public network"),
        ("file:///etc", "https"),
        ("https://me:secret@example.org/x.git", "password"),
    ] {
        let refused = kai.run(&["skill", "deploy", "--git", url]);
        assert!(refused.code == 3 && refused.stderr.contains(part), "{refused:?}");
        assert!(!refused.stderr.contains("secret"), "{refused:?}");
    }
    let allowed = kai.run_with(
        &["skill", "deploy", "--git", "http://127.0.0.1:1/x.git"],
        &[("CLAUDEMESH_GIT_ALLOW", "private,http"), ("PATH", "/usr/bin:/bin")],
    );
    assert!(
        allowed.code == 3 && allowed.stderr.contains("git failed"),
        "{allowed:?}"
    );
    let without = kai.run_with(
        &["skill", "deploy", "--git", "http://127.0.0.1:1/x.git"],
        &[("CLAUDEMESH_GIT_ALLOW", "private,http"), ("PATH", "/nowhere")],
    );
    assert!(without.stderr.contains("install it"), "{without:?}");
    assert_eq!(kai.run(&["skill", "deploy"]).code, 3);
}
