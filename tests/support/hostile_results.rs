//! Results that mean no good, from either end.

/// Documents that are no results, or results of another world.
pub(crate) const RESULTS: [&str; 10] = [
    "{}",
    "[]",
    "{\"cpu_util_total\":1e999}",
    "{\"cpu_util_total\":0,\"cpu_util_user\":0,\"cpu_util_system\":0,\"sender_has_retransmits\":1,\"streams\":{}}",
    "{\"cpu_util_total\":0,\"cpu_util_user\":0,\"cpu_util_system\":0,\"sender_has_retransmits\":1,\"streams\":[5]}",
    "{\"cpu_util_total\":0,\"cpu_util_user\":0,\"cpu_util_system\":0,\"sender_has_retransmits\":1,\"streams\":[{\"id\":1}]}",
    // A stream that is none of the test's.
    "{\"cpu_util_total\":0,\"cpu_util_user\":0,\"cpu_util_system\":0,\"sender_has_retransmits\":1,\"streams\":[{\"id\":77,\
     \"bytes\":1,\"retransmits\":0,\"jitter\":0,\"errors\":0,\"packets\":0}]}",
    // Numbers at their ends, and an id twice.
    "{\"cpu_util_total\":1e308,\"cpu_util_user\":-1e308,\"cpu_util_system\":0,\"sender_has_retransmits\":9223372036854775807,\
     \"streams\":[{\"id\":1,\"bytes\":9223372036854775807,\"retransmits\":9223372036854775807,\"jitter\":1e308,\"errors\":9223372036854775807,\
     \"packets\":-9223372036854775808,\"omitted_errors\":-9223372036854775808,\"omitted_packets\":9223372036854775807,\"start_time\":-1e308,\
     \"end_time\":1e308},{\"id\":1,\"bytes\":9223372036854775807,\"retransmits\":0,\"jitter\":0,\"errors\":0,\"packets\":0}]}",
    "{\"cpu_util_total\":0,\"cpu_util_user\":0,\"cpu_util_system\":0,\"sender_has_retransmits\":1,\"streams\":[]}",
    "\u{0}\u{0}\u{0}",
];
