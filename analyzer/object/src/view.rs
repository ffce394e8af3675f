//! [`layout!`]: typed views of kernel structs.

use crate::types::Types;

/// A set of resolved fields; implemented by [`layout!`].
#[doc(hidden)]
pub trait Layout: Send + Sync + 'static {
    /// Looks every field up in the profile.
    fn resolve(types: &Types) -> Self;
}

/// Declares a view of a kernel struct: a `Copy` handle (target, address) with one reading method per field.
///
/// ```ignore
/// layout! {
///     /// `task_struct`: a thread (include/linux/sched.h).
///     pub struct Task / TaskLayout = "task_struct" {
///         /// Thread id.
///         pid: i32 = "pid",
///         /// Boot-based start time in nanoseconds; renamed by Linux commit cf25e24db61c (v5.5).
///         start_boottime: u64 = "start_boottime | real_start_time",
///     }
/// }
/// let task = Task::at(&target, address);
/// let pid: Read<i32> = task.pid();
/// ```
///
/// Offsets are resolved once per profile. A field the profile lacks, or one of another size than the Rust type, reads
/// as [`Absent::NoProfile`](crate::Absent); so presence decides and no version is ever tested. The path is dotted,
/// goes through embedded structs, and may list alternatives with `|`.
#[macro_export]
macro_rules! layout {
    ($(
        $(#[$meta:meta])*
        $vis:vis struct $view:ident / $layout:ident = $name:literal {
            $( $(#[$field_meta:meta])* $field:ident : $ty:ty = $path:literal ),* $(,)?
        }
    )*) => {$(
        #[doc(hidden)]
        $vis struct $layout { $( $field: $crate::Field<$ty>, )* }

        impl $crate::Layout for $layout {
            fn resolve(types: &$crate::Types) -> Self {
                Self { $( $field: $crate::Field::resolve(types, $name, $path), )* }
            }
        }

        $(#[$meta])*
        #[derive(Clone, Copy)]
        $vis struct $view<'t> {
            target: &'t $crate::Target,
            layout: &'t $layout,
            addr: u64,
        }

        #[allow(dead_code, reason = "offset() serves only views that container_of needs")]
        impl<'t> $view<'t> {
            /// Kernel name of the struct.
            $vis const STRUCT: &'static str = $name;

            /// The struct at `addr` of the target's address space; nothing is read yet.
            #[must_use]
            $vis fn at(target: &'t $crate::Target, addr: u64) -> Self {
                Self { target, layout: target.types().layout(), addr }
            }

            /// Address of the struct.
            #[must_use]
            $vis fn addr(&self) -> u64 {
                self.addr
            }

            /// The target the struct lives in.
            #[must_use]
            $vis fn target(&self) -> &'t $crate::Target {
                self.target
            }

            $(
                $(#[$field_meta])*
                $vis fn $field(&self) -> $crate::Read<$ty> {
                    self.layout.$field.read(self.target.space(), self.addr)
                }
            )*
        }
    )*};
}

#[cfg(test)]
mod tests {
    use crate::testkit;
    use crate::{Absent, Addr, FieldOverlay, Missing, Ptr, Read, StructOverlay, Text, Uint};

    const STRUCTS: &str = r#"{
        "thing": [64, {
            "count": [0, ["unsigned int"]],
            "low": [4, ["BitField", {"start_bit": 4, "end_bit": 8, "target": "unsigned int"}]],
            "next": [8, ["Pointer", {"target": "thing"}]],
            "name": [16, ["Array", {"count": 8, "target": "char"}]],
            "u1": [32, ["__unnamed_1"]],
            "inner": [48, ["pair"]]
        }],
        "__unnamed_1": [16, {"u1": [8, ["__unnamed_2"]]}],
        "__unnamed_2": [8, {"deep": [4, ["int"]]}],
        "pair": [16, {"a": [0, ["long"]], "b": [8, ["long"]]}]
    }"#;
    const OVERLAY: crate::Overlay =
        &[StructOverlay { name: "thing", fields: &[("second", FieldOverlay::Alias(&["gone", "inner.b"]))] }];

    layout! {
        /// A struct of the tests.
        struct Thing / ThingLayout = "thing" {
            count: u32 = "count",
            wrong: u64 = "count",
            low: u8 = "low",
            next: Ptr = "next",
            name: Text = "name",
            deep: i32 = "deep",
            second: u64 = "second",
            renamed: u64 = "b | inner.a",
            inner: Addr = "inner",
            any: Uint = "count",
            gone: u32 = "gone",
        }
    }

    #[test]
    fn fields_are_read_by_path_overlay_and_alternative() {
        let words = [
            (0x1000, 0x0000_00a5_ffff_fffe),
            (0x1008, 0x2000),
            (0x1010, u64::from_le_bytes(*b"init\0xyz")),
            (0x1028, 0xffff_fffb_0000_0000),
            (0x1030, 11),
            (0x1038, 22),
        ];
        let target = testkit::target(testkit::types(STRUCTS, "{}", OVERLAY), &words);
        let thing = Thing::at(&target, 0x1000);
        assert_eq!(thing.count(), Ok(0xffff_fffe));
        assert_eq!(thing.low(), Ok(0xa));
        assert_eq!(thing.next(), Ok(Ptr(0x2000)));
        assert_eq!(thing.name(), Ok(Text(b"init".to_vec())));
        assert_eq!(thing.deep(), Ok(-5));
        assert_eq!(thing.second(), Ok(22));
        assert_eq!(thing.renamed(), Ok(11));
        assert_eq!(thing.inner(), Ok(Addr(0x1030)));
        assert_eq!(thing.any(), Ok(Uint(0xffff_fffe)));
    }

    #[test]
    fn a_field_the_profile_lacks_or_sizes_otherwise_says_so() {
        let target = testkit::target(testkit::types(STRUCTS, "{}", OVERLAY), &[(0x1000, 0)]);
        let thing = Thing::at(&target, 0x1000);
        let missing: Read<u32> =
            Err(Absent::NoProfile(Missing::Field { structure: "thing".into(), field: "gone".into() }));
        assert_eq!(thing.gone(), missing);
        assert!(matches!(thing.wrong(), Err(Absent::NoProfile(Missing::Size { expected: 8, found: 4, .. }))));
    }

    #[test]
    fn unreadable_memory_is_a_reason_not_a_zero() {
        let target = testkit::target(testkit::types(STRUCTS, "{}", OVERLAY), &[(0x1000, 0)]);
        assert!(matches!(Thing::at(&target, 0x5000).count(), Err(Absent::Unreadable { addr: 0x5000, .. })));
    }

    #[test]
    fn overlay_entries_that_match_nothing_are_reported() {
        const ODD: crate::Overlay = &[
            StructOverlay { name: "absent", fields: &[] },
            StructOverlay { name: "thing", fields: &[("x", FieldOverlay::Alias(&["y", "z"]))] },
        ];
        let notes = testkit::types(STRUCTS, "{}", ODD).overlay_notes();
        assert_eq!(
            notes.iter().map(|n| (n.structure, n.field)).collect::<Vec<_>>(),
            [("absent", None), ("thing", Some("x"))]
        );
    }
}
