//! One file per command: its arguments, and what it does.

mod audit;
mod broker;
mod confirm;
mod context;
mod create;
mod enrol;
mod file;
mod grants;
mod graph;
mod inbox;
mod info;
mod invite;
mod join;
mod ladder;
mod leave;
mod list;
mod mcp;
mod members;
mod memory;
mod peers;
mod profile;
mod remove;
mod send;
mod session;
mod signals;
mod skill;
mod state;
mod status;
mod task;
mod tool;
mod up;
mod vector;
mod verify;
mod welcome;

use crate::cli::Cli;
use crate::config::MeshEntry;
use crate::output::Output;
use crate::{CliError, Config};
use clap::Subcommand;

/// What a command works with.
#[derive(Debug)]
pub(crate) struct Context {
    /// Joined meshes and keys.
    pub(crate) config: Config,
    /// Where results go.
    pub(crate) out: Output,
    /// The mesh named with `--mesh`.
    pub(crate) mesh: Option<String>,
}

impl Context {
    /// Another view of the same.
    pub(crate) fn share(&self) -> Self {
        Self {
            config: self.config.clone(),
            out: self.out,
            mesh: self.mesh.clone(),
        }
    }

    /// The mesh named with `--mesh`, else every joined mesh.
    pub(crate) fn selected(&self) -> Result<Vec<&MeshEntry>, CliError> {
        let one = || self.config.mesh(self.mesh.as_deref()).map(|mesh| vec![mesh]);
        if self.mesh.is_some() || self.config.meshes().is_empty() {
            one()
        } else {
            Ok(self.config.meshes().iter().collect())
        }
    }
}

macro_rules! commands {
    ($( $(#[$attribute:meta])* $name:ident($arguments:ty) => $run:path; )+) => {
        /// The commands.
        #[derive(Debug, Subcommand)]
        pub(crate) enum Command {
            $( $(#[$attribute])* $name($arguments), )+
        }

        async fn dispatch(command: Command, context: Context) -> Result<(), CliError> {
            // Boxed one by one: the largest command's future would else be on every command's stack.
            match command {
                $( Command::$name(arguments) => Box::pin($run(context, arguments)).await, )+
            }
        }
    };
}

commands! {
    /// Start a broker and a mesh on this machine, and watch what happens in it
    Up(up::UpArgs) => up::run;
    /// Run the broker in the foreground, set up by its environment variables
    Broker(broker::BrokerArgs) => broker::run;
    /// Create a mesh on a broker
    Create(create::CreateArgs) => create::run;
    /// Make an invite link for a mesh
    Invite(invite::InviteArgs) => invite::run;
    /// Join a mesh with an invite link, code or token
    Join(join::JoinArgs) => join::run;
    /// List the meshes that this machine has joined
    #[command(visible_alias = "ls")]
    List(list::ListArgs) => list::run;
    /// Forget a mesh on this machine
    Leave(leave::LeaveArgs) => leave::run;
    /// Show who is connected, or every member
    Peers(peers::PeersArgs) => peers::run;
    /// Send an encrypted message
    Send(send::SendArgs) => send::run;
    /// Read waiting messages
    Inbox(inbox::InboxArgs) => inbox::run;
    /// Read and change the mesh's shared state
    State(state::StateArgs) => state::run;
    /// Store a text that every session of the mesh can find
    Remember(memory::RememberArgs) => memory::remember;
    /// Search what the mesh remembers
    Recall(memory::RecallArgs) => memory::recall;
    /// Remove a text from what the mesh remembers
    Forget(memory::ForgetArgs) => memory::forget;
    /// Share what you know, and see what peers know
    Context(context::ContextArgs) => context::run;
    /// Hand out work and take it on
    Task(task::TaskArgs) => task::run;
    /// Store texts, and find them by meaning
    Vector(vector::VectorArgs) => vector::run;
    /// Share instructions for agents, and get those of others
    Skill(skill::SkillArgs) => skill::run;
    /// Share, fetch and manage encrypted files, and read files of peers
    File(file::FileArgs) => file::run;
    /// Ask and change the mesh's graph
    Graph(graph::GraphArgs) => graph::run;
    /// Show what a mesh holds
    Info(info::InfoArgs) => info::run;
    /// Check the connection to each mesh, or how far a message has come
    Status(status::StatusArgs) => status::run;
    /// Show or edit a member's profile
    Profile(profile::ProfileArgs) => profile::run;
    /// Let a member do more to you
    Grant(grants::GrantArgs) => grants::grant;
    /// Let a member do less to you
    Revoke(grants::GrantArgs) => grants::revoke;
    /// Let a member do nothing to you
    Block(grants::BlockArgs) => grants::block;
    /// Show what you let members do
    Grants(grants::GrantsArgs) => grants::list;
    /// Remove a member from the mesh and change its keys
    Remove(remove::RemoveArgs) => remove::run;
    /// Show safety numbers to compare with a peer
    Verify(verify::VerifyArgs) => verify::run;
    /// Read or check the mesh's audit log
    Audit(audit::AuditArgs) => audit::run;
    /// Serve the mesh to an agent over the Model Context Protocol, on standard input and output
    Mcp(mcp::McpArgs) => mcp::run;
    /// Call one of the tools that agents have
    Tool(tool::ToolArgs) => tool::run;
}

/// Runs the command, or says hello if there is none.
pub(crate) async fn run(cli: Cli, out: Output) -> Result<(), CliError> {
    let config = Config::open()?;
    if !out.quiet {
        config.exposures().iter().for_each(|exposure| out.warn(exposure));
    }
    let context = Context {
        config,
        out,
        mesh: cli.global.mesh,
    };
    match cli.command {
        Some(command) => dispatch(command, context).await,
        None => welcome::run(&context),
    }
}
