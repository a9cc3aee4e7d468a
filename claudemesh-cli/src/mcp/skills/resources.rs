//! Skills and their files as resources.

use super::{ROOT, Skills, address, first, place, refusal, skill};
use crate::mcp::render::{break_reminders, quote};
use crate::mcp::session::Joined;
use claudemesh_client::skills::{SkillDocument, mime_of};
use rmcp::ErrorData;
use rmcp::model::{ListResourcesResult, ReadResourceResult, Resource, ResourceContents, ResourceTemplate};

const MARKDOWN: &str = "text/markdown";
/// Most resources in one answer.
const PAGE: usize = 500;

impl Skills {
    /// A page of the skills, each followed by its files.
    pub(crate) async fn resources(
        &self,
        joined: &Joined,
        cursor: Option<String>,
    ) -> Result<ListResourcesResult, ErrorData> {
        let start: usize = match cursor {
            None => 0,
            Some(cursor) => cursor
                .parse()
                .map_err(|_| ErrorData::invalid_params("This cursor is not one of an earlier answer.", None))?,
        };
        let mut all = Vec::new();
        for skill in self.list(joined).await {
            let description = quote(&skill.description);
            let main = Resource::new(address(&skill.name, None), skill.name.clone());
            all.push(main.with_description(description).with_mime_type(MARKDOWN));
            for file in &skill.files {
                let uri = address(&skill.name, Some(&file.path));
                let file_resource = Resource::new(uri, format!("{}/{}", skill.name, file.path));
                all.push(file_resource.with_mime_type(mime_of(&file.path)).with_size(file.size));
            }
        }
        let more = all.len() > start.saturating_add(PAGE);
        let page = all.into_iter().skip(start).take(PAGE).collect();
        let mut result = ListResourcesResult::with_all_items(page);
        result.next_cursor = more.then(|| (start + PAGE).to_string());
        Ok(result)
    }

    /// The form of addresses.
    pub(crate) fn templates() -> Vec<ResourceTemplate> {
        let skill = ResourceTemplate::new(format!("{ROOT}{{name}}"), "skill");
        let file = ResourceTemplate::new(format!("{ROOT}{{name}}/{{+path}}"), "file of a skill");
        vec![
            skill
                .with_description("A skill of the mesh: its SKILL.md.")
                .with_mime_type(MARKDOWN),
            file.with_description("A file that comes with a skill of the mesh."),
        ]
    }

    /// What is at an address.
    pub(crate) async fn read(&self, joined: &Joined, uri: &str) -> Result<ReadResourceResult, ErrorData> {
        let Some((name, path)) = place(uri) else {
            let text = format!("There is no such resource: addresses are {ROOT}<name> and {ROOT}<name>/<path>.");
            return Err(ErrorData::resource_not_found(text, None));
        };
        let missing = |error: ErrorData| match error.code {
            rmcp::model::ErrorCode::INVALID_PARAMS => ErrorData::resource_not_found(error.message, None),
            _ => error,
        };
        let Some(path) = path else {
            let skill = skill(joined, &name).await.map_err(missing)?;
            let text = break_reminders(&SkillDocument::render(&skill));
            let content = ResourceContents::text(text, uri).with_mime_type(MARKDOWN);
            return Ok(ReadResourceResult::new(vec![content]));
        };
        let Some(client) = first(joined) else {
            return Err(ErrorData::resource_not_found(crate::mcp::problem::NO_MESH, None));
        };
        let file = client.skill_file(&name, &path).await;
        let file = file.map_err(|error| missing(refusal(&error)))?;
        let content = match (file.text, file.base64) {
            (Some(text), _) => ResourceContents::text(break_reminders(&text), uri),
            (None, bytes) => ResourceContents::blob(bytes.unwrap_or_default().0, uri),
        };
        Ok(ReadResourceResult::new(vec![content.with_mime_type(mime_of(&path))]))
    }
}
