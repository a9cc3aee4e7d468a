//! `task`: work that exactly one session takes on.

use super::Context;
use super::memory::given;
use super::session::Session;
use crate::CliError;
use crate::output::{Output, Style, cell, one_line, printable, styled};
use crate::text::local_time;
use clap::ValueEnum;
use claudemesh_proto::ops::{CreateTask, ListTasks, Task, TaskFilter, TaskPriority, TaskStatus};
use claudemesh_proto::tools::{CancelTaskTool, ClaimTaskTool, CompleteTaskTool, ReleaseTaskTool};

/// Hands out work and takes it on. Exactly one session claims a task; the claim ends by itself after a time.
#[derive(clap::Args, Debug)]
#[command(
    after_help = "Examples:\n  claudemesh task create \"Write the migration\" --assignee ben --priority high\n  \
    claudemesh task list --status open\n  claudemesh task claim 3fJk…\n  claudemesh task complete 3fJk… --result \"in main\"\n\n\
    JSON: create {\"id\",\"task\"}; claim, release, complete, cancel {\"task\"}; list {\"tasks\":[…],\"more\"}; a task is\n\
    {\"id\",\"title\",\"assignee\",\"claimedBy\",\"status\",\"priority\",\"createdBy\",\"tags\",\"createdAt\",\"claimExpiresAt\",\"result\",…}"
)]
pub(crate) struct TaskArgs {
    #[command(subcommand)]
    action: Action,
}

#[derive(clap::Subcommand, Debug)]
enum Action {
    /// Create a task
    #[command(after_help = "Examples:\n  claudemesh task create \"Review the API\"\n  \
        claudemesh task create Fix the build --assignee ben --priority urgent --tags ci --json")]
    Create {
        /// What is to be done; several words are joined
        #[arg(required = true)]
        title: Vec<String>,
        /// Who is meant to do it
        #[arg(long, value_name = "PEER")]
        assignee: Option<String>,
        /// How urgent it is
        #[arg(long, value_enum)]
        priority: Option<Priority>,
        /// Tags, separated by commas
        #[arg(long, value_delimiter = ',', value_name = "TAGS")]
        tags: Vec<String>,
    },
    /// Take an open task on, or make your claim last longer
    #[command(after_help = "Examples:\n  claudemesh task claim 3fJk…\n  claudemesh task claim 3fJk… --json")]
    Claim {
        /// Id of the task
        id: String,
    },
    /// Give a task back
    #[command(after_help = "Examples:\n  claudemesh task release 3fJk…\n  claudemesh task release 3fJk… --json")]
    Release {
        /// Id of the task
        id: String,
    },
    /// Mark a task as done
    #[command(
        visible_alias = "done",
        after_help = "Examples:\n  claudemesh task complete 3fJk…\n  claudemesh task done 3fJk… --result \"in main\" --json"
    )]
    Complete {
        /// Id of the task
        id: String,
        /// What came of it
        #[arg(long)]
        result: Option<String>,
    },
    /// Mark a task of yours as no longer needed
    #[command(
        after_help = "Examples:\n  claudemesh task cancel 3fJk…\n  claudemesh task cancel 3fJk… --reason \"solved otherwise\""
    )]
    Cancel {
        /// Id of the task
        id: String,
        /// Why
        #[arg(long)]
        reason: Option<String>,
    },
    /// List tasks, newest first
    #[command(
        visible_alias = "ls",
        after_help = "Examples:\n  claudemesh task list\n  claudemesh task list --status open --assignee ben --json"
    )]
    List {
        /// Only tasks with this status
        #[arg(long, value_enum)]
        status: Option<Status>,
        /// Only tasks for this peer
        #[arg(long, value_name = "PEER")]
        assignee: Option<String>,
    },
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Priority {
    Low,
    Normal,
    High,
    Urgent,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Status {
    Open,
    Claimed,
    #[value(alias = "completed")]
    Done,
    Cancelled,
}

/// Creates, changes or lists tasks.
pub(crate) async fn run(context: Context, arguments: TaskArgs) -> Result<(), CliError> {
    let session = Session::observe(&context).await?;
    let result = act(&session, context.out, arguments.action).await;
    session.close().await;
    result
}

async fn act(session: &Session, out: Output, action: Action) -> Result<(), CliError> {
    let client = &session.client;
    let changed = match action {
        Action::Create {
            title,
            assignee,
            priority,
            tags,
        } => {
            let request = CreateTask {
                title: title.join(" "),
                assignee,
                priority: priority.map(on_the_wire),
                tags: given(tags),
            };
            let created = session.call(request).await?;
            out.json(&created)?;
            out.line(format!("created {}", created.id));
            return Ok(());
        }
        Action::List { status, assignee } => return list(session, out, status, assignee).await,
        Action::Claim { id } => client.claim_task_tool(ClaimTaskTool { id }).await?,
        Action::Release { id } => client.release_task_tool(ReleaseTaskTool { id }).await?,
        Action::Complete { id, result } => client.complete_task_tool(CompleteTaskTool { id, result }).await?,
        Action::Cancel { id, reason } => client.cancel_task_tool(CancelTaskTool { id, reason }).await?,
    };
    out.json(&changed)?;
    out.note(news(&changed.task));
    Ok(())
}

async fn list(
    session: &Session,
    out: Output,
    status: Option<Status>,
    assignee: Option<String>,
) -> Result<(), CliError> {
    let status = status.map(|status| match status {
        Status::Open => TaskFilter::Open,
        Status::Claimed => TaskFilter::Claimed,
        Status::Done => TaskFilter::Done,
        Status::Cancelled => TaskFilter::Cancelled,
    });
    let list = session.call(ListTasks { status, assignee }).await?;
    out.json(&list)?;
    let rows: Vec<_> = list
        .tasks
        .iter()
        .map(|task| {
            let style = match task.status {
                TaskStatus::Open => Style::Bold,
                TaskStatus::Claimed => Style::Warn,
                TaskStatus::Done => Style::Good,
                TaskStatus::Cancelled => Style::Dim,
            };
            let who = match (&task.claimed_by, &task.assignee) {
                (Some(claimer), _) => claimer.clone(),
                (None, Some(assignee)) => format!("for {assignee}"),
                (None, None) => String::new(),
            };
            vec![
                styled(Style::Dim, &task.id),
                styled(style, task.status.as_str()),
                cell(task.priority.as_str()),
                cell(who),
                cell(&task.title),
            ]
        })
        .collect();
    out.table(&rows);
    if rows.is_empty() {
        out.note("There is no such task. `claudemesh task create <title>` creates one.");
    }
    if list.more {
        out.note("There are older ones: add --status or --assignee.");
    }
    Ok(())
}

fn news(task: &Task) -> String {
    let title = printable(&task.title);
    match task.status {
        TaskStatus::Open => format!("open again: {title}"),
        TaskStatus::Done => format!("done: {title}"),
        TaskStatus::Cancelled => format!("cancelled: {title}"),
        TaskStatus::Claimed => {
            let until = task.claim_expires_at.map(|end| format!(" until {}", local_time(end)));
            format!(
                "claimed by {}{}: {title}",
                one_line(task.claimed_by.as_deref().unwrap_or_default()),
                until.unwrap_or_default()
            )
        }
    }
}

fn on_the_wire(priority: Priority) -> TaskPriority {
    match priority {
        Priority::Low => TaskPriority::Low,
        Priority::Normal => TaskPriority::Normal,
        Priority::High => TaskPriority::High,
        Priority::Urgent => TaskPriority::Urgent,
    }
}
