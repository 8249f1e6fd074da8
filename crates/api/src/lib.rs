//! What goes over the wire: requests and answers, and errors as problem documents.
//!
//! A request is read strictly ([`read_json`]): whatever is wrong in it is refused with a stable
//! [`ErrorCode`], a JSON pointer to the wrong field, and a cure.

mod code;
mod depth;
mod doctor;
mod idempotency;
mod input;
mod intake;
mod job;
mod legible;
mod name;
mod problem;
mod read;
mod refused;
mod retry;
mod snapshot;
mod submission;
mod values;
mod worker;

pub use code::ErrorCode;
pub use doctor::{MendRequest, MendResult};
pub use input::{InputSource, InputStored, Sha256Hex};
pub use intake::IntakeState;
pub use job::{Attempts, CurrentProgress, Explained, JobsOrder, JobsPage, JobsQuery};
pub use name::check_file_name;
pub use problem::{Facts, PROBLEM_JSON, Problem, ProblemDocument};
pub use read::read_json;
pub use retry::RetryRequest;
pub use snapshot::{LogPage, Snapshot, ViewEvent};
pub use submission::{
    Batch, BatchItem, BatchResult, MAX_BATCH, MAX_BODY, Submission, ValidSubmission,
};
pub use values::{MAX_OFFERS, MAX_SAID, read_said};
pub use worker::{
    ArtifactStored, AttemptRef, ClaimRequest, ClaimedJob, ExchangeRequest, Exchanged,
    FinishRequest, JobProgress, LeaveRequest, MAX_CLAIM, MAX_OPS, MAX_WAIT_S, OpResult,
    RegisterRequest, Registered, ReleaseRequest, RenewRequest, Renewed,
};
