//! Skills. Every member reads them; its author and those who manage the mesh change and remove one. The broker stores what
//! clients bring: it opens no shared file, since those are sealed, and fetches nothing for members.

use claudemesh_crypto::{decode_base64, encode_base64, random_id};
use claudemesh_proto::frame::{ServerFrame, SkillAction, SkillChange};
use claudemesh_proto::limits::{
    MAX_ANSWER_BYTES, MAX_SKILL_FILE_BYTES, MAX_SKILL_INSTRUCTIONS_BYTES, MAX_SKILL_MANIFEST_BYTES, MAX_SKILLS,
};
use claudemesh_proto::model::{Base64, Timestamp, check_bundle_path, check_skill_name};
use claudemesh_proto::ops::{
    GetSkill, ListSkills, NewSkillFile, RemoveSkill, ShareSkill, Skill, SkillAck, SkillData, SkillDeploy,
    SkillDeployed, SkillFile, SkillFilesUploaded, SkillList, SkillOutcome, SkillSource, SkillSummary, UploadSkillFiles,
};
use claudemesh_proto::{ErrorCode, ErrorFrame, Operation, Permission};
use serde_json::json;
use url::Url;

use super::text::{clean_tags, not_blank, within_answer};
use super::{OrFrame as _, author_name};
use crate::Broker;
use crate::context::{Context, Handle};
use crate::mesh::near;
use crate::store::{NewSkill, SkillFileContent, SkillRow, SkillSelection, SkillUpload};

/// Most skills that one answer looks at.
const PAGE: usize = 200;
/// The file that holds the instructions; it is made of them and not stored.
const MAIN_FILE: &str = "SKILL.md";

/// Tells every session except the one that did it.
fn tell(cx: &Context, row: &SkillRow, action: SkillAction) {
    let change = SkillChange {
        action,
        name: row.name.clone(),
        by: author_name(cx),
        description: match action {
            SkillAction::Shared => row.description.clone(),
            SkillAction::Removed => String::new(),
        },
        version: row.version,
    };
    let state = cx.session.mesh.lock();
    let audience = state.mesh.everyone(Some(&cx.session.presence));
    state.send(&audience, &ServerFrame::SkillChange(Box::new(change)));
}

fn refused(code: ErrorCode, text: impl Into<String>, field: &str) -> ErrorFrame {
    ErrorFrame::new(code, text).at(field)
}

/// Who may change a skill that exists.
fn may_change(cx: &Context) -> impl Fn(&SkillRow) -> Result<(), ErrorFrame> + Send + 'static {
    let member = cx.session.member.clone();
    let manages = cx.session.mesh.may(&member, Permission::Manage);
    move |row| {
        if manages || row.author == member {
            return Ok(());
        }
        let text = format!(
            "{} shared the skill \"{}\": only its author and the mesh's owner and admins may change or remove it; take \
             another name for one of your own",
            row.author_name, row.name
        );
        Err(refused(ErrorCode::Forbidden, text, "/name"))
    }
}

/// Checks what a member says of a skill; `place` leads there.
fn check(request: &ShareSkill, place: &str) -> Result<(), ErrorFrame> {
    let at = |field: &str| format!("{place}/{field}");
    check_skill_name(&request.name).map_err(|error| {
        let text = format!("the name of a skill has at most 64 visible characters without / and \\: {error}");
        refused(ErrorCode::InvalidRequest, text, &at("name"))
    })?;
    not_blank(&request.description, &at("description"))?;
    not_blank(&request.instructions, &at("instructions"))?;
    let bytes = request.instructions.len();
    if bytes > MAX_SKILL_INSTRUCTIONS_BYTES {
        let text = format!(
            "the instructions have {bytes} bytes, the limit is {MAX_SKILL_INSTRUCTIONS_BYTES}; move parts of them into \
             files of the skill"
        );
        return Err(refused(ErrorCode::TooLarge, text, &at("instructions")));
    }
    let manifest = request.manifest.as_ref().map(serde_json::to_string);
    let bytes = manifest.transpose().ok().flatten().map_or(0, |manifest| manifest.len());
    if bytes > MAX_SKILL_MANIFEST_BYTES {
        let text = format!("the frontmatter has {bytes} bytes of JSON, the limit is {MAX_SKILL_MANIFEST_BYTES}");
        return Err(refused(ErrorCode::TooLarge, text, &at("manifest")));
    }
    Ok(())
}

/// Stores a skill and tells the peers.
async fn put<O: Operation>(
    cx: &Context,
    request: ShareSkill,
    source: Option<SkillSource>,
    upload: Option<String>,
) -> Result<SkillRow, ErrorFrame> {
    // Metadata only: the log is for ever, a skill is not.
    let audit = cx.audit_event::<O>(json!({ "skill": request.name, "bytes": request.instructions.len() }));
    let new = NewSkill {
        name: request.name,
        description: request.description,
        instructions: request.instructions,
        tags: clean_tags(request.tags),
        manifest: request.manifest.filter(|manifest| !manifest.is_empty()),
        source,
        upload,
        by: (cx.session.member.clone(), author_name(cx)),
        at: Timestamp::from_ms(cx.now_ms),
    };
    let may_change = may_change(cx);
    let decide = move |known: Option<&SkillRow>| known.map_or(Ok(()), &may_change);
    let told = cx.clone();
    let announce = move |row: &SkillRow| tell(&told, row, SkillAction::Shared);
    cx.broker
        .store
        .put_skill(cx.session.mesh_id(), new, MAX_SKILLS, audit, decide, announce)
        .await
        .or_frame()?
}

/// Names that are like one that does not exist.
async fn suggestions(cx: &Context, name: &str) -> Result<Vec<String>, ErrorFrame> {
    let names = cx.broker.store.skill_names(cx.session.mesh_id()).await.or_frame()?;
    Ok(near(names.iter().map(String::as_str), &name.to_lowercase()))
}

impl Handle<ShareSkill> for Broker {
    async fn handle(cx: Context, request: ShareSkill) -> Result<SkillAck, ErrorFrame> {
        check(&request, "")?;
        let row = put::<ShareSkill>(&cx, request, None, None).await?;
        Ok(SkillAck {
            name: row.name,
            action: SkillOutcome::Shared,
            version: Some(row.version),
            updated_at: Some(row.updated_at),
            created: row.version == 1,
            suggestions: Vec::new(),
        })
    }
}

impl Handle<GetSkill> for Broker {
    async fn handle(cx: Context, request: GetSkill) -> Result<SkillData, ErrorFrame> {
        let (store, mesh) = (&cx.broker.store, cx.session.mesh_id());
        let Some(row) = store.skill(mesh, &request.name).await.or_frame()? else {
            return Ok(SkillData {
                skill: None,
                suggestions: suggestions(&cx, &request.name).await?,
            });
        };
        let mut files = match &row.bundle {
            Some(bundle) => store.skill_files(mesh, bundle).await.or_frame()?,
            None => Vec::new(),
        };
        let mut left = MAX_ANSWER_BYTES as u64;
        for (number, path) in request.paths.iter().enumerate() {
            let place = format!("/paths/{number}");
            let Some(index) = files.iter().position(|file| file.path == *path) else {
                let names = near(files.iter().map(|file| file.path.as_str()), &path.to_lowercase());
                let text = format!("the skill \"{}\" has no such file; get_skill lists its files", row.name);
                return Err(refused(ErrorCode::NotFound, text, &place).suggest(names));
            };
            let size = files[index].size;
            if size > left {
                continue;
            }
            left -= size;
            let Some(bundle) = &row.bundle else { continue };
            match store.skill_file(mesh, bundle, path).await.or_frame()? {
                Some(file) => fill(&mut files[index], file),
                None => {
                    let text = "the skill was changed while it was read: ask again";
                    return Err(refused(ErrorCode::Unavailable, text, &place));
                }
            }
        }
        Ok(SkillData {
            skill: Some(Skill {
                name: row.name,
                description: row.description,
                instructions: row.instructions,
                tags: row.tags,
                author: row.author_name,
                author_id: Some(row.author),
                manifest: row.manifest,
                created_at: row.created_at,
                updated_at: Some(row.updated_at),
                updated_by: Some(row.updated_by),
                version: row.version,
                source: row.source,
                files,
            }),
            suggestions: Vec::new(),
        })
    }
}

/// Adds the content to a file: as text if JSON does not make more of it than base64 would.
fn fill(file: &mut SkillFile, stored: SkillFileContent) {
    let is_compact = |text: &str| {
        let escaped: usize = text
            .bytes()
            .map(|byte| match byte {
                b'"' | b'\\' | b'\n' | b'\r' | b'\t' | 8 | 12 => 1,
                0..0x20 => 5,
                _ => 0,
            })
            .sum();
        escaped <= text.len() / 3
    };
    match String::from_utf8(stored.content) {
        Ok(text) if is_compact(&text) => file.text = Some(text),
        Ok(text) => file.base64 = Some(Base64(encode_base64(text.as_bytes()))),
        Err(bytes) => file.base64 = Some(Base64(encode_base64(bytes.as_bytes()))),
    }
}

impl Handle<ListSkills> for Broker {
    async fn handle(cx: Context, request: ListSkills) -> Result<SkillList, ErrorFrame> {
        let (store, mesh) = (&cx.broker.store, cx.session.mesh_id());
        let selection = SkillSelection {
            query: request.query.as_deref().unwrap_or_default(),
            after: request.after.as_deref().unwrap_or_default(),
            limit: PAGE + 1,
        };
        let mut rows = store.list_skills(mesh, selection).await.or_frame()?;
        let is_cut = rows.len() > PAGE;
        rows.truncate(PAGE);
        let mut files = match (rows.first(), rows.last()) {
            (Some(first), Some(last)) if request.details => store
                .skill_files_between(mesh, &first.name, &last.name)
                .await
                .or_frame()?,
            _ => Default::default(),
        };
        let skills = rows
            .into_iter()
            .map(|row| SkillSummary {
                files: row.bundle.and_then(|bundle| files.remove(&bundle)).unwrap_or_default(),
                manifest: row.manifest.filter(|_| request.details),
                name: row.name,
                description: row.description,
                tags: row.tags,
                author: row.author_name,
                author_id: Some(row.author),
                created_at: row.created_at,
                updated_at: Some(row.updated_at),
                version: row.version,
                file_count: u32::try_from(row.file_count).unwrap_or(u32::MAX),
            })
            .collect();
        let size = |skill: &SkillSummary| serde_json::to_string(skill).map_or(0, |text| text.len());
        let (skills, cut) = within_answer(skills, size);
        Ok(SkillList {
            skills,
            more: is_cut || cut,
        })
    }
}

impl Handle<RemoveSkill> for Broker {
    async fn handle(cx: Context, request: RemoveSkill) -> Result<SkillAck, ErrorFrame> {
        let audit = cx.audit_event::<RemoveSkill>(json!({ "skill": request.name }));
        let may_change = may_change(&cx);
        let decide = move |row: &SkillRow| may_change(row);
        let told = cx.clone();
        let announce = move |row: &SkillRow| tell(&told, row, SkillAction::Removed);
        let (store, mesh) = (&cx.broker.store, cx.session.mesh_id());
        let removed = store
            .remove_skill(mesh, &request.name, audit, decide, announce)
            .await
            .or_frame()?
            .transpose()?;
        let suggestions = match removed {
            Some(_) => Vec::new(),
            None => suggestions(&cx, &request.name).await?,
        };
        Ok(SkillAck {
            name: request.name,
            action: removed
                .as_ref()
                .map_or(SkillOutcome::NotFound, |_| SkillOutcome::Removed),
            version: removed.map(|row| row.version),
            updated_at: None,
            created: false,
            suggestions,
        })
    }
}

/// Checks a file on its way into a bundle.
fn content_of(file: NewSkillFile, number: usize) -> Result<SkillFileContent, ErrorFrame> {
    let place = |field: &str| format!("/files/{number}/{field}");
    check_bundle_path(&file.path).map_err(|error| {
        let text = format!("this path cannot be in a skill: {error}");
        refused(ErrorCode::InvalidRequest, text, &place("path"))
    })?;
    if file.path.eq_ignore_ascii_case(MAIN_FILE) {
        let text = "SKILL.md is made of what skill_deploy says of the skill: upload the other files only";
        return Err(refused(ErrorCode::InvalidRequest, text, &place("path")));
    }
    let Some(content) = decode_base64(file.base64.as_str()) else {
        let text = "the content is not base64 with padding";
        return Err(refused(ErrorCode::InvalidRequest, text, &place("base64")));
    };
    if content.len() > MAX_SKILL_FILE_BYTES {
        let text = format!(
            "the file has {} bytes, the limit is {MAX_SKILL_FILE_BYTES}; share it as a file, and name it in the skill",
            content.len()
        );
        return Err(refused(ErrorCode::TooLarge, text, &place("base64")));
    }
    Ok(SkillFileContent {
        path: file.path,
        executable: file.executable,
        content,
    })
}

impl Handle<UploadSkillFiles> for Broker {
    async fn handle(cx: Context, request: UploadSkillFiles) -> Result<SkillFilesUploaded, ErrorFrame> {
        let files = request.files.into_iter().enumerate();
        let files = files
            .map(|(number, file)| content_of(file, number))
            .collect::<Result<Vec<_>, _>>()?;
        let upload = SkillUpload {
            is_new: request.upload.is_none(),
            id: request.upload.unwrap_or_else(random_id),
            member: cx.session.member.clone(),
            at: Timestamp::from_ms(cx.now_ms),
        };
        let id = upload.id.clone();
        let (count, bytes) = cx
            .broker
            .store
            .add_skill_files(cx.session.mesh_id(), upload, files)
            .await
            .or_frame()?;
        Ok(SkillFilesUploaded {
            upload: id,
            files: u32::try_from(count).unwrap_or(u32::MAX),
            bytes,
        })
    }
}

/// Checks where a skill is said to come from: everybody is shown it.
fn check_source(source: &SkillSource) -> Result<(), ErrorFrame> {
    let SkillSource::Git { url, .. } = source else {
        return Ok(());
    };
    let refused = |text: &str| Err(refused(ErrorCode::InvalidRequest, text, "/source/url"));
    let Ok(url) = Url::parse(url) else {
        return refused("the address of the repository is not a URL");
    };
    if !matches!(url.scheme(), "https" | "http") {
        return refused("the address of the repository does not begin with https://");
    }
    if !url.username().is_empty() || url.password().is_some() {
        return refused("the address of the repository holds a name or a password, which every member would see");
    }
    Ok(())
}

/// Why the broker does not open a source itself, and what to do.
fn not_served(source: &SkillSource) -> ErrorFrame {
    let text = match source {
        SkillSource::Zip { file_id, .. } => format!(
            "shared files are sealed for members, so the broker cannot open an archive: deploy it with a claudemesh \
             client, which can (`claudemesh skill deploy --file {}`)",
            file_id.chars().take(64).collect::<String>()
        ),
        SkillSource::Git { .. } => "the broker fetches nothing from other machines for members: deploy the repository \
                                    with a claudemesh client, which can (`claudemesh skill deploy --git <url>`)"
            .to_owned(),
        SkillSource::Local {} => "the request says where the files are, and not what SKILL.md says".to_owned(),
    };
    refused(ErrorCode::InvalidRequest, text, "/skill")
}

impl Handle<SkillDeploy> for Broker {
    async fn handle(cx: Context, request: SkillDeploy) -> Result<SkillDeployed, ErrorFrame> {
        let Some(skill) = request.skill else {
            return Err(not_served(&request.source));
        };
        check(&skill, "/skill")?;
        check_source(&request.source)?;
        let row = put::<SkillDeploy>(&cx, skill, Some(request.source), request.upload).await?;
        let files = match &row.bundle {
            Some(bundle) => cx
                .broker
                .store
                .skill_files(cx.session.mesh_id(), bundle)
                .await
                .or_frame()?,
            None => Vec::new(),
        };
        let others = files.into_iter().map(|file| file.path);
        Ok(SkillDeployed {
            name: row.name,
            files: [MAIN_FILE.to_owned()].into_iter().chain(others).collect(),
            version: row.version,
            updated_at: Some(row.updated_at),
            created: row.version == 1,
            bytes: row.file_bytes,
        })
    }
}
