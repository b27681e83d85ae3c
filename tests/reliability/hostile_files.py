"""Files that were made to hurt, by the kind of reader that they are made for. Making them takes little time and space; reading them whole would not.

`ATTACKS`: by kind, by name, the bytes of a file. A `CANARY` in one is replaced by the path of a file that it would create.
"""

from __future__ import annotations

import gzip
import io
import pickle
import struct
import zipfile
import zlib

from numpy.lib import format as npy

CANARY = b"/CANARY/" + b"x" * 200
"""Stands for a path of the same length, so that the lengths that pickles state stay right."""

TERABYTE = 10**12
MANY = 1_000_000
HUGE = b"9" * 5000


def calls(module: str, name: str, *arguments: object) -> bytes:
    """A pickle that calls a function with texts and numbers."""
    body = b"".join(pickle.dumps(argument, 2)[2:-1] for argument in arguments)
    return b"\x80\x02c" + module.encode() + b"\n" + name.encode() + b"\n(" + body + b"tR."


def repeating(levels: int = 30, width: int = 10, kind: bytes = b"l") -> bytes:
    """Lists (or tuples) that hold one list ten times, which holds one list ten times, and so on: ten to the power of `levels` items in 700 bytes."""
    return b"\x80\x02K\x01" + b"".join(b"q\x01" + b"0" + b"(" + b"h\x01" * width + kind for _ in range(levels)) + b"."


def array_pickle(shape: bytes, kind: bytes, raw: bytes) -> bytes:
    """The pickle of an array, as NumPy writes it."""
    head = b"\x80\x02cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\nK\x00\x85U\x01btR(K\x01"
    return (
        head
        + shape
        + b"cnumpy\ndtype\n(U"
        + bytes([len(kind)])
        + kind
        + b"K\x00K\x01tR(K\x03U\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89"
        + raw
        + b"tb."
    )


def long(number: int) -> bytes:
    return pickle.dumps(number, 2)[2:-1]


PICKLES: dict[str, bytes] = {
    "os.system": calls("os", "system", f"touch {CANARY.decode()}"),
    "posix.system": calls("posix", "system", f"touch {CANARY.decode()}"),
    "builtins.eval": calls("builtins", "eval", f"open({CANARY.decode()!r}, 'w')"),
    "builtins.exec of Python 2": calls("__builtin__", "exec", f"open({CANARY.decode()!r}, 'w')"),
    "builtins.open": calls("builtins", "open", CANARY.decode(), "w"),
    "builtins.getattr": calls("builtins", "getattr", "x", "__class__"),
    "subprocess.Popen": calls("subprocess", "Popen", f"touch {CANARY.decode()}"),
    "numpy.memmap": calls("numpy", "memmap", CANARY.decode(), "uint8", "w+", 0, 8),
    "numpy.testing.runstring": calls("numpy.testing._private.utils", "runstring", f"open({CANARY.decode()!r}, 'w')", "x"),
    "torch.load": calls("torch", "load", CANARY.decode()),
    "a name by the stack": b"\x80\x04\x8c\x02os\x8c\x06system\x93\x8c\xd5touch " + CANARY[:207] + b"\x85R.",
    "a hundred thousand lists in each other": b"\x80\x04" + b"]" * (MANY // 10) + b"a" * (MANY // 10 - 1) + b".",
    "a hundred thousand tuples in each other": b"\x80\x04)" + b"\x85" * (MANY // 10) + b".",
    "lists that repeat lists": repeating(),
    "tuples that repeat tuples": repeating(kind=b"t"),
    "a list that holds itself": b"\x80\x02]q\x01h\x01a.",
    "repeated lists as the type of an array": b"\x80\x02cnumpy\ndtype\n(" + repeating()[2:-1] + b"tR.",
    "repeated lists as a codec": b"\x80\x02c_codecs\nencode\n(U\x01x" + repeating()[2:-1] + b"tR.",
    "an array of a terabyte": array_pickle(long(TERABYTE) + b"\x85", b"f4", b"U\x04abcd"),
    "a terabyte of items without a size": array_pickle(long(TERABYTE) + b"\x85", b"S0", b"U\x00"),
    "bytes of a terabyte": b"\x80\x04\x8e" + struct.pack("<Q", TERABYTE) + b"x.",
    "a text of a terabyte": b"\x80\x04\x8d" + struct.pack("<Q", TERABYTE) + b"x.",
    "a length instead of bytes": calls("builtins", "bytearray", TERABYTE),
    "a far place in the memo": b"\x80\x02K\x01r\xff\xff\xff\x7fj\xff\xff\xff\x7e.",
    "an integer of 5000 digits": b"I" + HUGE + b"\n.",
    "a text that is an expression": b"S'x' * 9999999999\n.",
    "keys of one hash": b"\x80\x02}(" + b"".join(long(i * (2**61 - 1)) + b"N" for i in range(2, 60_000)) + b"u.",
}


def zipped(parts: dict[str, bytes], method: int = zipfile.ZIP_STORED) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as archive:
        for name, content in parts.items():
            archive.writestr(name, content)
    return file.getvalue()


def claiming(shape: tuple[int, ...], kind: str = "<f4") -> bytes:
    """The header of an array that is not there."""
    file = io.BytesIO()
    npy.write_array_header_2_0(file, {"descr": kind, "fortran_order": False, "shape": shape})
    return file.getvalue()


def bomb(name: str, head: bytes, size: int) -> bytes:
    """A zip archive of some kilobytes with one member that starts with `head` and unpacks to `size` zeros more; true in all that it states."""
    block = bytes(1 << 20)
    machine = zlib.compressobj(9, zlib.DEFLATED, -15)
    packed = machine.compress(head) + machine.flush(zlib.Z_FULL_FLUSH)
    one = machine.compress(block) + machine.flush(zlib.Z_FULL_FLUSH)
    packed += one * (size >> 20) + machine.flush()
    name_, size = name.encode(), len(head) + (size >> 20 << 20)
    common = struct.pack("<HHHHHIII", 20, 0, 8, 0, 33, 0, len(packed), min(size, 0xFFFFFFFE)) + struct.pack("<HH", len(name_), 0)
    local = b"PK\x03\x04" + common + name_ + packed
    central = b"PK\x01\x02" + struct.pack("<H", 20) + common + struct.pack("<HHHII", 0, 0, 0, 0, 0) + name_
    return local + central + b"PK\x05\x06" + struct.pack("<HHHHIIH", 0, 0, 1, 1, len(central), len(local), 0)


def gzip_bomb(line: bytes, size: int, head: bytes = b"") -> bytes:
    """A file of gzip of some kilobytes that unpacks to so many bytes of one line."""
    block = line * ((1 << 22) // len(line))
    return gzip.compress(head) + gzip.compress(block, 9) * (size // len(block))


TORCH: dict[str, bytes] = {
    **{f"{name}, in a zip": zipped({"a/data.pkl": content, "a/version": b"3\n"}) for name, content in PICKLES.items() if "thousand" not in name},
    "a tensor whose storage is no storage": zipped(
        {"a/data.pkl": b"\x80\x02" + calls("torch._utils", "_rebuild_tensor_v2", ("0", 5), 0, (1,), (1,))[2:]}
    ),
    "a data.pkl of a terabyte": bomb("a/data.pkl", b"\x80\x02", 1 << 30),
    "an archive without a value": zipped({"a": b"x"}),
    "text": b"I am a checkpoint\n",
}
NUMPY: dict[str, bytes] = {
    "a claimed terabyte": claiming((TERABYTE, 2)) + bytes(64),
    "a claimed size beyond 64 bits": claiming((2**62, 2**62)) + bytes(64),
    "pickled objects": claiming((1,), "|O") + PICKLES["os.system"],
    "a header that is code": b"\x93NUMPY\x01\x00v\x00" + b"__import__('os').system('x')".ljust(117) + b"\n",
    "a header that nests": b"\x93NUMPY\x02\x00" + struct.pack("<I", 9000) + b"(" * 8999 + b"\n",
    "a header of four gigabytes": b"\x93NUMPY\x02\x00\xff\xff\xff\xff{",
    "records": claiming((1,), "<f4")[:8]
    + b"\x76\x00"
    + b"{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (1,), }".ljust(117)
    + b"\n"
    + bytes(4),
    "text": b"I am an array\n",
    "nothing": b"",
}
NPZ: dict[str, bytes] = {
    **{f"{name}, in a zip": zipped({"a.npy": content}) for name, content in NUMPY.items()},
    "kilobytes that unpack to a gigabyte": bomb("a.npy", claiming((1 << 28, 1)), 1 << 30),
    "no array": zipped({}),
    "ten thousand arrays": zipped({f"{i}.npy": b"" for i in range(10_000)}),
    "a path for a name": zipped({"../../a.npy": b"x"}),
}
YAML: dict[str, bytes] = {
    "anchors that repeat anchors": b"a0: &a0 [x]\n"
    + b"".join(b"a%d: &a%d [%s]\n" % (i, i, b",".join([b"*a%d" % (i - 1)] * 10)) for i in range(1, 30)),
    "an object of Python": b"a: !!python/object/apply:os.system ['touch " + CANARY + b"']\n",
    "a module of Python": b"a: !!python/module:antigravity\n",
    "a name of Python": b"!!python/name:os.system x\n",
    "a tag of its own": b"a: !x 1\n",
    "a merge key": b"b: &b {c: 1}\na: {<<: *b}\n",
    "a million lists in each other": b"[" * MANY,
    "a million lists and an anchor": b"x: &" + b"[" * MANY,
    "a million lists, then an anchor": b"[" * MANY + b"&a ",
    "a million mappings in each other": b"{a: " * MANY,
    "a thousand nested by dashes": b"- " * 2000 + b"x",
    "two hundred nested by dashes": b"- " * 200 + b"x",
    "an integer of 5000 digits": b"seeds: [0x" + b"f" * 5000 + b"]\n",
    "infinity": b"training: {optimizer: {lr: 1e999}}\n",
    "not a number": b"training: {optimizer: {lr: .nan}}\n",
    "a list": b"- a\n- b\n",
    "a number": b"1\n",
    "nothing": b"",
    "bytes that are no text": b"\xff\xfe\x00",
    "NUL": b"a: \x00\n",
    "an endless key": b"? " + b"k" * 100_000 + b"\n: 1\n? " + b"k" * 100_000 + b"\n: 2\n",
    "a key with escapes": b'"\\e]52;c;cm0=\\a": 1\n',
}
JSON: dict[str, bytes] = {
    "a million lists in each other": b"[" * MANY,
    "a million objects in each other": b'{"a":' * MANY,
    "five hundred lists in each other": b"[" * 500 + b"]" * 500,
    "an integer of 5000 digits": b'{"epoch": ' + HUGE + b', "train": {"task": ' + HUGE + b'}, "schema_version": ' + HUGE + b"}",
    "infinity": b'{"epoch": 1e999, "schema_version": Infinity}',
    "a list": b"[]",
    "a number": b"7",
    "nothing": b"",
    "bytes that are no text": b"\xff\xfe",
}
HEAD = b"split,id,target,prediction\n"
PREDICTIONS: dict[str, bytes] = {
    "kilobytes that unpack to a gigabyte": gzip_bomb(b"test,a/1,1.0,0.5\n", 1 << 30, HEAD),
    "one line of a gigabyte": gzip_bomb(b"x" * 64, 1 << 30, HEAD),
    "not packed": HEAD + b"test,a/1,1,1\n",
    "text for numbers": gzip.compress(HEAD + b"test,a/1,=1+1,@SUM(A1)\n"),
    "an infinite target": gzip.compress(HEAD + b"test,a/1,1e999,1\n"),
    "an unfinished quote": gzip.compress(HEAD + b'test,"a/1,1,1\n' + b"x" * 200_000),
    "NUL": gzip.compress(HEAD + b"test,a/\0,1\n"),
    "cut short": gzip.compress(HEAD * 1000)[:-20],
    "nothing": b"",
}
LABELS: dict[str, bytes] = {
    "an unfinished quote": b'video_id,clip_id,text,mode,label\na,1,"x\n' + b"x" * 200_000,
    "a path for a video": b"video_id,clip_id,text,mode,label\n../../etc,1,x,train,1\n",
    "an absolute path for a clip": b"video_id,clip_id,text,mode,label\na,/etc/passwd,x,train,1\n",
    "a path of Windows": b"video_id,clip_id,text,mode,label\nC:\\x,1,x,train,1\n",
    "an endless name": b"video_id,clip_id,text,mode,label\n" + b"a" * 5000 + b",1,x,train,1\n",
    "an escape in a name": b"video_id,clip_id,text,mode,label\n\x1b]52;c;cm0=\x07,1,x,train,1\n",
    "a newline in a name": b'video_id,clip_id,text,mode,label\n"a\nb",1,x,train,1\n',
    "a formula for a label": b"video_id,clip_id,text,mode,label\na,1,x,train,=1+1\n",
    "infinity for a label": b"video_id,clip_id,text,mode,label\na,1,x,train,1e999\n",
    "NUL": b"video_id,clip_id,text,mode,label\na,1,\0,train\n",
    "a million columns": b"," * MANY + b"\n",
    "nothing": b"",
}
ATTACKS: dict[str, dict[str, bytes]] = {
    "pickle": PICKLES, "torch": TORCH, "npy": NUMPY, "npz": NPZ, "yaml": YAML, "json": JSON, "predictions": PREDICTIONS, "labels": LABELS,
}  # fmt: skip


def with_canary(content: bytes, canary: str) -> bytes:
    """The same file, set on a path; its length stays, so that what it states stays right."""
    return content.replace(CANARY, ("/" * (len(CANARY) - len(canary)) + canary).encode())
