//! The stable names of everything that can be refused.

use utoipa::openapi::{ObjectBuilder, RefOr, Type, schema::Schema};

macro_rules! codes {
    ($($(#[$doc:meta])* $variant:ident = $name:literal, $status:literal, $title:literal, $cure:literal;)*) => {
        /// Why a request was refused. Names are stable: programs may compare them.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum ErrorCode {
            $($(#[$doc])* $variant,)*
        }

        impl ErrorCode {
            pub const ALL: &[Self] = &[$(Self::$variant),*];

            /// As it stands in a problem document.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }

            /// The HTTP status that goes with it.
            pub const fn status(self) -> u16 {
                match self { $(Self::$variant => $status,)* }
            }

            /// What it is, in a few words.
            pub const fn title(self) -> &'static str {
                match self { $(Self::$variant => $title,)* }
            }

            /// What mends it, where the problem does not say anything closer.
            pub const fn cure(self) -> &'static str {
                match self { $(Self::$variant => $cure,)* }
            }
        }
    };
}

codes! {
    // The request as such.
    InvalidJson = "invalid_json", 400, "The body is not JSON",
        "send one JSON object in UTF-8; the detail says where reading stopped";
    WrongType = "wrong_type", 422, "A field is of the wrong type",
        "write the field as the OpenAPI document at /api/openapi.json says";
    UnknownField = "unknown_field", 422, "A field is unknown",
        "remove it, or correct its name; free data belongs into `metadata`";
    MissingField = "missing_field", 422, "A field is missing",
        "add it; /api/openapi.json lists the fields";
    OutOfRange = "out_of_range", 422, "A number is out of range",
        "use a number in the range that the detail names";
    TooLong = "too_long", 422, "A value is too long, or a list has too many entries",
        "shorten it to what the detail names";
    TooDeep = "too_deep", 422, "A value is nested too deeply",
        "nest objects and lists at most as deep as the detail names";
    InvalidId = "invalid_id", 422, "An identifier is not valid",
        "copy it as the server gave it out; of one that you choose, the detail says what it may be";
    InvalidQuery = "invalid_query", 400, "A parameter of the address is not valid",
        "correct the parameter that the pointer names";
    BadCursor = "bad_cursor", 400, "The cursor is not valid",
        "use the `next_cursor` of the page before as it is, or leave it out to begin anew";
    BadPosition = "bad_position", 400, "The position is not valid",
        "use EPOCH.SEQ as the last `id:` line gave it, or leave it out to begin with a snapshot";
    BodyTooLarge = "body_too_large", 413, "The body is too large",
        "JSON bodies have at most 64 MB: upload files with POST /api/v1/inputs and name them in `inputs`";
    BodyIncomplete = "body_incomplete", 400, "The body broke off",
        "send it again";
    WrongMediaType = "wrong_media_type", 415, "The body is in a form that this route does not take",
        "send the file's bytes as they are: curl --data-binary @FILE -H 'content-type: application/octet-stream'";
    RouteNotFound = "route_not_found", 404, "There is no such route",
        "see /api/openapi.json for the routes";
    MethodNotAllowed = "method_not_allowed", 405, "The route does not know this method",
        "see /api/openapi.json for the methods of the route";

    // Submissions.
    UnknownService = "unknown_service", 422, "No such service is known",
        "use a known service, or start a worker that brings this one first";
    UiFormatWorkflow = "ui_format_workflow", 422, "The workflow is in the editor's format",
        "in ComfyUI use \"Workflow > Export (API)\" (in older versions: settings, \"Enable Dev mode Options\", then \"Save (API Format)\") and send that file as payload.workflow";
    InvalidWorkflow = "invalid_workflow", 422, "The workflow cannot be run",
        "send payload.workflow as ComfyUI's \"Export (API)\" writes it: node id -> {class_type, inputs}";
    InvalidRequirements = "invalid_requirements", 422, "The requirements are not valid",
        "correct the field that the pointer names; the requirements are described in /api/openapi.json";
    ContradictoryRequirements = "contradictory_requirements", 422, "No worker could ever meet these requirements",
        "remove one of the two sides of the contradiction";
    InvalidName = "invalid_name", 422, "The file name is not valid",
        "use a plain file name: 1 to 200 bytes, without '/', '\\' and control characters, not beginning with '.'";
    InvalidInput = "invalid_input", 422, "The input is not valid",
        "use \"sha256:…\" from POST /api/v1/inputs, \"artifact:JOB/NAME\", or \"data:TYPE;base64,…\"";
    InputNotFound = "input_not_found", 422, "The input is not there",
        "upload it with POST /api/v1/inputs first";
    IdempotencyConflict = "idempotency_conflict", 409, "The idempotency key was used for another job",
        "draw a new key for a new job; the same key is only for exact repeats";
    JobGone = "job_gone", 410, "The job of this idempotency key is no longer kept",
        "nothing is left to do: it was taken once, and removed after its end; to run it once more, draw a new key";
    TooManyClasses = "too_many_classes", 503, "Too many different kinds of jobs are waiting",
        "use fewer different requirements, or wait until some of these jobs have ended";
    TooManyWaiting = "too_many_waiting", 503, "Too many jobs are waiting",
        "send it again once some of them were begun; `--max-waiting` of the server sets how many may wait";
    IntakeClosed = "intake_closed", 503, "The store takes no new work: it was closed for its export",
        "submit to the server that it moved to, or open it again with `pointsman intake open`";

    // What is not there.
    JobNotFound = "job_not_found", 404, "There is no such job",
        "check the id; ended jobs are removed after the time that the server keeps them; a store that came back from before the job (a fail-over, a backup) forgot it: submit it again";
    WorkerNotFound = "worker_not_found", 404, "There is no such worker",
        "see GET /api/v1/workers; a worker process registers itself again";
    MachineNotFound = "machine_not_found", 404, "There is no such machine",
        "see GET /api/v1/machines";
    NotFound = "not_found", 404, "There is no such thing",
        "check its name";
    ArtifactNotFound = "artifact_not_found", 404, "The job has no such artifact",
        "see `artifacts` of the job's record; they are there once it has completed";
    ArtifactGone = "artifact_gone", 410, "The artifact's file is not where this server keeps files",
        "all servers and direct workers of a fleet need one directory, `--artifacts DIR`; a file that is lost comes back with POST …/retry";
    PayloadGone = "payload_gone", 410, "The payload is no longer kept",
        "submit the job again with its payload";
    ResultNotFound = "result_not_found", 404, "The job has no result",
        "wait until it has completed; not every service hands one in";
    PreviewNotFound = "preview_not_found", 404, "There is no preview",
        "a running job has one from when its service shows the first";
    LogCut = "log_cut", 410, "The log before this position is no longer kept",
        "begin again: GET /api/v1/snapshot, and go on from its epoch.seq";

    // The state of what is there.
    AlreadyEnded = "already_ended", 409, "The job has ended already",
        "nothing is left to do; POST …/retry begins a new run";
    NotEnded = "not_ended", 409, "The job has not ended",
        "wait for its end, or cancel it first";
    NotGone = "not_gone", 409, "It is still there",
        "stop its process (drain it before, and what it runs may end); it can be removed once it is offline, at most 15 s after it was last heard, and its jobs are given back";
    InvalidState = "invalid_state", 409, "The rules do not allow this now",
        "see the detail";

    // The worker protocol.
    StaleAttempt = "stale_attempt", 409, "The attempt is no longer the job's",
        "stop this attempt; a finished result may be handed in with …/late";
    UnknownAttempt = "unknown_attempt", 409, "The store never gave out this attempt",
        "use job, attempt and token as the claim gave them";
    Superseded = "superseded", 409, "A newer process has this id",
        "stop this process; give each worker an id of its own";
    ArtifactExists = "artifact_exists", 409, "The attempt has an artifact of this name with other content",
        "artifacts are never overwritten: use another name";
    ArtifactMissing = "artifact_missing", 409, "A listed artifact was not stored",
        "PUT attempts/{token}/artifacts/{name} first, then finish";
    DigestMismatch = "digest_mismatch", 422, "The content does not have the given SHA-256",
        "send it again";
    FileTooLarge = "file_too_large", 413, "The file is too large",
        "files have at most 4 GiB, previews at most 4 MiB";
    RangeNotSatisfiable = "range_not_satisfiable", 416, "The range lies outside the file",
        "use a range within the size that Content-Range names";

    // Access.
    Unauthorized = "unauthorized", 401, "A token is needed",
        "send `Authorization: Bearer TOKEN`; `pointsman token add NAME --role ROLE` makes one on the server's machine";
    Forbidden = "forbidden", 403, "This token may not do that",
        "use a token with the role that the detail names";
    ForeignHost = "foreign_host", 403, "The Host header is not this machine's",
        "use http://127.0.0.1 or http://localhost; to be reached by another name, listen on another address, with a token";
    ForeignOrigin = "foreign_origin", 403, "Another site's page may not use this server",
        "open the pages from this server itself; programs must not send Origin";

    // The server.
    StoreFull = "store_full", 503, "The store is full",
        "free space on the server's disk, or give Redis more memory; running jobs go on, and new ones are taken again when there is room";
    FilesAway = "files_away", 503, "The server's directory of files is out of reach",
        "mount what its --artifacts names on the server's machine; the files of running jobs wait for it";
    StoreFailed = "store_failed", 503, "The store does not answer",
        "try again in a moment; if it stays so, see the server's log";
    StoreDamaged = "store_damaged", 503, "What is stored of it is damaged; nothing was changed",
        "`pointsman doctor` says what is wrong, and `--repair` mends it: then repeat";
    StoreNewer = "store_newer", 503, "A newer version has taken the store over",
        "start that version in the place of this server, or ask another server of the fleet";
    OutcomeUnknown = "outcome_unknown", 503, "It is not known whether this was done",
        "repeat exactly the same request: it gets the first answer if it was done";
    NotReady = "not_ready", 503, "The server is not ready",
        "try again in a moment";
    Importing = "importing", 503, "The store is being filled by an import",
        "wait until `pointsman import` is done";
    TooManyBodies = "too_many_bodies", 503, "Too much of requests' bodies is in memory",
        "send it again in a moment; large files go with POST /api/v1/inputs";
    TooManyAnswers = "too_many_answers", 503, "Too much of answers is in memory",
        "ask again in a moment; answers go as their clients take them";
    TooManyStreams = "too_many_streams", 503, "Too many event streams are open",
        "close some of them, or try again later";
    Internal = "internal", 500, "The server made a mistake",
        "see the server's log for the request; please report it";
}

impl ErrorCode {
    /// The code of this name, if this version knows it.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|code| code.as_str() == name)
    }
}

impl std::fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// In the OpenAPI document: all codes with status and cure.
impl utoipa::PartialSchema for ErrorCode {
    fn schema() -> RefOr<Schema> {
        let line = |code: &Self| {
            format!("- `{code}` ({}): {}. Cure: {}.", code.status(), code.title(), code.cure())
        };
        let lines: Vec<String> = Self::ALL.iter().map(line).collect();
        ObjectBuilder::new()
            .schema_type(Type::String)
            .enum_values(Some(Self::ALL.iter().map(|code| code.as_str())))
            .description(Some(format!(
                "Stable names of errors, each with its status (`{}` has another, 404, where the \
                 file itself is asked for).\n\n{}",
                Self::InputNotFound,
                lines.join("\n")
            )))
            .into()
    }
}

impl utoipa::ToSchema for ErrorCode {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_found_again() {
        for code in ErrorCode::ALL {
            assert_eq!(ErrorCode::named(code.as_str()), Some(*code));
            assert!((400..600).contains(&code.status()), "{code}");
            assert!(!code.cure().is_empty() && !code.cure().ends_with('.'), "{code}");
        }
    }

    #[test]
    fn the_users_page_lists_them_all_as_they_are() {
        let page = include_str!("../../../docs/api.md");
        for code in ErrorCode::ALL {
            let (status, title, cure) = (code.status(), code.title(), code.cure());
            let row = format!("| `{code}` | {status} | {title} | {cure} |");
            assert!(page.contains(&row), "docs/api.md lacks: {row}");
        }
        let rows = page.lines().filter(|line| line.starts_with("| `") && line.contains("` | "));
        let rows = rows.filter(|line| line.matches(" | ").count() == 3);
        assert_eq!(rows.count(), ErrorCode::ALL.len(), "docs/api.md lists a code that is gone");
    }
}
