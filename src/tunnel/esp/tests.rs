use super::*;
use proptest::prelude::*;
use std::collections::BTreeSet;

fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.chars().map(|c| c.to_digit(16).unwrap() as u8).collect();
    digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect()
}

/// A packet of draft-mcgrew-gcm-test-01, "Test Cases for the use of Galois/Counter Mode (GCM) [...] in IPsec ESP",
/// section 4, those without extended sequence numbers and with keys of 128 and 256 bits.
struct Vector {
    /// Key, then salt.
    material: &'static str,
    spi: u32,
    sequence: u32,
    iv: &'static str,
    inner: &'static str,
    padding: &'static str,
    next: u8,
    encrypted: &'static str,
}

const VECTORS: [Vector; 3] = [
    Vector {
        material: "feffe9928665731c6d6a8f9467308308cafebabe",
        spi: 0xa5f8,
        sequence: 10,
        iv: "facedbaddecaf888",
        inner: "4500003e698f000080114dccc0a80102c0a801010a980035002a2343b2d001000001000000000000037369700963796265726369747\
                902646b0000010001",
        padding: "",
        next: 1,
        encrypted: "deb22cd9b07c72c16e3a65beeb8df304a5a5897d33ae530f1ba76d5d114d2a5c3de81827c10e9a4f51330d0eec416642cfb\
                    b85a5b47e48a4ec3b9ba95d918bd183b70d3aa8bc6ee4c309e9d85a41ad4a",
    },
    Vector {
        material: "abbccddef00112233445566778899aababbccddef00112233445566778899aab11223344",
        spi: 0x4a2c_bfe3,
        sequence: 2,
        iv: "0102030405060708",
        inner: "4500003069a6400080062690c0a801029389155e0a9e008b2dc57ee0000000007002400020bf0000020405b401010402",
        padding: "0102",
        next: 1,
        encrypted: "ff425c9b724599df7a3bcd510194e00d6a78107f1b0b1cbf06efae9d65a5d763748a637985771d347f0545659f14e99def8\
                    42d8eb335f4eecfdbf831824b4c4915956c96",
    },
    Vector {
        material: "7d773d00c144c525ac619d18c84a3f47d9664267",
        spi: 0x3354_67ae,
        sequence: u32::MAX,
        iv: "43457e9182443bc6",
        inner: "",
        padding: "0102",
        next: 1,
        encrypted: "437f866bcb3f699fe9b0822bac961c4504bef270",
    },
];

impl Vector {
    fn wire(&self) -> Vec<u8> {
        let mut wire = self.spi.to_be_bytes().to_vec();
        wire.extend(self.sequence.to_be_bytes());
        wire.extend(hex(self.iv));
        wire.extend(hex(self.encrypted));
        wire
    }
}

#[test]
fn packets_are_those_of_the_published_test_cases() {
    for vector in VECTORS {
        let outbound = Outbound::new(vector.spi, &hex(vector.material)).unwrap();
        let iv = hex(vector.iv).try_into().unwrap();
        let mut sealed = Vec::new();
        outbound
            .seal_as(vector.sequence, iv, vector.next, &hex(vector.inner), &mut sealed)
            .unwrap();
        assert_eq!(sealed, vector.wire());
        let mut inbound = Inbound::new(vector.spi, &hex(vector.material)).unwrap();
        // They carry a transport protocol each, which tunnel mode refuses, but only after all else was right.
        assert_eq!(inbound.open(&mut sealed), Err(EspError::NextHeader(vector.next)));
        assert!(vector.padding.len() < 8);
    }
}

const MATERIAL: [u8; 36] = [7; 36];

fn pair() -> (Outbound, Inbound) {
    (
        Outbound::new(0x1234, &MATERIAL).unwrap(),
        Inbound::new(0x1234, &MATERIAL).unwrap(),
    )
}

#[test]
fn nothing_is_taken_twice_nor_from_strangers() {
    let (mut outbound, mut inbound) = pair();
    let mut packet = Vec::new();
    outbound.seal(b"first", &mut packet).unwrap();
    let mut again = packet.clone();
    let mut forged = packet.clone();
    assert_eq!(inbound.open(&mut packet), Ok(Some(&b"first"[..])));
    assert_eq!(inbound.open(&mut again), Err(EspError::Replayed(1)));
    // A forged number is not remembered: else it would lock out the true one.
    forged[4..8].copy_from_slice(&900_u32.to_be_bytes());
    assert_eq!(inbound.open(&mut forged), Err(EspError::Authentic));
    outbound.seal(b"second", &mut packet).unwrap();
    assert_eq!(inbound.open(&mut packet), Ok(Some(&b"second"[..])));
    let mut other = Inbound::new(0x9999, &MATERIAL).unwrap();
    outbound.seal(b"third", &mut packet).unwrap();
    assert_eq!(other.open(&mut packet), Err(EspError::Spi(0x1234)));
}

#[test]
fn sequence_numbers_never_cycle() {
    let (mut outbound, _) = pair();
    outbound.sequence = u32::MAX;
    assert_eq!(outbound.seal(b"x", &mut Vec::new()), Err(EspError::Exhausted));
}

#[test]
fn a_dummy_is_dropped_and_a_wrong_key_is_refused() {
    let (outbound, mut inbound) = pair();
    let mut packet = Vec::new();
    outbound.seal_as(1, [0; 8], DUMMY, b"noise", &mut packet).unwrap();
    assert_eq!(inbound.open(&mut packet), Ok(None));
    assert_eq!(Outbound::new(1, &[0; 30]).err(), Some(EspError::Key(30)));
    assert_eq!(Inbound::new(1, &[]).err(), Some(EspError::Key(0)));
}

proptest! {
    #[test]
    fn what_goes_in_comes_out(inner in proptest::collection::vec(any::<u8>(), 0..1600)) {
        let (mut outbound, mut inbound) = pair();
        let mut packet = Vec::new();
        outbound.seal(&inner, &mut packet).unwrap();
        prop_assert_eq!(packet.len() % ALIGNMENT, 0);
        prop_assert!(packet.len() <= inner.len() + OVERHEAD);
        prop_assert_eq!(inbound.open(&mut packet), Ok(Some(&inner[..])));
    }

    #[test]
    fn any_changed_bit_is_noticed(inner in proptest::collection::vec(any::<u8>(), 0..100), at in any::<prop::sample::Index>(), bit in 0_u32..8) {
        let (mut outbound, mut inbound) = pair();
        let mut packet = Vec::new();
        outbound.seal(&inner, &mut packet).unwrap();
        let at = at.index(packet.len());
        packet[at] ^= 1_u8 << bit;
        prop_assert!(inbound.open(&mut packet).is_err());
    }

    #[test]
    fn garbage_is_harmless(mut bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let (_, mut inbound) = pair();
        prop_assert!(inbound.open(&mut bytes).is_err());
    }

    /// The window is as a set of all numbers seen, but for those too old.
    #[test]
    fn the_window_is_a_set(steps in proptest::collection::vec(-200_i64..200, 1..300)) {
        let mut window = ReplayWindow::default();
        let (mut seen, mut highest, mut at) = (BTreeSet::new(), 0_i64, 300_i64);
        for step in steps {
            at = (at + step).max(0);
            let expected = at > 0 && !seen.contains(&at) && (at > highest || highest - at < i64::from(ReplayWindow::SIZE));
            prop_assert_eq!(window.is_new(at as u32), expected, "{} after {}", at, highest);
            if expected {
                window.mark(at as u32);
                seen.insert(at);
                highest = highest.max(at);
            }
        }
    }
}
