//! The protocol's requests.

use super::Options;
use super::delivery::{Desk, Ladder};
use super::mail::MESSAGES_KEY;
use super::session::{Joined, Who};
use super::skills::{self, ListNotices, Skills};
use super::surface::{CAPABILITY, Channel, InboxSocket, MeshIds, Surface};
use super::written::{Unwritten, messages_in};
use super::{call, catalog, instructions, progress};
use crate::Config;
use claudemesh_client::Meshes;
use rmcp::model::{
    CallToolRequestParams, CallToolResponse, GetPromptRequestParams, GetPromptResponse, Implementation, JsonObject,
    ListPromptsResult, ListResourceTemplatesResult, ListResourcesResult, ListToolsResult, PaginatedRequestParams,
    ProtocolVersion, ReadResourceRequestParams, ReadResourceResponse, RequestId, ServerCapabilities, ServerConfig,
    Tool,
};
use rmcp::service::{NotificationContext, RequestContext};
use rmcp::{ErrorData, RoleServer, ServerHandler};
use std::borrow::Cow;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

/// Newest version of the protocol that is offered: servers of later ones are never given channels.
const NEWEST: ProtocolVersion = ProtocolVersion::V_2025_11_25;

/// How Claude Code calls itself.
const CLAUDE_CODE: &str = "claude-code";

/// The server of one session. Clones are the same server.
#[derive(Clone)]
pub(super) struct Server {
    shared: Arc<Shared>,
}

struct Shared {
    dir: PathBuf,
    options: Options,
    who: Who,
    joined: Mutex<Arc<Joined>>,
    mesh_ids: MeshIds,
    desk: Arc<Desk>,
    unwritten: Unwritten,
    skills: Skills,
    notices: Arc<ListNotices>,
    tools: Vec<Tool>,
    info: ServerConfig,
    several_meshes: bool,
}

impl Server {
    /// Starts to connect to the meshes of the configuration.
    pub(super) fn start(config: &Config, options: Options) -> Self {
        let who = Who::new(config);
        let chosen = config
            .meshes()
            .iter()
            .filter(|mesh| options.mesh.as_ref().is_none_or(|slug| *slug == mesh.slug));
        let slugs: Vec<String> = chosen.map(|mesh| mesh.slug.clone()).collect();
        let shared = Shared {
            dir: config.dir().to_owned(),
            desk: Arc::new(Desk::new(who.mode)),
            unwritten: Unwritten::default(),
            skills: Skills::default(),
            notices: ListNotices::start(),
            tools: catalog::tools(&slugs),
            info: info(instructions::text(&who, &slugs)),
            several_meshes: slugs.len() > 1,
            joined: Mutex::default(),
            mesh_ids: MeshIds::default(),
            who,
            options,
        };
        let server = Self {
            shared: Arc::new(shared),
        };
        let joined = server.connect(config);
        server.replace(joined);
        server
    }

    fn connect(&self, config: &Config) -> Joined {
        let shared = &self.shared;
        let ids = config
            .meshes()
            .iter()
            .map(|mesh| (mesh.slug.clone(), mesh.mesh_id.clone()));
        shared.mesh_ids.learn(ids);
        let mut is_first = true;
        Joined::start(config, &shared.options, &shared.who, |client, events| {
            // Skills are those of the first mesh.
            if std::mem::take(&mut is_first) {
                shared.notices.follow(client.events());
            }
            shared.desk.follow(client, events)
        })
    }

    fn replace(&self, joined: Joined) -> Arc<Joined> {
        let joined = Arc::new(joined);
        *self.shared.joined.lock().unwrap_or_else(PoisonError::into_inner) = joined.clone();
        joined
    }

    /// The meshes. If there is none, one may have been joined in the meantime.
    fn joined(&self) -> Arc<Joined> {
        let mut current = self.shared.joined.lock().unwrap_or_else(PoisonError::into_inner);
        if current.meshes.is_empty()
            && current.broken.is_empty()
            && let Ok(config) = Config::open_at(self.shared.dir.clone())
            && !config.meshes().is_empty()
        {
            *current = Arc::new(self.connect(&config));
        }
        current.clone()
    }

    /// The result of this request is with the host.
    pub(super) fn written(&self, request: &RequestId) {
        let joined = self
            .shared
            .joined
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        self.shared.unwritten.written(request, &joined.meshes);
    }

    /// Ends the connections when what is on its way has arrived.
    pub(super) async fn close(&self) {
        let meshes: Meshes = self
            .shared
            .joined
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .meshes
            .clone();
        meshes.close().await;
    }
}

fn info(instructions: String) -> ServerConfig {
    let mut capabilities = ServerCapabilities::builder()
        .enable_tools()
        .enable_prompts()
        .enable_prompts_list_changed()
        .enable_resources()
        .enable_resources_list_changed()
        .build();
    capabilities.experimental = Some([(CAPABILITY.to_owned(), JsonObject::new())].into_iter().collect());
    ServerConfig::new(capabilities)
        .with_protocol_version(NEWEST)
        .with_server_info(Implementation::new("claudemesh", env!("CARGO_PKG_VERSION")).with_title("claudemesh"))
        .with_instructions(instructions)
}

impl ServerHandler for Server {
    fn get_info(&self) -> ServerConfig {
        self.shared.info.clone()
    }

    fn supported_protocol_versions(&self) -> Cow<'static, [ProtocolVersion]> {
        Cow::Borrowed(ProtocolVersion::known_up_to(&NEWEST))
    }

    async fn list_tools(
        &self,
        _: Option<PaginatedRequestParams>,
        _: RequestContext<RoleServer>,
    ) -> Result<ListToolsResult, ErrorData> {
        Ok(ListToolsResult::with_all_items(self.shared.tools.clone()))
    }

    async fn call_tool(
        &self,
        request: CallToolRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        let mail = &self.shared.desk.mail;
        let joined = self.joined();
        let calling = call::run(&joined, mail, &request.name, request.arguments.unwrap_or_default());
        let told = progress::told(&context, calling);
        let ended = match progress::can_be_cut_off(&request.name) {
            false => told.await,
            true => tokio::select! {
                ended = told => ended,
                // What has come so far is kept, and the next call goes on from there.
                () = context.ct.cancelled() => Err("cancelled".to_owned()),
            },
        };
        if ended.is_ok() && skills::changes_the_list(&request.name) {
            self.shared.notices.changed();
        }
        // The host drops the result of a call that it has cancelled.
        let attachment = if context.ct.is_cancelled() {
            None
        } else {
            mail.attach(self.shared.several_meshes)
        };
        let attached = attachment
            .as_ref()
            .and_then(|attachment| attachment.members.get(MESSAGES_KEY));
        let asked = match &ended {
            Ok(output) if request.name == "check_messages" => output.get("messages"),
            _ => None,
        };
        let shown = [messages_in(attached), messages_in(asked)].concat();
        self.shared.unwritten.expect(context.id, shown);
        Ok(call::result(ended, attachment).into())
    }

    async fn list_prompts(
        &self,
        _: Option<PaginatedRequestParams>,
        context: RequestContext<RoleServer>,
    ) -> Result<ListPromptsResult, ErrorData> {
        self.shared.notices.listing();
        let host = context.peer.peer_info();
        let one_word_each = host.is_some_and(|info| info.client_info.name == CLAUDE_CODE);
        let prompts = self.shared.skills.prompts(&self.joined(), one_word_each).await;
        Ok(ListPromptsResult::with_all_items(prompts))
    }

    async fn get_prompt(
        &self,
        request: GetPromptRequestParams,
        _: RequestContext<RoleServer>,
    ) -> Result<GetPromptResponse, ErrorData> {
        Ok(self.shared.skills.prompt(&self.joined(), request).await?.into())
    }

    async fn list_resources(
        &self,
        request: Option<PaginatedRequestParams>,
        _: RequestContext<RoleServer>,
    ) -> Result<ListResourcesResult, ErrorData> {
        self.shared.notices.listing();
        let cursor = request.and_then(|request| request.cursor);
        self.shared.skills.resources(&self.joined(), cursor).await
    }

    async fn list_resource_templates(
        &self,
        _: Option<PaginatedRequestParams>,
        _: RequestContext<RoleServer>,
    ) -> Result<ListResourceTemplatesResult, ErrorData> {
        Ok(ListResourceTemplatesResult::with_all_items(Skills::templates()))
    }

    async fn read_resource(
        &self,
        request: ReadResourceRequestParams,
        _: RequestContext<RoleServer>,
    ) -> Result<ReadResourceResponse, ErrorData> {
        Ok(self.shared.skills.read(&self.joined(), &request.uri).await?.into())
    }

    async fn on_initialized(&self, context: NotificationContext<RoleServer>) {
        let shared = &self.shared;
        shared.notices.open(context.peer.clone());
        let channel = Arc::new(Channel::new(context.peer, shared.mesh_ids.clone()));
        let inbox =
            InboxSocket::of_environment(shared.several_meshes).map(|socket| Arc::new(socket) as Arc<dyn Surface>);
        let surfaces = inbox.into_iter().chain([channel.clone() as Arc<dyn Surface>]).collect();
        shared.desk.open(Ladder { surfaces, channel });
    }
}
