//! Archives and directories of anybody's making become skills, or are refused; nothing is written.
#![allow(clippy::unwrap_used)]

use claudemesh_client::proto::ErrorCode;
use claudemesh_client::skills::SkillBundle;
use std::io::{Cursor, Write as _};
use std::path::Path;
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

type Writer = ZipWriter<Cursor<Vec<u8>>>;

const MAIN: &str = "---\nname: x\n---\nGo.";

fn add(writer: &mut Writer, path: &str, content: &[u8]) {
    writer.start_file(path, SimpleFileOptions::default()).unwrap();
    writer.write_all(content).unwrap();
}

/// An archive with a SKILL.md and what `fill` adds.
fn zip(fill: impl FnOnce(&mut Writer)) -> Vec<u8> {
    let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
    add(&mut writer, "SKILL.md", MAIN.as_bytes());
    fill(&mut writer);
    writer.finish().unwrap().into_inner()
}

fn read(content: &[u8]) -> Result<SkillBundle, (ErrorCode, String)> {
    let desk = tempfile::tempdir().unwrap();
    let path = desk.path().join("archive.zip");
    std::fs::write(&path, content).unwrap();
    let read = SkillBundle::read(&path).map_err(|error| (error.code(), error.to_string()));
    assert_eq!(std::fs::read_dir(desk.path()).unwrap().count(), 1, "nothing is written");
    read
}

/// The same bytes with one text in place of another of the same length, wherever it is.
fn patched(mut bytes: Vec<u8>, from: &str, to: &str) -> Vec<u8> {
    assert_eq!(from.len(), to.len());
    let mut found = 0;
    for at in 0..bytes.len() - from.len() {
        if bytes[at..].starts_with(from.as_bytes()) {
            bytes[at..at + to.len()].copy_from_slice(to.as_bytes());
            found += 1;
        }
    }
    assert!(found > 0);
    bytes
}

#[test]
fn an_archive_becomes_a_skill() {
    let bundle = read(&zip(|writer| {
        writer.add_directory("docs", SimpleFileOptions::default()).unwrap();
        add(writer, "docs/a.md", b"a");
        let stored = SimpleFileOptions::default().compression_method(CompressionMethod::Stored);
        writer.start_file("run", stored.unix_permissions(0o755)).unwrap();
        add(writer, "Thumbs.db", b"litter");
    }))
    .unwrap();
    assert_eq!(bundle.document.name.as_deref(), Some("x"));
    assert_eq!(bundle.directory.as_deref(), Some("archive"));
    let files: Vec<_> = bundle
        .files
        .iter()
        .map(|file| (file.path.as_str(), file.executable))
        .collect();
    assert_eq!(files, [("docs/a.md", false), ("run", true)]);
}

#[test]
fn paths_that_lead_elsewhere_are_refused() {
    for path in [
        "../e",
        "a/../../e",
        "/etc/e",
        "C:\\e",
        "a\\e",
        "C:e",
        "nul",
        "a/con.md",
        ".git/x",
        "a//e",
        "./e",
        "e.",
        "e ",
    ] {
        // The writer cleans some of these: they are put in afterwards.
        let placeholder = "Q".repeat(path.len());
        let hostile = patched(zip(|writer| add(writer, &placeholder, b"x")), &placeholder, path);
        let refused = read(&hostile);
        if path == ".git/x" {
            assert_eq!(refused.unwrap().files.len(), 0, "left out");
            continue;
        }
        let (code, text) = refused.expect_err(path);
        assert_eq!(code, ErrorCode::InvalidRequest, "{path}: {text}");
    }
    // Also beside the directory of the skill.
    let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
    add(&mut writer, "top/s/SKILL.md", MAIN.as_bytes());
    add(&mut writer, "QQQQQQ", b"x");
    let hostile = patched(writer.finish().unwrap().into_inner(), "QQQQQQ", "../../");
    assert!(read(&hostile).is_err());
}

#[test]
fn links_devices_and_doubles_are_refused() {
    let link = zip(|writer| {
        writer
            .add_symlink("link", "/etc/passwd", SimpleFileOptions::default())
            .unwrap()
    });
    let (_, text) = read(&link).unwrap_err();
    assert!(text.contains("symbolic link"), "{text}");
    let double = zip(|writer| {
        add(writer, "aaaa.md", b"1");
        add(writer, "bbbb.md", b"2");
    });
    let (_, text) = read(&patched(double, "bbbb.md", "aaaa.md")).unwrap_err();
    assert!(text.contains("same name"), "{text}");
    let folded = zip(|writer| {
        add(writer, "a.md", b"1");
        add(writer, "A.md", b"2");
    });
    let (_, text) = read(&folded).unwrap_err();
    assert!(text.contains("case"), "{text}");
    let both = zip(|writer| {
        add(writer, "a", b"1");
        add(writer, "a/b", b"2");
    });
    let (_, text) = read(&both).unwrap_err();
    assert!(text.contains("directory"), "{text}");
}

#[test]
fn bombs_are_cut_off() {
    // 64 MiB of zeros are 64 KiB here; a liar says that they are few.
    let zeros = vec![0; 64 * 1024 * 1024];
    let bomb = zip(|writer| add(writer, "bomb", &zeros));
    assert!(bomb.len() < 256 * 1024);
    let (code, text) = read(&bomb).unwrap_err();
    assert_eq!(code, ErrorCode::TooLarge, "{text}");
    // The size in the entry's two headers: where the signature, the name and the size are.
    let mut liar = bomb.clone();
    for (signature, name, size) in [(b"PK\x01\x02", 46, 24), (b"PK\x03\x04", 30, 22)] {
        let header = (0..bomb.len() - 50)
            .find(|at| bomb[*at..].starts_with(signature) && bomb[at + name..].starts_with(b"bomb"));
        let at = header.unwrap() + size;
        liar[at..at + 4].copy_from_slice(&1_u32.to_le_bytes());
    }
    match read(&liar) {
        // No more comes out than it says.
        Ok(bundle) => assert_eq!(bundle.files[0].content.len(), 1),
        Err((code, _)) => assert!(matches!(code, ErrorCode::InvalidRequest | ErrorCode::TooLarge)),
    }
    let many = zip(|writer| (0..200).for_each(|number| add(writer, &number.to_string(), b"x")));
    assert_eq!(read(&many).unwrap_err().0, ErrorCode::TooLarge);
    let part = vec![0; 700 * 1024];
    let large = zip(|writer| (0..7).for_each(|number| add(writer, &number.to_string(), &part)));
    assert_eq!(read(&large).unwrap_err().0, ErrorCode::TooLarge);
    let crowd = zip(|writer| {
        (0..20_001).for_each(|number| {
            writer
                .add_directory(number.to_string(), SimpleFileOptions::default())
                .unwrap()
        });
    });
    assert_eq!(read(&crowd).unwrap_err().0, ErrorCode::TooLarge);
    let mut deep = "d/".repeat(40);
    deep.push('e');
    assert!(read(&zip(|writer| add(writer, &deep, b"x"))).is_err());
}

#[test]
fn what_is_no_archive_is_refused() {
    let whole = zip(|writer| add(writer, "notes.md", &b"notes ".repeat(400)));
    for content in [
        b"".to_vec(),
        b"PK\x03\x04".to_vec(),
        vec![0xff; 100],
        whole[..whole.len() - 30].to_vec(),
    ] {
        let (code, text) = read(&content).unwrap_err();
        assert_eq!(code, ErrorCode::InvalidRequest, "{text}");
    }
    // Any byte may be another one: the skill is read, or the archive refused.
    let step = (whole.len() / 150).max(1);
    for at in (0..whole.len()).step_by(step) {
        let mut broken = whole.clone();
        broken[at] ^= 0x5a;
        if let Ok(bundle) = read(&broken) {
            assert!(bundle.files.len() <= 1);
        }
    }
}

#[cfg(unix)]
#[test]
fn directories_become_skills() {
    use std::os::unix::fs::{PermissionsExt as _, symlink};
    let desk = tempfile::tempdir().unwrap();
    let root = desk.path().join("my-skill");
    let write = |path: &str, content: &str| {
        let path = root.join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
    };
    write("SKILL.md", "Do it.");
    write("scripts/run", "x");
    write(".git/config", "x");
    std::fs::set_permissions(root.join("scripts/run"), std::fs::Permissions::from_mode(0o755)).unwrap();
    let bundle = SkillBundle::read(&root).unwrap();
    assert_eq!((bundle.directory.as_deref(), bundle.files.len()), (Some("my-skill"), 1));
    assert!(bundle.files[0].executable && bundle.files[0].path == "scripts/run");
    let alone = SkillBundle::read(&root.join("SKILL.md")).unwrap();
    assert_eq!((alone.directory.as_deref(), alone.files.len()), (Some("my-skill"), 0));
    symlink("/etc/passwd", root.join("link")).unwrap();
    let error = SkillBundle::read(&root).unwrap_err().to_string();
    assert!(error.contains("link"), "{error}");
    assert!(SkillBundle::read(desk.path()).is_err(), "no SKILL.md at its top");
    assert!(SkillBundle::read(Path::new("/no/such/place")).is_err());
}
