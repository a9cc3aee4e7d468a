//! Skills as prompts, which hosts offer as commands.

use super::{Skills, address, arguments, skill};
use crate::mcp::render::{break_reminders, quote};
use crate::mcp::session::Joined;
use claudemesh_client::skills::frontmatter_of;
use claudemesh_proto::model::{SkillContext, SkillManifest};
use claudemesh_proto::ops::Skill;
use rmcp::ErrorData;
use rmcp::model::{GetPromptRequestParams, GetPromptResult, MetaObject, Prompt, PromptArgument, PromptMessage, Role};
use serde_json::{Value, json};

/// Most files that a prompt names.
const NAMED_FILES: usize = 32;

impl Skills {
    /// The skills that people may invoke.
    pub(crate) async fn prompts(&self, joined: &Joined, one_word_each: bool) -> Vec<Prompt> {
        let skills = self.list(joined).await.into_iter();
        let invocable = skills.filter(|skill| {
            let manifest = skill.manifest.as_ref();
            manifest.and_then(|manifest| manifest.user_invocable) != Some(false)
        });
        invocable
            .map(|skill| {
                let manifest = skill.manifest.as_ref();
                let names = match one_word_each {
                    true => arguments::names_for_words(manifest),
                    false => arguments::names(manifest),
                };
                let hint = manifest.and_then(|manifest| manifest.argument_hint.as_deref());
                let arguments = names.into_iter().map(|name| {
                    let argument = PromptArgument::new(name).with_required(false);
                    match hint {
                        Some(hint) => argument.with_description(quote(hint)),
                        None => argument,
                    }
                });
                Prompt::new(skill.name, Some(quote(&skill.description)), Some(arguments.collect()))
            })
            .collect()
    }

    /// One skill with the arguments in their places.
    pub(crate) async fn prompt(
        &self,
        joined: &Joined,
        request: GetPromptRequestParams,
    ) -> Result<GetPromptResult, ErrorData> {
        let skill = skill(joined, &request.name).await?;
        let manifest = skill.manifest.as_ref();
        let given = request.arguments.unwrap_or_default();
        let mut text = String::new();
        if let Some(manifest) = manifest.filter(|manifest| manifest.context == Some(SkillContext::Fork)) {
            text.push_str(&fork(manifest));
        }
        if let Some(manifest) = manifest {
            text.push_str(&frontmatter(&skill, manifest));
        }
        text.push_str(&arguments::fill(&skill.instructions, manifest, &given));
        text.push_str(&files(&skill));
        let message = PromptMessage::new_text(Role::User, break_reminders(&text));
        let mut result = GetPromptResult::new(vec![message]).with_description(quote(&format!(
            "{} (shared by {}, version {})",
            skill.description, skill.author, skill.version
        )));
        result.meta = Some(meta(&skill));
        Ok(result)
    }
}

/// That the skill is for a sub-agent.
fn fork(manifest: &SkillManifest) -> String {
    let agent = manifest.agent.as_deref().unwrap_or("general-purpose");
    let mut text = format!("Run this skill in a sub-agent: call your Agent tool with subagent_type {agent:?}");
    if let Some(model) = &manifest.model {
        text.push_str(&format!(", model {model:?}"));
    }
    text.push_str(", and the instructions below as its prompt.");
    let tools = manifest.allowed_tools.as_deref().unwrap_or_default();
    if !tools.is_empty() {
        text.push_str(&format!(" It may use these tools only: {}.", tools.join(", ")));
    }
    text.push_str("\n\n");
    text
}

/// What the skill's frontmatter says, for the model that runs it; nothing if it says no more than name and description.
fn frontmatter(skill: &Skill, manifest: &SkillManifest) -> String {
    let lines = frontmatter_of(manifest);
    if lines.is_empty() {
        return String::new();
    }
    format!("---\ndescription: {}\n{lines}---\n\n", json!(skill.description))
}

/// Where the files of the skill are.
fn files(skill: &Skill) -> String {
    if skill.files.is_empty() {
        return String::new();
    }
    let mut text = format!(
        "\n\nFiles of this skill are resources; get_skill with name {:?} and the file's path gives one, too:\n",
        skill.name
    );
    for file in skill.files.iter().take(NAMED_FILES) {
        text.push_str(&format!(
            "- {}: {}\n",
            file.path,
            address(&skill.name, Some(&file.path))
        ));
    }
    if let Some(more) = skill.files.len().checked_sub(NAMED_FILES).filter(|more| *more > 0) {
        text.push_str(&format!("- and {more} more, which get_skill lists\n"));
    }
    text
}

/// The same for programs.
fn meta(skill: &Skill) -> MetaObject {
    let facts = json!({
        "name": skill.name,
        "version": skill.version,
        "author": skill.author,
        "updatedBy": skill.updated_by,
        "updatedAt": skill.updated_at,
        "tags": skill.tags,
        "manifest": skill.manifest,
    });
    MetaObject(
        [("claudemesh/skill".to_owned(), facts)]
            .into_iter()
            .collect::<serde_json::Map<String, Value>>(),
    )
}
