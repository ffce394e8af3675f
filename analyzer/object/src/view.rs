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
