"""Six machine instructions that numba has no name for.

The idea: words are short, so what counts is how many bytes one step looks at. Loads of 8 unaligned bytes hash and
compare a word in one or two steps; a vector compare turns 64 bytes into a 64-bit mask of blanks; a prefetch asks for
a hash slot before it is needed. Each is one LLVM instruction, so it works on every processor numba has a code
generator for; the byte order is the little-endian one (`compiler.available` refuses others).

The rule: nothing here checks a bound. The caller proves that the bytes exist: reading past the end of a mapped file
kills the process.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

_instruction: Callable[[Callable[..., Any]], Callable[..., Any]] = intrinsic
"""The function it decorates takes the typing context first; its callers do not."""

_WORD = ir.IntType(64)
_LANES = 64
_VECTOR = ir.VectorType(ir.IntType(8), _LANES)


def _address(context: Any, builder: Any, array_type: Any, array: Any, index: Any) -> Any:
    """The address of array[index], without bounds check or wrap-around."""
    return builder.gep(context.make_array(array_type)(context, builder, array).data, [index])


@_instruction
def load_u64(typing: Any, array: Any, index: Any) -> Any:
    """The 8 bytes at `index` as a little-endian number. Requires: index + 8 <= len(array)."""

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        address = _address(context, builder, signature.args[0], *arguments)
        return builder.load(builder.bitcast(address, _WORD.as_pointer()), align=1)

    return types.uint64(array, types.int64), codegen


@_instruction
def store_u64(typing: Any, array: Any, index: Any, number: Any) -> Any:
    """Writes 8 bytes at `index`, the lowest first. Requires: index + 8 <= len(array)."""

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        address = _address(context, builder, signature.args[0], *arguments[:2])
        builder.store(arguments[2], builder.bitcast(address, _WORD.as_pointer()), align=1)
        return context.get_dummy_value()

    return types.void(array, types.int64, types.uint64), codegen


@_instruction
def blank_mask(typing: Any, array: Any, index: Any) -> Any:
    """Bit i says whether byte index + i is blank as in `bytes.split()`: 9 to 13, or 32.

    Requires: index + 64 <= len(array).
    """

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        def splat(byte: int) -> Any:
            return ir.Constant(_VECTOR, [byte] * _LANES)

        address = _address(context, builder, signature.args[0], *arguments)
        lanes = builder.load(builder.bitcast(address, _VECTOR.as_pointer()), align=1)
        control = builder.icmp_unsigned("<", builder.sub(lanes, splat(9)), splat(5))
        return builder.bitcast(builder.or_(control, builder.icmp_unsigned("==", lanes, splat(32))), _WORD)

    return types.uint64(array, types.int64), codegen


@_instruction
def swap_bytes(typing: Any, number: Any) -> Any:
    """The number with its bytes reversed: turns a little-endian load into one that sorts as the bytes do."""

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.bswap(arguments[0])

    return types.uint64(types.uint64), codegen


@_instruction
def lowest_bit(typing: Any, number: Any) -> Any:
    """The position of the lowest bit that is set. Requires: number != 0."""

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.cttz(arguments[0], cgutils.true_bit)

    return types.int64(types.uint64), codegen


@_instruction
def prefetch(typing: Any, array: Any, index: Any) -> Any:
    """Asks the memory for array[index], soon to be read and written. A wrong index is harmless."""

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        byte_pointer = ir.IntType(8).as_pointer()
        number = ir.IntType(32)
        function = cgutils.get_or_insert_function(
            builder.module,
            ir.FunctionType(ir.VoidType(), [byte_pointer, number, number, number]),
            "llvm.prefetch.p0",
        )
        address = builder.bitcast(_address(context, builder, signature.args[0], *arguments), byte_pointer)
        builder.call(function, [address, number(1), number(3), number(1)])
        return context.get_dummy_value()

    return types.void(array, types.int64), codegen
