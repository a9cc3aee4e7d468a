//! The two tables from which everything else is derived.

/// Calls `$callback!` with every operation that the broker serves.
///
/// Row: `{ method, Request => Response, "request type" => "reply type", reply when, family, permission, rate class,
/// ordering, audit entry, what the broker sees, protocol version }`. See [`OperationMeta`](crate::OperationMeta) for the columns.
///
/// To add an operation: its types in `ops/<family>.rs`, a row here, a handler in the broker, a test.
#[macro_export]
macro_rules! for_each_operation {
    ($callback:ident) => {
        $callback! {
            { send, SendEnvelope => SendAck, "send" => "ack", Always, Messaging, Send, Message, Pipelined, Some("message_sent"), Sealed, 1 }
            { list_peers, ListPeers => PeersList, "list_peers" => "peers_list", Always, Messaging, Member, Read, Serial, None, Clear, 1 }
            { message_status, MessageStatus => MessageStatusResult, "message_status" => "message_status_result", Always, Messaging, Member, Read, Serial, None, Clear, 1 }
            { pull_messages, PullMessages => MessagesPulled, "pull_messages" => "messages_pulled", Always, Messaging, Member, Read, Serial, None, Sealed, 2 }
            { count_waiting, CountWaiting => WaitingCounted, "count_waiting" => "waiting_counted", Always, Messaging, Member, Read, Serial, None, Clear, 2 }
            { ack_messages, AckMessages => MessagesAcked, "ack_messages" => "messages_acked", Asked, Messaging, Member, Message, Pipelined, None, Clear, 2 }

            { set_status, SetStatus => StatusSet, "set_status" => "status_set", Asked, Profile, Member, Write, Serial, None, Clear, 1 }
            { set_summary, SetSummary => SummarySet, "set_summary" => "summary_set", Asked, Profile, Member, Write, Serial, None, Clear, 1 }
            { set_stats, SetStats => StatsSet, "set_stats" => "stats_set", Asked, Profile, Member, Write, Serial, None, Clear, 1 }
            { set_visible, SetVisible => VisibleSet, "set_visible" => "ack", Always, Profile, Member, Write, Serial, None, Clear, 1 }
            { set_profile, SetProfile => ProfileSet, "set_profile" => "ack", Always, Profile, Member, Write, Serial, None, Clear, 1 }

            { join_group, JoinGroup => GroupJoined, "join_group" => "group_joined", Asked, Groups, Member, Write, Serial, Some("group_joined"), Clear, 1 }
            { leave_group, LeaveGroup => GroupLeft, "leave_group" => "group_left", Asked, Groups, Member, Write, Serial, Some("group_left"), Clear, 1 }

            { set_state, SetState => StateSet, "set_state" => "state_set", Asked, State, WriteState, Write, Serial, Some("state_set"), Clear, 1 }
            { get_state, GetState => StateResult, "get_state" => "state_result", Always, State, Member, Read, Serial, None, Clear, 1 }
            { list_state, ListState => StateList, "list_state" => "state_list", Always, State, Member, Read, Serial, None, Clear, 1 }
            { delete_state, DeleteState => StateDeleted, "delete_state" => "state_deleted", Always, State, WriteState, Write, Serial, Some("state_deleted"), Clear, 2 }

            { remember, Remember => MemoryStored, "remember" => "memory_stored", Always, Memory, WriteState, Write, Serial, Some("memory_stored"), Clear, 1 }
            { recall, Recall => MemoryResults, "recall" => "memory_results", Always, Memory, Member, Read, Serial, None, Clear, 1 }
            { forget, Forget => MemoryForgotten, "forget" => "ack", Always, Memory, WriteState, Write, Serial, Some("memory_forgotten"), Clear, 1 }

            { share_context, ShareContext => ContextShared, "share_context" => "context_shared", Asked, Contexts, WriteState, Write, Serial, None, Clear, 1 }
            { get_context, GetContext => ContextResults, "get_context" => "context_results", Always, Contexts, Member, Read, Serial, None, Clear, 1 }
            { list_contexts, ListContexts => ContextList, "list_contexts" => "context_list", Always, Contexts, Member, Read, Serial, None, Clear, 1 }

            { create_task, CreateTask => TaskCreated, "create_task" => "task_created", Always, Tasks, WriteState, Write, Serial, Some("task_created"), Clear, 1 }
            { claim_task, ClaimTask => TaskChanged, "claim_task" => "task_list", Asked, Tasks, WriteState, Write, Serial, Some("task_claimed"), Clear, 1 }
            { release_task, ReleaseTask => TaskChanged, "release_task" => "task_list", Always, Tasks, WriteState, Write, Serial, Some("task_released"), Clear, 2 }
            { complete_task, CompleteTask => TaskChanged, "complete_task" => "task_list", Asked, Tasks, WriteState, Write, Serial, Some("task_completed"), Clear, 1 }
            { cancel_task, CancelTask => TaskChanged, "cancel_task" => "task_list", Always, Tasks, WriteState, Write, Serial, Some("task_cancelled"), Clear, 2 }
            { list_tasks, ListTasks => TaskList, "list_tasks" => "task_list", Always, Tasks, Member, Read, Serial, None, Clear, 1 }
            { create_stream, CreateStream => StreamCreated, "create_stream" => "stream_created", Always, Streams, WriteState, Write, Serial, Some("stream_created"), Clear, 1 }
            { publish, Publish => Published, "publish" => "published", Asked, Streams, Send, Message, Pipelined, None, Clear, 1 }
            { subscribe, Subscribe => Subscribed, "subscribe" => "subscribed", Always, Streams, Member, Read, Serial, None, Clear, 1 }
            { unsubscribe, Unsubscribe => Unsubscribed, "unsubscribe" => "unsubscribed", Asked, Streams, Member, Read, Serial, None, Clear, 1 }
            { list_streams, ListStreams => StreamList, "list_streams" => "stream_list", Always, Streams, Member, Read, Serial, None, Clear, 1 }

            { mesh_query, MeshQuery => SqlResult, "mesh_query" => "mesh_query_result", Always, Sql, Member, Read, Concurrent, None, Clear, 1 }
            { mesh_execute, MeshExecute => SqlResult, "mesh_execute" => "mesh_query_result", Asked, Sql, WriteState, Write, Concurrent, Some("sql_executed"), Clear, 1 }
            { mesh_schema, MeshSchema => MeshSchemaResult, "mesh_schema" => "mesh_schema_result", Always, Sql, Member, Read, Concurrent, None, Clear, 1 }

            { vector_store, VectorStore => VectorStored, "vector_store" => "vector_stored", Always, Vectors, WriteState, Write, Concurrent, Some("vector_stored"), Clear, 1 }
            { vector_search, VectorSearch => VectorResults, "vector_search" => "vector_results", Always, Vectors, Member, Read, Concurrent, None, Clear, 1 }
            { vector_delete, VectorDelete => VectorDeleted, "vector_delete" => "ack", Always, Vectors, WriteState, Write, Concurrent, Some("vector_deleted"), Clear, 1 }
            { list_collections, ListCollections => CollectionList, "list_collections" => "collection_list", Always, Vectors, Member, Read, Concurrent, None, Clear, 1 }

            { share_skill, ShareSkill => SkillAck, "share_skill" => "skill_ack", Always, Skills, WriteState, Write, Serial, Some("skill_shared"), Clear, 1 }
            { get_skill, GetSkill => SkillData, "get_skill" => "skill_data", Always, Skills, Member, Read, Serial, None, Clear, 1 }
            { list_skills, ListSkills => SkillList, "list_skills" => "skill_list", Always, Skills, Member, Read, Serial, None, Clear, 1 }
            { remove_skill, RemoveSkill => SkillAck, "remove_skill" => "skill_ack", Always, Skills, WriteState, Write, Serial, Some("skill_removed"), Clear, 1 }
            { upload_skill_files, UploadSkillFiles => SkillFilesUploaded, "upload_skill_files" => "skill_files_uploaded", Always, Skills, WriteState, Write, Serial, None, Clear, 2 }
            { skill_deploy, SkillDeploy => SkillDeployed, "skill_deploy" => "skill_deploy_ack", Always, Skills, WriteState, Write, Serial, Some("skill_deployed"), Clear, 1 }

            { graph_query, GraphQuery => GraphResult, "graph_query" => "graph_result", Always, Graph, Member, Read, Concurrent, None, Clear, 1 }
            { graph_execute, GraphExecute => GraphResult, "graph_execute" => "graph_result", Always, Graph, WriteState, Write, Concurrent, Some("graph_changed"), Clear, 1 }

            { begin_upload, BeginUpload => UploadBegun, "begin_upload" => "upload_begun", Always, Files, Member, Write, Serial, None, Sealed, 2 }
            { finish_upload, FinishUpload => UploadFinished, "finish_upload" => "upload_finished", Always, Files, Member, Write, Concurrent, Some("file_shared"), Sealed, 2 }
            { cancel_upload, CancelUpload => UploadCancelled, "cancel_upload" => "upload_cancelled", Always, Files, Member, Write, Serial, None, Clear, 2 }
            { get_file, GetFile => FileUrl, "get_file" => "file_url", Always, Files, Member, Read, Serial, None, Sealed, 1 }
            { list_files, ListFiles => FileList, "list_files" => "file_list", Always, Files, Member, Read, Serial, None, Clear, 1 }
            { file_status, FileStatus => FileStatusResult, "file_status" => "file_status_result", Always, Files, Member, Read, Serial, None, Clear, 1 }
            { grant_file_access, GrantFileAccess => FileAccessGranted, "grant_file_access" => "grant_file_access_ok", Always, Files, Member, Write, Serial, Some("file_access_granted"), Sealed, 1 }
            { delete_file, DeleteFile => FileDeleted, "delete_file" => "ack", Always, Files, Member, Write, Concurrent, Some("file_deleted"), Clear, 1 }
            { peer_file_request, PeerFileRequest => PeerFileResult, "peer_file_request" => "peer_file_response_forward", Always, Files, Member, Write, Concurrent, None, Sealed, 1 }
            { peer_file_response, PeerFileResponse => PeerAnswerTaken, "peer_file_response" => "peer_answer_taken", Asked, Files, Member, Write, Serial, None, Sealed, 2 }
            { peer_dir_request, PeerDirRequest => PeerDirResult, "peer_dir_request" => "peer_dir_response_forward", Always, Files, Member, Write, Concurrent, None, Sealed, 1 }
            { peer_dir_response, PeerDirResponse => PeerAnswerTaken, "peer_dir_response" => "peer_answer_taken", Asked, Files, Member, Write, Serial, None, Sealed, 2 }

            { list_members, ListMembers => MembersList, "list_members" => "members_list", Always, Members, Member, Read, Serial, None, Clear, 2 }
            { remove_member, RemoveMember => MemberRemoved, "remove_member" => "member_removed", Always, Members, Member, Write, Serial, Some("member_removed"), Clear, 2 }
            { set_grants, SetGrants => Grants, "set_grants" => "grants", Always, Members, Member, Write, Serial, Some("grants_set"), Clear, 2 }
            { get_grants, GetGrants => Grants, "get_grants" => "grants", Always, Members, Member, Read, Serial, None, Clear, 2 }

            { mesh_info, MeshInfo => MeshInfoResult, "mesh_info" => "mesh_info_result", Always, Mesh, Member, Read, Serial, None, Clear, 1 }
            { mesh_stats, MeshStats => MeshStatsResult, "mesh_stats" => "mesh_stats_result", Always, Mesh, Member, Read, Serial, None, Clear, 2 }

            { audit_query, AuditQuery => AuditResult, "audit_query" => "audit_result", Always, Audit, Member, Heavy, Concurrent, None, Clear, 1 }
            { audit_verify, AuditVerify => AuditVerifyResult, "audit_verify" => "audit_verify_result", Always, Audit, Member, Heavy, Concurrent, None, Clear, 1 }

            { group_commit, GroupCommit => GroupCommitted, "group_commit" => "group_committed", Always, GroupKeys, Member, Write, Serial, Some("group_commit"), Sealed, 2 }
            { group_log, GroupLog => GroupLogResult, "group_log" => "group_log_result", Always, GroupKeys, Member, Read, Serial, None, Sealed, 2 }
            { group_info, GroupInfo => GroupInfoResult, "group_info" => "group_info_result", Always, GroupKeys, Member, Read, Serial, None, Sealed, 2 }
            { group_status, GroupStatus => GroupStatusNoted, "group_status" => "group_status_noted", Asked, GroupKeys, Member, Write, Serial, None, Clear, 2 }
            { key_request, KeyRequest => KeyRequested, "key_request" => "key_requested", Always, GroupKeys, Member, Write, Serial, None, Sealed, 2 }
            { key_grant, KeyGrant => KeyGranted, "key_grant" => "key_granted", Always, GroupKeys, Member, Write, Serial, None, Sealed, 2 }
        }
    };
}

/// Calls `$callback!` with every tool that agents and programs call.
///
/// Row: `{ tool name, Params => Result, family, safety, mesh scope, "CLI command" }`. A tool whose parameters are the
/// wire request uses the same Rust type. See [`ToolMeta`](crate::ToolMeta) for the columns.
#[macro_export]
macro_rules! for_each_tool {
    ($callback:ident) => {
        $callback! {
            { send_message, SendMessage => MessageSent, Messaging, ADDITIVE_OPEN, Resolved, "send" }
            { list_peers, ListPeersTool => PeersByMesh, Messaging, READ_ONLY, All, "peers" }
            { message_status, MessageStatusTool => MessageStatusResult, Messaging, READ_ONLY, Any, "status --message" }
            { check_messages, CheckMessages => ReceivedMessages, Messaging, ADDITIVE, All, "inbox" }

            { set_summary, SetSummary => SummarySet, Profile, IDEMPOTENT, All, "tool set_summary" }
            { set_status, SetStatus => StatusSet, Profile, IDEMPOTENT, All, "tool set_status" }
            { set_visible, SetVisible => VisibleSet, Profile, IDEMPOTENT, All, "tool set_visible" }
            { set_profile, SetProfile => ProfileSet, Profile, IDEMPOTENT, All, "tool set_profile" }

            { join_group, JoinGroup => GroupJoined, Groups, IDEMPOTENT, All, "tool join_group" }
            { leave_group, LeaveGroup => GroupLeft, Groups, IDEMPOTENT, All, "tool leave_group" }

            { set_state, SetState => StateSet, State, IDEMPOTENT, First, "state set" }
            { get_state, GetState => StateResult, State, READ_ONLY, First, "state get" }
            { list_state, ListState => StateList, State, READ_ONLY, First, "state list" }

            { remember, Remember => MemoryStored, Memory, ADDITIVE, First, "remember" }
            { recall, Recall => MemoryResults, Memory, READ_ONLY, First, "recall" }
            { forget, ForgetTool => Forgotten, Memory, DESTRUCTIVE, First, "forget" }

            { share_context, ShareContextTool => ContextShared, Contexts, IDEMPOTENT, First, "context share" }
            { get_context, GetContext => ContextResults, Contexts, READ_ONLY, First, "context get" }
            { list_contexts, ListContexts => ContextList, Contexts, READ_ONLY, First, "context list" }

            { create_task, CreateTask => TaskCreated, Tasks, ADDITIVE, First, "task create" }
            { claim_task, ClaimTaskTool => TaskNow, Tasks, IDEMPOTENT, First, "task claim" }
            { release_task, ReleaseTaskTool => TaskNow, Tasks, IDEMPOTENT, First, "task release" }
            { complete_task, CompleteTaskTool => TaskNow, Tasks, IDEMPOTENT, First, "task complete" }
            { cancel_task, CancelTaskTool => TaskNow, Tasks, DESTRUCTIVE, First, "task cancel" }
            { list_tasks, ListTasks => TaskList, Tasks, READ_ONLY, First, "task list" }
            { mesh_query, MeshQuery => SqlResult, Sql, READ_ONLY, First, "tool mesh_query" }
            { mesh_execute, MeshExecute => SqlResult, Sql, DESTRUCTIVE_EACH_TIME, First, "tool mesh_execute" }
            { mesh_schema, MeshSchema => MeshSchemaResult, Sql, READ_ONLY, First, "tool mesh_schema" }

            { vector_store, VectorStore => VectorStored, Vectors, ADDITIVE, First, "vector store" }
            { vector_search, VectorSearch => VectorResults, Vectors, READ_ONLY, First, "vector search" }
            { vector_delete, VectorDelete => VectorDeleted, Vectors, DESTRUCTIVE, First, "vector delete" }
            { list_collections, ListCollections => CollectionList, Vectors, READ_ONLY, First, "vector collections" }

            { graph_query, GraphQuery => GraphResult, Graph, READ_ONLY, First, "graph query" }
            { graph_execute, GraphExecute => GraphResult, Graph, DESTRUCTIVE_EACH_TIME, First, "graph execute" }

            { create_stream, CreateStream => StreamCreated, Streams, IDEMPOTENT, First, "tool create_stream" }
            { publish, Publish => Published, Streams, ADDITIVE_OPEN, First, "tool publish" }
            { subscribe, Subscribe => Subscribed, Streams, IDEMPOTENT, First, "tool subscribe" }
            { unsubscribe, Unsubscribe => Unsubscribed, Streams, IDEMPOTENT, First, "tool unsubscribe" }
            { list_streams, ListStreams => StreamList, Streams, READ_ONLY, First, "tool list_streams" }

            { share_skill, ShareSkillTool => SkillAck, Skills, IDEMPOTENT, First, "skill share" }
            { get_skill, GetSkillTool => GotSkill, Skills, READ_ONLY, First, "skill get" }
            { list_skills, ListSkills => SkillList, Skills, READ_ONLY, First, "skill list" }
            { remove_skill, RemoveSkill => SkillAck, Skills, DESTRUCTIVE, First, "skill remove" }
            { mesh_skill_deploy, DeploySkillTool => SkillDeployed, Skills, ADDITIVE_OPEN, First, "skill deploy" }

            { share_file, ShareFile => SharedFile, Files, ADDITIVE_OPEN, First, "file share" }
            { get_file, FetchFile => FetchedFile, Files, ADDITIVE, Any, "file get" }
            { list_files, ListFiles => FileList, Files, READ_ONLY, First, "file list" }
            { file_status, FileStatusTool => FileStatusResult, Files, READ_ONLY, Any, "file status" }
            { delete_file, DeleteFileTool => DeletedFile, Files, DESTRUCTIVE, Any, "file delete" }
            { grant_file_access, GrantFile => GrantedFile, Files, IDEMPOTENT, Any, "file grant" }
            { read_peer_file, ReadPeerFile => PeerFile, Files, READ_ONLY_OPEN, First, "file read" }
            { list_peer_files, ListPeerFiles => PeerFiles, Files, READ_ONLY_OPEN, First, "file browse" }

            { mesh_info, MeshInfo => MeshInfoResult, Mesh, READ_ONLY, First, "info" }
            { mesh_stats, MeshStats => MeshStatsResult, Mesh, READ_ONLY, All, "tool mesh_stats" }
            { ping_mesh, PingMesh => PingResult, Mesh, ADDITIVE, First, "tool ping_mesh" }
        }
    };
}
