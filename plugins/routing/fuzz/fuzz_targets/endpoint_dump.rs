//! Dumps of Envoy's endpoints and memberships as bytes: anything is read or refused, and what is read is in order,
//! bounded, and the same again.

#![no_main]

use std::collections::BTreeSet;

use libfuzzer_sys::fuzz_target;
use routing::{EndpointDump, Glob, Membership, RoleRules};

/// As many ranks as a pool may have.
const MAX_RANKS: usize = 1024;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(membership) = Membership::decode(bytes) {
        assert_eq!(membership.encode(), bytes);
    }
    let all = Glob::parse("*").expect("a pattern");
    if let Ok(dump) = EndpointDump::parse(bytes, std::slice::from_ref(&all)) {
        check(&dump);
        let some = Glob::parse("*8000*decode*").expect("a pattern");
        let part = EndpointDump::parse(bytes, &[some]).expect("it was read before");
        assert!(part.clusters <= dump.clusters);
        assert!(
            part.endpoints
                .iter()
                .all(|found| dump.endpoints.contains(found))
        );
    }
});

fn check(dump: &EndpointDump) {
    assert!(dump.endpoints.is_sorted());
    assert!(dump.endpoints.iter().all(|found| found.address.port() > 0));
    let addresses: BTreeSet<_> = dump.endpoints.iter().map(|found| found.address).collect();
    assert!(addresses.len() <= MAX_RANKS);
    let membership = Membership::from_found(&dump.endpoints, &RoleRules::default());
    assert!(
        membership
            .members()
            .iter()
            .map(|member| member.address)
            .eq(addresses)
    );
    assert_eq!(Membership::decode(&membership.encode()), Ok(membership));
}
