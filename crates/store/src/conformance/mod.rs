//! The suite that every store passes. A store's tests call [`run_all!`](crate::conformance_tests)
//! with a function that opens an empty store on a clock that the suite moves.
//!
//! `rules` drives whole lives of jobs; `races` steps through every interleaving of competing
//! decisions, each race also with a guard removed, which must make it fail; `model` runs random
//! commands on the store and on [`MemStore`](crate::MemStore) and compares every answer.

pub mod fleet;
pub mod model;
pub mod races;
pub mod rules;

use std::sync::Arc;

use crate::{ManualClock, Store};

/// Opens an empty store; what it returns beside the store is dropped after it (a directory, say).
pub type Open = dyn Fn(ManualClock) -> (Arc<dyn Store>, Box<dyn std::any::Any>);

/// Makes one test of each part of the suite.
#[macro_export]
macro_rules! conformance_tests {
    ($open:expr) => {
        $crate::conformance_tests!(@rules $open,
            order_is_priority_then_place,
            a_claim_sees_past_jobs_it_cannot_run,
            an_idempotency_key_names_one_job,
            failures_back_off_and_end,
            a_bad_job_fails_at_once,
            the_wrong_worker_does_not_get_the_job_again,
            losses_end_a_job_as_lost,
            a_drained_worker_costs_its_job_nothing_but_a_loss,
            cancel_reaches_every_state,
            a_late_result_is_kept_and_wins_while_the_run_lasts,
            a_retry_is_a_new_run_at_a_new_place,
            stale_writes_change_nothing,
            a_superseded_worker_is_told_so,
            processes_that_fight_over_an_id_are_noticed,
            silence_and_its_end_are_events,
            a_stale_status_comes_back,
            the_stores_absence_is_not_the_workers_silence,
            the_log_is_dense_and_tells_everything,
            a_suspect_worker_proves_itself,
            a_worker_that_dies_with_many_jobs_breaks_once,
            a_poisonous_class_runs_one_probe,
            a_waiting_worker_is_woken,
        );
        #[tokio::test]
        async fn races_on_every_interleaving() {
            $crate::conformance::races::all_hold(&$open).await;
        }
        #[tokio::test]
        async fn races_without_their_guard_fail() {
            $crate::conformance::races::all_fail_without_their_guard(&$open).await;
        }
        #[test]
        fn random_commands_agree_with_the_model() {
            $crate::conformance::model::agrees(&$open);
        }
    };
    (@rules $open:expr, $($name:ident,)*) => {
        $(
            #[tokio::test]
            async fn $name() {
                $crate::conformance::rules::$name(&$open).await;
            }
        )*
    };
}
