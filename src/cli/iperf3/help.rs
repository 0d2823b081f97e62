//! What `-h` and `-v` print.

use super::story::system_info;
use crate::iperf3::output::view::VERSION;

/// What `-v` prints.
pub(super) fn version() -> String {
    format!(
        "{VERSION} (encapbench {})\n{}\nOptional features available: CPU affinity setting, IPv6 flow label, SCTP, TCP congestion algorithm setting, sendfile / zerocopy, socket pacing, authentication, bind to device, support IPv4 don't fragment\n",
        env!("CARGO_PKG_VERSION"),
        system_info()
    )
}

/// What `-h` prints.
pub(super) const HELP: &str = "\
Usage: iperf3 [-s|-c host] [options]
       iperf3 [-h|--help] [-v|--version]

Server or Client:
  -p, --port      #         port to listen on or to connect to (5201)
  -f, --format   [kmgtKMGT] unit of rates: bits or, in upper case, bytes
  -i, --interval  #         seconds between reports (1; 0 for none)
  -F, --file name           send this file (a client ends at its end), or
                            write there what is received; TCP alone
  -I, --pidfile file        write the process id there
  -A, --affinity n[,m]      run on CPU n, and the server on m
  -B, --bind <host>         use this local address
  -V, --verbose             say more
  -J, --json                print one JSON document
  --json-stream             print one JSON object a line, as things happen
  --json-stream-full-output and the whole document after them
  --logfile f               append output to a file
  --forceflush              flush output after each report
  --timestamps[=format]     begin each line with the time (strftime(3))
  --bind-dev dev            use this network device
  --rcv-timeout #           give up when no data came for # ms (120000)
  --snd-timeout #           ms that sent data may stay without an answer
  --cntl-ka[=#/#/#]         keepalive of the control connection: seconds until
                            the first probe, between probes, and how many
  -X, --xbind <name>        SCTP: bind to this local address; may be repeated
  -m, --mptcp               multipath TCP; a server takes it from any client
  -4, --version4            IPv4 only
  -6, --version6            IPv6 only
  --use-pkcs1-padding       pad credentials by PKCS#1, as before 3.17; a
                            server takes either then
  -d, --debug[=#]           accepted; set RUST_LOG for a log
  -v, --version             print the version
  -h, --help                print this
Server specific:
  -s, --server              run as a server
  -1, --one-off             end after one test
  --max-tests #             tests at once (1000)
  --one-test-at-a-time      others are told that the server is busy, as iperf3
                            does
  --server-bitrate-limit #[KMG][/#]   end tests above this rate in bits/s,
                            averaged over # seconds (5)
  --server-max-duration #   refuse tests of more than # seconds
  --idle-timeout #          with -1: end after # seconds without a client
  --rsa-private-key-path    private RSA key (PEM) to read credentials with
  --authorized-users-path   file with a line `name,hash` for each user
  --time-skew-threshold     seconds by which clients' clocks may be off (10)
Client specific:
  -c, --client <host>       run as a client of that server
  -u, --udp                 UDP (1 Mbit/s unless told otherwise)
  --sctp                    SCTP, where both kernels have it
  --nstreams #              SCTP: outgoing streams of an association
  --udp-counters-64bit      for more than 4 thousand million datagrams a stream
  --gsro                    UDP: let the kernel cut and join datagrams
  --dont-fragment           UDP over IPv4: forbid fragments
  --cport #                 local port of the first stream
  -L, --flowlabel N         IPv6 flow label, 1-0xfffff
  --connect-timeout #       ms to wait for a connection
  -b, --bitrate #[KMG][/#]  bits/s of each stream, and blocks in a burst
                            (unlimited)
  --pacing-timer #[KMG]     microseconds, for servers before 3.18
  --fq-rate #[KMG]          bits/s that the kernel paces each stream to
  -t, --time      #         seconds to transmit (10; 0 until interrupted)
  -n, --bytes     #[KMG]    bytes to transmit, instead of -t
  -k, --blockcount #[KMG]   blocks to transmit, instead of -t or -n
  -l, --length    #[KMG]    bytes of a block (128K; of SCTP 64K)
  -P, --parallel  #         streams (1), above 128 between encapbenches
  -R, --reverse             the server sends
  --bidir                   both send
  -w, --window    #[KMG]    socket buffers
  -C, --congestion <algo>   congestion control
  -M, --set-mss   #         maximum segment size (of SCTP from 512)
  -N, --no-delay            send small segments at once
  -S, --tos N               IP type of service, 0-255 (52, 064, 0x34)
  --dscp N                  the same as a DSCP, 0-63 or by name
  -Z, --zerocopy            send by sendfile(2)
  --skip-rx-copy            receive without copying
  --fast                    send and receive by what measures best, at both
                            ends where the server is encapbench too
  --with <names>            techniques to use besides, with commas between:
                            trunc short-queue gso gro low-water batch
                            event-loop sendfile zerocopy busy-poll
  --without <names>         techniques to do without
  -O, --omit N              warm up for N seconds first
  -T, --title str           begin each line with this
  --extra-data str          goes into the JSON of both ends
  --get-server-output       print what the server prints, too
  --repeating-payload       send digits instead of random bytes
  --username                name to log in as; the password is read from
                            IPERF3_PASSWORD or the terminal
  --rsa-public-key-path     the server's public RSA key (PEM)

Known, and not to be had here (it says why): -D

[KMG]: a suffix K, M, G or T; powers of 1024 for sizes, of 1000 for rates.

This is encapbench in the manner of iperf3: https://software.es.net/iperf/
";
