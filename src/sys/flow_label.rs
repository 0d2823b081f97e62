//! IPv6 flow labels (RFC 6437), which no crate wraps: leasing one, and sending with it.
#![expect(
    unsafe_code,
    reason = "setsockopt with a structure that libc does not declare"
)]

use std::{
    io,
    net::Ipv6Addr,
    os::fd::{AsFd, AsRawFd},
};

/// `linux/in6.h`.
const IPV6_FLOWLABEL_MGR: libc::c_int = 32;
const IPV6_FLOWINFO_SEND: libc::c_int = 33;
const IPV6_FL_A_GET: u8 = 0;
const IPV6_FL_F_CREATE: u16 = 1;
/// All sockets of a process may share the label, as the streams of a test do.
const IPV6_FL_S_PROCESS: u8 = 2;

/// `struct in6_flowlabel_req` of `linux/in6.h`.
#[repr(C)]
struct Lease {
    destination: [u8; 16],
    /// In network byte order.
    label: u32,
    action: u8,
    share: u8,
    flags: u16,
    expires: u16,
    linger: u16,
    pad: u32,
}

/// Leases a label (1 to 0xfffff) towards a destination for this socket, and lets it send with labels. The address that
/// is connected to must then carry the label as its flow information, in network byte order.
///
/// # Errors
/// Where the kernel refuses: no IPv6 socket, a label that another process has.
pub fn lease_flow_label(socket: impl AsFd, destination: Ipv6Addr, label: u32) -> io::Result<()> {
    let lease = Lease {
        destination: destination.octets(),
        label: label.to_be(),
        action: IPV6_FL_A_GET,
        share: IPV6_FL_S_PROCESS,
        flags: IPV6_FL_F_CREATE,
        expires: 0,
        linger: 0,
        pad: 0,
    };
    set(&socket, IPV6_FLOWLABEL_MGR, &lease)?;
    set(&socket, IPV6_FLOWINFO_SEND, &1_i32)
}

fn set<T>(socket: &impl AsFd, option: libc::c_int, value: &T) -> io::Result<()> {
    // SAFETY: the option's value is the plain data that the pointer and the length describe; the kernel only reads it.
    let result = unsafe {
        libc::setsockopt(
            socket.as_fd().as_raw_fd(),
            libc::IPPROTO_IPV6,
            option,
            std::ptr::from_ref(value).cast(),
            size_of::<T>() as libc::socklen_t,
        )
    };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::UdpSocket;

    #[test]
    fn only_ipv6_has_labels() {
        let v4 = UdpSocket::bind("127.0.0.1:0").unwrap();
        assert!(lease_flow_label(&v4, Ipv6Addr::LOCALHOST, 5).is_err());
        // Where there is no IPv6 there is nothing to lease.
        if let Ok(v6) = UdpSocket::bind("[::1]:0") {
            lease_flow_label(&v6, Ipv6Addr::LOCALHOST, 0x12345).unwrap();
        }
    }
}
