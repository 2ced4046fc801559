"""Arrays come back from their file as they were."""

import numpy as np
from safetensors.numpy import load_file

from immref_trainers import arrays


def test_a_transposed_array_is_the_same_array(tmp_path):
    x = np.arange(24.0).reshape(2, 3, 4)
    given = {"plain": x, "transposed": x.transpose(0, 2, 1), "turned": x[::-1, ::2]}
    arrays.save(given, tmp_path / "x.safetensors")
    found = load_file(tmp_path / "x.safetensors")
    assert found.keys() == given.keys()
    assert all(np.array_equal(found[name], given[name]) for name in given)
