//! Enums whose variants have one name everywhere: in JSON, in the stores and in texts.

macro_rules! named {
    ($(#[$meta:meta])* pub enum $enum:ident {
        $($(#[$doc:meta])* $variant:ident = $name:literal,)*
    }) => {
        $(#[$meta])*
        #[derive(
            Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash,
            serde::Serialize, serde::Deserialize, utoipa::ToSchema,
        )]
        #[serde(rename_all = "snake_case")]
        pub enum $enum {
            $($(#[$doc])* $variant,)*
        }

        impl $enum {
            pub const ALL: [Self; [$($name),*].len()] = [$(Self::$variant),*];

            /// The name that it has in JSON.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }

            /// The one of that name; none for a name that this program does not know.
            pub fn named(name: &str) -> Option<Self> {
                Self::ALL.into_iter().find(|one| one.as_str() == name)
            }
        }
    };
}
pub(crate) use named;

#[cfg(test)]
mod tests {
    use std::fmt::Debug;

    use serde::{Serialize, de::DeserializeOwned};

    use crate::{
        EventName, FailureKind, LossReason, RecordKind,
        record::{
            AlertRule, ConnectorStatus, HoldReason, JobStatus, MachineStatus, Severity,
            WorkerStatus,
        },
    };

    fn check<T: Serialize + DeserializeOwned + PartialEq + Debug + Copy>(
        all: impl IntoIterator<Item = T>,
        name: fn(T) -> &'static str,
        named: fn(&str) -> Option<T>,
    ) {
        for one in all {
            assert_eq!(serde_json::to_value(one).unwrap(), name(one));
            assert_eq!(named(name(one)), Some(one));
        }
    }

    #[test]
    fn names_are_those_in_json() {
        check(EventName::ALL, EventName::as_str, EventName::named);
        check(RecordKind::ALL, RecordKind::as_str, RecordKind::named);
        check(LossReason::ALL, LossReason::as_str, LossReason::named);
        check(JobStatus::ALL, JobStatus::as_str, JobStatus::named);
        check(HoldReason::ALL, HoldReason::as_str, HoldReason::named);
        check(AlertRule::ALL, AlertRule::as_str, AlertRule::named);
        check(WorkerStatus::ALL, WorkerStatus::as_str, WorkerStatus::named);
        check(ConnectorStatus::ALL, ConnectorStatus::as_str, ConnectorStatus::named);
        check(MachineStatus::ALL, MachineStatus::as_str, MachineStatus::named);
        check(FailureKind::ALL, FailureKind::as_str, FailureKind::named);
        check(Severity::ALL, Severity::as_str, Severity::named);
    }
}
