"""Speech, and a network that says at every moment whether somebody speaks."""

from __future__ import annotations

import io
import wave
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from ig_core import Archive, BenchmarkCase, Loaded, made_once
from ig_sequences.cases.memory import remembered
from ig_sequences.cases.training import digest

SDIST = Archive(
    requirement="silero-vad==6.2.3",
    file="silero_vad-6.2.3.tar.gz",
    sha256="d7a23b09202be4953915cb9173089bb307eed0418a9bd4794d9ec5af07fa1996",
    content="weights and speech of Silero VAD",
)
ROOT = "silero_vad-6.2.3"
NETWORK = f"{ROOT}/src/silero_vad/data/silero_vad_16k_op15.onnx"
RECORDING = f"{ROOT}/examples/c++/aepyx.wav"

RATE, CHUNK, CONTEXT = 16_000, 512, 64
"""Samples per second, in a step of the network, and of the step before that it sees again."""

BANDS, FRAMES = 129, 4
"""Frequencies of a spectrum, evenly from 0 to half the rate, and spectra in a chunk."""

MILLISECONDS = 1000 * CHUNK // RATE
STEPS = 48
"""Chunks in a sequence: a second and a half."""

SHOWN = 8
SURE = 3.0
"""The logit above which the last chunk of a sequence is taken for speech without doubt."""


Spectra = Float[Tensor, "rows time features"]


class SpeechDetector(nn.Module):
    """Silero VAD for 16 kHz (Silero Team, 2020 to 2025): the logit of speech in every chunk.

    It reads spectra of chunks: four convolutions, and an LSTM that goes on from chunk to chunk.
    """

    def __init__(self) -> None:
        super().__init__()
        self.basis = nn.Conv1d(1, 2 * BANDS, 256, stride=128, bias=False)
        self.encoder = nn.Sequential(
            *(nn.Conv1d(BANDS, 128, 3, padding=1), nn.ReLU()),
            *(nn.Conv1d(128, 64, 3, stride=2, padding=1), nn.ReLU()),
            *(nn.Conv1d(64, 64, 3, stride=2, padding=1), nn.ReLU()),
            *(nn.Conv1d(64, 128, 3, padding=1), nn.ReLU()),
        )
        self.memory = nn.LSTM(128, 128, batch_first=True)
        self.head = nn.Linear(128, 1)

    def spectra(self, chunks: Float[Tensor, "rows time samples"]) -> Spectra:
        """The loudness of every frequency in the four frames of a chunk.

        Each chunk is heard behind the end of the one before it, the first behind silence, as it
        is when a stream begins.
        """
        rows, time, _ = chunks.shape
        before = torch.cat([chunks.new_zeros(rows, 1, CONTEXT), chunks[:, :-1, -CONTEXT:]], dim=1)
        waves = torch.cat([before, chunks], dim=2).flatten(0, 1)[:, None]
        turned = self.basis(nn.functional.pad(waves, (0, CONTEXT), mode="reflect"))
        loudness = torch.linalg.vector_norm(turned.unflatten(1, (2, BANDS)), dim=1)
        return loudness.transpose(1, 2).reshape(rows, time, -1)

    def forward(self, x: Spectra) -> Float[Tensor, "rows time"]:
        frames = x.reshape(-1, FRAMES, BANDS).transpose(1, 2)
        found = self.encoder(frames).view(len(x), -1, self.memory.input_size)
        return self.head(self.memory(found)[0].relu())[..., 0]


def speech(folder: Path) -> Loaded:
    """Silero VAD on read English: the logit of speech in a chunk, by the chunks before it.

    Raises:
        StorageError: the network is not in ``folder`` and could not be fetched.
    """
    path = made_once(folder / "silero-vad.safetensors", convert)
    model, samples = detector(path)
    chunks = samples[: len(samples) // CHUNK * CHUNK].view(-1, CHUNK)
    windows = chunks[: len(chunks) // STEPS * STEPS].view(-1, STEPS, CHUNK)
    with torch.no_grad():
        spectra = model.spectra(windows)
        said = model(spectra)
    speaking = (said[:, -1] > SURE).nonzero()[:, 0].tolist()
    shown = [speaking[len(speaking) * i // SHOWN] for i in range(SHOWN)]
    loaded = Loaded(
        model,
        [spectra[place] for place in shown],
        baseline="mean",
        options={
            "step": "last",
            "feature_names": [
                f"{RATE * band / 2 / (BANDS - 1):.0f} Hz, frame {frame + 1}"
                for frame in range(FRAMES)
                for band in range(BANDS)
            ],
            "labels": lambda x: [f"{MILLISECONDS * t} ms" for t in range(len(x))],
        },
        facts={
            "explained": f"logit of speech in the last of {STEPS} chunks of {MILLISECONDS} ms, by "
            "the loudness of every frequency",
            "baseline": "the mean spectrum of these sequences at every step",
            "model": "Silero VAD 6.2.3 for 16 kHz, ported",
            "speech in the recording": f"{float((said > 0).double().mean()):.3f} of "
            f"{said.numel()} chunks",
            "logits": ", ".join(f"{float(said[place, -1]):.2f}" for place in shown),
            "weights and recording sha256": digest(path),
        },
    )
    return remembered(loaded, "ms", MILLISECONDS, tol=5e-2)


def detector(path: Path) -> tuple[SpeechDetector, Float[Tensor, " samples"]]:
    """The network and the recording that :func:`convert` kept."""
    tensors = load_file(path)
    samples = tensors.pop("samples")
    model = SpeechDetector()
    model.load_state_dict(tensors)
    return model.eval(), samples


def convert(partial: Path) -> None:
    """Keep the weights that stand in the ONNX file, of which nothing is run, and the recording."""
    network, recording = SDIST.members([NETWORK, RECORDING], partial.parent)
    tensors = {**_weights(network), "samples": _samples(recording)}
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, partial)


def _weights(network: bytes) -> dict[str, Tensor]:
    """The initial values of an ONNX graph, by the names that they have here."""
    import onnx

    known = {
        one.name.removeprefix("model."): torch.from_numpy(onnx.numpy_helper.to_array(one).copy())
        for one in onnx.load_from_string(network).graph.initializer
    }
    weights = {
        "basis.weight": known["stft.forward_basis_buffer"],
        "head.weight": known["decoder.decoder.2.weight"][:, :, 0],
        "head.bias": known["decoder.decoder.2.bias"],
    }
    for part in ("weight", "bias"):
        for layer in range(4):
            weights[f"encoder.{2 * layer}.{part}"] = known[f"encoder.{layer}.reparam_conv.{part}"]
        for gates in ("ih", "hh"):
            weights[f"memory.{part}_{gates}_l0"] = known[f"decoder.rnn.{part}_{gates}"]
    return weights


def _samples(recording: bytes) -> Float[Tensor, " samples"]:
    """What a wave file of 16 bits holds, from -1 to 1."""
    with wave.open(io.BytesIO(recording)) as opened:
        found = np.frombuffer(opened.readframes(opened.getnframes()), dtype="<i2")
    return torch.from_numpy(found.astype(np.float32) / 2**15)


CASE = BenchmarkCase(
    name="speech-silero-vad",
    domain="sequences",
    load=speech,
    requires=("onnx",),
    tags=("default",),
    licence="MIT",
    source="package silero-vad 6.2.3 (Silero Team): network and recording of its examples",
    real=True,
)
