use super::*;

fn address(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

fn found(at: &str, cluster: &str, condition: Condition) -> FoundEndpoint {
    FoundEndpoint {
        address: address(at),
        cluster: cluster.to_string(),
        workload: Some("x-decode".to_string()),
        namespace: None,
        revision: None,
        condition,
    }
}

fn of(found: &[FoundEndpoint]) -> Membership {
    Membership::from_found(found, &RoleRules::default())
}

fn small() -> Membership {
    let mut second = found("10.0.0.2:8001", "a", Condition::Unhealthy);
    second.revision = Some("v2".to_string());
    second.workload = Some("x-prefill".to_string());
    of(&[found("[fd00::7]:8000", "a", Condition::Draining), second])
}

#[test]
fn a_health_status_of_envoy_is_a_condition() {
    for (status, condition) in [
        ("HEALTHY", Condition::Serving),
        ("DEGRADED", Condition::Serving),
        ("UNKNOWN", Condition::Serving),
        ("", Condition::Serving),
        ("of later versions", Condition::Serving),
        ("DRAINING", Condition::Draining),
        ("UNHEALTHY", Condition::Unhealthy),
        ("TIMEOUT", Condition::Unhealthy),
    ] {
        assert_eq!(Condition::of_health_status(status), condition, "{status}");
    }
}

#[test]
fn members_come_by_address_whatever_the_order_of_what_was_found() {
    let (one, two) = (
        found("10.0.0.1:8001", "a", Condition::Serving),
        found("10.0.0.1:8000", "a", Condition::Serving),
    );
    let membership = of(&[one.clone(), two.clone()]);
    assert_eq!(membership, of(&[two, one]));
    let ports: Vec<u16> = membership
        .members()
        .iter()
        .map(|member| member.address.port())
        .collect();
    assert_eq!(ports, [8000, 8001]);
}

#[test]
fn a_rank_of_two_clusters_is_one_member_in_its_worst_condition() {
    let mut revised = found("10.0.0.1:8000", "b", Condition::Serving);
    revised.revision = Some("v2".to_string());
    let membership = of(&[
        revised.clone(),
        found("10.0.0.1:8000", "a", Condition::Draining),
        found("10.0.0.1:8000", "c", Condition::Serving),
    ]);
    let expected = Member {
        address: revised.address,
        role: Role::Decode,
        condition: Condition::Draining,
        revision_hash: hash_bytes(b"v2"),
    };
    assert_eq!(membership.members(), [expected]);
}

#[test]
fn every_change_of_a_rank_is_a_change_of_the_membership() {
    let rank = found("10.0.0.1:8000", "a", Condition::Serving);
    let before = of(std::slice::from_ref(&rank));
    let mut others = vec![rank; 4];
    others[0].address = address("10.0.0.1:8001");
    others[1].workload = Some("x-prefill".to_string());
    others[2].condition = Condition::Unhealthy;
    others[3].revision = Some("v2".to_string());
    for other in others {
        assert_ne!(of(std::slice::from_ref(&other)), before, "{other:?}");
    }
    assert_ne!(of(&[]), before);
}

#[test]
fn a_static_list_serves_and_does_both() {
    let ranks = [
        address("[fd00::7%3]:8000"),
        address("10.0.0.2:8000"),
        address("10.0.0.1:8000"),
        address("10.0.0.2:8000"),
    ];
    let membership = Membership::from_static(&ranks);
    let addresses: Vec<String> = membership
        .members()
        .iter()
        .map(|member| member.address.to_string())
        .collect();
    assert_eq!(
        addresses,
        ["10.0.0.1:8000", "10.0.0.2:8000", "[fd00::7]:8000"]
    );
    for member in membership.members() {
        assert_eq!(
            (member.role, member.condition, member.revision_hash),
            (Role::Both, Condition::Serving, 0)
        );
    }
}

#[test]
fn a_member_is_found_by_its_address() {
    let membership = small();
    let at = |text| membership.get(address(text)).map(|member| member.condition);
    assert_eq!(at("10.0.0.2:8001"), Some(Condition::Unhealthy));
    assert_eq!(at("[fd00::7]:8000"), Some(Condition::Draining));
    assert_eq!(at("10.0.0.2:8000"), None);
}

#[test]
fn only_the_lowest_1024_addresses_are_members() {
    let ports = (1..=1025).rev();
    let static_list: Vec<SocketAddr> = ports
        .map(|port| SocketAddr::new([10, 0, 0, 1].into(), port))
        .collect();
    let sightings: Vec<FoundEndpoint> = static_list
        .iter()
        .flat_map(|at| {
            ["a", "b"].map(|cluster| found(&at.to_string(), cluster, Condition::Serving))
        })
        .collect();
    for membership in [Membership::from_static(&static_list), of(&sightings)] {
        let members = membership.members();
        assert_eq!(members.len(), 1024);
        assert_eq!(members[0].address.port(), 1);
        assert_eq!(members[1023].address.port(), 1024);
        assert_eq!(Membership::decode(&membership.encode()), Ok(membership));
    }
}

#[test]
fn the_bytes_are_as_documented() {
    #[rustfmt::skip]
    let expected = [
        1, 2, 0,
        0b01000, 10, 0, 0, 2, 0x41, 0x1f,
    ];
    let bytes = small().encode();
    assert_eq!(bytes[..10], expected);
    assert_eq!(bytes[10..18], hash_bytes(b"v2").to_le_bytes());
    assert_eq!(bytes[18..21], [0b10101, 0xfd, 0]);
    assert_eq!(bytes[34..], [7, 0x40, 0x1f, 0, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!(Membership::default().encode(), [1, 0, 0]);
}

#[test]
fn cut_and_continued_bytes_are_refused() {
    let bytes = small().encode();
    assert_eq!(Membership::decode(&bytes), Ok(small()));
    assert_eq!(Membership::decode(&[]), Err(MembershipError::Version));
    for end in 1..bytes.len() {
        let cut = Membership::decode(&bytes[..end]);
        assert_eq!(cut, Err(MembershipError::Length), "{end}");
    }
    let continued = [&bytes[..], &[0]].concat();
    assert_eq!(Membership::decode(&continued), Err(MembershipError::Length));
}

#[test]
fn bytes_that_no_membership_has_are_refused() {
    let bytes = small().encode();
    let changed = |place: usize, to: u8| {
        let mut changed = bytes.clone();
        changed[place] = to;
        Membership::decode(&changed)
    };
    assert_eq!(changed(0, 2), Err(MembershipError::Version));
    assert_eq!(changed(2, 5), Err(MembershipError::Content), "1,282 ranks");
    assert_eq!(changed(3, 0b1011), Err(MembershipError::Content), "role 3");
    assert_eq!(
        changed(3, 0b1100),
        Err(MembershipError::Content),
        "condition 3"
    );
    assert_eq!(
        changed(3, 0b10_1000),
        Err(MembershipError::Content),
        "a mark unknown"
    );

    let member = &bytes[3..18];
    let twice = [&[1, 2, 0], member, member].concat();
    assert_eq!(Membership::decode(&twice), Err(MembershipError::Content));
    let swapped = [&[1, 2, 0], &bytes[18..], member].concat();
    assert_eq!(Membership::decode(&swapped), Err(MembershipError::Content));
}

#[test]
fn an_error_says_what_is_wrong() {
    let texts = [
        MembershipError::Version,
        MembershipError::Length,
        MembershipError::Content,
    ]
    .map(|error| error.to_string());
    assert_eq!(
        texts,
        [
            "ranks of another version",
            "ranks that are cut or continued",
            "ranks that cannot be"
        ]
    );
}

#[cfg(not(target_arch = "wasm32"))]
mod properties {
    use std::collections::BTreeMap;
    use std::net::IpAddr;

    use proptest::prelude::*;

    use super::*;

    fn condition() -> impl Strategy<Value = Condition> {
        prop_oneof![
            Just(Condition::Serving),
            Just(Condition::Draining),
            Just(Condition::Unhealthy)
        ]
    }

    /// Few addresses, so that many meet.
    fn at() -> impl Strategy<Value = SocketAddr> {
        (any::<bool>(), 0..4_u8, 8000..8003_u16).prop_map(|(is_v6, pod, port)| {
            let ip = if is_v6 {
                [0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, pod].into()
            } else {
                IpAddr::from([10, 0, 0, pod])
            };
            SocketAddr::new(ip, port)
        })
    }

    prop_compose! {
        fn endpoint()(
            address in at(),
            cluster in "[ab]",
            workload in proptest::option::of("(x|prefill|decode|prefill-decode)"),
            revision in proptest::option::of("v[12]"),
            condition in condition(),
        ) -> FoundEndpoint {
            FoundEndpoint { address, cluster, workload, namespace: None, revision, condition }
        }
    }

    proptest! {
        #[test]
        fn what_was_found_in_any_order_is_the_same_membership(
            found in proptest::collection::vec(endpoint(), 0..20),
            turn in any::<prop::sample::Index>(),
        ) {
            let mut turned = found.clone();
            turned.rotate_left(if found.is_empty() { 0 } else { turn.index(found.len()) });
            turned.reverse();
            prop_assert_eq!(of(&found), of(&turned));
        }

        #[test]
        fn members_are_those_of_a_map_by_address(
            found in proptest::collection::vec(endpoint(), 0..20),
        ) {
            let mut worst: BTreeMap<SocketAddr, Condition> = BTreeMap::new();
            for endpoint in &found {
                let condition = worst.entry(endpoint.address).or_insert(endpoint.condition);
                *condition = endpoint.condition.max(*condition);
            }
            let membership = of(&found);
            let members: Vec<(SocketAddr, Condition)> = membership
                .members()
                .iter()
                .map(|member| (member.address, member.condition))
                .collect();
            prop_assert_eq!(members, worst.into_iter().collect::<Vec<_>>());
        }

        #[test]
        fn bytes_give_the_membership_back(
            found in proptest::collection::vec(endpoint(), 0..20),
        ) {
            let membership = of(&found);
            let bytes = membership.encode();
            prop_assert!(bytes.len() <= 3 + 27 * membership.members().len());
            prop_assert_eq!(Membership::decode(&bytes), Ok(membership));
        }

        #[test]
        fn any_bytes_that_are_read_are_those_that_would_be_written(
            mut bytes in proptest::collection::vec(any::<u8>(), 0..60),
            is_framed in any::<bool>(),
        ) {
            if is_framed && bytes.len() >= 3 {
                let count = u8::try_from((bytes.len() - 3) / 15).unwrap();
                bytes[..3].copy_from_slice(&[1, count, 0]);
            }
            if let Ok(membership) = Membership::decode(&bytes) {
                prop_assert_eq!(membership.encode(), bytes);
            }
        }

        #[test]
        fn a_changed_byte_is_refused_or_another_membership(
            place in 0..45_usize,
            to in any::<u8>(),
        ) {
            let mut bytes = small().encode();
            let is_same = std::mem::replace(&mut bytes[place], to) == to;
            let decoded = Membership::decode(&bytes);
            prop_assert_eq!(decoded == Ok(small()), is_same);
        }
    }
}
