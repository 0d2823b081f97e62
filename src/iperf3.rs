//! iperf3
