//! Parameters of modules and of the kernel (include/linux/moduleparam.h, kernel/params.c).
//!
//! A `kernel_param` names a function that prints the value; the functions of kernel/params.c are known here by their
//! symbols, so values are printed as `/sys/module/NAME/parameters` does.

use object::{Absent, Ptr, Read, Target, layout, little_endian};

use super::module::Module;
use crate::table::text_of;

/// Most parameters of one module, and of the kernel, that are listed.
const MAX_PARAMETERS: u32 = 1 << 12;
/// Most elements of an array, and longest text, that are read.
const MAX_ELEMENTS: u32 = 1 << 10;
const MAX_TEXT: usize = 4096;

layout! {
    struct Owner / OwnerLayout = "module" {
        parameters: Ptr = "kp",
        count: u32 = "num_kp",
    }

    /// `kernel_param`.
    pub struct Parameter / ParameterLayout = "kernel_param" {
        /// Name: a string.
        name: Ptr = "name",
        /// Permissions of its file in `/sys/module/NAME/parameters`; 0 for none.
        mode: u16 = "perm",
        /// `kernel_param_ops`: functions that set and print it, from v2.6.36.
        operations: Ptr = "ops",
        /// The printing function itself, up to v2.6.35.
        getter: Ptr = "get",
        /// What the functions are given: where the value is, or more about it.
        argument: Ptr = "arg",
    }

    struct Operations / OperationsLayout = "kernel_param_ops" {
        get: Ptr = "get",
    }

    struct Text / TextLayout = "kparam_string" {
        string: Ptr = "string",
        max: u32 = "maxlen",
    }

    struct Array / ArrayLayout = "kparam_array" {
        max: u32 = "max",
        size: u32 = "elemsize",
        count: Ptr = "num",
        operations: Ptr = "ops",
        getter: Ptr = "get",
        first: Ptr = "elem",
    }
}

/// The parameters of a module.
pub fn parameters<'t>(module: &Module<'t>) -> Read<Vec<Parameter<'t>>> {
    let owner = Owner::at(module.target(), module.addr());
    let (Ptr(first), count) = (owner.parameters()?, owner.count()?);
    table(module.target(), first, count)
}

/// The parameters of the kernel and its built-in parts; names begin with the part and a dot.
pub fn built_in(target: &Target) -> Read<Vec<Parameter<'_>>> {
    let (start, end) = (target.symbol("__start___param")?, target.symbol("__stop___param")?);
    let bytes =
        end.checked_sub(start).ok_or(Absent::Malformed("table of parameters ends before it begins"))?;
    let count = bytes / target.types().struct_size(Parameter::STRUCT)?;
    table(target, start, u32::try_from(count).unwrap_or(u32::MAX))
}

fn table(target: &Target, first: u64, count: u32) -> Read<Vec<Parameter<'_>>> {
    let stride = target.types().struct_size(Parameter::STRUCT)?;
    let place = |index: u32| first.wrapping_add(stride.wrapping_mul(index.into()));
    match count <= MAX_PARAMETERS {
        true => Ok((0..count).map(|index| Parameter::at(target, place(index))).collect()),
        false => Err(Absent::Malformed("more parameters than any module has")),
    }
}

impl Parameter<'_> {
    /// Its name.
    pub fn label(&self) -> Read<String> {
        Ok(text_of(&self.target().read_cstr(self.name()?.0, MAX_TEXT)?))
    }

    /// Address of the function that prints it; null where it can only be set.
    pub fn printer(&self) -> Read<u64> {
        printer(self.target(), self.operations(), self.getter())
    }

    /// The value as the kernel prints it. Values that a function of the module's own prints are not known.
    pub fn value(&self) -> Read<String> {
        let (printer, Ptr(argument)) = (self.printer()?, self.argument()?);
        let edge = |name| self.target().symbol(name);
        if let (Ok(start), Ok(end)) = (edge("__init_begin"), edge("__init_end"))
            && (start..end).contains(&argument)
        {
            return Err(Absent::NotApplicable("its memory was given back after start-up"));
        }
        value(self.target(), printer, argument)
    }
}

fn printer(target: &Target, operations: Read<Ptr>, getter: Read<Ptr>) -> Read<u64> {
    match operations {
        Err(Absent::NoProfile(_)) => getter.map(|Ptr(get)| get),
        operations => {
            let operations = operations?.non_null("no operations")?;
            Ok(Operations::at(target, operations).get()?.0)
        }
    }
}

/// The value at `argument`, printed as the function at `printer` would.
fn value(target: &Target, printer: u64, argument: u64) -> Read<String> {
    if printer == 0 {
        return Err(Absent::NotApplicable("can only be set"));
    }
    if target.symbol("param_array_get").is_ok_and(|array| array == printer) {
        return array(target, argument);
    }
    scalar(target, printer, argument)
}

/// How numbers are printed.
const NUMBERS: [(&str, u64, bool); 8] = [
    ("param_get_byte", 1, false),
    ("param_get_short", 2, true),
    ("param_get_ushort", 2, false),
    ("param_get_int", 4, true),
    ("param_get_uint", 4, false),
    ("param_get_long", 0, true),
    ("param_get_ulong", 0, false),
    ("param_get_ullong", 8, false),
];

fn scalar(target: &Target, printer: u64, argument: u64) -> Read<String> {
    let is = |name: &str| target.symbol(name).is_ok_and(|symbol| symbol == printer);
    let number = |width: u64| -> Read<u64> {
        let bytes = target.read_bytes(argument, width, 8)?;
        Ok(little_endian(&bytes))
    };
    let long = u64::from(target.types().model().pointer_size());
    if let Some((_, width, signed)) = NUMBERS.iter().find(|(name, ..)| is(name)) {
        let width = if *width == 0 { long } else { *width };
        let value = number(width)?;
        let unused = 64u64.saturating_sub(width.saturating_mul(8));
        return Ok(match signed {
            true => {
                (value << unused).cast_signed().wrapping_shr(u32::try_from(unused).unwrap_or(0)).to_string()
            }
            false => value.to_string(),
        });
    }
    if is("param_get_hexint") {
        return Ok(format!("{:#08x}", number(4)?));
    }
    if is("param_get_bool") || is("param_get_invbool") {
        let set = number(1)? != 0;
        return Ok(if set == is("param_get_bool") { "Y" } else { "N" }.to_owned());
    }
    if is("param_get_charp") {
        return match target.read_ptr(argument)? {
            0 => Ok("(null)".to_owned()),
            text => Ok(text_of(&target.read_cstr(text, MAX_TEXT)?)),
        };
    }
    if is("param_get_string") {
        let text = Text::at(target, argument);
        let max = usize::try_from(text.max()?).unwrap_or(MAX_TEXT).min(MAX_TEXT);
        return Ok(text_of(&target.read_cstr(text.string()?.0, max)?));
    }
    Err(Absent::NotApplicable("printed by a function of its own"))
}

/// Elements joined by commas.
fn array(target: &Target, addr: u64) -> Read<String> {
    let array = Array::at(target, addr);
    let printer = printer(target, array.operations(), array.getter())?;
    // Without a counter all elements are shown.
    let count = match array.count()? {
        Ptr(0) => array.max()?,
        Ptr(count) => target.read_u32(count)?.min(array.max()?),
    };
    if count > MAX_ELEMENTS {
        return Err(Absent::Malformed("array longer than any parameter"));
    }
    let (Ptr(first), size) = (array.first()?, u64::from(array.size()?));
    let element = |index: u32| scalar(target, printer, first.wrapping_add(size.wrapping_mul(index.into())));
    Ok((0..count).map(element).collect::<Read<Vec<String>>>()?.join(","))
}

#[cfg(test)]
mod tests {
    use super::super::testkit::Memory;
    use super::*;

    const STRUCTS: &str = r#"{"kernel_param": [40, {"name": [0, ["Pointer"]], "ops": [16, ["Pointer"]],
        "perm": [24, ["unsigned short"]], "arg": [32, ["Pointer"]]}],
        "kernel_param_ops": [32, {"get": [16, ["Pointer"]]}],
        "kparam_array": [32, {"max": [0, ["unsigned int"]], "elemsize": [4, ["unsigned int"]], "num": [8, ["Pointer"]],
            "ops": [16, ["Pointer"]], "elem": [24, ["Pointer"]]}],
        "kparam_string": [16, {"maxlen": [0, ["unsigned int"]], "string": [8, ["Pointer"]]}]}"#;
    const SYMBOLS: [(&str, u64); 6] = [
        ("param_get_int", 0x10),
        ("param_get_byte", 0x11),
        ("param_get_hexint", 0x12),
        ("param_get_bool", 0x13),
        ("param_get_charp", 0x14),
        ("param_array_get", 0x15),
    ];

    /// The value at 0x3000, printed by the function at `printer`.
    fn shown(memory: &mut Memory, printer: u64) -> Read<String> {
        memory.words(0x1000, &[0, 0, 0x2000, 0, 0x3000]).word(0x2010, printer);
        Parameter::at(&memory.target(STRUCTS, &SYMBOLS), 0x1000).value()
    }

    /// Formats by kernel/params.c.
    #[test]
    fn values_are_printed_as_the_kernel_does() {
        let text = |printer, value: u64| shown(Memory::default().word(0x3000, value), printer);
        assert_eq!(text(0x10, 0xffff_fffe), Ok("-2".to_owned()));
        assert_eq!(text(0x11, 0x1ff), Ok("255".to_owned()));
        assert_eq!(text(0x12, 0x1f), Ok("0x00001f".to_owned()));
        assert_eq!(text(0x13, 1), Ok("Y".to_owned()));
        assert_eq!(text(0x14, 0), Ok("(null)".to_owned()));
        assert!(matches!(text(0x99, 0), Err(Absent::NotApplicable(_))));
        assert!(matches!(text(0, 0), Err(Absent::NotApplicable(_))));
    }

    #[test]
    fn an_array_has_as_many_elements_as_were_set_and_fit() {
        let mut memory = Memory::default();
        memory.words(0x3000, &[4 << 32 | 3, 0x4000, 0x5000, 0x6000]).word(0x5010, 0x10);
        memory.word(0x4000, 2).words(0x6000, &[2 << 32 | 1, 3]);
        assert_eq!(shown(&mut memory, 0x15), Ok("1,2".to_owned()));
        memory.word(0x4000, 0xffff_ffff);
        assert_eq!(shown(&mut memory, 0x15), Ok("1,2,3".to_owned()));
        memory.word(0x3000, 4 << 32 | 0xffff_ffff);
        assert!(matches!(shown(&mut memory, 0x15), Err(Absent::Malformed(_))));
    }

    #[test]
    fn an_array_of_arrays_is_not_followed() {
        let mut memory = Memory::default();
        memory.words(0x3000, &[8 << 32 | 3, 0, 0x2000, 0x3000]);
        assert!(matches!(shown(&mut memory, 0x15), Err(Absent::NotApplicable(_))));
    }
}
