//! Skills and their files.

use super::*;
use claudemesh_proto::limits::{MAX_SKILL_BUNDLE_BYTES, MAX_SKILL_FILE_BYTES, MAX_SKILL_FILES, MAX_SKILL_UPLOADS};
use claudemesh_proto::ops::SkillSource;

fn skill(mesh: &MeshId, member: usize, name: &str) -> NewSkill {
    NewSkill {
        name: name.to_owned(),
        description: format!("What {name} does: 100% Ärger"),
        instructions: "Do it.\n".to_owned(),
        tags: vec!["Code_x".to_owned()],
        manifest: serde_json::from_value(json!({ "model": "m", "license": "MIT" })).unwrap(),
        source: None,
        upload: None,
        by: (member_id(mesh, member), format!("member {member}")),
        at: at(1),
    }
}

async fn put(store: &Store, mesh: &MeshId, new: NewSkill) -> Result<SkillRow, StoreError> {
    let put = store.put_skill(mesh, new, 1_000, None, |_| Ok::<_, ()>(()), |_| {}).await?;
    Ok(put.unwrap())
}

fn file(path: &str, content: impl Into<Vec<u8>>) -> SkillFileContent {
    SkillFileContent {
        path: path.to_owned(),
        executable: path.ends_with(".sh"),
        content: content.into(),
    }
}

fn upload(mesh: &MeshId, id: &str, is_new: bool, ms: i64) -> SkillUpload {
    SkillUpload {
        id: id.to_owned(),
        is_new,
        member: member_id(mesh, 0),
        at: at(ms),
    }
}

async fn names(store: &Store, mesh: &MeshId, query: &str, after: &str, limit: usize) -> Vec<String> {
    let selection = SkillSelection { query, after, limit };
    let rows = store.list_skills(mesh, selection).await.unwrap();
    assert!(rows.iter().all(|row| row.instructions.is_empty()));
    rows.into_iter().map(|row| row.name).collect()
}

/// How many rows there are in the tables of files.
async fn leftovers(db: &Db) -> Vec<String> {
    db.raw("SELECT CAST((SELECT COUNT(*) FROM skill_bundle) + (SELECT COUNT(*) FROM skill_file) AS TEXT)")
        .await
}

pub async fn skills_are_replaced_found_and_removed(db: &Db) {
    let store = db.open().await;
    let (mesh, other) = (add_mesh(&store, 2).await, add_mesh(&store, 1).await);
    let first = put(&store, &mesh, skill(&mesh, 0, "review")).await.unwrap();
    assert_eq!((first.version, &first.author, first.file_count), (1, &member_id(&mesh, 0), 0));
    assert_eq!(store.skill(&mesh, "review").await.unwrap().unwrap(), first, "every column comes back");
    let mut again = skill(&mesh, 1, "review");
    again.at = at(5);
    again.manifest = None;
    let second = put(&store, &mesh, again).await.unwrap();
    assert_eq!((second.version, second.created_at, second.updated_at), (2, at(1), at(5)));
    assert_eq!((&second.author, second.updated_by.as_str()), (&member_id(&mesh, 0), "member 1"));
    assert_eq!(store.skill(&mesh, "review").await.unwrap().unwrap(), second);
    for name in ["Zebra", "a", "ab", "été"] {
        put(&store, &mesh, skill(&mesh, 0, name)).await.unwrap();
    }
    put(&store, &other, skill(&other, 0, "elsewhere")).await.unwrap();
    // By code points, on every store.
    assert_eq!(names(&store, &mesh, "", "", 9).await, ["Zebra", "a", "ab", "review", "été"]);
    assert_eq!(names(&store, &mesh, "", "a", 2).await, ["ab", "review"]);
    for (query, found) in [("ZEBRA", 1), ("ärger", 5), ("100%", 5), ("code_X", 5), ("1_0", 0), ("%%", 0), ("'; --", 0), ("!", 0)] {
        assert_eq!(names(&store, &mesh, query, "", 9).await.len(), found, "{query}");
    }
    assert_eq!((store.skill_count(&mesh).await.unwrap(), store.skill_names(&mesh).await.unwrap().len()), (5, 5));

    let refused = store
        .put_skill(&mesh, skill(&mesh, 0, "a"), 1_000, None, |known| Err(known.unwrap().version), |_| panic!("told"))
        .await;
    assert_eq!(refused.unwrap(), Err(1));
    let refused = store.remove_skill(&mesh, "a", None, |_| Err("no"), |_| panic!("told")).await.unwrap();
    assert_eq!(refused, Some(Err("no")));
    let full = store
        .put_skill(&mesh, skill(&mesh, 0, "sixth"), 5, None, |_| Ok::<_, ()>(()), |_| {})
        .await;
    assert!(matches!(full, Err(StoreError::Limit(_))), "{full:?}");
    let told = Arc::new(AtomicUsize::new(0));
    let count = told.clone();
    let then = move |row: &SkillRow| {
        assert_eq!(row.name, "a");
        count.fetch_add(1, Ordering::Relaxed);
    };
    let removed = store.remove_skill(&mesh, "a", None, |_| Ok::<_, ()>(()), then).await.unwrap();
    assert_eq!(removed.unwrap().unwrap().name, "a");
    let gone = store.remove_skill(&mesh, "a", None, |_| Ok::<_, ()>(()), |_| panic!("told")).await;
    assert_eq!(gone.unwrap(), None);
    assert_eq!(store.remove_skill(&mesh, "elsewhere", None, |_| Ok::<_, ()>(()), |_| {}).await.unwrap(), None);
    assert_eq!(told.load(Ordering::Relaxed), 1);
    store.close().await;
    let store = db.open().await;
    assert_eq!(store.skill_count(&mesh).await.unwrap(), 4, "after a restart");
    store.close().await;
}

pub async fn files_belong_to_one_version(db: &Db) {
    let store = db.open().await;
    let mesh = add_mesh(&store, 2).await;
    let bytes: Vec<u8> = (0..=255).collect();
    let added = store
        .add_skill_files(&mesh, upload(&mesh, "u1", true, 0), vec![file("b.bin", bytes.clone()), file("a/run.sh", "x")])
        .await;
    assert_eq!(added.unwrap(), (2, 257));
    let added = store.add_skill_files(&mesh, upload(&mesh, "u1", false, 0), vec![file("empty", "")]).await;
    assert_eq!(added.unwrap(), (3, 257));
    // The same file again is the same request again.
    let added = store.add_skill_files(&mesh, upload(&mesh, "u1", false, 0), vec![file("empty", "y")]).await;
    assert_eq!(added.unwrap(), (3, 258));
    for conflicting in ["EMPTY", "a", "empty/x"] {
        let refused = store
            .add_skill_files(&mesh, upload(&mesh, "u1", false, 0), vec![file("fine", "x"), file(conflicting, "")])
            .await;
        assert!(matches!(refused, Err(StoreError::Conflict(_))), "{conflicting}: {refused:?}");
    }
    // Only whoever began it goes on with it, and makes a skill of it.
    let mut foreign = upload(&mesh, "u1", false, 0);
    foreign.member = member_id(&mesh, 1);
    let refused = store.add_skill_files(&mesh, foreign, vec![file("x", "")]).await;
    assert!(matches!(refused, Err(StoreError::NotFound(_))), "{refused:?}");
    let deploy = |member: usize, upload: Option<&str>| {
        let mut new = skill(&mesh, member, "deployed");
        new.upload = upload.map(str::to_owned);
        new.source = Some(SkillSource::Zip {
            file_id: "f".to_owned(),
            path: None,
        });
        new
    };
    for (member, id) in [(1, "u1"), (0, "unknown")] {
        let refused = put(&store, &mesh, deploy(member, Some(id))).await;
        assert!(matches!(refused, Err(StoreError::NotFound(_))), "{refused:?}");
    }
    assert_eq!(store.skill(&mesh, "deployed").await.unwrap(), None);
    let row = put(&store, &mesh, deploy(0, Some("u1"))).await.unwrap();
    assert_eq!((row.file_count, row.file_bytes), (3, 258));
    assert_eq!(store.skill(&mesh, "deployed").await.unwrap().unwrap(), row);
    let listed = store.skill_files(&mesh, "u1").await.unwrap();
    let listed: Vec<_> = listed.iter().map(|file| (file.path.as_str(), file.size, file.executable)).collect();
    assert_eq!(listed, [("a/run.sh", 1, true), ("b.bin", 256, false), ("empty", 1, false)]);
    let content = store.skill_file(&mesh, "u1", "b.bin").await.unwrap().unwrap();
    assert_eq!(content.content, bytes);
    assert_eq!(store.skill_file(&mesh, "u1", "B.BIN").await.unwrap(), None);
    let between = store.skill_files_between(&mesh, "a", "z").await.unwrap();
    assert_eq!(between["u1"].len(), 3);
    // It is no upload any more.
    let refused = store.add_skill_files(&mesh, upload(&mesh, "u1", false, 0), vec![file("late", "")]).await;
    assert!(matches!(refused, Err(StoreError::NotFound(_))), "{refused:?}");
    let refused = put(&store, &mesh, deploy(0, Some("u1"))).await;
    assert!(matches!(refused, Err(StoreError::NotFound(_))), "{refused:?}");

    store
        .add_skill_files(&mesh, upload(&mesh, "u2", true, 0), vec![file("new", "1")])
        .await
        .unwrap();
    put(&store, &mesh, deploy(0, Some("u2"))).await.unwrap();
    assert!(store.skill_files(&mesh, "u1").await.unwrap().is_empty(), "those of the old version are gone");
    put(&store, &mesh, deploy(0, None)).await.unwrap();
    assert_eq!(leftovers(db).await, ["0"]);
    store
        .add_skill_files(&mesh, upload(&mesh, "u3", true, 0), vec![file("new", "1")])
        .await
        .unwrap();
    put(&store, &mesh, deploy(0, Some("u3"))).await.unwrap();
    store.remove_skill(&mesh, "deployed", None, |_| Ok::<_, ()>(()), |_| {}).await.unwrap();
    assert_eq!(leftovers(db).await, ["0"]);
    store.close().await;
}

pub async fn uploads_have_limits_and_an_end(db: &Db) {
    let store = db.open().await;
    let mesh = add_mesh(&store, 2).await;
    let many: Vec<_> = (0..=MAX_SKILL_FILES).map(|number| file(&number.to_string(), "")).collect();
    let refused = store.add_skill_files(&mesh, upload(&mesh, "many", true, 0), many).await;
    assert!(matches!(refused, Err(StoreError::Limit(_))), "{refused:?}");
    let parts = MAX_SKILL_BUNDLE_BYTES / MAX_SKILL_FILE_BYTES;
    for part in 0..=parts {
        let added = store
            .add_skill_files(
                &mesh,
                upload(&mesh, "large", part == 0, 0),
                vec![file(&part.to_string(), vec![0; MAX_SKILL_FILE_BYTES])],
            )
            .await;
        match part {
            part if part < parts => assert!(added.is_ok(), "{added:?}"),
            _ => assert!(matches!(added, Err(StoreError::Limit(_))), "{added:?}"),
        }
    }
    for number in 1..MAX_SKILL_UPLOADS {
        let id = format!("open{number}");
        store.add_skill_files(&mesh, upload(&mesh, &id, true, 1), vec![file("x", "")]).await.unwrap();
    }
    let one_more = || store.add_skill_files(&mesh, upload(&mesh, "one-more", true, 2), vec![file("x", "")]);
    let refused = one_more().await;
    assert!(matches!(refused, Err(StoreError::Limit(_))), "{refused:?}");
    let mut ben = upload(&mesh, "ben", true, 2);
    ben.member = member_id(&mesh, 1);
    store.add_skill_files(&mesh, ben, vec![file("x", "")]).await.unwrap();
    let mut deployed = skill(&mesh, 0, "kept");
    deployed.upload = Some("open1".to_owned());
    put(&store, &mesh, deployed).await.unwrap();
    one_more().await.unwrap();
    assert_eq!(store.purge_skill_uploads(at(2), 3).await.unwrap(), 3);
    assert_eq!(store.purge_skill_uploads(at(2), 100).await.unwrap(), MAX_SKILL_UPLOADS as u64 - 4);
    assert_eq!(store.purge_skill_uploads(at(2), 100).await.unwrap(), 0);
    assert_eq!(store.skill_files(&mesh, "open1").await.unwrap().len(), 1, "what is deployed stays");
    assert_eq!(store.skill_files(&mesh, "large").await.unwrap().len(), 0);
    assert_eq!(store.skill_files(&mesh, "one-more").await.unwrap().len(), 1);
    store.close().await;
}
