//! Keys for others, status and removal of shared files.

use crate::identity::key_hex;
use crate::{ClientError, MeshClient};
use claudemesh_crypto::encode_base64;
use claudemesh_proto::ErrorCode;
use claudemesh_proto::model::Base64;
use claudemesh_proto::ops::{DeleteFile, FileStatus, FileStatusResult, GetFile, GrantFileAccess};
use claudemesh_proto::tools::{DeleteFileTool, DeletedFile, FileStatusTool, GrantFile, GrantedFile};

impl MeshClient {
    /// The tool `grant_file_access`: wraps the file's key for others. Nothing is uploaded again.
    ///
    /// # Errors
    /// `not_found`; `forbidden` unless the caller shared the file; those of [`MeshClient::resolve`].
    pub async fn grant_file(&self, request: GrantFile) -> Result<GrantedFile, ClientError> {
        let asked = GetFile {
            file_id: request.file_id.clone(),
            key_only: true,
        };
        let url = self.get_file(asked).await?;
        if !url.encrypted {
            let text = "the file is not encrypted: there is no key to grant; share it again for the peer";
            return Err(ClientError::refused(ErrorCode::InvalidRequest, text));
        }
        let key = self.unwrap_key(&url)?;
        let (_, to, recipients) = self.recipients(&request.to, "to").await?;
        for recipient in &recipients {
            let wrapped = key.wrap_for(recipient).map_err(ClientError::crypto)?;
            self.grant_file_access(GrantFileAccess {
                file_id: request.file_id.clone(),
                peer_pubkey: key_hex(recipient),
                sealed_key: Base64(encode_base64(&wrapped)),
            })
            .await?;
        }
        Ok(GrantedFile {
            file_id: request.file_id,
            to,
            granted: u32::try_from(recipients.len()).unwrap_or(u32::MAX),
        })
    }

    /// The tool `file_status`.
    ///
    /// # Errors
    /// `not_found`; `forbidden` unless the caller may read the file or administers the mesh.
    pub async fn file_status_tool(&self, request: FileStatusTool) -> Result<FileStatusResult, ClientError> {
        self.file_status(FileStatus { file_id: request.id }).await
    }

    /// The tool `delete_file`.
    ///
    /// # Errors
    /// `not_found`; `forbidden` unless the caller shared the file or administers the mesh.
    pub async fn delete_file_tool(&self, request: DeleteFileTool) -> Result<DeletedFile, ClientError> {
        self.delete_file(DeleteFile {
            file_id: request.id.clone(),
        })
        .await?;
        Ok(DeletedFile { id: request.id })
    }
}
