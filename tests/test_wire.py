import pickle

import cloudpickle
import numpy as np
import pytest
from hypothesis import given, strategies as st

from lambdamr import IntegrityError
from lambdamr.wire import decode, encode, frame_size

sizes = st.one_of(st.integers(0, 200), st.sampled_from([4095, 4096, 65_535, 65_537, 1 << 20]))
plain = st.recursive(
    st.one_of(
        st.none(), st.booleans(), st.integers(), st.text(), st.binary(), st.floats(allow_nan=False)
    ),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


def joined(frame):
    return b"".join(frame)


@given(value=plain)
def test_plain_values_come_back(value):
    assert decode(joined(encode(value))) == value


@given(lengths=st.lists(sizes, max_size=5), fill=st.integers(0, 255))
def test_buffers_of_any_size_come_back(lengths, fill):
    value = [np.full(length, fill, np.uint8) for length in lengths]
    frame = encode(value)
    assert frame_size(frame) == len(joined(frame))
    back = decode(joined(frame))
    assert [array.tobytes() for array in back] == [array.tobytes() for array in value]


@pytest.mark.parametrize("shape", [(), (0,), (3, 4), (2, 0, 5), (2, 3, 4)])
@pytest.mark.parametrize("dtype", ["f8", ">i4", "S3", "M8[s]", "?", "c16"])
def test_arrays_keep_shape_type_and_order(shape, dtype):
    for order in "CF":
        array = np.zeros(shape, dtype, order)
        back = decode(joined(encode({"array": array})))["array"]
        assert (back.shape, back.dtype, back.tobytes()) == (shape, array.dtype, array.tobytes())
        assert back.flags.c_contiguous == array.flags.c_contiguous


@given(lengths=st.lists(st.integers(1, 300), min_size=1, max_size=4))
def test_buffers_are_aligned_in_the_frame(lengths):
    value = [np.ones(length) for length in lengths]
    memory = np.zeros(frame_size(encode(value)) + 64, np.uint8)
    start = -memory.ctypes.data % 64
    frame = memory[start : start + frame_size(encode(value))]
    frame[:] = np.frombuffer(joined(encode(value)), np.uint8)
    for array in decode(memoryview(frame)):
        assert array.ctypes.data % 64 == 0


def test_a_large_buffer_is_not_copied_on_the_way_out():
    array = np.ones(1 << 20)
    assert any(np.shares_memory(array, np.frombuffer(part, np.uint8)) for part in encode(array))


def test_an_array_shares_the_memory_of_a_writable_frame():
    frame = bytearray(joined(encode(np.ones(1000))))
    assert np.shares_memory(decode(frame), np.frombuffer(frame, np.uint8))


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_a_reducer_may_write_into_what_it_gets(kind):
    value = decode(kind(joined(encode(np.ones(1000)))))
    value += 1
    assert value.sum() == 2000


def test_what_pickle_cannot_do_another_pickler_may():
    offset = 3
    assert decode(joined(encode(lambda x: x + offset, cloudpickle)))(4) == 7


FRAMES = {
    "plain": joined(encode({"a": [1, 2.5, "text"]})),
    "one buffer": joined(encode(np.arange(5))),
    "buffers": joined(encode([np.arange(3), b"x" * 10, np.zeros(0), np.arange(20)])),
}


@pytest.mark.parametrize("name", FRAMES)
def test_a_frame_that_ends_early_is_an_integrity_error(name):
    frame = FRAMES[name]
    for end in range(len(frame)):
        with pytest.raises(IntegrityError, match="torn"):
            decode(frame[:end])


@pytest.mark.parametrize("name", FRAMES)
def test_a_frame_that_goes_on_is_an_integrity_error(name):
    for more in (1, 7, 64, 1000):
        with pytest.raises(IntegrityError, match="torn or foreign"):
            decode(FRAMES[name] + bytes(more))


@given(foreign=st.binary(max_size=200))
def test_foreign_bytes_are_an_integrity_error(foreign):
    with pytest.raises(IntegrityError):
        decode(foreign)


def test_a_pickle_without_a_frame_is_not_loaded():
    with pytest.raises(IntegrityError, match="make them the same"):
        decode(pickle.dumps("no frame of ours, however long it may be"))
