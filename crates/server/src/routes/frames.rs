//! What server-sent events carry, for the OpenAPI document: each stream sends several kinds of data,
//! and an event's name says which one it is.

use pointsman_api::{Problem, ViewEvent};
use pointsman_broker::{
    JobNow, Snapshot,
    frame::{Bookmark, NotLive, ProgressLane, PulseLane, QueuesLane, Resync},
};
use utoipa::{
    PartialSchema, ToSchema,
    openapi::{Ref, RefOr, schema::AnyOfBuilder, schema::Schema},
};

/// A type of which only the schema is used: any of these.
macro_rules! any_of {
    ($(#[doc = $doc:literal] $name:ident: $($one:ty),+;)+) => {$(
        #[doc = $doc]
        pub(crate) struct $name;

        impl PartialSchema for $name {
            fn schema() -> RefOr<Schema> {
                let any = AnyOfBuilder::new().description(Some($doc.trim()));
                any$(.item(Ref::from_schema_name(<$one>::name())))+.into()
            }
        }

        impl ToSchema for $name {
            fn schemas(into: &mut Vec<(String, RefOr<Schema>)>) {$(
                into.push((<$one>::name().into(), <$one>::schema()));
                <$one>::schemas(into);
            )+}
        }
    )+};
}

any_of! {
    /// The data of an event of the view: `full_state_snapshot`, a change, `progress`, `pulse`, `queues`, `bookmark`, `not_live`, `resync` or `refused`.
    ViewData: Snapshot, ViewEvent, ProgressLane, PulseLane, QueuesLane, Bookmark, NotLive, Resync, Problem;
    /// The data of an event of one job: `job_now`, a change, `progress` or `refused`.
    JobData: JobNow, ViewEvent, ProgressLane, Problem;
}
