//! One method per wire operation, made from the table.

use crate::{ClientError, MeshClient};
use claudemesh_proto::ops::*;

macro_rules! operation_method {
    // Messages go through the outbox: `send_sealed`, `enqueue`.
    (send, $request:ty => $response:ty) => {};
    // Subscriptions are kept over reconnects: `streams`.
    (subscribe, $request:ty => $response:ty) => {};
    (unsubscribe, $request:ty => $response:ty) => {};
    ($name:ident, $request:ty => $response:ty) => {
        #[doc = concat!("The operation `", stringify!($name), "`: see [`", stringify!($request), "`].")]
        ///
        /// # Errors
        /// Those of [`MeshClient::request`].
        pub async fn $name(&self, request: $request) -> Result<$response, ClientError> {
            self.request(request).await
        }
    };
}

macro_rules! operation_methods {
    ($( { $name:ident, $request:ty => $response:ty, $($rest:tt)* } )+) => {
        impl MeshClient {
            $( operation_method!($name, $request => $response); )+
        }
    };
}
claudemesh_proto::for_each_operation!(operation_methods);
