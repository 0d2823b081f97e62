//! `encapbench iperf3`: iperf3's own command line, client and server.

mod getopt;
mod options;
mod quantity;
