//! The iperf3 protocol: [`wire`] is its messages and states without sockets; [`client`] and [`server`] speak it.
//!
//! Interoperates with stock iperf3 3.0 to 3.21 over TCP, either role.

pub mod wire;
