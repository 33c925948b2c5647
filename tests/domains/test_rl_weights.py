"""Weights of saved agents: what fits is loaded, nothing in the file is run."""

import base64
import io
import json
import pickle
import zipfile

import numpy as np
import pytest
import torch
from sb3_contrib import RecurrentPPO
from stable_baselines3 import DQN, PPO, SAC

import ig_core as ig
import ig_rl
from ig_rl.weights import load_policy_weights


def agent(net=(16, 16)):
    return DQN(
        "MlpPolicy",
        "CartPole-v1",
        policy_kwargs={"net_arch": list(net)},
        buffer_size=100,
        seed=3,
        device="cpu",
    )


class Payload:
    """Unpickled, it writes a file: what a hostile download would do."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return (exec, (f"open({self.path!r}, 'w').close()",))


def archive(path, model, *, data=None, policy=None):
    """A zip as Stable-Baselines3 writes it, with parts of it replaced."""
    model.save(path)
    with zipfile.ZipFile(path) as old:
        parts = {name: old.read(name) for name in old.namelist()}
    parts |= {"data": data} if data is not None else {}
    parts |= {"policy.pth": policy} if policy is not None else {}
    with zipfile.ZipFile(path, "w") as new:
        for name, content in parts.items():
            new.writestr(name, content)
    return path


def test_weights_of_a_zip_go_into_a_model(tmp_path):
    model = agent()
    path = archive(tmp_path / "agent.zip", model)
    other = agent()
    with torch.no_grad():
        for parameter in other.policy.parameters():
            parameter.zero_()
    load_policy_weights(path, other)
    for name, value in other.policy.state_dict().items():
        assert value.equal(model.policy.state_dict()[name])


def test_hostile_data_in_a_zip_is_not_run(tmp_path):
    marker = tmp_path / "ran"
    payload = base64.b64encode(pickle.dumps(Payload(marker))).decode()
    data = json.dumps({"policy_class": {":type:": "x", ":serialized:": payload}}).encode()
    path = archive(tmp_path / "agent.zip", agent(), data=data)
    load_policy_weights(path, agent())
    assert not marker.exists()
    with pytest.raises(Exception):  # noqa: B017  what it then raises is its own affair
        DQN.load(path)
    assert marker.exists(), "the payload is live: Stable-Baselines3's own load runs it"


@pytest.mark.parametrize("forced", ["", "1"])
def test_hostile_weights_in_a_zip_are_not_run(tmp_path, monkeypatch, forced):
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", forced)
    marker = tmp_path / "ran"
    stored = io.BytesIO()
    torch.save({"weight": Payload(marker)}, stored)
    path = archive(tmp_path / "agent.zip", agent(), policy=stored.getvalue())
    with pytest.raises(ig.StorageError, match="more than tensors"):
        load_policy_weights(path, agent())
    assert not marker.exists()
    stored.seek(0)
    torch.load(stored, weights_only=False)  # on purpose: shows what a careless loader would run
    assert marker.exists(), "the payload is live"


def test_files_that_are_no_saved_agent_are_refused(tmp_path):
    (tmp_path / "text.zip").write_text("no zip")
    with pytest.raises(ig.StorageError, match="no zip file"):
        load_policy_weights(tmp_path / "text.zip", agent())
    with zipfile.ZipFile(tmp_path / "empty.zip", "w") as empty:
        empty.writestr("data", "{}")
    with pytest.raises(ig.StorageError, match=r"no saved agent: it has no policy\.pth"):
        load_policy_weights(tmp_path / "empty.zip", agent())
    path = archive(tmp_path / "cut.zip", agent(), policy=b"PK\x03\x04")
    with pytest.raises(ig.StorageError, match="damaged"):
        load_policy_weights(path, agent())


def test_paths_that_hold_no_file_are_named(tmp_path):
    with pytest.raises(ig.StorageError, match=r"missing\.zip' does not exist"):
        load_policy_weights(tmp_path / "missing.zip", agent())
    with pytest.raises(ig.StorageError, match="is a folder"):
        load_policy_weights(tmp_path, agent())
    agent().save(tmp_path / "saved")
    with pytest.raises(ig.StorageError, match=r"does not exist.*there is .*saved\.zip"):
        load_policy_weights(tmp_path / "saved", agent())


def test_a_truncated_zip_is_refused_at_every_length(tmp_path):
    path = archive(tmp_path / "agent.zip", agent())
    whole, model = path.read_bytes(), agent()
    before = {name: value.clone() for name, value in model.policy.state_dict().items()}
    for length in range(0, len(whole), len(whole) // 40):
        path.write_bytes(whole[:length])
        with pytest.raises(ig.StorageError):
            load_policy_weights(path, model)
    assert all(v.equal(before[n]) for n, v in model.policy.state_dict().items())


def test_flipped_bytes_in_the_weights_are_refused_or_harmless(tmp_path):
    stored, model = io.BytesIO(), agent()
    torch.save(model.policy.state_dict(), stored)
    for place in range(0, len(stored.getvalue()), len(stored.getvalue()) // 60):
        damaged = bytearray(stored.getvalue())
        damaged[place] ^= 0xFF
        path = archive(tmp_path / "agent.zip", model, policy=bytes(damaged))
        try:
            load_policy_weights(path, model)
        except (ig.StorageError, ig.InputError):
            continue
        assert all(bool(torch.isfinite(v).all()) for v in model.policy.state_dict().values())


@pytest.mark.parametrize("inside", [False, True])
def test_a_member_that_would_fill_the_memory_is_refused_unread(tmp_path, inside):
    bomb = io.BytesIO()
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as inner:
        inner.writestr("archive/data.pkl", bytes(2**26))
    path = tmp_path / "agent.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as outer:
        outer.writestr("policy.pth", bomb.getvalue() if inside else bytes(2**26))
    assert path.stat().st_size < 2**20
    with pytest.raises(ig.StorageError, match=r"unpacks to 67,108,8\d\d bytes .*at most 1,"):
        load_policy_weights(path, agent())


def test_a_member_that_lies_about_its_size_is_refused(tmp_path):
    path = tmp_path / "agent.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as outer:
        outer.writestr("policy.pth", bytes(2**26))
    told = (2**26).to_bytes(4, "little")
    path.write_bytes(path.read_bytes().replace(told, (1000).to_bytes(4, "little")))
    with pytest.raises(ig.StorageError, match=r"no zip file|damaged"):
        load_policy_weights(path, agent())


def test_an_encrypted_member_is_refused(tmp_path):
    path = archive(tmp_path / "agent.zip", agent())
    content = bytearray(path.read_bytes())
    for signature, flags in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        place = content.find(signature)
        while place >= 0:
            content[place + flags] |= 1
            place = content.find(signature, place + 4)
    path.write_bytes(bytes(content))
    with pytest.raises(ig.StorageError, match="is encrypted"):
        load_policy_weights(path, agent())


@pytest.mark.parametrize(
    "content",
    [[1, 2], {"weight": 1.0}, {"weight": torch.zeros(2).to_sparse()}, torch.zeros(2)],
)
def test_what_is_no_dictionary_of_tensors_is_refused(tmp_path, content):
    stored = io.BytesIO()
    torch.save(content, stored)
    path = archive(tmp_path / "agent.zip", agent(), policy=stored.getvalue())
    with pytest.raises(ig.StorageError, match="no dictionary of tensors"):
        load_policy_weights(path, agent())


def test_a_pickle_that_asks_for_memory_is_refused(tmp_path):
    class Greedy:
        def __reduce__(self):
            return (bytearray, (2**60,))

    stored = io.BytesIO()
    torch.save({"weight": Greedy()}, stored)
    path = archive(tmp_path / "agent.zip", agent(), policy=stored.getvalue())
    with pytest.raises(ig.StorageError, match="damaged or holds more"):
        load_policy_weights(path, agent())


@pytest.mark.parametrize("stored_net", [(8, 16), (16,)])
def test_weights_of_another_policy_leave_the_model_as_it_was(tmp_path, stored_net):
    path = archive(tmp_path / "agent.zip", agent(net=stored_net))
    model = agent()
    before = {name: value.clone() for name, value in model.policy.state_dict().items()}
    with pytest.raises(ig.InputError, match="policy_kwargs"):
        load_policy_weights(path, model)
    assert all(v.equal(before[n]) for n, v in model.policy.state_dict().items())


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda w: w * torch.nan, "holds NaN or infinity"),
        (lambda w: w / 0, "holds NaN or infinity"),
        (lambda w: w.half(), "holds torch.float16 .* and torch.float32 in the model"),
        (lambda w: w.double(), "holds torch.float64"),
        (lambda w: (100 * w).long(), "holds torch.int64"),
    ],
)
def test_weights_that_are_not_the_agent_s_numbers_are_refused(tmp_path, change, told):
    model = agent()
    before = {name: value.clone() for name, value in model.policy.state_dict().items()}
    stored = io.BytesIO()
    torch.save({name: change(value) for name, value in before.items()}, stored)
    path = archive(tmp_path / "agent.zip", agent(), policy=stored.getvalue())
    with pytest.raises(ig.InputError, match=told):
        load_policy_weights(path, model)
    assert all(v.equal(before[n]) for n, v in model.policy.state_dict().items())


# -- the front door ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("family", "policy", "env"),
    [
        (DQN, "MlpPolicy", "CartPole-v1"),
        (PPO, "MlpPolicy", "CartPole-v1"),
        (SAC, "MlpPolicy", "Pendulum-v1"),
        (RecurrentPPO, "MlpLstmPolicy", "CartPole-v1"),
    ],
)
def test_a_saved_agent_acts_as_before(tmp_path, family, policy, env):
    options = {} if "PPO" in family.__name__ else {"buffer_size": 10}
    saved = family(policy, env, seed=1, device="cpu", **options)
    saved.save(tmp_path / "agent.zip")
    built = family(policy, env, seed=2, device="cpu", **options)
    loaded = ig_rl.load(tmp_path / "agent.zip", built)
    assert loaded is built
    for name, value in loaded.policy.state_dict().items():
        assert value.equal(saved.policy.state_dict()[name])
    state = saved.observation_space.sample()
    np.testing.assert_array_equal(
        loaded.predict(state, deterministic=True)[0], saved.predict(state, deterministic=True)[0]
    )


def test_weights_go_into_a_policy_alone(tmp_path):
    path, other = archive(tmp_path / "agent.zip", agent()), agent()
    with torch.no_grad():
        for parameter in other.policy.parameters():
            parameter.zero_()
    assert ig_rl.load(path, other.policy) is other.policy
    assert all(
        value.equal(agent().policy.state_dict()[name])
        for name, value in other.policy.state_dict().items()
    )


def test_an_algorithm_loads_itself_only_where_pickles_are_trusted(tmp_path):
    path = archive(tmp_path / "agent.zip", agent())
    with pytest.raises(ig.InputError, match=r"DQN\('MlpPolicy', env\).*trust_pickle=True if you"):
        ig_rl.load(path, DQN)
    loaded = ig_rl.load(path, DQN, trust_pickle=True)
    assert isinstance(loaded, DQN)
    assert loaded.policy.net_arch == [16, 16]
    with pytest.raises(ig.InputError, match="needs the class DQN"):
        ig_rl.load(path, agent(), trust_pickle=True)
    with pytest.raises(ig.StorageError, match="does not exist"):
        ig_rl.load(tmp_path / "missing.zip", DQN, trust_pickle=True)


def test_weights_do_not_go_into_anything(tmp_path):
    with pytest.raises(ig.InputError, match=r"its policy \(got builtins.dict\)"):
        ig_rl.load(tmp_path / "agent.zip", {})
