//! Calling a tool by name.

use super::check_arguments;
use crate::{ClientError, MeshClient};
use claudemesh_proto::Tool;
use claudemesh_proto::tool::by_name;
use serde_json::Value;

/// The method behind a tool. A tool that is more than its wire request has an arm of its own; for any other, the
/// operation's method of the same name is called, and its types must fit.
macro_rules! method_of {
    (send_message, $client:expr, $params:expr) => {
        $client.send_message($params).await
    };
    (list_peers, $client:expr, $params:expr) => {
        $client.list_peers_tool($params).await
    };
    (message_status, $client:expr, $params:expr) => {
        $client.message_status_tool($params).await
    };
    (check_messages, $client:expr, $params:expr) => {{
        let claudemesh_proto::tools::CheckMessages {} = $params;
        $client.check_messages().await
    }};
    (subscribe, $client:expr, $params:expr) => {
        $client.subscribe_session($params).await
    };
    (ping_mesh, $client:expr, $params:expr) => {
        $client.ping_mesh($params).await
    };
    (forget, $client:expr, $params:expr) => {
        $client.forget_tool($params).await
    };
    (share_context, $client:expr, $params:expr) => {
        $client.share_context_tool($params).await
    };
    (claim_task, $client:expr, $params:expr) => {
        $client.claim_task_tool($params).await
    };
    (release_task, $client:expr, $params:expr) => {
        $client.release_task_tool($params).await
    };
    (complete_task, $client:expr, $params:expr) => {
        $client.complete_task_tool($params).await
    };
    (cancel_task, $client:expr, $params:expr) => {
        $client.cancel_task_tool($params).await
    };
    (share_skill, $client:expr, $params:expr) => {
        $client.share_skill_tool($params).await
    };
    (get_skill, $client:expr, $params:expr) => {
        $client.get_skill_tool($params).await
    };
    (remove_skill, $client:expr, $params:expr) => {
        $client.remove_skill_tool($params).await
    };
    (mesh_skill_deploy, $client:expr, $params:expr) => {
        $client.deploy_skill_tool($params).await
    };
    (get_file, $client:expr, $params:expr) => {
        $client.fetch_file($params).await
    };
    (file_status, $client:expr, $params:expr) => {
        $client.file_status_tool($params).await
    };
    (delete_file, $client:expr, $params:expr) => {
        $client.delete_file_tool($params).await
    };
    (grant_file_access, $client:expr, $params:expr) => {
        $client.grant_file($params).await
    };
    ($operation:ident, $client:expr, $params:expr) => {
        $client.$operation($params).await
    };
}

macro_rules! call_by_name {
    ($( { $name:ident, $params:ty => $output:ty, $($rest:tt)* } )+) => {
        async fn dispatch(client: &MeshClient, tool: &str, arguments: Value) -> Result<Value, ClientError> {
            match tool {
                $(
                    stringify!($name) => {
                        let params: <by_name::$name as Tool>::Params = read(arguments)?;
                        let output: <by_name::$name as Tool>::Output = method_of!($name, client, params)?;
                        serde_json::to_value(output)
                            .map_err(|error| ClientError::Protocol { message: error.to_string() })
                    }
                )+
                // The check of the arguments knows the same table.
                _ => Err(ClientError::invalid("tool", "is unknown")),
            }
        }
    };
}
claudemesh_proto::for_each_tool!(call_by_name);

fn read<T: serde::de::DeserializeOwned>(arguments: Value) -> Result<T, ClientError> {
    serde_json::from_value(arguments).map_err(|error| ClientError::invalid("arguments", error.to_string()))
}

impl MeshClient {
    /// Calls a tool of the table by name. The arguments are checked against the tool's schema first; names that it does not
    /// know are refused. Counted in the member's statistics.
    ///
    /// # Errors
    /// [`ClientError::InvalidArgument`] for arguments that do not fit, then those of the tool.
    pub async fn call_tool(&self, name: &str, arguments: Value) -> Result<Value, ClientError> {
        let arguments = if arguments.is_null() {
            Value::Object(serde_json::Map::new())
        } else {
            arguments
        };
        check_arguments(name, &arguments)?;
        let result = dispatch(self, name, arguments).await;
        self.count_tool_call(result.is_err());
        result
    }
}
