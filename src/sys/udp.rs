//! UDP calls that neither socket2 nor rustix has: batches of messages (sendmmsg(2), recvmmsg(2)), segmentation on
//! send and coalescing on receive (UDP_SEGMENT and UDP_GRO, udp(7)).
#![expect(
    unsafe_code,
    reason = "sendmmsg, recvmmsg and options of UDP, which the safe wrappers don't offer"
)]

use std::{
    io,
    mem::zeroed,
    os::fd::{AsFd, AsRawFd},
    ptr,
};

/// The most messages of one call.
pub const BATCH: usize = 64;

/// Room for the control messages that we ask for, an int and a time; aligned as `cmsghdr` must be.
type ControlRoom = [u64; 8];

fn set(socket: impl AsFd, level: libc::c_int, option: libc::c_int, value: libc::c_int) -> io::Result<()> {
    // SAFETY: the option's value is the int that the pointer and the length describe.
    let result = unsafe {
        libc::setsockopt(
            socket.as_fd().as_raw_fd(),
            level,
            option,
            (&raw const value).cast(),
            size_of::<libc::c_int>() as libc::socklen_t,
        )
    };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Cuts what is sent in one message into datagrams of `bytes` (UDP_SEGMENT); 0 turns it off.
///
/// # Errors
/// Where the kernel doesn't know it (before 4.18).
pub fn set_segment(socket: impl AsFd, bytes: u16) -> io::Result<()> {
    set(socket, libc::SOL_UDP, libc::UDP_SEGMENT, bytes.into())
}

/// Lets the kernel hand over several datagrams of one size in one message (UDP_GRO): see [`Received::segment`].
///
/// # Errors
/// Where the kernel doesn't know it (before 5.0).
pub fn set_coalescing(socket: impl AsFd, on: bool) -> io::Result<()> {
    set(socket, libc::SOL_UDP, libc::UDP_GRO, on.into())
}

/// Lets the kernel tell when each message came (SO_TIMESTAMPNS, socket(7)): see [`Received::arrived`].
///
/// # Errors
/// Where the kernel refuses.
pub fn set_stamps(socket: impl AsFd, on: bool) -> io::Result<()> {
    set(socket, libc::SOL_SOCKET, libc::SO_TIMESTAMPNS, on.into())
}

/// Forbids fragments of what an IPv4 socket sends (IP_MTU_DISCOVER, ip(7)): what is too long for the path is refused.
///
/// # Errors
/// Where the socket is not IPv4.
pub fn set_dont_fragment(socket: impl AsFd) -> io::Result<()> {
    set(
        socket,
        libc::IPPROTO_IP,
        libc::IP_MTU_DISCOVER,
        libc::IP_PMTUDISC_DO,
    )
}

/// Lets the kernel take ESP out of what comes to a socket, and decrypt it by its states (UDP_ENCAP_ESPINUDP, RFC 3948).
///
/// # Errors
/// Where the kernel has no IPsec.
pub fn take_esp(socket: impl AsFd) -> io::Result<()> {
    // linux/udp.h
    const UDP_ENCAP: libc::c_int = 100;
    const UDP_ENCAP_ESPINUDP: libc::c_int = 2;
    set(socket, libc::SOL_UDP, UDP_ENCAP, UDP_ENCAP_ESPINUDP)
}

/// Sends `bytes` on a connected socket as messages of `message` bytes each (the last may be shorter), [`BATCH`] at
/// most. Returns how many the kernel took.
///
/// # Errors
/// Where it took none, as sendmsg(2); `WouldBlock` when the send timeout passed.
pub fn send_batch(socket: impl AsFd, bytes: &[u8], message: usize) -> io::Result<usize> {
    let empty = libc::iovec {
        iov_base: ptr::null_mut(),
        iov_len: 0,
    };
    let mut vectors = [empty; BATCH];
    // SAFETY: all zeros is a valid mmsghdr: null pointers and zero lengths.
    let mut headers: [libc::mmsghdr; BATCH] = unsafe { zeroed() };
    let mut count = 0;
    for ((part, vector), header) in bytes.chunks(message.max(1)).zip(&mut vectors).zip(&mut headers) {
        vector.iov_base = part.as_ptr().cast_mut().cast();
        vector.iov_len = part.len();
        header.msg_hdr.msg_iov = vector;
        header.msg_hdr.msg_iovlen = 1;
        count += 1;
    }
    // SAFETY: the first `count` headers each point to one vector, and that to a part of `bytes`, all alive during the
    // call; sending only reads the parts. The kernel writes msg_len of the headers.
    let sent = unsafe { libc::sendmmsg(socket.as_fd().as_raw_fd(), headers.as_mut_ptr(), count, 0) };
    usize::try_from(sent).map_err(|_| io::Error::last_os_error())
}

/// Receives messages in batches into a buffer of its own.
#[derive(Debug)]
pub struct ReceiveBatch {
    buffer: Vec<u8>,
    room: usize,
    most: usize,
    /// How many the next call asks for: what is asked for has to be laid out anew each time.
    next: usize,
    /// How many the last call asked for.
    asked: usize,
    received: Vec<(usize, Told)>,
}

/// One received message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Received<'a> {
    /// Its bytes, cut at the room there was.
    pub bytes: &'a [u8],
    /// Where the kernel put several datagrams into it, the bytes of each (the last may be shorter).
    pub segment: Option<usize>,
    /// When it came, in nanoseconds of CLOCK_REALTIME; only where [`set_stamps`] is on.
    pub arrived: Option<u64>,
}

/// What the kernel tells of a message beside its bytes.
#[derive(Debug, Clone, Copy, Default)]
struct Told {
    segment: Option<usize>,
    arrived: Option<u64>,
}

impl ReceiveBatch {
    /// For messages of up to `room` bytes, at most `most` (1 to [`BATCH`]) at once.
    pub fn new(room: usize, most: usize) -> Self {
        let most = most.clamp(1, BATCH);
        Self {
            buffer: vec![0; room.max(1) * most],
            room: room.max(1),
            most,
            next: 1,
            asked: 1,
            received: Vec::with_capacity(most),
        }
    }

    /// Waits for a message and takes those that are there, replacing the ones before.
    ///
    /// # Errors
    /// As recvmsg(2); `WouldBlock` when the receive timeout passed.
    pub fn receive(&mut self, socket: impl AsFd) -> io::Result<()> {
        self.received.clear();
        let empty = libc::iovec {
            iov_base: ptr::null_mut(),
            iov_len: 0,
        };
        let mut vectors = [empty; BATCH];
        let mut controls: [ControlRoom; BATCH] = [[0; 8]; BATCH];
        // SAFETY: all zeros is a valid mmsghdr: null pointers and zero lengths.
        let mut headers: [libc::mmsghdr; BATCH] = unsafe { zeroed() };
        let mut count = 0;
        for (((part, vector), header), control) in self
            .buffer
            .chunks_exact_mut(self.room)
            .take(self.next)
            .zip(&mut vectors)
            .zip(&mut headers)
            .zip(&mut controls)
        {
            vector.iov_base = part.as_mut_ptr().cast();
            vector.iov_len = part.len();
            header.msg_hdr.msg_iov = vector;
            header.msg_hdr.msg_iovlen = 1;
            header.msg_hdr.msg_control = control.as_mut_ptr().cast();
            header.msg_hdr.msg_controllen = size_of::<ControlRoom>() as _;
            count += 1;
        }
        // SAFETY: the first `count` headers each point to one vector over a part of `buffer` of its own and to a control
        // room of its own, with their true lengths, all alive and borrowed by nobody else during the call.
        let got = unsafe {
            libc::recvmmsg(
                socket.as_fd().as_raw_fd(),
                headers.as_mut_ptr(),
                count,
                libc::MSG_WAITFORONE,
                ptr::null_mut(),
            )
        };
        let got = usize::try_from(got).map_err(|_| io::Error::last_os_error())?;
        for header in headers.iter().take(got) {
            self.received
                .push((header.msg_len as usize, told(&header.msg_hdr)));
        }
        self.asked = self.next;
        self.next = (got * 2).clamp(1, self.most);
        Ok(())
    }

    /// The messages of the last call.
    pub fn messages(&self) -> impl Iterator<Item = Received<'_>> {
        self.received
            .iter()
            .zip(self.buffer.chunks_exact(self.room))
            .map(|((length, told), part)| Received {
                bytes: part.get(..*length).unwrap_or(part),
                segment: told.segment,
                arrived: told.arrived,
            })
    }

    /// Whether the last call took all that it had asked for, so that more may wait.
    pub const fn was_full(&self) -> bool {
        self.received.len() >= self.asked
    }
}

/// Whether a control message is long enough for a `T`.
pub(super) fn holds<T>(message: &libc::cmsghdr) -> bool {
    // SAFETY: it only computes: the length of a control message with so many bytes of data.
    let least = unsafe { libc::CMSG_LEN(size_of::<T>() as libc::c_uint) };
    message.cmsg_len >= least as _
}

/// What the control messages of a message say that recvmmsg has filled in.
fn told(header: &libc::msghdr) -> Told {
    let mut told = Told::default();
    // SAFETY: the header was filled in by the kernel: its control pointer and length describe a control room that is
    // still alive, which is all that CMSG_FIRSTHDR looks at; it returns null where no whole cmsghdr is there.
    let mut next = unsafe { libc::CMSG_FIRSTHDR(header) };
    // SAFETY: what CMSG_FIRSTHDR and CMSG_NXTHDR return is null or a whole, aligned cmsghdr in the control room.
    while let Some(message) = unsafe { next.as_ref() } {
        match (message.cmsg_level, message.cmsg_type) {
            (libc::SOL_UDP, libc::UDP_GRO) if holds::<libc::c_int>(message) => {
                // SAFETY: this control message is UDP_GRO's, of which the data is an int (udp(7)), and is long enough
                // for it; an unaligned read needs no more.
                let bytes = unsafe { ptr::read_unaligned(libc::CMSG_DATA(message).cast::<libc::c_int>()) };
                told.segment = usize::try_from(bytes).ok().filter(|bytes| *bytes > 0);
            }
            (libc::SOL_SOCKET, libc::SCM_TIMESTAMPNS) if holds::<libc::timespec>(message) => {
                // SAFETY: the data of this one is a timespec (socket(7)), and it is long enough for it.
                let time = unsafe { ptr::read_unaligned(libc::CMSG_DATA(message).cast::<libc::timespec>()) };
                let nanos = |seconds: u64| seconds.saturating_mul(1_000_000_000) + time.tv_nsec as u64;
                told.arrived = u64::try_from(time.tv_sec).ok().map(nanos);
            }
            _ => {}
        }
        // SAFETY: `header` and `message` are as above: filled in by the kernel, over a control room that is alive.
        next = unsafe { libc::CMSG_NXTHDR(header, message) };
    }
    told
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{net::UdpSocket, time::Duration};

    fn pair() -> (UdpSocket, UdpSocket) {
        let left = UdpSocket::bind("127.0.0.1:0").unwrap();
        let right = UdpSocket::bind("127.0.0.1:0").unwrap();
        left.connect(right.local_addr().unwrap()).unwrap();
        right.connect(left.local_addr().unwrap()).unwrap();
        right.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        (left, right)
    }

    #[test]
    fn a_batch_arrives_message_by_message() {
        let (left, right) = pair();
        let bytes: Vec<u8> = (0..250).collect();
        assert_eq!(send_batch(&left, &bytes, 100).unwrap(), 3);
        let mut batch = ReceiveBatch::new(60, 8);
        let mut all = Vec::new();
        while all.len() < 3 {
            batch.receive(&right).unwrap();
            all.extend(batch.messages().map(|message| {
                assert_eq!(message.segment, None);
                message.bytes.to_vec()
            }));
        }
        // Cut at the room there was.
        assert_eq!(all, [&bytes[..60], &bytes[100..160], &bytes[200..]]);
    }

    #[test]
    fn segments_arrive_coalesced_or_apart() {
        let (left, right) = pair();
        set_segment(&left, 100).unwrap();
        let bytes: Vec<u8> = (0..=255).cycle().take(1050).collect();
        assert_eq!(send_batch(&left, &bytes, 1050).unwrap(), 1);
        let mut batch = ReceiveBatch::new(65_535, 4);
        let mut apart = Vec::new();
        while apart.len() < 11 {
            batch.receive(&right).unwrap();
            apart.extend(batch.messages().map(|message| message.bytes.len()));
        }
        assert_eq!((apart[0], apart[10]), (100, 50));
        set_coalescing(&right, true).unwrap();
        assert_eq!(send_batch(&left, &bytes, 1050).unwrap(), 1);
        batch.receive(&right).unwrap();
        let message = batch.messages().next().unwrap();
        assert_eq!((message.bytes, message.segment), (bytes.as_slice(), Some(100)));
    }

    #[test]
    fn the_kernel_tells_when_a_message_came() {
        let (left, right) = pair();
        set_stamps(&right, true).unwrap();
        set_coalescing(&right, true).unwrap();
        set_segment(&left, 100).unwrap();
        assert_eq!(send_batch(&left, &[7; 1050], 1050).unwrap(), 1);
        let mut batch = ReceiveBatch::new(65_535, 4);
        batch.receive(&right).unwrap();
        let message = batch.messages().next().unwrap();
        assert_eq!(message.segment, Some(100));
        let now = std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .unwrap()
            .as_nanos() as u64;
        let age = now.abs_diff(message.arrived.unwrap());
        assert!(age < 60_000_000_000, "{age} ns");
    }

    #[test]
    fn silence_times_out() {
        let (_left, right) = pair();
        right.set_read_timeout(Some(Duration::from_millis(1))).unwrap();
        let error = ReceiveBatch::new(10, 1).receive(&right).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
    }
}
