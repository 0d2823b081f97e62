//! Devices and routes of the calling thread's network namespace, read over netlink; nothing is changed. Works wherever
//! a worker runs, without privileges.

use super::ipsec;
use crate::evidence::{DeviceRole, DeviceSeen, IpsecSeen, KERNEL_IPSEC, RouteQuery, RouteSeen};
use nlink::netlink::message::NLM_F_REQUEST;
use nlink::netlink::messages::{AddressMessage, RouteMessage};
use nlink::netlink::types::route::{RouteType, RtMsg, RtaAttr};
use nlink::netlink::{Connection, Ethtool, MessageBuilder, MessageIter, NlMsgType, Route};
use std::future::Future;
use std::io;
use std::net::IpAddr;

/// The offloads that decide what an encapsulation costs, by ethtool's names, in alphabetical order.
pub const OFFLOADS: [&str; 6] = [
    "rx-gro",
    "tx-checksum-ip-generic",
    "tx-generic-segmentation",
    "tx-tcp-segmentation",
    "tx-udp_tnl-csum-segmentation",
    "tx-udp_tnl-segmentation",
];

/// Why the kernel could not be asked.
#[derive(Debug, thiserror::Error)]
pub enum NetworkError {
    /// The kernel's answer.
    #[error("can't read {what} over netlink")]
    Netlink {
        /// What was asked for.
        what: String,
        /// The answer.
        #[source]
        source: Box<nlink::Error>,
    },
    /// No thread to ask in.
    #[error("can't run the thread that reads over netlink")]
    Thread(#[source] io::Error),
}

pub(super) fn failed(what: impl Into<String>) -> impl FnOnce(nlink::Error) -> NetworkError {
    let what = what.into();
    move |source| NetworkError::Netlink {
        what,
        source: Box::new(source),
    }
}

/// Counters, MTU and offloads of `devices`, of which [`KERNEL_IPSEC`] may be one; one that is not there is left out. Blocks for about a millisecond; may be
/// called with and without a tokio runtime.
///
/// # Errors
/// Where netlink can't be used.
pub fn devices(devices: &[(String, DeviceRole)]) -> Result<Vec<DeviceSeen>, NetworkError> {
    apart(async || {
        let route = connect()?;
        // A kernel or sandbox without ethtool's family: offloads stay unknown.
        let ethtool = Connection::<Ethtool>::new_async().await.ok();
        let mut seen = Vec::new();
        for (name, role) in devices {
            if name == KERNEL_IPSEC {
                seen.extend(ipsec::device(&route, *role).await?);
                continue;
            }
            let link = route
                .get_link_by_name(name.as_str())
                .await
                .map_err(failed(format!("device {name}")))?;
            let Some((link, stats)) = link.as_ref().and_then(|link| Some((link, link.stats()?))) else {
                continue;
            };
            seen.push(DeviceSeen {
                device: name.clone(),
                role: *role,
                rx_bytes: stats.rx_bytes(),
                tx_bytes: stats.tx_bytes(),
                dropped: stats.rx_dropped().saturating_add(stats.tx_dropped()),
                mtu: link.mtu().unwrap_or(0),
                offloads: offloads(ethtool.as_ref(), name).await,
                rp_filter: rp_filter(name),
            });
        }
        Ok(seen)
    })
}

/// The reverse path filter that counts for what comes in by a device: the larger of its own and that of all
/// (Documentation/networking/ip-sysctl.rst).
fn rp_filter(device: &str) -> Option<u8> {
    let setting = |device: &str| -> Option<u8> {
        let file = format!("/proc/sys/net/ipv4/conf/{device}/rp_filter");
        std::fs::read_to_string(file).ok()?.trim().parse().ok()
    };
    Some(setting("all")?.max(setting(device)?))
}

async fn offloads(ethtool: Option<&Connection<Ethtool>>, device: &str) -> Vec<(String, bool)> {
    let Some(ethtool) = ethtool else {
        return Vec::new();
    };
    match ethtool.get_features_by_name(device).await {
        Ok(features) => OFFLOADS
            .iter()
            .map(|name| ((*name).to_owned(), features.is_active(name)))
            .collect(),
        Err(error) => {
            tracing::debug!("can't read the offloads of {device}: {error}");
            Vec::new()
        }
    }
}

/// Kinds of devices that wrap what they send (IFLA_INFO_KIND).
const TUNNEL_KINDS: [&str; 17] = [
    "bareudp",
    "erspan",
    "geneve",
    "gre",
    "gretap",
    "gtp",
    "ip6erspan",
    "ip6gre",
    "ip6gretap",
    "ip6tnl",
    "ipip",
    "sit",
    "tun",
    "vti",
    "vxlan",
    "wireguard",
    "xfrm",
];

/// The devices that `routes` leave by, with the role that each has by its kind. The loopback device has none: what goes
/// there never leaves the machine. Blocks for about a millisecond.
///
/// # Errors
/// Where netlink can't be used.
pub fn roles(routes: &[RouteSeen]) -> Result<Vec<(String, DeviceRole)>, NetworkError> {
    apart(async || {
        let route = connect()?;
        let mut roles: Vec<(String, DeviceRole)> = Vec::new();
        for name in routes.iter().filter_map(|route| route.device.as_ref()) {
            if roles.iter().any(|(known, _)| known == name) {
                continue;
            }
            let link = route
                .get_link_by_name(name.as_str())
                .await
                .map_err(failed(format!("device {name}")))?;
            match link {
                Some(link) if !link.is_loopback() => {
                    let tunnel = link.kind().is_some_and(|kind| TUNNEL_KINDS.contains(&kind));
                    let role = if tunnel {
                        DeviceRole::Tunnel
                    } else {
                        DeviceRole::Underlay
                    };
                    roles.push((name.clone(), role));
                }
                _ => {}
            }
        }
        Ok(roles)
    })
}

/// Which way the kernel would send packets, as `ip route get` tells, in the order of `queries`; what an IPsec policy
/// takes then leaves by [`KERNEL_IPSEC`], as far as this process may read policies. Blocks for about a millisecond; may be called with and without a tokio runtime.
///
/// # Errors
/// Where netlink can't be used; that there is no route is an answer.
pub fn routes(queries: &[RouteQuery]) -> Result<Vec<RouteSeen>, NetworkError> {
    apart(async || {
        let route = connect()?;
        let ipsec = ipsec::read_if_allowed().await;
        let mut seen = Vec::new();
        for query in queries {
            let mut answer = look_up(&route, &ipsec, query).await?;
            ipsec::output(&ipsec, &mut answer);
            seen.push(answer);
        }
        Ok(seen)
    })
}

/// The device that has `address`; `None` where none has. Blocks for about a millisecond; may be called with and without
/// a tokio runtime.
///
/// # Errors
/// Where netlink can't be used.
pub fn device_of(address: IpAddr) -> Result<Option<String>, NetworkError> {
    apart(async || {
        let route = connect()?;
        let Some(holder) = holder(&route, address).await? else {
            return Ok(None);
        };
        let link = route.get_link_by_index(holder).await.map_err(failed("devices"))?;
        Ok(link.and_then(|link| link.name().map(str::to_owned)))
    })
}

/// The index of the device that has `address`.
async fn holder(route: &Connection<Route>, address: IpAddr) -> Result<Option<u32>, NetworkError> {
    let addresses = route.get_addresses().await.map_err(failed("addresses"))?;
    Ok(holder_among(&addresses, address))
}

/// The index of the device that has `address`, by the addresses that were read.
pub(super) fn holder_among(addresses: &[AddressMessage], address: IpAddr) -> Option<u32> {
    addresses
        .iter()
        .find(|held| held.local().or(held.address()) == Some(&address))
        .map(AddressMessage::ifindex)
}

/// What the kernel refuses a request with: `struct nlmsgerr` begins with the negative error number.
pub(super) fn refusal(payload: &[u8]) -> io::Error {
    let errno = payload.first_chunk().copied().map_or(0, i32::from_ne_bytes);
    io::Error::from_raw_os_error(errno.saturating_neg())
}

/// The device by which packets of `source` come in: the one that it is reached by; `None` where this node has it.
async fn input_of(route: &Connection<Route>, source: IpAddr) -> Result<Option<u32>, NetworkError> {
    let query = RouteQuery {
        destination: source,
        source: None,
        input_device: None,
    };
    let found = ask(route, &query, None)
        .await
        .map_err(failed(format!("the route to {source}")))?;
    Ok(found.ok().and_then(|found| {
        let local = found.route_type() == RouteType::Local;
        found.oif().filter(|_| !local)
    }))
}

async fn look_up(
    route: &Connection<Route>,
    ipsec: &IpsecSeen,
    query: &RouteQuery,
) -> Result<RouteSeen, NetworkError> {
    let mut seen = RouteSeen {
        query: query.clone(),
        device: None,
        gateway: None,
        mtu: None,
        error: None,
    };
    let input = match &query.input_device {
        None => match query.source {
            Some(source) => input_of(route, source).await?,
            None => None,
        },
        Some(name) if name == KERNEL_IPSEC => {
            let input = match ipsec::input(ipsec, query) {
                Some(address) => holder(route, address.into()).await?,
                None => None,
            };
            if input.is_none() {
                seen.error = Some("no IPsec policy with a state takes in such packets".to_owned());
                return Ok(seen);
            }
            input
        }
        Some(name) => {
            let link = route
                .get_link_by_name(name.as_str())
                .await
                .map_err(failed(format!("device {name}")))?;
            let Some(link) = link else {
                seen.error = Some(format!("there is no device {name}"));
                return Ok(seen);
            };
            Some(link.ifindex())
        }
    };
    let what = || failed(format!("the route to {}", query.destination));
    match ask(route, query, input).await.map_err(what())? {
        // Since 6.13 the kernel tells a strict filter's refusal from other refusals no more: EINVAL, EXDEV before.
        Err(error)
            if matches!(error.raw_os_error(), Some(libc::EXDEV | libc::EINVAL))
                && filtered(route, query, input).await =>
        {
            seen.error = Some(
                "refused by the reverse path filter (rp_filter is strict there, and the route back to the source leads \
                 out by another device)"
                    .to_owned(),
            );
        }
        Err(error) => seen.error = Some(error.to_string()),
        Ok(found) => {
            seen.gateway = found.gateway().copied();
            seen.mtu = found.metrics().and_then(|metrics| metrics.mtu);
            if let Some(index) = found.oif() {
                let link = route.get_link_by_index(index).await.map_err(what())?;
                seen.device = link.and_then(|link| link.name().map(str::to_owned));
            }
            if seen.device.is_none() {
                seen.error = Some(format!("the route is of type {:?}", found.route_type()));
            }
        }
    }
    Ok(seen)
}

/// Whether a strict reverse path filter (RFC 3704; the larger of `all` and the device's counts) drops such packets: the
/// way back to their source leads by another device than they come in by.
async fn filtered(route: &Connection<Route>, query: &RouteQuery, input: Option<u32>) -> bool {
    let (Some(source), Some(input), Some(device)) = (query.source, input, &query.input_device) else {
        return false;
    };
    if rp_filter(device) != Some(1) {
        return false;
    }
    let back = RouteQuery {
        destination: source,
        source: None,
        input_device: None,
    };
    // No way back at all is refused, too.
    !matches!(ask(route, &back, None).await, Ok(Ok(found)) if found.oif() == Some(input))
}

/// RTM_GETROUTE (rtnetlink(7)). nlink's own lookup takes neither a source nor an input device.
async fn ask(
    route: &Connection<Route>,
    query: &RouteQuery,
    input: Option<u32>,
) -> nlink::Result<io::Result<RouteMessage>> {
    let mut message = RtMsg::new();
    let (family, length) = family(query.destination);
    message.rtm_family = family;
    message.rtm_dst_len = length;
    if query.source.is_some() {
        message.rtm_src_len = length;
    }
    let mut request = MessageBuilder::new(NlMsgType::RTM_GETROUTE, NLM_F_REQUEST);
    request.append(&message);
    append_address(&mut request, RtaAttr::Dst, query.destination);
    if let Some(source) = query.source {
        append_address(&mut request, RtaAttr::Src, source);
    }
    if let Some(input) = input {
        request.append_attr_u32(RtaAttr::Iif as u16, input);
    }
    let socket = route.socket();
    let number = socket.next_seq();
    request.set_seq(number);
    request.set_pid(socket.pid());
    socket.send(&request.finish()).await?;
    loop {
        let answer = socket.recv_unicast().await?;
        for message in MessageIter::new(&answer) {
            let (header, payload) = message?;
            if header.nlmsg_seq != number {
                continue;
            }
            if header.is_error() {
                return Ok(Err(refusal(payload)));
            }
            return Ok(Ok(route.parse_response(&answer)?));
        }
    }
}

const fn family(address: IpAddr) -> (u8, u8) {
    match address {
        IpAddr::V4(_) => (libc::AF_INET as u8, 32),
        IpAddr::V6(_) => (libc::AF_INET6 as u8, 128),
    }
}

fn append_address(request: &mut MessageBuilder, attribute: RtaAttr, address: IpAddr) {
    match address {
        IpAddr::V4(address) => request.append_attr(attribute as u16, &address.octets()),
        IpAddr::V6(address) => request.append_attr(attribute as u16, &address.octets()),
    }
}

pub(super) fn connect() -> Result<Connection<Route>, NetworkError> {
    Connection::<Route>::new().map_err(failed("devices and routes"))
}

/// Runs `work` on a runtime and a thread of its own, which is in the calling thread's network namespace: a runtime
/// can't be started where one is running already.
pub(super) fn apart<T, W, F>(work: W) -> Result<T, NetworkError>
where
    T: Send,
    W: FnOnce() -> F + Send,
    F: Future<Output = Result<T, NetworkError>>,
{
    std::thread::scope(|scope| {
        std::thread::Builder::new()
            .name("netlink".to_owned())
            .spawn_scoped(scope, || {
                tokio::runtime::Builder::new_current_thread()
                    .enable_all()
                    .build()
                    .map_err(NetworkError::Thread)?
                    .block_on(work())
            })
            .map_err(NetworkError::Thread)?
            .join()
            .map_err(|_| NetworkError::Thread(io::Error::other("it panicked")))?
    })
}

#[cfg(test)]
mod tests {
    use super::{devices, routes};
    use crate::evidence::{DeviceRole, RouteQuery};
    use std::net::{Ipv4Addr, TcpListener, TcpStream};

    #[test]
    fn loopback_counts_what_it_carries() {
        use std::io::{Read as _, Write as _};
        let asked = [
            ("lo".to_owned(), DeviceRole::Underlay),
            ("no-such-device".to_owned(), DeviceRole::Tunnel),
        ];
        let before = devices(&asked).unwrap();
        assert_eq!(before.len(), 1, "a device that is not there is left out");
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let mut sender = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let mut receiver = listener.accept().unwrap().0;
        sender.write_all(&[7; 10_000]).unwrap();
        receiver.read_exact(&mut [0; 10_000]).unwrap();
        let after = devices(&asked).unwrap();
        assert!(after[0].tx_bytes >= before[0].tx_bytes + 10_000);
        assert_eq!(after[0].offloads.len(), 6);
        assert!(
            matches!(after[0].rp_filter, Some(0..=2)),
            "{:?}",
            after[0].rp_filter
        );
    }

    #[tokio::test]
    async fn routes_are_looked_up_inside_a_runtime_too() {
        let query = |destination: Ipv4Addr, input: Option<&str>| RouteQuery {
            destination: destination.into(),
            source: None,
            input_device: input.map(str::to_owned),
        };
        let seen = routes(&[
            query(Ipv4Addr::LOCALHOST, None),
            query(Ipv4Addr::LOCALHOST, Some("no-such-device")),
        ])
        .unwrap();
        assert_eq!(seen[0].device.as_deref(), Some("lo"));
        assert_eq!(seen[0].error, None);
        assert_eq!(seen[1].device, None);
        assert_eq!(
            seen[1].error.as_deref(),
            Some("there is no device no-such-device")
        );
    }
}
