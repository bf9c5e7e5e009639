//! Values that must never change by accident, the same natively and in wasm32.
//!
//! The XXH3 values are the reference implementation's own: `XSUM_XXH3_testdata` with seed 0 in
//! `cli/xsum_sanity_check.c` of <https://github.com/Cyan4973/xxHash> v0.8.3. All other values are ours and pin the
//! format: gateways of two versions that disagree on them do not find each other's prefixes, and a release that
//! changes one starts with empty indexes.

#![allow(
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    reason = "a panic fails the test"
)]

use routing::{
    BlockStream, BodyEnd, Candidate, Condition, Config, Endpoint, EndpointDump, FoundEndpoint,
    Glob, Membership, MetricsPage, Pool, Prompt, PromptReader, RankId, RawConfig, Report,
    ReportTable, RoleRules, best_first, chain, hash_bytes, rank_list,
};

/// The reference's test input: high bytes of a multiplicative sequence.
fn sanity_buffer() -> Vec<u8> {
    let mut state: u64 = 2_654_435_761;
    let bytes = std::iter::repeat_with(|| {
        let [high, ..] = state.to_be_bytes();
        state = state.wrapping_mul(11_400_714_785_074_694_797);
        high
    });
    bytes.take(2367).collect()
}

#[cfg_attr(target_arch = "wasm32", wasm_bindgen_test::wasm_bindgen_test)]
#[cfg_attr(not(target_arch = "wasm32"), test)]
fn hashes_are_those_of_the_reference_implementation() {
    let buffer = sanity_buffer();
    for (bytes, hash) in [
        (0, 0x2D06_8005_38D3_94C2),
        (1, 0xC44B_DFF4_074E_ECDB),
        (6, 0x27B5_6A84_CD2D_7325),
        (12, 0xA713_DAF0_DFBB_77E7),
        (24, 0xA3FE_70BF_9D35_10EB),
        (48, 0x397D_A259_ECBA_1F11),
        (80, 0xBCDE_FBBB_2C47_C90A),
        (195, 0xCD94_217E_E362_EC3A),
        (403, 0xCDEB_804D_65C6_DEA4),
        (512, 0x617E_4959_9013_CB6B),
        (2048, 0xDD59_E2C3_A5F0_38E0),
        (2240, 0x6E73_A905_39CF_2948),
        (2367, 0xCB37_AEB9_E5D3_61ED),
    ] {
        assert_eq!(hash_bytes(&buffer[..bytes]), hash, "{bytes} bytes");
    }
}

#[cfg_attr(target_arch = "wasm32", wasm_bindgen_test::wasm_bindgen_test)]
#[cfg_attr(not(target_arch = "wasm32"), test)]
fn chained_hashes_are_pinned() {
    assert_eq!(
        [
            chain(0, 0),
            chain(1, 2),
            chain(2, 1),
            chain(u64::MAX, u64::MAX)
        ],
        [
            0xD0A6_6A65_C752_8968,
            0x07EE_86C2_8144_6BEF,
            0xFB54_CB63_22BE_3888,
            0x722A_202F_07A4_B313
        ]
    );
}

#[cfg_attr(target_arch = "wasm32", wasm_bindgen_test::wasm_bindgen_test)]
#[cfg_attr(not(target_arch = "wasm32"), test)]
fn the_blocks_of_a_stream_are_pinned() {
    let mut stream = BlockStream::new(64);
    stream.push(&sanity_buffer()[..150]);
    stream.fold(1, 7);
    let hashes: Vec<u64> = stream.blocks().iter().map(|block| block.hash).collect();
    assert_eq!(
        (hashes, stream.tail()),
        (
            vec![0x9CB4_8487_720E_C49D, 0x6922_4F80_A9D2_F200],
            Some(0xC2C2_9DF8_C5F7_C2CD)
        )
    );
}

/// Text of `lines` numbered lines.
fn text(lines: usize) -> String {
    (0..lines)
        .map(|line| format!("{line} bottles of beer on the wall. "))
        .collect()
}

fn read(endpoint: Endpoint, body: &str) -> Prompt {
    let mut reader = PromptReader::new(endpoint, 64);
    reader.feed(body.as_bytes());
    reader.finish(true)
}

fn hashes(prompt: &Prompt) -> Vec<u64> {
    prompt.blocks.iter().map(|block| block.chain_hash).collect()
}

#[cfg_attr(target_arch = "wasm32", wasm_bindgen_test::wasm_bindgen_test)]
#[cfg_attr(not(target_arch = "wasm32"), test)]
fn the_blocks_of_a_text_prompt_are_pinned() {
    let body = format!(
        r#"{{"model":"llama","prompt":"{}","max_tokens":5}}"#,
        text(5)
    );
    let prompt = read(Endpoint::Completions, &body);
    assert_eq!(prompt.body_end, BodyEnd::Whole);
    assert_eq!(
        (hashes(&prompt), prompt.anchor, prompt.prompt_bytes),
        (
            vec![0x97E1_DBEF_056A_BA9C, 0xB319_7DAE_65EE_EF04],
            0xB319_7DAE_65EE_EF04,
            155
        )
    );
}

#[cfg_attr(target_arch = "wasm32", wasm_bindgen_test::wasm_bindgen_test)]
#[cfg_attr(not(target_arch = "wasm32"), test)]
fn the_blocks_of_a_token_prompt_are_pinned() {
    let tokens: Vec<String> = (1000..1030).map(|token| token.to_string()).collect();
    let prompt = read(
        Endpoint::Completions,
        &format!(r#"{{"prompt":[{}]}}"#, tokens.join(",")),
    );
    // Ids as four little-endian bytes each, a word for "these are ids", behind the endpoint and an empty front.
    let ids: Vec<u8> = (1000u32..1016).flat_map(u32::to_le_bytes).collect();
    let block = hash_bytes(&ids).wrapping_add(0x746F_6B65_6E5F_6964);
    assert_eq!(hashes(&prompt), [chain(chain(1, 0), block)]);
    assert_eq!(
        (hashes(&prompt), prompt.anchor, prompt.tokens()),
        (vec![0x4154_8CC9_39A0_4B22], 0x4154_8CC9_39A0_4B22, 30)
    );
}

#[cfg_attr(target_arch = "wasm32", wasm_bindgen_test::wasm_bindgen_test)]
#[cfg_attr(not(target_arch = "wasm32"), test)]
fn the_blocks_of_a_chat_are_pinned() {
    let body = format!(
        r#"{{"messages":[{{"role":"system","content":"{0}"}},
            {{"role":"user","content":[{{"type":"text","text":"look: {1}"}},{{"type":"image_url","image_url":{{"url":"data:,x"}}}}]}},
            {{"role":"assistant","content":null,"tool_calls":[{{"id":"1","function":{{"name":"f","arguments":"{{}}"}}}}]}},
            {{"role":"tool","tool_call_id":"1","content":"\u00e9\ud83d\ude00 {0}"}}],
          "tools":[{{"type":"function","function":{{"name":"f","description":"{0}","parameters":{{}}}}}}],
          "model":"llama","cache_salt":"salt","temperature":0.7}}"#,
        text(3),
        text(2),
    );
    let prompt = read(Endpoint::ChatCompletions, &body);
    assert_eq!(prompt.body_end, BodyEnd::Whole);
    assert_eq!(
        (hashes(&prompt), prompt.anchor, prompt.prompt_bytes),
        (
            vec![
                0x8FDD_7C0B_CA68_D1AB,
                0x099E_7B7D_BC6B_EC0F,
                0xCEB3_2479_7573_6860,
                0xB390_27CB_200D_B789,
                0x4EF1_AD68_E382_4332,
                0xABB1_7EF0_64DE_7E46
            ],
            0xB390_27CB_200D_B789,
            4659
        )
    );
}

#[cfg_attr(target_arch = "wasm32", wasm_bindgen_test::wasm_bindgen_test)]
#[cfg_attr(not(target_arch = "wasm32"), test)]
fn the_order_of_equal_ranks_is_pinned() {
    let candidates = [0u16, 1, 2, 3, 4, 5].map(|rank| Candidate {
        rank: RankId(rank),
        pod: [10, 0, 0, u8::try_from(rank / 2).unwrap_or(0)].into(),
        address_hash: hash_bytes(format!("10.0.0.{}:{}", rank / 2, 8000 + rank % 2).as_bytes()),
        cost_seconds: 0.5,
    });
    let orders: Vec<[u16; 3]> = (0..4)
        .map(|anchor| {
            let ranks = best_first(&candidates, anchor);
            [ranks[0].0, ranks[1].0, ranks[2].0]
        })
        .collect();
    assert_eq!(orders, [[2, 0, 4], [2, 5, 0], [1, 2, 5], [0, 3, 4]]);
}

#[cfg_attr(target_arch = "wasm32", wasm_bindgen_test::wasm_bindgen_test)]
#[cfg_attr(not(target_arch = "wasm32"), test)]
fn a_pick_of_two_ranks_is_pinned() {
    let raw = RawConfig {
        clusters: Some(vec!["ranks".to_string()]),
        block_bytes: Some(64),
        ..RawConfig::default()
    };
    let mut pool = Config::try_from(raw).map(Pool::new).unwrap();
    let found = |place: u8, workload: &str| FoundEndpoint {
        address: ([10, 0, 0, place], 8000).into(),
        cluster: "ranks".to_string(),
        workload: Some(workload.to_string()),
        namespace: None,
        revision: None,
        condition: Condition::Serving,
    };
    let prefill = (1..4).map(|place| found(place, "llm-prefill"));
    let decode = (4..7).map(|place| found(place, "llm-decode"));
    let found: Vec<FoundEndpoint> = prefill.chain(decode).collect();
    pool.list(&Membership::from_found(&found, &RoleRules::default()));
    let picks = [300, 600, 610].map(|lines| {
        let body = format!(r#"{{"prompt":"{}"}}"#, text(lines));
        let pick = pool
            .pick(Some(&read(Endpoint::Completions, &body)), 42, 0)
            .unwrap();
        let leg = pick.plan.leg().map(|leg| rank_list(&leg.ranks));
        (rank_list(&pick.ranks[..1]), leg, pick.matched_tokens)
    });
    let decodes = || "10.0.0.6:8000".to_string();
    let prefills = |ranks: &str| Some(ranks.to_string());
    assert_eq!(
        picks,
        [
            (decodes(), prefills("10.0.0.1:8000,10.0.0.2:8000"), 0),
            (decodes(), prefills("10.0.0.2:8000,10.0.0.3:8000"), 0),
            (decodes(), None, 4912)
        ]
    );
}

#[cfg_attr(target_arch = "wasm32", wasm_bindgen_test::wasm_bindgen_test)]
#[cfg_attr(not(target_arch = "wasm32"), test)]
fn a_pick_is_pinned() {
    let ranks = vec![
        "10.0.0.1:8000-8003".to_string(),
        "10.0.0.2:8000-8003".to_string(),
        "[fd00::3]:8000".to_string(),
    ];
    let raw = RawConfig {
        ranks: Some(ranks),
        block_bytes: Some(64),
        miss_weight: Some(3.0),
        ..RawConfig::default()
    };
    let mut pool = Config::try_from(raw).map(Pool::new);
    let pick =
        |prompt: Option<&Prompt>| pool.as_mut().ok().and_then(|pool| pool.pick(prompt, 42, 0));
    let prompts = [30, 60].map(|lines| {
        read(
            Endpoint::Completions,
            &format!(r#"{{"prompt":"{}"}}"#, text(lines)),
        )
    });
    let picks: Vec<String> = [Some(&prompts[0]), Some(&prompts[1]), None]
        .map(pick)
        .into_iter()
        .flatten()
        .map(|pick| {
            format!(
                "{} {:?} {}/{}",
                rank_list(&pick.ranks),
                pick.reason,
                pick.matched_tokens,
                pick.prompt_tokens
            )
        })
        .collect();
    assert_eq!(
        picks,
        [
            "10.0.0.2:8000,10.0.0.1:8001,[fd00::3]:8000 LowestCost 0/238",
            "10.0.0.2:8000,10.0.0.1:8000,[fd00::3]:8000 PrefixHit 224/478",
            "10.0.0.2:8002,10.0.0.1:8003,[fd00::3]:8000 NoPrompt 0/0",
        ]
    );
}

/// A body of each endpoint and the chain hash of the last of its blocks.
#[cfg_attr(target_arch = "wasm32", wasm_bindgen_test::wasm_bindgen_test)]
#[cfg_attr(not(target_arch = "wasm32"), test)]
fn the_last_block_of_every_endpoint_is_pinned() {
    let long = text(4);
    let message = format!(r#"[{{"role":"user","content":"{long}"}}]"#);
    for (endpoint, body, last) in [
        (
            Endpoint::Completions,
            format!(r#"{{"prompt":["{long}","{long}"]}}"#),
            0x1DC0_715D_5B89_ECE6,
        ),
        (
            Endpoint::ChatCompletions,
            format!(r#"{{"messages":{message}}}"#),
            0x3561_3374_C700_8B32,
        ),
        (
            Endpoint::Responses,
            format!(r#"{{"instructions":"{long}","input":{message}}}"#),
            0xEC69_1A02_891D_CF03,
        ),
        (
            Endpoint::Messages,
            format!(r#"{{"system":"{long}","messages":{message}}}"#),
            0xEC69_1A02_891D_CF03,
        ),
        (
            Endpoint::Pooling,
            format!(r#"{{"input":["{long}"]}}"#),
            0x408E_6122_61BE_7197,
        ),
        (
            Endpoint::Rerank,
            format!(r#"{{"query":"{long}","documents":["{long}"]}}"#),
            0x4C43_14C8_E7CF_E36B,
        ),
        (
            Endpoint::Score,
            format!(r#"{{"text_1":"{long}","text_2":"{long}"}}"#),
            0x0049_DD42_A28B_E19D,
        ),
        (
            Endpoint::Tokenize,
            format!(r#"{{"prompt":"{long}"}}"#),
            0xDE15_AB0D_CEC6_22D9,
        ),
        (
            Endpoint::Generate,
            format!(r#"{{"token_ids":[{}1],"x":0}}"#, "70001,".repeat(40)),
            0x3561_7458_AB41_7BE2,
        ),
    ] {
        let hash = hashes(&read(endpoint, &body)).last().copied();
        assert_eq!(hash, Some(last), "{endpoint:?}");
    }
}

/// Recorded from vLLM 0.25.1 after some 45 requests; its numbers read off by eye.
fn recorded_report() -> Report {
    Report {
        running: Some(0),
        waiting: Some(0),
        kv_usage: Some(0.0),
        capacity_tokens: Some(219_680),
        start_time_ms: Some(1_795_578_310_370),
        prompt_tokens_total: Some(156_658),
        generation_tokens_total: Some(108),
        prefix_queried_tokens_total: Some(156_658),
        prefix_hit_tokens_total: Some(78_640),
        is_awake: Some(true),
    }
}

#[cfg_attr(target_arch = "wasm32", wasm_bindgen_test::wasm_bindgen_test)]
#[cfg_attr(not(target_arch = "wasm32"), test)]
fn a_recorded_metrics_page_is_read_in_pieces_of_any_size() {
    let page = include_bytes!("../corpus/metrics/vllm-0.25.1-after.txt");
    for size in [page.len(), 16_384, 1000, 7] {
        let mut reader = MetricsPage::default();
        page.chunks(size).for_each(|piece| reader.feed(piece));
        assert_eq!(reader.finish(), recorded_report(), "by {size}");
    }
}

#[cfg_attr(target_arch = "wasm32", wasm_bindgen_test::wasm_bindgen_test)]
#[cfg_attr(not(target_arch = "wasm32"), test)]
fn the_bytes_of_a_table_of_reports_are_pinned() {
    let mut reports = ReportTable::default();
    reports.answered(5, recorded_report(), 1_795_578_500_000);
    reports.failed(5, 1_795_578_501_000);
    let bytes = reports.encode();
    assert_eq!(
        (bytes.len(), hash_bytes(&bytes)),
        (52, 0x10E9_6B57_D413_D103)
    );
    assert_eq!(ReportTable::decode(&bytes), Ok(reports));
}

/// Envoy 1.40.0's own answer, and what workers of all versions hand each other of it.
#[cfg_attr(target_arch = "wasm32", wasm_bindgen_test::wasm_bindgen_test)]
#[cfg_attr(not(target_arch = "wasm32"), test)]
fn the_membership_of_a_recorded_dump_is_pinned() {
    let json = include_bytes!("../corpus/endpoints/envoy-1.40.0-dynamic.json");
    let clusters = Glob::parse("outbound|8000||wide-ep-*").map(|glob| [glob]);
    let dump = clusters.and_then(|clusters| EndpointDump::parse(json, &clusters).ok());
    let found = dump.unwrap_or_default().endpoints;
    let bytes = Membership::from_found(&found, &RoleRules::default()).encode();
    assert_eq!((found.len(), bytes.len()), (10, 177));
    assert_eq!(hash_bytes(&bytes), 0x781C_F16F_36FE_B0C6);
    assert_eq!(
        Membership::decode(&bytes).map(|membership| membership.members().len()),
        Ok(10)
    );
}
