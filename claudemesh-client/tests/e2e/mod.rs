//! The product as its users see it: clients on real sockets, a broker, a real store. Every test runs on each store.
#![allow(missing_docs, unreachable_pub, clippy::unwrap_used)]

pub mod kit;

macro_rules! modules {
    ($($module:ident)+) => { $( pub mod $module; )+ };
}
modules! {
    ladder offline restart priorities sessions hidden grants names state presence members invites encryption audit original
    overview tools crowd large restored enrolment admission tampering
    memory contexts tasks streams sql vectors graph files peer_files skills git_server
}

/// The suite: `suite!([attribute] path::to::a::fresh::database)`.
macro_rules! suite {
    ($attributes:tt $fresh:ident) => {
        e2e::suite! { @all $attributes $fresh
            ladder {
                a_message_goes_from_accepted_to_read
                defect_074_everybody_has_a_line_of_their_own
                defect_074_only_sender_and_recipients_may_ask
            }
            offline {
                defect_057_sub_e_20_cli_18_who_was_offline_gets_direct_group_and_broadcast_messages
                what_waited_comes_in_order
                what_waits_too_long_ends_as_expired
                what_is_held_too_long_ends_as_expired
                what_waits_can_be_counted_without_being_taken
            }
            restart {
                a_broker_restart_in_the_middle_of_traffic_loses_nothing
                what_is_sent_while_the_broker_is_down_arrives_once
                a_restarted_sender_repeats_nothing
                a_restarted_receiver_gets_the_rest
                a_killed_receiver_loses_nothing
            }
            priorities {
                direct_messages_wait_for_the_right_moment
                defect_069_sub_e_21_group_messages_wait_for_the_right_moment
                defect_073_a_status_that_nobody_confirms_ends
            }
            sessions {
                each_message_goes_to_one_session
                the_hinted_session_is_preferred
                what_a_dying_session_had_goes_to_another_one
                a_lease_that_lapses_delivers_again
                observers_take_nothing
                a_session_that_does_not_answer_is_passed_over
                what_sessions_that_vanish_had_comes_in_its_order
                observers_share_what_waits_without_a_session
                an_observer_speaks_for_the_live_sessions
            }
            hidden {
                a_hidden_session_is_not_seen_and_gets_direct_messages_only
                defect_070_077_nothing_comes_back_to_its_sender
                who_starts_hidden_is_never_announced
                a_member_is_reached_through_what_it_shows
                a_sender_has_no_part_in_its_own_group_message
            }
            grants {
                defect_059_cli_41_who_is_blocked_is_told_at_once
                defect_058_sub_e_06_what_waits_when_the_block_comes_is_not_delivered
                defect_060_capabilities_are_apart
                a_block_outlasts_whatever_was_on_its_way
                changes_of_two_sessions_add_up
                a_message_that_nobody_takes_ends_at_once
                who_may_not_read_sees_nobody
            }
            names {
                names_find_their_member_or_say_why_not
                one_unknown_name_does_not_hold_up_the_others
                groups_are_found_or_near_ones_suggested
                unusual_names_are_found_as_they_are_written
                names_and_keys_that_are_gone_lead_nowhere
            }
            state {
                values_are_set_read_listed_and_deleted
                what_does_not_fit_is_refused_with_its_field
                of_two_writers_the_last_wins
                keys_and_values_are_kept_as_they_are
                all_others_hear_of_a_change_in_its_order
                two_writes_at_once_are_two_versions_of_one_key
            }
            memory {
                everybody_finds_what_is_remembered
                any_query_is_answered
                defect_022_only_author_and_admins_forget
                each_mesh_remembers_for_itself
                who_may_not_read_or_write_does_not
                limits_are_told
            }
            contexts {
                each_member_has_one_per_topic
                only_those_who_may_see_them
                the_oldest_topic_makes_room
            }
            tasks {
                cli_20_one_of_fifty_claims
                cli_24_from_open_to_done
                defect_022_105_who_may_not_is_told_why
                what_is_not_shown_cannot_be_touched
                defect_101_claims_end
                a_claim_belongs_to_one_session
                who_is_removed_holds_no_task
            }
            streams {
                events_come_in_order_to_everybody_else
                a_broken_connection_loses_and_doubles_nothing
                the_past_is_shown_on_request
                a_slow_subscriber_slows_nobody_and_is_told
                who_may_not_is_refused
                original_clients_use_streams_as_before
            }
            sql {
                members_share_tables_and_see_nothing_else
                defect_020_104_105_who_may_not_is_refused_and_everybody_is_told
                original_clients_use_shared_sql_as_before
            }
            vectors {
                defect_036_037_texts_are_found_by_meaning
                an_embedder_makes_the_vectors
                who_may_not_is_refused_and_nothing_is_changed
                what_does_not_fit_is_refused_with_its_field
                two_members_store_and_create_at_once
                original_clients_use_vectors_as_before
            }
            graph {
                members_share_a_graph_and_see_no_other
                defect_039_who_may_not_change_the_graph_cannot
                original_clients_use_the_graph_as_before
            }
            presence {
                defect_097_groups_summary_and_profile_come_back
                who_closes_and_comes_back_at_once_finds_what_it_left
                defect_095_sub_e_25_counters_never_double
            }
            members {
                only_those_who_may_remove_members
                a_removed_member_is_out_at_once
                what_waited_for_an_absent_member_ends_as_revoked
                an_archived_mesh_is_cut_off
            }
            invites {
                cli_62_no_more_join_than_may
                who_is_a_member_already_uses_nothing_up
                cli_62_invites_end
                only_those_who_may_invite
                a_token_of_version_1_lets_in
                presets_are_what_new_members_start_with
            }
            encryption {
                a_removed_member_reads_nothing_new
                who_joins_may_read_what_was_said_before
                who_joins_reads_only_what_follows_if_the_mesh_says_so
                defect_040_sub_e_02_cli_02_who_joins_by_code_alone_gets_the_keys_from_a_member
            }
            audit {
                defect_114_everything_that_counts_is_on_record
            }
            original {
                original_clients_talk_to_each_other
                both_versions_talk_to_each_other
                defect_067_cli_19_who_is_offline_gets_it_by_member_key
                replies_have_the_originals_shape
            }
            large {
                cli_26_a_large_message_arrives_and_one_too_large_harms_nobody
            }
            overview {
                cli_69_ping_measures_every_priority
                the_overview_counts_what_there_is
            }
            tools {
                every_tool_works_and_names_what_is_wrong
            }
            crowd {
                twenty_members_lose_nothing
                a_crowd_that_comes_and_goes_loses_nothing
            }
            restored {
                who_hides_stays_hidden
                what_was_taken_back_stays_gone
                sessions_side_by_side_add_up
                a_report_whose_answer_is_lost_counts_once
            }
            enrolment {
                three_of_twenty_who_come_at_once_get_in
                an_invite_past_its_time_lets_nobody_in
                an_invited_admin_is_one_and_an_invite_dies_with_its_mesh
                members_edit_themselves_and_admins_edit_members
                rights_are_in_force_at_once
                who_leaves_is_gone_over_http_too
            }
            admission {
                the_secret_of_the_link_is_enough
                without_the_secret_the_keys_come_with_the_first_member
            }
            tampering {
                every_audited_operation_leaves_an_entry
                what_is_changed_behind_the_back_is_found
            }
            files {
                defect_049_a_file_goes_to_whom_it_was_shared_with
                files_are_found
                defect_048_cli_18_an_owner_opens_and_grants_after_a_restart
                defect_021_022_only_who_may_grants_deletes_and_looks
                defect_016_047_sub_e_23_cli_42_nothing_comes_or_goes_without_a_proof
                an_address_ends
                an_upload_goes_on_where_it_stopped
                a_file_that_changed_meanwhile_is_uploaded_anew
                transfers_survive_a_restart_of_the_broker
                a_download_goes_on_where_it_stopped
                what_is_altered_at_the_broker_is_found
                defect_053_what_is_over_is_removed
                limits_are_kept_and_named
            }
            skills {
                cli_68_skills_are_shared_read_and_removed
                defect_022_only_authors_and_admins_change_a_skill
                skills_come_with_their_files
                defect_044_a_sealed_archive_is_deployed
                defect_044_a_repository_is_deployed
                limits_of_skills_are_told
                original_clients_use_skills_as_before
            }
            peer_files {
                defect_050_cli_26_cli_38_files_are_read_from_shared_directories_only
                defect_018_only_who_was_asked_answers
                a_question_is_answered_once_and_to_its_member
            }
        }
    };
    (@all $attributes:tt $fresh:ident $( $module:ident { $($name:ident)+ } )+) => {
        $( mod $module { $( crate::e2e::suite!(@one $attributes $fresh $module $name); )+ } )+
    };
    (@one [$($attribute:meta)?] $fresh:ident $module:ident $name:ident) => {
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        $(#[$attribute])?
        async fn $name() {
            crate::e2e::$module::$name(crate::$fresh().await).await;
        }
    };
}
pub(crate) use suite;
