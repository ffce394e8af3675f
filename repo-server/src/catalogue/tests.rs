use std::collections::BTreeMap;
use std::io::Read as _;
use std::time::Instant;

use repository::{Inventory, InventoryEntry};

use super::*;

fn name(text: &str) -> ProfileName {
    ProfileName::new(text).expect("a name")
}

fn entry(text: &str, seconds: f64) -> Entry {
    let mut described = InventoryEntry { last_modified: seconds, ..InventoryEntry::default() };
    described.keys.insert("ProfileClass".to_owned(), "Nt".into());
    Entry::new(name(text), Some(Stamp { modified: 1, len: 2, id: 3 }), described)
}

fn listed(catalogue: &Catalogue) -> BTreeMap<String, f64> {
    let blob = catalogue.render(Form::GzipFile);
    // Read by another decoder than the one that shares our crate's code: one member, nothing behind it.
    let mut text = String::new();
    let mut decoder = flate2::bufread::GzDecoder::new(&blob.bytes[..]);
    decoder.read_to_string(&mut text).expect("one gzip member with the right checksum");
    assert!(decoder.into_inner().is_empty(), "nothing behind it");
    assert_eq!(catalogue.render(Form::Plain).bytes, text.as_bytes());
    let inventory = Inventory::parse(&blob.bytes, 1 << 30).expect("an inventory");
    inventory.entries.into_iter().map(|(name, entry)| (name.to_string(), entry.last_modified)).collect()
}

/// Numbers that look random and are the same each time.
fn numbers() -> impl Iterator<Item = u32> {
    std::iter::successors(Some(1_u64), |n| {
        Some(n.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407))
    })
    .map(|n| u32::try_from(n >> 33).expect("31 bits"))
}

#[test]
fn a_catalogue_is_a_sorted_map() {
    let catalogue = Catalogue::new(None);
    assert_eq!(listed(&catalogue), BTreeMap::new());
    let mut model = BTreeMap::new();
    let mut numbers = numbers();
    let mut next = move || numbers.next().expect("endless");
    for round in 0..6 {
        let cursor = catalogue.cursor();
        let before = model.clone();
        for _ in 0..1500 {
            let text = format!("nt/GUID/{}", next() % 3000);
            if next() % 4 == 0 {
                catalogue.remove(&name(&text));
                model.remove(&text);
            } else {
                let seconds = f64::from(next() % 1000);
                catalogue.insert(entry(&text, seconds));
                model.insert(text, seconds);
            }
        }
        assert_eq!(listed(&catalogue), model, "round {round}");
        assert_eq!(catalogue.len(), model.len());
        // A delta leads from the state before to the state after.
        let delta = catalogue.since(&cursor).expect("a cursor of this run");
        let mut patched = before;
        for gone in &delta.removed {
            patched.remove(gone.as_str());
        }
        for changed in &delta.changed {
            patched.insert(changed.name.to_string(), changed.last_modified);
        }
        assert_eq!(patched, model);
        let pages: Vec<String> =
            std::iter::successors(Some(catalogue.list("nt/GUID/1", "", "", 50)), |page| {
                let after = page.last()?.name.to_string();
                Some(catalogue.list("nt/GUID/1", &after, "", 50)).filter(|page| !page.is_empty())
            })
            .flatten()
            .map(|entry| entry.name.to_string())
            .collect();
        let expected: Vec<String> =
            model.keys().filter(|name| name.starts_with("nt/GUID/1")).cloned().collect();
        assert_eq!(pages, expected);
    }
}

#[test]
fn announced_names_give_way_to_files_and_come_back() {
    let catalogue = Catalogue::new(None);
    let announced = || BTreeSet::from([name("nt/GUID/1"), name("nt/GUID/2")]);
    catalogue.announce(announced(), 5.0);
    catalogue.insert(entry("nt/GUID/1", 7.0));
    catalogue.announce(announced(), 6.0);
    assert_eq!(
        listed(&catalogue),
        BTreeMap::from([("nt/GUID/1".to_owned(), 7.0), ("nt/GUID/2".to_owned(), 5.0)])
    );
    catalogue.remove(&name("nt/GUID/1"));
    assert_eq!(catalogue.len(), 2, "listed as not built again");
    catalogue.announce(BTreeSet::new(), 6.0);
    assert_eq!(catalogue.len(), 0);
}

#[test]
fn a_change_among_a_hundred_thousand_costs_one_run() {
    let catalogue = Catalogue::new(None);
    for number in 0..100_000 {
        catalogue.insert(entry(
            &format!(
                "nt/GUID/{:032X}1",
                u128::from(number as u32).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060)
            ),
            1.0e9,
        ));
    }
    let start = Instant::now();
    catalogue.render(Form::GzipFile);
    let whole = start.elapsed();
    catalogue.insert(entry("nt/GUID/one more", 1.0e9));
    let start = Instant::now();
    let body = catalogue.render(Form::GzipFile);
    // Printed, not asserted: how long it takes is the machine's business.
    println!("{} bytes; first {whole:?}, after a change {:?}", body.bytes.len(), start.elapsed());
    let rendered = catalogue.read().shards.iter().filter(|shard| shard.is_rendered()).count();
    assert_eq!(rendered, catalogue.read().shards.len());
    catalogue.insert(entry("nt/GUID/and another", 1.0e9));
    let rendered = catalogue.read().shards.iter().filter(|shard| shard.is_rendered()).count();
    assert_eq!(rendered, catalogue.read().shards.len() - 1, "only the run that changed is to be made again");
}
