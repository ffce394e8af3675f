//! Rows: what a plugin emits and a renderer shows. Columns are declared before the run; a cell is a value or a reason.

use object::{Absent, Missing, Read};

/// What a column holds. The same column name has the same kind in every plugin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A truth value.
    Bool,
    /// An integer.
    Int,
    /// A length in bytes.
    Size,
    /// An address; JSON shows it as a `"0x..."` string.
    Addr,
    /// A point in time, UTC.
    Time,
    /// Text.
    Text,
    /// Raw bytes.
    Bytes,
    /// A kernel object: type, address and what identifies it.
    Object,
    /// Several values.
    List,
    /// Differs from row to row (`dt`).
    Any,
}

impl Kind {
    /// The name used in machine formats.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Bool => "bool",
            Self::Int => "int",
            Self::Size => "size",
            Self::Addr => "address",
            Self::Time => "time",
            Self::Text => "text",
            Self::Bytes => "bytes",
            Self::Object => "object",
            Self::List => "list",
            Self::Any => "any",
        }
    }
}

/// One column of a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Column {
    /// Name, as in Rekall where Rekall has the column.
    pub name: &'static str,
    /// What it holds.
    pub kind: Kind,
    /// One sentence of help.
    pub doc: &'static str,
}

/// A point in time: nanoseconds since 1970-01-01 UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Time(pub i128);

/// A kernel object in a cell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjRef {
    /// Kernel name of its type, e.g. `task_struct`.
    pub type_name: &'static str,
    /// Virtual address.
    pub addr: u64,
    /// What identifies it to people, in order: `("pid", 1)`, `("name", "init")`.
    pub tags: Vec<(&'static str, Value)>,
}

/// An address, as opposed to a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Address(pub u64);

/// A length in bytes, as opposed to a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ByteSize(pub u64);

/// The content of a cell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// No value, and why.
    Absent(Absent),
    /// A truth value.
    Bool(bool),
    /// An unsigned integer.
    Uint(u64),
    /// A signed integer.
    Int(i64),
    /// A length in bytes.
    Size(u64),
    /// An address.
    Addr(u64),
    /// A point in time.
    Time(Time),
    /// Text as decoded from the image; renderers neutralise control characters.
    Text(String),
    /// Raw bytes.
    Bytes(Vec<u8>),
    /// A kernel object.
    Object(Box<ObjRef>),
    /// Several values.
    List(Vec<Value>),
}

/// A type that can stand in a column.
pub trait Cell {
    /// Kind of the column.
    const KIND: Kind;

    /// The value to show.
    fn into_value(self) -> Value;
}

macro_rules! cells {
    ($($ty:ty => $kind:ident, |$value:ident| $expr:expr;)*) => {$(
        impl Cell for $ty {
            const KIND: Kind = Kind::$kind;
            fn into_value(self) -> Value {
                let $value = self;
                $expr
            }
        }
    )*};
}

cells! {
    bool => Bool, |v| Value::Bool(v);
    u8 => Int, |v| Value::Uint(v.into());
    u16 => Int, |v| Value::Uint(v.into());
    u32 => Int, |v| Value::Uint(v.into());
    u64 => Int, |v| Value::Uint(v);
    i32 => Int, |v| Value::Int(v.into());
    i64 => Int, |v| Value::Int(v);
    Address => Addr, |v| Value::Addr(v.0);
    ByteSize => Size, |v| Value::Size(v.0);
    Time => Time, |v| Value::Time(v);
    String => Text, |v| Value::Text(v);
    &str => Text, |v| Value::Text(v.to_owned());
    Vec<u8> => Bytes, |v| Value::Bytes(v);
    ObjRef => Object, |v| Value::Object(Box::new(v));
    Value => Any, |v| v;
}

impl<T: Cell> Cell for Read<T> {
    const KIND: Kind = T::KIND;

    fn into_value(self) -> Value {
        match self {
            Ok(value) => value.into_value(),
            Err(absent) => Value::Absent(absent),
        }
    }
}

impl<T: Cell> Cell for Result<T, Missing> {
    const KIND: Kind = T::KIND;

    fn into_value(self) -> Value {
        self.map_err(Absent::from).into_value()
    }
}

impl<T: Cell> Cell for Option<T> {
    const KIND: Kind = T::KIND;

    fn into_value(self) -> Value {
        self.map_or(Value::Absent(Absent::NotApplicable("does not apply to this row")), Cell::into_value)
    }
}

/// A list cell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListOf<T>(pub Vec<T>);

impl<T: Cell> Cell for ListOf<T> {
    const KIND: Kind = Kind::List;

    fn into_value(self) -> Value {
        Value::List(self.0.into_iter().map(Cell::into_value).collect())
    }
}

/// A row type; implemented by [`row!`](crate::row).
pub trait Row {
    /// Its columns, in order.
    const COLUMNS: &'static [Column];

    /// The cells, in order of the columns.
    fn into_values(self) -> Vec<Value>;
}

/// Text of image bytes: UTF-8, with `\xNN` for what is none.
#[must_use]
pub fn text_of(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        out.push_str(chunk.valid());
        for byte in chunk.invalid() {
            out.push_str(&format!("\\x{byte:02x}"));
        }
    }
    out
}

/// Declares a row: one documented field per column. `field as "Name": Type` gives the column another name.
///
/// ```
/// use analyzer::table::{ObjRef, Row as _};
/// use object::Read;
///
/// analyzer::row! {
///     pub struct Row {
///         /// The process.
///         task as "proc": ObjRef,
///         /// Process id of the parent.
///         ppid: Read<i32>,
///     }
/// }
/// assert_eq!(Row::COLUMNS.iter().map(|column| column.name).collect::<Vec<_>>(), ["proc", "ppid"]);
/// assert_eq!(Row::COLUMNS.iter().map(|column| column.doc).collect::<Vec<_>>(), ["The process.", "Process id of the parent."]);
/// ```
#[macro_export]
macro_rules! row {
    ($(#[$meta:meta])* $vis:vis struct $row:ident { $( #[doc = $doc:literal] $field:ident $(as $name:literal)? : $ty:ty ),* $(,)? }) => {
        $(#[$meta])*
        #[doc = "One row of the table."]
        $vis struct $row { $( #[doc = $doc] $vis $field: $ty, )* }

        impl $crate::table::Row for $row {
            const COLUMNS: &'static [$crate::table::Column] = &[ $( $crate::table::Column {
                name: $crate::row!(@name $field $($name)?),
                kind: <$ty as $crate::table::Cell>::KIND,
                doc: $doc.trim_ascii(),
            } ),* ];

            fn into_values(self) -> Vec<$crate::table::Value> {
                vec![ $( $crate::table::Cell::into_value(self.$field) ),* ]
            }
        }
    };
    (@name $field:ident) => { stringify!($field) };
    (@name $field:ident $name:literal) => { $name };
}
