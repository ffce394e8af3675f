//! Values of attributes: constants, names in other sections, addresses.

use std::ffi::CStr;

use gimli::{AttributeValue, Operation};

use super::{Sections, Slice};

/// Longest name that is read; C compilers guarantee 63 significant characters.
const MAX_NAME: usize = 1024;

/// A constant, or the `DW_OP_plus_uconst` of DWARF 2.
pub(super) fn location(value: &AttributeValue<Slice<'_>>) -> Option<u64> {
    let expression = match value {
        AttributeValue::Block(bytes) => *bytes,
        AttributeValue::Exprloc(expression) => expression.0,
        constant => return constant.udata_value(),
    };
    let encoding = gimli::Encoding { format: gimli::Format::Dwarf32, version: 4, address_size: 8 };
    match Operation::parse(&mut { expression }, encoding) {
        Ok(Operation::PlusConstant { value } | Operation::UnsignedConstant { value }) => Some(value),
        _ => None,
    }
}

/// Upper bound of a dimension. -1, also as all ones of 4 or 8 bytes, is the bound of `[0]`.
pub(super) fn upper_bound(value: &AttributeValue<Slice<'_>>) -> Option<u64> {
    match value {
        AttributeValue::Data4(u32::MAX) | AttributeValue::Sdata(-1) => Some(u64::MAX),
        value => value.udata_value(),
    }
}

/// Value of an enumerator. Forms without a sign are unsigned: compilers use `DW_FORM_sdata` for negative values.
pub(super) fn constant(value: &AttributeValue<Slice<'_>>) -> Option<i128> {
    match value {
        AttributeValue::Sdata(value) => Some(i128::from(*value)),
        AttributeValue::Data16(value) => i128::try_from(*value).ok(),
        AttributeValue::Block(bytes) if bytes.len() <= 8 => {
            Some(bytes.slice().iter().rev().fold(0, |sum, &byte| sum << 8 | i128::from(byte)))
        }
        value => value.udata_value().map(i128::from),
    }
}

/// What decodes the forms of one unit that lead to other sections.
pub(super) struct Forms<'d> {
    sections: Sections<'d>,
    encoding: gimli::Encoding,
    /// `DW_AT_str_offsets_base` and `DW_AT_addr_base` of the unit.
    strings_base: usize,
    addresses_base: usize,
}

impl<'d> Forms<'d> {
    pub(super) fn new(sections: Sections<'d>, encoding: gimli::Encoding) -> Self {
        Self { sections, encoding, strings_base: 0, addresses_base: 0 }
    }

    /// Sets what the root of the unit says.
    pub(super) fn set_bases(&mut self, strings: usize, addresses: usize) {
        self.strings_base = strings;
        self.addresses_base = addresses;
    }

    /// The address of a variable that stands at one place for as long as the program runs; `None` for all others.
    pub(super) fn address(&self, value: &AttributeValue<Slice<'d>>) -> Option<u64> {
        let mut expression = match value {
            AttributeValue::Block(bytes) => *bytes,
            AttributeValue::Exprloc(expression) => expression.0,
            _ => return None,
        };
        let address = match Operation::parse(&mut expression, self.encoding).ok()? {
            Operation::Address { address } => address,
            Operation::AddressIndex { index } => {
                let width = usize::from(self.encoding.address_size);
                Self::entry(self.sections.addr, index.0, width, self.addresses_base)?
            }
            _ => return None,
        };
        // More operations make it the place of a thread's own copy, or a computed one.
        expression.is_empty().then_some(address)
    }

    /// Number `index` of the little-endian numbers of `width` bytes that start at `base` of a section.
    fn entry(section: &[u8], index: usize, width: usize, base: usize) -> Option<u64> {
        let at = index.checked_mul(width)?.checked_add(base)?;
        let bytes = section.get(at..at.checked_add(width)?)?;
        Some(bytes.iter().rev().fold(0u64, |word, &byte| word << 8 | u64::from(byte)))
    }

    /// The name; empty where there is none or it is longer than [`MAX_NAME`].
    pub(super) fn text(&self, value: &AttributeValue<Slice<'d>>) -> &'d [u8] {
        match value {
            AttributeValue::String(bytes) if bytes.len() <= MAX_NAME => bytes.slice(),
            AttributeValue::DebugStrRef(offset) => terminated(self.sections.str, offset.0),
            AttributeValue::DebugLineStrRef(offset) => terminated(self.sections.line_str, offset.0),
            AttributeValue::DebugStrOffsetsIndex(index) => {
                let width = if self.encoding.format == gimli::Format::Dwarf64 { 8 } else { 4 };
                Self::entry(self.sections.str_offsets, index.0, width, self.strings_base)
                    .and_then(|offset| usize::try_from(offset).ok())
                    .map_or(&[], |offset| terminated(self.sections.str, offset))
            }
            _ => &[],
        }
    }
}

fn terminated(section: &[u8], offset: usize) -> &[u8] {
    let rest = section.get(offset..).unwrap_or_default();
    let bounded = rest.get(..=MAX_NAME).unwrap_or(rest);
    CStr::from_bytes_until_nul(bounded).map_or(&[], CStr::to_bytes)
}
