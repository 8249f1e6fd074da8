//! The suite that every store passes. A store's tests call [`run_all!`](crate::conformance_tests)
//! with a function that opens an empty store on a clock that the suite moves.
//!
//! `claims` asks which jobs workers get; `rules` drives whole lives of jobs; `attempts` asks what an
//! attempt costs and leaves; `faults` has services that fail under jobs; `presence` has workers that come, go silent and come back; `successors`
//! asks what goes over to a new process; `truths` asks whether records and events say what is so;
//! `explained` asks why jobs wait; `reclaims` takes back what the store lost; `doctor` corrupts
//! records and has them mended; `races` steps through every interleaving of competing decisions, each
//! race also with a guard removed, which must make it fail; `model` runs random commands on the store
//! and on [`MemStore`](crate::MemStore) and compares every answer; `transfer` moves stores, and is
//! called by [`transfer_tests!`](crate::transfer_tests). `logged` keeps what is logged.

pub mod attempts;
pub mod claims;
pub mod doctor;
pub mod explained;
pub mod faults;
pub mod fleet;
pub mod logged;
pub mod model;
pub mod presence;
pub mod races;
pub mod reclaims;
pub mod rules;
pub mod successors;
pub mod transfer;
pub mod truths;

use std::sync::Arc;

use crate::{ManualClock, Store};

/// Opens an empty store; what it returns beside the store is dropped after it (a directory, say).
pub type Open = dyn Fn(ManualClock) -> (Arc<dyn Store>, Box<dyn std::any::Any>);

/// Makes one test of each part of the suite.
#[macro_export]
macro_rules! conformance_tests {
    ($open:expr) => {
        $crate::conformance_tests!(@each claims $open,
            order_is_priority_then_place,
            a_workflow_whose_jobs_have_ended_begins_at_a_new_place,
            a_claim_sees_past_jobs_it_cannot_run,
            a_claim_of_many_jobs_tells_of_its_worker_once,
            a_claim_beside_an_end_is_told_as_the_log_has_it,
            a_claim_takes_no_more_payload_than_one_answer_has_room_for,
            few_classes_far_down_are_claimed_in_their_order,
            the_wrong_worker_does_not_get_the_job_again,
            a_worker_that_a_job_rules_out_by_name_does_not_get_it,
            a_suspect_worker_proves_itself,
            a_worker_that_dies_of_every_job_is_suspect,
            a_jobs_own_time_limit_makes_no_worker_suspect,
            a_worker_that_dies_with_many_jobs_breaks_once,
            a_completion_ends_what_a_worker_broke_in_a_row,
            a_job_that_breaks_again_and_again_makes_no_worker_suspect,
            a_suspect_worker_that_is_resumed_is_trusted,
            of_what_a_suspect_worker_broke_the_latest_are_kept,
            a_poisonous_class_runs_one_probe,
            poisonous_classes_come_in_the_order_of_their_keys,
            a_waiting_worker_is_woken,
        );
        $crate::conformance_tests!(@each rules $open,
            an_idempotency_key_names_one_job,
            an_idempotency_key_is_its_customers_own,
            an_idempotency_key_outlives_its_job,
            failures_back_off_and_end,
            held_jobs_are_listed_behind_those_in_their_queues,
            a_bad_job_fails_at_once,
            losses_end_a_job_as_lost,
            nothing_was_heard_before_the_start,
            a_retry_forgets_the_losses,
            a_drained_worker_costs_its_job_nothing_but_a_loss,
            cancel_reaches_every_state,
            a_cancel_ends_with_the_run_that_it_was_for,
            a_late_result_is_kept_and_wins_while_the_run_lasts,
            a_late_result_loses_to_a_cancel,
            a_retry_is_a_new_run_at_a_new_place,
            stale_writes_change_nothing,
            the_log_is_dense_and_tells_everything,
            ended_jobs_are_kept_by_count_age_and_bytes,
            ended_jobs_are_listed_by_their_end,
            what_a_submission_puts_into_the_record_is_counted,
            late_files_are_counted,
        );
        $crate::conformance_tests!(@each attempts $open,
            an_attempt_that_did_not_start_costs_nothing,
            asking_twice_to_cancel_is_one_wish,
            a_claim_that_is_repeated_gets_the_same_job,
            each_exclusion_ends_at_its_own_time,
            exclusions_end_with_the_run,
            a_late_win_of_an_earlier_run_makes_room,
            a_renewal_names_attempt_and_token,
            a_job_that_is_lost_again_waits,
            holds_and_exclusions_last_their_time,
            a_wish_to_cancel_renews_no_lease,
            what_is_handed_in_late_is_no_new_loss,
            a_workers_jobs_are_listed,
        );
        $crate::conformance_tests!(@each faults $open,
            a_job_whose_service_failed_goes_elsewhere_first,
            where_nobody_else_is_able_a_fault_costs_the_backoff_alone,
            who_had_the_fault_gets_the_job_again_a_minute_after_the_backoff,
            a_job_under_which_every_service_failed_is_tried_again_soon,
            a_fault_of_the_right_worker_brings_the_wrong_one_no_job,
            a_job_that_ran_into_its_own_time_limit_may_stay_where_it_was,
        );
        $crate::conformance_tests!(@each presence $open,
            a_superseded_worker_is_told_so,
            a_claim_that_may_not_be_is_refused,
            processes_that_fight_over_an_id_are_noticed,
            silence_and_its_end_are_events,
            machines_that_are_gone_are_removed_in_time,
            only_what_is_gone_is_removed_and_all_of_it,
            a_drained_machine_drains_who_comes_to_it,
            a_stale_status_comes_back,
            a_service_that_was_not_registered_is_refused_by_name,
            a_worker_is_told_what_it_seems_not_to_know,
            an_alert_is_told_again_where_it_says_something_else,
            no_pause_outlasts_a_clock_that_was_set_back,
            who_is_away_is_found_out_after_the_clock_was_set_back,
            the_stores_absence_is_not_the_workers_silence,
            a_worker_of_which_nothing_is_heard_when_its_lease_ends_is_not_idle,
            a_process_that_dies_after_its_restart_is_not_there_when_its_jobs_lease_ends,
        );
        $crate::conformance_tests!(@each successors $open,
            a_new_process_takes_over_what_is_known_of_its_worker,
            a_worker_that_was_told_to_stop_is_stopping_until_it_has_left,
            a_worker_that_moves_keeps_its_orders,
            a_process_that_left_is_not_superseded,
            of_former_processes_the_newest_are_kept,
            an_agent_comes_anew_and_comes_back,
            a_machine_with_an_agent_is_as_its_agent_says,
            after_an_agents_goodbye_the_machine_is_its_workers,
            a_worker_is_ready_once_a_service_is,
            what_a_connector_says_is_told_anew,
            a_worker_that_is_away_gets_no_job,
            each_status_has_its_time,
            a_claim_alone_is_no_sign_of_life,
            a_machine_is_heard_as_the_last_of_it,
        );
        $crate::conformance_tests!(@each truths $open,
            a_goodbye_with_jobs_is_told_as_one,
            a_late_win_names_who_won,
            commands_of_one_call_keep_their_order,
            a_late_win_is_remembered_among_many_attempts,
            a_token_used_again_is_another_attempt,
            what_an_ended_attempt_hands_in_late_is_kept,
            an_agent_that_was_forgotten_is_told_so,
            exact_repeats_get_their_first_answer,
            a_late_win_and_a_claim_travel_together,
            one_token_is_one_job,
            an_attempt_is_its_workers_alone,
            an_adopted_attempt_names_the_process_that_has_it,
            a_service_that_comes_back_has_its_jobs,
            a_bare_workers_machine_follows_it,
            registering_again_changes_nothing,
            capabilities_that_cannot_be_are_refused,
            a_worker_that_was_silent_registers_and_is_back,
            a_superseded_process_is_not_heard,
            drains_speak_against_nobody,
            a_class_stays_poisonous_when_its_jobs_are_gone,
            a_hint_goes_to_a_worker_that_takes_jobs,
            a_workflows_place_is_its_customers,
            a_repair_takes_strangers_off_a_worker,
            the_oldest_job_of_a_class_is_not_its_head,
            a_job_is_gone_once_it_is_removed,
        );
        $crate::conformance_tests!(@each explained $open,
            workers_that_are_not_ready_are_named_with_their_reason,
            only_jobs_that_share_a_worker_are_ahead,
            jobs_of_one_workflow_are_ahead_by_their_order,
            a_class_is_told_with_its_customer_and_its_oldest_job,
        );
        $crate::conformance_tests!(@each reclaims $open,
            a_lost_claim_is_reclaimed,
            a_reclaimed_attempt_tells_its_story_and_has_a_lease,
            a_lost_start_is_told_again,
            a_job_on_hold_is_reclaimed,
            an_attempt_given_out_since_is_overtaken,
            a_lost_result_is_handed_in_again,
            a_result_that_was_taken_in_time_is_not_late_after_a_retry,
            a_claim_does_not_take_what_its_worker_is_about_to_reclaim,
            reclaiming_asks_for_no_slot_and_leaves_none,
            what_cannot_be_reclaimed_is_refused_unchanged,
            nothing_given_out_in_this_epoch_can_be_reclaimed,
        );
        #[tokio::test]
        async fn corrupted_records_are_found_and_mended() {
            $crate::conformance::doctor::all_are_found_and_mended(&$open).await;
        }
        #[tokio::test]
        async fn only_the_findings_that_are_named_are_mended() {
            $crate::conformance::doctor::only_the_named_are_mended(&$open).await;
        }
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
    (@each $part:ident $open:expr, $($name:ident,)*) => {
        $(
            #[tokio::test]
            async fn $name() {
                $crate::conformance::$part::$name(&$open).await;
            }
        )*
    };
}

/// Makes one test of each part of what a store that can be moved promises. Called with a function
/// that opens an empty store on a clock that the suite moves, as a [`Transfer`](crate::Transfer).
#[macro_export]
macro_rules! transfer_tests {
    ($open:expr) => {
        #[test]
        fn everything_moves_from_memory() {
            $crate::conformance::transfer::moves($crate::conformance::transfer::memory, $open);
        }
        #[test]
        fn everything_moves_to_memory() {
            $crate::conformance::transfer::moves($open, $crate::conformance::transfer::memory);
        }
        #[test]
        fn everything_moves_to_another_of_the_kind() {
            $crate::conformance::transfer::moves($open, $open);
        }
        $crate::transfer_tests!(@each $open,
            a_moved_jobs_old_attempt_hands_in_late,
            a_cancelled_attempt_is_over_after_the_move,
            a_closed_intake_lets_jobs_end,
            running_jobs_are_taken_along_only_when_told,
            a_change_during_the_export_is_told,
            only_an_empty_store_is_filled,
            a_broken_stream_changes_nothing,
            a_store_that_is_filled_serves_nobody,
            idempotency_keys_keep_the_time_that_remained,
        );
    };
    (@each $open:expr, $($name:ident,)*) => {
        $(
            #[tokio::test]
            async fn $name() {
                $crate::conformance::transfer::$name($open).await;
            }
        )*
    };
}
