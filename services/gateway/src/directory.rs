//! DirectoryService: the signed directory that this gateway works by.

use amanat_desk::Rulebook;
use amanat_schema::directory::{
    GetDirectoryRequest, GetDirectoryResponse, directory_service_server::DirectoryService,
};
use tonic::{Request, Response, Status};

pub(crate) struct DirectoryDesk {
    pub(crate) rules: Rulebook,
}

#[tonic::async_trait]
impl DirectoryService for DirectoryDesk {
    async fn get_directory(
        &self,
        _request: Request<GetDirectoryRequest>,
    ) -> Result<Response<GetDirectoryResponse>, Status> {
        Ok(Response::new(GetDirectoryResponse {
            directory: Some(self.rules.current().directory.envelope().clone()),
        }))
    }
}
