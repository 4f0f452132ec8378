//! The link of a standby: a connection of the API that becomes a stream.

use crate::api::ApiError;
use crate::api::link::LinkRequest;
use crate::api::response::HttpResponse;
use crate::engine::network::Conn;

/// The owner's end of links. The daemon implements it.
pub trait LinkHandler: Send + Sync {
    /// The answer to a standby. A `101` has the link that takes the connection over.
    ///
    /// # Errors
    /// The standby has another store, or its store has a higher term.
    fn answer(&self, link_request: LinkRequest) -> Result<HttpResponse, ApiError>;

    /// Streams over the connection, in a task of its own.
    fn take_over(&self, link_request: LinkRequest, conn: Box<dyn Conn>);
}
