//! The kernel's IPsec policies and states of the calling thread's network namespace (linux/xfrm.h; `ip xfrm`). Takes
//! CAP_NET_ADMIN there. Keys are not kept.

use super::network::{NetworkError, failed, holder_among, refusal};
use crate::evidence::{
    DeviceRole, DeviceSeen, IpsecDirection, IpsecPolicy, IpsecSeen, IpsecState, IpsecTemplate, KERNEL_IPSEC,
    RouteQuery, RouteSeen,
};
use crate::units::Cidr4;
use nlink::netlink::message::{NLM_F_DUMP, NLM_F_REQUEST};
use nlink::netlink::xfrm::{IpsecProtocol, SecurityAssociation, XfrmMode};
use nlink::netlink::{AttrIter, Connection, MessageBuilder, MessageIter, Route, Xfrm};
use std::fs;
use std::net::{IpAddr, Ipv4Addr};

/// XFRM_MSG_GETPOLICY.
const GET_POLICY: u16 = 0x15;
/// What `struct xfrm_userpolicy_info` takes; attributes follow.
const POLICY: usize = 168;
/// XFRMA_TMPL: an array of `struct xfrm_user_tmpl`.
const TEMPLATES: u16 = 5;
/// XFRMA_MARK and XFRMA_IF_ID.
const NARROWER: [u16; 2] = [21, 31];
const TUNNEL_MODE: u8 = 1;

/// Reads all of it; nothing where this kernel has no IPsec.
///
/// # Errors
/// Where it may not be read.
pub(super) async fn read() -> Result<IpsecSeen, NetworkError> {
    let Ok(connection) = Connection::<Xfrm>::new() else {
        return Ok(IpsecSeen::default());
    };
    let policies = dump_policies(&connection)
        .await
        .map_err(failed("IPsec policies"))?;
    if policies.is_empty() {
        return Ok(IpsecSeen::default());
    }
    let states = connection
        .get_security_associations()
        .await
        .map_err(failed("IPsec states"))?;
    Ok(IpsecSeen {
        policies,
        states: states.iter().filter_map(state).collect(),
    })
}

/// As [`read`], for what goes on without: nothing where it may not be read.
pub(super) async fn read_if_allowed() -> IpsecSeen {
    read().await.unwrap_or_else(|error| {
        tracing::debug!("IPsec's policies are left out: {error}");
        IpsecSeen::default()
    })
}

/// What the states have carried, as if they were a device; `None` where there are none.
pub(super) async fn device(
    route: &Connection<Route>,
    role: DeviceRole,
) -> Result<Option<DeviceSeen>, NetworkError> {
    let ipsec = read().await?;
    let addresses = route.get_addresses().await.map_err(failed("addresses"))?;
    let holder = |address: Ipv4Addr| holder_among(&addresses, address.into());
    let mut seen = DeviceSeen {
        device: KERNEL_IPSEC.to_owned(),
        role,
        rx_bytes: 0,
        tx_bytes: 0,
        dropped: lost(),
        mtu: 0,
        offloads: Vec::new(),
        rp_filter: None,
    };
    for state in &ipsec.states {
        if let Some(index) = holder(state.from) {
            seen.tx_bytes = seen.tx_bytes.saturating_add(state.bytes);
            let link = route.get_link_by_index(index).await.map_err(failed("devices"))?;
            let outer = link.and_then(|link| link.mtu()).unwrap_or(0);
            seen.mtu = seen.mtu.max(room(outer, state));
        } else if holder(state.to).is_some() {
            seen.rx_bytes = seen.rx_bytes.saturating_add(state.bytes);
        }
    }
    Ok(Some(seen).filter(|_| !ipsec.states.is_empty()))
}

/// The largest packet that a state takes into one of `outer` bytes (RFC 4303): what is encrypted ends at a multiple of
/// four, with two bytes of trailer, behind an IV of eight (RFC 4106).
fn room(outer: u32, state: &IpsecState) -> u32 {
    let udp = if state.udp.is_some() { 8 } else { 0 };
    (outer.saturating_sub(20 + udp + 8 + 8 + state.icv) / 4 * 4).saturating_sub(2)
}

/// Packets that IPsec has dropped, for whatever reason: all counters of xfrm_proc.rst are of errors.
fn lost() -> u64 {
    fs::read_to_string("/proc/thread-self/net/xfrm_stat").map_or(0, |text| {
        counters(&text).into_iter().map(|(_, count)| count).sum()
    })
}

/// Lines of /proc/net/xfrm_stat: a name and a number each.
pub(super) fn counters(text: &str) -> Vec<(String, u64)> {
    text.lines()
        .filter_map(|line| {
            let (name, count) = line.split_once(char::is_whitespace)?;
            Some((format!("Xfrm.{name}"), count.trim().parse().ok()?))
        })
        .collect()
}

/// What packets of `query` that come out of IPsec come in by: the node's address that they were wrapped for.
pub(super) fn input(ipsec: &IpsecSeen, query: &RouteQuery) -> Option<Ipv4Addr> {
    let (Some(IpAddr::V4(from)), IpAddr::V4(to)) = (query.source, query.destination) else {
        return None;
    };
    let policy = [IpsecDirection::Forward, IpsecDirection::In]
        .into_iter()
        .find_map(|direction| ipsec.policy(direction, from, to))?;
    let template = policy.template.as_ref().filter(|_| !policy.blocks)?;
    ipsec.state(template)?;
    Some(template.to)
}

/// What becomes of a packet whose route was found: a policy may take it, whatever the device.
pub(super) fn output(ipsec: &IpsecSeen, seen: &mut RouteSeen) {
    let (Some(IpAddr::V4(from)), IpAddr::V4(to), Some(_)) =
        (seen.query.source, seen.query.destination, &seen.device)
    else {
        return;
    };
    let Some(policy) = ipsec.policy(IpsecDirection::Out, from, to) else {
        return;
    };
    match &policy.template {
        _ if policy.blocks => {
            seen.device = None;
            seen.error = Some(format!("an IPsec policy drops it: {policy}"));
        }
        Some(template) if ipsec.state(template).is_none() => {
            seen.device = None;
            seen.error = Some(format!(
                "no IPsec state is there for the policy that takes it: {policy}"
            ));
        }
        Some(template) => {
            seen.device = Some(KERNEL_IPSEC.to_owned());
            seen.gateway = Some(template.to.into());
        }
        None => {}
    }
}

/// Of nlink's own dump templates are left out.
async fn dump_policies(connection: &Connection<Xfrm>) -> nlink::Result<Vec<IpsecPolicy>> {
    let socket = connection.socket();
    let mut request = MessageBuilder::new(GET_POLICY, NLM_F_REQUEST | NLM_F_DUMP);
    let number = socket.next_seq();
    request.set_seq(number);
    request.set_pid(socket.pid());
    socket.send(&request.finish()).await?;
    let mut policies = Vec::new();
    loop {
        let answer = socket.recv_unicast().await?;
        for message in MessageIter::new(&answer) {
            let (header, payload) = message?;
            if header.nlmsg_seq != number {
                continue;
            }
            if header.is_error() {
                return Err(refusal(payload).into());
            }
            if header.is_done() {
                return Ok(policies);
            }
            policies.extend(policy(payload));
        }
    }
}

fn bytes<const N: usize>(payload: &[u8], at: usize) -> Option<[u8; N]> {
    payload.get(at..)?.first_chunk().copied()
}

/// `struct xfrm_userpolicy_info` with its attributes; `None` for IPv6 and for the policy of a single socket.
fn policy(payload: &[u8]) -> Option<IpsecPolicy> {
    let address = |at| bytes::<4>(payload, at).map(Ipv4Addr::from);
    let attributes = payload.get(POLICY..)?;
    let direction = match payload[160] {
        0 => IpsecDirection::In,
        1 => IpsecDirection::Out,
        2 => IpsecDirection::Forward,
        _ => return None,
    };
    if u16::from_ne_bytes(bytes(payload, 40)?) != libc::AF_INET as u16 {
        return None;
    }
    // Ports with their masks, the protocol, the device, the user.
    let selects = [32..40, 44..45, 48..56].into_iter().flatten();
    let mut particular = selects.into_iter().any(|at| payload[at] != 0);
    let mut template = None;
    for (attribute, value) in AttrIter::new(attributes) {
        if attribute == TEMPLATES {
            template = first_template(value);
        }
        particular |= NARROWER.contains(&attribute) && value.iter().any(|byte| *byte != 0);
    }
    Some(IpsecPolicy {
        direction,
        from: Cidr4::new(address(16)?, payload[43])?,
        to: Cidr4::new(address(0)?, payload[42])?,
        priority: u32::from_ne_bytes(bytes(payload, 152)?),
        blocks: payload[161] != 0,
        particular,
        template,
    })
}

/// `struct xfrm_user_tmpl`.
fn first_template(value: &[u8]) -> Option<IpsecTemplate> {
    let address = |at| bytes::<4>(value, at).map(Ipv4Addr::from);
    let is_esp = *value.get(20)? == libc::IPPROTO_ESP as u8;
    let wraps = is_esp && *value.get(48)? == TUNNEL_MODE;
    Some(IpsecTemplate {
        from: address(28)?,
        to: address(0)?,
        reqid: u32::from_ne_bytes(bytes(value, 44)?),
    })
    .filter(|_| wraps)
}

fn state(seen: &SecurityAssociation) -> Option<IpsecState> {
    let (Some(IpAddr::V4(from)), Some(IpAddr::V4(to))) = (seen.src_addr, seen.dst_addr) else {
        return None;
    };
    if seen.protocol != IpsecProtocol::Esp || seen.mode != XfrmMode::Tunnel {
        return None;
    }
    Some(IpsecState {
        from,
        to,
        spi: seen.spi,
        reqid: seen.reqid,
        udp: seen
            .encap
            .map(|encap| (u16::from_be(encap.encap_sport), u16::from_be(encap.encap_dport))),
        icv: seen.aead_alg.as_ref().map_or(0, |cipher| cipher.icv_len / 8),
        bytes: seen.bytes,
        packets: seen.packets,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What `ip xfrm policy add dir out src 10.244.0.0/16 dst 10.245.0.0/16 priority 7 tmpl src 10.0.0.1 dst 10.0.0.2
    /// proto esp reqid 1 mode tunnel` makes a kernel say (Linux 6.18, x86-64).
    fn said() -> Vec<u8> {
        let mut bytes = Vec::new();
        let address = |bytes: &mut Vec<u8>, first: [u8; 4]| {
            bytes.extend(first);
            bytes.extend([0; 12]);
        };
        address(&mut bytes, [10, 245, 0, 0]);
        address(&mut bytes, [10, 244, 0, 0]);
        bytes.extend([0; 8]);
        bytes.extend([2, 0, 16, 16, 0, 0, 0, 0]);
        bytes.extend([0; 8]);
        bytes.extend([0xff; 32]);
        bytes.extend([0; 48]);
        bytes.extend([0x95, 0xb5, 0x0a, 0x6b, 0, 0, 0, 0]);
        bytes.extend([0; 8]);
        bytes.extend([7, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0]);
        bytes.extend([0x44, 0, 5, 0]);
        address(&mut bytes, [10, 0, 0, 2]);
        bytes.extend([0, 0, 0, 0, 50, 0, 0, 0, 2, 0, 0, 0]);
        address(&mut bytes, [10, 0, 0, 1]);
        bytes.extend([1, 0, 0, 0, 1, 0, 0, 0]);
        bytes.extend([0xff; 12]);
        bytes.extend([10, 0, 16, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        bytes
    }

    #[test]
    fn what_fits_into_a_packet_and_what_was_lost() {
        let mut state = IpsecState {
            from: [192, 0, 2, 1].into(),
            to: [192, 0, 2, 2].into(),
            spi: 256,
            reqid: 1,
            udp: Some((4500, 4500)),
            icv: 16,
            bytes: 0,
            packets: 0,
        };
        // As the kernel's esp4_get_mtu() has it.
        assert_eq!(room(1500, &state), 1438);
        state.udp = None;
        assert_eq!(room(1500, &state), 1446);
        assert_eq!(room(0, &state), 0);
        assert_eq!(
            counters("XfrmInError             \t3\nXfrmOutNoStates          4\n"),
            [
                ("Xfrm.XfrmInError".to_owned(), 3),
                ("Xfrm.XfrmOutNoStates".to_owned(), 4)
            ]
        );
    }

    #[test]
    fn a_policy_takes_what_is_routed_and_gives_what_was_wrapped() {
        let template = |from: [u8; 4], to: [u8; 4]| IpsecTemplate {
            from: from.into(),
            to: to.into(),
            reqid: 1,
        };
        let policy = |direction, from: &str, to: &str, template| IpsecPolicy {
            direction,
            from: from.parse().unwrap(),
            to: to.parse().unwrap(),
            priority: 0,
            blocks: false,
            particular: false,
            template: Some(template),
        };
        let (here, there) = ([192, 0, 2, 1], [192, 0, 2, 2]);
        let mut ipsec = IpsecSeen {
            policies: vec![
                policy(
                    IpsecDirection::Out,
                    "10.1.0.0/16",
                    "10.2.0.0/16",
                    template(here, there),
                ),
                policy(
                    IpsecDirection::Forward,
                    "10.2.0.0/16",
                    "10.1.0.0/16",
                    template(there, here),
                ),
            ],
            states: [(here, there), (there, here)]
                .map(|(from, to)| IpsecState {
                    from: from.into(),
                    to: to.into(),
                    spi: 256,
                    reqid: 1,
                    udp: None,
                    icv: 16,
                    bytes: 0,
                    packets: 0,
                })
                .to_vec(),
        };
        let query = |source: [u8; 4], destination: [u8; 4]| RouteQuery {
            destination: destination.into(),
            source: Some(source.into()),
            input_device: None,
        };
        let routed = |ipsec: &IpsecSeen, query| {
            let mut seen = RouteSeen {
                query,
                device: Some("eth0".to_owned()),
                gateway: None,
                mtu: None,
                error: None,
            };
            output(ipsec, &mut seen);
            seen
        };
        let (own, other) = ([10, 1, 0, 9], [10, 2, 0, 9]);
        let seen = routed(&ipsec, query(own, other));
        assert_eq!(seen.device.as_deref(), Some(KERNEL_IPSEC));
        assert_eq!(seen.gateway, Some(there.into()));
        assert_eq!(routed(&ipsec, query(other, own)).device.as_deref(), Some("eth0"));
        assert_eq!(input(&ipsec, &query(other, own)), Some(here.into()));
        assert_eq!(input(&ipsec, &query(own, other)), None);
        ipsec.states.clear();
        let seen = routed(&ipsec, query(own, other));
        assert!(seen.device.is_none() && seen.error.unwrap().contains("no IPsec state"));
        assert_eq!(input(&ipsec, &query(other, own)), None);
        ipsec.policies[0].blocks = true;
        assert!(
            routed(&ipsec, query(own, other))
                .error
                .unwrap()
                .contains("drops it")
        );
    }

    #[test]
    fn a_policy_is_read_as_iproute2_made_it() {
        let bytes = said();
        assert_eq!(bytes.len(), 264 - 16);
        let seen = policy(&bytes).unwrap();
        assert_eq!(
            seen.to_string(),
            "src 10.244.0.0/16 dst 10.245.0.0/16 dir out priority 7 tmpl src 10.0.0.1 dst 10.0.0.2 proto esp reqid 1 mode tunnel"
        );
        assert!(!seen.particular && !seen.blocks);
        // For TCP only, and dropped.
        let mut narrower = bytes.clone();
        (narrower[44], narrower[161]) = (6, 1);
        let narrower = policy(&narrower).unwrap();
        assert!(narrower.particular && narrower.blocks);
        // A socket's own, one of IPv6, and what is cut short.
        for (at, value) in [(160, 3), (40, 10)] {
            let mut other = bytes.clone();
            other[at] = value;
            assert_eq!(policy(&other), None);
        }
        for length in 0..bytes.len() {
            let _ = policy(&bytes[..length]);
        }
    }
}
