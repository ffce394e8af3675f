//! `dt`: how a struct is laid out, and what an instance of it holds.
//!
//! Embedded structs and arrays are expanded as a tree; pointers are shown, not followed. Members of anonymous structs and
//! unions appear under the names C code uses. The definition needs a profile only. Structs of loaded Linux modules are taken from the BTF
//! that the kernel keeps of them. Truth: `pahole -C STRUCT vmlinux` for definitions.

use std::sync::Arc;

use memory::FileSpace;
use object::{DataModel, Object, Scalar, Target, Types};
use profile::{Profile, Struct, Type};

use crate::os::address_space::SpaceArg;
use crate::os::linux::module_btf;
use crate::os::symbols;
use crate::os::system::{Kernel, types};
use crate::plugin::prelude::*;
use crate::table::{Value, text_of};

/// The command.
pub struct Dt;

/// Most rows of one tree; types of a hostile profile may nest without end.
const MAX_ROWS: usize = 1 << 16;
/// Most bytes of text or of a byte array in one cell.
const MAX_BYTES: usize = 4096;

/// Options.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// Name of the struct or union; of a loaded Linux module also as MODULE!STRUCT
    #[arg(value_name = "STRUCT")]
    pub target: String,
    /// Where an instance is: an address or symbol; without it the definition is shown
    #[arg(value_name = "ADDRESS")]
    pub offset: Option<String>,
    /// What the address means
    #[command(flatten)]
    pub space: SpaceArg,
    /// Show only the members that cover this offset in bytes
    #[arg(long, value_name = "BYTES", value_parser = crate::parse::address)]
    pub member_offset: Option<u64>,
    /// Levels of embedded structs to expand
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = clap::value_parser!(u16).range(..=64))]
    pub depth: u16,
    /// Elements of an array to show
    #[arg(long, value_name = "N", default_value_t = 16)]
    pub elements: u64,
}

row! {
    pub struct Row {
        /// Where the member is, in bytes from the start of the struct that was asked for.
        offset as "Offset": Address,
        /// Name of the member.
        field as "Field": String,
        /// Declaration of its type.
        type_name as "Type": String,
        /// Length in bytes; absent where the profile does not know.
        size as "Size": Option<ByteSize>,
        /// What the instance holds: a value, or the address of an embedded struct.
        content: Value,
    }
}

impl Plugin for Dt {
    const NAME: &'static str = "dt";
    const SUMMARY: &'static str = "Show the layout of a struct, or an instance of it";
    const ACTIVE: Active = Active::Always;
    type Args = Args;
    type Row = Row;

    fn collect(&self, session: &Session, args: &Args, out: &mut Rows<'_, Row>) -> Result<(), Error> {
        let (target, addr) = match &args.offset {
            Some(text) => {
                let target = args.space.name(session).target(session)?;
                (target, Some(symbols::address(session, text)?))
            }
            None => (definitions(session)?, None),
        };
        let (target, name) = match of_module(session, &target, &args.target)? {
            Some(found) => found,
            None => (target, args.target.as_str()),
        };
        let types = target.types();
        if let Err(missing) = types.structure(name) {
            return Err(Error::usage(missing.to_string()).with_hint(similar(types, name)));
        }
        let mut tree = Tree { target: &target, args, addr, rows: 0, cut: false, out };
        let root = Object::new(&target, addr.unwrap_or(0), Type::named(name));
        tree.show(0, name, &root)?;
        if tree.rows >= MAX_ROWS {
            session
                .notes
                .partial(format!("stopped after {MAX_ROWS} members; use --depth or --member_offset"));
        } else if tree.cut {
            session
                .notes
                .info(format!("arrays are shown up to element {}; --elements shows more", args.elements));
        }
        Ok(())
    }
}

/// Types of a profile, with the widths of its system.
fn types_of(profile: Profile) -> Types {
    let windows = profile.metadata_str("GUID_AGE").is_some();
    let (model, profile) = (DataModel::of(profile.metadata()), Arc::new(profile));
    if windows { Types::new(profile, model, &[]) } else { types(profile) }
}

/// Types without memory: of the profile the user named, else of the image's kernel.
fn definitions(session: &Session) -> Result<Target, Error> {
    match (&session.config.profile, &session.config.filename) {
        (Some(name), None) => {
            let loaded = session.repositories()?.load(name);
            let loaded = loaded.map_err(|error| {
                let asked = error.trace.iter().map(|asked| format!("asked: {asked}")).collect();
                Error::identify(error.to_string()).with_details(asked)
            })?;
            let nothing = Arc::new(FileSpace::from_vec(Vec::new()));
            Ok(Target::new(Arc::new(types_of(loaded.profile)), nothing, 0, u64::MAX))
        }
        (None, None) => Err(Error::usage("this command needs a profile or a memory image")
            .with_hint("name one: rekal -p PROFILE dt STRUCT, or rekal -f IMAGE dt STRUCT")),
        _ => Ok(Kernel::of(session)?.target().clone()),
    }
}

/// The types of the module that defines a struct the kernel does not: the one named as `MODULE!STRUCT`, else the first that does.
fn of_module<'n>(
    session: &Session,
    target: &Target,
    name: &'n str,
) -> Result<Option<(Target, &'n str)>, Error> {
    let (module, name) = match name.split_once('!') {
        Some((module, name)) => (Some(module), name),
        None => (None, name),
    };
    if session.config.filename.is_none() || module.is_none() && target.types().structure(name).is_ok() {
        return Ok(None);
    }
    let Kernel::Linux(kernel) = Kernel::of(session)? else { return Ok(None) };
    if let Some(module) = module {
        let types = kernel.module_types(module).map_err(|why| Error::analysis(format!("{why}: {module}")))?;
        return Ok(Some((types.with_space(Arc::clone(target.shared_space())), name)));
    }
    for module in module_btf::naming(&kernel, name) {
        match kernel.module_types(&module) {
            Ok(types) if types.types().structure(name).is_ok() => {
                session.notes.info(format!("defined by module {module}"));
                return Ok(Some((types.with_space(Arc::clone(target.shared_space())), name)));
            }
            Ok(_) => {}
            Err(why) => session.notes.partial(format!("types of module {module} cannot be read: {why}")),
        }
    }
    Ok(None)
}

/// Advice for a name that no struct has.
fn similar(types: &Types, name: &str) -> String {
    let part = name.to_ascii_lowercase();
    let known = types.profile().struct_names();
    let mut hits: Vec<&str> =
        known.into_iter().filter(|known| known.to_ascii_lowercase().contains(&part)).take(4096).collect();
    hits.sort_unstable_by_key(|hit| (hit.len(), *hit));
    hits.truncate(5);
    if hits.is_empty() {
        "structs are named as in the kernel's source, without `struct`".to_owned()
    } else {
        format!("structs of like name: {}", hits.join(", "))
    }
}

/// The output of one struct.
struct Tree<'a, 't, 'o> {
    target: &'t Target,
    args: &'a Args,
    /// Address of the instance.
    addr: Option<u64>,
    rows: usize,
    /// Whether an array was shown in part.
    cut: bool,
    out: &'a mut Rows<'o, Row>,
}

impl<'t> Tree<'_, 't, '_> {
    /// Shows an object and what is embedded in it.
    fn show(&mut self, depth: u16, name: &str, object: &Object<'t>) -> Result<(), Error> {
        let offset = object.addr().wrapping_sub(self.addr.unwrap_or(0));
        let size = self.target.types().size_of(object.ty());
        let wanted = self.args.member_offset.is_none_or(|wanted| {
            let inside = wanted.wrapping_sub(offset);
            inside < size.unwrap_or(0) || inside == 0
        });
        if !wanted || self.rows >= MAX_ROWS {
            return Ok(());
        }
        self.rows += 1;
        let content = match self.addr {
            None => Value::Absent(Absent::NotApplicable("only the definition was asked for")),
            Some(_) => self.content(object),
        };
        self.out.push_at(
            depth,
            Row {
                offset: Address(offset),
                field: name.to_owned(),
                type_name: declaration(object.ty(), 0),
                size: size.map(ByteSize),
                content,
            },
        )?;
        if depth > self.args.depth {
            return Ok(());
        }
        let below = depth.saturating_add(1);
        match object.ty() {
            Type::Array { target, count, .. } if self.is_compound(target) => {
                // All elements of a definition are alike.
                let shown = if self.addr.is_some() { self.args.elements } else { 1 };
                let count = count.unwrap_or(0);
                self.cut |= self.addr.is_some() && count > shown;
                for index in 0..count.min(shown) {
                    match object.index(index) {
                        Ok(element) => self.show(below, &format!("[{index}]"), &element)?,
                        Err(_) => break,
                    }
                    if self.rows >= MAX_ROWS {
                        break;
                    }
                }
            }
            Type::Named(_) => {
                let mut fields = object.fields().unwrap_or_default();
                fields.sort_by_key(|(_, offset, member)| (*offset, first_bit(member.ty())));
                for (name, _, member) in fields {
                    if !self.is_hoisted(object.ty(), &name) {
                        self.show(below, &name, &member)?;
                    }
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// Whether a member is an anonymous struct or union (`u1`, `u2`) whose members the profile gives to the struct
    /// around it as well, under the names C code uses. Profiles of the original do not.
    fn is_hoisted(&self, ty: &Type, name: &str) -> bool {
        let Type::Named(structure) = ty else { return false };
        let Ok(outer) = self.target.types().structure(structure) else { return false };
        // Inner structs still to look at, with their offsets in the outer one.
        let mut waiting = Vec::new();
        waiting.extend(anonymous(outer, name));
        let mut is_hoisted = !waiting.is_empty();
        let mut left = MAX_ROWS;
        while let (Some((structure, offset)), 1.., true) = (waiting.pop(), left, is_hoisted) {
            left -= 1;
            let Ok(inner) = self.target.types().structure(structure) else { return false };
            for (name, field) in &inner.fields {
                let place = field.offset.wrapping_add(offset);
                match anonymous(inner, name) {
                    Some((structure, at)) => waiting.push((structure, at.wrapping_add(offset))),
                    None => {
                        is_hoisted &= outer.fields.get(name).is_some_and(|hoisted| hoisted.offset == place);
                    }
                }
            }
        }
        is_hoisted && waiting.is_empty()
    }

    /// Whether a type has parts of its own to show.
    fn is_compound(&self, ty: &Type) -> bool {
        match ty {
            Type::Named(name) => self.target.types().model().native(name).is_none(),
            Type::Array { .. } => true,
            _ => false,
        }
    }

    fn content(&mut self, object: &Object<'t>) -> Value {
        let addr = object.addr();
        match object.scalar() {
            Ok(Scalar::Uint(value)) => Value::Uint(value),
            Ok(Scalar::Int(value)) => Value::Int(value),
            Ok(Scalar::Bool(value)) => Value::Bool(value),
            Ok(Scalar::Float(value)) => Value::Text(value.to_string()),
            Ok(Scalar::Pointer(value)) => Value::Addr(value),
            Ok(Scalar::Text(bytes)) => Value::Text(text_of(&bytes)),
            Ok(Scalar::Enum(value, Some(name))) => Value::Text(format!("{name} ({value})")),
            Ok(Scalar::Enum(value, None)) => Value::Text(format!("UNKNOWN ({value})")),
            Ok(Scalar::Struct(_) | Scalar::Opaque) => Value::Addr(addr),
            Ok(Scalar::Array(count)) => self.array(object, count),
            // Integers of 16 bytes have no cell of their own.
            Err(Absent::Malformed(_)) if self.target.types().size_of(object.ty()) == Some(16) => {
                bytes(self.target, addr, 16)
            }
            Err(why) => Value::Absent(why),
        }
    }

    fn array(&mut self, object: &Object<'t>, count: Option<u64>) -> Value {
        let (Type::Array { target: element, .. }, Some(count)) = (object.ty(), count) else {
            return Value::Addr(object.addr());
        };
        match element.as_ref() {
            Type::Named(name) if name == "char" => {
                let max = usize::try_from(count).unwrap_or(MAX_BYTES).min(MAX_BYTES);
                match self.target.read_cstr(object.addr(), max) {
                    Ok(text) => Value::Text(text_of(&text)),
                    Err(why) => Value::Absent(why),
                }
            }
            Type::Named(name) if matches!(name.as_str(), "unsigned char" | "uint8_t") => {
                bytes(self.target, object.addr(), count.min(MAX_BYTES as u64))
            }
            element if self.is_compound(element) => Value::Addr(object.addr()),
            _ => {
                self.cut |= count > self.args.elements;
                let shown = count.min(self.args.elements).min(MAX_BYTES as u64);
                let value = |index| match object.index(index) {
                    Ok(element) => self.content(&element),
                    Err(why) => Value::Absent(why),
                };
                Value::List((0..shown).map(value).collect())
            }
        }
    }
}

/// The lowest bit of a bit-field, 0 for anything else.
fn first_bit(ty: &Type) -> u32 {
    match ty {
        Type::BitField { start, .. } => *start,
        Type::Enumeration { target: Some(target), .. } => first_bit(target),
        _ => 0,
    }
}

/// Name and offset of the struct behind a member without a name in C, which generators call `u1`, `u2`, ...
fn anonymous<'s>(outer: &'s Struct, name: &str) -> Option<(&'s str, i64)> {
    let field = outer.fields.get(name)?;
    let Type::Named(structure) = &field.ty else { return None };
    let numbered = name.strip_prefix('u').is_some_and(|number| number.parse::<u16>().is_ok());
    (numbered && structure.starts_with("__unnamed")).then_some((structure, field.offset))
}

fn bytes(target: &Target, addr: u64, len: u64) -> Value {
    match target.read_bytes(addr, len, MAX_BYTES) {
        Ok(bytes) => Value::Bytes(bytes),
        Err(why) => Value::Absent(why),
    }
}

/// A type as C would declare it, without the name: `char[16]`, `task_struct *`, `unsigned int:3 from bit 5`.
fn declaration(ty: &Type, depth: usize) -> String {
    if depth > profile::MAX_TYPE_NESTING {
        return "...".to_owned();
    }
    let inner = |ty: &Type| declaration(ty, depth + 1);
    let stored = |ty: Option<&Type>| ty.map_or_else(|| "unsigned long".to_owned(), inner);
    match ty {
        Type::Named(name) => name.clone(),
        Type::Void => "void".to_owned(),
        Type::Pointer(target) => match inner(target) {
            pointer if pointer.ends_with('*') => format!("{pointer}*"),
            other => format!("{other} *"),
        },
        Type::Pointer32(target) => format!("{} *32", inner(target)),
        Type::Array { .. } => {
            // C writes the outer dimension first.
            let (mut dimensions, mut element) = (String::new(), ty);
            let mut left = profile::MAX_TYPE_NESTING;
            while let (Type::Array { count, target, .. }, 1..) = (element, left) {
                dimensions.push_str(&count.map_or_else(|| "[]".to_owned(), |count| format!("[{count}]")));
                element = target;
                left -= 1;
            }
            format!("{}{dimensions}", inner(element))
        }
        Type::BitField { start, end, target } => {
            format!("{}:{} from bit {start}", stored(target.as_deref()), end.saturating_sub(*start))
        }
        Type::Enumeration { name, target, .. } => {
            let name = name.as_ref().map_or_else(|| "enum".to_owned(), |name| format!("enum {name}"));
            match target.as_deref() {
                Some(Type::BitField { start, end, .. }) => {
                    format!("{name}:{} from bit {start}", end.saturating_sub(*start))
                }
                _ => name,
            }
        }
        Type::Function(_) => "function".to_owned(),
        Type::Other { class, .. } => class.clone(),
    }
}

#[cfg(test)]
mod tests;
