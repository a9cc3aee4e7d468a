//! The product as its users see it: clients on real sockets, a broker, a real store. Every test runs on each store.
#![allow(missing_docs, unreachable_pub, clippy::unwrap_used)]

pub mod kit;

macro_rules! modules {
    ($($module:ident)+) => { $( pub mod $module; )+ };
}
modules! { ladder offline restart priorities }

/// The suite: `suite!([attribute] path::to::a::fresh::database)`.
macro_rules! suite {
    ($attributes:tt $fresh:ident) => {
        e2e::suite! { @all $attributes $fresh
            ladder {
                a_message_goes_from_accepted_to_read
                everybody_has_a_line_of_their_own
                only_sender_and_recipients_may_ask
            }
            offline {
                who_was_offline_gets_direct_group_and_broadcast_messages
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
            }
            priorities {
                direct_messages_wait_for_the_right_moment
                group_messages_wait_for_the_right_moment
                a_status_that_nobody_confirms_ends
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
