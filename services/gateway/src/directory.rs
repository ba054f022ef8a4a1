//! DirectoryService: the signed directory as this gateway loaded it.

use amanat_schema::{
    directory::{
        GetDirectoryRequest, GetDirectoryResponse, directory_service_server::DirectoryService,
    },
    statement::Envelope,
};
use tonic::{Request, Response, Status};

pub(crate) struct DirectoryDesk {
    pub(crate) directory: Envelope,
}

#[tonic::async_trait]
impl DirectoryService for DirectoryDesk {
    async fn get_directory(
        &self,
        _request: Request<GetDirectoryRequest>,
    ) -> Result<Response<GetDirectoryResponse>, Status> {
        Ok(Response::new(GetDirectoryResponse {
            directory: Some(self.directory.clone()),
        }))
    }
}
