//! `skill`: instructions that members share, with their files.

mod write;

use super::Context;
use super::memory::given;
use super::session::Session;
use crate::CliError;
use crate::output::{Output, Style, cell, one_line, printable, styled};
use crate::text::local_time;
use claudemesh_client::skills::{SkillBundle, SkillDocument, content_of};
use claudemesh_proto::ErrorCode;
use claudemesh_proto::model::is_plain_skill_name;
use claudemesh_proto::ops::{ListSkills, RemoveSkill, SkillDeployed, SkillSource};
use claudemesh_proto::tools::DeploySkillTool;
use std::io::{IsTerminal as _, Read as _, Write as _};
use std::path::{Path, PathBuf};

/// Longest SKILL.md from standard input, in bytes; what is too long is refused with its limit.
const MAX_STDIN: u64 = 1024 * 1024;

/// Shares skills with the mesh and gets those of others. Peers see them as prompts and resources of the MCP server.
#[derive(clap::Args, Debug)]
#[command(
    after_help = "Examples:\n  claudemesh skill share .claude/skills/review\n  claudemesh skill list\n  \
    claudemesh skill get review --output ~/.claude/skills\n  claudemesh skill deploy --git https://example.org/skills.git --path review\n\n\
    JSON: share and deploy {\"name\",\"files\",\"version\",\"created\",\"updatedAt\",\"bytes\"}; get a skill\n\
    {\"name\",\"description\",\"instructions\",\"tags\",\"author\",\"manifest\",\"version\",\"files\",…}; list {\"skills\":[…],\"more\"};\n\
    remove {\"name\",\"action\"}"
)]
pub(crate) struct SkillArgs {
    #[command(subcommand)]
    action: Action,
}

#[derive(clap::Subcommand, Debug)]
enum Action {
    /// Share a skill of this machine, or a new version of it
    #[command(
        after_help = "The path is a directory with SKILL.md, SKILL.md alone, a zip archive, or - for standard input.\n\
        Symbolic links are refused; .git and the like are left out.\n\n\
        Examples:\n  claudemesh skill share .claude/skills/review\n  claudemesh skill share review.zip --json\n  \
        claudemesh skill share - --name hello < SKILL.md"
    )]
    Share {
        /// Directory, SKILL.md or zip archive
        path: PathBuf,
        /// Name in the mesh instead of the skill's own
        #[arg(long)]
        name: Option<String>,
        /// Tags instead of the skill's own, separated by commas
        #[arg(long, value_delimiter = ',', value_name = "TAGS")]
        tags: Option<Vec<String>>,
    },
    /// Print a skill, print one of its files, or write all of it into a directory
    #[command(
        after_help = "Examples:\n  claudemesh skill get review\n  claudemesh skill get review scripts/run.sh\n  \
        claudemesh skill get review --output ~/.claude/skills\n\n\
        --output writes DIR/<name>/SKILL.md and the files beside it. Read a skill before an agent uses it: another member\n\
        wrote it, and its frontmatter may allow tools or run hooks."
    )]
    Get {
        /// Name of the skill
        name: String,
        /// One of its files: its content is printed
        #[arg(conflicts_with = "output")]
        file: Option<String>,
        /// Write the skill into this directory
        #[arg(short, long, value_name = "DIR")]
        output: Option<PathBuf>,
        /// Replace DIR/<name>
        #[arg(long, requires = "output")]
        overwrite: bool,
    },
    /// List the skills of the mesh
    #[command(
        visible_alias = "ls",
        after_help = "Examples:\n  claudemesh skill list\n  claudemesh skill list review --json"
    )]
    List {
        /// Only with this in name, description or tags
        query: Option<String>,
    },
    /// Remove a skill and its files: your own, or any as owner or admin
    #[command(
        visible_alias = "rm",
        after_help = "Examples:\n  claudemesh skill remove review\n  claudemesh skill rm review --json"
    )]
    Remove {
        /// Name of the skill
        name: String,
    },
    /// Deploy a skill with its files from a shared zip archive or a git repository
    #[command(
        after_help = "SKILL.md is at the top, in the only directory there, or in --path. Repositories are fetched with the program\n\
        git over https, without credentials, and nothing of them is run. CLAUDEMESH_GIT_ALLOW=private,http allows hosts of\n\
        private networks, and http.\n\n\
        Examples:\n  claudemesh skill deploy --file 3kTz…\n  claudemesh skill deploy --git https://example.org/review.git\n  \
        claudemesh skill deploy --git https://example.org/skills.git --branch v2 --path skills/review"
    )]
    #[command(group = clap::ArgGroup::new("source").required(true).args(["file", "git"]))]
    Deploy {
        /// Id of a zip archive that was shared as a file
        #[arg(long, value_name = "ID")]
        file: Option<String>,
        /// Address of a git repository
        #[arg(long, value_name = "URL")]
        git: Option<String>,
        /// Branch or tag of the repository
        #[arg(long, requires = "git")]
        branch: Option<String>,
        /// Directory of the skill in it
        #[arg(long, value_name = "DIR")]
        path: Option<String>,
    },
}

/// Does what was asked for.
pub(crate) async fn run(context: Context, arguments: SkillArgs) -> Result<(), CliError> {
    // What is wrong on this machine is told before anybody is asked.
    let local = match &arguments.action {
        Action::Share { path, name, tags } => Some(read(path, name.as_deref(), tags.clone()).await?),
        _ => None,
    };
    let session = Session::observe(&context).await?;
    let result = tokio::select! {
        result = act(&session, context.out, arguments.action, local) => result,
        _ = tokio::signal::ctrl_c() => Err(CliError::cancelled("Interrupted.")),
    };
    session.close().await;
    result
}

async fn act(session: &Session, out: Output, action: Action, local: Option<SkillBundle>) -> Result<(), CliError> {
    let client = &session.client;
    match action {
        Action::Share { .. } => {
            let Some(bundle) = local else { return Ok(()) };
            told(out, &client.deploy_skill(bundle, SkillSource::Local {}).await?)
        }
        Action::Deploy {
            file,
            git,
            branch,
            path,
        } => {
            let request = DeploySkillTool {
                file_id: file,
                git_url: git,
                git_branch: branch,
                path,
            };
            told(out, &client.deploy_skill_tool(request).await?)
        }
        Action::Get {
            name, file: Some(path), ..
        } => {
            let file = client.skill_file(&name, &path).await?;
            out.json(&file)?;
            if !out.json {
                let content = content_of(&file).unwrap_or_default();
                let written = std::io::stdout().write_all(&content);
                written.map_err(|error| CliError::local(format!("Cannot write: {error}"), "Try again."))?;
            }
            Ok(())
        }
        Action::Get {
            name,
            output: Some(directory),
            overwrite,
            ..
        } => {
            let skill = client.whole_skill(&name).await?;
            let written = write::skill(skill.clone(), directory, overwrite).await?;
            out.json(&skill)?;
            out.line(printable(&written.to_string_lossy()));
            out.warn(format!(
                "version {} by {}: read it before an agent uses it; its frontmatter may allow tools or run hooks.",
                skill.version,
                one_line(skill.updated_by.as_deref().unwrap_or(&skill.author)),
            ));
            Ok(())
        }
        Action::Get { name, .. } => {
            let skill = client.skill(&name, Vec::new()).await?;
            out.json(&skill)?;
            out.line(printable(&SkillDocument::render(&skill)));
            // Elsewhere it would become part of the file.
            if !skill.files.is_empty() && std::io::stdout().is_terminal() {
                let paths: Vec<_> = skill.files.iter().map(|file| one_line(&file.path)).collect();
                out.note(format!("Files: {}.", paths.join(", ")));
            }
            Ok(())
        }
        Action::List { query } => list(session, out, query).await,
        Action::Remove { name } => {
            let ack = client.remove_skill_tool(RemoveSkill { name }).await?;
            out.json(&ack)?;
            out.note(format!("{} is removed.", one_line(&ack.name)));
            Ok(())
        }
    }
}

/// The skill at a path of this machine, under the name and with the tags that were given.
async fn read(path: &Path, name: Option<&str>, tags: Option<Vec<String>>) -> Result<SkillBundle, CliError> {
    let path = path.to_owned();
    let reading = tokio::task::spawn_blocking(move || {
        if path.as_os_str() != "-" {
            return Ok::<_, CliError>(SkillBundle::read(&path)?);
        }
        let mut text = String::new();
        let read = std::io::stdin().take(MAX_STDIN).read_to_string(&mut text);
        read.map_err(|error| CliError::local(format!("Cannot read standard input: {error}"), "Try again."))?;
        Ok(SkillBundle {
            document: SkillDocument::parse(&text)?,
            directory: None,
            files: Vec::new(),
        })
    });
    let mut bundle: SkillBundle = reading
        .await
        .map_err(|_| CliError::new(ErrorCode::Internal, "Reading the skill was interrupted."))??;
    if let Some(name) = name {
        bundle.document.name = Some(name.to_owned());
    }
    if let Some(tags) = tags {
        bundle.document.tags = given(tags);
    }
    Ok(bundle)
}

fn told(out: Output, deployed: &SkillDeployed) -> Result<(), CliError> {
    out.json(deployed)?;
    out.line(one_line(&deployed.name));
    let files = match deployed.files.len() {
        1 => "SKILL.md".to_owned(),
        number => format!("{number} files"),
    };
    let action = if deployed.created { "shared" } else { "shared again" };
    out.note(format!("{action} as version {} with {files}", deployed.version));
    if !is_plain_skill_name(&deployed.name) {
        out.note("Claude Code wants lower-case letters, digits and hyphens in names of skills: share it with --name.");
    }
    Ok(())
}

async fn list(session: &Session, out: Output, query: Option<String>) -> Result<(), CliError> {
    let mut request = ListSkills {
        query,
        ..ListSkills::default()
    };
    let mut list = session.call(request.clone()).await?;
    while list.more && !list.skills.is_empty() {
        request.after = list.skills.last().map(|skill| skill.name.clone());
        let mut next = session.call(request.clone()).await?;
        list.more = next.more && !next.skills.is_empty();
        list.skills.append(&mut next.skills);
    }
    out.json(&list)?;
    let rows: Vec<_> = list
        .skills
        .iter()
        .map(|skill| {
            let files = match skill.file_count {
                0 => String::new(),
                number => format!("+{number} files"),
            };
            vec![
                styled(Style::Bold, &skill.name),
                cell(format!("v{}", skill.version)),
                cell(&skill.author),
                styled(Style::Dim, skill.updated_at.map(local_time).unwrap_or_default()),
                cell(files),
                cell(&skill.description),
            ]
        })
        .collect();
    out.table(&rows);
    if rows.is_empty() {
        out.note("There is no such skill. `claudemesh skill share <directory>` shares one.");
    }
    Ok(())
}
