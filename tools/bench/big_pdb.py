#!/usr/bin/env python3
"""Makes a large PDB: so many structs, unions and enums, with pointers, arrays and bit-fields between them.

    tools/bench/big_pdb.py OUT.pdb [--structs 20000]

Needs `clang` and `lld-link`. The same number of structs gives the same types, whatever the machine; 20,000 make a file of
22 MB, about twice that of the largest Windows kernel.
"""
import argparse
import subprocess
import tempfile
from pathlib import Path

UNIT = 2000  # structs of one source file: clang needs memory by the file


def record(n, total):
    """C text of one enum, union and struct, which refer to those of the same unit before them."""
    back = n - 1 if n % UNIT else n
    values = ", ".join(f"ENUM_{n}_V{v} = {v * 3 - 1}" for v in range(4))
    members = [f"struct _BIG_{back} *Link{m};" for m in range(4)]
    members += [f"unsigned long Field{m}_{n};" for m in range(6)]
    members += [f"unsigned int Flag{m} : {m + 1};" for m in range(5)]
    members += [
        f"unsigned char Name[{n % 60 + 4}];",
        f"unsigned long long Table[{n % 5 + 1}][4];",
        f"union _VARIANT_{n} Variant;",
        f"enum _KIND_{n} Kind;",
        "struct { void *Flink; void *Blink; } Entry;",
        f"int (*Callback)(struct _BIG_{n} *, unsigned long, void *);",
        "wchar_t Text[12];",
    ]
    return (
        f"enum _KIND_{n} {{ {values} }};\n"
        f"union _VARIANT_{n} {{ void *Pointer; unsigned long long Quad; struct {{ unsigned Low; unsigned High; }} Half; }};\n"
        f"struct _BIG_{n} {{ {' '.join(members)} }};\n"
        f"struct _BIG_{n} Global{n};\n"
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--structs", type=int, default=20000)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        objects = []
        for start in range(0, args.structs, UNIT):
            source = Path(scratch) / f"unit{start}.c"
            text = "typedef unsigned short wchar_t;\n" if start else "typedef unsigned short wchar_t;\nint _fltused = 1;\n"
            text += "".join(record(n, args.structs) for n in range(start, min(start + UNIT, args.structs)))
            if start == 0:
                text += "int entry(void) { return 0; }\n"
            source.write_text(text)
            objects.append(source.with_suffix(".obj"))
            subprocess.run(
                ["clang", "--target=x86_64-pc-windows-msvc", "-g", "-gcodeview", "-c", source, "-o", objects[-1]],
                check=True,
            )
        subprocess.run(
            ["lld-link", "/debug", "/nodefaultlib", "/entry:entry", "/subsystem:native", f"/pdb:{args.out}",
             f"/out:{Path(scratch) / 'big.exe'}", *objects],
            check=True,
        )
    print(f"{args.out}: {args.out.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
