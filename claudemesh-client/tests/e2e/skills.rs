//! Instructions that members share, with files.

use super::enrolment::{patch, permission, permissions};
use super::files::share;
use super::git_server::GitServer;
use super::kit::*;
use claudemesh_client::proto::ErrorCode;
use claudemesh_client::proto::frame::{SkillAction, SkillChange};
use claudemesh_client::proto::model::{Permissions, Role, SkillContext, SkillManifest};
use claudemesh_client::proto::ops::{
    GetSkill, ListSkills, MeshInfo, NewSkillFile, RemoveSkill, ShareSkill, SkillAck, SkillDeploy, SkillDeployed,
    SkillOutcome, SkillSource, UploadSkillFiles,
};
use claudemesh_client::proto::tools::{DeploySkillTool, GetSkillTool, ShareSkillTool};
use claudemesh_client::skills::{BundleFile, GitAccess, SkillBundle, SkillDocument, content_of};
use claudemesh_client::{ClientError, ClientEvent, EventStream, MeshClient};
use claudemesh_crypto::encode_base64;
use serde_json::json;
use std::io::{Cursor, Write as _};
use std::path::Path;
use zip::ZipWriter;
use zip::write::SimpleFileOptions;

fn skill(name: &str) -> ShareSkillTool {
    ShareSkillTool {
        name: name.to_owned(),
        description: "reviews a change".to_owned(),
        instructions: "Review $0.".to_owned(),
        tags: vec!["code".to_owned(), "CODE".to_owned()],
        ..ShareSkillTool::default()
    }
}

async fn put(client: &MeshClient, name: &str) -> Result<SkillAck, ClientError> {
    client.share_skill_tool(skill(name)).await
}

async fn remove(client: &MeshClient, name: &str) -> Result<SkillAck, ClientError> {
    let name = name.to_owned();
    client.remove_skill_tool(RemoveSkill { name }).await
}

async fn names(client: &MeshClient, query: &str) -> Vec<String> {
    let query = Some(query.to_owned());
    let request = ListSkills { query, ..ListSkills::default() };
    let list = client.request(request).await.unwrap();
    assert!(!list.more);
    list.skills.into_iter().map(|skill| skill.name).collect()
}

async fn change(events: &mut EventStream) -> SkillChange {
    event(events, "the change of a skill", |event| match event {
        ClientEvent::SkillChange(change) => Some(change),
        _ => None,
    })
    .await
}

fn bundle(name: &str, files: &[(&str, &[u8])]) -> SkillBundle {
    let files = files.iter().map(|(path, content)| BundleFile {
        path: (*path).to_owned(),
        executable: path.ends_with(".sh"),
        content: content.to_vec(),
    });
    SkillBundle {
        document: SkillDocument::parse(&format!("---\nname: {name}\ndescription: d\n---\nGo.")).unwrap(),
        directory: None,
        files: files.collect(),
    }
}

pub async fn cli_68_skills_are_shared_read_and_removed(database: Database) {
    let (mut lab, Three { ana, ben, cara }) = Lab::with_three(database).await;
    let (mut at_ana, mut at_ben) = (ana.events(), ben.events());
    let shared = ShareSkillTool {
        when_to_use: Some("before a merge".to_owned()),
        allowed_tools: Some(vec!["Read".to_owned(), "Bash(git diff *)".to_owned()]),
        model: Some("opus".to_owned()),
        effort: Some("high".to_owned()),
        context: Some(SkillContext::Fork),
        agent: Some("Explore".to_owned()),
        user_invocable: Some(false),
        disable_model_invocation: Some(true),
        argument_hint: Some("[issue]".to_owned()),
        arguments: Some(vec!["issue".to_owned()]),
        ..skill("review")
    };
    let ack = ana.share_skill_tool(shared).await.unwrap();
    assert_eq!((ack.action, ack.version, ack.created), (SkillOutcome::Shared, Some(1), true));
    let told = change(&mut at_ben).await;
    assert_eq!(
        (told.action, told.name.as_str(), told.by.as_str(), told.description.as_str(), told.version),
        (SkillAction::Shared, "review", "ana", "reviews a change", 1)
    );
    let ack = put(&ana, "Code review: 50%").await.unwrap();
    assert_eq!(ack.name, "Code review: 50%");
    assert_eq!(change(&mut at_ben).await.name, "Code review: 50%");

    let got = ben.get_skill_tool(GetSkillTool { name: "review".to_owned(), path: None }).await.unwrap().skill.unwrap();
    assert_eq!((got.instructions.as_str(), got.author.as_str(), got.version), ("Review $0.", "ana", 1));
    assert_eq!(got.author_id.as_ref(), Some(&ana.person.identity.member_id));
    assert_eq!(got.tags, ["code"]);
    let manifest = json!({
        "when_to_use": "before a merge", "allowed_tools": ["Read", "Bash(git diff *)"], "model": "opus", "effort": "high",
        "context": "fork", "agent": "Explore", "user_invocable": false, "disable_model_invocation": true,
        "argument_hint": "[issue]", "arguments": ["issue"],
    });
    assert_eq!(serde_json::to_value(got.manifest.unwrap()).unwrap(), manifest, "every field of the frontmatter");
    let plain = ben.skill("Code review: 50%", Vec::new()).await.unwrap();
    assert_eq!((plain.manifest, plain.source, plain.files.len()), (None, None, 0), "what is the default is not said");

    assert_eq!(names(&cara, "").await, ["Code review: 50%", "review"]);
    for (query, found) in [("REVIEWS A", 2), ("50%", 1), ("Code", 2), ("before", 0), ("%", 1), ("_", 0)] {
        assert_eq!(names(&cara, query).await.len(), found, "{query}");
    }
    let request = ListSkills { after: Some("Code review: 50%".to_owned()), details: true, query: None };
    let listed = cara.request(request).await.unwrap().skills.remove(0);
    assert_eq!((listed.name.as_str(), listed.author.as_str(), listed.file_count), ("review", "ana", 0));
    assert_eq!(listed.manifest.unwrap().argument_hint.as_deref(), Some("[issue]"));

    // What a member is called later does not matter, nor that the broker stops in between.
    lab.restart().await;
    let ack = within("the connection", put(&ana, "review")).await.unwrap();
    assert_eq!((ack.version, ack.created), (Some(2), false));
    assert_eq!(ben.skill("review", Vec::new()).await.unwrap().manifest, None, "replaced as a whole");
    assert_eq!(within("the connection", ana.request(MeshInfo {})).await.unwrap().skill_count, 2);
    within("the connection", names(&cara, "")).await;
    let mut at_cara = cara.events();
    let ack = remove(&ana, "review").await.unwrap();
    assert_eq!((ack.action, ack.version), (SkillOutcome::Removed, Some(2)));
    let told = change(&mut at_cara).await;
    assert_eq!((told.action, told.description.as_str()), (SkillAction::Removed, ""));
    let error = remove(&ana, "review").await.unwrap_err();
    assert_eq!((error.code(), error.suggestions()), (ErrorCode::NotFound, &["Code review: 50%".to_owned()][..]));
    let error = ben.skill("Code reviev: 50%", Vec::new()).await.unwrap_err();
    assert!(error.to_string().contains("near: Code review: 50%"), "{error}");
    // Who did it is not told of it.
    put(&ben, "of-ben").await.unwrap();
    assert_eq!(change(&mut at_ana).await.by, "ben");
    lab.finish().await;
}

pub async fn defect_022_only_authors_and_admins_change_a_skill(database: Database) {
    let (lab, Three { ana, ben, cara }) = Lab::with_three(database).await;
    let dan = lab.join(&ana, "dan").await;
    patch(&lab, &ana, &dan, permission(Role::Admin)).await.unwrap();
    put(&ben, "bens").await.unwrap();
    for refused in [put(&cara, "bens").await, remove(&cara, "bens").await] {
        let error = refused.unwrap_err();
        assert_eq!(error.code(), ErrorCode::Forbidden);
        assert!(error.to_string().contains("ben shared the skill"), "{error}");
    }
    let refused = cara.deploy_skill(bundle("bens", &[("a", b"x")]), SkillSource::Local {}).await;
    assert_eq!(code(refused), ErrorCode::Forbidden);
    assert_eq!(cara.skill("bens", Vec::new()).await.unwrap().version, 1);
    // Owner and admins may; it stays ben's.
    for (seat, name, version) in [(&ana, "ana", 2), (&dan, "dan", 3)] {
        assert_eq!(put(seat, "bens").await.unwrap().version, Some(version));
        let skill = cara.skill("bens", Vec::new()).await.unwrap();
        assert_eq!((skill.author.as_str(), skill.updated_by.as_deref()), ("ben", Some(name)));
    }
    put(&ben, "bens").await.unwrap();
    remove(&dan, "bens").await.unwrap();
    put(&cara, "bens").await.unwrap();
    assert_eq!(cara.skill("bens", Vec::new()).await.unwrap().author, "cara", "the name is free again");

    // Who may not write reads all the same.
    let reader = Permissions {
        can_write_state: Some(false),
        ..Permissions::default()
    };
    patch(&lab, &ana, &cara, permissions(reader)).await.unwrap();
    eventually("the end of the right", || async { put(&cara, "bens").await.err().map(drop) }).await;
    let upload = UploadSkillFiles {
        upload: None,
        files: vec![NewSkillFile { path: "a".to_owned(), ..NewSkillFile::default() }],
    };
    assert_eq!(code(put(&cara, "bens").await), ErrorCode::Forbidden);
    assert_eq!(code(remove(&cara, "bens").await), ErrorCode::Forbidden);
    assert_eq!(code(cara.request(upload).await), ErrorCode::Forbidden);
    assert_eq!(code(cara.deploy_skill(bundle("x", &[]), SkillSource::Local {}).await), ErrorCode::Forbidden);
    assert_eq!(names(&cara, "").await, ["bens"]);
    // Another mesh has its own.
    let eve = lab.mesh("Other", "eve").await;
    assert_eq!(names(&eve, "").await, Vec::<String>::new());
    assert_eq!(code(remove(&eve, "bens").await), ErrorCode::NotFound);
    assert_eq!(code(eve.skill("bens", Vec::new()).await), ErrorCode::NotFound);
    put(&eve, "bens").await.unwrap();
    assert_eq!(ana.skill("bens", Vec::new()).await.unwrap().author, "cara");
    lab.finish().await;
}

pub async fn skills_come_with_their_files(database: Database) {
    let (mut lab, Three { ana, ben, cara }) = Lab::with_three(database).await;
    let large = vec![7_u8; 700 * 1024];
    let text = "line \"1\"\n".repeat(2_000);
    let deployed = ana
        .deploy_skill(
            bundle("pdf", &[
                ("scripts/run.sh", b"#!/bin/sh\n"),
                ("notes.md", text.as_bytes()),
                ("assets/one.bin", &large),
                ("assets/two.bin", &large),
                ("control.txt", &[1; 3_000]),
                ("empty.txt", b""),
            ]),
            SkillSource::Local {},
        )
        .await
        .unwrap();
    let files = ["SKILL.md", "assets/one.bin", "assets/two.bin", "control.txt", "empty.txt", "notes.md", "scripts/run.sh"];
    assert_eq!((deployed.name.as_str(), deployed.version, deployed.files.clone()), ("pdf", 1, files.map(str::to_owned).to_vec()));
    assert_eq!(deployed.bytes, 2 * 700 * 1024 + text.len() as u64 + 3_000 + 10);

    lab.restart().await;
    let whole = within("the connection", ben.whole_skill("pdf")).await.unwrap();
    assert_eq!(whole.source, Some(SkillSource::Local {}));
    let content = |path: &str| {
        let file = whole.files.iter().find(|file| file.path == path).unwrap();
        assert_eq!(content_of(file).unwrap().len() as u64, file.size);
        (content_of(file).unwrap(), file.clone())
    };
    assert_eq!(content("assets/two.bin").0, large);
    assert_eq!(content("notes.md").1.text.as_deref(), Some(text.as_str()));
    assert_eq!(content("notes.md").1.mime.as_deref(), Some("text/markdown"));
    assert!(content("scripts/run.sh").1.executable && !content("notes.md").1.executable);
    assert_eq!(content("empty.txt").0, b"");
    assert!(content("control.txt").1.base64.is_some(), "as JSON text it would be six times as long");
    // A model gets texts, and the rest when it asks.
    let got = ben.get_skill_tool(GetSkillTool { name: "pdf".to_owned(), path: None }).await.unwrap().skill.unwrap();
    let along: Vec<_> = got.files.iter().filter(|file| file.text.is_some() || file.base64.is_some()).collect();
    let along: Vec<_> = along.iter().map(|file| file.path.as_str()).collect();
    assert_eq!(along, ["empty.txt", "notes.md", "scripts/run.sh"]);
    let one = GetSkillTool { name: "pdf".to_owned(), path: Some("assets/one.bin".to_owned()) };
    let file = ben.get_skill_tool(one).await.unwrap().file.unwrap();
    assert_eq!(content_of(&file).unwrap(), large);
    let none = GetSkillTool { name: "pdf".to_owned(), path: Some("notes.txt".to_owned()) };
    let error = ben.get_skill_tool(none).await.unwrap_err();
    assert_eq!((error.code(), error.suggestions()), (ErrorCode::NotFound, &["notes.md".to_owned()][..]));
    let listed = ben.all_skills().await.unwrap().remove(0);
    assert_eq!((listed.file_count, listed.files.len(), listed.files[5].text.clone()), (6, 6, None));

    // A new version has its own files; one that is shared without files has none.
    let again = ana.deploy_skill(bundle("pdf", &[("other.md", b"x")]), SkillSource::Local {}).await.unwrap();
    assert_eq!((again.version, again.created, again.files.len()), (2, false, 2));
    assert_eq!(cara.whole_skill("pdf").await.unwrap().files.len(), 1);
    put(&ana, "pdf").await.unwrap();
    assert_eq!(cara.whole_skill("pdf").await.unwrap().files.len(), 0);

    // What a client that checks nothing may not do.
    let upload = |path: &str, content: &[u8]| UploadSkillFiles {
        upload: None,
        files: vec![NewSkillFile {
            path: path.to_owned(),
            base64: encode_base64(content).into(),
            executable: false,
        }],
    };
    for path in ["../x", "/etc/passwd", "a/../../b", "C:\\x", "a\\b", "nul", "SKILL.md", "skill.MD", ".git/config", "x\u{202e}y"] {
        let (code, field) = refusal(ana.request(upload(path, b"x")).await);
        assert_eq!((code, field.as_deref()), (ErrorCode::InvalidRequest, Some("/files/0/path")), "{path}");
    }
    let (code_, field) = refusal(ana.request(upload("a", &vec![0; 768 * 1024 + 1])).await);
    assert!(matches!(code_, ErrorCode::TooLarge | ErrorCode::InvalidRequest), "{code_:?}");
    assert_eq!(field.as_deref(), Some("/files/0/base64"));
    let mut broken = upload("a", b"x");
    broken.files[0].base64 = "no base64".into();
    assert_eq!(refusal(ana.request(broken).await).1.as_deref(), Some("/files/0/base64"));
    // Nobody makes a skill of another one's upload.
    let id = ana.request(upload("a", b"x")).await.unwrap().upload;
    let share = ShareSkill {
        name: "stolen".to_owned(),
        description: "d".to_owned(),
        instructions: "i".to_owned(),
        ..ShareSkill::default()
    };
    let steal = SkillDeploy { source: SkillSource::Local {}, skill: Some(share), upload: Some(id) };
    assert_eq!(code(ben.request(steal.clone()).await), ErrorCode::NotFound);
    ana.request(steal).await.unwrap();
    lab.finish().await;
}

/// An archive with these entries.
pub fn zip(entries: &[(&str, &str)]) -> Vec<u8> {
    let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
    for (path, content) in entries {
        writer.start_file(*path, SimpleFileOptions::default().unix_permissions(0o755)).unwrap();
        writer.write_all(content.as_bytes()).unwrap();
    }
    writer.finish().unwrap().into_inner()
}

async fn shared(seat: &MeshClient, desk: &Path, name: &str, content: &[u8], to: Option<&str>) -> String {
    let path = desk.join(name);
    std::fs::write(&path, content).unwrap();
    seat.share_file(share(&path.to_string_lossy(), to)).await.unwrap().id
}

async fn deploy(seat: &MeshClient, id: &str, path: Option<&str>) -> Result<SkillDeployed, ClientError> {
    let request = DeploySkillTool {
        file_id: Some(id.to_owned()),
        path: path.map(str::to_owned),
        ..DeploySkillTool::default()
    };
    within("the deployment", seat.deploy_skill_tool(request)).await
}

pub async fn defect_044_a_sealed_archive_is_deployed(database: Database) {
    let (lab, Three { ana, ben, cara }) = Lab::with_three(database).await;
    let desk = tempfile::tempdir().unwrap();
    let main = "---\nname: review\ndescription: Reviews\nlicense: MIT\n---\nRead notes.md.";
    let archive = zip(&[
        ("review-main/SKILL.md", main),
        ("review-main/notes.md", "notes"),
        ("review-main/bin/run", "x"),
        ("__MACOSX/review-main/._SKILL.md", "litter"),
    ]);
    let id = shared(&ana, desk.path(), "review.zip", &archive, Some("ben")).await;
    // Who has the file's key makes a skill of it for everybody.
    assert_eq!(code(deploy(&cara, &id, None).await), ErrorCode::Forbidden);
    let deployed = deploy(&ben, &id, None).await.unwrap();
    assert_eq!((deployed.name.as_str(), deployed.files), ("review", ["SKILL.md", "bin/run", "notes.md"].map(str::to_owned).to_vec()));
    let got = cara.whole_skill("review").await.unwrap();
    assert_eq!((got.author.as_str(), got.instructions.as_str()), ("ben", "Read notes.md."));
    assert_eq!(got.source, Some(SkillSource::Zip { file_id: id.clone(), path: None }));
    assert_eq!(got.manifest.unwrap().other["license"], "MIT");
    assert_eq!(got.files[1].text.as_deref(), Some("notes"));

    let several = zip(&[("README.md", "x"), ("skills/a/SKILL.md", "Do a."), ("skills/b/SKILL.md", "Do b."), ("skills/b/x", "x")]);
    let id = shared(&ana, desk.path(), "several.zip", &several, None).await;
    let error = deploy(&ana, &id, None).await.unwrap_err();
    assert!(error.to_string().contains("\"skills/a\", \"skills/b\""), "{error}");
    let deployed = deploy(&ana, &id, Some("skills/b")).await.unwrap();
    assert_eq!((deployed.name.as_str(), deployed.files.len()), ("b", 2), "named after its directory");
    let error = deploy(&ana, &id, Some("../b")).await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::InvalidRequest);
    // What is no archive, or a hostile one, leaves nothing behind.
    for content in [b"no archive".to_vec(), zip(&[("SKILL.md", "x"), ("../evil", "x")]), zip(&[("a", "x")])] {
        let id = shared(&ana, desk.path(), "bad.zip", &content, None).await;
        let error = deploy(&ana, &id, None).await.unwrap_err();
        assert!(matches!(error.code(), ErrorCode::InvalidRequest | ErrorCode::NotFound), "{error}");
    }
    assert_eq!(names(&ana, "").await, ["b", "review"]);
    assert_eq!(code(deploy(&ana, "unknown", None).await), ErrorCode::NotFound);
    for request in [
        DeploySkillTool::default(),
        DeploySkillTool { file_id: Some(id.clone()), git_url: Some("https://h/x".to_owned()), ..DeploySkillTool::default() },
        DeploySkillTool { file_id: Some(id), git_branch: Some("main".to_owned()), ..DeploySkillTool::default() },
    ] {
        assert!(matches!(ana.deploy_skill_tool(request).await, Err(ClientError::InvalidArgument { .. })));
    }
    lab.finish().await;
}

pub async fn defect_044_a_repository_is_deployed(database: Database) {
    let (lab, Three { ana, ben, .. }) = Lab::with_three(database).await;
    let server = GitServer::start().await;
    server.write("SKILL.md", "---\ndescription: Reviews\n---\nRun scripts/run.sh.");
    server.write("scripts/run.sh", "#!/bin/sh\n");
    server.write("sub/dir/SKILL.md", "Another.");
    // Nothing of a repository is run, whatever it asks for.
    server.write(".gitattributes", "*.sh filter=evil diff=evil\n* ident\n");
    server.write(".gitmodules", "[submodule \"x\"]\n\tpath = x\n\turl = ext::sh -c 'touch /tmp/claudemesh-evil'\n");
    let first = server.commit();
    server.git(&["branch", "v1"]);
    server.write("new.md", "new");
    let second = server.commit();
    let open = GitAccess::of_words("private, http");
    let client = ana.person.builder().observer(true).git_access(open).connect().await.unwrap();
    let request = |url: String, branch: Option<&str>, path: Option<&str>| DeploySkillTool {
        git_url: Some(url),
        git_branch: branch.map(str::to_owned),
        path: path.map(str::to_owned),
        ..DeploySkillTool::default()
    };
    let deployed = client.deploy_skill_tool(request(server.url("review"), None, None)).await.unwrap();
    assert_eq!(deployed.name, "review", "named after the repository");
    assert_eq!(deployed.files, ["SKILL.md", ".gitattributes", ".gitmodules", "new.md", "scripts/run.sh", "sub/dir/SKILL.md"]);
    let skill = ben.skill("review", Vec::new()).await.unwrap();
    assert_eq!(
        skill.source,
        Some(SkillSource::Git { url: server.url("review"), branch: None, commit: Some(second), path: None })
    );
    let deployed = client.deploy_skill_tool(request(server.url("review"), Some("v1"), None)).await.unwrap();
    assert_eq!((deployed.version, deployed.files.len()), (2, 5), "a branch");
    let Some(SkillSource::Git { commit, .. }) = ben.skill("review", Vec::new()).await.unwrap().source else { panic!() };
    assert_eq!(commit, Some(first));
    let deployed = client.deploy_skill_tool(request(server.url("x"), None, Some("sub/dir"))).await.unwrap();
    assert_eq!((deployed.name.as_str(), deployed.files.len()), ("dir", 1), "a directory");

    std::os::unix::fs::symlink("/etc/passwd", server.path("link")).unwrap();
    server.commit();
    for (url, branch, path, part) in [
        (server.url("review"), None, None, "symbolic link"),
        (server.url("review"), Some("no-such-branch"), None, "git failed"),
        (server.url("review"), Some("--upload-pack=touch /tmp/x"), None, "branch"),
        (server.url("review"), None, Some("nowhere"), "git failed"),
        (server.url("review"), None, Some("../.."), "path"),
        (server.url("elsewhere"), None, None, "git failed"),
    ] {
        let error = client.deploy_skill_tool(request(url, branch, path)).await.unwrap_err();
        assert!(error.to_string().contains(part), "{part}: {error}");
    }
    // Without leave, nothing but public hosts over HTTPS.
    for (access, part) in [("", "http"), ("http", "public network"), ("private", "http")] {
        let builder = ana.person.builder().observer(true).git_access(GitAccess::of_words(access));
        let careful = builder.connect().await.unwrap();
        let error = careful.deploy_skill_tool(request(server.url("review"), None, None)).await.unwrap_err();
        assert!(error.to_string().contains(part), "{access}: {error}");
        assert_eq!(error.code(), ErrorCode::InvalidRequest);
    }
    assert_eq!(names(&ana, "").await, ["dir", "review"]);
    lab.finish().await;
}

pub async fn limits_of_skills_are_told(database: Database) {
    let (lab, Three { ana, .. }) = Lab::with_three(database).await;
    type Change = fn(&mut ShareSkill);
    let share = |change: Change| {
        let mut request = ShareSkill {
            name: "x".to_owned(),
            description: "d".to_owned(),
            instructions: "i".to_owned(),
            ..ShareSkill::default()
        };
        change(&mut request);
        request
    };
    let cases: [(Change, ErrorCode, &str); 10] = [
        (|skill| skill.name = "a/b".to_owned(), ErrorCode::InvalidRequest, "/name"),
        (|skill| skill.name = "..".to_owned(), ErrorCode::InvalidRequest, "/name"),
        (|skill| skill.name = " a".to_owned(), ErrorCode::InvalidRequest, "/name"),
        (|skill| skill.name = "a\u{202e}b".to_owned(), ErrorCode::InvalidRequest, "/name"),
        (|skill| skill.name = "a".repeat(65), ErrorCode::InvalidRequest, "/name"),
        (|skill| skill.description = " \n".to_owned(), ErrorCode::InvalidRequest, "/description"),
        (|skill| skill.instructions = "\t".to_owned(), ErrorCode::InvalidRequest, "/instructions"),
        (|skill| skill.instructions = "é".repeat(128 * 1024 - 1), ErrorCode::TooLarge, "/instructions"),
        (|skill| skill.tags = vec![String::new()], ErrorCode::InvalidRequest, "/tags/0"),
        (
            |skill| {
                let other = [("x".to_owned(), json!("x".repeat(16 * 1024)))].into_iter().collect();
                skill.manifest = Some(SkillManifest { other, ..SkillManifest::default() });
            },
            ErrorCode::TooLarge,
            "/manifest",
        ),
    ];
    for (change, code, field) in cases {
        assert_eq!(refusal(ana.request(share(change)).await), (code, Some(field.to_owned())));
    }
    for (url, part) in [
        ("https://me:secret@host/x", "password"),
        ("file:///etc", "https"),
        ("nothing", "URL"),
    ] {
        let source = SkillSource::Git { url: url.to_owned(), branch: None, commit: None, path: None };
        let deploy = SkillDeploy { source, skill: Some(share(|_| {})), upload: None };
        let error = ana.request(deploy).await.unwrap_err();
        assert!(error.to_string().contains(part) && !error.to_string().contains("secret"), "{error}");
    }
    let request = GetSkill { name: "x".to_owned(), paths: vec!["a".to_owned(); 129] };
    assert_eq!(refusal(ana.request(request).await).0, ErrorCode::InvalidRequest);
    assert_eq!(names(&ana, "").await, Vec::<String>::new());
    // Long lists come in pages.
    for number in 0..75 {
        let mut request = share(|skill| {
            let other = [("x".to_owned(), json!("x".repeat(16_000)))].into_iter().collect();
            skill.manifest = Some(SkillManifest { other, ..SkillManifest::default() });
        });
        request.name = format!("s{number:03}");
        within("a skill", ana.request(request)).await.unwrap();
    }
    let first = ana.request(ListSkills { details: true, ..ListSkills::default() }).await.unwrap();
    assert!(first.more && first.skills.len() < 70, "{}", first.skills.len());
    assert!(!ana.request(ListSkills::default()).await.unwrap().more, "without details they fit");
    let all: Vec<_> = ana.all_skills().await.unwrap().into_iter().map(|skill| skill.name).collect();
    assert_eq!(all, (0..75).map(|number| format!("s{number:03}")).collect::<Vec<_>>());
    lab.finish().await;
}

pub async fn original_clients_use_skills_as_before(database: Database) {
    let (lab, Three { ana, .. }) = Lab::with_three(database).await;
    let otto = lab.join_offline(&ana, "otto").await;
    let (mut socket, _) = Socket::v1(&lab, &otto, None).await;
    let share = json!({
        "type": "share_skill", "name": "review", "description": "d", "instructions": "i", "tags": ["t"],
        "manifest": { "when_to_use": "w", "allowed_tools": ["Read"], "user_invocable": false, "description": "d" },
    });
    socket.send(&share).await;
    let ack = socket.next_of("skill_ack").await;
    assert_eq!((&ack["name"], &ack["action"]), (&json!("review"), &json!("shared")));
    socket.send(&json!({ "type": "get_skill", "name": "review" })).await;
    let skill = socket.next_of("skill_data").await["skill"].clone();
    assert_eq!(
        (&skill["name"], &skill["description"], &skill["instructions"], &skill["tags"], &skill["author"]),
        (&json!("review"), &json!("d"), &json!("i"), &json!(["t"]), &json!("otto"))
    );
    assert_eq!(skill["manifest"], share["manifest"]);
    assert!(skill["createdAt"].as_str().unwrap().ends_with('Z'));
    socket.send(&json!({ "type": "share_skill", "name": "plain", "description": "d", "instructions": "i" })).await;
    socket.next_of("skill_ack").await;
    socket.send(&json!({ "type": "get_skill", "name": "plain" })).await;
    assert_eq!(socket.next_of("skill_data").await["skill"]["manifest"], json!(null));
    socket.send(&json!({ "type": "get_skill", "name": "none" })).await;
    assert_eq!(socket.next_of("skill_data").await["skill"], json!(null));
    socket.send(&json!({ "type": "list_skills", "query": "REV" })).await;
    let list = socket.next_of("skill_list").await["skills"].clone();
    assert_eq!((list.as_array().unwrap().len(), &list[0]["name"], &list[0]["author"]), (1, &json!("review"), &json!("otto")));
    socket.send(&json!({ "type": "remove_skill", "name": "review" })).await;
    assert_eq!(socket.next_of("skill_ack").await["action"], "removed");
    socket.send(&json!({ "type": "remove_skill", "name": "review" })).await;
    assert_eq!(socket.next_of("skill_ack").await["action"], "not_found");
    // What the broker cannot do it says, and what to do instead.
    for (source, part) in [
        (json!({ "type": "zip", "file_id": "f1" }), "skill deploy --file f1"),
        (json!({ "type": "git", "url": "https://h/x", "branch": "main" }), "skill deploy --git"),
    ] {
        socket.send(&json!({ "type": "skill_deploy", "source": source })).await;
        let error = socket.next_of("error").await;
        assert_eq!((&error["code"], &error["field"]), (&json!("invalid_request"), &json!("/skill")));
        assert!(error["message"].as_str().unwrap().contains(part), "{error}");
    }
    lab.finish().await;
}
